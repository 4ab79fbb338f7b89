/*
 * The way to the host: the agent dials; it listens for published ports alone, and takes none but the host.
 *
 * Purpose: the one place that knows of vsock; the agent's own tests put another dial.c here.
 * Trust:   the host decides per port what answers.
 * Returns: of dial() a connecting, non-blocking, close-on-exec stream socket that the caller owns, or
 *          -errno. Writable means connected; EPOLLERR or EPOLLHUP means refused.
 */
#ifndef MVM_GUEST_DIAL_H
#define MVM_GUEST_DIAL_H

#include <stdint.h>

int dial(uint32_t port);

/* A non-blocking, close-on-exec listening socket on the guest's `port`, or -errno. */
int dial_listen(uint32_t port);

/* A connection of the host's on it, likewise; -EPERM: somebody else's (closed); -EAGAIN: none is left. */
int dial_accept(int listener);

#endif
