/*
 * The links and routes of a VM's network namespace, by rtnetlink(7).
 *
 * Purpose: what `ip` would do, without it; and the host's own addresses, as they come.
 * Trust:   the kernel's answers. A socket belongs to the namespace it was made in, whatever becomes of its process.
 * Thread:  one.
 * Returns: 0 or -errno.
 */
#ifndef UPLINK_ROUTE_H
#define UPLINK_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

/* fd: a socket of this namespace; `groups`: RTMGRP_* whose news it hears. */
int route_open(uint32_t groups, int *ret_fd);

/* The index of a link; -ENODEV. */
int route_find(const char *name);

/* Waits for a link of that name, which another process makes, on a socket of group RTMGRP_LINK; -ETIMEDOUT, -EPIPE: `gone` is readable. */
int route_await(int fd, const char *name, int gone, int timeout_ms);

/* rtnl_*() by addresses as text; -EINVAL. */
int route_add_address(int fd, int index, const char *address, uint8_t bits);
int route_add_default(int fd, int index, const char *gateway);

struct route_address {
	uint8_t family; /* 4 or 6 */
	uint8_t bytes[16];
	/* What else is received at it: of IPv6 the subnet's routers' (RFC 4291 §2.6.1), of IPv4 its broadcast. As `bytes`: none. */
	uint8_t also[16];
};

/* Asks for all addresses there are. */
int route_ask_addresses(int fd, unsigned family);

/*
 * Reads what a socket of the groups RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR has to tell, without waiting. Calls
 * tell() for each address that there is. 1: the answer to route_ask_addresses() is complete, 0: nothing more now, -ENOBUFS: news were
 * lost, ask again.
 */
int route_read_addresses(int fd, void (*tell)(const struct route_address *address, void *arg), void *arg);

#endif
