#include "uplink/rules_put.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOWS     4096U /* connections of a VM at once */
#define FLOWS_UDP 2048U /* of them: each has a port of the host's, of all that are 32768 to 60999, for three minutes */
#define FLOW_RATE 100U
#define LOG_RATE  5U /* refused packets a second that are told, after a burst of 20 */

struct block {
	const char *address;
	unsigned bits;
};

/* RFC 6890 and what came after it: everything but the public internet. Documentation's networks are nobody's: left alone. */
static const struct block private4[] = {
	{ "0.0.0.0", 8 },      { "10.0.0.0", 8 },    { "100.64.0.0", 10 }, { "127.0.0.0", 8 },
	{ "169.254.0.0", 16 }, { "172.16.0.0", 12 }, { "192.0.0.0", 24 },  { "192.168.0.0", 16 },
	{ "198.18.0.0", 15 },  { "224.0.0.0", 4 },   { "240.0.0.0", 4 },
};

/*
 * Outside of 2000::/3 there is no public address but NAT64's, 64:ff9b::/96 (RFC 6052), behind which private4 is private,
 * too; inside, Teredo and 6to4 hold IPv4 addresses.
 */
static const struct block private6[] = {
	{ "::", 3 }, { "2001::", 32 }, { "2002::", 16 }, { "4000::", 2 }, { "8000::", 1 },
};

/*
 * Metadata services of clouds: RFC 3927's that all have, ECS' task metadata, Azure's wire server, Alibaba's; AWS' and Google's by IPv6.
 */
static const struct block metadata4[] = {
	{ "169.254.169.254", 32 }, { "169.254.170.2", 32 },   { "169.254.170.23", 32 },
	{ "168.63.129.16", 32 },   { "100.100.100.200", 32 },
};
static const struct block metadata6[] = { { "fd00:ec2::254", 128 }, { "fd00:ec2::23", 128 }, { "fd20:ce::254", 128 } };

