#include "forward_udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mvm/cleanup.h"

#define ROUNDS 16 /* datagrams per call and direction */

struct forward_flow {
	struct watch host_watch, local_watch;
	struct forward *forward;
	struct forward_flow *next, **link; /* of all */
	struct forward_flow *todo;
	int host, local; /* -1: closed; both: over */
	uint16_t port;
	bool listed; /* in flows_todo */
	bool six; /* it is ::1 */
	bool answered; /* somebody is there */
	uint8_t *begun; /* of a datagram from the host, FORWARD_BUFFER bytes of room; NULL: nothing */
	size_t begun_len;
	uint8_t *rest; /* of one to it; NULL: nothing */
	size_t rest_pos, rest_len;
};

static void list(struct forward_flow *c)
{
	if (c->listed)
		return;
	c->listed = true;
	c->todo = c->forward->flows_todo;
	c->forward->flows_todo = c;
}

/* Freed by forward_udp_pump(). */
static void end(struct forward_flow *c)
{
	watch_close(c->forward->epoll, &c->local);
	watch_close(c->forward->epoll, &c->host);
	free(c->begun);
	free(c->rest);
	c->begun = c->rest = NULL;
	list(c);
}

/* ---- the local end ---- */

static void local_ready(struct watch *w, uint32_t events);

static int connect_to(struct forward_flow *c, const struct sockaddr *address, socklen_t len)
{
	_cleanup_fd_ int fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0 || connect(fd, address, len) < 0)
		return -errno;
	c->local_watch.ready = local_ready;
	r = watch_add(c->forward->epoll, fd, EPOLLIN, &c->local_watch);
	if (r == 0)
		c->local = take_fd(&fd);
	return r;
}

static int connect_four(struct forward_flow *c)
{
	struct sockaddr_in four = { .sin_family = AF_INET,
				    .sin_port = htons(c->port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return connect_to(c, (struct sockaddr *)&four, sizeof(four));
}

static int connect_six(struct forward_flow *c)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6,
				    .sin6_port = htons(c->port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	watch_close(c->forward->epoll, &c->local);
	c->six = true;
	return connect_to(c, (struct sockaddr *)&six, sizeof(six));
}

/* Nobody was there (ICMP). True: somebody may be on ::1. */
static bool refused(struct forward_flow *c)
{
	if (!c->answered && !c->six && connect_six(c) == 0)
		return true;
	end(c);
	return false;
}

/* On the loopback the word that nobody is there has mostly come when send(2) returns: the datagram is not lost then. */
static bool is_refused(int fd, const uint8_t *bytes, size_t len)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == ECONNREFUSED; /* else it is dropped, as by any network */
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == ECONNREFUSED;
}

static void deliver(struct forward_flow *c, const uint8_t *bytes, size_t len)
{
	while (is_refused(c->local, bytes, len))
		if (!refused(c))
			return;
}

/* ---- from the host ---- */

/* What is no whole datagram yet waits for the rest of it. */
static bool keep_begun(struct forward_flow *c, const uint8_t *bytes, size_t len)
{
	if (!len) {
		free(c->begun);
		c->begun = NULL;
	} else if (c->begun) {
		memmove(c->begun, bytes, len);
	} else {
		c->begun = malloc(FORWARD_BUFFER);
		if (!c->begun)
			return false;
		memcpy(c->begun, bytes, len);
	}
	c->begun_len = len;
	return true;
}

/* True: there may be more. */
static bool from_host(struct forward_flow *c)
{
	uint8_t *buffer = c->begun ? c->begun : c->forward->buffer;
	size_t have = c->begun ? c->begun_len : 0, at = 0;
	ssize_t n = recv(c->host, buffer + have, FORWARD_BUFFER - have, MSG_DONTWAIT);
	struct proto_in datagram;
	long size;

	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			end(c);
		return false;
	}
	have += (size_t)n;
	while ((size = proto_next_datagram(buffer + at, have - at, &datagram)) > 0) {
		deliver(c, datagram.pos, (size_t)(datagram.end - datagram.pos));
		if (c->host < 0)
			return false;
		at += (size_t)size;
	}
	if (size < 0 || !keep_begun(c, buffer + at, have - at)) {
		end(c);
		return false;
	}
	return true;
}

