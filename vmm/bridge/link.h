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

/* The bridge's ports whose names begin so; `below`: those alone that are older than that one; 0: all. Their number. */
int link_count(int fd, int bridge, const char *prefix, int below);

/* Both ends, down: the outer one a port of the bridge, the inner one in the namespace. -EEXIST: such a name is taken. */
int link_make(int fd, const struct link_bridge *bridge, const char *name, const uint8_t mac[6], int namespace,
	      int *ret_index);

/*
 * What the port is to the bridge: nothing that comes by it changes the tree, a router's place or who is where; frames to
 * that address go there and no others but group ones; from any other address none is taken (Linux 5.18). -EEXIST:
 * the bridge has seen the address elsewhere.
 */
int link_bind(int fd, int index, const uint8_t mac[6], bool isolated);

#endif
