/* --proxy: requests read and written, and connections from a client's first byte to their end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/net_proxy.h"
#include "uplink/proxy_conn.h"
#include "uplink/proxy_request.h"
#include "uplink/rules.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* ---- requests ---- */

/* Bytes with an end that a sanitizer knows. */
static int read_http(const char *bytes, size_t len, struct proxy_request *ret, enum proxy_result *ret_why)
{
	uint8_t *copy = malloc(len ? len : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	r = proxy_http_request(copy, len, ret, ret_why);
	free(copy);
	return r;
}

static void test_http(void **state)
{
	static const struct {
		const char *text, *name;
		enum proxy_kind kind;
		unsigned family, port;
		enum proxy_result why; /* OPENED: it is read */
	} cases[] = {
		{ "CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", "example.org", PROXY_CONNECT, 0, 443, 0 },
		{ "connect Example.ORG.:443 HTTP/1.0\n\n", "example.org", PROXY_CONNECT, 0, 443, 0 },
		{ "CONNECT 10.0.0.1:1 HTTP/1.1\r\n\r\n", "", PROXY_CONNECT, 4, 1, 0 },
		{ "CONNECT [2001:db8::1]:65535 HTTP/1.1\r\n\r\n", "", PROXY_CONNECT, 6, 65535, 0 },
		{ "GET http://example.org/ HTTP/1.1\r\n\r\n", "example.org", PROXY_FORWARD, 0, 80, 0 },
		{ "POST HTTP://10.0.0.1:8080?q HTTP/1.1\r\n\r\n", "", PROXY_FORWARD, 4, 8080, 0 },
		{ "GET http://[::1]:/ HTTP/1.1\r\n\r\n", "", PROXY_FORWARD, 6, 80, 0 },
		{ "OPTIONS http://example.org HTTP/1.1\r\n\r\n", "example.org", PROXY_FORWARD, 0, 80, 0 },
		/* an address has one way to be written: the others are names, which nobody has */
		{ "CONNECT 127.1:80 HTTP/1.1\r\n\r\n", "127.1", PROXY_CONNECT, 0, 80, 0 },
		{ "CONNECT 0x7f000001:80 HTTP/1.1\r\n\r\n", "0x7f000001", PROXY_CONNECT, 0, 80, 0 },
		{ "CONNECT example.org HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT example.org: HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT example.org:0 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT example.org:65536 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT example.org:+80 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT user@example.org:80 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT 2001:db8::1:80 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT [2001:db8::1 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT [fe80::1%eth0]:80 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT [::1]80 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "CONNECT :80 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET https://example.org/ HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http:// HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http:///x HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://u:p@example.org/ HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/#f HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/ a HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/\xc3\xa4 HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/ HTTP/1.1\r\nno field\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/ HTTP/1.1\r\nA : b\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://example.org/ HTTP/1.1\r\nA: b\rB: c\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://a.b/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", NULL, 0, 0, 0,
		  PROXY_BAD },
		{ "GET http://a.b/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", NULL, 0, 0, 0,
		  PROXY_BAD },
		{ "GET http://a.b/ HTTP/1.1\r\nContent-Length: \r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://a.b/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "GET http://a.b/ HTTP/1.1\r\nContent-Length: 1000000000000000000\r\n\r\n", NULL, 0, 0, 0, PROXY_BAD },
		{ "PRI * HTTP/2.0\r\n\r\n", NULL, 0, 0, 0, PROXY_VERSION },
		{ "TRACE http://example.org/ HTTP/1.1\r\n\r\n", NULL, 0, 0, 0, PROXY_METHOD },
	};

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct proxy_request request = { 0 };
		enum proxy_result why = PROXY_OPENED;
		size_t len = strlen(cases[i].text);
		int r = read_http(cases[i].text, len, &request, &why);

		if (cases[i].why) {
			if (r != -1 || why != cases[i].why)
				fail_msg("%s: %d, %d", cases[i].text, r, (int)why);
			continue;
		}
		if (r != (int)len || request.kind != cases[i].kind || request.family != cases[i].family ||
		    request.port != cases[i].port || strcmp(request.name, cases[i].name) != 0)
			fail_msg("%s: %d, %s:%u", cases[i].text, r, request.name, request.port);
		for (size_t cut = 0; cut < len; cut++)
			assert_int_equal(read_http(cases[i].text, cut, &request, &why), 0);
	}
}

static void test_http_bounds(void **state)
{
	static char text[2 * PROXY_HEAD];
	struct proxy_request request;
	enum proxy_result why;
	size_t at = (size_t)snprintf(text, sizeof(text), "GET http://example.org/ HTTP/1.1\r\nA: ");

	(void)state;
	memset(text + at, 'a', sizeof(text) - at);
	assert_int_equal(read_http(text, PROXY_HEAD - 1, &request, &why), 0);
	assert_int_equal(read_http(text, PROXY_HEAD, &request, &why), -1);
	assert_int_equal(why, PROXY_LARGE);
	memcpy(text + PROXY_HEAD - 4, "\r\n\r\n", 4);
	assert_int_equal(read_http(text, PROXY_HEAD, &request, &why), PROXY_HEAD);
	memcpy(text + PROXY_HEAD - 4, "a\r\n\r\n", 5);
	assert_int_equal(read_http(text, PROXY_HEAD + 1, &request, &why), -1);
	assert_int_equal(why, PROXY_LARGE);
	/* NUL is as bad as any other control byte, and ends nothing */
	memcpy(text + PROXY_HEAD - 4, "\r\n\r\n", 4);
	text[100] = '\0';
	assert_int_equal(read_http(text, PROXY_HEAD, &request, &why), -1);
	assert_int_equal(why, PROXY_BAD);
}

static void test_rewrite(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{ "GET http://example.org/a?b HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\nX: y\r\n\r\n",
		  "GET /a?b HTTP/1.1\r\nHost: example.org\r\nX: y\r\nConnection: close\r\nVia: 1.1 mvm\r\n\r\n" },
		{ "PUT http://[::1]:81 HTTP/1.0\nContent-Length: 3\n\n",
		  "PUT / HTTP/1.0\r\nHost: [::1]:81\r\nContent-Length: 3\r\nConnection: close\r\nVia: 1.1 "
		  "mvm\r\n\r\n" },
		{ "GET http://Example.org?q HTTP/1.1\r\n\r\n",
		  "GET /?q HTTP/1.1\r\nHost: Example.org\r\nConnection: close\r\nVia: 1.1 mvm\r\n\r\n" },
		{ "OPTIONS http://a.b HTTP/1.1\r\n\r\n",
		  "OPTIONS * HTTP/1.1\r\nHost: a.b\r\nConnection: close\r\nVia: 1.1 mvm\r\n\r\n" },
		{ "GET http://a.b/ HTTP/1.1\r\nconnection: x-one ,\tX-Two,content-length\r\nX-One: 1\r\nx-two: "
		  "2\r\nX-Three: 3\r\n"
		  "Content-Length: 0\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
		  "GET / HTTP/1.1\r\nHost: a.b\r\nX-Three: 3\r\nContent-Length: 0\r\nConnection: close\r\nVia: 1.1 "
		  "mvm\r\n\r\n" },
	};
	static uint8_t out[PROXY_REWRITE];

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct proxy_request request;
		enum proxy_result why;
		int len = read_http(cases[i].from, strlen(cases[i].from), &request, &why);
		size_t n;

		assert_int_equal(len, strlen(cases[i].from));
		n = proxy_rewrite((const uint8_t *)cases[i].from, (size_t)len, &request, out);
		if (n != strlen(cases[i].to) || memcmp(out, cases[i].to, n) != 0)
			fail_msg("%.*s", (int)n, (const char *)out);
	}
}

