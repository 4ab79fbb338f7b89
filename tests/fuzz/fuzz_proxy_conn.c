/*
 * The proxy's connections: clients that say any bytes in any pieces and end at any moment, and a far side by script. Nothing
 * leaves this process: socket() and connect() are ours here, and the far side is the other end of a socket pair.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "uplink/proxy_conn.h"

#define CLIENTS 4U
#define FARS    48U
#define STEPS   300U
#define BODY    100U
#define LITTLE  2048 /* bytes of a socket's buffer, so that it is full: the proxy's … */
#define MORE    16384 /* … takes a part of what came by the others' */
#define QUIET   2000U /* turns: with nobody there to do anything it comes to rest */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct proxy proxy;
static struct uplink_proxied counted;
static uint64_t now;
static const uint8_t *at, *end;

/* By kind: what is said, and then bytes of a pattern. */
static const struct request {
	enum { TUNNEL, SOCKS, FORWARD } kind;
	const char *text;
	size_t len;
} requests[] = {
#define REQUEST(kind, text)                                                                                            \
	{                                                                                                              \
		kind, text, sizeof(text) - 1                                                                           \
	}
	REQUEST(TUNNEL, "CONNECT 10.0.0.1:80 HTTP/1.1\r\n\r\n"),
	REQUEST(TUNNEL, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n"),
	REQUEST(SOCKS, "\5\1\0\5\1\0\1\12\0\0\1\0\120"),
	REQUEST(SOCKS, "\5\1\0\5\1\0\3\13example.org\0\120"),
	REQUEST(FORWARD, "POST http://10.0.0.1/ HTTP/1.1\r\nContent-Length: 100\r\n\r\n"),
	REQUEST(FORWARD, "PUT http://example.org/a HTTP/1.1\r\nContent-Length: 100\r\n\r\n"),
};

static struct client {
	int fd, near; /* -1: not there */
	const struct request *request; /* NULL: any bytes */
	bool spoke;
	size_t said, heard; /* of the pattern */
	uint8_t head[2048];
	size_t nhead;
	bool opened, other; /* it was answered that; something else */
} clients[CLIENTS];

static struct far {
	int fd, near, type;
	bool seen, stalled; /* its connection was looked for; nothing shows of it */
	const struct client *of;
	size_t said, heard, end_at; /* end_at: how much of the end of a head there was */
} fars[FARS];
static unsigned nfars;
static unsigned connects, errors; /* what the next is to say */

static unsigned next(void)
{
	return at < end ? *at++ : 0;
}

static int error_by(unsigned script)
{
	static const int list[] = { 0,      0,           EINPROGRESS, EHOSTUNREACH, ECONNREFUSED,
				    EACCES, ENETUNREACH, ETIMEDOUT,   ENOMEM };

	return list[script % (sizeof(list) / sizeof(list[0]))];
}

/* A pair's sockets: the proxy's and the other. */
static void set_room(int near, int other)
{
	const int little = LITTLE, more = MORE;

	if (setsockopt(near, SOL_SOCKET, SO_SNDBUF, &little, sizeof(little)) < 0 ||
	    setsockopt(other, SOL_SOCKET, SO_SNDBUF, &more, sizeof(more)) < 0)
		abort();
}

/* ---- in the C library's place ---- */

int socket(int family, int type, int protocol)
{
	int pair[2];

	(void)family;
	(void)protocol;
	if (nfars == FARS) {
		errno = EMFILE;
		return -1;
	}
	if (socketpair(AF_UNIX, type, 0, pair) < 0)
		abort();
	set_room(pair[0], pair[1]);
	fars[nfars++] = (struct far){ .fd = pair[1], .near = pair[0], .type = type & 0xf };
	return pair[0];
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	(void)fd;
	(void)to;
	(void)len;
	errno = error_by(connects & 15);
	connects >>= 4;
	return errno ? -1 : 0;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int error = error_by(errors & 15);

	(void)fd;
	if (level != SOL_SOCKET || name != SO_ERROR || *len != sizeof(error))
		abort();
	errors >>= 4;
	error = error == EINPROGRESS ? 0 : error;
	memcpy(value, &error, sizeof(error));
	return 0;
}

/* ---- turns of the loop ---- */

static struct far *far_of(int near)
{
	for (unsigned i = nfars; near >= 0 && i-- > 0;)
		if (fars[i].near == near)
			return &fars[i];
	return NULL;
}

static void find_connections(void)
{
	for (unsigned i = 0; i < nfars; i++) {
		if (fars[i].seen)
			continue;
		fars[i].seen = true;
		for (unsigned k = 0; k < UPLINK_CONNS; k++)
			for (unsigned c = 0; c < CLIENTS; c++)
				if (proxy.conns[k].state != PROXY_STATE_FREE && proxy.conns[k].server == fars[i].near &&
				    clients[c].near >= 0 && proxy.conns[k].client == clients[c].near)
					fars[i].of = &clients[c];
	}
}

/* How much there was to do. */
static unsigned turn(void)
{
	static struct pollfd fds[PROXY_FDS];
	unsigned n = 0, there = 0;

	proxy_prepare(&proxy, fds);
	while (poll(fds, PROXY_FDS, 0) < 0)
		if (errno != EINTR) /* the fuzzer's own alarm */
			abort();
	for (unsigned i = 0; i < PROXY_FDS; i++) {
		const struct far *f = i & 1 ? far_of(fds[i].fd) : NULL;

		if (fds[i].revents & POLLNVAL)
			abort(); /* one that is closed */
		if (f && f->stalled)
			fds[i].revents = 0;
		n += fds[i].revents != 0;
	}
	proxy_run(&proxy, fds, now);
	find_connections();
	if (proxy_deadline(&proxy) <= now)
		abort(); /* it would not sleep */
	for (unsigned i = 0; i < UPLINK_CONNS; i++)
		there += proxy.conns[i].state != PROXY_STATE_FREE;
	if (there != proxy.nconns)
		abort();
	return n;
}

static void rest(void)
{
	unsigned turns = 0;

	while (turn())
		if (++turns == QUIET)
			abort();
}

/* ---- clients ---- */

static uint8_t pattern(size_t pos)
{
	return (uint8_t)(pos % 251);
}

static void client_new(struct client *c)
{
	int pair[2];

	if (c->fd >= 0)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	set_room(pair[1], pair[0]);
	for (unsigned i = 0; i < nfars; i++)
		if (fars[i].of == c)
			fars[i].of = NULL; /* whose connection that was is gone */
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].near == pair[1])
			clients[i].near = -1; /* that number is another's now */
	*c = (struct client){ .fd = pair[0], .near = pair[1] };
	proxy_take(&proxy, pair[1], now);
}

