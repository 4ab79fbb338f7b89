/*
 * The guest's network devices.
 *
 * Purpose: brings the loopback up (the kernel then gives it 127.0.0.1/8 and ::1 by itself), and each device
 *          that the host names, with the addresses and routes that it gives.
 * Trust:   the host's word, bounds checked by request.h.
 * Returns: 0 or -errno, with *f filled where there is one.
 */
#ifndef MVM_GUEST_NET_H
#define MVM_GUEST_NET_H

#include "failure.h"
#include "request.h"

/* any_socket: an open socket of any family, whose ioctl may reach the device layer; -1 when there is none. */
int net_loopback_up(int any_socket);

/* NET's device; and its text for MOUNT_RESOLV, if there is one. */
int net_device_up(const struct net_request *req, struct failure *f);

#endif
