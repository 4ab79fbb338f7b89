/*
 * What the rules of one VM (rules.c) and those of a named network's members (rules_network.c) have in common.
 *
 * Purpose: pieces of text for `nft -f -`. In a network every chain, set and counter of a member's has an ending of its
 *          own, `of`: so there is one policy, and one way to write it.
 * Trust:   as rules.h.
 * Thread:  any; no state.
 */
#ifndef UPLINK_RULES_PUT_H
#define UPLINK_RULES_PUT_H

#include <stdio.h>

#include "uplink/rules.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

#define RULES_QUESTION_RATE  200U /* a second that the resolver hears */
#define RULES_QUESTION_BURST 400U

/*
 * Connections at once, UDP's among them; new ones a second: one that is over costs the kernel as well, for a while. Those
 * beyond `own` go through the chain crowd_CROWD, which all members share and which marks what is too much; NULL: none.
 */
struct rules_flows {
	unsigned all, udp, rate, burst, own;
	const char *crowd;
};

/* Borrowed, all of it. */
struct policy {
	const char *of; /* "", or "_SLOT" */
	uint32_t flags; /* UPLINK_* */
	bool asks; /* pasta's name server by itself */
	bool proxy, isolated;
	const struct uplink_rule *rules, *links;
	uint32_t nrules, nlinks;
	const struct uplink_name *names;
	uint32_t nnames;
};

struct rules_link {
	const char *device, *ip4, *ip6; /* "": none */
	const uint8_t *mac;
};

/* The text, with `of` in the place of each '~'. */
void rules_put(FILE *out, const struct policy *policy, const char *text);
void rules_put_sets(FILE *out); /* that are everybody's */
void rules_put_refusals(FILE *out, const struct policy *policy); /* counters, sets of names, chains refuse_* */
bool rules_refuses(const struct policy *policy, unsigned reason); /* whether there is such a chain */
/* A chain that lets a new connection pass, as long as there are not too many. */
void rules_put_new(FILE *out, const struct policy *policy, const char *chain, const struct rules_flows *most);
/* The chain that all a VM sends goes through; `link`: NULL with a proxy; `peers`: rules before the policy. */
void rules_put_guest(FILE *out, const struct policy *policy, const struct rules_link *link, const char *peers);
/*
 * What the resolver is asked on `link`, and what it hears, in an input chain; and chains for it not to be tracked, as each
 * question's port would be an entry of the host kernel's.
 */
void rules_put_resolver(FILE *out, const char *link);
void rules_put_untracked(FILE *out, const char *link);
/* The resolver's questions in an output chain: to one server ("ip daddr …"), and to pasta's forwarder. */
void rules_put_server(FILE *out, const char *server, unsigned flows);
void rules_put_servers(FILE *out, unsigned flows);
void rules_put_traffic(FILE *out); /* counters of what crosses the link to the outside */
void rules_put_translation(FILE *out);
void rules_put_ingress(FILE *out, const struct policy *policy, const struct rules_link *link);

#endif