static void client_raw(struct client *c)
{
	size_t len = next(), left = (size_t)(end - at);

	len = len < left ? len : left;
	if (c->fd >= 0 && !c->request) {
		c->spoke = true;
		(void)send(c->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	at += len;
}

/* In two pieces. */
static void client_request(struct client *c)
{
	const struct request *r = &requests[next() % (sizeof(requests) / sizeof(requests[0]))];
	size_t cut = next() % (r->len + 1);

	if (c->fd < 0 || c->spoke)
		return;
	c->spoke = true;
	c->request = r;
	if (send(c->fd, r->text, cut, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)cut)
		c->request = NULL; /* it came too late */
	(void)turn();
	if (c->request && send(c->fd, r->text + cut, r->len - cut, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		c->request = NULL;
}

static size_t say(int fd, size_t from, size_t len)
{
	uint8_t bytes[255 * 64];
	ssize_t n;

	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern(from + i);
	n = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? 0 : (size_t)n;
}

static void client_byte(struct client *c, uint8_t byte)
{
	static const char opened[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	static const uint8_t greeted[] = { 5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0 };

	if (c->opened) {
		if (byte != pattern(c->heard++))
			abort();
		return;
	}
	if (c->other || c->nhead == sizeof(c->head))
		return;
	c->head[c->nhead++] = byte;
	if (c->request->kind == TUNNEL) {
		c->opened = c->nhead == strlen(opened) && !memcmp(c->head, opened, c->nhead);
		c->other = c->nhead > 12 && memcmp(c->head, opened, 12) != 0;
	} else if (c->request->kind == SOCKS) {
		c->opened = c->nhead == sizeof(greeted) && !memcmp(c->head, greeted, c->nhead);
		if (c->nhead > sizeof(greeted))
			c->other = true;
	} else {
		c->other = true; /* its server's, or ours */
	}
}

static void client_read(struct client *c)
{
	uint8_t bytes[255 * 64];
	ssize_t n = recv(c->fd, bytes, next() * 64UL, MSG_DONTWAIT);

	for (ssize_t i = 0; c->request && i < n; i++)
		client_byte(c, bytes[i]);
}

static void client_close(struct client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
}

/* ---- the far side ---- */

/* What a client said behind its request, in its order; of a body no more than it has. */
static void far_read(struct far *f, size_t most)
{
	static const char head_end[] = "\r\n\r\n";
	uint8_t bytes[255 * 64];
	ssize_t n = recv(f->fd, bytes, most, MSG_DONTWAIT);
	const struct request *r = f->of ? f->of->request : NULL;

	for (ssize_t i = 0; r && i < n; i++) {
		if (r->kind == FORWARD && f->end_at < 4) {
			f->end_at = bytes[i] == (uint8_t)head_end[f->end_at] ? f->end_at + 1 : bytes[i] == '\r';
			continue;
		}
		if (bytes[i] != pattern(f->heard++) || f->heard > f->of->said ||
		    (r->kind == FORWARD && f->heard > BODY))
			abort();
	}
}

static void name_server(struct far *f, unsigned what)
{
	struct dns_question question;
	struct dns_answer answer = { .n = what & 3, .ttl = 60, .code = what & 4 ? DNS_REFUSED : DNS_NOERROR };
	uint8_t msg[DNS_MESSAGE], code;
	ssize_t n = recv(f->fd, msg, sizeof(msg), MSG_DONTWAIT);

	if (n < 0)
		return;
	if (dns_parse_question(msg, (size_t)n, &question, &code) < 0)
		abort();
	question.id ^= what & 8 ? 1 : 0;
	for (unsigned i = 0; i < answer.n; i++)
		answer.addresses[i].bytes[0] = (uint8_t)(10 + i);
	for (unsigned i = 0; i < (what & 8 ? what >> 4 : 1); i++)
		(void)send(f->fd, msg, dns_put_answer(msg, &question, &answer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void far_step(unsigned op)
{
	struct far *f = nfars ? &fars[nfars - 1 - (op >> 4 & 3) % nfars] : NULL;
	unsigned what = next();

	if (!f || f->fd < 0)
		return;
	switch (op & 15) {
	case 7:
		if (f->type == SOCK_DGRAM)
			name_server(f, what);
		else
			f->said += say(f->fd, f->said, what * 64UL);
		break;
	case 8:
		if (f->type != SOCK_DGRAM)
			far_read(f, what * 64UL);
		break;
	case 9:
		(void)shutdown(f->fd, SHUT_WR);
		break;
	case 10:
		(void)close(f->fd);
		f->fd = -1;
		break;
	default:
		f->stalled = what & 1;
		break;
	}
}

static void step(void)
{
	unsigned op = next();
	struct client *c = &clients[op >> 4 & 3];

	switch (op & 15) {
	case 0:
		client_new(c);
		break;
	case 1:
		client_raw(c);
		break;
	case 2:
		client_request(c);
		break;
	case 3:
		if (c->fd >= 0 && c->request)
			c->said += say(c->fd, c->said, next() * 64UL);
		break;
	case 4:
		if (c->fd >= 0)
			(void)shutdown(c->fd, SHUT_WR);
		break;
	case 5:
		client_close(c);
		break;
	case 6:
		if (c->fd >= 0)
			client_read(c);
		break;
	case 12:
		connects = next();
		errors = next();
		break;
	case 13:
		now += (uint64_t)next() * (PROXY_NS_PER_S / 8);
		break;
	case 14:
		rest();
		break;
	default:
		far_step(op);
		break;
	}
	if (!(op & 0x80))
		(void)turn();
}

static void set_up(unsigned kind)
{
	static uint8_t *arena;

	if (!arena)
		arena = mmap(NULL, PROXY_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			     0);
	if (arena == MAP_FAILED)
		abort();
	memset(&counted, 0, sizeof(counted));
	proxy_init(&proxy, kind & (UPLINK_IP4 | UPLINK_IP6 | UPLINK_DENY | UPLINK_DNS4 | UPLINK_DNS6), &counted, arena);
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] = (struct client){ .fd = -1, .near = -1 };
	nfars = 0;
	connects = errors = 0;
	now = PROXY_NS_PER_S;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t byte;

	at = data;
	end = data + size;
	set_up(next());
	for (unsigned i = 0; at < end && i < STEPS; i++)
		step();
	for (unsigned i = 0; i < nfars; i++)
		fars[i].stalled = false;
	rest();
	/* Without its client each connection ends, whatever its server does, and no descriptor of it is left. */
	for (unsigned i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
	for (unsigned i = 0; i < 4; i++) {
		rest();
		now += 301 * PROXY_NS_PER_S;
	}
	rest();
	if (proxy.nconns)
		abort();
	for (unsigned i = 0; i < nfars; i++) {
		if (fars[i].fd < 0)
			continue;
		if (fars[i].type == SOCK_DGRAM ? send(fars[i].fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0
					       : send(fars[i].fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ||
							 (errno != EPIPE && errno != ECONNRESET))
			abort();
		(void)recv(fars[i].fd, &byte, 1, MSG_DONTWAIT);
		(void)close(fars[i].fd);
	}
	return 0;
}
