/*
 * The guest's network devices.
 *
 * Purpose: brings the loopback up; the kernel then gives it 127.0.0.1/8 and ::1 by itself.
 * Returns: 0 or -errno.
 */
#ifndef MVM_GUEST_NET_H
#define MVM_GUEST_NET_H

/* any_socket: an open socket of any family, whose ioctl may reach the device layer; -1 when there is none. */
int net_loopback_up(int any_socket);

#endif
