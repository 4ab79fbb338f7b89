/*
 * --net bridge=: the supervisor's side of it: what mvm-net is to make, and the link that mvm-bridge makes for it.
 *
 * Purpose: a VM on a bridge of the host's, by addresses of its own (uplink/bridge.c).
 * Trust:   the spec was checked by its setters; the host's devices are asked for; what mvm-net and mvm-bridge say is bounded.
 * Thread:  one.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NET_BRIDGE_H
#define LIB_NET_BRIDGE_H

#include "lib/net_host.h"
#include "lib/spec.h"
#include "uplink/uplink.h"

/* That there is such a device, and that the MTU is one of its; what was left out is filled in. */
int net_bridge_check(struct spec_net *net, struct mvm_error *err);

/* Where there are names in --allow-egress: whom the namespace's resolver asks, the first dns= that can be reached. */
int net_bridge_server(const struct spec_net *net, const struct spec_net_address **ret, struct mvm_error *err);

/* `flag`: for errors, as "--net: bridge=br0". */
int net_bridge_request(const char *flag, const struct spec_net *net, const struct mvm_spec *spec,
		       struct uplink_request *ret, struct mvm_error *err);

/*
 * Of mvm-net that was started with it, fd its socket: the link, then the tap; the end gets it, and what the agent is to set up.
 * `names`: the request has some, and the guest asks the namespace for them.
 */
int net_bridge_open(int fd, const char *flag, bool names, struct net_host_end *end, struct mvm_error *err);

#endif
