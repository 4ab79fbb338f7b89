/*
 * The allow-list of host ports that a VM may dial.
 *
 * Purpose: decides every CONTROL_DIAL, outside of the process that a guest might take over. Each
 *          grant is good for one connection.
 * Trust:   control messages are hostile; control_from_vmm() is their only reader.
 * Ownership: a granted descriptor belongs to the broker until a dial takes it.
 * Thread:  the supervisor's.
 */
#ifndef LIB_BROKER_H
#define LIB_BROKER_H

#include <stdint.h>
#include <sys/types.h>

#include "mvm/control.h"

#define BROKER_GRANTS_MAX 8

struct broker {
	unsigned ngrants;
	struct {
		uint32_t port;
		int fd;
	} grants[BROKER_GRANTS_MAX];
};

/* Takes fd over, always. -EEXIST, -ENOSPC. */
int broker_grant(struct broker *broker, uint32_t port, int fd);

/* Takes the grant for `port` out: its descriptor, or -ECONNREFUSED. */
int broker_dial(struct broker *broker, uint32_t port);

void broker_close(struct broker *broker);

/* Checks a datagram from the VMM: its size, and that it is of a kind that a VMM sends. 0, -EPROTO. */
int control_from_vmm(const void *datagram, size_t len, struct control_msg *ret_msg);

#endif
