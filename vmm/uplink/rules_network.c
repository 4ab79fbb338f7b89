/* The rules of a named network: those that are always there, and those that a member brings. See rules.h. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "uplink/rules_put.h"

/* Bytes with UDP's header: no question has more (RFC 1035 §2.3.4), and large ones fill what all share. */
#define QUESTION_MAX 520U
#define SERVER_FLOWS 8192U /* the resolver's, for all members: each has a port of the host's for three minutes */

#define CROWD_RATE 800U /* new ones a second of all members together, beyond their own */
#define FILES_OWN  256U /* pasta's, whatever passes */
#define FILES_EACH 2U /* a connection's: of TCP a socket and a timer */

/* A member's to other members; and out of the network, where each has descriptors of pasta's, UDP's a port of the host's. */
static const struct rules_flows flows_peer = { 4096, 4096, 1000, 4000, 0, "peer" },
				flows_out = { 1024, 512, 100, 1000, 0, "out" };

/* What each member has for itself, and what all have together beside that. */
struct share {
	unsigned own, crowd;
};

static struct share share_of(unsigned all)
{
	unsigned own = all / 2 / UPLINK_MEMBERS ? all / 2 / UPLINK_MEMBERS : 1;

	return (struct share){ own, all > own * UPLINK_MEMBERS ? all - own * UPLINK_MEMBERS : 1 };
}

unsigned rules_servers_most(const struct rules_limits *limits)
{
	return limits->files / 8 < SERVER_FLOWS ? limits->files / 8 : SERVER_FLOWS;
}

static struct share share_out(const struct rules_limits *limits)
{
	unsigned taken = FILES_OWN + rules_servers_most(limits);

	return share_of(limits->files > taken ? (limits->files - taken) / FILES_EACH : 0);
}

/* The other half of the table is for what leaves, and for what is over and not forgotten yet. */
static struct share share_peer(const struct rules_limits *limits)
{
	return share_of(limits->tracked / 2);
}

struct place {
	char text4[INET_ADDRSTRLEN], text6[INET6_ADDRSTRLEN]; /* text6 "": none */
};

static struct place place_of(const uint8_t ip4[4], const uint8_t ip6[16], bool six)
{
	struct place place = { .text6 = "" };

	(void)inet_ntop(AF_INET, ip4, place.text4, sizeof(place.text4));
	if (six)
		(void)inet_ntop(AF_INET6, ip6, place.text6, sizeof(place.text6));
	return place;
}

static struct place gateway_of(const struct uplink_subnet *subnet)
{
	uint8_t ip4[4], ip6[16];

	uplink_host4(subnet, UPLINK_GATEWAY_HOST, ip4);
	uplink_host6(subnet, UPLINK_GATEWAY_HOST, ip6);
	return place_of(ip4, ip6, subnet->bits6);
}

const char *rules_of(unsigned slot, char buf[8])
{
	(void)snprintf(buf, 8, "_%u", slot % 1000);
	return buf;
}

static const char *counter_name(unsigned what)
{
	static const char *const traffic[] = { RULES_BEGUN, RULES_OUT, RULES_IN };

	return what < UPLINK_REASONS ? uplink_reason_name(what) : traffic[what - UPLINK_REASONS];
}

/* "", "_0" to "_253": what a name ends in. */
static bool parse_slot(const char *text, size_t n, unsigned *ret)
{
	unsigned slot = 0;

	if (n && (n < 2 || n > 4 || text[0] != '_'))
		return false;
	for (size_t i = 1; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		slot = 10 * slot + (unsigned)(text[i] - '0');
	}
	*ret = slot;
	return slot < UPLINK_MEMBERS;
}

bool rules_parse_counter(const char *text, size_t len, unsigned *ret_what, unsigned *ret_slot)
{
	size_t n = strnlen(text, len);

	for (unsigned what = 0; what < RULES_COUNTS; what++) {
		size_t skip = strlen(counter_name(what));
		unsigned slot;

		if (n < skip || memcmp(text, counter_name(what), skip) != 0 ||
		    !parse_slot(text + skip, n - skip, &slot))
			continue;
		*ret_what = what;
		*ret_slot = slot;
		return true;
	}
	return false;
}

bool rules_parse_reason(const char *text, size_t len, unsigned *ret_reason, unsigned *ret_slot)
{
	unsigned what;

	if (!rules_parse_counter(text, len, &what, ret_slot) || what >= UPLINK_REASONS)
		return false;
	*ret_reason = what;
	return true;
}

/* ---- without a member ---- */

/* Questions for names cost the kernel no entry of conntrack's: each has another port. */
static void put_untracked(FILE *out, const struct place *gateway)
{
	for (unsigned in = 0; in < 2; in++) {
		const char *link = in ? "iifname" : "oifname", *end = in ? "daddr" : "saddr";
		const char *port = in ? "dport" : "sport";

		(void)fprintf(out, "\tchain untracked_%s {\n\t\ttype filter hook %s priority raw\n", in ? "in" : "out",
			      in ? "prerouting" : "output");
		(void)fprintf(out, "\t\t%s \"vm*\" ip %s %s udp %s 53 notrack\n", link, end, gateway->text4, port);
		if (*gateway->text6)
			(void)fprintf(out, "\t\t%s \"vm*\" ip6 %s %s udp %s 53 notrack\n", link, end, gateway->text6,
				      port);
		(void)fputs("\t}\n", out);
	}
}

