#include "lib/verdict.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "lib/text.h"

enum status_rule { STATUS_VALUE, STATUS_SIGNAL, STATUS_FIXED };

static const struct {
	const char *name;
	enum status_rule rule;
	int status;
} kinds[VERDICT_KINDS] = {
	[VERDICT_EXITED] = { "exited", STATUS_VALUE, 0 },
	[VERDICT_SIGNALLED] = { "signalled", STATUS_SIGNAL, 0 },
	[VERDICT_GUEST_OOM] = { "guest-oom", STATUS_SIGNAL, 0 },
	[VERDICT_NOT_EXECUTABLE] = { "not-executable", STATUS_FIXED, 126 },
	[VERDICT_NOT_FOUND] = { "not-found", STATUS_FIXED, 127 },
	[VERDICT_TIMEOUT] = { "timeout", STATUS_FIXED, 124 },
	[VERDICT_IDLE_TIMEOUT] = { "idle-timeout", STATUS_FIXED, 124 },
	[VERDICT_BOOT_TIMEOUT] = { "boot-timeout", STATUS_FIXED, 124 },
	[VERDICT_GUEST_PANIC] = { "guest-panic", STATUS_FIXED, 125 },
	[VERDICT_GUEST_REBOOT] = { "guest-reboot", STATUS_FIXED, 125 },
	[VERDICT_GUEST_POWEROFF] = { "guest-poweroff", STATUS_FIXED, 125 },
	[VERDICT_TRIPLE_FAULT] = { "triple-fault", STATUS_FIXED, 125 },
	[VERDICT_KVM_ERROR] = { "kvm-error", STATUS_FIXED, 125 },
	[VERDICT_HOST_OOM] = { "host-oom", STATUS_FIXED, 125 },
	[VERDICT_DISK_FULL] = { "disk-full", STATUS_FIXED, 125 },
	[VERDICT_OPERATOR] = { "operator", STATUS_FIXED, 125 },
	[VERDICT_VMM_FAULT] = { "vmm-fault", STATUS_FIXED, 125 },
	[VERDICT_REFUSED] = { "refused", STATUS_FIXED, 125 },
};

const char *verdict_name(uint32_t kind)
{
	return kind >= 1 && kind < VERDICT_KINDS ? kinds[kind].name : "unknown";
}

const char *verdict_source_name(enum verdict_source source)
{
	switch (source) {
	case VERDICT_FROM_GUEST:
		return "guest";
	case VERDICT_FROM_VMM:
		return "vmm";
	case VERDICT_FROM_HOST:
		break;
	}
	return "host";
}

static void decide(struct verdict *v, enum verdict_kind kind, enum verdict_source source, int value, const char *fmt,
		   ...) __attribute__((format(printf, 5, 6)));

static void decide(struct verdict *v, enum verdict_kind kind, enum verdict_source source, int value, const char *fmt,
		   ...)
{
	va_list ap;

	v->kind = kind;
	v->source = source;
	v->value = value;
	v->status = kinds[kind].status;
	if (kinds[kind].rule == STATUS_VALUE)
		v->status = value;
	else if (kinds[kind].rule == STATUS_SIGNAL)
		v->status = 128 + value;
	va_start(ap, fmt);
	(void)vsnprintf(v->cause, sizeof(v->cause), fmt, ap);
	va_end(ap);
	text_harmless(v->cause);
}

