/*
 * The VMM's log: text lines into the log pipe (VMM_FD_LOG).
 *
 * Purpose: one line per event, "level object: action: reason", made harmless for terminals.
 * Trust:   format strings are ours; %s arguments may hold guest bytes: control bytes are replaced.
 * Thread:  any. No heap. A line that the pipe will not take at once is dropped and counted, so a
 *          slow reader never stalls a vCPU.
 */
#ifndef VMM_LOG_H
#define VMM_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(int fd, enum log_level level); /* fd is made non-blocking */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* For what a guest can cause: at most `burst` lines, refilled one per second; zero-initialise. */
struct log_limit {
	uint64_t last_ns;
	uint32_t tokens_used;
	uint32_t dropped;
};

/* Whether a line may be logged now. On the first allowed line after drops it logs how many there were. */
int log_allowed(struct log_limit *limit, const char *object);

#endif