/*
 * A count's list takes what is refused as well, and the kernel clears it of what is gone a few at a time: slower than
 * many members together would fill it.
 */
static void put_crowd(FILE *out, const char *name, unsigned most)
{
	(void)fprintf(out,
		      "\tchain crowd_%s {\n"
		      "\t\tlimit rate over %u/second burst %u packets meta mark set 1 return\n"
		      "\t\tct count over %u meta mark set 1\n"
		      "\t}\n",
		      name, CROWD_RATE, CROWD_RATE, most);
}

static void put_hooks(FILE *out, const struct rules_limits *limits)
{
	put_crowd(out, flows_out.crowd, share_out(limits).crowd);
	put_crowd(out, flows_peer.crowd, share_peer(limits).crowd);
	(void)fputs("\tmap guests {\n\t\ttype ifname : verdict\n\t}\n"
		    "\tmap gateways {\n\t\ttype ifname : verdict\n\t}\n"
		    "\tmap departures {\n\t\ttype ifname : verdict\n\t}\n"
		    "\tmap arrivals {\n\t\ttype ifname : verdict\n\t}\n"
		    "\tchain traffic {\n"
		    "\t\ttype filter hook postrouting priority 300\n"
		    "\t\tiifname vmap @departures\n"
		    "\t\toifname vmap @arrivals\n"
		    "\t}\n"
		    "\tchain forward {\n"
		    "\t\ttype filter hook forward priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\tiifname \"" UPLINK_OUT "\" oifname \"vm*\" ct state established,related accept\n"
		    "\t\tiifname vmap @guests\n"
		    "\t}\n"
		    "\tchain input {\n"
		    "\t\ttype filter hook input priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
		    "\t\tiifname \"" UPLINK_OUT "\" udp sport 53 ct state established accept\n"
		    "\t\tiifname vmap @gateways\n"
		    "\t}\n"
		    "\tchain output {\n"
		    "\t\ttype filter hook output priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
		    "\t\toifname \"vm*\" meta l4proto { icmp, icmpv6 } accept\n"
		    "\t\toifname \"vm*\" tcp flags & rst == rst accept\n"
		    "\t\toifname \"vm*\" udp sport 53 accept\n"
		    /* of a member's connections that left */
		    "\t\toifname \"" UPLINK_OUT "\" tcp flags & rst == rst accept\n",
		    out);
	rules_put_servers(out, rules_servers_most(limits));
	(void)fputs("\t\toifname \"" UPLINK_OUT "\" ct state established,related accept\n\t}\n", out);
}

static char *finish(FILE *out, char **text)
{
	if (ferror(out) | fclose(out)) {
		free(*text);
		return NULL;
	}
	return *text;
}

char *rules_network_text(const struct uplink_request *request, const struct rules_limits *limits)
{
	struct place gateway = gateway_of(&request->subnet);
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	(void)fputs("table inet " RULES_TABLE " {\n", out);
	rules_put_sets(out);
	put_hooks(out, limits);
	put_untracked(out, &gateway);
	rules_put_translation(out);
	(void)fputs("}\ntable netdev " RULES_TABLE " {\n}\n", out);
	return finish(out, &text);
}

/* ---- a member ---- */

/* Where the packets of its link go: from it, to the namespace itself; and, to be counted, from it and to it. */
static const struct {
	const char *name, *to;
} maps[] = {
	{ "guests", "goto guest" },
	{ "gateways", "goto gateway" },
	{ "departures", "jump depart" },
	{ "arrivals", "jump arrive" },
};

static struct policy policy_of(const struct uplink_request *request, const struct uplink_join *join, const char *of)
{
	return (struct policy){
		.of = of,
		.flags = join->flags & UPLINK_DENY,
		.isolated = request->flags & UPLINK_ISOLATE,
		.rules = join->rules,
		.nrules = join->nrules,
		.names = join->names,
		.nnames = join->nnames,
		.links = request->links,
		.nlinks = request->nlinks,
	};
}

/* Other members, before the policy on what leaves the network; what leads neither there nor out is nobody's. */
static const char *peers_text(const struct uplink_subnet *subnet, const struct policy *policy, char buf[256])
{
	struct place net = place_of(subnet->net4, subnet->net6, subnet->bits6);
	const char *to = policy->isolated ? "refuse_isolated" : "peer", *of = policy->of;
	int at = snprintf(buf, 256, "\t\tip daddr %s/%u goto %s%s\n", net.text4, subnet->bits4, to, of);

	if (subnet->bits6)
		at += snprintf(buf + at, 256 - (size_t)at, "\t\tip6 daddr %s/%u goto %s%s\n", net.text6, subnet->bits6,
			       to, of);
	(void)snprintf(buf + at, 256 - (size_t)at, "\t\toifname != \"" UPLINK_OUT "\" goto refuse_gateway%s\n", of);
	return buf;
}

