/*
 * The host's ends of a VM's network devices: taps and sockets that the user made.
 *
 * Purpose: opens what --net names, before there is a VM.
 * Trust:   the spec was checked by its setters.
 * Ownership: a struct net_host owns its descriptors.
 * Thread:  one.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NET_HOST_H
#define LIB_NET_HOST_H

#include "lib/spec_net.h"

struct net_host_end {
	struct spec_net net; /* with what was left out filled in */
	int fd; /* a tap or a stream socket, non-blocking; -1 once it was closed */
};

struct net_host {
	struct net_host_end ends[VMM_NETS_MAX];
	unsigned n;
};

int net_host_open(struct net_host *host, const struct spec_net *nets, size_t n, struct mvm_error *err);

/* Once the VMM has its own: ours would keep the other end of a socket from hearing of the VM's end. */
void net_host_close_fds(struct net_host *host);

#endif
