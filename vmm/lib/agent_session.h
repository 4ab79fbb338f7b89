/*
 * The host's end of the agent's control session (mvm/proto.h), for one workload.
 *
 * Purpose: queues what the agent is told, reads what it answers, in the order that proto.h allows.
 * Trust:   every byte read comes from the guest: bounded, checked, each answer accepted once.
 * Ownership: owns its descriptor and buffers. Texts in events are valid until the next call.
 * Thread:  the supervisor's.
 * Returns: 0 or -errno; -EPROTO: the agent broke the protocol, nothing more is to be read.
 */
#ifndef LIB_AGENT_SESSION_H
#define LIB_AGENT_SESSION_H

#include "lib/spec.h"
#include "mvm/proto.h"

#define AGENT_SESSION_ID  1U
#define AGENT_SIGNALS_MAX 64U /* signals and resizes that may wait for a slow agent */

enum agent_seen {
	AGENT_SEEN_HELLO = 1U << 0,
	AGENT_SEEN_STARTED = 1U << 1,
	AGENT_SEEN_FAILED = 1U << 2,
	AGENT_SEEN_EXITED = 1U << 3,
	AGENT_SEEN_BYE = 1U << 4,
	AGENT_SEEN_ERROR = 1U << 5,
};

struct agent_session {
	int fd; /* non-blocking socket, -1: none or closed */
	unsigned seen; /* enum agent_seen */
	struct proto_out out;
	size_t out_pos;
	unsigned queued; /* signals and resizes since the queue was last empty */
	uint8_t *in;
	size_t in_pos, in_len, in_cap;
};

struct agent_event {
	uint16_t type; /* enum proto_type */
	const char *text; /* HELLO: version; FAILED, ERROR: what happened; else NULL */
	struct proto_started started;
	struct proto_failed failed;
	struct proto_exited exited;
};

struct agent_request {
	const struct mvm_spec *spec;
	const char *device, *fs_type, *hostname;
	uint16_t rows, cols;
};

void agent_session_init(struct agent_session *agent);
void agent_session_close(struct agent_session *agent);

/* Queues HELLO, SETUP and EXEC. -ENOMEM, -E2BIG. */
int agent_session_greet(struct agent_session *agent, const struct agent_request *request);

int agent_session_signal(struct agent_session *agent, uint32_t signo); /* -EAGAIN: too many wait */
int agent_session_resize(struct agent_session *agent, uint16_t rows, uint16_t cols);
int agent_session_shutdown(struct agent_session *agent);

/* Sends what is queued and fits. 1: more waits for POLLOUT; 0; -EPIPE. */
int agent_session_flush(struct agent_session *agent);

/* Reads what has come. 0, -EPIPE end-of-file, -ENOMEM. */
int agent_session_fill(struct agent_session *agent);

/* The next answer. 1, 0 none whole yet, -EPROTO. */
int agent_session_next(struct agent_session *agent, struct agent_event *ret_event);

#endif
