/* The rules of a guest on a bridge of the host's. See rules.h, and bridge.c for what is routed where. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "uplink/rules_put.h"

#define FLOWS     4096U /* connections that the guest began, at once */
#define FLOW_RATE 100U
#define FLOW_MORE                                                                                                      \
	200U /* beyond the rate: each may be a place in the host's table of neighbours, of which Linux has 1024 */
#define ASKED    "limit rate over 50/second burst 100 packets" /* questions for the guest's address */
#define FLOWS_IN 4096U /* … that others began with it */
#define RATE_IN  1000U

static const struct rules_flows most = { FLOWS, FLOWS / 2, FLOW_RATE, FLOW_MORE, 0, NULL };

static struct uplink_rule network_of(unsigned family, const uint8_t *own, uint8_t bits)
{
	struct uplink_rule rule = { .family = (uint8_t)family, .prefix = bits };
	size_t size = family == 4 ? 4 : 16;

	memcpy(rule.address, own, size);
	for (unsigned bit = bits; bit < size * 8; bit++)
		rule.address[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
	return rule;
}

/* What is named, and unless that is to be all, the network that the guest is put on: by which it is no way to the host itself. */
static uint32_t allowed(const struct uplink_request *request, struct uplink_rule rules[UPLINK_RULES + 2])
{
	const struct uplink_place *place = &request->place;
	uint32_t n = request->nrules;

	memcpy(rules, request->rules, n * sizeof(rules[0]));
	if (request->flags & UPLINK_DENY)
		return n;
	if (request->flags & UPLINK_IP4)
		rules[n++] = network_of(4, place->ip4, place->bits4);
	if (request->flags & UPLINK_IP6)
		rules[n++] = network_of(6, place->ip6, place->bits6);
	return n;
}

/* What is nobody's public internet: the host's networks, and the guest's own, which the host need not be on. */
static uint32_t links(const struct uplink_request *request, struct uplink_rule links[UPLINK_LINKS + 2])
{
	const struct uplink_place *place = &request->place;
	uint32_t n = request->nlinks;

	memcpy(links, request->links, n * sizeof(links[0]));
	if (request->flags & UPLINK_IP4)
		links[n++] = network_of(4, place->ip4, place->bits4);
	if (request->flags & UPLINK_IP6)
		links[n++] = network_of(6, place->ip6, place->bits6);
	return n;
}

/* What comes for the guest; an address of its own comes from nowhere else. */
static void put_arrivals(FILE *out, const struct rules_link *link)
{
	(void)fputs("\tchain arrive {\n", out);
	if (*link->ip4)
		(void)fprintf(out, "\t\tip saddr %s drop\n", link->ip4);
	if (*link->ip6)
		(void)fprintf(out, "\t\tip6 saddr %s drop\n", link->ip6);
	/* nor does anybody there speak as what the guest takes for its gateway */
	if (*link->ip4)
		(void)fprintf(out, "\t\tip saddr " UPLINK_GATEWAY4 "/%u drop\n", UPLINK_BITS4);
	if (*link->ip6)
		(void)fprintf(out, "\t\tip6 saddr " UPLINK_GATEWAY6 "/%u drop\n", UPLINK_BITS6);
	(void)fprintf(out,
		      "\t\tct state established,related accept\n"
		      "\t\tct state invalid drop\n"
		      "\t\tmeta l4proto != { tcp, udp, icmp, icmpv6 } drop\n"
		      "\t\tlimit rate over %u/second burst %u packets drop\n"
		      "\t\tct count over %u drop\n"
		      "\t\tcounter name " RULES_BEGUN " accept\n"
		      "\t}\n",
		      RATE_IN, 2 * RATE_IN, FLOWS_IN);
}

/* The one name server that the resolver asks. */
static void put_server(FILE *out, const struct uplink_request *request)
{
	const struct uplink_place *place = &request->place;
	bool four = request->flags & UPLINK_DNS4;
	char address[INET6_ADDRSTRLEN], server[64];

	(void)inet_ntop(four ? AF_INET : AF_INET6, four ? place->server4 : place->server6, address, sizeof(address));
	(void)snprintf(server, sizeof(server), "%s daddr %s", four ? "ip" : "ip6", address);
	rules_put_server(out, server, FLOWS / 2);
}

static void put_hooks(FILE *out, const struct uplink_request *request)
{
	bool names = request->nnames > 0;

	(void)fputs("\tchain forward {\n"
		    "\t\ttype filter hook forward priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\tiifname \"" UPLINK_VM "\" oifname \"" UPLINK_OUT "\" goto guest\n"
		    "\t\tiifname \"" UPLINK_OUT "\" oifname \"" UPLINK_VM "\" goto arrive\n"
		    "\t}\n"
		    "\tchain input {\n"
		    "\t\ttype filter hook input priority filter\n"
		    "\t\tpolicy drop\n"
		    /* who asks for the guest gets a place in the host's table of neighbours */
		    "\t\tiifname \"" UPLINK_OUT "\" icmpv6 type nd-neighbor-solicit " ASKED " drop\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n",
		    out);
	if (names)
		rules_put_resolver(out, UPLINK_VM);
	(void)fputs("\t\tiifname \"" UPLINK_OUT "\" drop\n"
		    "\t\tmeta pkttype { broadcast, multicast } drop\n"
		    "\t\tgoto refuse_gateway\n"
		    "\t}\n"
		    /* the kernel's own: errors that answer, and which groups a bridge that snoops is to send here */
		    "\tchain output {\n"
		    "\t\ttype filter hook output priority filter\n"
		    "\t\tpolicy drop\n"
		    "\t\toifname \"" UPLINK_VM "\" accept\n"
		    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept\n",
		    out);
	if (names)
		put_server(out, request);
	(void)fputs("\t\toifname \"" UPLINK_OUT "\" ct state established,related accept\n"
		    "\t}\n",
		    out);
}

/* The resolver asks as the guest, too: nobody on the bridge knows the namespace's own address. */
static void put_translation(FILE *out, const struct rules_link *link)
{
	(void)fputs("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat\n", out);
	if (*link->ip4)
		(void)fprintf(out, "\t\toifname \"" UPLINK_OUT "\" ip saddr " UPLINK_GATEWAY4 " snat ip to %s\n",
			      link->ip4);
	if (*link->ip6)
		(void)fprintf(out, "\t\toifname \"" UPLINK_OUT "\" ip6 saddr " UPLINK_GATEWAY6 " snat ip6 to %s\n",
			      link->ip6);
	(void)fputs("\t}\n", out);
}

/* The kernel asks for neighbours by an address of the link's, of which it has none: it asks as the guest. */
static void put_questions(FILE *out, const struct rules_link *link)
{
	if (*link->ip4)
		(void)fprintf(out,
			      "table arp " RULES_TABLE " {\n"
			      "\tchain input {\n"
			      "\t\ttype filter hook input priority filter\n"
			      "\t\tiifname \"" UPLINK_OUT "\" arp operation request " ASKED " drop\n"
			      "\t}\n"
			      "\tchain output {\n"
			      "\t\ttype filter hook output priority filter\n"
			      "\t\toifname \"" UPLINK_OUT "\" arp operation request arp saddr ip set %s\n"
			      "\t}\n"
			      "}\n",
			      link->ip4);
}

char *rules_bridge_text(const struct uplink_request *request)
{
	char ip4[INET_ADDRSTRLEN] = "", ip6[INET6_ADDRSTRLEN] = "", *text = NULL;
	struct rules_link link = { .device = UPLINK_VM, .ip4 = ip4, .ip6 = ip6, .mac = request->mac };
	struct uplink_rule rules[UPLINK_RULES + 2], near[UPLINK_LINKS + 2];
	struct policy policy = { .of = "",
				 .flags = request->flags & UPLINK_DENY,
				 .rules = rules,
				 .nrules = allowed(request, rules),
				 .names = request->names,
				 .nnames = request->nnames,
				 .links = near,
				 .nlinks = links(request, near) };
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	if (request->flags & UPLINK_IP4)
		(void)inet_ntop(AF_INET, request->place.ip4, ip4, sizeof(ip4));
	if (request->flags & UPLINK_IP6)
		(void)inet_ntop(AF_INET6, request->place.ip6, ip6, sizeof(ip6));
	(void)fputs("table inet " RULES_TABLE " {\n", out);
	rules_put_traffic(out);
	rules_put_sets(out);
	rules_put_refusals(out, &policy);
	rules_put_new(out, &policy, "new", &most);
	rules_put_guest(out, &policy, &link, "\t\tudp sport { 67, 547 } drop\n"); /* what only DHCP's servers say */
	put_arrivals(out, &link);
	put_hooks(out, request);
	if (request->nnames) {
		rules_put_untracked(out, UPLINK_VM);
		put_translation(out, &link);
	}
	(void)fputs("}\n", out);
	rules_put_ingress(out, &policy, &link);
	put_questions(out, &link);
	if (ferror(out) | fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
