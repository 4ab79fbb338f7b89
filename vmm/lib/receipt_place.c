/* Where a receipt goes, and how it gets there whole. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/receipt.h"
#include "lib/spec.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

static int open_descriptor(const char *target, int fd, struct receipt_place *ret_place, struct mvm_error *err)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
		cleanup_fd(&fd);
		return error_set(err, EBADF, "--receipt: %s: not open for writing: open it, as in: 3>receipt.json",
				 target);
	}
	ret_place->fd = fd;
	return 0;
}

static int open_folder(const char *target, struct receipt_place *place, struct mvm_error *err)
{
	const char *slash = strrchr(target, '/');
	char folder[PATH_MAX] = ".";
	struct stat st;

	if (slash && (size_t)(slash - target) >= sizeof(folder) - 1)
		return error_set(err, ENAMETOOLONG, "--receipt: %.80s…: too long: choose a shorter name", target);
	if (slash)
		(void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - target) + 1, target);
	place->name = strdup(slash ? slash + 1 : target);
	if (!place->name)
		return error_set(err, ENOMEM, "--receipt: out of memory");
	if (!*place->name)
		return error_set(err, EISDIR, "--receipt: %s: a directory: add a file's name", target);
	place->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place->folder_fd < 0)
		return error_set(err, errno, "--receipt: %s: %s: make the folder first", target, strerror(errno));
	if (fstatat(place->folder_fd, place->name, &st, 0) == 0) {
		if (S_ISDIR(st.st_mode))
			return error_set(err, EISDIR, "--receipt: %s: a directory: add a file's name", target);
		if (!S_ISREG(st.st_mode)) { /* a terminal, a FIFO, /dev/null: written to, never replaced */
			place->fd = openat(place->folder_fd, place->name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
			if (place->fd < 0)
				return error_set(err, errno, "--receipt: %s: %s: give a file", target, strerror(errno));
		}
	}
	if (place->fd < 0 && faccessat(place->folder_fd, ".", W_OK, AT_EACCESS) < 0)
		return error_set(err, errno, "--receipt: %s: its folder cannot be written to: %s: choose another",
				 target, strerror(errno));
	return 0;
}

int receipt_open(const char *target, int fd, struct receipt_place *ret_place, struct mvm_error *err)
{
	struct receipt_place place = RECEIPT_NOWHERE;
	int r;

	place.path = target;
	if (!strncmp(target, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD)))
		r = open_descriptor(target, fd, &place, err);
	else
		r = open_folder(target, &place, err);
	if (r < 0)
		receipt_close(&place);
	else
		*ret_place = place;
	return r;
}

int receipt_can_sign(const struct receipt_place *place, struct mvm_error *err)
{
	if (place->fd >= 0)
		return error_set(err, EINVAL, "--sign: %s: no plain file, beside which a signature could lie: name one",
				 place->path);
	if (strlen(place->name) + strlen(SIGN_SUFFIX) > NAME_MAX)
		return error_set(err, ENAMETOOLONG,
				 "--receipt: %.80s…: too long for its signature: choose a shorter name", place->path);
	return 0;
}

static int write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A regular file is written beside its place under a name of this run's, then renamed over it. */
struct fresh {
	char temporary[64], name[NAME_MAX + 1]; /* both in the folder; temporary "": there is none */
};

static int fresh_write(const struct receipt_place *place, const char *id, const char *suffix, const void *bytes,
		       size_t len, struct fresh *fresh)
{
	char temporary[sizeof(fresh->temporary)];
	int fd, r;

	if (snprintf(fresh->name, sizeof(fresh->name), "%s%s", place->name, suffix) > NAME_MAX)
		return -ENAMETOOLONG;
	(void)snprintf(temporary, sizeof(temporary), ".mvm-receipt-%.16s%s", id, suffix);
	fd = openat(place->folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	/* Of an earlier run of this VM's that was killed meanwhile: there is one at a time. */
	if (fd < 0 && errno == EEXIST && unlinkat(place->folder_fd, temporary, 0) == 0)
		fd = openat(place->folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	memcpy(fresh->temporary, temporary, sizeof(temporary));
	r = write_all(fd, bytes, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int fresh_rename(const struct receipt_place *place, struct fresh *fresh)
{
	if (!*fresh->temporary)
		return 0;
	if (renameat(place->folder_fd, fresh->temporary, place->folder_fd, fresh->name) < 0)
		return -errno;
	*fresh->temporary = '\0';
	return 0;
}

static void fresh_drop(const struct receipt_place *place, const struct fresh *fresh)
{
	if (*fresh->temporary)
		(void)unlinkat(place->folder_fd, fresh->temporary, 0);
}

/* Both are written before the first is renamed; the signature first: who sees the receipt finds what proves it. */
static int write_file(const struct receipt_place *place, const char *id, const char *text, const struct sign_key *key)
{
	struct fresh receipt = { "", "" }, proof = { "", "" };
	uint8_t signature[SIGN_BYTES];
	int r = fresh_write(place, id, "", text, strlen(text), &receipt);

	if (r == 0 && key) {
		sign_bytes(key, text, strlen(text), signature);
		r = fresh_write(place, id, SIGN_SUFFIX, signature, sizeof(signature), &proof);
	}
	if (r == 0)
		r = fresh_rename(place, &proof);
	if (r == 0)
		r = fresh_rename(place, &receipt);
	fresh_drop(place, &proof);
	fresh_drop(place, &receipt);
	return r;
}

int receipt_write(struct receipt_place *place, const char *id, const char *text, const struct sign_key *key,
		  struct mvm_error *err)
{
	int r = place->fd >= 0 ? write_all(place->fd, text, strlen(text)) : write_file(place, id, text, key);

	if (r < 0)
		return error_set(err, -r, "--receipt: %s: cannot be written: %s", place->path, strerror(-r));
	return 0;
}

void receipt_close(struct receipt_place *place)
{
	cleanup_fd(&place->fd);
	cleanup_fd(&place->folder_fd);
	free(place->name);
	*place = RECEIPT_NOWHERE;
}