static void test_socks(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *name;
		unsigned family, port;
		enum proxy_result why;
	} cases[] = {
		{ "\5\1\0\1\12\0\0\1\0\120", 10, "", 4, 80, 0 },
		{ "\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273", 22, "", 6, 443, 0 },
		{ "\5\1\0\3\13example.org\0\120", 18, "example.org", 0, 80, 0 },
		{ "\5\1\0\3\10"
		  "10.0.0.1\0\120",
		  15, "", 4, 80, 0 },
		{ "\5\1\0\3\3"
		  "::1\0\120",
		  10, "", 6, 80, 0 },
		{ "\5\1\0\1\12\0\0\1\0\0", 10, NULL, 0, 0, PROXY_BAD },
		{ "\5\1\0\3\0\0\120", 7, NULL, 0, 0, PROXY_BAD },
		{ "\5\1\0\3\3a\0b\0\120", 10, NULL, 0, 0, PROXY_BAD },
		{ "\5\1\0\3\3a b\0\120", 10, NULL, 0, 0, PROXY_BAD },
		{ "\4\1\0\3\3a.b\0\120", 10, NULL, 0, 0, PROXY_BAD },
		{ "\5\2\0\1\12\0\0\1\0\120", 10, NULL, 0, 0, PROXY_COMMAND },
		{ "\5\3\0\1\12\0\0\1\0\120", 10, NULL, 0, 0, PROXY_COMMAND },
		{ "\5\1\0\2\12\0\0\1\0\120", 10, NULL, 0, 0, PROXY_ADDRESS },
	};
	bool good = false;

	(void)state;
	for (size_t i = 0; i < N(cases); i++) {
		struct proxy_request request;
		enum proxy_result why = PROXY_OPENED;

		for (size_t cut = 0; cut <= cases[i].len; cut++) {
			uint8_t *copy = malloc(cut ? cut : 1);
			int r;

			memcpy(copy, cases[i].bytes, cut);
			r = proxy_socks_request(copy, cut, &request, &why);
			free(copy);
			if (cut < cases[i].len) {
				assert_true(r == 0 || (r == -1 && cases[i].why));
				continue;
			}
			assert_int_equal(r, cases[i].why ? -1 : (int)cut);
			assert_int_equal(why, cases[i].why);
		}
		if (!cases[i].why) {
			assert_string_equal(request.name, cases[i].name);
			assert_int_equal(request.family, cases[i].family);
			assert_int_equal(request.port, cases[i].port);
		}
	}
	assert_int_equal(proxy_socks_greeting((const uint8_t *)"\5", 1, &good), 0);
	assert_int_equal(proxy_socks_greeting((const uint8_t *)"\5\2\2", 3, &good), 0);
	assert_int_equal(proxy_socks_greeting((const uint8_t *)"\5\2\2\0x", 5, &good), 4);
	assert_true(good);
	assert_int_equal(proxy_socks_greeting((const uint8_t *)"\5\2\2\1", 4, &good), 4);
	assert_false(good);
	assert_int_equal(proxy_socks_greeting((const uint8_t *)"\5\0", 2, &good), 2);
	assert_false(good);
}

