#include "lib/agent_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/net_proxy.h"
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

/* resolv.conf(5); the first device that names servers is asked. */
static void resolv_text(const struct spec_net *net, char text[256])
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < net->ndns; i++) {
		char address[INET6_ADDRSTRLEN];

		(void)inet_ntop(net->dns[i].family == 4 ? AF_INET : AF_INET6, net->dns[i].bytes, address,
				sizeof(address));
		at += (size_t)snprintf(text + at, 256 - at, "nameserver %s\n", address);
	}
	if (net->mode == SPEC_NET_NAMED)
		(void)snprintf(text + at, 256 - at, "search %.63s\n", net->host);
}

static void put_nets(struct proto_out *out, const struct net_host *nets)
{
	bool named = false;

	for (unsigned i = 0; i < nets->n; i++) {
		const struct spec_net *net = &nets->ends[i].net;
		struct proto_net wire = { .prefix4 = net->ip.prefix, .prefix6 = net->ip6.prefix };
		char text[256] = "";

		wire.flags = (uint8_t)((net->local ? PROTO_NET_LOCAL4 : 0) | (net->local6 ? PROTO_NET_LOCAL6 : 0));
		wire.route_bits4 = net->route.prefix;
		wire.route_bits6 = net->route6.prefix;
		memcpy(wire.route4, net->route.bytes, sizeof(wire.route4));
		memcpy(wire.route6, net->route6.bytes, sizeof(wire.route6));
		memcpy(wire.mac, net->mac, sizeof(wire.mac));
		memcpy(wire.ip4, net->ip.bytes, sizeof(wire.ip4));
		memcpy(wire.ip6, net->ip6.bytes, sizeof(wire.ip6));
		memcpy(wire.gateway4, net->gateway.bytes, sizeof(wire.gateway4));
		memcpy(wire.gateway6, net->gateway6.bytes, sizeof(wire.gateway6));
		if (!named)
			resolv_text(net, text);
		named |= *text != '\0';
		proto_begin(out, PROTO_NET);
		proto_put(out, &wire, sizeof(wire));
		proto_put_str(out, text);
		proto_end(out);
	}
}

/* Of a guest's port that several of the host's lead to, once. */
static void put_publish(struct proto_out *out, const struct mvm_spec *spec)
{
	for (size_t i = 0; i < spec->npublish; i++) {
		const struct spec_publish *p = &spec->publish[i];
		struct proto_publish wire = { .port = le16_of(p->guest),
					      .kind = le16_of(p->udp ? PROTO_PUBLISH_UDP : PROTO_PUBLISH_TCP) };
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again |= spec->publish[j].guest == p->guest && spec->publish[j].udp == p->udp;
		if (again)
			continue;
		proto_begin(out, PROTO_PUBLISH);
		proto_put(out, &wire, sizeof(wire));
		proto_end(out);
	}
}

static void put_proxy(struct proto_out *out)
{
	struct proto_proxy wire = { .port = le16_of(NET_PROXY_PORT) };

	proto_begin(out, PROTO_PROXY);
	proto_put(out, &wire, sizeof(wire));
	proto_end(out);
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
	if (request->nets)
		put_nets(out, request->nets);
	put_publish(out, request->spec);
	if (request->spec->proxy)
		put_proxy(out);
	proto_begin(out, PROTO_SETUP);
	proto_put(out, &setup, sizeof(setup));
	proto_put_str(out, request->device);
	proto_put_str(out, request->fs_type);
	proto_put_str(out, request->hostname);
	proto_end(out);
}

#define DEFAULTS 16U

static int put_exec(struct proto_out *out, const struct agent_request *request)
{
	const struct mvm_spec *spec = request->spec;
	const char *defaults[DEFAULTS] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };
	size_t n = 1;
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
	int r;

	if (spec->tty)
		defaults[n++] = "TERM=xterm";
	for (size_t i = 0; spec->proxy && net_proxy_environment[i] && n < DEFAULTS - 1; i++)
		defaults[n++] = net_proxy_environment[i];
	r = spec_environment(spec, defaults, &env, &envc);
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

/* ---- what comes later: bounded, since an agent that reads nothing must not make us hoard ---- */

#define QUEUE_BYTES (PROTO_PAYLOAD_MAX + (64U << 10)) /* the largest EXEC and all small ones */

/* Whether further commands and questions make sense: the container is there. */
static bool is_running(const struct agent_session *agent)
{
	return agent->fd >= 0 && (agent->seen & (AGENT_SEEN_STARTED | AGENT_SEEN_EXITED | AGENT_SEEN_BYE |
						 AGENT_SEEN_ERROR)) == AGENT_SEEN_STARTED;
}

static struct agent_command *find_command(struct agent_session *agent, uint32_t session)
{
	for (size_t i = 0; i < PROTO_SESSIONS_MAX; i++)
		if (agent->commands[i].id == session)
			return &agent->commands[i];
	return NULL;
}

static bool is_open(struct agent_session *agent, uint32_t session)
{
	if (!session || agent->seen & AGENT_SEEN_BYE)
		return false;
	if (session == AGENT_SESSION_ID)
		return !(agent->seen & (AGENT_SEEN_EXITED | AGENT_SEEN_FAILED));
	return find_command(agent, session);
}

