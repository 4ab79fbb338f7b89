/*
 * The bridge, and a link to it, by rtnetlink(7).
 *
 * Trust:   the kernel's answers.
 * Thread:  one.
 * Returns: 0 or -errno, the kernel's.
 */
#ifndef BRIDGE_LINK_H
#define BRIDGE_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/bridge.h"

struct link_bridge {
	int index;
	uint32_t mtu;
};

/* -ENODEV: no such device; -EMEDIUMTYPE: it is no bridge. fd: a NETLINK_ROUTE socket, here and below. */
int link_find_bridge(int fd, const char *name, struct link_bridge *ret);

/*
 * Both ends, down: the outer one a port of the bridge, the inner one in the namespace. -EEXIST: there is a device of that
 * name; -ENOTUNIQ: there is none, so the namespace has a BRIDGE_INNER already, or there was one when it was tried.
 */
int link_make(int fd, const struct link_bridge *bridge, const char *name, const uint8_t mac[6], int namespace,
	      int *ret_index);

/*
 * What the port is to the bridge: nothing that comes by it changes the tree, a router's place or who is where; frames to
 * that address go there and no others but group ones; from any other address none is taken (Linux 5.18). -EEXIST:
 * the bridge has seen the address elsewhere.
 */
int link_bind(int fd, int index, const uint8_t mac[6], bool isolated);

#endif
