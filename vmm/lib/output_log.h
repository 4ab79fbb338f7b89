/*
 * What a detached VM's command prints, kept: the files `log` and, before it, `log.1` in its state folder.
 *
 * Form:    a line each, as Kubernetes' container runtimes write it (CRI): TIME STREAM TAG TEXT, with TIME in
 *          RFC 3339 (UTC, nanoseconds), STREAM stdout, stderr or mvm (what mvm itself tells), and TAG F, or P
 *          where the text goes on in the next line of that stream (it was longer than OUTPUT_LOG_LINE, or had no end yet).
 * Purpose: bounded: both files together take `max` bytes at most. When `log` has half of that it becomes `log.1`,
 *          and the one before is gone; the new file's first line says how much that was.
 * Trust:   texts are the guest's, kept as they are but for line feeds: whoever prints them to a terminal has
 *          asked for them, as with the streams themselves.
 * Thread:  one writer (the supervisor), any number of readers.
 */
#ifndef LIB_OUTPUT_LOG_H
#define LIB_OUTPUT_LOG_H

#include <stddef.h>
#include <stdint.h>

#define OUTPUT_LOG_FILE    "log"
#define OUTPUT_LOG_OLD     "log.1"
#define OUTPUT_LOG_LINE    8192U /* bytes of a line's text */
#define OUTPUT_LOG_DEFAULT (8ULL << 20)
#define OUTPUT_LOG_LEAST   (64ULL << 10)
#define OUTPUT_LOG_MOST    (1ULL << 40)
#define OUTPUT_LOG_HEAD    48U /* bytes: more than what stands before a text */
#define OUTPUT_LOG_BATCH   32768U /* bytes: lines that are written together */

enum output_stream { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_MVM, OUTPUT_STREAMS };

struct output_log {
	int folder, fd; /* fd -1: none */
	uint64_t max, size; /* bytes; of both files, of the newer */
	uint64_t old_size, dropped; /* bytes; of log.1; of what rotation and a full disk cost since it was said */
	uint64_t telling; /* of the dropped, what a line in the batch says */
	uint64_t lost; /* bytes, ever: what rotation and a full disk cost */
	uint64_t written; /* bytes, ever, lost ones too: what the caller's patience is counted in */
	int error; /* errno of the last write that failed */
	size_t nbatch;
	char batch[OUTPUT_LOG_BATCH]; /* lines on their way */
	struct {
		size_t len;
		char text[OUTPUT_LOG_LINE];
	} lines[2]; /* begun lines of stdout and stderr */
};

const char *output_stream_name(enum output_stream stream);

/* Opens, or goes on with, the log in the folder (borrowed). 0 or -errno. */
int output_log_open(struct output_log *log, int folder, uint64_t max);
void output_log_close(struct output_log *log);

/* Bytes of stdout or stderr. */
void output_log_write(struct output_log *log, enum output_stream stream, const char *bytes, size_t len);

/* One line of mvm's own. */
void output_log_say(struct output_log *log, const char *text);

/* At a stream's end: what is there of a line that never ended. */
void output_log_finish(struct output_log *log, enum output_stream stream);

#endif
