/* --allow-egress and --egress: their texts, the rules made of them, and the refused packets that come back. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/net_user.h"
#include "lib/net_user_host.h"
#include "lib/spec.h"
#include "lib/spec_egress.h"
#include "uplink/nfnl.h"
#include "uplink/rules.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text;
		unsigned family, prefix, port, protocol;
		const char *refused; /* a word of the error */
	} cases[] = {
		{ "10.0.0.1", 4, 32, 0, 0, NULL },
		{ "10.0.0.0/8", 4, 8, 0, 0, NULL },
		{ "0.0.0.0/0", 4, 0, 0, 0, NULL },
		{ "10.0.0.1:80", 4, 32, 80, 0, NULL },
		{ "10.0.0.0/8:443/tcp", 4, 8, 443, IPPROTO_TCP, NULL },
		{ "10.0.0.1:53/udp", 4, 32, 53, IPPROTO_UDP, NULL },
		{ "::/0", 6, 0, 0, 0, NULL },
		{ "2001:db8::1", 6, 128, 0, 0, NULL },
		{ "2001:db8::/32", 6, 32, 0, 0, NULL },
		{ "[2001:db8::1]", 6, 128, 0, 0, NULL },
		{ "[2001:db8::/32]:443/tcp", 6, 32, 443, IPPROTO_TCP, NULL },
		{ "example.org", 0, 0, 0, 0, NULL },
		{ "*.Example.org:443", 0, 0, 443, 0, NULL },
		{ "a-1.example.org.:53/udp", 0, 0, 53, IPPROTO_UDP, NULL },
		{ "", 0, 0, 0, 0, "neither an address nor a name" },
		{ "example.org/24", 0, 0, 0, 0, "neither" },
		{ "*", 0, 0, 0, 0, "neither" },
		{ "*example.org", 0, 0, 0, 0, "neither" },
		{ "a.*.org", 0, 0, 0, 0, "neither" },
		{ "example.org:0", 0, 0, 0, 0, "1 to 65535" },
		{ "10.0.0", 0, 0, 0, 0, "neither an address" },
		{ "10.0.0.1/33", 0, 0, 0, 0, "0 to 32 bits" },
		{ "10.0.0.1/", 0, 0, 0, 0, "0 to 32 bits" },
		{ "10.0.0.1/-1", 0, 0, 0, 0, "0 to 32 bits" },
		{ "10.1.2.3/8", 0, 0, 0, 0, "write 10.0.0.0/8" },
		{ "2001:db8::1/32", 0, 0, 0, 0, "write 2001:db8::/32" },
		{ "10.0.0.1:", 0, 0, 0, 0, "1 to 65535" },
		{ "10.0.0.1:0", 0, 0, 0, 0, "1 to 65535" },
		{ "10.0.0.1:65536", 0, 0, 0, 0, "1 to 65535" },
		{ "10.0.0.1:80/", 0, 0, 0, 0, "tcp or udp" },
		{ "10.0.0.1:80/sctp", 0, 0, 0, 0, "tcp or udp" },
		{ "[2001:db8::1", 0, 0, 0, 0, "brackets" },
		{ "[2001:db8::1]x", 0, 0, 0, 0, "brackets" },
		{ "[]:1", 0, 0, 0, 0, "neither an address" },
		{ "fe80::1%eth0", 0, 0, 0, 0, "neither an address" },
		{ "10.0.0.1; drop", 0, 0, 0, 0, "neither an address" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct spec_egress rule;
		struct mvm_error err = { 0 };
		int r = spec_egress_parse("--allow-egress", cases[i].text, &rule, &err);

		if (cases[i].refused) {
			assert_true(r < 0);
			if (!strstr(err.text, cases[i].refused))
				fail_msg("%s: %s", cases[i].text, err.text);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(rule.to.family, cases[i].family);
		assert_int_equal(rule.name[0] != '\0', !cases[i].family);
		assert_int_equal(rule.below, cases[i].text[0] == '*');
		assert_int_equal(rule.to.prefix, cases[i].prefix);
		assert_int_equal(rule.port, cases[i].port);
		assert_int_equal(rule.protocol, cases[i].protocol);
	}
}

/* A spec by settings, one after the other: each is refused with those words, or fine. */
static struct mvm_spec *spec_by(const char *const steps[][3], size_t n)
{
	struct mvm_spec *spec;
	struct mvm_error err;

	assert_int_equal(mvm_spec_new(&spec), 0);
	assert_int_equal(mvm_spec_set(spec, "rootfs", "a", NULL), 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "true", NULL }, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		int r;

		assert_int_equal(mvm_spec_set(spec, steps[i][0], steps[i][1], &err), 0);
		r = mvm_spec_check(spec, &err);
		if (!steps[i][2])
			assert_int_equal(r, 0);
		else
			assert_true(r < 0 && strstr(err.text, steps[i][2]));
	}
	return spec;
}

