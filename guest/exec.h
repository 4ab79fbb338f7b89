/*
 * From an EXEC request to a running command.
 *
 * Purpose: clones the command into the container (sharing memory with the suspended agent until
 *          execve, so that its failure is an ordinary return value), gives it its streams, user,
 *          directory and environment.
 * Trust:   everything looked up by name is the image's.
 * Returns: 0 or -errno with *f filled: PROTO_FAIL_NOT_FOUND and PROTO_FAIL_NOT_EXECUTABLE as a
 *          shell's 127 and 126, PROTO_FAIL_REFUSED for everything else.
 */
#ifndef MVM_GUEST_EXEC_H
#define MVM_GUEST_EXEC_H

#include "container.h"
#include "request.h"

struct exec_launch {
	const struct exec_request *req;
	const struct container *container;
	const char *hostname;
	int stdio[3]; /* the workload's ends, -1: /dev/null; unused with a terminal */
	int tty_number; /* N of /dev/pts/N */
};

/* The caller owns *ret_pidfd and reaps *ret_pid. */
int exec_launch(const struct exec_launch *launch, pid_t *ret_pid, int *ret_pidfd, struct failure *f);

#endif