/* A VMM that died by itself. False: its process gives no reason to doubt it. */
static bool decide_process(const struct verdict_facts *f, struct verdict *v)
{
	if (!f->vmm_waited || f->killed_by_us)
		return false;
	if (f->vmm_code == CLD_EXITED) {
		if (f->vmm_ended)
			return false;
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0, "the VMM exited with status %d without a word%s%s",
		       f->vmm_status, f->vmm_error ? ": " : "", f->vmm_error ? f->vmm_error : "");
		return true;
	}
	if (f->vmm_status == SIGSYS)
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0,
		       "the VMM was killed for a system call that its filter forbids (SIGSYS%s%s)",
		       f->killed_call && *f->killed_call ? ": " : "; root finds which in the kernel's log: type=1326",
		       f->killed_call ? f->killed_call : "");
	else if (f->vmm_status == SIGKILL && f->host_oom)
		decide(v, VERDICT_HOST_OOM, VERDICT_FROM_HOST, 0,
		       "the VM took more of the host's memory than its cgroup allows, and was killed");
	else if (f->vmm_status == SIGKILL)
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0,
		       "the VMM was killed from outside (SIGKILL): most often the host's out-of-memory killer, which "
		       "dmesg shows");
	else
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0, "the VMM crashed (SIG%s)",
		       sigabbrev_np(f->vmm_status) ? sigabbrev_np(f->vmm_status) : "?");
	return true;
}

/* The VM ended in a way that makes whatever the guest said before doubtful or void. */
static bool decide_end(const struct verdict_facts *f, struct verdict *v)
{
	const char *why = f->vmm_error ? f->vmm_error : "the log says more";

	switch (f->vmm_ended ? f->end : VM_END_NONE) {
	case VM_END_PANIC:
		decide(v, VERDICT_GUEST_PANIC, VERDICT_FROM_VMM, 0, "the guest kernel panicked");
		return true;
	case VM_END_REBOOT:
		/* A kernel that panics resets by the i8042, too, where pvpanic is missing: still a reboot to us. */
		decide(v, VERDICT_GUEST_REBOOT, VERDICT_FROM_VMM, 0, "the guest rebooted, which ends a microVM");
		return true;
	case VM_END_TRIPLE_FAULT:
		decide(v, VERDICT_TRIPLE_FAULT, VERDICT_FROM_VMM, 0, "the guest's CPU reset itself on a triple fault");
		return true;
	case VM_END_KVM_ERROR:
		decide(v, VERDICT_KVM_ERROR, VERDICT_FROM_VMM, 0, "KVM could not go on: %s", why);
		return true;
	case VM_END_SETUP:
		if (f->agent_spoke) { /* its guest ran: whoever says so now is not the VMM that we started */
			decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0,
			       "the VMM said that the VM could not be built, after its guest had spoken");
			return true;
		}
		decide(v, VERDICT_REFUSED, VERDICT_FROM_VMM, 0, "%s",
		       f->vmm_error ? f->vmm_error : "the VM could not be built");
		return true;
	case VM_END_FAULT:
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_VMM, 0, "the VMM gave up: %s", why);
		return true;
	case VM_END_STOPPED:
		if (f->stop_sent || f->exited || f->failed)
			return false;
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0, "the VMM stopped unasked");
		return true;
	case VM_END_POWEROFF: /* judged after the guest's own words */
	case VM_END_NONE:
		return false;
	default:
		decide(v, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0, "the VMM reported an end that does not exist (%u)",
		       f->end);
		return true;
	}
}

static void decide_failure(const struct verdict_facts *f, struct verdict *v)
{
	const char *text = f->failure_text ? f->failure_text : "the command could not be started";

	switch (f->failure) {
	case PROTO_FAIL_NOT_FOUND:
		decide(v, VERDICT_NOT_FOUND, VERDICT_FROM_GUEST, 0, "%s", text);
		break;
	case PROTO_FAIL_NOT_EXECUTABLE:
		decide(v, VERDICT_NOT_EXECUTABLE, VERDICT_FROM_GUEST, 0, "%s", text);
		break;
	default:
		decide(v, VERDICT_REFUSED, VERDICT_FROM_GUEST, 0, "%s", text);
		break;
	}
}

