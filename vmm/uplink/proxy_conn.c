#include "uplink/proxy_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mvm/counters.h"
#include "uplink/rules.h"

#define ROUNDS  4 /* buffers moved per call and direction */
#define HEAD_NS (30 * PROXY_NS_PER_S) /* for a request */
#define LAST_NS (2 * PROXY_NS_PER_S) /* for a client to read why not */
#define HALF_NS (300 * PROXY_NS_PER_S) /* without a byte, where one end has said its last */

_Static_assert(PROXY_REWRITE <= PROXY_BUFFER && PROXY_ANSWER <= PROXY_BUFFER, "what is made fits");

void proxy_drop(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

void proxy_end(struct proxy_conn *c)
{
	proxy_drop(&c->client);
	proxy_drop(&c->server);
	(void)madvise(c->up.bytes, 2UL * PROXY_BUFFER, MADV_DONTNEED);
	c->state = PROXY_STATE_FREE;
	c->proxy->nconns--;
}

/* ---- bytes ---- */

enum move { MOVE_AGAIN, MOVE_WAIT, MOVE_NO_WRITER, MOVE_NO_READER };

/* What is there of a half, as far as it goes. */
static enum move flush(struct proxy_half *half, int to, uint64_t *count)
{
	while (half->begin < half->end) {
		ssize_t n = send(to, half->bytes + half->begin, half->end - half->begin, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? MOVE_WAIT : MOVE_NO_READER;
		half->begin += (size_t)n;
		if (count)
			counters_add(count, (uint64_t)n);
	}
	half->begin = half->end = 0;
	return MOVE_AGAIN;
}

static enum move move_once(struct proxy_half *half, int from, int to, uint64_t *count)
{
	enum move r = flush(half, to, count);
	ssize_t n;

	if (r != MOVE_AGAIN)
		return r;
	if (half->eof) {
		(void)shutdown(to, SHUT_WR); /* one that is gone shows at its own descriptor */
		half->over = true;
		return MOVE_WAIT;
	}
	n = recv(from, half->bytes, PROXY_BUFFER, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? MOVE_WAIT : MOVE_NO_WRITER;
	half->eof = n == 0;
	half->end = (uint64_t)n < half->left ? (size_t)n : (size_t)half->left;
	if (half->left != UINT64_MAX)
		half->left -= half->end;
	return MOVE_AGAIN;
}

static enum move move(struct proxy_half *half, int from, int to, uint64_t *count)
{
	enum move r = MOVE_AGAIN;

	for (int i = 0; i < ROUNDS && r == MOVE_AGAIN && !half->over; i++)
		r = move_once(half, from, to, count);
	return half->over ? MOVE_WAIT : r;
}

/* One whose client or server has said its last, or is gone, is not held up for ever by the other, which may never answer. */
static void pump(struct proxy_conn *c, uint64_t now)
{
	const struct uplink_proxied *counted = c->proxy->counted;
	uint64_t before = counted->from_guest_bytes + counted->to_guest_bytes;
	enum move up = move(&c->up, c->client, c->server, &c->proxy->counted->from_guest_bytes), down = MOVE_WAIT;

	if (up == MOVE_NO_READER) {
		/* The server takes no more; what it has answered is still on its way. */
		c->up.over = true;
		c->up.begin = c->up.end = 0;
		(void)shutdown(c->client, SHUT_RD);
	}
	if (c->client_gone) {
		c->down.over = true;
		c->down.begin = c->down.end = 0;
	} else {
		down = move(&c->down, c->server, c->client, &c->proxy->counted->to_guest_bytes);
	}
	if (up == MOVE_NO_WRITER || down == MOVE_NO_WRITER || down == MOVE_NO_READER || (c->up.over && c->down.over))
		proxy_end(c);
	else if ((c->up.over || c->down.over || c->client_gone) &&
		 (c->deadline_ns == UINT64_MAX || counted->from_guest_bytes + counted->to_guest_bytes != before))
		c->deadline_ns = now + HALF_NS;
}

/* ---- answers ---- */

static void put(struct proxy_half *half, const uint8_t *bytes, size_t len)
{
	if (len > PROXY_BUFFER - half->end) /* never: answers are few and small */
		len = PROXY_BUFFER - half->end;
	memcpy(half->bytes + half->end, bytes, len);
	half->end += len;
}

/* The loopback, and the namespace's own network; for a reader's eyes, too. */
static bool is_own(const struct proxy_address *address)
{
	static const uint8_t none[10] = { 0 };
	uint8_t own[16], size = address->family == 4 ? 4 : 16;

	if (address->family == 4 && (address->bytes[0] == 127 || address->bytes[0] == 0))
		return true;
	if (address->family == 6 && !memcmp(address->bytes, none, sizeof(none)))
		return true;
	(void)inet_pton(address->family == 4 ? AF_INET : AF_INET6, address->family == 4 ? UPLINK_OWN4 : UPLINK_OWN6,
			own);
	return !memcmp(address->bytes, own, size - 1U) && (address->bytes[size - 1] & 0xf8) == (own[size - 1] & 0xf8);
}

/* Of an address that the rules refuse: what they had in mind, for a reader's eyes. */
static const char *why_of(const struct proxy_conn *c, const struct proxy_address *address)
{
	struct uplink_rule rule = { .family = address->family, .prefix = address->family == 4 ? 32 : 128 };

	memcpy(rule.address, address->bytes, sizeof(rule.address));
	if (rules_is_private(&rule))
		return "it is private, the host's, or a metadata service";
	return c->proxy->flags & UPLINK_DENY ? "--egress deny, and it is not named"
					     : "it is of the host, or of a network that it is on";
}

/* Its client is told, and that is all. */
void proxy_refuse(struct proxy_conn *c, enum proxy_result result, uint64_t now)
{
	const struct proxy_address *address = &c->addresses[c->at ? c->at - 1 : 0];
	char where[PROXY_WHERE] = "";
	const char *why = "";

	counters_add(result <= PROXY_UNNAMED ? &c->proxy->counted->refused : &c->proxy->counted->failed, 1);
	if (result == PROXY_POLICY) {
		address = &c->refused;
		why = why_of(c, address);
		result = is_own(address) ? PROXY_OWN : PROXY_POLICY;
	}
	if (address->family)
		proxy_address_text(address, c->request.port, where);
	proxy_drop(&c->server);
	put(&c->down, c->proxy->made, proxy_answer(&c->request, result, where, why, c->proxy->made));
	c->state = PROXY_STATE_LAST;
	c->deadline_ns = now + LAST_NS;
	c->down.eof = true;
}

void proxy_opened(struct proxy_conn *c, uint64_t now)
{
	counters_add(&c->proxy->counted->opened, 1);
	put(&c->down, c->proxy->made, proxy_answer(&c->request, PROXY_OPENED, "", "", c->proxy->made));
	c->state = PROXY_STATE_PUMP;
	c->deadline_ns = UINT64_MAX;
	pump(c, now);
}

/* ---- requests ---- */

/* A request that is whole: `used` bytes of what has come. What is behind it goes on to the server. */
static void begin(struct proxy_conn *c, size_t used, uint64_t now)
{
	struct proxy_half *up = &c->up;

	if (c->request.kind == PROXY_FORWARD) {
		size_t len = proxy_rewrite(up->bytes, used, &c->request, c->proxy->made), body = up->end - used;

		/* A second request may be for another server: it is not for this one to read. */
		if (body > c->request.body)
			body = (size_t)c->request.body;
		if (c->request.body != UINT64_MAX)
			up->left = c->request.body - body;
		memmove(up->bytes + len, up->bytes + used, body);
		memcpy(up->bytes, c->proxy->made, len);
		up->end = len + body;
	} else {
		up->begin = used;
	}
	proxy_connect(c, now);
}

/* The first words of SOCKS. False: more are needed, or it is over. */
static bool greet(struct proxy_conn *c, uint64_t now)
{
	bool good = false;
	int used = proxy_socks_greeting(c->up.bytes, c->up.end, &good);

	if (used <= 0)
		return false;
	put(&c->down, good ? (const uint8_t[]){ 5, 0 } : (const uint8_t[]){ 5, 0xff }, 2);
	memmove(c->up.bytes, c->up.bytes + used, c->up.end - (size_t)used);
	c->up.end -= (size_t)used;
	c->greeted = good;
	if (!good) {
		counters_add(&c->proxy->counted->failed, 1);
		c->state = PROXY_STATE_LAST;
		c->deadline_ns = now + LAST_NS;
		c->down.eof = true;
	}
	return good;
}

static void read_request(struct proxy_conn *c, uint64_t now)
{
	enum proxy_result why = PROXY_BAD;
	int used;

	c->request.kind = proxy_kind_of(c->greeted ? 5 : c->up.bytes[0]);
	if (c->request.kind == PROXY_NONE) {
		proxy_refuse(c, PROXY_BAD, now);
		return;
	}
	if (c->request.kind == PROXY_SOCKS && !c->greeted && !greet(c, now))
		return;
	used = c->greeted ? proxy_socks_request(c->up.bytes, c->up.end, &c->request, &why)
			  : proxy_http_request(c->up.bytes, c->up.end, &c->request, &why);
	if (used < 0)
		proxy_refuse(c, why, now);
	else if (used > 0)
		begin(c, (size_t)used, now);
}

static void on_head(struct proxy_conn *c, uint64_t now)
{
	ssize_t n = recv(c->client, c->up.bytes + c->up.end, PROXY_HEAD - c->up.end, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* it asked for nothing */
		proxy_end(c);
		return;
	}
	c->up.end += (size_t)n;
	read_request(c, now);
}

/* The answer, then what the client still says until it has heard. */
static void on_last(struct proxy_conn *c)
{
	uint8_t ignored[4096];
	ssize_t n = 1;

	if (!c->down.over && move(&c->down, -1, c->client, NULL) == MOVE_NO_READER) {
		proxy_end(c);
		return;
	}
	for (int i = 0; n > 0 && i < ROUNDS; i++)
		n = recv(c->client, ignored, sizeof(ignored), MSG_DONTWAIT);
	if (c->down.over && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)))
		proxy_end(c);
}

/* ---- the loop ---- */

void proxy_init(struct proxy *p, uint32_t flags, struct uplink_proxied *counted, uint8_t *arena)
{
	*p = (struct proxy){ .flags = flags, .counted = counted, .name_port = 53 };
	/* Who is asked for names: the one place that says so. */
	if (flags & (UPLINK_DNS4 | UPLINK_DNS6)) {
		bool own = flags & UPLINK_DENY; /* the resolver, on whatever this namespace has */
		bool four = flags & (own ? UPLINK_IP4 : UPLINK_DNS4);
		const char *server = four ? UPLINK_PASTA4 : UPLINK_PASTA6;

		if (own)
			server = four ? UPLINK_GATEWAY4 : UPLINK_GATEWAY6;
		p->name_server.family = four ? 4 : 6;
		(void)inet_pton(four ? AF_INET : AF_INET6, server, p->name_server.bytes);
	}
	for (unsigned i = 0; i < UPLINK_CONNS; i++) {
		p->conns[i].proxy = p;
		p->conns[i].client = p->conns[i].server = -1;
		p->conns[i].up.bytes = arena + 2UL * i * PROXY_BUFFER;
		p->conns[i].down.bytes = p->conns[i].up.bytes + PROXY_BUFFER;
	}
}

void proxy_take(struct proxy *p, int fd, uint64_t now)
{
	struct proxy_conn *c = p->conns;

	while (c->state != PROXY_STATE_FREE) /* there is one: the caller has looked */
		c++;
	*c = (struct proxy_conn){
		.proxy = p,
		.state = PROXY_STATE_HEAD,
		.client = fd,
		.server = -1,
		.deadline_ns = now + HEAD_NS,
		.up = { .bytes = c->up.bytes, .left = UINT64_MAX },
		.down = { .bytes = c->down.bytes, .left = UINT64_MAX },
	};
	p->nconns++;
}

/* What is waited for of a connection: of its client, of its server. A client's end shows without being asked for. */
static void prepare_one(const struct proxy_conn *c, struct pollfd fds[2])
{
	bool pending = c->down.begin < c->down.end;
	short client = 0, server = 0;

	switch (c->state) {
	case PROXY_STATE_HEAD:
		client = (short)(POLLIN | (pending ? POLLOUT : 0));
		break;
	case PROXY_STATE_NAME:
		server = POLLIN;
		break;
	case PROXY_STATE_CONNECT:
		server = POLLOUT;
		break;
	case PROXY_STATE_PUMP:
		if (c->up.begin < c->up.end)
			server |= POLLOUT;
		else if (!c->up.over)
			client |= POLLIN;
		if (pending)
			client |= POLLOUT;
		else if (!c->down.over)
			server |= POLLIN;
		break;
	case PROXY_STATE_LAST:
		client = (short)(POLLIN | (pending ? POLLOUT : 0));
		break;
	case PROXY_STATE_FREE:
		break;
	}
	fds[0] = (struct pollfd){ .fd = c->state == PROXY_STATE_FREE || (c->client_gone && !client) ? -1 : c->client,
				  .events = client };
	fds[1] = (struct pollfd){ .fd = server ? c->server : -1, .events = server };
}

static bool is_connecting(const struct proxy_conn *c)
{
	return c->state == PROXY_STATE_NAME || c->state == PROXY_STATE_CONNECT;
}

static void on_deadline(struct proxy_conn *c, uint64_t now)
{
	if (c->state == PROXY_STATE_HEAD)
		proxy_refuse(c, PROXY_LATE, now);
	else if (c->state == PROXY_STATE_LAST || c->state == PROXY_STATE_PUMP)
		proxy_end(c);
	else
		proxy_connect_late(c, now);
}

static void run_one(struct proxy_conn *c, const struct pollfd fds[2], uint64_t now)
{
	bool gone = fds[0].revents & (POLLERR | POLLHUP | POLLNVAL);

	switch (c->state) {
	case PROXY_STATE_HEAD:
		if (fds[0].revents & POLLOUT && flush(&c->down, c->client, NULL) == MOVE_NO_READER)
			proxy_end(c);
		else if (fds[0].revents & (POLLIN | POLLERR | POLLHUP))
			on_head(c, now);
		break;
	case PROXY_STATE_NAME:
	case PROXY_STATE_CONNECT:
		if (gone)
			proxy_end(c);
		else if (fds[1].revents)
			proxy_connect_ready(c, fds[1].revents, now);
		break;
	case PROXY_STATE_PUMP:
		c->client_gone |= gone; /* what it sent before is still to be read */
		if (fds[0].revents || fds[1].revents)
			pump(c, now);
		break;
	case PROXY_STATE_LAST:
		if (fds[0].revents)
			on_last(c);
		break;
	case PROXY_STATE_FREE:
		break;
	}
	if (c->state == PROXY_STATE_FREE)
		return;
	if (now >= c->deadline_ns)
		on_deadline(c, now);
	else if (is_connecting(c) && now >= c->step_ns)
		proxy_connect_step(c, now);
}

void proxy_prepare(const struct proxy *p, struct pollfd fds[PROXY_FDS])
{
	for (unsigned i = 0; i < UPLINK_CONNS; i++)
		prepare_one(&p->conns[i], fds + 2UL * i);
}

void proxy_run(struct proxy *p, const struct pollfd fds[PROXY_FDS], uint64_t now)
{
	for (unsigned i = 0; i < UPLINK_CONNS; i++)
		run_one(&p->conns[i], fds + 2UL * i, now);
}

uint64_t proxy_deadline(const struct proxy *p)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < UPLINK_CONNS; i++) {
		const struct proxy_conn *c = &p->conns[i];

		if (c->state == PROXY_STATE_FREE)
			continue;
		if (c->deadline_ns < next)
			next = c->deadline_ns;
		if (is_connecting(c) && c->step_ns < next)
			next = c->step_ns;
	}
	return next;
}
