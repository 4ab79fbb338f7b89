#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "place.h"
#include "unpack.h"

#define LINKS_MAX 40 /* as the kernel */

/* A folder that the stream is in. */
struct level {
	char name[NAME_MAX + 1];
	int fd; /* O_PATH, unless it was made here */
	bool made; /* and gets its mode, owner and time when it is left */
	struct place_look look;
};

struct unpacker {
	const struct unpack_options *options;
	struct tar_reader tar;
	struct tar_member m;
	char path[TAR_PATH_MAX]; /* of the member in work, for errors */
	char name[NAME_MAX + 1]; /* of the destination, when that is new or a file */
	struct unpack_rule rule;
	bool folder_only; /* the destination's path says that it is one */
	int base; /* the folder that all is below */
	struct level *levels;
	unsigned depth;
	struct pack_note *note;
	struct failure *f;
};

static int failed(struct unpacker *u, int error)
{
	static const struct {
		int error;
		const char *says;
	} known[] = {
		{ ENOSPC, "no space is left there: make room, and copy again" },
		{ EDQUOT, "the quota is used up: make room, and copy again" },
		{ EROFS, "read-only there: choose another destination" },
		{ ENOTDIR, "something is there that is no folder, or a link, which is not followed: choose another "
			   "destination" },
		{ EISDIR, "a folder is there: remove it, or choose another destination" },
		{ EEXIST, "a device or the like is there, which is not replaced: choose another destination" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].error == error)
			return fail_as(u->f, PROTO_FAIL_REFUSED, error, "%.150s: %.150s: %s", u->options->dest, u->path,
				       known[i].says);
	return fail(u->f, error, "%.150s: %.150s", u->options->dest, u->path);
}

static int no_dest(struct unpacker *u, int error, const char *why)
{
	return fail_as(u->f, PROTO_FAIL_REFUSED, error, "%.300s: %s", u->options->dest, why);
}

/* ---- where a member goes ---- */

static int no_name(const char *path, int error, const char *why, struct failure *f)
{
	return fail_as(f, PROTO_FAIL_REFUSED, error, "the stream holds a name that is refused: %.200s: %s", path, why);
}