/* What a member says to the network itself: questions for names. */
static void put_gateway(FILE *out, const struct policy *policy, const struct place *gateway)
{
	rules_put(out, policy, "\tchain gateway~ {\n");
	for (unsigned six = 0; six < (*gateway->text6 ? 2U : 1U); six++) {
		const char *family = six ? "ip6" : "ip", *to = six ? gateway->text6 : gateway->text4;

		(void)fprintf(out,
			      "\t\t%s daddr %s udp dport 53 udp length > %u drop\n"
			      "\t\t%s daddr %s udp dport 53 limit rate %u/second burst %u packets accept\n"
			      "\t\t%s daddr %s udp dport 53 drop\n",
			      family, to, QUESTION_MAX, family, to, RULES_QUESTION_RATE, RULES_QUESTION_BURST, family,
			      to);
	}
	rules_put(out, policy, "\t\tmeta pkttype { broadcast, multicast } drop\n\t\tgoto refuse_gateway~\n\t}\n");
}

char *rules_join_text(const struct uplink_request *request, const struct rules_limits *limits,
		      const struct uplink_join *join, const struct uplink_member *member, unsigned slot)
{
	struct rules_flows most_out = flows_out, most_peer = flows_peer;
	struct place own = place_of(member->ip4, member->ip6, request->subnet.bits6);
	struct place gateway = gateway_of(&request->subnet);
	char of[8], device[16], peers[256], *text = NULL;
	struct policy policy = policy_of(request, join, rules_of(slot, of));
	struct rules_link link = { .device = device, .ip4 = own.text4, .ip6 = own.text6, .mac = member->mac };
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	(void)snprintf(device, sizeof(device), "vm%u", slot);
	(void)fputs("table inet " RULES_TABLE " {\n", out);
	rules_put(out, &policy,
		  "\tcounter " RULES_BEGUN "~ {\n\t}\n\tcounter " RULES_OUT "~ {\n\t}\n\tcounter " RULES_IN "~ {\n\t}\n"
		  "\tchain depart~ {\n\t\tcounter name " RULES_OUT "~\n\t}\n"
		  "\tchain arrive~ {\n\t\tcounter name " RULES_IN "~\n\t}\n");
	rules_put_refusals(out, &policy);
	most_out.own = share_out(limits).own;
	most_peer.own = share_peer(limits).own;
	rules_put_new(out, &policy, "new", &most_out);
	rules_put_new(out, &policy, "peer", &most_peer);
	rules_put_guest(out, &policy, &link, peers_text(&request->subnet, &policy, peers));
	put_gateway(out, &policy, &gateway);
	(void)fputs("}\n", out);
	rules_put_ingress(out, &policy, &link);
	for (size_t i = 0; i < N(maps); i++)
		(void)fprintf(out, "add element inet " RULES_TABLE " %s { \"%s\" : %s%s }\n", maps[i].name, device,
			      maps[i].to, of);
	return finish(out, &text);
}

/* All that rules_join_text() brought, emptied before it is removed: chains lead to each other. */
char *rules_leave_text(const struct uplink_request *request, const struct uplink_join *join, unsigned slot)
{
	static const char *const chains[] = { "guest",     "gateway", "to_host", "to_metadata", "to_private",
					      "to_egress", "new",     "peer",    "depart",      "arrive" };
	static const char *const verbs[] = { "flush", "delete" };
	char of[8], set[32], *text = NULL;
	struct policy policy = policy_of(request, join, rules_of(slot, of));
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t i = 0; i < N(maps); i++)
		(void)fprintf(out, "delete element inet " RULES_TABLE " %s { \"vm%u\" }\n", maps[i].name, slot);
	for (unsigned v = 0; v < N(verbs); v++) {
		for (size_t i = 0; i < N(chains); i++)
			(void)fprintf(out, "%s chain inet " RULES_TABLE " %s%s\n", verbs[v], chains[i], of);
		for (unsigned reason = 0; reason < UPLINK_REASONS; reason++)
			if (rules_refuses(&policy, reason))
				(void)fprintf(out, "%s chain inet " RULES_TABLE " refuse_%s%s\n", verbs[v],
					      uplink_reason_name(reason), of);
		(void)fprintf(out, "%s chain netdev " RULES_TABLE " ingress%s\n", verbs[v], of);
	}
	for (unsigned reason = 0; reason < UPLINK_REASONS; reason++)
		if (rules_refuses(&policy, reason))
			(void)fprintf(out, "delete counter inet " RULES_TABLE " %s%s\n", uplink_reason_name(reason),
				      of);
	for (unsigned what = UPLINK_REASONS; what < RULES_COUNTS; what++)
		(void)fprintf(out, "delete counter inet " RULES_TABLE " %s%s\n", counter_name(what), of);
	for (unsigned i = 0; i < 2 * join->nnames; i++)
		(void)fprintf(out, "delete set inet " RULES_TABLE " %s\n", rules_name_set(i / 2, i % 2 == 0, of, set));
	rules_put(out, &policy, "delete counter netdev " RULES_TABLE " spoofed~\n");
	return finish(out, &text);
}
