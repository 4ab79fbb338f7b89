/* Clients of published UDP ports (mvm-udp): flows, framing, bounds, time. The clock is the test's. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/publish_udp.h"
#include "udp/flows.h"

#define BEGAN (1000 * UDP_NS_PER_S)

struct world {
	struct udp udp;
	struct udp_counted counted;
	uint64_t now;
	unsigned nports;
	int ports[PROTO_PUBLISH_MAX];
	uint16_t numbers[PROTO_PUBLISH_MAX];
	uint32_t asked[2048];
	unsigned nasked, answered;
	bool deaf;
};

static struct world world;

static bool on_ask(void *arg, uint32_t number, unsigned port)
{
	struct world *w = arg;

	assert_true(port < w->nports);
	if (w->deaf)
		return false;
	assert_true(w->nasked < sizeof(w->asked) / sizeof(w->asked[0]));
	w->asked[w->nasked++] = number;
	return true;
}

static int udp_socket_of(int family, unsigned host, struct sockaddr_storage *ret)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	ret->ss_family = (sa_family_t)family;
	if (family == AF_INET)
		((struct sockaddr_in *)ret)->sin_addr.s_addr = htonl((INADDR_LOOPBACK & ~0xffU) | host);
	else
		((struct sockaddr_in6 *)ret)->sin6_addr = in6addr_loopback;
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)ret,
			      family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)),
			 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &len), 0);
	return fd;
}

static int udp_socket(int family, struct sockaddr_storage *ret)
{
	return udp_socket_of(family, 1, ret);
}

static void open_world(unsigned nports, int family)
{
	struct world *w = &world;
	struct udp_request request = { .nports = nports };
	void *arena = mmap(NULL, UDP_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	memset(w, 0, sizeof(*w));
	assert_ptr_not_equal(arena, MAP_FAILED);
	w->now = BEGAN;
	w->nports = nports;
	for (unsigned i = 0; i < nports; i++) {
		struct sockaddr_storage own;

		w->ports[i] = udp_socket(family, &own);
		w->numbers[i] = ntohs(((struct sockaddr_in *)&own)->sin_port); /* at the same place in IPv6's */
		request.ports[i].port = w->numbers[i];
		request.ports[i].family = family == AF_INET ? 4 : 6;
		assert_int_equal(udp_set_options(w->ports[i], (unsigned)family), 0);
	}
	udp_init(&w->udp, &request, w->ports, arena, &w->counted, w->now);
	w->udp.ask = on_ask;
	w->udp.arg = w;
}

static void close_world(void)
{
	struct world *w = &world;

	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++)
		if (w->udp.flows[i].fd >= 0)
			(void)close(w->udp.flows[i].fd);
	for (unsigned i = 0; i < w->nports; i++)
		(void)close(w->ports[i]);
	(void)munmap(w->udp.arena, UDP_ARENA);
}

static void turn(void)
{
	static struct pollfd fds[UDP_FDS];

	udp_prepare(&world.udp, fds);
	(void)poll(fds, UDP_FDS, 0);
	udp_run(&world.udp, fds, world.now);
}

/* The oldest ask is answered; the guest's end. */
static int give(void)
{
	int pair[2];

	assert_true(world.answered < world.nasked);
	assert_int_equal(publish_udp_pair(pair), 0);
	udp_given(&world.udp, world.asked[world.answered++], pair[0], world.now);
	return pair[1];
}

/* `host`: of 127.0.0.0/24, by IPv4. */
static int client_from(unsigned port, unsigned host)
{
	struct sockaddr_storage own;
	int family = world.udp.ports[port].family, fd = udp_socket_of(family, host, &own);
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(world.numbers[port]),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
				    .sin6_port = htons(world.numbers[port]),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	if (family == AF_INET)
		assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	else
		assert_int_equal(connect(fd, (struct sockaddr *)&in6, sizeof(in6)), 0);
	return fd;
}

static int client_of(unsigned port)
{
	return client_from(port, 1);
}

static void says(int client, const char *text)
{
	assert_int_equal(send(client, text, strlen(text), 0), strlen(text));
	turn();
}

