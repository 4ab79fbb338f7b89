/* Further commands in the VM (`mvm exec`): each belongs to a client of the control socket, and ends with it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

/* The ports of a command's three streams; a session's number is not used again before long. */
static uint32_t port_of(uint32_t session, unsigned stream)
{
	return PROTO_PORT_STREAM + (session * 4 + stream) % PROTO_PORT_STREAM;
}

static void take_back(struct supervisor *s, uint32_t session)
{
	for (unsigned i = 0; i < MVM_STREAMS; i++)
		broker_revoke(&s->broker, port_of(session, i));
}

/* The streams that came with the request, each granted to the guest once. */
static int grant(struct supervisor *s, uint32_t session, const struct attach_exec *wanted, int *fds, uint32_t ports[3])
{
	unsigned next = 1; /* behind the spec */

	for (unsigned i = 0; i < MVM_STREAMS; i++) {
		int r;

		ports[i] = PROTO_PORT_NONE;
		if (!(wanted->fds & (uint32_t)SESSION_HAS_STDIN << i))
			continue;
		r = broker_grant(&s->broker, port_of(session, i), take_fd(&fds[next++]));
		if (r < 0)
			return r;
		ports[i] = port_of(session, i);
	}
	return 0;
}

static int launch(struct supervisor *s, const struct mvm_spec *spec, const struct attach_exec *wanted, bool copy,
		  uint32_t session, const uint32_t ports[3])
{
	static const char *const none[] = { NULL };
	_cleanup_free_ const char **env = NULL;
	struct agent_exec exec = {
		.argv = (const char *const *)spec->args.v,
		.cwd = spec->workdir,
		.user = spec->user,
		.copy = copy,
		.tty = spec->tty,
		.rows = wanted->rows,
		.cols = wanted->cols,
		.ports = { ports[0], ports[1], ports[2] },
	};
	size_t envc;
	int r = spec_environment(spec, s->spec->proxy && !copy ? net_proxy_environment : none, &env, &envc);

	if (r < 0)
		return r;
	exec.env = env;
	r = agent_session_exec(&s->agent, session, &exec);
	if (r == 0)
		r = agent_session_flush(&s->agent);
	return r < 0 ? r : 0; /* 1: the rest goes when there is room */
}

static const char *why_not(const struct supervisor *s, int r)
{
	switch (r) {
	case -ENOTCONN:
		return s->phase < PHASE_RUN ? "the VM is booting: its command does not run yet"
					    : supervisor_state_text(s);
	case -EBUSY:
	case -ENOSPC:
		return "as many commands as a VM takes run in it already: wait for one to end";
	case -EAGAIN:
		return "the guest does not answer: too much waits for it";
	case -E2BIG:
		return "arguments and environment: too large for the agent: pass a file";
	default:
		return strerror(-r);
	}
}

int supervisor_exec_start(struct supervisor *s, unsigned client, const struct attach_msg *msg, int *fds, unsigned nfds,
			  char *ret_text, size_t size)
{
	bool copy = msg->hdr.type == ATTACH_COPY;
	struct attach_exec wanted;
	struct mvm_spec *spec = NULL;
	struct mvm_error err;
	uint32_t session, ports[3];
	int r;

	if (msg->hdr.len != sizeof(wanted))
		return -EPROTO;
	memcpy(&wanted, msg->payload, sizeof(wanted));
	if (wanted.fds & ~(uint32_t)ATTACH_EXEC_STREAMS || nfds != 1U + (unsigned)__builtin_popcount(wanted.fds))
		return -EPROTO;
	r = supervisor_read_spec(fds[0], &spec, &err);
	if (r == 0 && (!spec->args.n || (spec->tty && wanted.fds != SESSION_HAS_STDIN) ||
		       (copy && (spec->tty || spec->args.n != PROTO_COPY_ARGS))))
		r = error_set(&err, EPROTO, "the request makes no sense");
	if (r < 0) {
		mvm_spec_free(spec);
		(void)snprintf(ret_text, size, "%.200s", err.text);
		return r;
	}
	if (s->paused) {
		mvm_spec_free(spec);
		(void)snprintf(ret_text, size, "the VM is paused: mvm resume %s", s->state.id);
		return -EAGAIN;
	}
	session = ++s->last_session;
	r = s->phase == PHASE_RUN ? grant(s, session, &wanted, fds, ports) : -ENOTCONN;
	if (r == 0)
		r = launch(s, spec, &wanted, copy, session, ports);
	if (r < 0) {
		take_back(s, session);
		(void)snprintf(ret_text, size, "%s", why_not(s, r));
	} else {
		hooks_stage("exec-asked");
		s->clients[client].kind = CLIENT_RUNS;
		s->clients[client].session = session;
		s->clients[client].deadline_ns = UINT64_MAX;
		supervisor_log(s, MVM_LOG_INFO, "%s: %.200s", copy ? "copy" : "exec", spec->args.v[copy]);
		supervisor_event_exec(s, client, session, spec);
	}
	mvm_spec_free(spec);
	return r;
}

