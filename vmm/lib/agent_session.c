#include "lib/agent_session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "mvm/version.h"

#define IN_FIRST 4096U
#define IN_MAX   (sizeof(struct proto_hdr) + PROTO_REPLY_MAX)

void agent_session_init(struct agent_session *agent)
{
	*agent = (struct agent_session){ .fd = -1 };
}

void agent_session_close(struct agent_session *agent)
{
	cleanup_fd(&agent->fd);
	agent->fd = -1;
	free(agent->out.data);
	free(agent->in);
	agent->out = (struct proto_out){ 0 };
	agent->in = NULL;
	agent->in_pos = agent->in_len = agent->in_cap = 0;
}

static void put_hello_and_setup(struct proto_out *out, const struct agent_request *request)
{
	struct proto_hello hello = { .magic = le32_of(PROTO_MAGIC), .version = le16_of(PROTO_VERSION) };
	struct proto_setup setup = {
		.flags = le32_of(request->spec->rw ? PROTO_SETUP_RW : 0),
		.pids_max = le32_of((uint32_t)request->spec->pids_max),
		.scratch = le64_of(request->spec->scratch),
	};

	proto_begin(out, PROTO_HELLO);
	proto_put(out, &hello, sizeof(hello));
	proto_put_str(out, MVM_VERSION);
	proto_end(out);
	proto_begin(out, PROTO_SETUP);
	proto_put(out, &setup, sizeof(setup));
	proto_put_str(out, request->device);
	proto_put_str(out, request->fs_type);
	proto_put_str(out, request->hostname);
	proto_end(out);
}

static int put_exec(struct proto_out *out, const struct agent_request *request)
{
	static const char *const plain[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
					     NULL };
	static const char *const with_tty[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
						"TERM=xterm", NULL };
	const struct mvm_spec *spec = request->spec;
	_cleanup_free_ const char **env = NULL;
	struct proto_exec exec = {
		.session = le32_of(AGENT_SESSION_ID),
		.flags = le32_of(spec->tty ? PROTO_EXEC_TTY : 0),
		.stdin_port = le32_of(spec->tty || spec->interactive ? PROTO_PORT_STREAM + MVM_STDIN : PROTO_PORT_NONE),
		.stdout_port = le32_of(spec->tty ? PROTO_PORT_NONE : PROTO_PORT_STREAM + MVM_STDOUT),
		.stderr_port = le32_of(spec->tty ? PROTO_PORT_NONE : PROTO_PORT_STREAM + MVM_STDERR),
		.rows = le16_of(request->rows),
		.cols = le16_of(request->cols),
	};
	size_t envc = 0;
	int r = spec_environment(spec, spec->tty ? with_tty : plain, &env, &envc);

	if (r < 0)
		return r;
	exec.argc = le32_of((uint32_t)spec->args.n);
	exec.envc = le32_of((uint32_t)envc);
	proto_begin(out, PROTO_EXEC);
	proto_put(out, &exec, sizeof(exec));
	proto_put_str(out, spec->workdir ? spec->workdir : "");
	proto_put_str(out, spec->user ? spec->user : "");
	for (size_t i = 0; i < spec->args.n; i++)
		proto_put_str(out, spec->args.v[i]);
	for (size_t i = 0; i < envc; i++)
		proto_put_str(out, env[i]);
	proto_end(out);
	return 0;
}

int agent_session_greet(struct agent_session *agent, const struct agent_request *request)
{
	int r;

	put_hello_and_setup(&agent->out, request);
	r = put_exec(&agent->out, request);
	if (r < 0)
		return r;
	return agent->out.failed ? -E2BIG : 0;
}

/* Signals and resizes come from the user's hand; an agent that reads none must not make us hoard them. */
static int put_small(struct agent_session *agent, enum proto_type type, const void *payload, size_t len)
{
	if (agent->seen & (AGENT_SEEN_EXITED | AGENT_SEEN_FAILED | AGENT_SEEN_BYE) && type != PROTO_SHUTDOWN)
		return 0; /* nobody there to receive it */
	if (agent->queued >= AGENT_SIGNALS_MAX && type != PROTO_SHUTDOWN)
		return -EAGAIN;
	proto_begin(&agent->out, type);
	proto_put(&agent->out, payload, len);
	proto_end(&agent->out);
	agent->queued++;
	return agent->out.failed ? -ENOMEM : 0;
}

int agent_session_signal(struct agent_session *agent, uint32_t signo)
{
	struct proto_signal signal = { .session = le32_of(AGENT_SESSION_ID), .signo = le32_of(signo) };

	return put_small(agent, PROTO_SIGNAL, &signal, sizeof(signal));
}

int agent_session_resize(struct agent_session *agent, uint16_t rows, uint16_t cols)
{
	struct proto_resize resize = {
		.session = le32_of(AGENT_SESSION_ID),
		.rows = le16_of(rows),
		.cols = le16_of(cols),
	};

	return put_small(agent, PROTO_RESIZE, &resize, sizeof(resize));
}

int agent_session_shutdown(struct agent_session *agent)
{
	return put_small(agent, PROTO_SHUTDOWN, NULL, 0);
}

