/* A destination's addresses, and the one of them that answers. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uplink/proxy_conn.h"

#define CONNECT_NS (30 * PROXY_NS_PER_S) /* for all addresses */
#define ADDRESS_NS (5 * PROXY_NS_PER_S) /* for one of them, but for the last */
#define NAME_NS    (10 * PROXY_NS_PER_S) /* for the name server */
#define AGAIN_NS   (2 * PROXY_NS_PER_S) /* until it is asked again */
#define WRONG_MAX  8U
#define OTHER_NS   (PROXY_NS_PER_S / 4) /* until it is no longer waited for the other family's addresses */

void proxy_address_text(const struct proxy_address *address, uint16_t port, char text[PROXY_WHERE])
{
	char bare[INET6_ADDRSTRLEN] = "";

	(void)inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, bare, sizeof(bare));
	(void)snprintf(text, PROXY_WHERE, address->family == 4 ? "%s:%u" : "[%s]:%u", bare, port);
}

/* ---- connecting ---- */

/* A worse answer does not hide a better one. */
static void note(struct proxy_conn *c, const struct proxy_address *address, int error)
{
	enum proxy_result result;

	switch (error) {
	case EHOSTUNREACH:
	case EACCES:
	case EPERM:
		result = PROXY_POLICY;
		break;
	case ECONNREFUSED:
	case ECONNRESET:
		result = PROXY_REFUSED;
		break;
	case ETIMEDOUT:
		result = PROXY_TIMEOUT;
		break;
	case ENETUNREACH:
	case EAFNOSUPPORT:
	case EADDRNOTAVAIL:
		result = PROXY_UNREACHABLE;
		break;
	default:
		result = PROXY_FAILED;
	}
	if (result == PROXY_POLICY && c->result != PROXY_POLICY)
		c->refused = *address;
	if (c->result != PROXY_POLICY)
		c->result = result;
}

