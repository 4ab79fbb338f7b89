/* Named networks: their addresses, who gets which, and the rules that come and go with a member. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/net_user_host.h"
#include "lib/network.h"
#include "lib/spec_net.h"
#include "uplink/bucket.h"
#include "uplink/dns.h"
#include "uplink/members.h"
#include "uplink/reset.h"
#include "uplink/rules.h"

static void test_subnets(void **state)
{
	static const struct {
		const char *text;
		unsigned family;
		const char *refused; /* a word of the error */
	} cases[] = {
		{ "10.0.0.0/8", 4, NULL },
		{ "192.168.7.0/30", 4, NULL },
		{ "172.31.0.0/16", 4, NULL },
		{ "100.64.0.0/10", 4, NULL },
		{ "fd12:3456:789a::/48", 6, NULL },
		{ "fd12:3456:789a:1::/126", 6, NULL },
		{ "10.0.0.0", 4, "8 to 30 bits" },
		{ "10.0.0.0/31", 4, "8 to 30 bits" },
		{ "10.0.0.0/7", 4, "8 to 30 bits" },
		{ "10.0.0.0/24x", 4, "8 to 30 bits" },
		{ "/24", 4, "8 to 30 bits" },
		{ "", 4, "8 to 30 bits" },
		{ "fd00::/64", 4, "IPv4 network" },
		{ "10.0.0.0/24", 6, "IPv6 network" },
		{ "10.0.0.1/24", 4, "write 10.0.0.0/24" },
		{ "8.8.8.0/24", 4, "not private" },
		{ "127.0.0.0/8", 4, "not private" },
		{ "169.254.0.0/16", 4, "not private" },
		{ "192.0.0.0/24", 4, "not private" },
		{ "172.16.0.0/11", 4, "write 172.0.0.0/11" },
		{ "2001:db8::/64", 6, "not private" },
		{ "fe80::/64", 6, "not private" },
		{ "fd6e:82a4:17c9::/64", 6, "not private" },
		{ "fc00::/7", 6, "48 to 126 bits" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct uplink_subnet subnet = { .bits4 = 0 };
		struct mvm_error err = { 0 };
		int r = network_parse_subnet("", cases[i].text, cases[i].family, &subnet, &err);

		if (!cases[i].refused && r < 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		if (cases[i].refused && (r == 0 || !strstr(err.text, cases[i].refused)))
			fail_msg("%s: %s", cases[i].text, r == 0 ? "taken" : err.text);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_true(spec_net_is_name("back"));
	assert_true(spec_net_is_name("users"));
	assert_true(spec_net_is_name("0"));
	assert_false(spec_net_is_name("user"));
	assert_false(spec_net_is_name("host"));
	assert_false(spec_net_is_name("../x"));
	assert_false(spec_net_is_name(""));
}

static struct uplink_request request_of(const char *four, const char *six)
{
	struct uplink_request request = { .flags = UPLINK_NETWORK };

	assert_int_equal(network_parse_subnet("", four, 4, &request.subnet, NULL), 0);
	if (six)
		assert_int_equal(network_parse_subnet("", six, 6, &request.subnet, NULL), 0);
	return request;
}

static const char *four_of(const struct uplink_member *member)
{
	static char text[INET_ADDRSTRLEN];

	return inet_ntop(AF_INET, member->ip4, text, sizeof(text));
}

static const char *six_of(const struct uplink_member *member)
{
	static char text[INET6_ADDRSTRLEN];

	return inet_ntop(AF_INET6, member->ip6, text, sizeof(text));
}

static int place(struct members *members, unsigned slot, const char *four, const char *six)
{
	struct uplink_join join = { .name = "vm" };
	int r;

	if (four)
		(void)inet_pton(AF_INET, four, join.ip4);
	if (six)
		(void)inet_pton(AF_INET6, six, join.ip6);
	r = members_place(members, &join, &members->m[slot].is, NULL);
	if (r == 0)
		members->m[slot].fd = 0;
	return r;
}

static void test_places(void **state)
{
	static struct members members;
	struct uplink_request request = request_of("10.1.2.0/29", "fd12::/64");

	(void)state;
	members_init(&members, &request);
	assert_int_equal(place(&members, 0, NULL, NULL), 0);
	assert_string_equal(four_of(&members.m[0].is), "10.1.2.2");
	assert_string_equal(six_of(&members.m[0].is), "fd12::2");
	assert_int_equal(place(&members, 1, "10.1.2.2", NULL), -EADDRINUSE);
	assert_int_equal(place(&members, 1, NULL, "fd12::2"), -EADDRINUSE);
	assert_int_equal(place(&members, 1, "10.1.2.4", NULL), 0);
	assert_string_equal(six_of(&members.m[1].is), "fd12::4");
	assert_int_equal(place(&members, 2, NULL, "fd12::3"), 0);
	assert_string_equal(four_of(&members.m[2].is), "10.1.2.3");
	/* 3 is IPv6's of another, 4 both: the next is 5; and what was left is not given away at once */
	assert_int_equal(place(&members, 3, NULL, NULL), 0);
	assert_string_equal(four_of(&members.m[3].is), "10.1.2.5");
	members.m[3].fd = -1;
	assert_int_equal(place(&members, 3, NULL, NULL), 0);
	assert_string_equal(four_of(&members.m[3].is), "10.1.2.6");
	assert_int_equal(place(&members, 4, NULL, NULL), 0);
	assert_string_equal(four_of(&members.m[4].is), "10.1.2.5");
	assert_int_equal(place(&members, 5, NULL, NULL), -EADDRNOTAVAIL);
	for (size_t i = 0; i < 6; i++) {
		static const char *const bad[] = { "10.1.2.0", "10.1.2.1",   "10.1.2.7",
						   "10.1.2.8", "10.1.1.255", "11.1.2.2" };

		assert_int_equal(place(&members, 5, bad[i], NULL), -EADDRNOTAVAIL);
	}
	assert_int_equal(place(&members, 5, NULL, "fd12::1"), -EADDRNOTAVAIL);
	assert_int_equal(place(&members, 5, NULL, "fd12::"), -EADDRNOTAVAIL);
	assert_int_equal(place(&members, 5, NULL, "fd12:0:0:1::2"), -EADDRNOTAVAIL);
	members.m[4].fd = -1;
	assert_int_equal(place(&members, 4, NULL, "fd12::abcd:1:2:3"), 0);
	assert_string_equal(six_of(&members.m[4].is), "fd12::abcd:1:2:3");
}

static void test_without_six(void **state)
{
	static struct members members;
	struct uplink_request request = request_of("10.0.0.0/8", NULL);

	(void)state;
	members_init(&members, &request);
	assert_int_equal(place(&members, 0, NULL, NULL), 0);
	assert_string_equal(six_of(&members.m[0].is), "::");
	assert_int_equal(place(&members, 1, NULL, "fd12::2"), -EADDRNOTAVAIL);
	assert_int_equal(place(&members, 1, "10.255.255.254", NULL), 0);
}

static void test_check(void **state)
{
	static struct uplink_join good, bad;

	(void)state;
	good = (struct uplink_join){
		.version = UPLINK_VERSION, .kind = UPLINK_JOIN, .mtu = 1500, .nrules = 1, .nnames = 1
	};
	good.rules[0] = (struct uplink_rule){ .family = 4, .prefix = 32 };
	assert_true(members_check(&good));
#define BAD(what)                                                                                                      \
	bad = good;                                                                                                    \
	what;                                                                                                          \
	assert_false(members_check(&bad))
	BAD(bad.version++);
	BAD(bad.kind = 3);
	BAD(bad.mtu = 67);
	BAD(bad.flags = UPLINK_PROXY);
	BAD(bad.nrules = UPLINK_RULES + 1);
	BAD(bad.nnames = UPLINK_NAMES + 1);
	BAD(bad.rules[0].prefix = 33);
	BAD(bad.rules[0].family = 5);
	BAD(memset(bad.name, 'x', sizeof(bad.name)));
	BAD(memset(bad.names[0].name, 'x', sizeof(bad.names[0].name)));
}

/* Whatever joining brings is taken away by leaving, and of another member nothing. */
static void test_rules(void **state)
{
	struct uplink_request request = request_of("10.1.2.0/24", "fd12::/64");
	static struct uplink_join join = { .flags = UPLINK_DENY, .nnames = 1 };
	struct uplink_member member = { .ip4 = { 10, 1, 2, 9 },
					.ip6 = { 0xfd, 0x12, [15] = 9 },
					.mac = { 2, 0, 0, 0, 0, 1 } };
	static const struct rules_limits limits = { 65536, 262144 };
	char *text, *leave, line[128], name[64];

	(void)state;
	request.flags |= UPLINK_ISOLATE;
	assert_true(dns_name("example.org", join.names[0].name));
	text = rules_join_text(&request, &limits, &join, &member, 17);
	leave = rules_leave_text(&request, &join, 17);
	assert_non_null(text);
	assert_non_null(leave);
	assert_non_null(strstr(text, "\t\tip daddr 10.1.2.0/24 goto refuse_isolated_17\n"));
	assert_non_null(strstr(text, "ip saddr 10.1.2.9 accept\n"));
	assert_non_null(strstr(text, "{ \"vm17\" : goto guest_17 }"));
	for (const char *at = text; *at; at += strcspn(at, "\n") + 1) {
		static const char *const kinds[] = { "chain", "counter", "set" };

		for (size_t i = 0; i < 3; i++) {
			char form[32];

			(void)snprintf(form, sizeof(form), "\t%s ", kinds[i]);
			if (strncmp(at, form, strlen(form)) != 0)
				continue;
			(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(at + strlen(form), " "),
				       at + strlen(form));
			assert_non_null(strstr(name, "_17"));
			(void)snprintf(line, sizeof(line), " mvm %s\n", name);
			if (!strstr(leave, line))
				fail_msg("%s %s stays", kinds[i], name);
		}
	}
	free(text);
	free(leave);
	text = rules_network_text(&request, &limits);
	assert_non_null(strstr(text, "policy drop"));
	assert_null(strstr(text, "guest_"));
	free(text);
}

/* The number behind `what`, behind `where`. */
static unsigned number_in(const char *text, const char *where, const char *what)
{
	const char *at = strstr(text, where);

	assert_non_null(at);
	at = strstr(at, what);
	assert_non_null(at);
	return (unsigned)strtoul(at + strlen(what), NULL, 10);
}

/* Whatever members do: pasta has its descriptors, the table its places, and each member some of both. */
static void test_shares(void **state)
{
	static const struct rules_limits all[] = {
		{ 65536, 262144 }, { 20000, 65536 }, { 4096, 32768 }, { 2048, 8192 }
	};
	struct uplink_request request = request_of("10.1.2.0/24", "fd12::/64");
	struct uplink_member member = { .ip4 = { 10, 1, 2, 9 } };
	static struct uplink_join join;

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char *text = rules_network_text(&request, &all[i]),
		     *own = rules_join_text(&request, &all[i], &join, &member, 1);
		unsigned out, peer, out_own, peer_own;

		assert_non_null(text);
		assert_non_null(own);
		out = number_in(text, "chain crowd_out {", "count over ");
		peer = number_in(text, "chain crowd_peer {", "count over ");
		out_own = number_in(own, "goto refuse_flows_1\n\t\tct count over 1024 ", "over ");
		assert_int_equal(out_own, 1024);
		out_own = number_in(own, "udp ct count over 512 goto refuse_flows_1\n", "\t\tct count over ");
		peer_own = number_in(own, "udp ct count over 4096 goto refuse_flows_1\n", "\t\tct count over ");
		assert_true(out_own >= 1 && peer_own >= 1 && out >= 1 && peer >= 1);
		assert_non_null(strstr(own, " jump crowd_out\n\t\tmeta mark 1 goto refuse_flows_1\n"));
		assert_non_null(strstr(own, " jump crowd_peer\n\t\tmeta mark 1 goto refuse_flows_1\n"));
		assert_true(2 * (out_own * UPLINK_MEMBERS + out) + rules_servers_most(&all[i]) < all[i].files);
		assert_true(peer_own * UPLINK_MEMBERS + peer <= all[i].tracked / 2);
		free(text);
		free(own);
	}
}

/* In three minutes no more questions than there are ports, whoever asks; and who has not asked before is heard. */
static void test_questions(void **state)
{
	static const unsigned all[] = { 8192, 2500, 1024 };

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct bucket own[UPLINK_MEMBERS], crowd = bucket_crowd(all[i]);
		unsigned n = 0, greedy = 0;

		for (unsigned k = 0; k < UPLINK_MEMBERS; k++)
			own[k] = bucket_own(all[i]);
		for (int64_t now = 1000000; now < 1000000 + BUCKET_KEPT_MS; now += 10)
			for (unsigned k = 0; k < 2; k++) /* members that ask without end */
				greedy += bucket_take(&own[k], now) || bucket_take(&crowd, now);
		assert_in_range(greedy, all[i] / 3, all[i] / 2 + 2 * (all[i] / 2 / UPLINK_MEMBERS + 1));
		assert_false(bucket_take(&crowd, 1000000 + BUCKET_KEPT_MS - 10));
		for (unsigned k = 2; k < UPLINK_MEMBERS; k++)
			n += bucket_take(&own[k], 1000000 + BUCKET_KEPT_MS);
		assert_int_equal(n, UPLINK_MEMBERS - 2);
		for (int64_t now = 0; now < BUCKET_KEPT_MS; now += 100)
			for (unsigned k = 2; k < UPLINK_MEMBERS; k++)
				n += bucket_take(&own[k], 1000000 + BUCKET_KEPT_MS + now);
		assert_true(n <= all[i] / 2);
	}
}

