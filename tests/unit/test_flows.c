/* A VM's connections: as the kernel lists them, the busiest of them, and as mvm-net tells them to the supervisor. */
#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/net_flows.h"
#include "uplink/flows.h"

/* A netlink message being written. */
struct message {
	uint8_t bytes[512] __attribute__((aligned(8)));
	size_t len;
};

static size_t put(struct message *m, unsigned type, const void *data, size_t len)
{
	struct nlattr attr = { .nla_len = (uint16_t)(sizeof(attr) + len), .nla_type = (uint16_t)type };
	size_t at = m->len;

	memcpy(m->bytes + at, &attr, sizeof(attr));
	if (len)
		memcpy(m->bytes + at + sizeof(attr), data, len);
	m->len += (sizeof(attr) + len + 3) & ~(size_t)3;
	return at;
}

static void end(struct message *m, size_t at)
{
	((struct nlattr *)(void *)(m->bytes + at))->nla_len = (uint16_t)(m->len - at);
}

static size_t nest(struct message *m, unsigned type)
{
	return put(m, type | NLA_F_NESTED, NULL, 0);
}

static void put_number(struct message *m, unsigned type, uint64_t value)
{
	value = htobe64(value);
	(void)put(m, type, &value, sizeof(value));
}

static void put_counters(struct message *m, unsigned type, uint64_t packets, uint64_t bytes)
{
	size_t at = nest(m, type);

	put_number(m, CTA_COUNTERS_PACKETS, packets);
	put_number(m, CTA_COUNTERS_BYTES, bytes);
	end(m, at);
}

static void begin(struct message *m)
{
	memset(m, 0, sizeof(*m));
	m->len = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
}

static void finish(struct message *m)
{
	struct nlmsghdr *hdr = (void *)m->bytes;

	hdr->nlmsg_len = (uint32_t)m->len;
	hdr->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
}

static void put_tuple(struct message *m, const char *from, const char *to, uint8_t protocol)
{
	size_t tuple = nest(m, CTA_TUPLE_ORIG), part = nest(m, CTA_TUPLE_IP);
	bool four = !strchr(from, ':');
	uint16_t source = htons(1234), target = htons(80);
	uint8_t address[16];

	assert_int_equal(inet_pton(four ? AF_INET : AF_INET6, from, address), 1);
	(void)put(m, four ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, address, four ? 4 : 16);
	assert_int_equal(inet_pton(four ? AF_INET : AF_INET6, to, address), 1);
	(void)put(m, four ? CTA_IP_V4_DST : CTA_IP_V6_DST, address, four ? 4 : 16);
	end(m, part);
	part = nest(m, CTA_TUPLE_PROTO);
	(void)put(m, CTA_PROTO_NUM, &protocol, 1);
	(void)put(m, CTA_PROTO_SRC_PORT, &source, 2);
	(void)put(m, CTA_PROTO_DST_PORT, &target, 2);
	end(m, part);
	end(m, tuple);
}

static void put_tcp(struct message *m)
{
	uint32_t status = htonl(IPS_SEEN_REPLY | IPS_CONFIRMED);
	uint8_t state = 3;
	size_t info, tcp;

	put_tuple(m, "192.0.0.2", "198.51.100.1", IPPROTO_TCP);
	(void)put(m, CTA_STATUS, &status, sizeof(status));
	info = nest(m, CTA_PROTOINFO);
	tcp = nest(m, CTA_PROTOINFO_TCP);
	(void)put(m, CTA_PROTOINFO_TCP_STATE, &state, 1);
	end(m, tcp);
	end(m, info);
	put_counters(m, CTA_COUNTERS_ORIG, 10, 1000);
	put_counters(m, CTA_COUNTERS_REPLY, 20, UINT64_MAX);
	info = nest(m, CTA_TIMESTAMP);
	put_number(m, CTA_TIMESTAMP_START, (uint64_t)(time(NULL) - 100) * 1000000000U);
	end(m, info);
}

