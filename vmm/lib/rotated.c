#include "lib/rotated.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mvm/cleanup.h"

void rotated_init(struct rotated *rotated, int folder, const char *name, const char *older)
{
	rotated->folder = folder;
	rotated->fd = rotated->watch = -1;
	rotated->name = name;
	rotated->older = older;
	rotated->old = rotated->last_look = false;
	rotated->pos = rotated->len = 0;
}

void rotated_close(struct rotated *rotated)
{
	cleanup_fd(&rotated->watch);
	cleanup_fd(&rotated->fd);
	rotated->fd = rotated->watch = -1;
}

static int open_file(struct rotated *rotated, const char *name, bool old)
{
	int fd = openat(rotated->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return -EINVAL;
	}
	cleanup_fd(&rotated->fd);
	rotated->fd = fd;
	rotated->inode = st.st_ino;
	rotated->old = old;
	rotated->pos = rotated->len = 0;
	return 0;
}

int rotated_open(struct rotated *rotated)
{
	int r = open_file(rotated, rotated->older, true);

	return r == -ENOENT ? open_file(rotated, rotated->name, false) : r;
}

/*
 * The file after the one being read, once that is left by its writers: read to its end once more first, as something
 * may have come between its end and its new name. Two rotations at once leave one to be read on the way.
 */
static bool next_file(struct rotated *rotated)
{
	struct stat st;
	int r;

	if (!rotated->old &&
	    (fstatat(rotated->folder, rotated->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino == rotated->inode))
		return false;
	if (!rotated->last_look) {
		rotated->last_look = true;
		return true;
	}
	rotated->last_look = false;
	if (!rotated->old && fstatat(rotated->folder, rotated->older, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino != rotated->inode)
		r = open_file(rotated, rotated->older, true);
	else
		r = open_file(rotated, rotated->name, false);
	return r == 0;
}

int rotated_next(struct rotated *rotated, char **ret_line, size_t *ret_len)
{
	int r = rotated->fd < 0 ? rotated_open(rotated) : 0;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (;;) {
		char *line = rotated->buffer + rotated->pos, *feed = memchr(line, '\n', rotated->len - rotated->pos);
		ssize_t n;

		if (feed) {
			rotated->pos = (size_t)(feed - rotated->buffer) + 1;
			*ret_line = line;
			*ret_len = (size_t)(feed - line);
			return 1;
		}
		memmove(rotated->buffer, line, rotated->len - rotated->pos);
		rotated->len -= rotated->pos;
		rotated->pos = 0;
		if (rotated->len == ROTATED_BUFFER)
			rotated->len = 0; /* no line of ours is so long */
		do
			n = read(rotated->fd, rotated->buffer + rotated->len, ROTATED_BUFFER - rotated->len);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0 && !next_file(rotated))
			return 0;
		rotated->len += (size_t)n;
	}
}

void rotated_wait(struct rotated *rotated, int timeout_ms)
{
	struct pollfd ready = { .events = POLLIN };
	char events[4096], path[32];

	if (rotated->watch < 0) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", rotated->folder);
		rotated->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (rotated->watch >= 0 &&
		    inotify_add_watch(rotated->watch, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) >= 0)
			return;
		cleanup_fd(&rotated->watch);
		rotated->watch = -1; /* no more watches for this user: looked at from time to time then */
	}
	ready.fd = rotated->watch;
	if (poll(&ready, 1, timeout_ms) > 0)
		while (read(rotated->watch, events, sizeof(events)) > 0)
			;
}
