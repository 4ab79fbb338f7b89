/*
 * The host's end of the agent's control session (mvm/proto.h): the boot session and further commands.
 *
 * Purpose: queues what the agent is told, reads what it answers, in the order that proto.h allows.
 * Trust:   every byte read comes from the guest: bounded, checked, each answer accepted once and only
 *          for what was asked. What waits for an agent that does not read is bounded, too.
 * Ownership: owns its descriptor and buffers; copies what it is given. Texts in events are valid until
 *          the next call.
 * Thread:  the supervisor's.
 * Returns: 0 or -errno; -EPROTO: the agent broke the protocol, nothing more is to be read.
 */
#ifndef LIB_AGENT_SESSION_H
#define LIB_AGENT_SESSION_H

#include "lib/net_host.h"
#include "lib/spec.h"
#include "mvm/proto.h"

#define AGENT_SESSION_ID PROTO_SESSION_BOOT
#define AGENT_QUEUE_MAX  64U /* messages that may wait for a slow agent, the greeting and SHUTDOWN not counted */

/* Of the boot session and the agent as a whole. */
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
	unsigned queued; /* messages since the queue was last empty */
	uint8_t *in;
	size_t in_pos, in_len, in_cap;
	struct agent_command {
		uint32_t id; /* 0: free */
		bool started;
	} commands[PROTO_SESSIONS_MAX]; /* beside the boot session, which `seen` tells of */
	struct agent_query {
		bool open;
		uint32_t request;
	} top, stat;
};

struct agent_event {
	uint16_t type; /* enum proto_type */
	uint32_t session; /* STARTED, FAILED, EXITED; else 0 */
	uint32_t request; /* TOPPED, STATTED; else 0 */
	const char *text; /* HELLO: version; FAILED, ERROR: what happened; TOPPED: the list; else NULL */
	struct proto_started started;
	struct proto_failed failed;
	struct proto_exited exited;
	struct proto_statted statted;
};

struct agent_request {
	const struct net_host *nets;
	const struct mvm_spec *spec;
	const char *device, *fs_type, *hostname;
	uint16_t rows, cols;
};

/* A further command. The agent adds PATH, HOME, HOSTNAME and TERM where `env` has none. */
struct agent_exec {
	const char *const *argv, *const *env; /* NULL-terminated; env may be NULL */
	const char *cwd, *user; /* NULL: "/", root */
	bool copy; /* argv is for the agent itself */
	bool tty; /* ports[0] is the terminal, the other two are PROTO_PORT_NONE */
	uint16_t rows, cols; /* with tty */
	uint32_t ports[3]; /* stdin, stdout, stderr: what the agent will dial, or PROTO_PORT_NONE: /dev/null */
};

void agent_session_init(struct agent_session *agent);
void agent_session_close(struct agent_session *agent); /* open commands stay listed: see agent_session_open() */

/* Queues HELLO, SETUP and EXEC. -ENOMEM, -E2BIG. */
int agent_session_greet(struct agent_session *agent, const struct agent_request *request);

/*
 * Queues a further EXEC under an id of the caller's. Its answers are FAILED, or STARTED and EXITED.
 * -EINVAL: id or ports; -ENOTCONN: the boot session has not started, or is over; -EEXIST: the id is
 * open; -EBUSY: as many as may be are open; -EAGAIN: too much waits; -E2BIG, -ENOMEM.
 */
int agent_session_exec(struct agent_session *agent, uint32_t session, const struct agent_exec *exec);

/* For a session that is not open (any longer) these do nothing. -EAGAIN: too much waits. */
int agent_session_signal(struct agent_session *agent, uint32_t session, uint32_t signo);
int agent_session_resize(struct agent_session *agent, uint32_t session, uint16_t rows, uint16_t cols);

/* Ask for TOPPED, STATTED. -ENOTCONN as above; -EALREADY: one of its kind is open; -EAGAIN. */
int agent_session_top(struct agent_session *agent, uint32_t request);
int agent_session_stat(struct agent_session *agent, uint32_t request);

int agent_session_shutdown(struct agent_session *agent); /* always has room */

/* Sends what is queued and fits. 1: more waits for POLLOUT; 0; -EPIPE. */
int agent_session_flush(struct agent_session *agent);

/* Reads what has come. 0, -EPIPE end-of-file, -ENOMEM. */
int agent_session_fill(struct agent_session *agent);

/* The next answer. 1, 0 none whole yet, -EPROTO. */
int agent_session_next(struct agent_session *agent, struct agent_event *ret_event);

/*
 * The further sessions that wait for an answer; returns how many. What is still open when the agent
 * says BYE or ERROR, breaks the protocol or goes away will never be answered.
 */
size_t agent_session_open(const struct agent_session *agent, uint32_t ret_ids[PROTO_SESSIONS_MAX]);

#endif