static uint32_t sum_of(uint32_t sum, const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	return sum;
}

/* What ends a connection of one that left: addresses and ports in their places, and a checksum that adds up. */
static void test_reset(void **state)
{
	struct reset_ends ends = { .from_port = htons(40000), .to_port = htons(443) };
	uint8_t packet[RESET_MAX];

	(void)state;
	for (size_t len = 4; len <= 16; len += 12) {
		size_t head = len == 4 ? 20 : 40;
		uint32_t sum = IPPROTO_TCP + 20;

		for (size_t i = 0; i < len; i++) {
			ends.from[i] = (uint8_t)(3 * i + 1);
			ends.to[i] = (uint8_t)(0xf0 - i);
		}
		assert_int_equal(reset_packet(&ends, len, packet), head + 20);
		assert_int_equal(packet[0], len == 4 ? 0x45 : 0x60);
		assert_int_equal(packet[len == 4 ? 9 : 6], IPPROTO_TCP);
		assert_int_equal(packet[len == 4 ? 3 : 5], len == 4 ? 40 : 20);
		assert_memory_equal(packet + head - 2 * len, ends.from, len);
		assert_memory_equal(packet + head - len, ends.to, len);
		assert_memory_equal(packet + head, "\x9c\x40\x01\xbb", 4);
		assert_int_equal(packet[head + 12], 0x50);
		assert_int_equal(packet[head + 13], 4); /* RST */
		sum = sum_of(sum, packet + head - 2 * len, 2 * len + 20);
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		assert_int_equal(sum, 0xffff);
	}
}