/* With a proxy the rules have something to rule, and one way out is enough. */
static void test_check_proxy(void **state)
{
	static const char *const steps[][3] = {
		{ "egress", "deny", "add it" },
		{ "proxy", NULL, NULL },
		{ "publish", "80:80", NULL },
		{ "publish", "3128/udp", NULL },
		{ "net", "tap=t", "do not hold on --net tap=t" },
		{ "publish", "3128", "the proxy's" },
	};
	struct mvm_spec *spec, *back;
	struct mvm_error err;
	char *json;

	(void)state;
	spec = spec_by(steps, sizeof(steps) / sizeof(steps[0]));
	assert_int_equal(mvm_spec_set(spec, "net", "user", &err), 0);
	assert_true(mvm_spec_check(spec, &err) < 0 && strstr(err.text, "leads out already"));
	assert_int_equal(mvm_spec_to_json(spec, &json, &err), 0);
	assert_non_null(strstr(json, "\"proxy\":true"));
	assert_int_equal(mvm_spec_from_json(json, strlen(json), &back, &err), 0);
	assert_true(back->proxy);
	free(json);
	mvm_spec_free(back);
	mvm_spec_free(spec);
}

static void test_check(void **state)
{
	static const char *const steps[][3] = {
		{ "egress", "deny", "add it" },
		{ "net", "user", NULL },
		{ "allow-egress", "10.0.0.0/8", NULL },
		{ "allow-egress", "[fd00::/8]:443/tcp", NULL },
		{ "allow-egress", "example.org", NULL },
		{ "egress", "allow", "--egress deny" },
		{ "egress", "deny", NULL },
		{ "net", "tap=t", "do not hold on --net tap=t" },
		{ "net", "user,dns=9.9.9.9", "one way out" },
	};
	struct mvm_spec *spec, *back;
	struct mvm_error err;
	char *json;

	(void)state;
	spec = spec_by(steps, sizeof(steps) / sizeof(steps[0]));
	assert_true(mvm_spec_set(spec, "egress", "maybe", &err) < 0);
	assert_int_equal(mvm_spec_to_json(spec, &json, &err), 0);
	assert_non_null(strstr(json, "\"egress\":\"deny\""));
	assert_int_equal(mvm_spec_from_json(json, strlen(json), &back, &err), 0);
	assert_int_equal(back->allow_egress.n, 3);
	assert_string_equal(back->allow_egress.v[1], "[fd00::/8]:443/tcp");
	free(json);
	mvm_spec_free(back);
	mvm_spec_free(spec);
}

/* Without rules a tap or a socket may stand beside what leads out; of rules each kind is refused beside them. */
static void test_check_beside(void **state)
{
	static const char *const steps[][3] = {
		{ "net", "user", NULL },
		{ "net", "socket=/s", NULL },
		{ "allow-egress", "10.0.0.0/8", "--allow-egress: rules do not hold on --net socket=/s" },
		{ "egress", "allow", "--egress: rules do not hold on --net socket=/s" },
	};

	(void)state;
	mvm_spec_free(spec_by(steps, sizeof(steps) / sizeof(steps[0])));
}

static struct uplink_rule rule_of(const char *text)
{
	struct spec_egress parsed;
	struct uplink_rule rule = { 0 };

	assert_int_equal(spec_egress_parse("", text, &parsed, NULL), 0);
	rule.family = parsed.to.family;
	rule.prefix = parsed.to.prefix;
	rule.port = parsed.port;
	rule.protocol = parsed.protocol;
	memcpy(rule.address, parsed.to.bytes, sizeof(rule.address));
	return rule;
}

