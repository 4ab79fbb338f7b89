/*
 * What --net user finds on the host.
 *
 * Trust:   /proc.
 * Thread:  any; no state.
 */
#ifndef LIB_NET_USER_HOST_H
#define LIB_NET_USER_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "uplink/uplink.h"

#define NET_USER_HOST_TEXT 72U

/* Whether there is a default route of each family; `proc_net`: "/proc/net". */
void net_user_host_routes(const char *proc_net, bool *ret_four, bool *ret_six);

/*
 * The networks that the host is on: routes without a gateway. Very large ones are none, but a tunnel that is the way out
 * (0.0.0.0/1, 2000::/3). -E2BIG: more than UPLINK_LINKS.
 */
int net_user_host_links(const char *proc_net, struct uplink_rule ret_links[UPLINK_LINKS], uint32_t *ret_n);

/* Of which families the name servers in resolv.conf are; without any, as the C library has it: IPv4's loopback. */
void net_user_host_servers(const char *resolv_conf, bool *ret_four, bool *ret_six);

bool net_user_host_overlap(const struct uplink_rule *a, const struct uplink_rule *b); /* two networks */

/*
 * Whether the host has a route, but for the default ones, into `net` or around it: its network and link in ret_text, as
 * "10.0.0.0/8 (eth0)".
 */
bool net_user_host_overlaps(const char *proc_net, const struct uplink_rule *net, char ret_text[NET_USER_HOST_TEXT]);

#endif