static int client_of(const struct supervisor *s, uint32_t session)
{
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].kind == CLIENT_RUNS && s->clients[i].session == session)
			return (int)i;
	return -1;
}

static void tell_end(struct supervisor *s, unsigned client, const struct verdict *verdict)
{
	/* One that is so far behind that this does not fit learns it from the end of the connection. */
	(void)session_send(s->clients[client].fd, SESSION_ENDED, verdict->status, verdict->kind, verdict->cause);
	supervisor_drop_client(s, client);
}

void supervisor_exec_event(struct supervisor *s, const struct agent_event *event)
{
	struct verdict_facts facts = { 0 };
	struct verdict verdict;
	int client = client_of(s, event->session);

	if (event->type != PROTO_STARTED)
		take_back(s, event->session);
	if (event->type == PROTO_STARTED) {
		if (client < 0)
			return; /* it left; its command was told to end */
		(void)session_send(s->clients[client].fd, SESSION_STARTED, 0, 0, s->state.id);
		return;
	}
	if (event->type == PROTO_FAILED) {
		facts.failed = true;
		facts.failure = le32_get(event->failed.reason);
		facts.failure_text = event->text;
	} else {
		facts.exited = true;
		facts.exit_kind = le32_get(event->exited.kind);
		facts.exit_value = le32_get(event->exited.value);
	}
	verdict_of_command(&facts, &verdict);
	supervisor_event_exec_ended(s, event->session, &verdict);
	if (client < 0)
		return;
	tell_end(s, (unsigned)client, &verdict);
}

/* What the client says, as the caller of a run does. False: it has gone. */
static bool on_message(struct supervisor *s, uint32_t session, int fd)
{
	struct session_msg msg;
	int r = session_receive(fd, &msg);

	if (r <= 0)
		return r == 0;
	if (msg.type == SESSION_SIGNAL && msg.code >= 1 && msg.code <= 64)
		(void)agent_session_signal(&s->agent, session, (uint32_t)msg.code);
	else if (msg.type == SESSION_RESIZE)
		(void)agent_session_resize(&s->agent, session, (uint16_t)(msg.code >> 16),
					   (uint16_t)(msg.code & 0xffff));
	else if (msg.type == SESSION_STOP || msg.type == SESSION_KILL)
		(void)agent_session_signal(&s->agent, session, SIGKILL);
	(void)agent_session_flush(&s->agent); /* an agent that has gone shows at its own descriptor */
	return true;
}

void supervisor_exec_client(struct supervisor *s, unsigned client)
{
	uint32_t session = s->clients[client].session;

	if (on_message(s, session, s->clients[client].fd))
		return;
	supervisor_drop_client(s, client);
	take_back(s, session);
	(void)agent_session_signal(&s->agent, session, SIGKILL);
	(void)agent_session_flush(&s->agent);
}

void supervisor_exec_close(struct supervisor *s, const struct verdict *of_vm)
{
	struct verdict verdict = *of_vm;

	/* Not the VM's own end, which may be a regular one: that its command was cut short by it. */
	verdict.kind = VERDICT_OPERATOR;
	verdict.status = 125;
	(void)snprintf(verdict.cause, sizeof(verdict.cause), "the VM has ended: %.900s", of_vm->cause);
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].kind == CLIENT_RUNS)
			tell_end(s, i, &verdict);
}
