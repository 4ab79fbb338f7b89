/*
 * One command of the host's: its streams, its life, its end.
 *
 * Purpose: starts it, relays for it, and says how it ended once nothing of its output is left.
 * Trust:   as exec.h and stream.h.
 * Ownership: static storage in struct agent; descriptors are closed by session_close().
 * Thread:  the agent's only one.
 * Returns: 0 or -errno with *f filled.
 */
#ifndef MVM_GUEST_SESSION_H
#define MVM_GUEST_SESSION_H

#include "container.h"
#include "request.h"
#include "stream.h"

struct session {
	struct watch watch; /* the command's pidfd */
	struct stream streams[3]; /* with a terminal only the first */
	uint32_t id; /* 0: free */
	pid_t pid;
	int pidfd; /* -1 once reaped */
	int status; /* of wait(2) */
	struct rusage usage; /* of the command and of the children that it waited for */
};

void session_zero(struct session *s);
int session_start(struct session *s, const struct exec_request *req, struct container *container, int epoll,
		  const char *hostname, struct failure *f);
bool session_running(const struct session *s); /* the command itself has not ended */
bool session_drained(const struct session *s); /* its output has all been handed over */
/* Goes on with streams that had more to do; true when some still have. */
bool session_pump(struct session *s);
void session_signal(struct session *s, int signo);
void session_resize(struct session *s, uint16_t rows, uint16_t cols);
/* Appends the session's EXITED. The container is gone. */
void session_report(const struct session *s, const struct container *container, struct proto_out *out);
void session_close(struct session *s);

#endif
