#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "dial.h"
#include "hooks.h"
#include "mount.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"
#include "net.h"
#include "procfs.h"

#define LINGER_MS  5000
#define CUT_NS     2000000000ULL /* for the output of further sessions, once the container is gone */
#define OUT_MAX    (128U << 10) /* bytes that wait for a host that does not read: no request is taken meanwhile */
#define OUT_KEPT   4096U /* bytes of the outgoing buffer that are kept */
#define EVENTS_MAX 16
#define INPUT_MAX  (sizeof(struct proto_hdr) + PROTO_PAYLOAD_MAX)

/* The soft limit of open files (init.c): of a connection two, of a session three streams' ends and a pidfd. */
_Static_assert(2 * PROTO_CONNS_MAX + PROTO_PUBLISH_MAX + 7 * (PROTO_SESSIONS_MAX + 1) + 25 <= 1024, "descriptors");

static uint64_t now_ns(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail for this clock; vDSO, no system call */
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* The end of everything that runs. What it kills did not fall to the OOM killer. */
static void take_down(struct agent *a)
{
	a->ending = true;
	a->boot.killed |= session_running(&a->boot);
	for (unsigned i = 0; i < PROTO_SESSIONS_MAX; i++) {
		if (!a->more[i])
			continue;
		a->more[i]->killed |= session_running(a->more[i]);
		if (a->more[i]->copy) /* the container's end is not its */
			session_signal(a->more[i], SIGKILL);
	}
	container_kill(&a->container);
}

static void host_gone(struct agent *a)
{
	cleanup_fd(&a->control);
	a->control = -1;
	take_down(a);
}

/* Sends what the socket takes; the rest goes when it is writable again (edge-triggered). */
static void flush(struct agent *a)
{
	while (a->connected && a->control >= 0 && a->out_sent < a->out.len) {
		ssize_t n = send(a->control, a->out.data + a->out_sent, a->out.len - a->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			host_gone(a);
			return;
		}
		a->out_sent += (size_t)n;
	}
	if (a->out_sent < a->out.len)
		return;
	a->out.len = a->out_sent = 0;
	if (a->out.cap > OUT_KEPT) { /* a list of processes is larger than all else */
		free(a->out.data);
		a->out = (struct proto_out){ .failed = a->out.failed };
	}
}

/* A host that asks and does not read the answers gets no more of them: its own messages stay in its socket. */
static bool is_choked(const struct agent *a)
{
	return a->out.len - a->out_sent > OUT_MAX;
}

static void put_frame(struct agent *a, enum proto_type type, const void *p, size_t len, const char *text)
{
	proto_begin(&a->out, type);
	proto_put(&a->out, p, len);
	if (text)
		proto_put_str(&a->out, text);
	proto_end(&a->out);
	if (a->out.failed)
		console_line("agent: out of memory for a message");
	else
		flush(a);
}

void agent_fail(struct agent *a, const char *text)
{
	if (a->over)
		return;
	a->over = true;
	if (!a->connected || a->control < 0)
		console_line("agent: %s", text);
	put_frame(a, PROTO_ERROR, NULL, 0, text); /* behind our HELLO, should the host still answer */
}

static void on_net(struct agent *a, struct proto_in in)
{
	struct net_request req;
	struct failure f;

	if (a->rooted || request_net(in, &req) < 0)
		agent_fail(a, "NET message is malformed or out of order");
	else if (net_device_up(&req, &f) < 0)
		agent_fail(a, f.text);
}

/* Before the workload, which could take the port; and before EXEC's answer, behind which the host connects. */
static void on_publish(struct agent *a, struct proto_in in)
{
	uint16_t port;
	bool udp;
	int r = a->rooted ? -EPROTO : request_publish(in, &port, &udp);
	struct failure f;

	if (r == 0)
		r = forward_listen(&a->forward, port, udp);
	if (r == -EPROTO || r == -EEXIST || r == -E2BIG) {
		agent_fail(a, "PUBLISH message is malformed or out of order");
	} else if (r < 0) {
		(void)fail(&f, -r, "published port %u", port);
		agent_fail(a, f.text);
	}
}

/* Before the workload, as above. */
static void on_proxy(struct agent *a, struct proto_in in)
{
	uint16_t port;
	int r = a->rooted ? -EPROTO : request_proxy(in, &port);
	struct failure f;

	if (r == 0)
		r = forward_listen_proxy(&a->forward, port);
	if (r == -EPROTO || r == -EEXIST) {
		agent_fail(a, "PROXY message is malformed or out of order");
	} else if (r < 0) {
		(void)fail(&f, -r, "the proxy's port %u", port);
		agent_fail(a, f.text);
	}
}

static void on_setup(struct agent *a, struct proto_in in)
{
	struct setup_request req;
	struct failure f;

	if (a->rooted || request_setup(in, &req) < 0) {
		agent_fail(a, "SETUP message is malformed or out of order");
		return;
	}
	memcpy(a->device, req.device, strlen(req.device) + 1); /* request_setup() bounds both */
	memcpy(a->hostname, req.hostname, strlen(req.hostname) + 1);
	a->rw = req.rw;
	if ((req.pids_max && container_limit(&a->container, req.pids_max, &f) < 0) || mount_root(&req, &f) < 0 ||
	    container_start(&a->container, a->epoll, req.rw, &f) < 0) {
		agent_fail(a, f.text);
		return;
	}
	a->rooted = true;
	agent_hook("rooted");
	if (*req.hostname && sethostname(req.hostname, strlen(req.hostname)) < 0)
		agent_fail(a, "the hostname cannot be set");
}

static struct session *find_session(struct agent *a, uint32_t id)
{
	if (!id || a->boot.id == id)
		return id ? &a->boot : NULL;
	for (unsigned i = 0; i < PROTO_SESSIONS_MAX; i++)
		if (a->more[i] && a->more[i]->id == id)
			return a->more[i];
	return NULL;
}

static void say_failed(struct agent *a, uint32_t id, const struct failure *f)
{
	struct proto_failed wire = {
		.session = le32_of(id),
		.reason = le32_of(f->reason),
		.error = le32_of((uint32_t)f->error),
	};

	put_frame(a, PROTO_FAILED, &wire, sizeof(wire), f->text);
}

static void say_started(struct agent *a, const struct session *s)
{
	struct proto_started wire = {
		.session = le32_of(s->id),
		.pid = le32_of((uint32_t)s->pid),
		.boot_ns = le64_of(a->boot_ns),
		.started_ns = le64_of(now_ns()),
	};
	put_frame(a, PROTO_STARTED, &wire, sizeof(wire), NULL);
}

static void start_boot(struct agent *a, const struct exec_request *req)
{
	struct failure f;

	if (session_start(&a->boot, req, &a->container, a->hostname, &f) < 0) {
		session_close(&a->boot);
		say_failed(a, req->session, &f);
		take_down(a); /* the container's reason to be: without it there is nothing to wait for */
		return;
	}
	say_started(a, &a->boot);
	agent_hook("started");
}

static void start_further(struct agent *a, const struct exec_request *req)
{
	struct session *s = NULL;
	struct failure f;
	unsigned slot = 0;

	while (slot < PROTO_SESSIONS_MAX && a->more[slot])
		slot++;
	if (slot == PROTO_SESSIONS_MAX)
		(void)fail_as(&f, PROTO_FAIL_REFUSED, EBUSY, "too many commands: %u run already", PROTO_SESSIONS_MAX);
	else if (!(s = malloc(sizeof(*s))))
		(void)fail(&f, ENOMEM, "session");
	if (!s) {
		say_failed(a, req->session, &f);
		return;
	}
	session_init(s, a->epoll);
	if (session_start(s, req, &a->container, a->hostname, &f) < 0) {
		session_close(s);
		free(s); /* no event of this turn is its: it was not there when they were fetched */
		say_failed(a, req->session, &f);
		return;
	}
	a->more[slot] = s;
	a->nmore++;
	agent_hook("exec");
	say_started(a, s);
}

static void start_session(struct agent *a, const struct exec_request *req)
{
	struct failure f;

	if (a->ending) {
		(void)fail_as(&f, PROTO_FAIL_REFUSED, ESHUTDOWN, "the VM is ending");
		say_failed(a, req->session, &f);
	} else if (find_session(a, req->session) || (!a->boot.id && req->session != PROTO_SESSION_BOOT)) {
		agent_fail(a, "EXEC message names a session that is in use, or one before the first");
	} else if (!a->boot.id) {
		start_boot(a, req);
	} else {
		start_further(a, req);
	}
}

static void on_exec(struct agent *a, struct proto_in in)
{
	struct exec_request req;
	int r = a->rooted ? request_exec(in, &req) : -EPROTO;

	if (r < 0) {
		agent_fail(a, r == -ENOMEM ? "no memory for the EXEC message"
					   : "EXEC message is malformed or out of order");
		return;
	}
	start_session(a, &req);
	request_exec_free(&req);
}

static void on_signal(struct agent *a, struct proto_in in)
{
	struct session *s;
	uint32_t id;
	int signo;

	if (request_signal(in, &id, &signo) < 0) {
		agent_fail(a, "SIGNAL message is malformed");
		return;
	}
	s = find_session(a, id); /* one that has just ended is no error */
	if (s)
		session_signal(s, signo);
}

static void on_resize(struct agent *a, struct proto_in in)
{
	uint16_t rows, cols;
	struct session *s;
	uint32_t id;

	if (request_resize(in, &id, &rows, &cols) < 0) {
		agent_fail(a, "RESIZE message is malformed");
		return;
	}
	s = find_session(a, id);
	if (s)
		session_resize(s, rows, cols);
}

/* Mounted when first asked for: most VMs never are. */
static int open_proc(struct agent *a)
{
	if (a->proc < 0) {
		a->proc = procfs_open();
		if (a->proc < 0)
			console_line("agent: proc: %s", strerror(-a->proc));
	}
	return a->proc;
}

static void on_top(struct agent *a, uint32_t request)
{
	struct proto_topped wire = { .request = le32_of(request) };
	_cleanup_free_ char *text = malloc(PROTO_TOP_MAX);

	if (text)
		procfs_list(open_proc(a), text, PROTO_TOP_MAX);
	put_frame(a, PROTO_TOPPED, &wire, sizeof(wire), text ? text : "...\n");
}

static void on_stat(struct agent *a, uint32_t request)
{
	struct proto_statted wire = { .request = le32_of(request) };
	uint64_t pids = container_number(&a->container, "pids.current", "");

	procfs_stat(open_proc(a), &wire);
	mount_scratch_use(&wire);
	wire.pids = le64_of(pids && !container_gone(&a->container) ? pids - 1 : pids);
	wire.memory = le64_of(container_number(&a->container, "memory.current", ""));
	wire.cpu_us = le64_of(container_number(&a->container, "cpu.stat", "usage_usec "));
	put_frame(a, PROTO_STATTED, &wire, sizeof(wire), NULL);
}

static void on_query(struct agent *a, uint16_t type, struct proto_in in)
{
	uint32_t request;

	if (request_query(in, &request) < 0)
		agent_fail(a, "TOP or STAT message is malformed");
	else if (type == PROTO_TOP)
		on_top(a, request);
	else
		on_stat(a, request);
}

static void on_hello(struct agent *a, struct proto_in in)
{
	int r = a->greeted ? -EPROTO : proto_check_hello(&in, NULL);

	if (r == -EPROTONOSUPPORT)
		agent_fail(a, "the host speaks another protocol version than agent " MVM_VERSION);
	else if (r < 0)
		agent_fail(a, "HELLO message is malformed or repeated");
	a->greeted = r == 0;
}

static void dispatch(struct agent *a, uint16_t type, struct proto_in in)
{
	if (type != PROTO_HELLO && !a->greeted) {
		agent_fail(a, "the host's first message is not HELLO");
		return;
	}
	switch (type) {
	case PROTO_HELLO:
		on_hello(a, in);
		break;
	case PROTO_NET:
		on_net(a, in);
		break;
	case PROTO_PUBLISH:
		on_publish(a, in);
		break;
	case PROTO_PROXY:
		on_proxy(a, in);
		break;
	case PROTO_SETUP:
		on_setup(a, in);
		break;
	case PROTO_EXEC:
		on_exec(a, in);
		break;
	case PROTO_SIGNAL:
		on_signal(a, in);
		break;
	case PROTO_RESIZE:
		on_resize(a, in);
		break;
	case PROTO_SHUTDOWN:
		take_down(a);
		break;
	case PROTO_TOP:
	case PROTO_STAT:
		on_query(a, type, in);
		break;
	default:
		agent_fail(a, "message of an unknown type");
	}
}

/* Handles every whole frame in the buffer, as far as answers have room, and keeps the rest; false: no frame. */
static bool consume(struct agent *a)
{
	size_t done = 0;
	struct proto_in in;
	uint16_t type;
	long n = 0;

	while (!a->over && !is_choked(a)) {
		n = proto_next(a->in + done, a->in_len - done, PROTO_PAYLOAD_MAX, &type, &in);
		if (n <= 0)
			break;
		done += (size_t)n;
		dispatch(a, type, in);
	}
	memmove(a->in, a->in + done, a->in_len - done);
	a->in_len -= done;
	return n >= 0;
}

/* Room for more input: doubles up to the largest frame, which proto_next() refuses to exceed. */
static bool grow_input(struct agent *a)
{
	size_t cap = a->in_cap * 2 < INPUT_MAX ? a->in_cap * 2 : INPUT_MAX;
	uint8_t *grown;

	if (a->in_len < a->in_cap)
		return true;
	grown = a->in == a->first ? malloc(cap) : realloc(a->in, cap);
	if (!grown)
		return false;
	if (a->in == a->first)
		memcpy(grown, a->first, a->in_len);
	a->in = grown;
	a->in_cap = cap;
	return true;
}

/* An EXEC can be megabytes, which nobody needs any longer. */
static void shrink_input(struct agent *a)
{
	if (a->in_len || a->in == a->first)
		return;
	free(a->in);
	a->in = a->first;
	a->in_cap = sizeof(a->first);
}

static void read_control(struct agent *a)
{
	while (a->control >= 0 && !a->over) {
		ssize_t n;

		/* First what an earlier turn left behind when answers had no room. */
		if (!consume(a)) {
			agent_fail(a, "the host's bytes are no message");
			return;
		}
		if (a->over || is_choked(a))
			return;
		shrink_input(a);
		if (!grow_input(a)) {
			agent_fail(a, "no memory for the host's message");
			return;
		}
		n = recv(a->control, a->in + a->in_len, a->in_cap - a->in_len, 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			host_gone(a);
			return;
		}
		a->in_len += (size_t)n;
	}
}

static void say_hello(struct agent *a)
{
	struct proto_hello wire = { .magic = le32_of(PROTO_MAGIC), .version = le16_of(PROTO_VERSION) };

	put_frame(a, PROTO_HELLO, &wire, sizeof(wire), MVM_VERSION);
}

static void control_ready(struct watch *w, uint32_t events)
{
	struct agent *a = watch_owner(w, struct agent, control_watch);

	if (a->control < 0 || a->over)
		return;
	if (!a->connected && events & (EPOLLERR | EPOLLHUP)) {
		console_line("agent: the host does not take the control session");
		host_gone(a);
		return;
	}
	if (events & EPOLLOUT)
		a->connected = true;
	flush(a);
	if (a->connected)
		read_control(a);
}

int agent_init(struct agent *a, uint64_t boot_ns, struct failure *f)
{
	int r;

	/* Field by field: clearing the whole would touch the input buffer's pages. */
	a->control_watch.ready = control_ready;
	a->control = -1;
	a->boot_ns = boot_ns;
	a->connected = a->greeted = a->rooted = a->ending = a->over = a->rw = false;
	a->device[0] = a->hostname[0] = 0;
	a->out = (struct proto_out){ 0 };
	a->out_sent = a->in_len = 0;
	a->in = a->first;
	a->in_cap = sizeof(a->first);
	container_zero(&a->container);
	for (unsigned i = 0; i < PROTO_SESSIONS_MAX; i++)
		a->more[i] = NULL;
	a->nmore = 0;
	a->cut_ns = 0;
	a->proc = -1;
	a->boot.id = 0;
	a->boot.pidfd = -1;
	say_hello(a);
	a->control = dial(PROTO_PORT);
	if (a->control < 0)
		return fail(f, -a->control, "vsock to the host");
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (a->epoll < 0)
		return fail(f, errno, "epoll");
	session_init(&a->boot, a->epoll);
	forward_init(&a->forward, a->epoll);
	r = watch_add(a->epoll, a->control, EPOLLIN | EPOLLOUT, &a->control_watch);
	return r < 0 ? fail(f, -r, "epoll") : 0;
}

static void end_further(struct agent *a, struct session **slot)
{
	if (a->control >= 0)
		session_report(*slot, &a->container, &a->out);
	session_close(*slot);
	free(*slot);
	*slot = NULL;
	a->nmore--;
}

/*
 * When the container is gone, the words of further sessions and of published ports are the last that anybody waits
 * for: who does not read them must not keep the VM from its end.
 */
static bool is_cut(struct agent *a)
{
	if (!a->ending || !container_gone(&a->container))
		return false;
	if (!a->cut_ns)
		a->cut_ns = now_ns() + CUT_NS;
	return a->control < 0 || now_ns() >= a->cut_ns;
}

/* Further sessions whose command has ended and whose output is sent. */
static void end_sessions(struct agent *a)
{
	bool cut;

	if (!a->nmore)
		return;
	cut = is_cut(a);
	for (unsigned i = 0; i < PROTO_SESSIONS_MAX; i++)
		if (a->more[i] && !session_running(a->more[i]) && (cut || session_drained(a->more[i])))
			end_further(a, &a->more[i]);
	flush(a);
}

/* Milliseconds until step() has something to do that no event tells of; -1: none. */
static int patience(const struct agent *a)
{
	uint64_t now = a->cut_ns && (a->nmore || !forward_drained(&a->forward)) ? now_ns() : 0;

	if (!now)
		return -1;
	return now >= a->cut_ns ? 0 : (int)((a->cut_ns - now) / 1000000) + 1;
}

/* Looks whether something has come to its end, and does what follows from that. */
static void step(struct agent *a)
{
	struct session *boot = &a->boot;
	int r;

	if (a->over)
		return;
	if (boot->id && !session_running(boot) && !a->ending)
		take_down(a);
	end_sessions(a);
	if (a->nmore || !a->ending || !container_gone(&a->container) || session_running(boot))
		return;
	if (!forward_drained(&a->forward) && !is_cut(a))
		return;
	if (boot->id && a->control >= 0) {
		if (!session_drained(boot))
			return;
		session_report(boot, &a->container, &a->out);
		flush(a);
	}
	session_close(boot);
	agent_hook("settling");
	r = a->rooted ? mount_settle(a->device, a->rw) : 0;
	if (r < 0)
		console_line("agent: %s: still in use after the workload: %s", a->device, strerror(-r));
	a->over = true;
	agent_hook("over");
	put_frame(a, PROTO_BYE, NULL, 0, NULL);
}

void agent_run(struct agent *a)
{
	struct epoll_event events[EVENTS_MAX];
	bool again = false;

	while (!a->over) {
		int n = epoll_wait(a->epoll, events, EVENTS_MAX, again ? 0 : patience(a));

		for (int i = 0; i < n; i++) {
			struct watch *w = events[i].data.ptr;

			w->ready(w, events[i].events);
		}
		again = session_pump(&a->boot);
		for (unsigned i = 0; a->nmore && i < PROTO_SESSIONS_MAX; i++)
			if (a->more[i])
				again |= session_pump(a->more[i]);
		again |= forward_pump(&a->forward);
		step(a);
	}
}

void agent_linger(struct agent *a)
{
	uint64_t end = now_ns() + LINGER_MS * 1000000ULL;
	char ignored[512];

	while (a->control >= 0) {
		struct pollfd p = { .fd = a->control, .events = POLLIN };
		uint64_t now = now_ns();
		ssize_t n;

		flush(a);
		if (a->out.len)
			p.events |= POLLOUT;
		if (a->control < 0 || now >= end || poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0)
			return;
		a->connected |= p.revents & POLLOUT;
		n = recv(a->control, ignored, sizeof(ignored), 0);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return;
	}
}
