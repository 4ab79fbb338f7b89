/*
 * How a run ended: the one place that decides it.
 *
 * Purpose: exit status, receipt, events and metrics all read what verdict_decide() says.
 * Trust:   what the agent said is the guest's word; what the VMM said is a possibly taken-over
 *          VMM's; what the supervisor saw itself (time-outs, wait status) overrides both.
 * Thread:  any; pure.
 */
#ifndef LIB_VERDICT_H
#define LIB_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "mvm/control.h"
#include "mvm/proto.h"

enum verdict_kind {
	VERDICT_EXITED = 1, /* value: status */
	VERDICT_SIGNALLED, /* value: signal */
	VERDICT_GUEST_OOM, /* value: signal */
	VERDICT_NOT_EXECUTABLE,
	VERDICT_NOT_FOUND,
	VERDICT_TIMEOUT,
	VERDICT_IDLE_TIMEOUT,
	VERDICT_BOOT_TIMEOUT,
	VERDICT_GUEST_PANIC,
	VERDICT_GUEST_REBOOT,
	VERDICT_GUEST_POWEROFF,
	VERDICT_TRIPLE_FAULT,
	VERDICT_KVM_ERROR,
	VERDICT_HOST_OOM,
	VERDICT_DISK_FULL,
	VERDICT_OPERATOR,
	VERDICT_VMM_FAULT,
	VERDICT_REFUSED,
	VERDICT_KINDS
};

/*
 * Whose word a verdict rests on. The supervisor's own observation; the VMM's alone, which somebody who
 * took it over can forge; or the guest's, which any workload that owns its guest can.
 */
enum verdict_source { VERDICT_FROM_HOST, VERDICT_FROM_VMM, VERDICT_FROM_GUEST };

/* Everything that a verdict is made of. Zero: nothing of it happened. */
struct verdict_facts {
	const char *refused; /* the host's reason not to start the VM at all */

	/* the supervisor's own */
	bool timed_out, boot_timed_out, idle_timed_out; /* set only while neither an exit nor a failure was known */
	const char *operator_why; /* stopped or killed from outside, and how */
	const char *vmm_broke; /* the VMM broke the control protocol, or did not end when told to */
	bool stop_sent; /* CONTROL_STOP */

	/* the VMM's process */
	bool vmm_waited;
	int vmm_code, vmm_status; /* siginfo's si_code (CLD_*) and si_status */
	bool killed_by_us; /* with SIGKILL */
	const char *killed_call; /* of a SIGSYS: which call, "" where it cannot be known; or NULL */
	bool host_oom; /* the kernel's out-of-memory killer struck in its cgroup */

	/* the VMM's word */
	bool vmm_ended;
	uint32_t end; /* enum vm_end, any value */
	const char *vmm_error; /* its last error line, or NULL */
	const char *full; /* the disk for whose writes the host had no room (most often), or NULL */

	/* the guest's word */
	bool agent_spoke; /* its HELLO came */
	bool failed;
	uint32_t failure; /* enum proto_failure, any value */
	const char *failure_text;
	bool exited;
	uint32_t exit_kind, exit_value; /* any values */
	const char *agent_error; /* PROTO_ERROR's text, or how the agent broke its protocol */
	bool agent_refuses; /* agent_error is PROTO_ERROR's: the image or the request is at fault */
};

struct verdict {
	enum verdict_kind kind;
	enum verdict_source source;
	int value; /* exit status or signal, 0 otherwise */
	int status; /* mvm's exit status */
	char cause[1024];
};

/* Of a further command, by `failed` or `exited` alone. */
void verdict_of_command(const struct verdict_facts *facts, struct verdict *ret_verdict);

void verdict_decide(const struct verdict_facts *facts, struct verdict *ret_verdict);

const char *verdict_name(uint32_t kind); /* "unknown" out of range */
const char *verdict_source_name(enum verdict_source source); /* as in the receipt */

#endif
