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

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A regular file: written beside its place under a name of this run's, then renamed over it. */
static int write_file(const struct receipt_place *place, const char *id, const char *text)
{
	char temporary[64];
	int fd, r;

	(void)snprintf(temporary, sizeof(temporary), ".mvm-receipt-%s", id);
	fd = openat(place->folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(place->folder_fd, temporary, place->folder_fd, place->name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(place->folder_fd, temporary, 0);
	return r;
}

int receipt_write(struct receipt_place *place, const char *id, const char *text, struct mvm_error *err)
{
	int r = place->fd >= 0 ? write_all(place->fd, text) : write_file(place, id, text);

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