static void test_private(void **state)
{
	static const char *const private[] = {
		"10.0.0.0/8",      "10.255.255.255",
		"172.31.0.1",      "192.168.0.0/24",
		"100.127.255.255", "169.254.1.1",
		"127.0.0.1",       "192.0.0.9",
		"224.0.0.251",     "255.255.255.255",
		"198.19.0.1",      "0.0.0.0",
		"fd00::/8",        "fe80::1",
		"ff02::1",         "::1",
		"::ffff:10.0.0.1", "2002:a00:1::",
		"2001:0:1::",      "64:ff9b::10.0.0.1",
		"64:ff9b:1::/48",  "64:ff9b::169.254.0.0/112",
	};
	static const char *const public[] = {
		"0.0.0.0/0",        "::/0",         "8.8.8.8",   "172.32.0.1",           "192.0.2.1",
		"100.128.0.0",      "128.0.0.0/1",  "2000::/3",  "2001:4860:4860::8888", "2a00::/12",
		"64:ff9b::8.8.8.8", "64:ff9b::/96", "8.0.0.0/5",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(private) / sizeof(private[0]); i++) {
		struct uplink_rule rule = rule_of(private[i]);

		if (!rules_is_private(&rule))
			fail_msg("%s is private", private[i]);
	}
	for (size_t i = 0; i < sizeof(public) / sizeof(public[0]); i++) {
		struct uplink_rule rule = rule_of(public[i]);

		if (rules_is_private(&rule))
			fail_msg("%s is public", public[i]);
	}
}

/* The text of one chain. */
static char *chain_of(const char *rules, const char *name)
{
	char head[64];
	const char *at, *end;

	(void)snprintf(head, sizeof(head), "\tchain %s {\n", name);
	at = strstr(rules, head);
	assert_non_null(at);
	end = strstr(at, "\t}\n");
	assert_non_null(end);
	return strndup(at + strlen(head), (size_t)(end - at) - strlen(head));
}

static void expect_chain(const struct uplink_request *request, const char *name, const char *want)
{
	char *rules = rules_text(request), *chain;

	assert_non_null(rules);
	chain = chain_of(rules, name);
	assert_string_equal(chain, want);
	free(chain);
	free(rules);
}

/* A rule stands where it opens something, and nowhere else. */
static void test_rules(void **state)
{
	struct uplink_request request = { .flags = UPLINK_IP4 | UPLINK_IP6 | UPLINK_DENY, .nrules = 5 };
	char *rules, *guest;

	(void)state;
	request.rules[0] = rule_of("0.0.0.0/0:443/tcp");
	request.rules[1] = rule_of("10.1.0.0/16");
	request.rules[2] = rule_of("169.254.169.254:80");
	request.rules[3] = rule_of("[2001:db8::1]:53/udp");
	request.rules[4] = rule_of("::/0");
	expect_chain(&request, "to_host",
		     "\t\tip daddr 169.254.169.254/32 meta l4proto { tcp, udp } th dport 80 goto new\n"
		     "\t\tip6 daddr 2001:db8::1/128 udp dport 53 goto new\n"
		     "\t\tgoto refuse_host\n");
	expect_chain(&request, "to_metadata",
		     "\t\tip daddr 169.254.169.254/32 meta l4proto { tcp, udp } th dport 80 goto new\n"
		     "\t\tip6 daddr 2001:db8::1/128 udp dport 53 goto new\n"
		     "\t\tgoto refuse_metadata\n");
	expect_chain(&request, "to_private",
		     "\t\tip daddr 10.1.0.0/16 goto new\n"
		     "\t\tip daddr 169.254.169.254/32 meta l4proto { tcp, udp } th dport 80 goto new\n"
		     "\t\tip6 daddr 2001:db8::1/128 udp dport 53 goto new\n"
		     "\t\tgoto refuse_private\n");
	expect_chain(&request, "to_egress",
		     "\t\tmeta nfproto ipv4 tcp dport 443 goto new\n"
		     "\t\tip daddr 10.1.0.0/16 goto new\n"
		     "\t\tip daddr 169.254.169.254/32 meta l4proto { tcp, udp } th dport 80 goto new\n"
		     "\t\tip6 daddr 2001:db8::1/128 udp dport 53 goto new\n"
		     "\t\tmeta nfproto ipv6 goto new\n"
		     "\t\tgoto refuse_egress\n");
	rules = rules_text(&request);
	guest = chain_of(rules, "guest");
	assert_non_null(strstr(guest, "ip daddr { 0.0.0.0/8, 127.0.0.0/8 } goto refuse_host\n"));
	assert_true(strstr(guest, "{ ::/96, ::ffff:0:0/96 } goto refuse_host\n") < strstr(guest, "goto to_private"));
	assert_null(strstr(guest, "dport 53"));
	free(guest);
	free(rules);
	/* the host's neighbours are private, but for those that are named */
	request.nlinks = 2;
	request.links[0] = rule_of("203.0.113.0/24");
	request.links[1] = rule_of("2001:db8::/64");
	request.rules[1] = rule_of("203.0.113.128/25");
	expect_chain(&request, "to_private",
		     "\t\tip daddr 203.0.113.128/25 goto new\n"
		     "\t\tip daddr 169.254.169.254/32 meta l4proto { tcp, udp } th dport 80 goto new\n"
		     "\t\tip6 daddr 2001:db8::1/128 udp dport 53 goto new\n"
		     "\t\tgoto refuse_private\n");
	rules = rules_text(&request);
	guest = chain_of(rules, "guest");
	assert_non_null(strstr(guest, "\t\tip daddr 203.0.113.0/24 goto to_private\n"
				      "\t\tip6 daddr 2001:db8::/64 goto to_private\n"
				      "\t\tgoto to_egress\n"));
	free(guest);
	free(rules);
	request.flags = UPLINK_IP4;
	request.nrules = 0;
	expect_chain(&request, "to_egress", "\t\tgoto new\n\t\tgoto refuse_egress\n");
	expect_chain(&request, "to_private", "\t\tgoto refuse_private\n");
}

