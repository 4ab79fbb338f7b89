/*
 * What --net user finds on the host.
 *
 * Trust:   /proc.
 * Thread:  any; no state.
 */
#ifndef LIB_NET_USER_HOST_H
#define LIB_NET_USER_HOST_H

#include <stdbool.h>

/* Whether there is a default route of each family; `proc_net`: "/proc/net". */
void net_user_host_routes(const char *proc_net, bool *ret_four, bool *ret_six);

/* Of which families the name servers in resolv.conf are; without any, as the C library has it: IPv4's loopback. */
void net_user_host_servers(const char *resolv_conf, bool *ret_four, bool *ret_six);

#endif