int unpack_plan(char *path, const struct unpack_rule *rule, struct unpack_plan *ret, struct failure *f)
{
	bool named = rule->top && strcmp(rule->top, ".") != 0;
	char *save = NULL;

	ret->n = 0;
	if (rule->as && !named)
		ret->part[ret->n++] = rule->as;
	/* Leading slashes mean nothing here, as for tar(1). */
	for (char *part = strtok_r(path, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (!strcmp(part, "."))
			continue;
		if (!strcmp(part, ".."))
			return no_name(part, EPERM, "it would lead upwards", f);
		if (strlen(part) > NAME_MAX)
			return no_name(part, ENAMETOOLONG, "it is too long", f);
		if (ret->n == UNPACK_DEPTH_MAX)
			return no_name(part, ELOOP, "it is too deep", f);
		ret->part[ret->n++] = part;
	}
	if (!named)
		return 0;
	if (!ret->n || strcmp(ret->part[0], rule->top) != 0)
		return no_name(ret->n ? ret->part[0] : ".", EPERM, "it is not below what was asked for", f);
	if (rule->as)
		ret->part[0] = rule->as;
	return 0;
}

/* ---- folders ---- */

static int here(const struct unpacker *u)
{
	return u->depth ? u->levels[u->depth - 1].fd : u->base;
}

static struct place_look look_of(const struct unpacker *u, const struct tar_member *m)
{
	return (struct place_look){
		.archive = u->options->archive, .mode = m->mode, .uid = m->uid, .gid = m->gid, .mtime = m->mtime
	};
}

/* With all in it that will be: its time would change, and its mode might keep us out. */
static int leave(struct unpacker *u)
{
	struct level *level = &u->levels[--u->depth];
	int r = level->made ? place_dress_folder(level->fd, &level->look) : 0;

	cleanup_fd(&level->fd);
	return r < 0 ? fail(u->f, -r, "%.150s: %.255s", u->options->dest, level->name) : 0;
}

/*
 * mkdir(2) hands out no descriptor: who may write in the folder above may have put another in the place of the one that was
 * just made. What is not ours and empty is not given a look; nobody gains by one that is: whoever can move it here can
 * move the new one, with its look, to where it was. A temporary name first, and a rename, would be swapped as well.
 */
static bool is_new(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool empty = stream != NULL;
	struct stat st;

	while (empty && (entry = readdir(stream)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	if (stream)
		(void)closedir(stream);
	else if (fd >= 0)
		(void)close(fd);
	return empty && fstat(folder, &st) == 0 && st.st_uid == geteuid();
}

/* One folder deeper; it is made when it is not there. m: the member that says how it looks, NULL: none does. */
static int enter(struct unpacker *u, const char *name, const struct tar_member *m)
{
	struct level *level = &u->levels[u->depth];
	int dir = here(u);
	mode_t mode = m ? (m->mode & 0777) | 0700 : 0755;

	level->made = mkdirat(dir, name, mode) == 0;
	if (!level->made && errno != EEXIST)
		return failed(u, errno);
	level->fd = openat(dir, name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | (level->made ? O_RDONLY : O_PATH));
	if (level->fd < 0)
		return failed(u, errno == ELOOP ? ENOTDIR : errno);
	memcpy(level->name, name, strlen(name) + 1); /* unpack_plan() bounds it */
	level->made &= m != NULL && is_new(level->fd);
	if (m)
		level->look = look_of(u, m);
	u->depth++;
	return 0;
}

/* To the first n folders of the plan, from wherever the last member was. */
static int go_to(struct unpacker *u, const struct unpack_plan *plan, unsigned n)
{
	unsigned same = 0;
	int r = 0;

	while (same < u->depth && same < n && !strcmp(u->levels[same].name, plan->part[same]))
		same++;
	while (r == 0 && u->depth > same)
		r = leave(u);
	while (r == 0 && u->depth < n)
		r = enter(u, plan->part[u->depth], NULL);
	return r;
}

/* ---- what is in them ---- */

static int take_file(struct unpacker *u, const char *name)
{
	const struct place_look look = look_of(u, &u->m);
	struct place_file file;
	uint64_t offset;
	const uint8_t *data;
	size_t len;
	int more = 0, r = place_begin(here(u), &look, &file);

	if (r < 0)
		return failed(u, -r);
	if (u->m.sparse)
		r = place_size(&file, u->m.size);
	while (r == 0 && (more = tar_data(&u->tar, &data, &len, &offset, u->f)) > 0)
		r = place_write(&file, data, len, offset);
	if (r == 0 && more == 0)
		r = place_finish(&file, name, &look);
	place_end(&file);
	if (more < 0)
		return more;
	return r < 0 ? failed(u, -r) : 0;
}

/* A link to a file that is below the base, found as every other name is. */
static int take_hard_link(struct unpacker *u, const char *name)
{
	_cleanup_fd_ int at = fcntl(u->base, F_DUPFD_CLOEXEC, 3);
	struct unpack_plan plan;
	struct stat st;
	int r;

	if (!u->options->hard_links)
		return no_name(u->path, EPERM, "it is a hard link", u->f);
	if (unpack_plan(u->m.link, &u->rule, &plan, u->f) < 0)
		return -u->f->error;
	for (unsigned i = 0; at >= 0 && i < plan.n; i++) {
		int fd = openat(at, plan.part[i], O_PATH | O_NOFOLLOW | O_CLOEXEC | (i + 1 < plan.n ? O_DIRECTORY : 0));

		cleanup_fd(&at);
		at = fd;
	}
	if (at < 0 || fstat(at, &st) < 0)
		return failed(u, errno);
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return failed(u, EINVAL);
	r = place_link(here(u), name, at);
	return r < 0 ? failed(u, -r) : 0;
}

static int take_symlink(struct unpacker *u, const char *name)
{
	const struct place_look look = look_of(u, &u->m);
	int r = place_symlink(here(u), name, u->m.link, &look);

	return r < 0 ? failed(u, -r) : 0;
}

static void leave_out(struct unpacker *u)
{
	if (!u->note->left_out++)
		(void)snprintf(u->note->first, sizeof(u->note->first), "%.*s", (int)sizeof(u->note->first) - 1,
			       u->path);
}

static int take(struct unpacker *u)
{
	struct unpack_plan plan;
	const char *name;

	memcpy(u->path, u->m.path, strlen(u->m.path) + 1);
	if (unpack_plan(u->m.path, &u->rule, &plan, u->f) < 0)
		return -u->f->error;
	if (!plan.n) /* the destination itself, which is there and stays as it is */
		return u->m.kind == TAR_FOLDER ? 0 : failed(u, EISDIR);
	if (u->m.kind == TAR_SPECIAL) {
		leave_out(u);
		return 0;
	}
	if (u->folder_only && plan.n == 1 && u->m.kind != TAR_FOLDER)
		return no_dest(u, ENOENT, "no such folder: make it first");
	if (go_to(u, &plan, plan.n - 1) < 0)
		return -u->f->error;
	name = plan.part[plan.n - 1];
	switch (u->m.kind) {
	case TAR_FOLDER:
		return enter(u, name, &u->m);
	case TAR_FILE:
		return take_file(u, name);
	case TAR_SYMLINK:
		return take_symlink(u, name);
	case TAR_HARDLINK:
		return take_hard_link(u, name);
	case TAR_SPECIAL:
	default:
		return failed(u, EINVAL);
	}
}

/* ---- the destination ---- */

/*
 * One that is no folder: the folder that it is or will be in becomes the base, its name the rule's. A link is followed
 * as the kernel would, to what may not be there yet.
 */
static int find_parent(struct unpacker *u)
{
	char path[TAR_PATH_MAX], target[TAR_PATH_MAX];
	size_t len = strlen(u->options->dest);
	const char *name;
	char *slash;

	if (!len || len >= sizeof(path))
		return no_dest(u, ENAMETOOLONG, "no path, or too long a one");
	memcpy(path, u->options->dest, len + 1);
	for (; len > 1 && path[len - 1] == '/'; u->folder_only = true)
		path[--len] = 0;
	for (int links = 0;; links++) {
		ssize_t n = readlinkat(AT_FDCWD, path, target, sizeof(target) - 1);
		size_t dir;

		slash = strrchr(path, '/');
		if (n < 0)
			break;
		dir = *target == '/' || !slash ? 0 : (size_t)(slash - path) + 1;
		if (links == LINKS_MAX || dir + (size_t)n >= sizeof(path))
			return no_dest(u, ELOOP, "too many symbolic links");
		memcpy(path + dir, target, (size_t)n);
		path[dir + (size_t)n] = 0;
	}
	name = slash ? slash + 1 : path;
	if (strlen(name) > NAME_MAX)
		return no_dest(u, ENAMETOOLONG, "too long a name");
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return no_dest(u, ENOENT, "no such folder: make it first");
	memcpy(u->name, name, strlen(name) + 1);
	u->rule.as = u->name;
	if (slash)
		slash[1] = 0;
	u->base = open(slash ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (u->base < 0 && errno == ENOENT)
		return no_dest(u, ENOENT, "the folder that it is to be in is not there: make it first");
	return u->base < 0 ? fail(u->f, errno, "%.300s", u->options->dest) : 0;
}

static int find_base(struct unpacker *u)
{
	u->rule.top = u->options->top;
	u->base = open(u->options->dest, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (u->base >= 0)
		return 0;
	if (errno != ENOENT && errno != ENOTDIR)
		return fail(u->f, errno, "%.300s", u->options->dest);
	if (!u->rule.top)
		return no_dest(u, errno,
			       errno == ENOENT ? "no such folder: make it first"
					       : "no folder, which a tar stream goes into");
	return find_parent(u);
}

static int run(struct unpacker *u)
{
	int r = find_base(u), more;

	while (r == 0 && (more = tar_next(&u->tar, &u->m, u->f)) != 0)
		r = more < 0 ? more : take(u);
	while (r == 0 && u->depth)
		r = leave(u);
	while (u->depth)
		cleanup_fd(&u->levels[--u->depth].fd);
	cleanup_fd(&u->base);
	return r;
}

int unpack(const struct unpack_options *options, int in, struct pack_note *ret_note, struct failure *f)
{
	struct unpacker *u = calloc(1, sizeof(*u));
	int r;

	*ret_note = (struct pack_note){ 0 };
	if (!u)
		return fail(f, ENOMEM, "%.300s", options->dest);
	u->options = options;
	u->note = ret_note;
	u->f = f;
	u->base = -1;
	u->levels = calloc(UNPACK_DEPTH_MAX, sizeof(*u->levels));
	r = u->levels ? tar_reader_init(&u->tar, in, f) : fail(f, ENOMEM, "%.300s", options->dest);
	if (r == 0)
		r = run(u);
	tar_reader_free(&u->tar);
	free(u->levels);
	free(u);
	return r;
}
