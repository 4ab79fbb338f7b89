#include "lib/output_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

static const char *const names[OUTPUT_STREAMS] = { "stdout", "stderr", "mvm" };

const char *output_stream_name(enum output_stream stream)
{
	return names[stream];
}

static int open_file(struct output_log *log, int flags)
{
	log->fd = openat(log->folder, OUTPUT_LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | flags,
			 0600);
	return log->fd < 0 ? -errno : 0;
}

int output_log_open(struct output_log *log, int folder, uint64_t max)
{
	struct stat st;
	int r;

	*log = (struct output_log){ .folder = folder, .fd = -1, .max = max ? max : OUTPUT_LOG_DEFAULT };
	r = open_file(log, 0);
	if (r < 0)
		return r;
	if (fstat(log->fd, &st) == 0)
		log->size = (uint64_t)st.st_size;
	if (fstatat(folder, OUTPUT_LOG_OLD, &st, AT_SYMLINK_NOFOLLOW) == 0)
		log->old_size = (uint64_t)st.st_size;
	return 0;
}

void output_log_close(struct output_log *log)
{
	cleanup_fd(&log->fd);
	log->fd = -1;
}

/* "2026-11-22T10:20:30.123456789Z stdout F " */
static size_t put_head(char head[OUTPUT_LOG_HEAD], enum output_stream stream, char tag)
{
	size_t n = text_time(head);

	return n + (size_t)snprintf(head + n, OUTPUT_LOG_HEAD - n, " %s %c ", names[stream], tag);
}

/* Whole lines in one write: a reader never sees a part of one. What a full disk cuts off is taken back. */
static void flush(struct output_log *log)
{
	size_t len = log->nbatch;
	ssize_t n = -1;

	log->nbatch = 0;
	if (!len)
		return;
	log->written += len; /* or tried: a full disk makes no faster reader */
	if (log->fd < 0 && open_file(log, 0) < 0) {
		log->dropped += len;
		log->lost += len;
		log->telling = 0;
		return;
	}
	do
		n = write(log->fd, log->batch, len);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len) {
		log->size += len;
		log->dropped -= log->telling;
		log->telling = 0;
		return;
	}
	log->telling = 0;
	log->error = n < 0 ? errno : ENOSPC;
	log->dropped += len;
	log->lost += len;
	if (n > 0 && ftruncate(log->fd, (off_t)log->size) < 0)
		log->size += (uint64_t)n; /* the next line stands behind the rest of this one */
}

static void rotate(struct output_log *log)
{
	flush(log);
	if (renameat(log->folder, OUTPUT_LOG_FILE, log->folder, OUTPUT_LOG_OLD) < 0)
		return; /* tried again with the next line; the bound is off by one until then */
	log->dropped += log->old_size;
	log->lost += log->old_size;
	log->old_size = log->size;
	log->size = 0;
	output_log_close(log);
	log->error = -open_file(log, O_EXCL);
}

static void append(struct output_log *log, enum output_stream stream, char tag, const char *text, size_t len)
{
	char *at;

	if (log->nbatch + OUTPUT_LOG_HEAD + len + 1 > OUTPUT_LOG_BATCH)
		flush(log);
	at = log->batch + log->nbatch;
	at += put_head(at, stream, tag);
	memcpy(at, text, len);
	at[len] = '\n';
	log->nbatch = (size_t)(at - log->batch) + len + 1;
}

static void put_line(struct output_log *log, enum output_stream stream, char tag, const char *text, size_t len)
{
	char note[128];

	if (log->size + log->nbatch + OUTPUT_LOG_HEAD + len + 1 > log->max / 2 && log->size + log->nbatch)
		rotate(log);
	/* The first line of a new file, and the first after a disk was full. */
	if (log->dropped && !log->telling) {
		int n = snprintf(note, sizeof(note), "%llu bytes of this log were dropped%s%s",
				 (unsigned long long)log->dropped, log->error ? ": " : "",
				 log->error ? strerror(log->error) : "");

		log->telling = log->dropped;
		log->error = 0;
		append(log, OUTPUT_MVM, 'F', note, (size_t)n);
	}
	append(log, stream, tag, text, len);
}

void output_log_write(struct output_log *log, enum output_stream stream, const char *bytes, size_t len)
{
	char *text = log->lines[stream].text;
	size_t *have = &log->lines[stream].len;

	while (len) {
		const char *feed = memchr(bytes, '\n', len);
		size_t part = feed ? (size_t)(feed - bytes) : len;
		bool all = true;

		if (part > OUTPUT_LOG_LINE - *have) {
			part = OUTPUT_LOG_LINE - *have;
			all = false;
		}
		if (*have == 0 && feed && all) {
			put_line(log, stream, 'F', bytes, part);
		} else {
			memcpy(text + *have, bytes, part);
			*have += part;
			if (feed && all)
				put_line(log, stream, 'F', text, *have);
			else if (*have == OUTPUT_LOG_LINE)
				put_line(log, stream, 'P', text, *have);
			if ((feed && all) || *have == OUTPUT_LOG_LINE)
				*have = 0;
		}
		part += feed && all;
		bytes += part;
		len -= part;
	}
	flush(log);
}

void output_log_say(struct output_log *log, const char *text)
{
	put_line(log, OUTPUT_MVM, 'F', text, strcspn(text, "\n"));
	flush(log);
}

void output_log_finish(struct output_log *log, enum output_stream stream)
{
	if (log->lines[stream].len)
		put_line(log, stream, 'F', log->lines[stream].text, log->lines[stream].len);
	log->lines[stream].len = 0;
	flush(log);
}
