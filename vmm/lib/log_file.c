/* Reading a detached VM's log while it is written and rotated; see mvm.h and output_log.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/output_log.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define BUFFER   65536U /* bytes: several of the longest lines */
#define ALIVE_MS 1000 /* how often it is looked whether the VM still lives */

struct mvm_log {
	int folder, fd, watch; /* fd: the file being read; watch: inotify, -1 until something is waited for */
	ino_t inode;
	bool old; /* fd is the older file */
	bool last_look; /* the VM has ended, or the file was left by its writer: read to its end once more */
	bool over; /* the VM had ended when it was last looked for more */
	size_t pos, len;
	char buffer[BUFFER];
	struct mvm_log_line line;
	char time[OUTPUT_LOG_HEAD], stream[16];
};

static int open_file(struct mvm_log *log, const char *name, bool old)
{
	int fd = openat(log->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return -EINVAL;
	}
	cleanup_fd(&log->fd);
	log->fd = fd;
	log->inode = st.st_ino;
	log->old = old;
	log->pos = log->len = 0;
	return 0;
}

int mvm_log_open(const char *id, struct mvm_log **ret_log, struct mvm_error *err)
{
	struct mvm_log *log = calloc(1, sizeof(*log));
	char parent[PATH_MAX], found[MVM_ID_LEN + 1];
	int r;

	if (!log)
		return error_set(err, ENOMEM, "out of memory");
	log->folder = log->fd = log->watch = -1;
	r = state_dir_parent(parent, err);
	if (r == 0)
		r = state_dir_find(parent, id, true, found, &log->folder, err);
	if (r == 0) {
		r = open_file(log, OUTPUT_LOG_OLD, true);
		if (r == -ENOENT)
			r = open_file(log, OUTPUT_LOG_FILE, false);
		if (r == -ENOENT)
			(void)error_set(err, ENOENT, "%s: has no log: it was not started with --detach", found);
		else if (r < 0)
			(void)error_set(err, -r, "%s: its log cannot be read: %s", found, strerror(-r));
	}
	if (r < 0) {
		mvm_log_free(log);
		return r;
	}
	*ret_log = log;
	return 0;
}

void mvm_log_free(struct mvm_log *log)
{
	if (!log)
		return;
	cleanup_fd(&log->watch);
	cleanup_fd(&log->fd);
	cleanup_fd(&log->folder);
	free(log);
}

/*
 * The file after the one being read, once that is left by its writer: read to its end once more first, as something
 * may have come between its end and its new name. Two rotations at once leave one to be read on the way.
 */
static bool next_file(struct mvm_log *log)
{
	struct stat st;
	int r;

	if (!log->old &&
	    (fstatat(log->folder, OUTPUT_LOG_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino == log->inode))
		return false;
	if (!log->last_look) {
		log->last_look = true;
		return true;
	}
	log->last_look = false;
	if (!log->old && fstatat(log->folder, OUTPUT_LOG_OLD, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino != log->inode)
		r = open_file(log, OUTPUT_LOG_OLD, true);
	else
		r = open_file(log, OUTPUT_LOG_FILE, false);
	return r == 0;
}

/* "TIME STREAM TAG TEXT". A line of another form is not ours: skipped. */
static bool parse(struct mvm_log *log, char *line, size_t len)
{
	char *space = memchr(line, ' ', len), *second, *end = line + len;

	if (!space || (size_t)(space - line) >= sizeof(log->time))
		return false;
	second = memchr(space + 1, ' ', (size_t)(end - space - 1));
	if (!second || (size_t)(second - space - 1) >= sizeof(log->stream) || end - second < 3 || second[2] != ' ')
		return false;
	memcpy(log->time, line, (size_t)(space - line));
	log->time[space - line] = '\0';
	memcpy(log->stream, space + 1, (size_t)(second - space - 1));
	log->stream[second - space - 1] = '\0';
	text_harmless(log->time);
	text_harmless(log->stream);
	log->line = (struct mvm_log_line){
		.time = log->time,
		.stream = log->stream,
		.partial = second[1] == 'P',
		.text = second + 3,
		.len = (size_t)(end - second - 3),
	};
	return true;
}

int mvm_log_next(struct mvm_log *log, const struct mvm_log_line **ret_line)
{
	for (;;) {
		char *line = log->buffer + log->pos, *feed = memchr(line, '\n', log->len - log->pos);
		ssize_t n;

		if (feed) {
			log->pos = (size_t)(feed - log->buffer) + 1;
			if (!parse(log, line, (size_t)(feed - line)))
				continue;
			*ret_line = &log->line;
			return 1;
		}
		memmove(log->buffer, line, log->len - log->pos);
		log->len -= log->pos;
		log->pos = 0;
		if (log->len == BUFFER)
			log->len = 0; /* no line of ours is so long */
		do
			n = read(log->fd, log->buffer + log->len, BUFFER - log->len);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0 && !next_file(log))
			return 0;
		log->len += (size_t)n;
	}
}

int mvm_log_wait(struct mvm_log *log)
{
	char events[4096], path[32];
	struct pollfd ready;
	bool alive = state_dir_alive(log->folder);

	if (log->watch < 0) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", log->folder);
		log->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (log->watch >= 0 && inotify_add_watch(log->watch, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
			cleanup_fd(&log->watch);
			log->watch = -1; /* no more watches for this user: looked at every second then */
		}
		return 1; /* what came before the watch stands in the file */
	}
	/* What it wrote last stands there now: one more round, for all of it. */
	if (!alive && log->over)
		return 0;
	log->over = !alive;
	if (!alive)
		return 1;
	ready = (struct pollfd){ .fd = log->watch, .events = POLLIN };
	if (poll(&ready, 1, ALIVE_MS) > 0)
		while (read(log->watch, events, sizeof(events)) > 0)
			;
	return 1;
}