static void guest_says(int guest, const char *text)
{
	uint8_t head[PROTO_DATAGRAM_HEAD];

	proto_put_datagram_head(head, strlen(text));
	assert_int_equal(send(guest, head, sizeof(head), 0), sizeof(head));
	assert_int_equal(send(guest, text, strlen(text), 0), strlen(text));
	turn();
}

static void hears(int fd, const char *text)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

static void guest_hears(int guest, const char *text)
{
	uint8_t head[PROTO_DATAGRAM_HEAD], wanted[PROTO_DATAGRAM_HEAD];

	proto_put_datagram_head(wanted, strlen(text));
	assert_int_equal(recv(guest, head, sizeof(head), MSG_DONTWAIT), sizeof(head));
	assert_memory_equal(head, wanted, sizeof(head));
	if (*text) {
		char buf[256];

		assert_int_equal(recv(guest, buf, strlen(text), MSG_DONTWAIT), strlen(text));
		assert_memory_equal(buf, text, strlen(text));
	}
}

static bool is_over(int guest)
{
	char byte;

	return recv(guest, &byte, 1, MSG_DONTWAIT) == 0;
}

static void both_ways(int family)
{
	int a, b, of_a, of_b;

	open_world(1, family);
	a = client_of(0);
	b = client_of(0);
	says(a, "one");
	says(a, "two"); /* before there is a connection */
	says(a, "");
	says(b, "other");
	assert_int_equal(world.nasked, 2);
	of_a = give();
	of_b = give();
	guest_hears(of_a, "one");
	guest_hears(of_a, "two");
	guest_hears(of_a, "");
	guest_hears(of_b, "other");
	says(a, "three");
	guest_hears(of_a, "three");
	guest_says(of_b, "to b");
	guest_says(of_a, "to a");
	guest_says(of_a, "");
	hears(a, "to a");
	hears(a, "");
	hears(b, "to b");
	assert_int_equal(recv(b, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
	assert_int_equal(world.counted.from_clients, 5);
	assert_int_equal(world.counted.from_clients_bytes, 16);
	assert_int_equal(world.counted.to_clients, 3);
	assert_int_equal(world.udp.nslots, 0);
	/* Whoever is gone in the guest is found anew by the next datagram. */
	(void)close(of_a);
	turn();
	assert_int_equal(world.udp.nflows, 1);
	says(a, "again");
	of_a = give();
	guest_hears(of_a, "again");
	(void)close(of_a);
	(void)close(of_b);
	(void)close(a);
	(void)close(b);
	close_world();
}

static void test_both_ways(void **state)
{
	(void)state;
	both_ways(AF_INET);
	both_ways(AF_INET6);
}

static void test_sizes(void **state)
{
	static uint8_t sent[65536], got[65536];
	int client, guest, big = 1 << 20;
	size_t have = 0;

	(void)state;
	open_world(1, AF_INET);
	client = client_of(0);
	(void)setsockopt(client, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 7);
	assert_int_equal(send(client, sent, PROTO_DATAGRAM_MAX, 0), PROTO_DATAGRAM_MAX);
	turn();
	guest = give();
	while (have < PROTO_DATAGRAM_HEAD + PROTO_DATAGRAM_MAX) {
		ssize_t n = recv(guest, got + have, sizeof(got) - have, MSG_DONTWAIT);

		assert_true(n > 0);
		have += (size_t)n;
		turn();
	}
	assert_memory_equal(got + PROTO_DATAGRAM_HEAD, sent, PROTO_DATAGRAM_MAX);
	/* Back, in pieces of any size. */
	for (size_t at = 0, step = 1; at < have; at += step, step = step * 2 + 1) {
		size_t n = have - at < step ? have - at : step;

		assert_int_equal(send(guest, got + at, n, 0), n);
		turn();
	}
	assert_int_equal(recv(client, got, sizeof(got), MSG_DONTWAIT), PROTO_DATAGRAM_MAX);
	assert_memory_equal(got, sent, PROTO_DATAGRAM_MAX);
	assert_int_equal(world.udp.nslots, 0);
	(void)close(guest);
	(void)close(client);
	close_world();
}

/* Lengths that no datagram has, halves, silence: that flow's affair alone. */
static void test_hostile_guest(void **state)
{
	static const uint8_t lengths[][2] = { { 0xff, 0xff }, { 0xe4, 0xff } }; /* 65535, 65508 */
	int good, bad, of_good, of_bad;

	(void)state;
	open_world(1, AF_INET);
	good = client_of(0);
	bad = client_of(0);
	says(good, "x");
	of_good = give();
	for (unsigned i = 0; i < 2; i++) {
		says(bad, "x");
		of_bad = give();
		assert_int_equal(send(of_bad, lengths[i], 2, 0), 2);
		turn();
		guest_hears(of_bad, "x");
		assert_true(is_over(of_bad));
		(void)close(of_bad);
	}
	assert_int_equal(world.counted.broken, 2);
	says(bad, "x");
	of_bad = give();
	assert_int_equal(send(of_bad, "\x10\x00half", 6, 0), 6);
	turn();
	assert_int_equal(world.udp.nslots, 1);
	world.now += UDP_ONE_WAY_NS - 1;
	guest_says(of_good, "here");
	hears(good, "here");
	assert_int_equal(world.udp.nflows, 2);
	world.now++; /* half a datagram is no answer */
	turn();
	assert_int_equal(world.udp.nflows, 1);
	assert_int_equal(world.udp.nslots, 0);
	(void)close(of_bad);
	(void)close(of_good);
	(void)close(bad);
	(void)close(good);
	close_world();
}

/* A guest that does not read: datagrams are dropped and counted, whole; nothing grows. */
static void test_deaf_guest(void **state)
{
	static char block[60000];
	int client, guest, other, of_other;
	uint8_t head[2];
	uint64_t dropped;

	(void)state;
	open_world(2, AF_INET);
	client = client_of(0);
	other = client_of(1);
	says(client, "x");
	guest = give();
	guest_hears(guest, "x");
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(send(client, block, sizeof(block), 0), sizeof(block));
		turn();
	}
	dropped = world.counted.dropped[UDP_DROP_FULL];
	assert_true(dropped >= 80);
	assert_int_equal(world.counted.from_clients + dropped, 101);
	assert_int_equal(world.udp.nslots, 1);
	says(other, "x");
	of_other = give();
	guest_hears(of_other, "x");
	for (uint64_t i = world.counted.from_clients - 2; i; i--) { /* what came through is whole */
		size_t have = 0;

		assert_int_equal(recv(guest, head, 2, MSG_DONTWAIT), 2);
		assert_int_equal(head[0] | head[1] << 8, sizeof(block));
		while (have < sizeof(block)) {
			ssize_t n = recv(guest, block, sizeof(block) - have, MSG_DONTWAIT);

			assert_true(n > 0);
			have += (size_t)n;
			turn();
		}
	}
	assert_int_equal(world.udp.nslots, 0);
	(void)close(guest);
	(void)close(of_other);
	(void)close(client);
	(void)close(other);
	close_world();
}

/* One that never answered ends after a minute, one that did after three, each from its client's last datagram on. */
static void test_time(void **state)
{
	int one, two, of_one, of_two;

	(void)state;
	open_world(1, AF_INET);
	assert_true(udp_deadline(&world.udp) == UINT64_MAX);
	one = client_of(0);
	two = client_of(0);
	says(one, "a");
	says(two, "b");
	of_one = give();
	of_two = give();
	guest_says(of_two, "c");
	assert_true(udp_deadline(&world.udp) == world.now + UDP_ONE_WAY_NS);
	world.now += UDP_ONE_WAY_NS / 2;
	says(one, "d");
	assert_true(udp_deadline(&world.udp) == world.now + UDP_ONE_WAY_NS);
	world.now += UDP_ONE_WAY_NS;
	turn();
	guest_hears(of_one, "a");
	guest_hears(of_one, "d");
	assert_true(is_over(of_one));
	assert_int_equal(world.udp.nflows, 1);
	guest_says(of_two, "e"); /* what the guest goes on to say keeps nobody */
	assert_true(udp_deadline(&world.udp) == BEGAN + UDP_ANSWERED_NS);
	world.now = BEGAN + UDP_ANSWERED_NS;
	turn();
	assert_int_equal(world.udp.nflows, 0);
	(void)close(of_one);
	(void)close(of_two);
	(void)close(one);
	(void)close(two);
	close_world();
}

/* New clients, which may be forged: at a rate; the oldest without an answer makes room, who is served stays. */
static void test_flood(void **state)
{
	int served, of_served, clients[3 * UDP_FLOWS_MAX], guests[3 * UDP_FLOWS_MAX];
	unsigned n = 3 * UDP_FLOWS_MAX;

	(void)state;
	open_world(1, AF_INET);
	served = client_of(0);
	says(served, "x");
	of_served = give();
	guest_hears(of_served, "x");
	guest_says(of_served, "y");
	for (unsigned i = 0; i < n; i++) {
		clients[i] = client_of(0);
		says(clients[i], "z");
	}
	assert_int_equal(world.nasked, UDP_NEW_BURST - UDP_NEW_SPARE); /* all at one moment */
	assert_int_equal(world.counted.dropped[UDP_DROP_FLOWS], n + 1 - world.nasked);
	while (world.answered < world.nasked) {
		guests[0] = give();
		(void)close(guests[0]);
	}
	turn();
	assert_int_equal(world.udp.nflows, 1);
	for (unsigned i = 0; i < n; i++) {
		world.now += UDP_NS_PER_S / UDP_NEW_RATE;
		says(clients[i], "z");
		guests[i] = give();
	}
	assert_int_equal(world.udp.nflows, UDP_FLOWS_MAX);
	for (unsigned i = 0; i < n; i++) {
		guest_hears(guests[i], "z");
		assert_int_equal(is_over(guests[i]), i < n - (UDP_FLOWS_MAX - 1));
	}
	guest_says(of_served, "still");
	hears(served, "y");
	hears(served, "still");
	/* An answer of the supervisor's for one that has made room. */
	udp_given(&world.udp, world.asked[UDP_NEW_BURST - UDP_NEW_SPARE], dup(served), world.now);
	udp_given(&world.udp, UINT32_MAX, dup(served), world.now);
	udp_given(&world.udp, world.asked[0], -1, world.now);
	assert_int_equal(world.udp.nflows, UDP_FLOWS_MAX);
	/* All are answered: who is silent for long makes room, and who is not does not. */
	for (unsigned i = n - (UDP_FLOWS_MAX - 1); i < n; i++)
		guest_says(guests[i], "a");
	says(clients[0], "in vain");
	assert_int_equal(world.counted.dropped[UDP_DROP_FLOWS], n + 2 - (UDP_NEW_BURST - UDP_NEW_SPARE));
	world.now += UDP_QUIET_NS;
	says(served, "lively");
	says(clients[0], "welcome");
	(void)close(guests[0]);
	guests[0] = give();
	guest_hears(guests[0], "welcome");
	guest_hears(of_served, "lively");
	assert_int_equal(world.udp.nflows, UDP_FLOWS_MAX);
	for (unsigned i = 0; i < n; i++) {
		(void)close(guests[i]);
		(void)close(clients[i]);
	}
	(void)close(of_served);
	(void)close(served);
	close_world();
}

static unsigned lively(const int *guests, unsigned n)
{
	unsigned alive = 0;

	for (unsigned i = 0; i < n; i++)
		alive += !is_over(guests[i]);
	return alive;
}

/* A served client of that host, at the pace of what is let in. */
static int serve_one(unsigned host, int *ret_client)
{
	int guest;

	world.now += UDP_NS_PER_S / UDP_NEW_RATE;
	*ret_client = client_from(0, host);
	says(*ret_client, "x");
	guest = give();
	guest_hears(guest, "x");
	guest_says(guest, "y");
	return guest;
}

/* One host with all the clients there may be, each of them served and lively, does not lock others out. */
static void test_fair(void **state)
{
	enum { HALF = UDP_FLOWS_MAX / 2 };
	int clients[UDP_FLOWS_MAX], guests[UDP_FLOWS_MAX], others[HALF], of_others[HALF], third, of_third;

	(void)state;
	open_world(1, AF_INET);
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++)
		guests[i] = serve_one(1, &clients[i]);
	world.now += UDP_NS_PER_S;
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++)
		says(clients[i], "z");
	for (unsigned i = 0; i < HALF; i++) {
		of_others[i] = serve_one(2, &others[i]);
		assert_int_equal(world.udp.nflows, UDP_FLOWS_MAX);
	}
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++)
		guest_hears(guests[i], "z");
	assert_int_equal(lively(guests, UDP_FLOWS_MAX), HALF);
	assert_int_equal(lively(of_others, HALF), HALF);
	/* They are even: neither takes from the other, a third host does, and the greedy's newcomers are its own affair. */
	world.now += UDP_NS_PER_S / 2;
	says(client_from(0, 2), "in vain");
	assert_int_equal(world.counted.dropped[UDP_DROP_FLOWS], 1);
	of_third = serve_one(3, &third);
	assert_int_equal(lively(guests, UDP_FLOWS_MAX) + lively(of_others, HALF), UDP_FLOWS_MAX - 1);
	says(client_from(0, 1), "in vain");
	says(client_from(0, 2), "in vain");
	assert_int_equal(world.counted.dropped[UDP_DROP_FLOWS], 3);
	assert_false(is_over(of_third));
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		(void)close(clients[i]);
		(void)close(guests[i]);
	}
	for (unsigned i = 0; i < HALF; i++) {
		(void)close(others[i]);
		(void)close(of_others[i]);
	}
	(void)close(third);
	(void)close(of_third);
	close_world();
}