/* Room for a frame of that payload? What was sent already is dropped first, so that the bound is one on memory. */
static int queue_reserve(struct agent_session *agent, size_t payload)
{
	size_t waiting = agent->out.len - agent->out_pos;

	if (agent->queued >= AGENT_QUEUE_MAX || waiting + sizeof(struct proto_hdr) + payload > QUEUE_BYTES)
		return -EAGAIN;
	if (agent->out_pos && waiting)
		memmove(agent->out.data, agent->out.data + agent->out_pos, waiting);
	agent->out.len = waiting;
	agent->out_pos = 0;
	return 0;
}

/* Ends the frame that began at `mark`; one for which memory was short is taken back, the queue stays whole. */
static int queue_end(struct agent_session *agent, size_t mark)
{
	proto_end(&agent->out);
	if (agent->out.failed) {
		agent->out.failed = false;
		agent->out.len = mark;
		return -ENOMEM;
	}
	agent->queued++;
	return 0;
}

static int put_small(struct agent_session *agent, enum proto_type type, const void *payload, size_t len)
{
	int r = queue_reserve(agent, len);
	size_t mark = agent->out.len;

	if (r < 0)
		return r;
	proto_begin(&agent->out, type);
	proto_put(&agent->out, payload, len);
	return queue_end(agent, mark);
}

int agent_session_signal(struct agent_session *agent, uint32_t session, uint32_t signo)
{
	struct proto_signal wire = { .session = le32_of(session), .signo = le32_of(signo) };

	return is_open(agent, session) ? put_small(agent, PROTO_SIGNAL, &wire, sizeof(wire)) : 0;
}

int agent_session_resize(struct agent_session *agent, uint32_t session, uint16_t rows, uint16_t cols)
{
	struct proto_resize wire = {
		.session = le32_of(session),
		.rows = le16_of(rows),
		.cols = le16_of(cols),
	};

	return is_open(agent, session) ? put_small(agent, PROTO_RESIZE, &wire, sizeof(wire)) : 0;
}

static int ask(struct agent_session *agent, enum proto_type type, struct agent_query *query, uint32_t request)
{
	struct proto_query wire = { .request = le32_of(request) };
	int r;

	if (!is_running(agent))
		return -ENOTCONN;
	if (query->open)
		return -EALREADY;
	r = put_small(agent, type, &wire, sizeof(wire));
	if (r == 0)
		*query = (struct agent_query){ .open = true, .request = request };
	return r;
}

int agent_session_top(struct agent_session *agent, uint32_t request)
{
	return ask(agent, PROTO_TOP, &agent->top, request);
}

int agent_session_stat(struct agent_session *agent, uint32_t request)
{
	return ask(agent, PROTO_STAT, &agent->stat, request);
}

int agent_session_shutdown(struct agent_session *agent)
{
	size_t mark = agent->out.len;

	proto_begin(&agent->out, PROTO_SHUTDOWN);
	return queue_end(agent, mark);
}

/* Adds a list's bytes and entries. -E2BIG: more than a frame holds. */
static int measure(const char *const *list, size_t *bytes, uint32_t *ret_n)
{
	uint32_t n = 0;

	for (; list && list[n]; n++) {
		*bytes += strlen(list[n]) + 1;
		if (n >= PROTO_STRINGS_MAX || *bytes > PROTO_PAYLOAD_MAX)
			return -E2BIG;
	}
	*ret_n = n;
	return 0;
}

int agent_session_exec(struct agent_session *agent, uint32_t session, const struct agent_exec *exec)
{
	const char *cwd = exec->cwd ? exec->cwd : "", *user = exec->user ? exec->user : "";
	struct proto_exec wire = {
		.session = le32_of(session),
		.flags = le32_of((exec->tty ? PROTO_EXEC_TTY : 0U) | (exec->copy ? PROTO_EXEC_COPY : 0U)),
		.stdin_port = le32_of(exec->ports[0]),
		.stdout_port = le32_of(exec->ports[1]),
		.stderr_port = le32_of(exec->ports[2]),
		.rows = le16_of(exec->rows),
		.cols = le16_of(exec->cols),
	};
	size_t bytes = sizeof(wire) + strlen(cwd) + strlen(user) + 2, mark;
	struct agent_command *slot = find_command(agent, 0);
	uint32_t argc = 0, envc = 0;
	int r;

	if (!session || session == AGENT_SESSION_ID || (exec->tty && exec->copy) ||
	    (exec->tty && (exec->ports[0] == PROTO_PORT_NONE || exec->ports[1] != PROTO_PORT_NONE ||
			   exec->ports[2] != PROTO_PORT_NONE)))
		return -EINVAL;
	if (!is_running(agent))
		return -ENOTCONN;
	if (find_command(agent, session))
		return -EEXIST;
	if (!slot)
		return -EBUSY;
	if (measure(exec->argv, &bytes, &argc) < 0 || measure(exec->env, &bytes, &envc) < 0 ||
	    bytes > PROTO_PAYLOAD_MAX)
		return -E2BIG;
	r = queue_reserve(agent, bytes);
	if (r < 0)
		return r;
	mark = agent->out.len;
	wire.argc = le32_of(argc);
	wire.envc = le32_of(envc);
	proto_begin(&agent->out, PROTO_EXEC);
	proto_put(&agent->out, &wire, sizeof(wire));
	proto_put_str(&agent->out, cwd);
	proto_put_str(&agent->out, user);
	for (uint32_t i = 0; i < argc; i++)
		proto_put_str(&agent->out, exec->argv[i]);
	for (uint32_t i = 0; i < envc; i++)
		proto_put_str(&agent->out, exec->env[i]);
	r = queue_end(agent, mark);
	if (r == 0)
		*slot = (struct agent_command){ .id = session };
	return r;
}