/* Whatever is answered fits, says what it is about, and is one line and a body of the length that it tells. */
static void test_answers(void **state)
{
	struct proxy_request request = { .kind = PROXY_CONNECT, .port = 80 };
	uint8_t out[PROXY_ANSWER + 1];

	(void)state;
	memset(request.name, 'a', DNS_NAME - 1);
	for (unsigned result = PROXY_POLICY; result <= PROXY_FAILED; result++) {
		size_t n = proxy_answer(&request, result, "[2001:db8:1111:1111:1111:1111:1111:1111]:65535", "why not",
					out);
		char *head = (char *)out, *body, *length;

		assert_in_range(n, 20, PROXY_ANSWER - 1);
		out[n] = '\0';
		body = strstr(head, "\r\n\r\n");
		length = strstr(head, "Content-Length: ");
		assert_true(body && length);
		assert_int_equal(strlen(body + 4), strtoul(length + 16, NULL, 10));
		assert_memory_equal(head, "HTTP/1.1 ", 9);
	}
	request.name[0] = '\0';
	out[proxy_answer(&request, PROXY_POLICY, "10.0.0.1:80", "why not", out)] = '\0';
	assert_non_null(strstr((char *)out, "HTTP/1.1 403 mvm: 10.0.0.1:80 is refused: why not: see mvm run "
					    "--allow-egress 10.0.0.1:80\r\n"));
	assert_int_equal(proxy_answer(&request, PROXY_OPENED, "", "", out), 39);
	request.kind = PROXY_FORWARD;
	assert_int_equal(proxy_answer(&request, PROXY_OPENED, "", "", out), 0);
	request.kind = PROXY_SOCKS;
	assert_int_equal(proxy_answer(&request, PROXY_POLICY, "", "", out), 10);
	assert_memory_equal(out, "\5\2\0\1\0\0\0\0\0\0", 10);
}

/* ---- connections ---- */

static struct proxy proxy;
static struct uplink_proxied counted;
static uint64_t ahead; /* of the clock, ns */

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * PROXY_NS_PER_S + (uint64_t)now.tv_nsec + ahead;
}

