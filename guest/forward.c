#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "dial.h"
#include "forward.h"
#include "forward_udp.h"
#include "mvm/cleanup.h"

#define ROUNDS 4 /* buffers moved per call and direction: one busy connection does not starve the others */
#define DIALS                                                                                                          \
	8 /* of the proxy's clients at once: the host takes CONTROL_DIALS_MAX of a guest, streams of commands among them */
#define AGAIN_NS 50000000 /* between two looks for who listens */
#define BACKLOG  256 /* of the proxy: as many connections as there may be */

/* One direction. */
struct half {
	uint8_t *rest; /* read, and not taken by the reader yet; NULL: nothing */
	size_t begin, end;
	bool eof; /* the writer has said its last */
	bool over; /* and the reader was told, or is gone */
};

struct forward_conn {
	struct watch host_watch, local_watch;
	struct forward *forward;
	struct forward_conn *next, **link; /* of all */
	struct forward_conn *todo;
	int host, local; /* -1: closed; both: over */
	struct forward_port *port; /* NULL: outward */
	bool listed; /* in todo */
	bool waits; /* for somebody to listen on the port */
	bool outward; /* the local end's peer began it, a client of the proxy; else the host's */
	bool connected; /* the end that did not begin it is */
	bool six; /* it is ::1 */
	bool host_gone; /* nothing sent to the host arrives any more */
	struct half up, down; /* to the host, from it */
};

static void list(struct forward_conn *c)
{
	if (c->listed)
		return;
	c->listed = true;
	c->todo = c->forward->todo;
	c->forward->todo = c;
}

static void drop_rest(struct half *half)
{
	free(half->rest);
	half->rest = NULL;
}

/* An outward connection's dial is answered. */
static void dial_over(struct forward_conn *c)
{
	if (c->outward && !c->connected)
		c->forward->ndialling--;
	c->connected = true;
}

/* Freed by forward_pump(). */
static void end(struct forward_conn *c)
{
	dial_over(c);
	watch_close(c->forward->epoll, &c->local);
	watch_close(c->forward->epoll, &c->host);
	drop_rest(&c->up);
	drop_rest(&c->down);
	list(c);
}

/* ---- moving bytes ---- */

enum move {
	MOVE_AGAIN, /* there may be more */
	MOVE_WAIT, /* nothing to read, or no room to write: an event will tell */
	MOVE_NO_WRITER, /* reading failed */
	MOVE_NO_READER, /* writing failed */
};

