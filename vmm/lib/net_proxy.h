/*
 * --proxy: the supervisor's side of the proxy, a process in the network namespace that mvm-net holds (uplink/proxy.c).
 *
 * Purpose: what goes to it with mvm-net's request, a connection for each dial of the guest's, its counters, and the
 *          variables by which programs find it.
 * Trust:   the proxy reads what guests and servers say, and may be theirs: nothing is received from it, and its
 *          numbers are copied.
 * Ownership: the struct owns its descriptor and its mapping.
 * Thread:  one.
 * Returns: 0 or -errno.
 */
#ifndef LIB_NET_PROXY_H
#define LIB_NET_PROXY_H

#include "uplink/uplink.h"

#define NET_PROXY_PORT 3128U /* of the guest's loopback */

struct net_proxy {
	int fd; /* connections go there; -1: there is no proxy */
	const struct uplink_proxied *counted; /* NULL: the same */
};

void net_proxy_init(struct net_proxy *proxy);

/* ret_theirs: for mvm-net, in the order of uplink.h; the caller's. */
int net_proxy_open(struct net_proxy *proxy, int ret_theirs[UPLINK_FDS]);
void net_proxy_close(struct net_proxy *proxy);

/* `arg`: a struct net_proxy. A new connection to the proxy: a non-blocking stream socket, or -errno. */
int net_proxy_dial(void *arg);

void net_proxy_counted(const struct net_proxy *proxy, struct uplink_proxied *ret); /* zeroes without one */

/* "http_proxy=…" and so on, NULL-terminated. */
extern const char *const net_proxy_environment[];

#endif
