/*
 * What went wrong, in words for one error line on the host.
 *
 * Purpose: carries an errno, the class that the host's exit status is made of, and the text.
 * Trust:   the text may quote strings of the host's and of the image's; whoever prints it makes
 *          control bytes harmless.
 * Ownership: plain memory, no pointer inside: it travels through a pipe as it is.
 * Returns: fail() and fail_as() return -error, so that `return fail(…)` reads well.
 */
#ifndef MVM_GUEST_FAILURE_H
#define MVM_GUEST_FAILURE_H

#include "mvm/proto.h"

struct failure {
	int error; /* errno, 0: none */
	enum proto_failure reason;
	char text[480];
};

/* "<formatted>: <strerror>", reason PROTO_FAIL_REFUSED. */
int fail(struct failure *f, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The formatted text alone. */
int fail_as(struct failure *f, enum proto_failure reason, int error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* One line on the console, for what no control session can carry. */
void console_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