static socklen_t socket_address(const struct proxy_address *address, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (address->family == 4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		memcpy(&four->sin_addr, address->bytes, 4);
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	memcpy(&six->sin6_addr, address->bytes, 16);
	return sizeof(*six);
}

static int error_of(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

/* 0: connected, or on the way; else errno. */
static int connect_to(struct proxy_conn *c, const struct proxy_address *address)
{
	struct sockaddr_storage to;
	socklen_t len = socket_address(address, c->request.port, &to);
	int one = 1;

	c->server = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->server < 0)
		return errno;
	/* The client cut its bytes into packets already: a hint that may fail. */
	(void)setsockopt(c->server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->server, (const struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS)
		return errno;
	/*
	 * What the rules refuse is refused before connect(2) returns; as the socket is in use then, their word is its soft
	 * error, that a later attempt of the kernel's would make a hard one a second from now.
	 */
	return error_of(c->server);
}

/* The next address; after the last one its client is told. */
static void connect_next(struct proxy_conn *c, uint64_t now)
{
	proxy_drop(&c->server);
	while (c->at < c->naddresses && now < c->deadline_ns) {
		const struct proxy_address *address = &c->addresses[c->at++];
		uint64_t left = c->deadline_ns - now;
		int error = connect_to(c, address);

		if (!error) {
			c->step_ns = c->at < c->naddresses && left > ADDRESS_NS ? now + ADDRESS_NS : c->deadline_ns;
			return;
		}
		note(c, address, error);
		proxy_drop(&c->server);
	}
	proxy_refuse(c, c->result ? c->result : PROXY_TIMEOUT, now);
}

static void begin_connect(struct proxy_conn *c, uint64_t now)
{
	c->state = PROXY_STATE_CONNECT;
	c->at = 0;
	c->deadline_ns = now + CONNECT_NS;
	connect_next(c, now);
}

/* ---- names ---- */

static const uint16_t types[2] = { DNS_A, DNS_AAAA };

static struct dns_question question_of(const struct proxy_conn *c, unsigned i)
{
	struct dns_question question = { .id = c->ids[i], .type = types[i], .recursion = true };

	memcpy(question.name, c->request.name, sizeof(question.name));
	return question;
}

static void names_over(struct proxy_conn *c, uint64_t now)
{
	proxy_drop(&c->server);
	if (c->naddresses)
		begin_connect(c, now);
	else
		proxy_refuse(c, c->unnamed ? PROXY_UNNAMED : c->answered ? PROXY_NO_NAME : PROXY_NO_ANSWER, now);
}

/* A question that is lost is asked again; where nobody takes any there is nothing to wait for. */
static void ask(struct proxy_conn *c, uint64_t now)
{
	uint8_t message[DNS_MESSAGE];

	for (unsigned i = 0; i < 2; i++) {
		struct dns_question question = question_of(c, i);
		size_t len = dns_put_question(message, &question);

		if (!c->waiting[i] || send(c->server, message, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
		    errno == EAGAIN || errno == ENOBUFS)
			continue;
		names_over(c, now);
		return;
	}
	c->step_ns = now + AGAIN_NS;
}

static void begin_name(struct proxy_conn *c, uint64_t now)
{
	struct sockaddr_storage to;
	socklen_t len;

	if (!c->proxy->name_server.family) {
		proxy_refuse(c, PROXY_UNNAMED, now);
		return;
	}
	len = socket_address(&c->proxy->name_server, c->proxy->name_port, &to);
	c->server = socket(to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->server < 0 || connect(c->server, (const struct sockaddr *)&to, len) < 0 ||
	    syscall(SYS_getrandom, c->ids, sizeof(c->ids), 0) != (ssize_t)sizeof(c->ids)) {
		proxy_refuse(c, PROXY_FAILED, now);
		return;
	}
	c->state = PROXY_STATE_NAME;
	c->deadline_ns = now + NAME_NS;
	c->waiting[0] = c->proxy->flags & UPLINK_IP4;
	c->waiting[1] = c->proxy->flags & UPLINK_IP6;
	c->naddresses = 0;
	ask(c, now);
}

/* IPv6 first (RFC 6724 §2.1), then of each in turn (RFC 8305 §4): of either some have room. */
static void take_answer(struct proxy_conn *c, unsigned type, const struct dns_answer *answer)
{
	struct proxy_address of[2][PROXY_TRIES];
	unsigned n[2] = { 0, 0 }, at[2] = { 0, 0 };

	c->answered |= answer->code == DNS_NOERROR || answer->code == DNS_NXDOMAIN;
	c->unnamed |= answer->code == DNS_REFUSED && c->proxy->flags & UPLINK_DENY;
	for (unsigned i = 0; i < c->naddresses; i++)
		of[c->addresses[i].family == 6][n[c->addresses[i].family == 6]++] = c->addresses[i];
	for (unsigned i = 0; i < answer->n && n[type] < PROXY_TRIES; i++) {
		struct proxy_address *address = &of[type][n[type]++];

		address->family = type ? 6 : 4;
		memcpy(address->bytes, answer->addresses[i].bytes, sizeof(address->bytes));
	}
	c->naddresses = 0;
	for (unsigned six = 1; c->naddresses < PROXY_TRIES && (at[0] < n[0] || at[1] < n[1]); six = !six)
		if (at[six] < n[six])
			c->addresses[c->naddresses++] = of[six][at[six]++];
}

static void on_answer(struct proxy_conn *c, uint64_t now)
{
	uint8_t message[4096];
	struct dns_answer answer;
	ssize_t n = 0;

	while (c->wrong < WRONG_MAX && (n = recv(c->server, message, sizeof(message), MSG_DONTWAIT)) >= 0) {
		unsigned i = 0;

		for (; i < 2; i++) {
			struct dns_question question = question_of(c, i);

			if (c->waiting[i] && dns_parse_answer(message, (size_t)n, &question, &answer) == 0)
				break;
		}
		if (i == 2) {
			c->wrong++;
			continue;
		}
		c->waiting[i] = false;
		take_answer(c, i, &answer);
	}
	if (c->wrong == WRONG_MAX ||
	    (n < 0 && errno != EAGAIN && errno != EINTR)) /* somebody guesses, or nobody is there */
		c->waiting[0] = c->waiting[1] = false;
	if (!c->waiting[0] && !c->waiting[1])
		names_over(c, now);
	else if (c->naddresses && c->step_ns > now + OTHER_NS)
		c->step_ns = now + OTHER_NS;
}

static void on_connecting(struct proxy_conn *c, short events, uint64_t now)
{
	int error = error_of(c->server);

	if (error) {
		note(c, &c->addresses[c->at - 1], error);
		connect_next(c, now);
	} else if (events & POLLOUT) {
		proxy_opened(c, now);
	}
}

/* ---- for proxy_conn.c ---- */

void proxy_connect(struct proxy_conn *c, uint64_t now)
{
	if (!c->request.family) {
		begin_name(c, now);
		return;
	}
	c->addresses[0].family = c->request.family;
	memcpy(c->addresses[0].bytes, c->request.address, sizeof(c->request.address));
	c->naddresses = 1;
	begin_connect(c, now);
}

void proxy_connect_ready(struct proxy_conn *c, short events, uint64_t now)
{
	if (c->state == PROXY_STATE_NAME)
		on_answer(c, now);
	else
		on_connecting(c, events, now);
}

void proxy_connect_late(struct proxy_conn *c, uint64_t now)
{
	if (c->state == PROXY_STATE_NAME)
		names_over(c, now);
	else
		proxy_refuse(c, c->result ? c->result : PROXY_TIMEOUT, now);
}

void proxy_connect_step(struct proxy_conn *c, uint64_t now)
{
	if (c->state == PROXY_STATE_NAME && c->naddresses) {
		names_over(c, now);
	} else if (c->state == PROXY_STATE_NAME) {
		ask(c, now);
	} else {
		note(c, &c->addresses[c->at - 1], ETIMEDOUT);
		connect_next(c, now);
	}
}