int agent_session_flush(struct agent_session *agent)
{
	if (agent->fd < 0)
		return 0;
	while (agent->out_pos < agent->out.len) {
		ssize_t n = send(agent->fd, agent->out.data + agent->out_pos, agent->out.len - agent->out_pos,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -EPIPE;
		agent->out_pos += (size_t)n;
	}
	/* An EXEC can be megabytes, which nobody needs any longer. */
	free(agent->out.data);
	agent->out = (struct proto_out){ 0 };
	agent->out_pos = 0;
	agent->queued = 0;
	return 0;
}

/* Room for at least one byte more, at most one frame of the largest reply. */
static int make_room(struct agent_session *agent)
{
	size_t cap = agent->in_cap ? agent->in_cap : IN_FIRST;
	uint8_t *grown;

	if (agent->in_pos) {
		memmove(agent->in, agent->in + agent->in_pos, agent->in_len - agent->in_pos);
		agent->in_len -= agent->in_pos;
		agent->in_pos = 0;
	}
	if (agent->in_cap && agent->in_len < agent->in_cap)
		return 0;
	if (agent->in_len >= IN_MAX)
		return -ENOBUFS; /* agent_session_next() was not called until it returned 0 */
	if (agent->in_len == agent->in_cap && agent->in_cap)
		cap *= 2;
	if (cap > IN_MAX)
		cap = IN_MAX;
	grown = realloc(agent->in, cap);
	if (!grown)
		return -ENOMEM;
	agent->in = grown;
	agent->in_cap = cap;
	return 0;
}

int agent_session_fill(struct agent_session *agent)
{
	int r = make_room(agent);
	ssize_t n;

	if (r < 0)
		return r;
	do
		n = recv(agent->fd, agent->in + agent->in_len, agent->in_cap - agent->in_len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	agent->in_len += (size_t)n;
	return 0;
}

/* A payload of exactly one struct for our session, whose id is its first field. */
static int take_struct(struct proto_in *in, void *dst, size_t len, bool then_text, const char **ret_text)
{
	struct le32 session;

	if (proto_get(in, dst, len) < 0)
		return -EPROTO;
	memcpy(&session, dst, sizeof(session));
	if (le32_get(session) != AGENT_SESSION_ID)
		return -EPROTO;
	if (then_text && proto_get_str(in, ret_text) < 0)
		return -EPROTO;
	return in->pos == in->end ? 0 : -EPROTO;
}

/* What must have been seen before, and must not, for an answer to be in order (proto.h, "Order"). */
static const struct {
	uint16_t type;
	unsigned before, not_before, mark;
} order[] = {
	{ PROTO_HELLO, 0, AGENT_SEEN_HELLO, AGENT_SEEN_HELLO },
	{ PROTO_STARTED, AGENT_SEEN_HELLO, AGENT_SEEN_STARTED | AGENT_SEEN_FAILED | AGENT_SEEN_BYE,
	  AGENT_SEEN_STARTED },
	{ PROTO_FAILED, AGENT_SEEN_HELLO, AGENT_SEEN_STARTED | AGENT_SEEN_FAILED | AGENT_SEEN_BYE, AGENT_SEEN_FAILED },
	{ PROTO_EXITED, AGENT_SEEN_STARTED, AGENT_SEEN_EXITED | AGENT_SEEN_BYE, AGENT_SEEN_EXITED },
	{ PROTO_BYE, AGENT_SEEN_HELLO, AGENT_SEEN_BYE, AGENT_SEEN_BYE },
	{ PROTO_ERROR, AGENT_SEEN_HELLO, AGENT_SEEN_ERROR, AGENT_SEEN_ERROR },
};

static int accept_order(struct agent_session *agent, uint16_t type)
{
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (order[i].type == type) {
			if ((agent->seen & order[i].before) != order[i].before || agent->seen & order[i].not_before)
				return -EPROTO;
			agent->seen |= order[i].mark;
			return 0;
		}
	return -EPROTO;
}

int agent_session_next(struct agent_session *agent, struct agent_event *ret_event)
{
	struct agent_event event = { 0 };
	struct proto_in in;
	long size;
	int r = 0;

	if (agent->in_pos == agent->in_len)
		return 0;
	size = proto_next(agent->in + agent->in_pos, agent->in_len - agent->in_pos, PROTO_REPLY_MAX, &event.type, &in);
	if (size <= 0)
		return size ? -EPROTO : 0;
	if (accept_order(agent, event.type) < 0)
		return -EPROTO;
	switch (event.type) {
	case PROTO_HELLO:
		r = proto_check_hello(&in, &event.text);
		break;
	case PROTO_STARTED:
		r = take_struct(&in, &event.started, sizeof(event.started), false, NULL);
		break;
	case PROTO_FAILED:
		r = take_struct(&in, &event.failed, sizeof(event.failed), true, &event.text);
		break;
	case PROTO_EXITED:
		r = take_struct(&in, &event.exited, sizeof(event.exited), false, NULL);
		if (le32_get(event.exited.kind) < PROTO_EXIT_STATUS || le32_get(event.exited.kind) > PROTO_EXIT_OOM)
			r = -EPROTO;
		break;
	case PROTO_ERROR:
		r = proto_get_str(&in, &event.text);
		break;
	default: /* BYE has no payload */
		break;
	}
	if (r < 0)
		return -EPROTO;
	agent->in_pos += (size_t)size;
	*ret_event = event;
	return 1;
}
