/*
 * Clients of published UDP ports (proto.h, PUBLISH): forward.c's own other half.
 *
 * Purpose: one connection of the host's is one client; it gets a UDP socket of its own, connected to the port of the
 *          loopback (127.0.0.1, or ::1 where nobody is there), and datagrams go both ways. Where nobody is there
 *          either, or no longer, the connection ends.
 * Trust:   both ends are hostile; a host that breaks the framing loses that connection.
 * Bounds:  counted among forward.h's connections. Of each the beginning of one datagram from the host, and of one to
 *          it the rest, 64 KiB each and only as long as there is one. What its socket cannot hold the kernel drops.
 * Ownership, thread: as in forward.h.
 */
#ifndef MVM_GUEST_FORWARD_UDP_H
#define MVM_GUEST_FORWARD_UDP_H

#include "forward.h"

void forward_udp_take(struct forward *f, uint16_t port, int fd); /* fd is taken over */
void forward_udp_pump(struct forward *f); /* as forward_pump(); f->flows_todo: there is more */
bool forward_udp_drained(const struct forward *f);

#endif
