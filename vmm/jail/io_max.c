#include "jail/io_max.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

#define EXAMPLE "rbps, wbps, riops and wiops, as in: rbps=10m,wiops=500"

static const struct {
	const char *name;
	bool bytes;
} keys[IO_MAX_KEYS] = {
	[IO_MAX_RBPS] = { "rbps", true },
	[IO_MAX_WBPS] = { "wbps", true },
	[IO_MAX_RIOPS] = { "riops", false },
	[IO_MAX_WIOPS] = { "wiops", false },
};

bool io_max_any(const struct io_max *io)
{
	bool any = false;

	for (unsigned i = 0; i < IO_MAX_KEYS; i++)
		any |= io->most[i] != 0;
	return any;
}

/* The bounds are those of --blk-bps and --blk-iops: a device has no other use for a number. `none`: 0 is one, too. */
static int parse_number(const char *what, unsigned key, const char *value, bool none, uint64_t *ret_n,
			struct mvm_error *err)
{
	const char *without = none ? "or 0 for no limit" : "or leave it out";
	uint64_t least = keys[key].bytes ? VMM_BPS_MIN : 1, most = keys[key].bytes ? VMM_BPS_MAX : VMM_IOPS_MAX, n;
	int r = keys[key].bytes ? text_parse_size(value, &n) : text_parse_uint(value, UINT64_MAX - 1, &n);
	char least_text[32], most_text[32];

	if (r == -EINVAL)
		return error_set(err, EINVAL, "%s: %s: '%.40s' is not %s", what, keys[key].name, value,
				 keys[key].bytes ? "a size: a number of bytes, or one with k, m or g, as 256m"
						 : "a whole number");
	if (r < 0 || (n < least && !(none && n == 0)) || n > most) {
		if (keys[key].bytes)
			return error_set(err, EINVAL, "%s: %s: %.40s a second: give %s to %s, %s", what, keys[key].name,
					 value, text_size(least, least_text), text_size(most, most_text), without);
		return error_set(err, EINVAL, "%s: %s: %.40s operations a second: give %llu to %llu, %s", what,
				 keys[key].name, value, (unsigned long long)least, (unsigned long long)most, without);
	}
	*ret_n = n;
	return 0;
}

/* One "KEY=N". `unset`: what a key has that was not given yet. */
static int parse_one(const char *what, char *text, uint64_t unset, uint64_t most[IO_MAX_KEYS], struct mvm_error *err)
{
	char *equals = strchr(text, '=');
	unsigned key = 0;

	if (equals)
		*equals = '\0';
	while (key < IO_MAX_KEYS && strcmp(keys[key].name, text) != 0)
		key++;
	if (key == IO_MAX_KEYS)
		return error_set(err, EINVAL, "%s: '%.40s' is no key of it: use " EXAMPLE, what, text);
	if (!equals)
		return error_set(err, EINVAL, "%s: %s: needs a number: %s=%s", what, text, text,
				 keys[key].bytes ? "10m" : "500");
	if (most[key] != unset)
		return error_set(err, EINVAL, "%s: %s: given twice: leave one out", what, text);
	return parse_number(what, key, equals + 1, unset != 0, &most[key], err);
}

static int parse_all(const char *what, const char *text, uint64_t unset, uint64_t most[IO_MAX_KEYS],
		     struct mvm_error *err)
{
	uint64_t found[IO_MAX_KEYS];
	char one[64]; /* more than any that is right */
	int r = 0;

	memcpy(found, most, sizeof(found));
	for (const char *at = text; r == 0; at++) {
		size_t len = strcspn(at, ",");

		if (len >= sizeof(one))
			return error_set(err, EINVAL, "%s: '%.40s…' is too long: use " EXAMPLE, what, at);
		memcpy(one, at, len);
		one[len] = '\0';
		r = parse_one(what, one, unset, found, err);
		at += len;
		if (!*at)
			break;
	}
	if (r == 0)
		memcpy(most, found, sizeof(found));
	return r;
}

int io_max_parse(const char *what, const char *text, struct io_max *io, struct mvm_error *err)
{
	return parse_all(what, text, 0, io->most, err);
}

int io_max_parse_change(const char *what, const char *text, uint64_t most[IO_MAX_KEYS], struct mvm_error *err)
{
	uint64_t found[IO_MAX_KEYS];
	int r;

	for (unsigned key = 0; key < IO_MAX_KEYS; key++)
		found[key] = MVM_KEEP;
	r = parse_all(what, text, MVM_KEEP, found, err);
	if (r == 0)
		memcpy(most, found, sizeof(found));
	return r;
}

const char *io_max_change_text(const uint64_t most[IO_MAX_KEYS], char buf[IO_MAX_TEXT])
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned key = 0; key < IO_MAX_KEYS; key++) {
		const char *between = at ? " " : "", *name = keys[key].name;

		if (most[key] == 0)
			at += (size_t)snprintf(buf + at, IO_MAX_TEXT - at, "%s%s=max", between, name);
		else if (most[key] != MVM_KEEP)
			at += (size_t)snprintf(buf + at, IO_MAX_TEXT - at, "%s%s=%llu", between, name,
					       (unsigned long long)most[key]);
	}
	return buf;
}

const char *io_max_text(const struct io_max *io, char between, char buf[IO_MAX_TEXT])
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < IO_MAX_KEYS; i++)
		if (io->most[i])
			at += (size_t)snprintf(buf + at, IO_MAX_TEXT - at, "%.*s%s=%llu", at ? 1 : 0, &between,
					       keys[i].name, (unsigned long long)io->most[i]);
	return buf;
}

/* "MAJ:MIN\n", as sysfs writes it. */
static int read_device(int folder, const char *file, dev_t *ret_device)
{
	_cleanup_fd_ int fd = openat(folder, file, O_RDONLY | O_CLOEXEC);
	char text[32], *colon;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t first, second;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	colon = strchr(text, ':');
	if (!colon)
		return -EPROTO;
	*colon = '\0';
	if (text_parse_uint(text, UINT32_MAX, &first) < 0 || text_parse_uint(colon + 1, UINT32_MAX, &second) < 0)
		return -EPROTO;
	*ret_device = makedev((unsigned)first, (unsigned)second);
	return 0;
}

int io_max_disk(const char *sys, dev_t device, dev_t *ret_disk)
{
	_cleanup_fd_ int folder = -1;
	char path[PATH_MAX];

	if (major(device) == 0) /* anonymous: tmpfs, overlay, btrfs, 9p, NFS */
		return -ENOTBLK;
	if (snprintf(path, sizeof(path), "%s/dev/block/%u:%u", sys, major(device), minor(device)) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	/* A link to the device's folder; that of a partition lies in the folder of the whole. */
	folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	if (faccessat(folder, "partition", F_OK, 0) == 0)
		return read_device(folder, "../dev", ret_disk);
	*ret_disk = device;
	return 0;
}