static int set_up(void **state)
{
	static void *arena;

	(void)state;
	if (!arena)
		arena = mmap(NULL, PROXY_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			     0);
	assert_ptr_not_equal(arena, MAP_FAILED);
	memset(&counted, 0, sizeof(counted));
	proxy_init(&proxy, UPLINK_IP4, &counted, arena);
	ahead = 0;
	return 0;
}

/* Turns of its loop until nothing happens for a moment. */
static void turn(void)
{
	static struct pollfd fds[PROXY_FDS];

	for (int quiet = 0; quiet < 2; quiet++) {
		int n;

		proxy_prepare(&proxy, fds);
		n = poll(fds, PROXY_FDS, 20);
		assert_true(n >= 0);
		if (n > 0)
			quiet = 0;
		proxy_run(&proxy, fds, now_ns());
	}
}

/* The client's end. */
static int client_of(const char *bytes, size_t len)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	assert_true(proxy.nconns < UPLINK_CONNS);
	proxy_take(&proxy, pair[1], now_ns());
	assert_int_equal(send(pair[0], bytes, len, MSG_NOSIGNAL), len);
	turn();
	return pair[0];
}

static int server(int kind, uint16_t *ret_port)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(here);
	int fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&here, len), 0);
	assert_int_equal(kind == SOCK_STREAM ? listen(fd, 8) : 0, 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &len), 0);
	*ret_port = ntohs(here.sin_port);
	return fd;
}