/* Newcomers do not make room for each other before the guest could answer them, while one host has nearly all there is. */
static void test_newcomers(void **state)
{
	enum { NEW = 20 };
	int clients[UDP_FLOWS_MAX], guests[UDP_FLOWS_MAX], others[NEW], of_others[NEW];

	(void)state;
	open_world(1, AF_INET);
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++)
		guests[i] = serve_one(1, &clients[i]);
	for (unsigned i = 0; i < NEW; i++) {
		others[i] = client_from(0, 2 + i);
		says(others[i], "x");
		of_others[i] = give();
	}
	assert_int_equal(lively(of_others, NEW), NEW);
	assert_int_equal(lively(guests, UDP_FLOWS_MAX), UDP_FLOWS_MAX - NEW);
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		(void)close(clients[i]);
		(void)close(guests[i]);
	}
	for (unsigned i = 0; i < NEW; i++) {
		(void)close(others[i]);
		(void)close(of_others[i]);
	}
	close_world();
}

/* A host that asks as fast as it can leaves the rate to others, who are let in at once. */
static void test_spare(void **state)
{
	int of_other, other;

	(void)state;
	open_world(1, AF_INET);
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		int client = client_from(0, 1);

		says(client, "x");
		(void)close(client);
	}
	assert_int_equal(world.nasked, UDP_NEW_BURST - UDP_NEW_SPARE);
	other = client_from(0, 2);
	says(other, "x");
	assert_int_equal(world.nasked, UDP_NEW_BURST - UDP_NEW_SPARE + 1);
	world.answered = world.nasked - 1;
	of_other = give();
	guest_hears(of_other, "x");
	(void)close(of_other);
	(void)close(other);
	close_world();
}