static ssize_t put(int to, const uint8_t *bytes, size_t len)
{
	ssize_t n = send(to, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 && errno == EAGAIN ? 0 : n;
}

static enum move put_rest(struct half *half, int to)
{
	ssize_t n = put(to, half->rest + half->begin, half->end - half->begin);

	if (n < 0)
		return MOVE_NO_READER;
	half->begin += (size_t)n;
	if (half->begin < half->end)
		return MOVE_WAIT;
	drop_rest(half);
	return MOVE_AGAIN;
}

/* What the reader did not take is kept. */
static bool keep(struct half *half, const uint8_t *bytes, size_t len)
{
	half->rest = malloc(len);
	if (!half->rest)
		return false;
	memcpy(half->rest, bytes, len);
	half->begin = 0;
	half->end = len;
	return true;
}

static enum move move_once(struct half *half, int from, int to, uint8_t *buffer)
{
	ssize_t n, done;

	if (half->rest)
		return put_rest(half, to);
	if (half->eof) {
		(void)shutdown(to, SHUT_WR); /* one that is gone shows at its own descriptor */
		half->over = true;
		return MOVE_WAIT;
	}
	n = recv(from, buffer, FORWARD_BUFFER, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN ? MOVE_WAIT : MOVE_NO_WRITER;
	if (n == 0) {
		half->eof = true;
		return MOVE_AGAIN;
	}
	done = put(to, buffer, (size_t)n);
	if (done < 0)
		return MOVE_NO_READER;
	/* Without memory for the rest the stream would have a hole. */
	return done == n || keep(half, buffer + done, (size_t)(n - done)) ? MOVE_AGAIN : MOVE_NO_WRITER;
}

static enum move move(struct half *half, int from, int to, uint8_t *buffer)
{
	enum move r = MOVE_AGAIN;

	for (int i = 0; i < ROUNDS && r == MOVE_AGAIN && !half->over; i++)
		r = move_once(half, from, to, buffer);
	return half->over ? MOVE_WAIT : r;
}

static void pump(struct forward_conn *c)
{
	enum move up, down;

	if (c->host < 0 || !c->connected)
		return;
	down = move(&c->down, c->host, c->local, c->forward->buffer);
	if (down == MOVE_NO_READER) {
		/* The server takes no more; what it has answered is still on its way. */
		drop_rest(&c->down);
		c->down.over = true;
		(void)shutdown(c->host, SHUT_RD);
	}
	up = move(&c->up, c->local, c->host, c->forward->buffer);
	/* A host that has closed both halves is no hang-up to poll(2) of vsock: what is sent to it fails, if only nothing. */
	if (c->outward && c->down.over && send(c->host, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		c->host_gone = true;
	if (down == MOVE_NO_WRITER || up == MOVE_NO_WRITER || up == MOVE_NO_READER ||
	    (c->down.over && (c->up.over || c->host_gone)))
		end(c);
	else if (down == MOVE_AGAIN || up == MOVE_AGAIN)
		list(c);
}

/* ---- the local end ---- */

static void local_ready(struct watch *w, uint32_t events);

/* 0: connected, or on the way; else nobody is there. */
static int connect_to(struct forward_conn *c, const struct sockaddr *address, socklen_t len)
{
	_cleanup_fd_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, r;

	if (fd < 0)
		return -errno;
	/* The client cut its bytes into packets already: a hint that may fail. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, address, len) < 0 && errno != EINPROGRESS)
		return -errno;
	c->local_watch.ready = local_ready;
	r = watch_add(c->forward->epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &c->local_watch);
	if (r == 0)
		c->local = take_fd(&fd);
	return r;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void set_timer(const struct forward *f, long ns)
{
	const struct itimerspec when = { .it_value.tv_nsec = ns };

	(void)timerfd_settime(f->again.timer, 0, &when, NULL);
}

static void connect_next(struct forward_conn *c);

static void try_again(struct watch *w, uint32_t events)
{
	struct forward *f = watch_owner(watch_owner(w, struct forward_again, watch), struct forward, again);
	uint64_t times;

	(void)events;
	(void)!read(f->again.timer, &times, sizeof(times));
	f->again.armed = false;
	for (struct forward_conn *c = f->conns; c; c = c->next)
		if (c->waits && c->host >= 0) {
			c->waits = c->six = false;
			connect_next(c);
		}
}

/* A port's first client may have come before its server, whose start it is that a client is waited for (mvm@.socket). */
static bool await_server(struct forward_conn *c)
{
	struct forward *f = c->forward;

	if (c->port->served || now_ns() >= c->port->end_ns)
		return false;
	if (f->again.timer < 0) {
		f->again.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		f->again.watch.ready = try_again;
		if (f->again.timer < 0 || watch_add(f->epoll, f->again.timer, EPOLLIN, &f->again.watch) < 0)
			return false;
	}
	c->waits = true;
	if (!f->again.armed) /* else newcomers would put it off for ever */
		set_timer(f, AGAIN_NS);
	f->again.armed = true;
	return true;
}

/* The next of the loopback's two addresses; a connection that has none left waits, or is refused. */
static void connect_next(struct forward_conn *c)
{
	struct sockaddr_in four = { .sin_family = AF_INET,
				    .sin_port = htons(c->port->port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6,
				    .sin6_port = htons(c->port->port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	if (c->local < 0 && !c->six && connect_to(c, (struct sockaddr *)&four, sizeof(four)) == 0)
		return;
	watch_close(c->forward->epoll, &c->local);
	if (!c->six) {
		c->six = true;
		if (connect_to(c, (struct sockaddr *)&six, sizeof(six)) == 0)
			return;
	}
	if (!await_server(c))
		end(c);
}

static void local_ready(struct watch *w, uint32_t events)
{
	struct forward_conn *c = watch_owner(w, struct forward_conn, local_watch);
	int error = 0;
	socklen_t len = sizeof(error);

	if (c->local < 0)
		return;
	if (!c->connected && c->outward) /* pumped when the host has answered */
		return;
	if (!c->connected) {
		if (getsockopt(c->local, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error || !(events & EPOLLOUT)) {
			if (error || events & (EPOLLERR | EPOLLHUP))
				connect_next(c);
			return;
		}
		c->connected = c->port->served = true;
	}
	pump(c);
}

/* ---- the host's end ---- */

static void host_ready(struct watch *w, uint32_t events)
{
	struct forward_conn *c = watch_owner(w, struct forward_conn, host_watch);

	if (c->host < 0)
		return;
	if (events & (EPOLLERR | EPOLLHUP))
		c->host_gone = true; /* what it sent before is still to be read: the pump finds the end */
	if (c->outward && !c->connected && !c->host_gone && events & EPOLLOUT)
		dial_over(c);
	if (c->host_gone && !c->connected)
		end(c);
	else
		pump(c);
}

static void link_in(struct forward *f, struct forward_conn *c)
{
	c->next = f->conns;
	c->link = &f->conns;
	if (c->next)
		c->next->link = &c->next;
	f->conns = c;
	f->nconns++;
}

static void take(struct forward_port *p, int fd_arg)
{
	struct forward *f = p->forward;
	_cleanup_fd_ int fd = fd_arg;
	struct forward_conn *c = f->nconns < PROTO_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return; /* refused by the end of it */
	c->host_watch.ready = host_ready;
	c->forward = f;
	c->host = c->local = -1;
	c->port = p;
	if (watch_add(f->epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &c->host_watch) < 0) {
		free(c);
		return;
	}
	c->host = take_fd(&fd);
	link_in(f, c);
	connect_next(c);
}

static void port_ready(struct watch *w, uint32_t events)
{
	struct forward_port *p = watch_owner(w, struct forward_port, watch);
	int fd;

	(void)events;
	/* Bounded by the host, which has PROTO_CONNS_MAX at once. Out of descriptors is out of luck for one. */
	while ((fd = dial_accept(p->fd)) != -EAGAIN && (fd >= 0 || fd == -EPERM || fd == -ECONNABORTED))
		if (fd >= 0 && p->udp)
			forward_udp_take(p->forward, p->port, fd);
		else if (fd >= 0)
			take(p, fd);
}

/* ---- the proxy's clients ---- */

/* A client, and the host dialled for it. One that cannot be served is refused by the end of it. */
static void serve(struct forward *f, int fd_arg)
{
	_cleanup_fd_ int local = fd_arg, host = dial(PROTO_PORT_PROXY);
	struct forward_conn *c = host < 0 ? NULL : calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		return;
	(void)setsockopt(local, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* a hint, as above */
	c->host_watch.ready = host_ready;
	c->local_watch.ready = local_ready;
	c->forward = f;
	c->outward = true;
	c->host = c->local = -1;
	if (watch_add(f->epoll, host, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &c->host_watch) < 0 ||
	    watch_add(f->epoll, local, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &c->local_watch) < 0) {
		watch_close(f->epoll, &host);
		free(c); /* no event of this turn is its */
		return;
	}
	c->host = take_fd(&host);
	c->local = take_fd(&local);
	link_in(f, c);
	f->nclients++;
	f->ndialling++;
}

/* As many as may be; the kernel keeps the others until forward_pump() asks again. */
static void open_door(struct forward *f)
{
	unsigned most = f->nports ? PROTO_CONNS_MAX / 2 : PROTO_CONNS_MAX;

	while (f->door.knocked && f->ndialling < DIALS && f->nclients < most && f->nconns < PROTO_CONNS_MAX) {
		int fd = accept4(f->door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			serve(f, fd);
		} else if (errno != ECONNABORTED) {
			f->door.knocked = errno != EAGAIN;
			return;
		}
	}
}

static void door_ready(struct watch *w, uint32_t events)
{
	struct forward *f = watch_owner(watch_owner(w, struct forward_door, watch), struct forward, door);

	(void)events;
	f->door.knocked = true;
	open_door(f);
}

/* ---- for the agent ---- */

void forward_init(struct forward *f, int epoll)
{
	f->epoll = epoll;
	f->nports = f->nconns = f->nclients = f->ndialling = 0;
	f->door.fd = f->again.timer = -1;
	f->door.knocked = f->again.armed = false;
	f->conns = f->todo = NULL;
	f->flows = f->flows_todo = NULL;
	f->buffer = NULL;
}

int forward_listen(struct forward *f, uint16_t port, bool udp)
{
	struct forward_port *p = &f->ports[f->nports];
	int r;

	if (f->nports == PROTO_PUBLISH_MAX)
		return -E2BIG;
	for (unsigned i = 0; i < f->nports; i++)
		if (f->ports[i].port == port && f->ports[i].udp == udp)
			return -EEXIST;
	if (!f->buffer && !(f->buffer = malloc(FORWARD_BUFFER)))
		return -ENOMEM;
	r = dial_listen((udp ? PROTO_PORT_PUBLISH_UDP : PROTO_PORT_PUBLISH) + port);
	if (r < 0)
		return r;
	*p = (struct forward_port){ .watch.ready = port_ready, .forward = f, .fd = r, .port = port, .udp = udp };
	p->end_ns = now_ns() + FORWARD_PATIENCE_S * 1000000000ULL;
	r = watch_add(f->epoll, p->fd, EPOLLIN, &p->watch);
	if (r < 0)
		(void)close(p->fd);
	else
		f->nports++;
	return r;
}

int forward_listen_proxy(struct forward *f, uint16_t port)
{
	struct sockaddr_in here = { .sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_fd_ int fd = -1;
	int r, one = 1;

	if (f->door.fd >= 0)
		return -EEXIST;
	if (!f->buffer && !(f->buffer = malloc(FORWARD_BUFFER)))
		return -ENOMEM;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	f->door.watch.ready = door_ready;
	r = watch_add(f->epoll, fd, EPOLLIN, &f->door.watch);
	if (r == 0)
		f->door.fd = take_fd(&fd);
	return r;
}

bool forward_pump(struct forward *f)
{
	struct forward_conn *c = f->todo, *next;

	for (f->todo = NULL; c; c = next) {
		next = c->todo;
		c->listed = false;
		if (c->host >= 0) {
			pump(c); /* lists it again where that is not the end of it */
			continue;
		}
		*c->link = c->next;
		if (c->next)
			c->next->link = c->link;
		f->nconns--;
		f->nclients -= c->outward;
		free(c);
	}
	forward_udp_pump(f);
	open_door(f); /* there may be room again, of which no event tells */
	return f->todo || f->flows_todo;
}

bool forward_drained(const struct forward *f)
{
	for (const struct forward_conn *c = f->conns; c; c = c->next)
		if (c->host >= 0 && (c->connected || c->outward) && !c->up.over)
			return false;
	return forward_udp_drained(f);
}
