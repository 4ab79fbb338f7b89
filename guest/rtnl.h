/*
 * Links, addresses and routes by rtnetlink(7): one request, one answer.
 *
 * Purpose: what the agent does to a VM's devices and mvm-net to its namespace's, in the words of `ip`.
 * Trust:   the kernel's answers.
 * Thread:  one per socket.
 * Returns: 0 or -errno, the kernel's.
 */
#ifndef GUEST_RTNL_H
#define GUEST_RTNL_H

#include <stdint.h>

/* `ip link set up mtu MTU`; 0: the MTU stays. fd: a NETLINK_ROUTE socket, here and below. */
int rtnl_link_up(int fd, int index, uint32_t mtu);

/* `ip address replace`, of use at once: no one is asked whose it is. family: AF_INET or AF_INET6, of 4 or 16 bytes. */
int rtnl_add_address(int fd, int index, int family, const uint8_t *address, uint8_t prefix);

/* `ip route add default via`, through this link whether or not the gateway lies in one of its networks. -EEXIST. */
int rtnl_add_default(int fd, int index, int family, const uint8_t *gateway);

/* `ip route add ADDRESS/BITS via GATEWAY dev`, on-link as above; gateway NULL: the link's own. -EEXIST. */
int rtnl_add_route(int fd, int index, int family, const uint8_t *address, uint8_t bits, const uint8_t *gateway);

/* `ip route add unreachable ADDRESS/BITS` */
int rtnl_add_unreachable(int fd, int family, const uint8_t *address, uint8_t bits);

/* `ip neighbour add proxy ADDRESS dev`: the link answers for it. */
int rtnl_add_proxy(int fd, int index, int family, const uint8_t *address);

/* `ip link del` */
int rtnl_link_delete(int fd, int index);

#endif