/* So many datagrams a second and no more, however small, each way; what is left waits, and nothing turns meanwhile. */
static void test_pace(void **state)
{
	static const uint8_t empty[30000]; /* datagrams of the guest's, two bytes each */
	int client, guest;
	uint64_t after, answers;

	(void)state;
	open_world(1, AF_INET);
	client = client_of(0);
	says(client, "x");
	guest = give();
	guest_hears(guest, "x");
	for (unsigned i = 0; i < 2 * UDP_BURST; i++)
		says(client, "");
	assert_in_range(world.counted.from_clients + world.counted.dropped[UDP_DROP_FULL], UDP_BURST, UDP_BURST + 32);
	assert_true(udp_deadline(&world.udp) > world.now && udp_deadline(&world.udp) < world.now + UDP_NS_PER_S);
	world.now = udp_deadline(&world.udp);
	after = world.counted.from_clients + world.counted.dropped[UDP_DROP_FULL];
	turn(); /* time passes: the next turn looks */
	turn();
	assert_true(world.counted.from_clients + world.counted.dropped[UDP_DROP_FULL] > after);
	world.now += UDP_NS_PER_S;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(send(guest, empty, sizeof(empty), 0), sizeof(empty));
	for (unsigned i = 0; i < 100; i++)
		turn();
	answers = world.counted.to_clients + world.counted.dropped[UDP_DROP_ANSWER];
	assert_in_range(answers, UDP_BURST, UDP_SLOT / 2);
	assert_true(udp_deadline(&world.udp) > world.now);
	while (udp_deadline(&world.udp) < world.now + UDP_NS_PER_S) { /* else that of the client's silence */
		world.now = udp_deadline(&world.udp);
		turn();
		turn();
	}
	assert_int_equal(world.counted.to_clients + world.counted.dropped[UDP_DROP_ANSWER], 2 * sizeof(empty));
	assert_int_equal(world.udp.nflows, 1);
	(void)close(guest);
	(void)close(client);
	close_world();
}

