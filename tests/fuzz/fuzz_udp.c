/*
 * The stream of a hostile guest at a published UDP port: proto_next_datagram() on exact copies, then mvm-udp's own
 * reading of it, cut into pieces by the input. Each byte pair of the first part is a length of a piece.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "udp/flows.h"

#define NOW    (1000 * UDP_NS_PER_S)
#define PIECES 8U

static struct udp udp;
static struct udp_counted counted;
static uint32_t asked;
static int client = -1, port = -1;
static uint64_t now = NOW;

static bool on_ask(void *arg, uint32_t number, unsigned index)
{
	(void)arg;
	(void)index;
	asked = number;
	return true;
}

static void set_up(void)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct udp_request request = { .nports = 1, .ports[0].family = 4 };
	socklen_t len = sizeof(own);
	void *arena = mmap(NULL, UDP_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	port = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (arena == MAP_FAILED || bind(port, (struct sockaddr *)&own, sizeof(own)) < 0 ||
	    getsockname(port, (struct sockaddr *)&own, &len) < 0 ||
	    connect(client, (struct sockaddr *)&own, sizeof(own)) < 0 || udp_set_options(port, AF_INET) < 0)
		abort();
	request.ports[0].port = ntohs(own.sin_port);
	udp_init(&udp, &request, &port, arena, &counted, NOW);
	udp.ask = on_ask;
}

static void turn(void)
{
	static struct pollfd fds[UDP_FDS];

	memset(fds, 0, sizeof(fds));
	now += UDP_NS_PER_S / 2; /* as long as the most that is read at once may cost */
	udp_run(&udp, fds, now);
	udp_prepare(&udp, fds);
	while (poll(fds, UDP_FDS, 0) < 0 && errno == EINTR)
		; /* the fuzzer's own alarm */
	udp_run(&udp, fds, now);
}

/* What whole datagrams there are, and how they end: true, in a length that none has. */
static bool expected(const uint8_t *data, size_t len, uint64_t *ret_datagrams, uint64_t *ret_bytes)
{
	size_t at = 0;
	long size;

	*ret_datagrams = *ret_bytes = 0;
	for (;;) {
		struct proto_in datagram;
		size_t n = len - at;
		uint8_t *copy = malloc(n ? n : 1);

		if (!copy)
			abort();
		memcpy(copy, data + at, n);
		size = proto_next_datagram(copy, n, &datagram);
		if (size > 0 && (datagram.pos != copy + PROTO_DATAGRAM_HEAD || datagram.end != copy + size ||
				 (size_t)size > n || (size_t)size > PROTO_DATAGRAM_HEAD + PROTO_DATAGRAM_MAX))
			abort();
		free(copy);
		if (size <= 0)
			return size < 0;
		at += (size_t)size;
		*ret_datagrams += 1;
		*ret_bytes += (uint64_t)size - PROTO_DATAGRAM_HEAD;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint64_t datagrams, bytes, said = counted.to_clients + counted.dropped[UDP_DROP_ANSWER];
	uint64_t broken = counted.broken;
	const uint8_t *cuts = data;
	char buf[64];
	int pair[2];
	bool bad;

	if (port < 0)
		set_up();
	if (len < (size_t)2 * PIECES)
		return 0;
	data += (size_t)2 * PIECES;
	len -= (size_t)2 * PIECES;
	bad = expected(data, len, &datagrams, &bytes);
	now += UDP_NS_PER_S;
	if (send(client, "x", 1, 0) != 1)
		abort();
	turn();
	if (udp.nflows != 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	udp_given(&udp, asked, pair[0], now);
	for (size_t i = 0; i <= PIECES && len; i++) {
		size_t n = i < PIECES ? (size_t)(cuts[2 * i] | cuts[2 * i + 1] << 8) : len;

		n = n < len ? n : len;
		n = n < 30000 ? n : 30000; /* what the socket holds */
		if (n && send(pair[1], data, n, MSG_NOSIGNAL) != (ssize_t)n && counted.broken == broken)
			abort();
		turn();
		data += n;
		len -= n;
		if (i == PIECES && len)
			i--;
		while (recv(client, buf, sizeof(buf), MSG_DONTWAIT) >= 0)
			;
	}
	if (counted.to_clients + counted.dropped[UDP_DROP_ANSWER] - said != datagrams ||
	    (counted.broken != broken) != bad)
		abort();
	(void)close(pair[1]);
	turn();
	if (udp.nflows || udp.nslots)
		abort();
	return 0;
}
