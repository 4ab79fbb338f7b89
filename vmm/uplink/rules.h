/*
 * The nftables rules of a VM's network namespace.
 *
 * Purpose: the text that `nft -f -` reads, made of a request. What it says:
 *          - from the guest, by its own addresses alone, new connections go out of pasta's link, where the policy allows;
 *          - answers to those, and nothing else, go back;
 *          - the namespace itself answers neighbour discovery, and questions for names where there are any; what its own
 *            processes send is answers, and questions to the host's name server;
 *          - connections are bounded in number and in new ones a second: conntrack's table is the host kernel's memory;
 *          - outgoing packets get the namespace's address and a port of the ephemeral range, so that what pasta binds on
 *            the host never takes a service's port.
 * Policy:  an address of the host's own, or of a metadata service, must be named alone (/32, /128) to be reached; one of
 *          a private range by itself or by a network inside of that range; a public one always, or with --egress deny
 *          by any network around it, or by its name: what a name has of the other kinds is not reached by it.
 * Trust:   the request is the supervisor's; numbers and addresses only get into the text.
 * Thread:  any; no state.
 */
#ifndef UPLINK_RULES_H
#define UPLINK_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "uplink/uplink.h"

#define RULES_TABLE      "mvm"
#define RULES_HOST4      "host4" /* sets of the host's addresses; more come while the VM runs */
#define RULES_HOST6      "host6"
#define RULES_NAME_SIZE  256U /* addresses of one name and family at once */
#define RULES_BEGUN      "flows_begun" /* counters, beside those of the reasons: connections let through … */
#define RULES_OUT        "traffic_out" /* … and what crossed the link to the outside */
#define RULES_IN         "traffic_in"
#define RULES_LOG_GROUP  1U
#define RULES_LOG_SNAP   64U /* bytes of a refused packet: its IP header, and the ports behind it */
#define RULES_LOG_PREFIX "mvm-" /* then the reason's name */

/*
 * With UPLINK_PROXY the same policy is on what the namespace's own process sends, and what it refuses is told
 * by ICMP alone: EHOSTUNREACH, EACCES and EPERM are the rules' word there, where a reset would look like a server's.
 *
 * A new string; free() it. NULL: out of memory. */
char *rules_text(const struct uplink_request *request);

/* Whether a name is what `named` says; in the form of dns_name(), both. */
bool rules_name_matches(const struct uplink_name *named, const char *name);

/* Of the request's name `i`: the set of addresses that it has now, "name4_I" or "name6_I"; `of`: "", or a member's rules_of(). */
const char *rules_name_set(unsigned i, bool four, const char *of, char buf[32]);

/*
 * Of a guest on a bridge of the host's (UPLINK_BRIDGE): the same policy, with its own network among what is allowed, unless
 * DENY; nothing is translated; and others there may begin connections to it.
 */
char *rules_bridge_text(const struct uplink_request *request);

/*
 * What a network's members share. Half of it is divided among as many as there can be, so that nobody is without; the
 * rest is for who comes first, and nobody may have more of it than flows_peer and flows_out (rules_network.c).
 */
struct rules_limits {
	unsigned files; /* descriptors that pasta may have */
	unsigned tracked; /* connections that the kernel's table holds */
};

unsigned
rules_servers_most(const struct rules_limits *limits); /* questions with the name server, each for three minutes */

/*
 * Of a named network: what is there without a member; then of each member what comes and goes with it. A new string;
 * free() it. NULL: out of memory.
 */
char *rules_network_text(const struct uplink_request *request, const struct rules_limits *limits);
char *rules_join_text(const struct uplink_request *request, const struct rules_limits *limits,
		      const struct uplink_join *join, const struct uplink_member *member, unsigned slot);
char *rules_leave_text(const struct uplink_request *request, const struct uplink_join *join, unsigned slot);

/* What a member's names in the rules end in: "_SLOT". */
const char *rules_of(unsigned slot, char buf[8]);

/* "host", "host_3": false: no such. The slot is 0 where there is none. */
bool rules_parse_reason(const char *text, size_t len, unsigned *ret_reason, unsigned *ret_slot);

/* The same, and the other counters: RULES_BEGUN, RULES_OUT, RULES_IN. */
enum { RULES_COUNT_BEGUN = UPLINK_REASONS, RULES_COUNT_OUT, RULES_COUNT_IN, RULES_COUNTS };
bool rules_parse_counter(const char *text, size_t len, unsigned *ret_what, unsigned *ret_slot);

/* Whether the network lies in a range that is refused unless it is named. */
bool rules_is_private(const struct uplink_rule *rule);

#endif