static void decide_exit(const struct verdict_facts *f, struct verdict *v)
{
	const char *name = f->exit_value <= 64 ? sigabbrev_np((int)f->exit_value) : NULL;
	int signo = (int)(f->exit_value & 0x7f);

	if (f->exit_kind == PROTO_EXIT_STATUS)
		decide(v, VERDICT_EXITED, VERDICT_FROM_GUEST, (int)(f->exit_value & 0xff), "the command exited");
	else if (f->exit_kind == PROTO_EXIT_OOM)
		decide(v, VERDICT_GUEST_OOM, VERDICT_FROM_GUEST, signo,
		       "the guest ran out of memory and killed the command: give it more with -m");
	else if (name)
		decide(v, VERDICT_SIGNALLED, VERDICT_FROM_GUEST, signo, "the command was killed by SIG%s", name);
	else
		decide(v, VERDICT_SIGNALLED, VERDICT_FROM_GUEST, signo, "the command was killed by signal %d", signo);
}

/* A run that went wrong after the host had no room for what it wrote is not to be blamed on its command. */
static void blame_disk(const struct verdict_facts *f, struct verdict *v)
{
	char cause[sizeof(v->cause)];

	if (!f->full || !(v->kind == VERDICT_SIGNALLED || v->kind == VERDICT_GUEST_PANIC ||
			  (v->kind == VERDICT_EXITED && v->value)))
		return;
	if (v->kind == VERDICT_EXITED)
		(void)snprintf(cause, sizeof(cause), "the command exited with %d", v->value);
	else
		memcpy(cause, v->cause, sizeof(cause));
	decide(v, VERDICT_DISK_FULL, VERDICT_FROM_VMM, 0,
	       "%.500s: the host had no room for what the guest wrote; %.300s", f->full, cause);
}

void verdict_of_command(const struct verdict_facts *f, struct verdict *ret)
{
	if (f->failed)
		decide_failure(f, ret);
	else
		decide_exit(f, ret);
}

static void decide_all(const struct verdict_facts *f, struct verdict *ret)
{
	/* The order is the point: the host's own observations come before any word of the guest's. */
	if (f->refused)
		decide(ret, VERDICT_REFUSED, VERDICT_FROM_HOST, 0, "%s", f->refused);
	else if (f->operator_why)
		decide(ret, VERDICT_OPERATOR, VERDICT_FROM_HOST, 0, "%s", f->operator_why);
	else if (f->timed_out)
		decide(ret, VERDICT_TIMEOUT, VERDICT_FROM_HOST, 0, "the run took longer than --timeout allows");
	else if (f->boot_timed_out)
		decide(ret, VERDICT_BOOT_TIMEOUT, VERDICT_FROM_HOST, 0,
		       "the command did not start within --boot-timeout: see what the kernel says with --console FILE");
	else if (f->idle_timed_out)
		decide(ret, VERDICT_IDLE_TIMEOUT, VERDICT_FROM_HOST, 0,
		       "the VM was idle for as long as --idle-timeout says");
	else if (f->vmm_broke)
		decide(ret, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0, "%s", f->vmm_broke);
	else if (decide_process(f, ret) || decide_end(f, ret))
		return;
	else if (f->failed)
		decide_failure(f, ret);
	else if (f->exited)
		decide_exit(f, ret);
	else if (f->agent_error && f->agent_refuses)
		decide(ret, VERDICT_REFUSED, VERDICT_FROM_GUEST, 0, "%s", f->agent_error);
	else if (f->vmm_ended && f->end == VM_END_POWEROFF) /* with the VM goes the agent: that is no reason */
		decide(ret, VERDICT_GUEST_POWEROFF, VERDICT_FROM_VMM, 0,
		       "the guest powered off before the command had ended");
	else if (f->agent_error)
		decide(ret, VERDICT_GUEST_PANIC, VERDICT_FROM_GUEST, 0, "%s", f->agent_error);
	else
		decide(ret, VERDICT_VMM_FAULT, VERDICT_FROM_HOST, 0, "the VM ended without a reason");
}

void verdict_decide(const struct verdict_facts *f, struct verdict *ret)
{
	decide_all(f, ret);
	blame_disk(f, ret);
}
