#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "failure.h"

int fail(struct failure *f, int error, const char *fmt, ...)
{
	char what[384];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap); /* cut at the end when too long: still a text */
	va_end(ap);
	return fail_as(f, PROTO_FAIL_REFUSED, error, "%s: %s", what, strerror(error));
}

int fail_as(struct failure *f, enum proto_failure reason, int error, const char *fmt, ...)
{
	va_list ap;

	f->error = error;
	f->reason = reason;
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return -error;
}

void console_line(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n + 1) < 0)
		return; /* no console: nobody is left to tell */
	(void)tcdrain(STDERR_FILENO); /* the next thing may be the power-off, and the line still in the UART's queue */
}