/* ---- to the host ---- */

static ssize_t put(const struct forward_flow *c, const uint8_t *bytes, size_t len)
{
	ssize_t n = send(c->host, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 && errno == EAGAIN ? 0 : n;
}

/* True: nothing waits any more. */
static bool put_rest(struct forward_flow *c)
{
	ssize_t n = c->rest ? put(c, c->rest + c->rest_pos, c->rest_len - c->rest_pos) : 0;

	if (n < 0) {
		end(c);
		return false;
	}
	c->rest_pos += (size_t)n;
	if (c->rest && c->rest_pos < c->rest_len)
		return false;
	free(c->rest);
	c->rest = NULL;
	return true;
}

/* While the host takes no more, nothing is read: the kernel drops what the socket cannot hold. */
static void put_datagram(struct forward_flow *c, const uint8_t *frame, size_t len)
{
	ssize_t n = put(c, frame, len);

	if (n == (ssize_t)len)
		return;
	c->rest = n < 0 ? NULL : malloc(len - (size_t)n);
	if (!c->rest) {
		end(c);
		return;
	}
	c->rest_pos = 0;
	c->rest_len = len - (size_t)n;
	memcpy(c->rest, frame + n, c->rest_len);
}

/* True: there may be more. */
static bool to_host(struct forward_flow *c)
{
	uint8_t *buffer = c->forward->buffer;
	ssize_t n;

	if (!put_rest(c))
		return false;
	n = recv(c->local, buffer + PROTO_DATAGRAM_HEAD, FORWARD_BUFFER - PROTO_DATAGRAM_HEAD, MSG_DONTWAIT);
	if (n < 0) {
		if (errno == ECONNREFUSED)
			(void)refused(c);
		return false;
	}
	c->answered = true;
	if ((size_t)n > PROTO_DATAGRAM_MAX)
		return true;
	proto_put_datagram_head(buffer, (size_t)n);
	put_datagram(c, buffer, PROTO_DATAGRAM_HEAD + (size_t)n);
	return c->host >= 0;
}

/* ---- both ---- */

static void pump(struct forward_flow *c)
{
	bool down = true, up = true;

	for (int i = 0; i < ROUNDS && c->host >= 0 && (down || up); i++) {
		down = down && from_host(c);
		up = c->host >= 0 && up && to_host(c);
	}
	if (c->host >= 0 && (down || up))
		list(c);
}

static void host_ready(struct watch *w, uint32_t events)
{
	struct forward_flow *c = watch_owner(w, struct forward_flow, host_watch);

	(void)events; /* its end is read */
	if (c->host >= 0)
		pump(c);
}

static void local_ready(struct watch *w, uint32_t events)
{
	struct forward_flow *c = watch_owner(w, struct forward_flow, local_watch);

	(void)events;
	if (c->host >= 0)
		pump(c);
}

/* ---- for forward.c ---- */

void forward_udp_take(struct forward *f, uint16_t port, int fd_arg)
{
	_cleanup_fd_ int fd = fd_arg;
	struct forward_flow *c = f->nconns < PROTO_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return; /* refused by the end of it */
	c->host_watch.ready = host_ready;
	c->forward = f;
	c->host = c->local = -1;
	c->port = port;
	if (watch_add(f->epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &c->host_watch) < 0) {
		free(c);
		return;
	}
	c->host = take_fd(&fd);
	c->next = f->flows;
	c->link = &f->flows;
	if (c->next)
		c->next->link = &c->next;
	f->flows = c;
	f->nconns++;
	if (connect_four(c) < 0 && connect_six(c) < 0)
		end(c);
}

void forward_udp_pump(struct forward *f)
{
	struct forward_flow *c = f->flows_todo, *next;

	for (f->flows_todo = NULL; c; c = next) {
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
		free(c);
	}
}

/* Datagrams of a server that is gone are as lost as any: only the rest of one is worth the wait. */
bool forward_udp_drained(const struct forward *f)
{
	for (const struct forward_flow *c = f->flows; c; c = c->next)
		if (c->host >= 0 && c->rest)
			return false;
	return true;
}
