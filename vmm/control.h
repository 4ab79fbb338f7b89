/*
 * The VMM's end of the control socket (mvm/control.h).
 *
 * Trust:   the supervisor is trusted to be well-meaning, not to be flawless: sizes are checked.
 * Ownership: descriptors received are passed on to the vsock device or closed here.
 * Thread:  I/O thread.
 */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include <stdint.h>

#include "mvm/control.h"
#include "virtio/devices.h"

struct vm;
struct control;

int control_new(int fd, struct vm *vm, struct control **ret_control);
void control_free(struct control *control);

int control_send(struct control *control, enum control_type type, uint32_t id, uint32_t port, uint32_t code,
		 uint64_t arg);

/* The broker that asks the supervisor. */
struct vsock_broker control_broker(struct control *control);

#endif
