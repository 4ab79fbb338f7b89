/*
 * The way to the host: the agent dials, it listens nowhere.
 *
 * Purpose: the one place that knows of vsock; the agent's own tests put another dial.c here.
 * Trust:   the host decides per port what answers.
 * Returns: a connecting, non-blocking, close-on-exec stream socket that the caller owns, or
 *          -errno. Writable means connected; EPOLLERR or EPOLLHUP means refused.
 */
#ifndef MVM_GUEST_DIAL_H
#define MVM_GUEST_DIAL_H

#include <stdint.h>

int dial(uint32_t port);

#endif