static void test_parse(void **state)
{
	struct uplink_flow flow;
	struct message m;
	char text[INET6_ADDRSTRLEN];

	(void)state;
	begin(&m);
	put_tcp(&m);
	finish(&m);
	assert_true(flows_parse(m.bytes, m.len, &flow));
	assert_int_equal(flow.family, 4);
	assert_int_equal(flow.protocol, IPPROTO_TCP);
	assert_int_equal(flow.state, 3);
	assert_int_equal(flow.flags, UPLINK_FLOW_ANSWERED);
	assert_string_equal(inet_ntop(AF_INET, flow.from, text, sizeof(text)), "192.0.0.2");
	assert_string_equal(inet_ntop(AF_INET, flow.to, text, sizeof(text)), "198.51.100.1");
	assert_int_equal(flow.from_port, 1234);
	assert_int_equal(flow.to_port, 80);
	assert_true(flow.out_packets == 10 && flow.out_bytes == 1000);
	assert_true(flow.in_packets == 20 && flow.in_bytes == UINT64_MAX);
	assert_true(flow.age_s >= 99 && flow.age_s < 200);

	begin(&m); /* neither counters nor time, as a kernel without them */
	put_tuple(&m, "fd6e:82a4:17c9::2", "2001:db8::1", IPPROTO_ICMPV6);
	finish(&m);
	assert_true(flows_parse(m.bytes, m.len, &flow));
	assert_int_equal(flow.family, 6);
	assert_string_equal(inet_ntop(AF_INET6, flow.to, text, sizeof(text)), "2001:db8::1");
	assert_true(!flow.from_port && !flow.to_port && !flow.out_bytes && !flow.state);
	assert_int_equal(flow.age_s, UINT32_MAX);
}

/* Cut anywhere, and with any byte another: no read beyond the end, which the sanitizer sees. */
static void test_broken(void **state)
{
	struct uplink_flow flow;
	struct message m, other;

	(void)state;
	begin(&m);
	put_tcp(&m);
	finish(&m);
	for (size_t len = 0; len < m.len; len++) {
		uint8_t *copy = malloc(len ? len : 1);

		assert_non_null(copy);
		memcpy(copy, m.bytes, len);
		assert_false(flows_parse(copy, len, &flow));
		if (len >= sizeof(struct nlmsghdr)) {
			((struct nlmsghdr *)(void *)copy)->nlmsg_len = (uint32_t)len;
			(void)flows_parse(copy, len, &flow);
		}
		free(copy);
	}
	for (size_t at = 0; at < m.len; at++) {
		for (unsigned value = 0; value < 256; value += 5) {
			other = m;
			other.bytes[at] = (uint8_t)value;
			if (flows_parse(other.bytes, other.len, &flow))
				assert_true(flow.family == 4 || flow.family == 6);
		}
	}
}

static void test_busiest(void **state)
{
	static struct flows flows;
	unsigned all = 5000;

	(void)state;
	for (unsigned i = 0; i < all; i++) {
		struct uplink_flow flow = { .family = 4, .out_bytes = (i * 7919U) % all, .in_bytes = 1 };

		flows_add(&flows, &flow);
	}
	flows_sort(&flows);
	assert_int_equal(flows.seen, all);
	assert_int_equal(flows.n, UPLINK_FLOWS_MAX);
	for (unsigned i = 0; i < flows.n; i++)
		assert_int_equal(flows.busiest[i].out_bytes, all - 1 - i);
	memset(&flows, 0, sizeof(flows));
	flows_sort(&flows);
	flows_add(&flows, &(struct uplink_flow){ .out_bytes = 1 });
	flows_add(&flows, &(struct uplink_flow){ .out_bytes = 3 });
	flows_add(&flows, &(struct uplink_flow){ .out_bytes = 2 });
	flows_sort(&flows);
	assert_int_equal(flows.busiest[0].out_bytes, 3);
	assert_int_equal(flows.busiest[2].out_bytes, 1);
}

static bool listed(struct net_flows *flows, uint32_t told, uint32_t all)
{
	struct uplink_message message = { .type = UPLINK_LISTED, .listed = { .told = told, .all = all } };

	return net_flows_take(flows, &message);
}

static bool list(struct net_flows *flows, uint32_t n, uint8_t family)
{
	struct uplink_message message = { .type = UPLINK_LIST, .nflows = n };

	for (unsigned i = 0; i < UPLINK_FLOWS_IN; i++)
		message.flows[i].family = family;
	return net_flows_take(flows, &message);
}