static void name_of(struct uplink_name *ret, const char *name, unsigned port, bool below)
{
	*ret = (struct uplink_name){ .port = (uint16_t)port, .below = below };
	assert_true(dns_name(name, ret->name));
}

static void test_names(void **state)
{
	struct uplink_request request = { .flags = UPLINK_IP4 | UPLINK_DENY | UPLINK_DNS4, .nrules = 1, .nnames = 2 };
	char *rules, *guest, *input;

	(void)state;
	name_of(&request.names[0], "example.org", 0, false);
	name_of(&request.names[1], "example.net", 443, true);
	assert_true(rules_name_matches(&request.names[0], "example.org"));
	assert_false(rules_name_matches(&request.names[0], "a.example.org"));
	assert_true(rules_name_matches(&request.names[1], "a.example.net"));
	assert_true(rules_name_matches(&request.names[1], "a.b.example.net"));
	assert_false(rules_name_matches(&request.names[1], "example.net"));
	assert_false(rules_name_matches(&request.names[1], "anexample.net"));
	assert_false(rules_name_matches(&request.names[1], ".example.net"));
	assert_false(rules_name_matches(&request.names[1], "net"));
	request.rules[0] = rule_of("10.0.0.1");
	expect_chain(&request, "to_egress",
		     "\t\tip daddr 10.0.0.1/32 goto new\n"
		     "\t\tip daddr @name4_0 goto new\n"
		     "\t\tip6 daddr @name6_0 goto new\n"
		     "\t\tip daddr @name4_1 meta l4proto { tcp, udp } th dport 443 goto new\n"
		     "\t\tip6 daddr @name6_1 meta l4proto { tcp, udp } th dport 443 goto new\n"
		     "\t\tgoto refuse_egress\n");
	/* what a name has that is private is not reached by it */
	expect_chain(&request, "to_private", "\t\tip daddr 10.0.0.1/32 goto new\n\t\tgoto refuse_private\n");
	rules = rules_text(&request);
	guest = chain_of(rules, "guest");
	input = chain_of(rules, "input");
	assert_null(strstr(guest, "dport 53"));
	assert_true(strstr(guest, "192.0.0.8/29 goto refuse_gateway") < strstr(guest, "goto to_private"));
	assert_non_null(strstr(input, "udp dport 53"));
	assert_true(strstr(input, "udp dport 53") < strstr(input, "goto refuse_gateway"));
	assert_non_null(strstr(rules, "notrack"));
	free(guest);
	free(input);
	free(rules);
	request.nnames = 0;
	rules = rules_text(&request);
	input = chain_of(rules, "input");
	assert_null(strstr(input, "53"));
	free(input);
	free(rules);
}