static bool covers(const uint8_t *net, unsigned bits, const uint8_t *address)
{
	for (unsigned bit = 0; bit < bits; bit++)
		if ((net[bit / 8] ^ address[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static bool is_in(const struct block *blocks, size_t n, int family, const uint8_t *address, unsigned prefix)
{
	uint8_t net[16];

	for (size_t i = 0; i < n; i++)
		if (inet_pton(family, blocks[i].address, net) == 1 && prefix >= blocks[i].bits &&
		    covers(net, blocks[i].bits, address))
			return true;
	return false;
}

static const uint8_t nat64[12] = { 0, 0x64, 0xff, 0x9b };

bool rules_is_private(const struct uplink_rule *rule)
{
	const uint8_t *a = rule->address;

	if (rule->family == 4)
		return is_in(private4, N(private4), AF_INET, a, rule->prefix);
	if (rule->prefix >= 96 && memcmp(a, nat64, sizeof(nat64)) == 0)
		return is_in(private4, N(private4), AF_INET, a + 12, rule->prefix - 96U);
	return is_in(private6, N(private6), AF_INET6, a, rule->prefix);
}

/* A neighbour of the host's, or some of them. */
static bool is_linked(const struct policy *policy, const struct uplink_rule *rule)
{
	for (uint32_t i = 0; i < policy->nlinks; i++) {
		const struct uplink_rule *link = &policy->links[i];

		if (link->family == rule->family && rule->prefix >= link->prefix &&
		    covers(link->address, link->prefix, rule->address))
			return true;
	}
	return false;
}

/* ---- text ---- */

static void put_set(FILE *out, const char *name, int family, const struct block *blocks, size_t n)
{
	(void)fprintf(out, "\tset %s {\n\t\ttype %s\n\t\tflags interval\n\t\telements = { ", name,
		      family == AF_INET ? "ipv4_addr" : "ipv6_addr");
	for (size_t i = 0; i < n; i++)
		(void)fprintf(out, "%s%s/%u", i ? ", " : "", blocks[i].address, blocks[i].bits);
	(void)fputs(" }\n\t}\n", out);
}

/* IPv4 networks behind NAT64: the address is the last 32 bits. */
static void put_translated(FILE *out, const char *name, const struct block *blocks, size_t n)
{
	uint8_t address[16] = { 0 };
	char text[INET6_ADDRSTRLEN];

	memcpy(address, nat64, sizeof(nat64));
	(void)fprintf(out, "\tset %s {\n\t\ttype ipv6_addr\n\t\tflags interval\n\t\telements = { ", name);
	for (size_t i = 0; i < n; i++) {
		(void)inet_pton(AF_INET, blocks[i].address, address + 12);
		(void)inet_ntop(AF_INET6, address, text, sizeof(text));
		(void)fprintf(out, "%s%s/%u", i ? ", " : "", text, 96 + blocks[i].bits);
	}
	(void)fputs(" }\n\t}\n", out);
}

bool rules_name_matches(const struct uplink_name *named, const char *name)
{
	size_t len = strlen(name), tail = strlen(named->name);

	if (!named->below)
		return !strcmp(name, named->name);
	return len > tail + 1 && name[len - tail - 1] == '.' && !strcmp(name + len - tail, named->name);
}

const char *rules_name_set(unsigned i, bool four, const char *of, char buf[32])
{
	(void)snprintf(buf, 32, "name%c_%u%s", four ? '4' : '6', i, of);
	return buf;
}

void rules_put(FILE *out, const struct policy *policy, const char *text)
{
	for (; *text; text++)
		if (*text == '~')
			(void)fputs(policy->of, out);
		else
			(void)fputc(*text, out);
}

/* Ports, and that it may be tried. */
static void put_ports(FILE *out, const struct policy *policy, unsigned port, unsigned protocol)
{
	if (port && protocol)
		(void)fprintf(out, " %s dport %u", protocol == IPPROTO_TCP ? "tcp" : "udp", port);
	else if (port)
		(void)fprintf(out, " meta l4proto { tcp, udp } th dport %u", port);
	rules_put(out, policy, " goto new~\n");
}

static void put_where(FILE *out, const struct policy *policy, const struct uplink_rule *rule)
{
	char text[INET6_ADDRSTRLEN];
	bool four = rule->family == 4;

	(void)inet_ntop(four ? AF_INET : AF_INET6, rule->address, text, sizeof(text));
	if (rule->prefix)
		(void)fprintf(out, "\t\t%s daddr %s/%u", four ? "ip" : "ip6", text, rule->prefix);
	else
		(void)fprintf(out, "\t\tmeta nfproto %s", four ? "ipv4" : "ipv6");
	put_ports(out, policy, rule->port, rule->protocol);
}

static void put_names(FILE *out, const struct policy *policy)
{
	char set[32];

	for (unsigned i = 0; i < 2 * policy->nnames; i++) {
		const struct uplink_name *name = &policy->names[i / 2];
		bool four = i % 2 == 0;

		(void)fprintf(out, "\t\t%s daddr @%s", four ? "ip" : "ip6",
			      rules_name_set(i / 2, four, policy->of, set));
		put_ports(out, policy, name->port, name->protocol);
	}
}

/* What was refused is counted, told some times a second, and answered: a program that waits for nothing hangs. */
static void put_refusal(FILE *out, const struct policy *policy, enum uplink_reason reason)
{
	const char *name = uplink_reason_name(reason), *of = policy->of;

	(void)fprintf(out, "\tchain refuse_%s%s {\n\t\tcounter name %s%s\n", name, of, name, of);
	(void)fprintf(out,
		      "\t\tlimit rate %u/second burst 20 packets log prefix \"" RULES_LOG_PREFIX
		      "%s%s\" group %u snaplen %u\n",
		      LOG_RATE, name, of, RULES_LOG_GROUP, RULES_LOG_SNAP);
	if (reason != UPLINK_FLOWS && !policy->proxy)
		(void)fputs("\t\tmeta l4proto tcp reject with tcp reset\n", out);
	if (reason != UPLINK_FLOWS)
		(void)fputs("\t\tlimit rate 100/second burst 40 packets reject with icmpx admin-prohibited\n", out);
	(void)fputs("\t\tdrop\n\t}\n", out);
}

/* A chain that one kind of address goes through: what is named of it passes, the rest is refused. */
static void put_named(FILE *out, const struct policy *policy, enum uplink_reason reason)
{
	(void)fprintf(out, "\tchain to_%s%s {\n", uplink_reason_name(reason), policy->of);
	for (uint32_t i = 0; i < policy->nrules; i++) {
		const struct uplink_rule *rule = &policy->rules[i];
		bool alone = rule->prefix == (rule->family == 4 ? 32 : 128);

		if (reason == UPLINK_EGRESS || alone ||
		    (reason == UPLINK_PRIVATE && (rules_is_private(rule) || is_linked(policy, rule))))
			put_where(out, policy, rule);
	}
	if (reason == UPLINK_EGRESS)
		put_names(out, policy);
	if (reason == UPLINK_EGRESS && !(policy->flags & UPLINK_DENY))
		rules_put(out, policy, "\t\tgoto new~\n");
	(void)fprintf(out, "\t\tgoto refuse_%s%s\n\t}\n", uplink_reason_name(reason), policy->of);
}

static void put_name_sets(FILE *out, const struct policy *policy)
{
	char set[32];

	for (unsigned i = 0; i < 2 * policy->nnames; i++)
		(void)fprintf(out, "\tset %s {\n\t\ttype %s\n\t\tflags timeout\n\t\tsize %u\n\t}\n",
			      rules_name_set(i / 2, i % 2 == 0, policy->of, set),
			      i % 2 == 0 ? "ipv4_addr" : "ipv6_addr", RULES_NAME_SIZE);
}

void rules_put_sets(FILE *out)
{
	put_set(out, "private4", AF_INET, private4, N(private4));
	put_set(out, "private6", AF_INET6, private6, N(private6));
	put_translated(out, "nat64private", private4, N(private4));
	put_translated(out, "nat64metadata", metadata4, N(metadata4));
	put_set(out, "metadata4", AF_INET, metadata4, N(metadata4));
	put_set(out, "metadata6", AF_INET6, metadata6, N(metadata6));
	(void)fputs("\tset " RULES_HOST4 " {\n\t\ttype ipv4_addr\n\t\tsize 65536\n\t}\n"
		    "\tset " RULES_HOST6 " {\n\t\ttype ipv6_addr\n\t\tsize 65536\n\t}\n",
		    out);
}

static void put_link(FILE *out, const struct policy *policy, const struct uplink_rule *link)
{
	char text[INET6_ADDRSTRLEN];

	(void)inet_ntop(link->family == 4 ? AF_INET : AF_INET6, link->address, text, sizeof(text));
	(void)fprintf(out, "\t\t%s daddr %s/%u goto to_private%s\n", link->family == 4 ? "ip" : "ip6", text,
		      link->prefix, policy->of);
}

void rules_put_new(FILE *out, const struct policy *policy, const char *chain, const struct rules_flows *most)
{
	const char *of = policy->of;

	(void)fprintf(out,
		      "\tchain %s%s {\n"
		      "\t\tmeta l4proto != { tcp, udp, icmp, icmpv6 } goto refuse_egress%s\n"
		      "\t\tlimit rate over %u/second burst %u packets goto refuse_flows%s\n"
		      "\t\tct count over %u goto refuse_flows%s\n"
		      "\t\tmeta l4proto udp ct count over %u goto refuse_flows%s\n",
		      chain, of, of, most->rate, most->burst, of, most->all, of, most->udp, of);
	if (most->crowd)
		(void)fprintf(out, "\t\tct count over %u jump crowd_%s\n\t\tmeta mark 1 goto refuse_flows%s\n",
			      most->own, most->crowd, of);
	(void)fprintf(out, "\t\tcounter name " RULES_BEGUN "%s accept\n\t}\n", of);
}

void rules_put_refusals(FILE *out, const struct policy *policy)
{
	for (unsigned reason = 0; reason < UPLINK_REASONS; reason++)
		if (rules_refuses(policy, reason))
			(void)fprintf(out, "\tcounter %s%s {\n\t}\n", uplink_reason_name(reason), policy->of);
	put_name_sets(out, policy);
	for (unsigned reason = 0; reason < UPLINK_REASONS; reason++)
		if (rules_refuses(policy, reason))
			put_refusal(out, policy, reason);
}

bool rules_refuses(const struct policy *policy, unsigned reason)
{
	return reason != UPLINK_SPOOFED && reason != UPLINK_NAME && (reason != UPLINK_ISOLATED || policy->isolated);
}

static void put_policy(FILE *out, const struct policy *policy)
{
	/* To pasta's sockets these mean the host's loopback, however they are written: nothing opens them. */
	rules_put(out, policy,
		  "\t\tip daddr { 0.0.0.0/8, 127.0.0.0/8 } goto refuse_host~\n"
		  "\t\tip6 daddr { ::/96, ::ffff:0:0/96 } goto refuse_host~\n");
	/* pasta's own, which passes questions on to the server that the host asks */
	if (policy->asks && policy->flags & UPLINK_DNS4)
		rules_put(out, policy, "\t\tip daddr " UPLINK_PASTA4 " udp dport 53 goto new~\n");
	if (policy->asks && policy->flags & UPLINK_DNS6)
		rules_put(out, policy, "\t\tip6 daddr " UPLINK_PASTA6 " udp dport 53 goto new~\n");
	/* what else is there is nobody's to reach, whatever range is named */
	rules_put(out, policy,
		  "\t\tip daddr 192.0.0.8/29 goto refuse_gateway~\n"
		  "\t\tip6 daddr fd6e:82a4:17c9::8/125 goto refuse_gateway~\n"
		  "\t\tip daddr @" RULES_HOST4 " goto to_host~\n"
		  "\t\tip6 daddr @" RULES_HOST6 " goto to_host~\n"
		  "\t\tip daddr @metadata4 goto to_metadata~\n"
		  "\t\tip6 daddr @metadata6 goto to_metadata~\n"
		  "\t\tip daddr @private4 goto to_private~\n"
		  "\t\tip6 daddr @nat64metadata goto to_metadata~\n"
		  "\t\tip6 daddr @nat64private goto to_private~\n"
		  "\t\tip6 daddr 64:ff9b::/96 goto to_egress~\n"
		  "\t\tip6 daddr @private6 goto to_private~\n");
	for (uint32_t i = 0; i < policy->nlinks; i++)
		put_link(out, policy, &policy->links[i]);
	rules_put(out, policy, "\t\tgoto to_egress~\n\t}\n");
}

/*
 * An error passes that is about a connection of the guest's own: conntrack looks at what the error holds and to whom it goes,
 * not at who sends it, and would take one about the resolver's or another member's for related.
 */
static void put_known(FILE *out, const struct rules_link *link)
{
	if (!link) {
		(void)fputs("\t\tct state established,related accept\n\t\tct state invalid drop\n", out);
		return;
	}
	(void)fputs("\t\tct state established accept\n", out);
	if (*link->ip4)
		(void)fprintf(out,
			      "\t\tct state related ct original ip saddr %s accept\n"
			      "\t\tct state related ct original ip daddr %s accept\n",
			      link->ip4, link->ip4);
	if (*link->ip6)
		(void)fprintf(out,
			      "\t\tct state related ct original ip6 saddr %s accept\n"
			      "\t\tct state related ct original ip6 daddr %s accept\n",
			      link->ip6, link->ip6);
	(void)fputs("\t\tct state related,invalid drop\n", out);
}

void rules_put_guest(FILE *out, const struct policy *policy, const struct rules_link *link, const char *peers)
{
	put_named(out, policy, UPLINK_HOST);
	put_named(out, policy, UPLINK_METADATA);
	put_named(out, policy, UPLINK_PRIVATE);
	put_named(out, policy, UPLINK_EGRESS);
	rules_put(out, policy, "\tchain guest~ {\n");
	put_known(out, link);
	(void)fputs(peers, out);
	put_policy(out, policy);
}

void rules_put_resolver(FILE *out, const char *link)
{
	static const char *const addresses[] = { "ip daddr " UPLINK_GATEWAY4, "ip6 daddr " UPLINK_GATEWAY6 };

	for (unsigned i = 0; i < N(addresses); i++)
		(void)fprintf(out,
			      "\t\tiifname \"%s\" %s udp dport 53 limit rate %u/second burst %u packets accept\n"
			      "\t\tiifname \"%s\" %s udp dport 53 drop\n",
			      link, addresses[i], RULES_QUESTION_RATE, RULES_QUESTION_BURST, link, addresses[i]);
	(void)fputs("\t\tiifname \"" UPLINK_OUT "\" udp sport 53 ct state established accept\n", out);
}

void rules_put_untracked(FILE *out, const char *link)
{
	static const char *const hooks[][3] = { { "in", "prerouting", "iifname" }, { "out", "output", "oifname" } };

	for (unsigned i = 0; i < N(hooks); i++) {
		(void)fprintf(out, "\tchain untracked_%s {\n\t\ttype filter hook %s priority raw\n", hooks[i][0],
			      hooks[i][1]);
		(void)fprintf(out,
			      "\t\t%s \"%s\" ip daddr " UPLINK_GATEWAY4 " udp dport 53 notrack\n"
			      "\t\t%s \"%s\" ip6 daddr " UPLINK_GATEWAY6 " udp dport 53 notrack\n",
			      hooks[i][2], link, hooks[i][2], link);
		(void)fprintf(out,
			      "\t\t%s \"%s\" ip saddr " UPLINK_GATEWAY4 " udp sport 53 notrack\n"
			      "\t\t%s \"%s\" ip6 saddr " UPLINK_GATEWAY6 " udp sport 53 notrack\n\t}\n",
			      hooks[i][2], link, hooks[i][2], link);
	}
}

void rules_put_server(FILE *out, const char *server, unsigned flows)
{
	(void)fprintf(out,
		      "\t\toifname \"" UPLINK_OUT "\" %s udp dport 53 ct state new ct count over %u drop\n"
		      "\t\toifname \"" UPLINK_OUT "\" %s udp dport 53 accept\n",
		      server, flows, server);
}

void rules_put_servers(FILE *out, unsigned flows)
{
	rules_put_server(out, "ip daddr " UPLINK_PASTA4, flows);
	rules_put_server(out, "ip6 daddr " UPLINK_PASTA6, flows);
}

/* What the namespace's own processes send: answers, and the resolver's questions. */
static void put_output(FILE *out, bool names)
{
	(void)fputs("\tchain output {\n"
		    "\t\ttype filter hook output priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\toifname \"" UPLINK_VM "\" accept\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n",
		    out);
	if (names)
		rules_put_servers(out, FLOWS_UDP);
	(void)fputs("\t\toifname \"" UPLINK_OUT "\" ct state established,related accept\n\t}\n", out);
}

/* Of a proxy: what the namespace's own process sends goes the guest's way. The kernel's own (ICMP) gets no further than to it. */
static void put_proxy_output(FILE *out, bool names)
{
	(void)fputs("\tchain output {\n"
		    "\t\ttype filter hook output priority filter\n"
		    "\t\tpolicy drop\n",
		    out);
	if (names) {
		rules_put_servers(out, FLOWS_UDP);
		(void)fputs("\t\toifname \"lo\" ip daddr " UPLINK_GATEWAY4 " udp dport 53 accept\n"
			    "\t\toifname \"lo\" ip6 daddr " UPLINK_GATEWAY6 " udp dport 53 accept\n"
			    "\t\toifname \"lo\" ip saddr " UPLINK_GATEWAY4 " udp sport 53 accept\n"
			    "\t\toifname \"lo\" ip6 saddr " UPLINK_GATEWAY6 " udp sport 53 accept\n",
			    out);
	}
	(void)fputs("\t\tmeta l4proto { tcp, udp } oifname \"" UPLINK_OUT "\" goto guest\n"
		    "\t\tmeta l4proto { tcp, udp } ip daddr 127.0.0.0/8 goto refuse_host\n"
		    "\t\tmeta l4proto { tcp, udp } ip6 daddr ::1 goto refuse_host\n"
		    "\t\tmeta l4proto { tcp, udp } goto refuse_gateway\n"
		    "\t\toifname \"lo\" meta l4proto { icmp, icmpv6 } accept\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
		    "\t}\n",
		    out);
}

static void put_proxy_hooks(FILE *out, bool names)
{
	(void)fputs("\tchain forward {\n"
		    "\t\ttype filter hook forward priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t}\n"
		    "\tchain input {\n"
		    "\t\ttype filter hook input priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
		    "\t\tiifname \"lo\" meta l4proto { icmp, icmpv6 } accept\n",
		    out);
	if (names) {
		rules_put_resolver(out, "lo");
		(void)fputs("\t\tiifname \"lo\" ip saddr " UPLINK_GATEWAY4 " udp sport 53 accept\n"
			    "\t\tiifname \"lo\" ip6 saddr " UPLINK_GATEWAY6 " udp sport 53 accept\n",
			    out);
	}
	(void)fputs("\t\tiifname \"" UPLINK_OUT "\" ct state established,related accept\n"
		    "\t}\n",
		    out);
	put_proxy_output(out, names);
}

static void put_hooks(FILE *out, bool names)
{
	(void)fputs("\tchain forward {\n"
		    "\t\ttype filter hook forward priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\tiifname \"" UPLINK_VM "\" oifname \"" UPLINK_OUT "\" goto guest\n"
		    "\t\tiifname \"" UPLINK_OUT "\" oifname \"" UPLINK_VM "\" ct state established,related accept\n"
		    "\t}\n"
		    "\tchain input {\n"
		    "\t\ttype filter hook input priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n",
		    out);
	if (names)
		rules_put_resolver(out, UPLINK_VM);
	(void)fputs("\t\tiifname \"" UPLINK_OUT "\" drop\n"
		    /* what every Linux says when a link comes up, to all */
		    "\t\tmeta pkttype { broadcast, multicast } drop\n"
		    "\t\tgoto refuse_gateway\n"
		    "\t}\n",
		    out);
}

/* What crosses the link to the outside. */
void rules_put_traffic(FILE *out)
{
	(void)fputs("\tcounter " RULES_BEGUN " {\n\t}\n\tcounter " RULES_OUT " {\n\t}\n\tcounter " RULES_IN " {\n\t}\n"
		    "\tchain traffic_out {\n"
		    "\t\ttype filter hook postrouting priority 300\n"
		    "\t\toifname \"" UPLINK_OUT "\" counter name " RULES_OUT "\n"
		    "\t}\n"
		    "\tchain traffic_in {\n"
		    "\t\ttype filter hook prerouting priority -150\n"
		    "\t\tiifname \"" UPLINK_OUT "\" counter name " RULES_IN "\n"
		    "\t}\n",
		    out);
}

void rules_put_translation(FILE *out)
{
	(void)fputs("\tchain postrouting {\n"
		    "\t\ttype nat hook postrouting priority srcnat\n"
		    "\t\toifname \"" UPLINK_OUT "\" meta l4proto { tcp, udp } masquerade to :32768-60999 fully-random\n"
		    "\t\toifname \"" UPLINK_OUT "\" masquerade\n"
		    "\t}\n",
		    out);
}

/* Before anything else of the namespace's sees a frame: whose it is. */
/*
 * Segments that conntrack would see and pasta not: a reset of such makes the one forget what the other keeps. And data in a
 * SYN, which pasta takes for an old connection's of that port, whosever it was; without data one has 100 bytes at most.
 */
static const char unheard[] = "\t\tmeta l4proto tcp tcp flags & (syn | ack) == syn meta length > 100 drop\n"
			      "\t\tmeta l4proto tcp meta pkttype != host drop\n"
			      "\t\tmeta l4proto tcp ip ttl < 2 drop\n"
			      "\t\tmeta l4proto tcp ip hdrlength > 5 drop\n"
			      "\t\tmeta l4proto tcp ip6 hoplimit < 2 drop\n";

void rules_put_ingress(FILE *out, const struct policy *policy, const struct rules_link *link)
{
	const uint8_t *m = link->mac;
	char mac[18];

	(void)snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	rules_put(out, policy, "table netdev " RULES_TABLE " {\n\tcounter spoofed~ {\n\t}\n\tchain ingress~ {\n");
	(void)fprintf(out, "\t\ttype filter hook ingress device \"%s\" priority filter\n\t\tpolicy drop\n",
		      link->device);
	(void)fprintf(out,
		      "\t\tether saddr != %s counter name spoofed%s drop\n"
		      "%s",
		      mac, policy->of, unheard);
	if (*link->ip4)
		(void)fprintf(out,
			      "\t\tip saddr %s accept\n"
			      "\t\tarp htype 1 arp ptype ip arp saddr ether %s arp saddr ip { 0.0.0.0, %s } accept\n",
			      link->ip4, mac, link->ip4);
	if (*link->ip6)
		(void)fprintf(out, "\t\tip6 saddr { ::, %s, fe80::%02x%02x:%02xff:fe%02x:%02x%02x } accept\n",
			      link->ip6, m[0] ^ 2, m[1], m[2], m[3], m[4], m[5]);
	rules_put(out, policy, "\t\tcounter name spoofed~ drop\n\t}\n}\n");
}

static struct policy policy_of(const struct uplink_request *request)
{
	return (struct policy){
		.of = "",
		.flags = request->flags,
		.asks = !(request->flags & UPLINK_DENY),
		.proxy = request->flags & UPLINK_PROXY,
		.rules = request->rules,
		.nrules = request->nrules,
		.names = request->names,
		.nnames = request->nnames,
		.links = request->links,
		.nlinks = request->nlinks,
	};
}

char *rules_text(const struct uplink_request *request)
{
	struct rules_link link = {
		.device = UPLINK_VM, .ip4 = UPLINK_GUEST4, .ip6 = UPLINK_GUEST6, .mac = request->mac
	};
	static const struct rules_flows most = { FLOWS, FLOWS_UDP, FLOW_RATE, 10 * FLOW_RATE, 0, NULL };
	struct policy policy = policy_of(request);
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	(void)fputs("table inet " RULES_TABLE " {\n", out);
	rules_put_traffic(out);
	rules_put_sets(out);
	rules_put_refusals(out, &policy);
	rules_put_new(out, &policy, "new", &most);
	rules_put_guest(out, &policy, policy.proxy ? NULL : &link, "");
	if (policy.proxy) {
		put_proxy_hooks(out, request->nnames > 0);
	} else {
		put_hooks(out, request->nnames > 0);
		put_output(out, request->nnames > 0);
	}
	if (request->nnames)
		rules_put_untracked(out, policy.proxy ? "lo" : UPLINK_VM);
	rules_put_translation(out);
	(void)fputs("}\n", out);
	if (!policy.proxy)
		rules_put_ingress(out, &policy, &link);
	if (ferror(out) | fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
