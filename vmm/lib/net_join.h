/*
 * --net NETWORK: a VM joins a named network (network.h), whose process is started by the first of its VMs and outlives it.
 *
 * Trust:   what the process says is its steward's word, which reads no byte of a guest's; addresses are checked all the same.
 * Thread:  one.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NET_JOIN_H
#define LIB_NET_JOIN_H

#include "lib/net_user.h"

/* The end, of mode SPEC_NET_NAMED, gets its tap and what the agent is to set up; the link is the VM's place on the network. */
int net_join(struct net_user_link *link, struct net_host_end *end, const struct net_user_who *who, bool *ret_out,
	     struct mvm_error *err);

#endif