/* A message as nfnetlink_log writes it, cut to `len` of its packet. */
static size_t make_log(uint8_t buf[512], const char *prefix, const void *packet, size_t len)
{
	struct nlmsghdr *hdr = (struct nlmsghdr *)(void *)buf;
	size_t at = NLMSG_HDRLEN + sizeof(struct nfgenmsg);
	struct nlattr attr = { (uint16_t)(sizeof(attr) + strlen(prefix) + 1), NFULA_PREFIX };

	memset(buf, 0, 512);
	hdr->nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET;
	memcpy(buf + at, &attr, sizeof(attr));
	memcpy(buf + at + sizeof(attr), prefix, strlen(prefix) + 1);
	at += (attr.nla_len + 3U) & ~3U;
	attr = (struct nlattr){ (uint16_t)(sizeof(attr) + len), NFULA_PAYLOAD };
	memcpy(buf + at, &attr, sizeof(attr));
	memcpy(buf + at + sizeof(attr), packet, len);
	at += (attr.nla_len + 3U) & ~3U;
	hdr->nlmsg_len = (uint32_t)at;
	return at;
}

static void test_refused(void **state)
{
	static const uint8_t tcp4[24] = { 0x45, [9] = IPPROTO_TCP, [16] = 10, 1, 2, 3, 0, 1, 0x1f, 0x90 };
	static const uint8_t later[24] = { 0x45, [6] = 0, [7] = 1, [9] = IPPROTO_UDP, [16] = 10, 1, 2, 3, 0, 1, 0, 53 };
	static const uint8_t udp6[44] = { 0x60, [6] = IPPROTO_UDP, [24] = 0xfd, [39] = 1, 0, 1, 0, 53 };
	uint8_t buf[512] __attribute__((aligned(8)));
	struct uplink_refused refused;
	char text[NET_USER_PLACE_TEXT];
	size_t n;

	(void)state;
	n = make_log(buf, "mvm-private", tcp4, sizeof(tcp4));
	assert_true(nfnl_parse_refused(buf, n, &refused));
	assert_int_equal(refused.reason, UPLINK_PRIVATE);
	assert_string_equal(net_user_place_text(&refused, text), "tcp 10.1.2.3:8080");
	n = make_log(buf, "mvm-host", udp6, sizeof(udp6));
	assert_true(nfnl_parse_refused(buf, n, &refused));
	assert_string_equal(net_user_place_text(&refused, text), "udp [fd00::1]:53");
	n = make_log(buf, "mvm-host", later, sizeof(later));
	assert_true(nfnl_parse_refused(buf, n, &refused));
	assert_int_equal(refused.port, 0);
	n = make_log(buf, "mvm-hosts", tcp4, sizeof(tcp4));
	assert_false(nfnl_parse_refused(buf, n, &refused));
	n = make_log(buf, "other", tcp4, sizeof(tcp4));
	assert_false(nfnl_parse_refused(buf, n, &refused));
	/* Whatever is cut off: no byte beyond is read (ASan looks), and what is not there is not told. */
	for (size_t len = 0; len < sizeof(tcp4); len++) {
		n = make_log(buf, "mvm-private", tcp4, len);
		assert_int_equal(nfnl_parse_refused(buf, n, &refused), len >= 20);
	}
	n = make_log(buf, "mvm-private", tcp4, sizeof(tcp4));
	for (size_t len = 0; len < n; len++) {
		uint8_t *copy = malloc(len + 1);

		memcpy(copy, buf, len);
		assert_false(nfnl_parse_refused(copy, len, &refused));
		free(copy);
	}
}

