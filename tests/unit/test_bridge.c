/* mvm-bridge: what it may be asked, the policy, the names of its ports; and the rules of a guest that is on a bridge. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/bridge.h"
#include "bridge/policy.h"
#include "uplink/rules.h"

static const struct bridge_request good = { .version = BRIDGE_VERSION,
					    .bridge = "br0",
					    .mac = { 0x0e, 0x6d, 0x76, 0, 0, 1 } };

static void test_request(void **state)
{
	struct bridge_request request = good, read;

	(void)state;
	assert_null(bridge_request_read(&request, sizeof(request), false, &read));
	assert_memory_equal(&read, &good, sizeof(good));
	assert_non_null(bridge_request_read(&request, sizeof(request) - 1, false, &read));
	assert_non_null(bridge_request_read(&request, sizeof(request) + 1, false, &read));
	assert_non_null(bridge_request_read(&request, 0, false, &read));
	request.version++;
	assert_non_null(bridge_request_read(&request, sizeof(request), false, &read));
	request = good;
	request.reserved[1] = 1;
	assert_non_null(bridge_request_read(&request, sizeof(request), false, &read));
	request = good;
	request.bridge[BRIDGE_DEVICE - 1] = 'x'; /* behind its end */
	assert_non_null(bridge_request_read(&request, sizeof(request), false, &read));
	request = good;
	request.mac[0] = 3; /* a group's */
	assert_non_null(bridge_request_read(&request, sizeof(request), true, &read));
	for (unsigned i = 0; i < 3; i++) { /* another's */
		request = good;
		request.mac[i] ^= 4;
		assert_non_null(strstr(bridge_request_read(&request, sizeof(request), false, &read), "with 0e:6d:76"));
		assert_null(bridge_request_read(&request, sizeof(request), true, &read));
	}
	memset(request.mac, 0, sizeof(request.mac));
	assert_non_null(bridge_request_read(&request, sizeof(request), true, &read));
}

static void test_devices(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "a:b", "a b", "a%d", "a\n", "\xff", "a\x7f" };
	char name[BRIDGE_DEVICE];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(name, sizeof(name), "%s", bad[i]);
		assert_false(bridge_is_device(name));
	}
	assert_true(bridge_is_device("virbr0\0........."));
	assert_true(bridge_is_device("fifteen-letters"));
	memset(name, 'x', sizeof(name));
	assert_false(bridge_is_device(name));
}

static void test_names(void **state)
{
	char buf[BRIDGE_DEVICE];

	(void)state;
	assert_string_equal(bridge_port_name(0, 1, 0, buf), "mv0000000000100");
	assert_string_equal(bridge_port_name(1000, 35, 36, buf), "mv00000rs000z10");
	assert_string_equal(bridge_port_name(UINT32_MAX, 36 * 36 * 36 * 36 - 1, BRIDGE_SLOTS - 1, buf),
			    "mv1z141z3zzzzzz");
	assert_string_equal(bridge_port_name(1, INT32_MAX, POLICY_PORTS_MAX - 1, buf), "mv0000001k0zjsf");
	assert_true(bridge_is_device(buf));
}

/* ---- the policy ---- */

static bool look_up(void *arg, bool group, const char *name, uint32_t *ret_id)
{
	(void)arg;
	if (!group && !strcmp(name, "alice"))
		*ret_id = 1000;
	else if (group && !strcmp(name, "dev"))
		*ret_id = 50;
	else
		return false;
	return true;
}

