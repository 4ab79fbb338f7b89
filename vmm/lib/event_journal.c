/*
 * The journal of events in the state root, which all supervisors of a user and their commands write: a line each, by
 * one write with O_APPEND. Writers hold the file's flock shared, who rotates it alone: so no line goes to a file that
 * readers have left, and a crash at any point leaves two whole files, or one.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "lib/event.h"
#include "mvm/cleanup.h"

#define TRIES    10U /* … */
#define PAUSE_NS 100000L /* … a tenth of a millisecond apart, for the one who rotates */

/* Whether the name still leads to the file that is open. */
static bool is_current(int root_fd, int fd, struct stat *ret)
{
	struct stat named;

	return fstat(fd, ret) == 0 && fstatat(root_fd, EVENT_FILE, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       named.st_ino == ret->st_ino && named.st_dev == ret->st_dev;
}

/*
 * The file, locked, with its size. Who holds the lock alone for longer than a rename takes was stopped in the midst of
 * it: then the line goes to where the name leads all the same.
 */
static int open_current(int root_fd, struct stat *ret)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	_cleanup_fd_ int fd = -1;

	for (unsigned i = 0;; i++) {
		cleanup_fd(&fd);
		fd = openat(root_fd, EVENT_FILE, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
			    0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_SH | LOCK_NB) == 0 && is_current(root_fd, fd, ret))
			break;
		if (i == TRIES && is_current(root_fd, fd, ret))
			break;
		if (i == TRIES)
			return -EAGAIN;
		(void)nanosleep(&pause, NULL);
	}
	return S_ISREG(ret->st_mode) ? take_fd(&fd) : -EINVAL;
}

/* Whoever cannot have the lock alone, as others write all the time, leaves it to the next line's writer. */
static void rotate(int root_fd, int fd)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	struct stat st;

	for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i == TRIES)
			return;
		(void)nanosleep(&pause, NULL);
	}
	if (is_current(root_fd, fd, &st)) /* nobody was faster */
		(void)renameat(root_fd, EVENT_FILE, root_fd, EVENT_OLD);
}

int event_append(int root_fd, const char *line)
{
	struct iovec iov[] = { { (void *)(uintptr_t) "\n", 0 },
			       { (void *)(uintptr_t)line, strlen(line) },
			       { (void *)(uintptr_t) "\n", 1 } };
	_cleanup_fd_ int fd = -1;
	struct stat st = { 0 };
	char last;
	ssize_t n;

	fd = open_current(root_fd, &st);
	if (fd >= 0 && (uint64_t)st.st_size + iov[1].iov_len >= EVENT_FILE_MAX) {
		rotate(root_fd, fd);
		cleanup_fd(&fd);
		fd = open_current(root_fd, &st);
	}
	if (fd < 0)
		return fd;
	if ((uint64_t)st.st_size >= 2 * EVENT_FILE_MAX) /* nobody could rotate it for long */
		return -EFBIG;
	/* What a full disk left of somebody's line ends here. */
	iov[0].iov_len = st.st_size && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	do
		n = writev(fd, iov, 3);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == iov[0].iov_len + iov[1].iov_len + 1 ? 0 : -ENOSPC;
}

void event_append_object(int root_fd, json_object *event)
{
	_cleanup_free_ char *line = event_line(event);

	if (line)
		(void)event_append(root_fd, line); /* a full disk: there is nobody to tell */
	(void)json_object_put(event);
}