static void put_file(const char *folder, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

#define ROUTE_HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
#define ZERO       "00000000000000000000000000000000 00 "
#define HOP        "00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 "

static void test_host_routes(void **state)
{
	static const struct {
		const char *route, *route6;
		bool four, six;
	} cases[] = {
		{ ROUTE_HEAD "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
		  "00000000000000000000000000000000 00 " HOP "00000003     eth0\n", true, true },
		{ ROUTE_HEAD "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n",
		  ZERO HOP "00200200       lo\n", false, false },
		{ ROUTE_HEAD "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n",
		  ZERO HOP "00200203     eth0\n", false, false },
		{ ROUTE_HEAD, "20010db8000000000000000000000000 40 " HOP "00000003     eth0\n", false, false },
		{ "", "", false, false },
	};
	char folder[] = "/tmp/mvm-routes-XXXXXX", path[128];
	bool four, six;

	(void)state;
	assert_non_null(mkdtemp(folder));
	net_user_host_routes(folder, &four, &six);
	assert_false(four || six);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_file(folder, "route", cases[i].route);
		put_file(folder, "ipv6_route", cases[i].route6);
		net_user_host_routes(folder, &four, &six);
		assert_int_equal(four, cases[i].four);
		assert_int_equal(six, cases[i].six);
	}
	(void)snprintf(path, sizeof(path), "%s/route", folder);
	assert_int_equal(unlink(path), 0);
	(void)snprintf(path, sizeof(path), "%s/ipv6_route", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void expect_link(const struct uplink_rule *link, const char *text)
{
	struct uplink_rule want = rule_of(text);

	assert_memory_equal(link, &want, sizeof(want));
}

static void test_host_links(void **state)
{
	char folder[] = "/tmp/mvm-links-XXXXXX", path[128], many[8192] = "";
	struct uplink_rule links[UPLINK_LINKS];
	uint32_t n;

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(net_user_host_links(folder, links, &n), 0);
	assert_int_equal(n, 0);
	put_file(folder, "route",
		 ROUTE_HEAD "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" /* by a gateway */
			    "eth0\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
			    "eth0\t00000008\t0100000A\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n"
			    "wg0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n" /* half of all */
			    "*\t00000009\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n"); /* refused there */
	put_file(folder, "ipv6_route",
		 "20010db8005500000000000000000000 40 00000000000000000000000000000000 00 "
		 "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
		 "20010db8005500000000000000000002 80 00000000000000000000000000000000 00 "
		 "00000000000000000000000000000000 00000000 00000001 00000000 80200001       lo\n"
		 "20000000000000000000000000000000 03 00000000000000000000000000000000 00 "
		 "00000000000000000000000000000000 00000100 00000001 00000000 00000001      wg0\n"
		 "20010db8000000000000000000000000 40 " HOP "00000003     eth0\n");
	assert_int_equal(net_user_host_links(folder, links, &n), 0);
	assert_int_equal(n, 2);
	expect_link(&links[0], "203.0.113.0/24");
	expect_link(&links[1], "2001:db8:55::/64");
	for (unsigned i = 0; i <= UPLINK_LINKS; i++)
		(void)snprintf(many + strlen(many), sizeof(many) - strlen(many),
			       "eth0\t00%02X00CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", i);
	put_file(folder, "route", many);
	assert_int_equal(net_user_host_links(folder, links, &n), -E2BIG);
	(void)snprintf(path, sizeof(path), "%s/route", folder);
	assert_int_equal(unlink(path), 0);
	(void)snprintf(path, sizeof(path), "%s/ipv6_route", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void test_servers(void **state)
{
	static const struct {
		const char *text;
		bool four, six;
	} cases[] = {
		{ "", true, false },
		{ "# nameserver ::1\nnameserver 127.0.0.53\noptions edns0\n", true, false },
		{ "nameserver ::1\n", false, true },
		{ "search a\nnameserver 10.0.0.1\nnameserver fd00::1\n", true, true },
	};
	char folder[] = "/tmp/mvm-resolv-XXXXXX", path[128];
	bool four, six;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/resolv.conf", folder);
	net_user_host_servers(path, &four, &six);
	assert_true(four && !six);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_file(folder, "resolv.conf", cases[i].text);
		net_user_host_servers(path, &four, &six);
		assert_int_equal(four, cases[i].four);
		assert_int_equal(six, cases[i].six);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

/* $PATH first, and nothing relative of it. */
static void test_find(void **state)
{
	char folder[] = "/tmp/mvm-find-XXXXXX", own[128], found[UPLINK_PATH], wanted[128];

	(void)state;
	assert_non_null(mkdtemp(folder));
	put_file(folder, "nft", "");
	(void)snprintf(wanted, sizeof(wanted), "%s/nft", folder);
	(void)snprintf(own, sizeof(own), ".:relative::%s", folder);
	assert_int_equal(setenv("PATH", own, 1), 0);
	if (net_user_find("nft", found) == 0)
		assert_string_not_equal(found, wanted); /* not executable */
	assert_int_equal(chmod(wanted, 0755), 0);
	assert_int_equal(net_user_find("nft", found), 0);
	assert_string_equal(found, wanted);
	assert_int_equal(net_user_find("no-such-program", found), -ENOENT);
	assert_int_equal(unlink(wanted), 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),        cmocka_unit_test(test_check),   cmocka_unit_test(test_check_proxy),
		cmocka_unit_test(test_check_beside), cmocka_unit_test(test_private), cmocka_unit_test(test_names),
		cmocka_unit_test(test_rules),        cmocka_unit_test(test_refused), cmocka_unit_test(test_host_routes),
		cmocka_unit_test(test_host_links),   cmocka_unit_test(test_servers), cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
