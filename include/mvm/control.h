/*
 * Supervisor <-> VMM: messages on the control socket.
 *
 * Purpose: one SOCK_SEQPACKET datagram is one struct control_msg, in both directions. The VMM asks
 *          for connections that its guest dials; the supervisor alone decides and connects.
 * Trust:   the supervisor treats every message as hostile (a guest may own the VMM); it receives
 *          without a control buffer, so a VMM can pass it no descriptor. The VMM sends with
 *          write() alone.
 * Ownership: a descriptor that comes with CONTROL_DIALLED or CONTROL_CONNECT (one, SCM_RIGHTS) belongs to the VMM.
 * Layout:  native integers (both ends are the same machine and the same build).
 */
#ifndef MVM_CONTROL_H
#define MVM_CONTROL_H

#include <stdint.h>

#define CONTROL_VERSION   3U
#define CONTROL_DIALS_MAX 16U /* dials that may wait for the supervisor's answer at once */
#define CONTROL_CONNS_MAX 256U /* CONTROL_CONNECTs that are not CONTROL_CLOSED yet */
#define CONTROL_ALL_DISKS UINT32_MAX

enum control_type {
	/* VMM -> supervisor */
	CONTROL_RUNNING = 1, /* VM built, vCPUs start; arg = CONTROL_VERSION */
	CONTROL_DIAL = 2, /* guest connects to host port `port`; `id` names the pending dial */
	CONTROL_ENDED = 3, /* the VM is over; code = enum vm_end, arg = detail. Last message. */
	CONTROL_PONG = 4, /* answer to CONTROL_PING with the same `id`: the I/O loop lives */
	CONTROL_CLOSED = 5, /* the descriptor of CONTROL_CONNECT `id` is closed; once for each */

	/* supervisor -> VMM */
	CONTROL_DIALLED = 16, /* answer to `id`; one fd attached: a connected stream socket */
	CONTROL_REFUSED = 17, /* answer to `id`; code = errno, the guest gets RST */
	CONTROL_CONNECT = 18, /* connect the attached fd to guest port `port`; `id` < CONTROL_CONNS_MAX names it */
	CONTROL_STOP = 19, /* end the VM now: finish requests in flight, then CONTROL_ENDED */
	/* Limits of disk `port`, by its place in the configuration, or of CONTROL_ALL_DISKS: those that `code` names. */
	CONTROL_LIMITS = 20,
	CONTROL_NET_LIMITS = 22, /* of every network device: id = packets a second, at most VMM_PPS_MAX; arg as there */
	CONTROL_PING = 21, /* one at a time; `id`: of this one */
};

enum control_limits { /* of CONTROL_LIMITS and CONTROL_NET_LIMITS */
		      CONTROL_LIMITS_IOPS = 1U << 0, /* id = operations a second, 0 none, at most VMM_IOPS_MAX */
		      CONTROL_LIMITS_BPS = 1U << 1, /* arg = bytes a second, 0 none, VMM_BPS_MIN to VMM_BPS_MAX */
		      CONTROL_LIMITS_ALL = (1U << 2) - 1,
};

/* Why a VM ended, as its VMM saw it. The verdict is made of this and more by libmvm alone. */
enum vm_end {
	VM_END_NONE = 0,
	VM_END_STOPPED = 1, /* CONTROL_STOP or end-of-file on the control socket */
	VM_END_POWEROFF = 2, /* guest wrote the power-off register */
	VM_END_REBOOT = 3, /* guest asked the i8042 for a reset */
	VM_END_PANIC = 4, /* guest kernel told pvpanic */
	VM_END_TRIPLE_FAULT = 5, /* KVM_EXIT_SHUTDOWN */
	VM_END_KVM_ERROR = 6, /* KVM_EXIT_INTERNAL_ERROR, FAIL_ENTRY, unknown exit, failed KVM_RUN; arg = detail */
	VM_END_SETUP = 7, /* the VM could not be built; the log says why */
	VM_END_FAULT = 8, /* the VMM broke an invariant of its own */
};

struct control_msg {
	uint32_t type; /* enum control_type */
	uint32_t id;
	uint32_t port;
	uint32_t code;
	uint64_t arg;
};

_Static_assert(sizeof(struct control_msg) == 24, "layout");

#endif