static void test_policy(void **state)
{
	static const struct {
		const char *text, *bridge;
		unsigned ports, wrong; /* a line */
		bool isolated;
	} cases[] = {
		{ "", "br0", 0, 0, false },
		{ "# nothing\n\n  \t\n", "br0", 0, 0, false },
		{ "allow user alice bridge br0 ports 4", "br0", 4, 0, false },
		{ "allow user alice bridge br0 ports 4", "br1", 0, 0, false },
		{ "allow user alice bridge br0 ports 4", "br", 0, 0, false },
		{ "\tallow  user\t1000 bridge br0 ports 1024 isolated # x\n", "br0", 1024, 0, true },
		{ "allow user bob bridge br0 ports 4\nallow group dev bridge br0 ports 2", "br0", 2, 0, false },
		{ "allow group 50 bridge br0 ports 2\nallow user alice bridge br0 ports 9", "br0", 2, 0, false },
		{ "allow group 7 bridge br0 ports 3", "br0", 3, 0, false },
		{ "allow group 1000 bridge br0 ports 3\nallow user 50 bridge br0 ports 3", "br0", 0, 0, false },
		{ "allow group alice bridge br0 ports 3", "br0", 0, 0, false },
		{ "allow", "br0", 0, 1, false },
		{ "\nallow user alice bridge br0 ports", "br0", 0, 2, false },
		{ "allow user alice bridge br0 ports 4\nx", "br0", 0, 2, false },
		{ "Allow user alice bridge br0 ports 4", "br0", 0, 1, false },
		{ "allow everybody alice bridge br0 ports 4", "br0", 0, 1, false },
		{ "allow user alice network br0 ports 4", "br0", 0, 1, false },
		{ "allow user alice bridge a/b ports 4", "br0", 0, 1, false },
		{ "allow user alice bridge much-longer-than-that ports 4", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 0", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 1025", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 04", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports -1", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 4294967297", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 4 isolate", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 4 isolated too", "br0", 0, 1, false },
		{ "allow user alice bridge br0 ports 4\r\n", "br0", 0, 1, false },
		{ "allow user \xc3\xa4 bridge br0 ports 4", "br0", 0, 1, false },
	};
	const struct policy_caller caller = { .uid = 1000, .gids = { 100, 50, 7 }, .ngids = 3 };
	struct policy_grant grant;
	char text[POLICY_TEXT], line[400];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned wrong;

		grant = (struct policy_grant){ 0 };
		wrong = policy_read(cases[i].text, strlen(cases[i].text), cases[i].bridge, &caller, look_up, NULL,
				    &grant, text);
		if (wrong != cases[i].wrong || grant.ports != cases[i].ports || grant.isolated != cases[i].isolated)
			fail_msg("%s: line %u, %u ports%s", cases[i].text, wrong, grant.ports,
				 grant.isolated ? ", isolated" : "");
	}
	memset(line, ' ', sizeof(line));
	assert_int_equal(policy_read(line, 255, "br0", &caller, look_up, NULL, &grant, text), 0);
	assert_int_equal(policy_read(line, 256, "br0", &caller, look_up, NULL, &grant, text), 1);
	assert_int_equal(policy_read("a\0b", 3, "br0", &caller, look_up, NULL, &grant, text), 1);
	line[0] = '#'; /* whatever its length */
	assert_int_equal(policy_read(line, sizeof(line), "br0", &caller, look_up, NULL, &grant, text), 0);
}