/* A flooded port leaves the others their part: of rate, clients and slots. */
static void test_shares(void **state)
{
	int clients[UDP_FLOWS_MAX + 8], guests[UDP_FLOWS_MAX + 8], other, of_other;
	unsigned most = UDP_FLOWS_MAX - UDP_RESERVE, n = 0;

	(void)state;
	open_world(2, AF_INET);
	for (unsigned i = 0; i < UDP_FLOWS_MAX + 8; i++) {
		world.now += 2 * UDP_NS_PER_S / UDP_NEW_RATE;
		clients[i] = client_of(0);
		says(clients[i], "x");
		guests[i] = give();
		guest_says(guests[i], "y"); /* answered: none of them gives way */
		n += !is_over(guests[i]) && world.udp.ports[0].nflows <= most;
		if (i == most - 1)
			break;
	}
	assert_int_equal(world.udp.ports[0].nflows, most);
	world.now += UDP_NS_PER_S;
	clients[most] = client_of(0);
	says(clients[most], "one too many");
	assert_int_equal(world.udp.ports[0].nflows, most);
	other = client_of(1);
	says(other, "there is room");
	of_other = give();
	guest_hears(of_other, "there is room");
	for (unsigned i = 0; i < most; i++) {
		(void)close(guests[i]);
		(void)close(clients[i]);
	}
	(void)close(clients[most]);
	(void)close(of_other);
	(void)close(other);
	close_world();
}

