#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mvm/cleanup.h"
#include "user.h"

#define FIELDS_MAX 7 /* of passwd(5): name password uid gid comment home shell; group(5) has four */

struct slice {
	const char *s;
	size_t len;
};

static bool slice_is(struct slice a, struct slice b)
{
	return a.len == b.len && (!a.len || memcmp(a.s, b.s, a.len) == 0);
}

/* Splits `in` at the first `by`: the part before it is returned, *rest is what follows it. */
static struct slice cut(struct slice in, char by, struct slice *rest)
{
	const char *at = in.len ? memchr(in.s, by, in.len) : NULL;
	struct slice first = { in.s, at ? (size_t)(at - in.s) : in.len };

	*rest = at ? (struct slice){ at + 1, in.len - first.len - 1 } : (struct slice){ NULL, 0 };
	return first;
}

/* A decimal id; (uid_t)-1 means "no change" to the kernel and is none. */
static bool slice_id(struct slice in, uint32_t *ret)
{
	uint64_t value = 0;

	if (!in.len || in.len > 10)
		return false;
	for (size_t i = 0; i < in.len; i++) {
		if (in.s[i] < '0' || in.s[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(in.s[i] - '0');
	}
	if (value >= UINT32_MAX)
		return false;
	*ret = (uint32_t)value;
	return true;
}

/* Takes the next line off *file and splits it; false at the end. Missing fields are empty. */
static bool next_entry(struct slice *file, struct slice fields[FIELDS_MAX])
{
	struct slice line;

	if (!file->len)
		return false;
	line = cut(*file, '\n', file);
	for (int i = 0; i < FIELDS_MAX; i++)
		fields[i] = cut(line, ':', &line);
	return true;
}

/* Finds the entry whose name is `want` or whose number, in the field `number`, is. */
static bool find_entry(struct slice file, struct slice want, int number, struct slice fields[FIELDS_MAX])
{
	uint32_t want_id = 0, id;
	bool numeric = slice_id(want, &want_id);

	while (next_entry(&file, fields)) {
		if (!fields[0].len)
			continue;
		if (slice_is(fields[0], want))
			return true;
		if (numeric && slice_id(fields[number], &id) && id == want_id)
			return true;
	}
	return false;
}

static bool lists_member(struct slice members, struct slice name)
{
	while (members.len)
		if (slice_is(cut(members, ',', &members), name))
			return true;
	return false;
}

/* Collects the groups that list `name`; the primary one first, as initgroups(3) does. */
static int collect_groups(struct slice file, struct slice name, struct user *user, struct failure *f)
{
	struct slice fields[FIELDS_MAX];
	gid_t gid;

	user->groups[user->ngroups++] = user->gid;
	while (next_entry(&file, fields)) {
		if (!slice_id(fields[2], &gid) || gid == user->gid || !lists_member(fields[3], name))
			continue;
		if (user->ngroups == USER_GROUPS_MAX)
			return fail_as(f, PROTO_FAIL_REFUSED, E2BIG, "user %.*s: in more than %u groups", (int)name.len,
				       name.s, USER_GROUPS_MAX);
		user->groups[user->ngroups++] = gid;
	}
	return 0;
}

static int resolve_group(struct slice want, struct slice file, struct user *user, struct failure *f)
{
	struct slice fields[FIELDS_MAX];

	if (find_entry(file, want, 2, fields) && slice_id(fields[2], &user->gid))
		return 0;
	if (slice_id(want, &user->gid))
		return 0;
	return fail_as(f, PROTO_FAIL_REFUSED, ENOENT, "group %.*s: not in the image's /etc/group", (int)want.len,
		       want.s);
}

static int take_home(struct slice home, struct user *user, struct failure *f)
{
	if (home.len >= sizeof(user->home) || memchr(home.s, 0, home.len))
		return fail_as(f, PROTO_FAIL_REFUSED, EINVAL,
			       "the user's home in the image's /etc/passwd is not usable");
	memcpy(user->home, home.s, home.len);
	user->home[home.len] = 0;
	return 0;
}

int user_resolve(const char *spec, const char *passwd, size_t passwd_len, const char *group, size_t group_len,
		 struct user *ret, struct failure *f)
{
	struct slice users = { passwd, passwd ? passwd_len : 0 }, groups = { group, group ? group_len : 0 };
	struct slice fields[FIELDS_MAX], want_group, want;
	bool named_group = strchr(spec, ':') != NULL, known;
	int r;

	want = cut((struct slice){ spec, strlen(spec) }, ':', &want_group);
	*ret = (struct user){ .home = "/" };
	if (!want.len || (named_group && !want_group.len) || want.len > 256 || want_group.len > 256)
		return fail_as(f, PROTO_FAIL_REFUSED, EINVAL, "user %.64s: not of the form user[:group]", spec);
	known = find_entry(users, want, 2, fields);
	if (known && (!slice_id(fields[2], &ret->uid) || !slice_id(fields[3], &ret->gid)))
		return fail_as(f, PROTO_FAIL_REFUSED, EINVAL, "user %s: its line in the image's /etc/passwd is broken",
			       spec);
	if (!known && !slice_id(want, &ret->uid))
		return fail_as(f, PROTO_FAIL_REFUSED, ENOENT, "user %.*s: not in the image's /etc/passwd",
			       (int)want.len, want.s);
	if (known && fields[5].len) {
		r = take_home(fields[5], ret, f);
		if (r < 0)
			return r;
	}
	if (named_group)
		return resolve_group(want_group, groups, ret, f);
	return known ? collect_groups(groups, fields[0], ret, f) : 0;
}

/* Reads a whole file of the image; a missing one is *ret_data NULL. */
static int read_image_file(const char *path, char **ret_data, size_t *ret_len, struct failure *f)
{
	/* O_NONBLOCK: opening a FIFO that the image put here must not block. */
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *data = NULL;
	struct stat st;
	size_t len = 0;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(f, errno, "image's %s", path);
	if (!S_ISREG(st.st_mode))
		return fail_as(f, PROTO_FAIL_REFUSED, EINVAL, "image's %s: not a regular file", path);
	if (st.st_size > (off_t)USER_FILE_MAX)
		return fail(f, EFBIG, "image's %s", path);
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return fail(f, ENOMEM, "image's %s", path);
	while (len < (size_t)st.st_size) {
		ssize_t n = read(fd, data + len, (size_t)st.st_size - len);

		if (n < 0)
			return fail(f, errno, "image's %s", path);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_data = take_ptr(&data);
	*ret_len = len;
	return 0;
}

int user_lookup(const char *spec, struct user *ret, struct failure *f)
{
	char *passwd = NULL, *group = NULL;
	size_t passwd_len = 0, group_len = 0;
	int r;

	if (!*spec) {
		*ret = (struct user){ .home = "/root" };
		return 0;
	}
	r = read_image_file("/etc/passwd", &passwd, &passwd_len, f);
	if (r == 0)
		r = read_image_file("/etc/group", &group, &group_len, f);
	if (r == 0)
		r = user_resolve(spec, passwd, passwd_len, group, group_len, ret, f);
	free(passwd);
	free(group);
	return r;
}