static void test_ids(void **state)
{
	static const struct {
		const char *line, *name;
		uint32_t id;
	} cases[] = {
		{ "alice:x:1000:1000::/home/alice:/bin/sh", "alice", 1000 },
		{ "dev:x:50:alice,bob", "dev", 50 },
		{ "dev:x:50:", "dev", 50 },
		{ "alice:x:1000:", "alic", 0 },
		{ "alice:x:1000:", "alice:x", 0 },
		{ "alice:x:1000", "alice", 0 },
		{ "alice:x", "alice", 0 },
		{ "alice:", "alice", 0 },
		{ "alice", "alice", 0 },
		{ "alice:x::", "alice", 0 },
		{ "alice:x:1e3:", "alice", 0 },
		{ "alice:x:4294967295:", "alice", 0 },
		{ "alice:x:111111111111111111:", "alice", 0 },
		{ "", "alice", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t id = 0;

		if (policy_id_of(cases[i].line, strlen(cases[i].line), cases[i].name, &id) != (cases[i].id != 0) ||
		    id != cases[i].id)
			fail_msg("%s: %u", cases[i].line, id);
	}
}

/* ---- the rules ---- */

static struct uplink_request on_bridge(uint32_t flags)
{
	struct uplink_request request = { .flags = flags | UPLINK_BRIDGE, .mac = { 2, 0, 0, 0, 0, 1 } };

	if (flags & UPLINK_IP4) {
		(void)inet_pton(AF_INET, "10.9.0.5", request.place.ip4);
		request.place.bits4 = 23;
	}
	if (flags & UPLINK_IP6) {
		(void)inet_pton(AF_INET6, "fd09::5", request.place.ip6);
		request.place.bits6 = 64;
	}
	return request;
}

static bool says(const struct uplink_request *request, const char *text)
{
	char *rules = rules_bridge_text(request);
	bool found;

	assert_non_null(rules);
	found = strstr(rules, text) != NULL;
	free(rules);
	return found;
}

static void test_rules(void **state)
{
	struct uplink_request both = on_bridge(UPLINK_IP4 | UPLINK_IP6), four = on_bridge(UPLINK_IP4),
			      six = on_bridge(UPLINK_IP6), deny = on_bridge(UPLINK_IP4 | UPLINK_IP6 | UPLINK_DENY);
	static const char own_network[] = "chain to_private {\n\t\tip daddr 10.9.0.0/23 goto new\n"
					  "\t\tip6 daddr fd09::/64 goto new\n\t\tgoto refuse_private\n";

	(void)state;
	/* its own network, but not by that the host */
	assert_true(says(&both, own_network));
	assert_true(says(&both, "chain to_host {\n\t\tgoto refuse_host\n"));
	assert_true(says(&both, "chain to_metadata {\n\t\tgoto refuse_metadata\n"));
	assert_true(says(&deny, "chain to_private {\n\t\tgoto refuse_private\n"));
	assert_true(says(&deny, "chain to_egress {\n\t\tgoto refuse_egress\n"));
	/* a family without an address has nothing */
	assert_true(says(&both, "\t\tip saddr 10.9.0.5 accept\n"));
	assert_true(says(&both, "\t\tip6 saddr { ::, fd09::5, fe80::0000:00ff:fe00:0001 } accept\n"));
	assert_false(says(&four, "\t\tip6 saddr { ::"));
	assert_false(says(&six, "\t\tip saddr"));
	assert_false(says(&six, "arp saddr"));
	assert_true(says(&four, "arp operation request arp saddr ip set 10.9.0.5\n"));
	/* nothing is translated, and nobody comes by its address */
	assert_false(says(&both, "masquerade"));
	assert_true(says(&both, "chain arrive {\n\t\tip saddr 10.9.0.5 drop\n\t\tip6 saddr fd09::5 drop\n"));
	/* all that can be named, and the networks */
	both.nrules = UPLINK_RULES;
	for (unsigned i = 0; i < UPLINK_RULES; i++)
		both.rules[i] =
			(struct uplink_rule){ .family = 4, .prefix = 32, .address = { 192, 168, 0, (uint8_t)i } };
	assert_true(says(&both, "\t\tip daddr 192.168.0.63/32 goto new\n\t\tip daddr 10.9.0.0/23 goto new\n"));
}

/* The resolver asks the server that was named, as the guest; and nobody but the guest asks it. */
static void test_rules_names(void **state)
{
	struct uplink_request request = on_bridge(UPLINK_IP4 | UPLINK_IP6 | UPLINK_DENY);

	(void)state;
	assert_false(says(&request, "dport 53"));
	assert_false(says(&request, "snat"));
	request.nnames = 1;
	request.names[0] = (struct uplink_name){ .name = "example.org", .port = 443, .protocol = IPPROTO_TCP };
	request.flags |= UPLINK_DNS6;
	(void)inet_pton(AF_INET6, "2001:db8::53", request.place.server6);
	assert_true(says(&request, "\t\tip daddr @name4_0 tcp dport 443 goto new\n"));
	assert_true(says(&request, "\t\toifname \"out0\" ip6 daddr 2001:db8::53 udp dport 53 accept\n"));
	assert_false(says(&request, "oifname \"out0\" ip daddr"));
	/* errors about its questions are nobody's to make up, and names open nothing of the guest's own network */
	assert_true(says(&request, "\t\tct state related ct original ip saddr 10.9.0.5 accept\n"));
	assert_true(says(&request, "\t\tct state related,invalid drop\n"));
	assert_true(says(&request, "\t\tip6 daddr fd09::/64 goto to_private\n"));
	assert_true(says(&request, "\t\tiifname \"vm0\" ip daddr 192.0.0.1 udp dport 53 drop\n"));
	assert_true(says(&request, "\t\toifname \"out0\" ip saddr 192.0.0.1 snat ip to 10.9.0.5\n"
				   "\t\toifname \"out0\" ip6 saddr fd6e:82a4:17c9::1 snat ip6 to fd09::5\n"));
	request = on_bridge(UPLINK_IP4 | UPLINK_DENY | UPLINK_DNS4);
	request.nnames = 1;
	(void)inet_pton(AF_INET, "10.9.0.53", request.place.server4);
	assert_true(says(&request, "\t\toifname \"out0\" ip daddr 10.9.0.53 udp dport 53 accept\n"));
	assert_false(says(&request, "snat ip6"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),     cmocka_unit_test(test_devices), cmocka_unit_test(test_names),
		cmocka_unit_test(test_policy),      cmocka_unit_test(test_ids),     cmocka_unit_test(test_rules),
		cmocka_unit_test(test_rules_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
