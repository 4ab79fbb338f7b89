#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 512 /* below PIPE_BUF: a line reaches the pipe whole or not at all */
#define BURST          8 /* lines a guest may cause at once; then one per second */

static int log_fd = -1;
static enum log_level log_max = LOG_INFO;
static atomic_uint log_dropped;

void log_init(int fd, enum log_level level)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0)
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK); /* a pipe that refuses is still a pipe */
	log_fd = fd;
	log_max = level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char line[LINE_MAX_BYTES];
	unsigned dropped;
	size_t len;
	va_list ap;
	int n;

	if (level > log_max || log_fd < 0)
		return;
	dropped = atomic_exchange(&log_dropped, 0);
	n = snprintf(line, sizeof(line), "%s ", names[level]);
	if (dropped)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "[%u lines lost] ", dropped);
	len = (size_t)n;
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	if (n > 0)
		len += (size_t)n < sizeof(line) - len - 1 ? (size_t)n : sizeof(line) - len - 2;
	/* %s may have carried guest bytes: nothing below may steer a terminal or forge a line. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || (unsigned char)line[i] >= 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	if (write(log_fd, line, len) < 0)
		(void)atomic_fetch_add(&log_dropped, dropped + 1);
}

int log_allowed(struct log_limit *limit, const char *object)
{
	struct timespec ts;
	uint64_t now;
	uint64_t refill;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
	refill = (now - limit->last_ns) / 1000000000U;
	if (refill) {
		limit->tokens_used = refill >= limit->tokens_used ? 0 : limit->tokens_used - (uint32_t)refill;
		limit->last_ns = now;
	}
	if (limit->tokens_used >= BURST) {
		limit->dropped++;
		return 0;
	}
	limit->tokens_used++;
	if (limit->dropped) {
		log_warn("%s: %u more lines were not logged", object, limit->dropped);
		limit->dropped = 0;
	}
	return 1;
}