size_t agent_session_open(const struct agent_session *agent, uint32_t ret_ids[PROTO_SESSIONS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < PROTO_SESSIONS_MAX; i++)
		if (agent->commands[i].id)
			ret_ids[n++] = agent->commands[i].id;
	return n;
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

/* A payload of exactly one struct, and a string where one belongs. */
static int take_struct(struct proto_in *in, void *dst, size_t len, const char **ret_text)
{
	if (proto_get(in, dst, len) < 0 || (ret_text && proto_get_str(in, ret_text) < 0))
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

/* An answer for a further session: only while it is open, and each once. */
static int accept_command(struct agent_session *agent, uint16_t type, uint32_t session)
{
	struct agent_command *command = session && is_running(agent) ? find_command(agent, session) : NULL;

	if (!command || command->started != (type == PROTO_EXITED))
		return -EPROTO;
	if (type == PROTO_STARTED)
		command->started = true;
	else
		*command = (struct agent_command){ 0 };
	return 0;
}

static int accept_query(struct agent_session *agent, struct agent_query *query, uint32_t request)
{
	if (!is_running(agent) || !query->open || query->request != request)
		return -EPROTO;
	query->open = false;
	return 0;
}

/* Ends up in somebody's terminal: the agent has replaced control bytes, one that was replaced itself has not. */
static bool is_list(const char *text)
{
	if (strlen(text) >= PROTO_TOP_MAX)
		return false;
	for (; *text; text++)
		if (((unsigned char)*text < ' ' && *text != '\t' && *text != '\n') || *text == '\177')
			return false;
	return true;
}

/* The payload, as far as it says something by itself. */
static int parse(struct proto_in *in, struct agent_event *event)
{
	struct proto_topped topped;
	uint32_t kind;
	int r;

	switch (event->type) {
	case PROTO_HELLO:
		return proto_check_hello(in, &event->text);
	case PROTO_STARTED:
		r = take_struct(in, &event->started, sizeof(event->started), NULL);
		event->session = le32_get(event->started.session);
		return r;
	case PROTO_FAILED:
		r = take_struct(in, &event->failed, sizeof(event->failed), &event->text);
		event->session = le32_get(event->failed.session);
		return r;
	case PROTO_EXITED:
		r = take_struct(in, &event->exited, sizeof(event->exited), NULL);
		event->session = le32_get(event->exited.session);
		kind = le32_get(event->exited.kind);
		return kind < PROTO_EXIT_STATUS || kind > PROTO_EXIT_OOM ? -EPROTO : r;
	case PROTO_TOPPED:
		if (take_struct(in, &topped, sizeof(topped), &event->text) < 0)
			return -EPROTO;
		event->request = le32_get(topped.request);
		return is_list(event->text) ? 0 : -EPROTO;
	case PROTO_STATTED:
		r = take_struct(in, &event->statted, sizeof(event->statted), NULL);
		event->request = le32_get(event->statted.request);
		return r;
	case PROTO_ERROR:
		return proto_get_str(in, &event->text);
	default: /* BYE has no payload; accept_answer() knows no other */
		return 0;
	}
}

static int accept_answer(struct agent_session *agent, const struct agent_event *event)
{
	if (event->type == PROTO_TOPPED)
		return accept_query(agent, &agent->top, event->request);
	if (event->type == PROTO_STATTED)
		return accept_query(agent, &agent->stat, event->request);
	if ((event->type == PROTO_STARTED || event->type == PROTO_FAILED || event->type == PROTO_EXITED) &&
	    event->session != AGENT_SESSION_ID)
		return accept_command(agent, event->type, event->session);
	return accept_order(agent, event->type);
}

int agent_session_next(struct agent_session *agent, struct agent_event *ret_event)
{
	struct agent_event event = { 0 };
	struct proto_in in;
	long size;

	if (agent->in_pos == agent->in_len)
		return 0;
	size = proto_next(agent->in + agent->in_pos, agent->in_len - agent->in_pos, PROTO_REPLY_MAX, &event.type, &in);
	if (size <= 0)
		return size ? -EPROTO : 0;
	if (parse(&in, &event) < 0 || accept_answer(agent, &event) < 0)
		return -EPROTO;
	agent->in_pos += (size_t)size;
	*ret_event = event;
	return 1;
}