/* A supervisor that takes no question, or says no: dropped, counted, and asked again by the next datagram. */
static void test_refused(void **state)
{
	int client;

	(void)state;
	open_world(1, AF_INET);
	client = client_of(0);
	world.deaf = true;
	says(client, "x");
	assert_int_equal(world.udp.nflows, 0);
	world.deaf = false;
	says(client, "x");
	udp_given(&world.udp, world.asked[world.answered++], -1, world.now);
	assert_int_equal(world.udp.nflows, 0);
	assert_int_equal(world.udp.nslots, 0);
	assert_int_equal(world.counted.dropped[UDP_DROP_FLOWS], 2);
	says(client, "y");
	(void)close(give());
	/* What seems to come from the port itself would be answered to it for ever. */
	assert_int_equal(sendto(world.ports[0], "loop", 4, 0,
				(struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET,
									  .sin_port = htons(world.numbers[0]),
									  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
				sizeof(struct sockaddr_in)),
			 4);
	turn();
	assert_int_equal(world.counted.dropped[UDP_DROP_BAD], 1);
	(void)close(client);
	close_world();
}

/* The program itself, from its request on: its filter lets it do its work, and it ends with its supervisor. */
static void test_program(void **state)
{
	struct spec_publish specs[2];
	struct publish publish = { 0 };
	struct publish_udp udp;
	struct udp_counted counted;
	struct mvm_error err;
	int client, pair[2] = { -1, -1 };
	unsigned index = 99;
	uint32_t flow = 0;
	char buf[16];

	(void)state;
	publish_udp_init(&udp);
	assert_int_equal(spec_publish_parse("-p", "80", &specs[0], &err), 0);
	assert_int_equal(spec_publish_parse("-p", "80/udp", &specs[1], &err), 0);
	assert_int_equal(publish_open(&publish, specs, 1, &err), 0);
	assert_int_equal(publish_udp_open(&udp, &publish, NULL, IDS_FIRST, IDS_COUNT, &err), 0);
	assert_int_equal(udp.fd, -1); /* nothing to do */
	publish_udp_close(&udp);
	publish_close(&publish);
	publish.nports = 0;
	assert_int_equal(publish_open(&publish, specs, 2, &err), 0);
	if (publish_udp_open(&udp, &publish, NULL, IDS_FIRST, IDS_COUNT, &err) < 0) {
		publish_udp_close(&udp);
		publish_close(&publish);
		print_message("%s\n", err.text);
		skip(); /* no namespaces here, or no program beside the test's */
	}
	world.nports = 2;
	world.numbers[0] = publish.ports[1].host;
	world.udp.ports[0].family = AF_INET;
	client = client_of(0);
	assert_int_equal(send(client, "hello", 5, 0), 5);
	assert_int_equal(poll(&(struct pollfd){ .fd = udp.fd, .events = POLLIN }, 1, 10000), 1);
	assert_int_equal(publish_udp_asked(&udp, &index, &flow), 1);
	assert_int_equal(index, 1);
	assert_int_equal(publish_udp_asked(&udp, &index, &flow), 0);
	assert_int_equal(publish_udp_pair(pair), 0);
	publish_udp_answer(&udp, flow, pair[0]);
	(void)close(pair[0]);
	assert_int_equal(poll(&(struct pollfd){ .fd = pair[1], .events = POLLIN }, 1, 10000), 1);
	guest_hears(pair[1], "hello");
	assert_int_equal(send(pair[1], "\x03\x00you", 5, 0), 5);
	assert_int_equal(poll(&(struct pollfd){ .fd = client, .events = POLLIN }, 1, 10000), 1);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	publish_udp_counted(&udp, &counted);
	assert_int_equal(counted.from_clients, 1);
	/* A large one needs a slot, and gives it back: madvise(2) is among what it may. */
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(send(client, world.udp.buffer, 60000, 0), 60000);
	assert_int_equal(poll(&(struct pollfd){ .fd = pair[1], .events = POLLIN }, 1, 10000), 1);
	(void)close(pair[1]);
	assert_int_equal(poll(&(struct pollfd){ .fd = udp.pidfd, .events = POLLIN }, 1, 200), 0); /* it lives */
	assert_int_equal(send(client, "next", 4, 0), 4);
	assert_int_equal(poll(&(struct pollfd){ .fd = udp.fd, .events = POLLIN }, 1, 10000), 1);
	assert_int_equal(publish_udp_asked(&udp, &index, &flow), 1);
	publish_udp_answer(&udp, flow, -1);
	publish_udp_close(&udp);
	(void)close(client);
	publish_close(&publish);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),     cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_hostile_guest), cmocka_unit_test(test_deaf_guest),
		cmocka_unit_test(test_time),          cmocka_unit_test(test_flood),
		cmocka_unit_test(test_fair),          cmocka_unit_test(test_newcomers),
		cmocka_unit_test(test_spare),         cmocka_unit_test(test_pace),
		cmocka_unit_test(test_shares),        cmocka_unit_test(test_refused),
		cmocka_unit_test(test_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