static void test_reasons(void **state)
{
	unsigned reason, slot;

	(void)state;
	assert_true(rules_parse_reason("host", 5, &reason, &slot));
	assert_int_equal(reason, UPLINK_HOST);
	assert_int_equal(slot, 0);
	assert_true(rules_parse_reason("isolated_253", 12, &reason, &slot));
	assert_int_equal(reason, UPLINK_ISOLATED);
	assert_int_equal(slot, 253);
	assert_true(rules_parse_counter("flows_begun_7", 13, &reason, &slot));
	assert_int_equal(reason, RULES_COUNT_BEGUN);
	assert_int_equal(slot, 7);
	assert_true(rules_parse_counter("traffic_in", 10, &reason, &slot));
	assert_int_equal(reason, RULES_COUNT_IN);
	assert_false(rules_parse_reason("flows_begun_7", 13, &reason, &slot));
	assert_false(rules_parse_reason("host_254", 9, &reason, &slot));
	assert_false(rules_parse_reason("host_", 5, &reason, &slot));
	assert_false(rules_parse_reason("host_1234", 9, &reason, &slot));
	assert_false(rules_parse_reason("host_x", 6, &reason, &slot));
	assert_false(rules_parse_reason("hosts", 5, &reason, &slot));
	assert_false(rules_parse_reason("", 0, &reason, &slot));
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* A network is not made over what the host has a route to. */
static void test_overlaps(void **state)
{
	char folder[] = "/tmp/mvm-test-XXXXXX", text[NET_USER_HOST_TEXT], path[128];
	struct uplink_rule net = { .family = 4, .prefix = 24, .address = { 10, 5, 6, 0 } };

	(void)state;
	assert_non_null(mkdtemp(folder));
	write_file(folder, "route",
		   "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
		   "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n"
		   "tun0 00000000 00000000 0001 0 0 0 00000080 0 0 0\n"
		   "eth1 0000050A 010200C0 0003 0 0 0 0000FFFF 0 0 0\n");
	write_file(folder, "ipv6_route",
		   "fd120000000000000000000000000000 40 00000000000000000000000000000000 00 "
		   "00000000000000000000000000000000 "
		   "00000100 00000001 00000000 00000001 eth0\n");
	assert_true(net_user_host_overlaps(folder, &net, text));
	assert_string_equal(text, "10.5.0.0/16 (eth1)");
	net.address[1] = 6;
	assert_false(net_user_host_overlaps(folder, &net, text));
	net = (struct uplink_rule){ .family = 6, .prefix = 48, .address = { 0xfd, 0x12 } };
	assert_true(net_user_host_overlaps(folder, &net, text));
	assert_string_equal(text, "fd12::/64 (eth0)");
	net.address[2] = 1;
	assert_false(net_user_host_overlaps(folder, &net, text));
	(void)snprintf(path, sizeof(path), "%s/route", folder);
	assert_int_equal(unlink(path), 0);
	(void)snprintf(path, sizeof(path), "%s/ipv6_route", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

/* What is said of a name that is ours says that it is. */
static void test_answers(void **state)
{
	struct dns_question question = { .id = 7, .type = DNS_A, .name = "redis.back" };
	struct dns_answer answer = { .code = DNS_NXDOMAIN, .authoritative = true };
	uint8_t msg[DNS_MESSAGE];

	(void)state;
	assert_true(dns_put_answer(msg, &question, &answer) > 12);
	assert_int_equal(msg[2] & 0x84, 0x84);
	assert_int_equal(msg[3] & 15, DNS_NXDOMAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_subnets),     cmocka_unit_test(test_names),     cmocka_unit_test(test_places),
		cmocka_unit_test(test_without_six), cmocka_unit_test(test_check),     cmocka_unit_test(test_rules),
		cmocka_unit_test(test_shares),      cmocka_unit_test(test_questions), cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reasons),     cmocka_unit_test(test_overlaps),  cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