/* What mvm-net says, in order and not. */
static void test_told(void **state)
{
	static struct net_flows flows;

	(void)state;
	assert_false(listed(&flows, 0, 0)); /* nobody asked */
	assert_false(list(&flows, 1, 4));
	net_flows_ask(&flows);
	assert_false(list(&flows, 1, 4));
	assert_true(listed(&flows, 0, 0));
	assert_false(listed(&flows, 0, 0)); /* once */
	net_flows_ask(&flows);
	assert_false(listed(&flows, 8, 100));
	assert_false(list(&flows, 6, 4));
	assert_true(list(&flows, 2, 6));
	assert_int_equal(flows.n, 8);
	assert_int_equal(flows.flows[7].family, 6);
	assert_int_equal(flows.listed.all, 100);
	/* Whatever breaks its announcement is no answer, nor what follows it. */
	static const struct {
		uint32_t told, all, n;
		uint8_t family;
	} bad[] = {
		{ UPLINK_FLOWS_MAX + 1, 1000, 1, 4 },
		{ 5, 4, 1, 4 },
		{ 5, 5, 0, 4 },
		{ 5, 5, UPLINK_FLOWS_IN, 4 },
		{ 9, 9, UINT32_MAX, 4 },
		{ 9, 9, UPLINK_FLOWS_IN + 1, 4 },
		{ 1, 1, 1, 5 },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		net_flows_ask(&flows);
		assert_false(listed(&flows, bad[i].told, bad[i].all));
		assert_false(list(&flows, bad[i].n, bad[i].family));
		assert_false(list(&flows, 1, 4));
		assert_false(flows.asked);
	}
	net_flows_ask(&flows);
	assert_false(listed(&flows, UPLINK_FLOWS_MAX, UINT32_MAX));
	for (unsigned i = 0; i < UPLINK_FLOWS_MAX / UPLINK_FLOWS_IN; i++)
		assert_false(list(&flows, UPLINK_FLOWS_IN, 4));
	assert_true(list(&flows, UPLINK_FLOWS_MAX % UPLINK_FLOWS_IN, 4));
}

/* ---- of a network's members ---- */

struct kernel {
	int fd;
	unsigned dumps;
};

/* Answers each request with the same three connections. */
static void *kernel(void *arg)
{
	static const char *const ends[][2] = { { "10.209.0.2", "10.209.0.3" },
					       { "10.209.0.3", "198.51.100.1" },
					       { "192.0.0.10", "192.0.0.9" } };
	struct kernel *k = arg;
	uint8_t request[256];
	struct message m;

	while (recv(k->fd, request, sizeof(request), 0) > 0) {
		for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
			begin(&m);
			put_tuple(&m, ends[i][0], ends[i][1], IPPROTO_TCP);
			finish(&m);
			if (send(k->fd, m.bytes, m.len, 0) < 0)
				return NULL;
		}
		k->dumps++;
		begin(&m);
		finish(&m);
		((struct nlmsghdr *)(void *)m.bytes)->nlmsg_type = NLMSG_DONE;
		if (send(k->fd, m.bytes, m.len, 0) < 0)
			return NULL;
	}
	return NULL;
}

/* However many members there are, and however often they ask: one dump a second. */
static void test_each(void **state)
{
	static struct flows_each each;
	static struct uplink_member members[UPLINK_MEMBERS];
	const struct uplink_member *of[UPLINK_MEMBERS] = { NULL };
	struct kernel k = { .dumps = 0 };
	pthread_t thread;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	k.fd = pair[1];
	assert_int_equal(pthread_create(&thread, NULL, kernel, &k), 0);
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++) {
		memcpy(members[i].ip4, (uint8_t[]){ 10, 209, 0, (uint8_t)(i + 2) }, 4);
		of[i] = &members[i];
	}
	of[1] = NULL;
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		assert_int_equal(flows_count_each(&each, pair[0], of, 5000 + i), 0);
	assert_int_equal(k.dumps, 1);
	assert_int_equal(each.now[0], 1);
	assert_int_equal(each.now[1], 0); /* nobody */
	assert_int_equal(each.now[2], 0);
	of[1] = &members[1];
	assert_int_equal(flows_count_each(&each, pair[0], of, INT64_MAX / 2), 0);
	assert_int_equal(k.dumps, 2);
	assert_int_equal(each.now[0], 1);
	assert_int_equal(each.now[1], 2);
	(void)shutdown(pair[0], SHUT_RDWR);
	assert_int_equal(pthread_join(thread, NULL), 0);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_broken), cmocka_unit_test(test_busiest),
		cmocka_unit_test(test_each),  cmocka_unit_test(test_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
