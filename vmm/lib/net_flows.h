/*
 * The connections of a VM with --net user or --proxy, as mvm-net tells them (uplink/uplink.h).
 *
 * Purpose: gathers the messages of one answer.
 * Trust:   mvm-net's word: numbers are checked against their bounds, what was not asked for is not taken, nothing is
 *          text. Addresses and ports are the guest's choice.
 * Bounds:  UPLINK_FLOWS_MAX; what mvm-net says beyond what it announced is ignored.
 * Thread:  one.
 */
#ifndef LIB_NET_FLOWS_H
#define LIB_NET_FLOWS_H

#include <stdbool.h>

#include "uplink/uplink.h"

struct net_flows {
	bool asked, begun;
	struct uplink_listed listed;
	uint32_t n;
	struct uplink_flow flows[UPLINK_FLOWS_MAX];
};

void net_flows_ask(struct net_flows *flows); /* whatever came before is forgotten */

/* A message of UPLINK_LISTED or UPLINK_LIST. True: the answer is there, whole. */
bool net_flows_take(struct net_flows *flows, const struct uplink_message *message);

#endif
