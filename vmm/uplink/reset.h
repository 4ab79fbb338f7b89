/*
 * Ends TCP connections that pasta has for a member of a network that left.
 *
 * Purpose: to pasta nothing says that a tap is gone: it would keep both ends until the other side closes. So each gets a
 *          reset in the member's place, as the kernel's table has its addresses.
 * Trust:   addresses and ports are the kernel's, numbers all of them.
 * Thread:  any; no state.
 */
#ifndef UPLINK_RESET_H
#define UPLINK_RESET_H

#include <stddef.h>
#include <stdint.h>

#define RESET_MAX 60U /* IPv6's header and TCP's */

/* Who sends to whom; of IPv4 the first four bytes of each address. Ports as on the wire. */
struct reset_ends {
	uint8_t from[16], to[16];
	uint16_t from_port, to_port;
	uint8_t protocol;
};

/* The packet that ends that connection, with its IP header; `len` of an address: 4 or 16. Returns its length. */
size_t reset_packet(const struct reset_ends *ends, size_t len, uint8_t ret[RESET_MAX]);

#endif