static int accept_one(int listener)
{
	int fd;

	turn();
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* What has come, as text; NULL: that was the end. */
static const char *heard(int fd)
{
	static char text[70000];
	ssize_t n;

	turn();
	n = recv(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		assert_int_equal(errno, EAGAIN);
	if (n == 0)
		return NULL;
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	turn();
}

static void test_tunnel(void **state)
{
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), client, end;
	char text[100];

	(void)state;
	(void)snprintf(text, sizeof(text), "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\nearly", port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	assert_string_equal(heard(client), "HTTP/1.1 200 Connection established\r\n\r\n");
	assert_string_equal(heard(end), "early");
	say(end, "answer");
	assert_string_equal(heard(client), "answer");
	/* each half by itself */
	assert_int_equal(shutdown(client, SHUT_WR), 0);
	assert_null(heard(end));
	say(end, "last");
	assert_string_equal(heard(client), "last");
	assert_int_equal(proxy.nconns, 1);
	(void)close(end);
	assert_null(heard(client));
	assert_int_equal(proxy.nconns, 0);
	(void)close(client);
	(void)close(listener);
	assert_int_equal(counted.opened, 1);
	assert_int_equal(counted.from_guest_bytes, 5);
	assert_int_equal(counted.to_guest_bytes, 39 + 6 + 4);
}

static void test_tunnel_socks(void **state)
{
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), client, end;
	uint8_t bytes[] = { 5, 1, 0, 1, 127, 0, 0, 1, 0, 0 };

	(void)state;
	bytes[8] = (uint8_t)(port >> 8);
	bytes[9] = (uint8_t)port;
	client = client_of("\5\2\0\1", 4);
	assert_memory_equal(heard(client), "\5\0", 3);
	assert_int_equal(send(client, bytes, sizeof(bytes), 0), sizeof(bytes));
	end = accept_one(listener);
	assert_memory_equal(heard(client), "\5\0\0\1\0\0\0\0\0\0", 11);
	say(client, "hello");
	assert_string_equal(heard(end), "hello");
	/* a client that is gone: its last words arrive */
	assert_int_equal(send(client, "bye", 3, 0), 3);
	(void)close(client);
	assert_string_equal(heard(end), "bye");
	assert_null(heard(end));
	assert_int_equal(proxy.nconns, 0);
	(void)close(end);
	(void)close(listener);
	client = client_of("\5\1\2", 3);
	assert_memory_equal(heard(client), "\5\377", 3);
	assert_null(heard(client));
	(void)close(client);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

static void test_forward(void **state)
{
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), client, end;
	char text[200], want[200];

	(void)state;
	(void)snprintf(text, sizeof(text), "POST http://127.0.0.1:%u/x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody",
		       port);
	(void)snprintf(want, sizeof(want),
		       "POST /x HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Length: 4\r\nConnection: close\r\nVia: 1.1 "
		       "mvm\r\n\r\nbody",
		       port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	assert_string_equal(heard(end), want);
	say(end, "HTTP/1.1 204 No Content\r\n\r\n");
	(void)close(end);
	assert_string_equal(heard(client), "HTTP/1.1 204 No Content\r\n\r\n");
	assert_null(heard(client));
	(void)close(client);
	turn();
	assert_int_equal(proxy.nconns, 0);
	/* what is behind the body is another request, which may be for somebody else */
	(void)snprintf(
		text, sizeof(text),
		"GET http://127.0.0.1:%u/ HTTP/1.1\r\ncontent-length:\t6 \r\n\r\nbodGET http://a.b/ HTTP/1.1\r\n\r\n",
		port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	assert_non_null(strstr(heard(end), "\r\n\r\nbodGET"));
	say(client, "more");
	assert_string_equal(heard(end), "");
	say(end, "answer");
	assert_string_equal(heard(client), "answer");
	(void)close(end);
	assert_null(heard(client));
	(void)close(client);
	/* a body whose end it tells itself */
	(void)snprintf(text, sizeof(text), "GET http://127.0.0.1:%u/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
		       port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	(void)heard(end);
	say(client, "1\r\nx");
	assert_string_equal(heard(end), "1\r\nx");
	(void)close(end);
	(void)close(client);
	(void)close(listener);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

/* The answer, its end, and that nothing of the connection is left. */
static void refused(const char *request, const char *status)
{
	int client = client_of(request, strlen(request));
	const char *answer = heard(client);

	if (!answer || strncmp(answer, "HTTP/1.1 ", 9) != 0 || strncmp(answer + 9, status, 3) != 0)
		fail_msg("%s: %s", request, answer ? answer : "nothing");
	assert_null(heard(client));
	(void)close(client);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

static void test_refused(void **state)
{
	uint16_t port;
	char text[100];

	(void)state;
	(void)close(server(SOCK_STREAM, &port));
	(void)snprintf(text, sizeof(text), "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", port);
	refused(text, "502");
	refused("CONNECT example.org:80 HTTP/1.1\r\n\r\n", "403"); /* there is no name server */
	refused("GET / HTTP/1.1\r\n\r\n", "400");
	refused("\1\2\3", "400");
	refused("TRACE http://a.b/ HTTP/1.1\r\n\r\n", "405");
	assert_int_equal(counted.refused, 1);
	assert_int_equal(counted.failed, 4);
}

/* Heads that do not come, answers that are not read, and clients that leave. */
static void test_late(void **state)
{
	static char large[PROXY_HEAD + 100];
	int client = client_of("CONNECT ", 8);

	(void)state;
	assert_string_equal(heard(client), "");
	ahead = 31 * PROXY_NS_PER_S;
	assert_memory_equal(heard(client), "HTTP/1.1 408", 12);
	ahead = 60 * PROXY_NS_PER_S;
	turn();
	assert_int_equal(proxy.nconns, 0);
	(void)close(client);
	/* one that speaks on when it was refused */
	memset(large, 'a', sizeof(large));
	client = client_of(large, sizeof(large));
	assert_memory_equal(heard(client), "HTTP/1.1 431", 12);
	assert_int_equal(send(client, large, sizeof(large), MSG_NOSIGNAL), sizeof(large));
	turn();
	(void)close(client);
	turn();
	assert_int_equal(proxy.nconns, 0);
	/* one that leaves while it is connected for: a name server that says nothing */
	proxy.name_server = (struct proxy_address){ .family = 4, .bytes = { 127, 0, 0, 1 } };
	(void)close(server(SOCK_DGRAM, &proxy.name_port));
	client = client_of("CONNECT a.b:80 HTTP/1.1\r\n\r\n", 27);
	(void)close(client);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

/* A reader that does not read costs two buffers, and holds nobody up. */
static void test_slow(void **state)
{
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), client, end, other, other_end;
	static char bytes[65536];
	char text[100];
	uint64_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	(void)snprintf(text, sizeof(text), "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	for (int idle = 0; idle < 3; idle++) {
		while ((n = send(end, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
			sent += (uint64_t)n;
			idle = 0;
		}
		turn();
	}
	other = client_of(text, strlen(text));
	other_end = accept_one(listener);
	say(other, "hello");
	assert_string_equal(heard(other_end), "hello");
	(void)shutdown(end, SHUT_WR);
	while (heard(client)) /* text with NULs in it: counted by the proxy */
		;
	got = counted.to_guest_bytes;
	assert_int_equal(got, sent + 2 * 39);
	(void)close(end);
	(void)close(client);
	(void)close(other);
	(void)close(other_end);
	(void)close(listener);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

/* A client that is gone, with bytes on their way to it, and a server that does not read: nothing turns until it does. */
static void test_gone(void **state)
{
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), client, end;
	static char bytes[65536];
	char text[100];

	(void)state;
	(void)snprintf(text, sizeof(text), "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	for (int idle = 0; idle < 3; idle++) {
		while (send(end, bytes, sizeof(bytes), MSG_DONTWAIT) > 0 ||
		       send(client, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			idle = 0;
		turn();
	}
	(void)close(client);
	turn();
	assert_int_equal(proxy.nconns, 1);
	while (proxy.nconns) { /* at last by a reset: what it had sent was not wanted */
		while (recv(end, bytes, sizeof(bytes), 0) > 0)
			;
		turn();
	}
	assert_int_equal(proxy.nconns, 0);
	(void)close(end);
	(void)close(listener);
}

/* A question that has come, answered with `address`, or with none. */
static void answer(int names, const char *address)
{
	uint8_t message[DNS_MESSAGE], code;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct dns_question question;
	struct dns_answer reply = { .code = DNS_NOERROR };
	ssize_t n;

	turn();
	n = recvfrom(names, message, sizeof(message), 0, (struct sockaddr *)&from, &len);
	assert_true(n > 0);
	assert_int_equal(dns_parse_question(message, (size_t)n, &question, &code), 0);
	assert_string_equal(question.name, "www.example.org");
	if (address && question.type == DNS_A) {
		reply.n = 1;
		(void)inet_pton(AF_INET, address, reply.addresses[0].bytes);
	}
	n = (ssize_t)dns_put_answer(message, &question, &reply);
	assert_int_equal(sendto(names, message, (size_t)n, 0, (struct sockaddr *)&from, len), n);
	turn();
}

static void test_names(void **state)
{
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), names = server(SOCK_DGRAM, &proxy.name_port), client, end;
	char text[100];
	uint8_t message[DNS_MESSAGE];

	(void)state;
	proxy.name_server = (struct proxy_address){ .family = 4, .bytes = { 127, 0, 0, 1 } };
	(void)snprintf(text, sizeof(text), "CONNECT WWW.example.org:%u HTTP/1.1\r\n\r\n", port);
	client = client_of(text, strlen(text));
	answer(names, "127.0.0.1");
	end = accept_one(listener);
	assert_memory_equal(heard(client), "HTTP/1.1 200", 12);
	(void)close(client);
	(void)close(end);
	turn();
	/* no such name; and a question of both families */
	proxy.flags |= UPLINK_IP6;
	client = client_of(text, strlen(text));
	answer(names, NULL);
	assert_string_equal(heard(client), "");
	answer(names, NULL);
	assert_memory_equal(heard(client), "HTTP/1.1 502", 12);
	(void)close(client);
	turn();
	/* one family's answer does not come; the other's is enough */
	client = client_of(text, strlen(text));
	answer(names, "127.0.0.1");
	ahead = PROXY_NS_PER_S;
	end = accept_one(listener);
	assert_memory_equal(heard(client), "HTTP/1.1 200", 12);
	(void)close(client);
	(void)close(end);
	turn();
	/* neither comes, and it is asked again */
	while (recv(names, message, sizeof(message), 0) > 0)
		;
	client = client_of(text, strlen(text));
	assert_true(recv(names, message, sizeof(message), 0) > 0 && recv(names, message, sizeof(message), 0) > 0);
	ahead += 3 * PROXY_NS_PER_S;
	turn();
	assert_true(recv(names, message, sizeof(message), 0) > 0);
	ahead += 11 * PROXY_NS_PER_S;
	assert_memory_equal(heard(client), "HTTP/1.1 504", 12);
	(void)close(client);
	turn();
	/* nobody is there */
	(void)close(names);
	client = client_of(text, strlen(text));
	ahead += 3 * PROXY_NS_PER_S; /* what came of the first question shows with the second at the latest */
	assert_memory_equal(heard(client), "HTTP/1.1 504", 12);
	(void)close(client);
	(void)close(listener);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

/* As many as may be, of which none holds the others up. */
static void test_many(void **state)
{
	static int clients[UPLINK_CONNS - 1];
	uint16_t port;
	int listener = server(SOCK_STREAM, &port), client, end;
	char text[100];

	(void)state;
	for (size_t i = 0; i < N(clients); i++)
		clients[i] = client_of("C", 1);
	assert_int_equal(proxy.nconns, N(clients));
	(void)snprintf(text, sizeof(text), "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", port);
	client = client_of(text, strlen(text));
	end = accept_one(listener);
	assert_memory_equal(heard(client), "HTTP/1.1 200", 12);
	for (size_t i = 0; i < N(clients); i++)
		(void)close(clients[i]);
	turn();
	assert_int_equal(proxy.nconns, 1);
	(void)close(client);
	(void)close(end);
	(void)close(listener);
	turn();
	assert_int_equal(proxy.nconns, 0);
}

/* ---- the supervisor's side ---- */

static void test_hand_over(void **state)
{
	struct net_proxy host;
	struct uplink_proxied *theirs, copy;
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int fds[2], client, got, n = 0;

	(void)state;
	net_proxy_init(&host);
	assert_int_equal(net_proxy_dial(&host), -ECONNREFUSED);
	assert_int_equal(net_proxy_open(&host, fds), 0);
	theirs = mmap(NULL, sizeof(*theirs), PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	assert_ptr_not_equal(theirs, MAP_FAILED);
	assert_int_equal(ftruncate(fds[1], 0), -1); /* its size is ours to rely on */
	theirs->refused = 7;
	net_proxy_counted(&host, &copy);
	assert_int_equal(copy.refused, 7);
	client = net_proxy_dial(&host);
	assert_true(client >= 0 && fcntl(client, F_GETFL) & O_NONBLOCK);
	assert_int_equal(recvmsg(fds[0], &msg, MSG_DONTWAIT), 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(got));
	assert_int_equal(send(got, "x", 1, 0), 1);
	assert_int_equal(recv(client, &byte, 1, 0), 1);
	(void)close(got);
	(void)close(client);
	/* one that takes none: bounded, and told */
	while ((client = net_proxy_dial(&host)) >= 0 && n++ < 10000)
		(void)close(client);
	assert_true(n < 10000);
	(void)close(fds[0]);
	assert_true(net_proxy_dial(&host) < 0);
	(void)munmap(theirs, sizeof(*theirs));
	(void)close(fds[1]);
	net_proxy_close(&host);
	assert_int_equal(host.fd, -1);
	net_proxy_counted(&host, &copy);
	assert_int_equal(copy.refused, 0);
}

/* The same policy, of what the namespace itself sends; and nobody on a link. */
/* Where a connection of a request's may go: the chains of the kinds of address, then the guest's way through them. */
static void policy_chains(char *rules, char **kinds, char **way)
{
	*kinds = strstr(rules, "\tchain to_host {");
	*way = strstr(rules, "\t\tip daddr { 0.0.0.0/8, 127.0.0.0/8 }");
	assert_non_null(*kinds);
	assert_true(*way > *kinds);
	*strstr(rules, "\tchain forward {") = '\0';
	*strstr(*kinds, "\tchain guest {") = '\0';
}

static void test_rules(void **state)
{
	struct uplink_request request = { .flags = UPLINK_IP4 | UPLINK_IP6 | UPLINK_DNS4 };
	char *guest = rules_text(&request), *own, *kinds[2], *way[2];

	(void)state;
	request.flags |= UPLINK_PROXY;
	own = rules_text(&request);
	assert_non_null(strstr(own, "hook output"));
	assert_null(strstr(strstr(guest, "\tchain output {"), "goto guest"));
	assert_null(strstr(own, UPLINK_VM));
	assert_null(strstr(own, "tcp reset"));
	policy_chains(own, &kinds[0], &way[0]);
	policy_chains(guest, &kinds[1], &way[1]);
	assert_string_equal(kinds[0], kinds[1]);
	assert_string_equal(way[0], way[1]);
	free(own);
	free(guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http),
		cmocka_unit_test(test_http_bounds),
		cmocka_unit_test(test_rewrite),
		cmocka_unit_test(test_socks),
		cmocka_unit_test(test_answers),
		cmocka_unit_test_setup(test_tunnel, set_up),
		cmocka_unit_test_setup(test_tunnel_socks, set_up),
		cmocka_unit_test_setup(test_forward, set_up),
		cmocka_unit_test_setup(test_refused, set_up),
		cmocka_unit_test_setup(test_late, set_up),
		cmocka_unit_test_setup(test_slow, set_up),
		cmocka_unit_test_setup(test_gone, set_up),
		cmocka_unit_test_setup(test_names, set_up),
		cmocka_unit_test_setup(test_many, set_up),
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
