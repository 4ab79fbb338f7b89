/*
 * One command of the host's: its streams, its life, its end.
 *
 * Purpose: starts it, relays for it, and says how it ended once nothing of its output is left. The
 *          boot session is the container's reason to be; every other ends with its own command.
 * Trust:   as exec.h and stream.h.
 * Ownership: storage is the caller's; descriptors are closed by session_close().
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
	int epoll;
	bool copy; /* no command but the agent's own (copy.h), outside of the container */
	bool killed; /* by the host or with the container: no OOM killer's work */
	uint64_t oom_before; /* the container's count when the command started */
	pid_t pid;
	int pidfd; /* -1 once reaped */
	int status; /* of wait(2) */
	struct rusage usage; /* of the command and of the children that it waited for */
};

void session_init(struct session *s, int epoll);
int session_start(struct session *s, const struct exec_request *req, struct container *container, const char *hostname,
		  struct failure *f);
bool session_running(const struct session *s); /* the command itself has not ended */
/* The boot session's output has all been handed over; another's streams are over. */
bool session_drained(const struct session *s);
/* Goes on with streams that had more to do; true when some still have. */
bool session_pump(struct session *s);
void session_signal(struct session *s, int signo);
void session_resize(struct session *s, uint16_t rows, uint16_t cols);
/* Appends the session's EXITED. Of the boot session: the container is gone. */
void session_report(const struct session *s, struct container *container, struct proto_out *out);
void session_close(struct session *s);

#endif
