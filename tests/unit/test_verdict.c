/* Each way a run can end, and which word outweighs which. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lib/verdict.h"

#define WELL            .vmm_waited = true, .vmm_code = CLD_EXITED, .vmm_ended = true
#define EXITED(kind, n) .exited = true, .exit_kind = (kind), .exit_value = (n)

static const struct {
	const char *name;
	struct verdict_facts facts;
	const char *verdict;
	int status;
	enum verdict_source source;
} cases[] = {
	{ "exit 0",
	  { WELL, .end = VM_END_STOPPED, .stop_sent = true, EXITED(PROTO_EXIT_STATUS, 0) },
	  "exited",
	  0,
	  VERDICT_FROM_GUEST },
	{ "exit 7",
	  { WELL, .end = VM_END_STOPPED, .stop_sent = true, EXITED(PROTO_EXIT_STATUS, 7) },
	  "exited",
	  7,
	  VERDICT_FROM_GUEST },
	{ "exit 255",
	  { WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_STATUS, 255) },
	  "exited",
	  255,
	  VERDICT_FROM_GUEST },
	{ "an exit status out of range",
	  { WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_STATUS, 0x12345607) },
	  "exited",
	  7,
	  VERDICT_FROM_GUEST },
	{ "SIGKILL",
	  { WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_SIGNAL, 9) },
	  "signalled",
	  137,
	  VERDICT_FROM_GUEST },
	{ "SIGTERM",
	  { WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_SIGNAL, 15) },
	  "signalled",
	  143,
	  VERDICT_FROM_GUEST },
	{ "a signal out of range",
	  { WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_SIGNAL, 0xffffffff) },
	  "signalled",
	  255,
	  VERDICT_FROM_GUEST },
	{ "a full disk that the command did not mind",
	  { WELL, .end = VM_END_STOPPED, .full = "data.img", EXITED(PROTO_EXIT_STATUS, 0) },
	  "exited",
	  0,
	  VERDICT_FROM_GUEST },
	{ "a full disk",
	  { WELL, .end = VM_END_STOPPED, .full = "data.img", EXITED(PROTO_EXIT_STATUS, 1) },
	  "disk-full",
	  125,
	  VERDICT_FROM_VMM },
	{ "SIGBUS for a full disk",
	  { WELL, .end = VM_END_STOPPED, .full = "data.img", EXITED(PROTO_EXIT_SIGNAL, 7) },
	  "disk-full",
	  125,
	  VERDICT_FROM_VMM },
	{ "panic for a full disk",
	  { WELL, .end = VM_END_PANIC, .full = "own.img" },
	  "disk-full",
	  125,
	  VERDICT_FROM_VMM },
	{ "timeout whatever the disk is",
	  { WELL, .timed_out = true, .full = "data.img" },
	  "timeout",
	  124,
	  VERDICT_FROM_HOST },
	{ "guest's OOM killer",
	  { WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_OOM, 9) },
	  "guest-oom",
	  137,
	  VERDICT_FROM_GUEST },
	{ "not found",
	  { WELL, .end = VM_END_STOPPED, .failed = true, .failure = PROTO_FAIL_NOT_FOUND },
	  "not-found",
	  127,
	  VERDICT_FROM_GUEST },
	{ "not executable",
	  { WELL, .end = VM_END_STOPPED, .failed = true, .failure = PROTO_FAIL_NOT_EXECUTABLE },
	  "not-executable",
	  126,
	  VERDICT_FROM_GUEST },
	{ "unknown user",
	  { WELL, .end = VM_END_STOPPED, .failed = true, .failure = PROTO_FAIL_REFUSED },
	  "refused",
	  125,
	  VERDICT_FROM_GUEST },
	{ "a failure that does not exist",
	  { WELL, .end = VM_END_STOPPED, .failed = true, .failure = 99 },
	  "refused",
	  125,
	  VERDICT_FROM_GUEST },
	{ "the agent powers off by itself",
	  { WELL, .end = VM_END_POWEROFF, EXITED(PROTO_EXIT_STATUS, 3) },
	  "exited",
	  3,
	  VERDICT_FROM_GUEST },
	{ "refused", { .refused = "no" }, "refused", 125, VERDICT_FROM_HOST },
	{ "refused after the start",
	  { .refused = "no", .vmm_waited = true, .vmm_code = CLD_KILLED, .vmm_status = SIGKILL, .killed_by_us = true },
	  "refused",
	  125,
	  VERDICT_FROM_HOST },
	{ "operator over exit",
	  { .operator_why = "stopped", WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_SIGNAL, 9) },
	  "operator",
	  125,
	  VERDICT_FROM_HOST },
	{ "killed by the operator",
	  { .operator_why = "killed",
	    .vmm_waited = true,
	    .vmm_code = CLD_KILLED,
	    .vmm_status = SIGKILL,
	    .killed_by_us = true },
	  "operator",
	  125,
	  VERDICT_FROM_HOST },
	{ "time-out over the exit it caused",
	  { .timed_out = true, WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_SIGNAL, 9) },
	  "timeout",
	  124,
	  VERDICT_FROM_HOST },
	{ "boot time-out",
	  { .boot_timed_out = true,
	    .vmm_waited = true,
	    .vmm_code = CLD_KILLED,
	    .vmm_status = SIGKILL,
	    .killed_by_us = true },
	  "boot-timeout",
	  124,
	  VERDICT_FROM_HOST },
	{ "idle over the exit it caused",
	  { .idle_timed_out = true, WELL, .end = VM_END_STOPPED, EXITED(PROTO_EXIT_SIGNAL, 9) },
	  "idle-timeout",
	  124,
	  VERDICT_FROM_HOST },
	{ "panic over a forged exit",
	  { WELL, .end = VM_END_PANIC, EXITED(PROTO_EXIT_STATUS, 0) },
	  "guest-panic",
	  125,
	  VERDICT_FROM_VMM },
	{ "reboot", { WELL, .end = VM_END_REBOOT }, "guest-reboot", 125, VERDICT_FROM_VMM },
	{ "power-off", { WELL, .end = VM_END_POWEROFF }, "guest-poweroff", 125, VERDICT_FROM_VMM },
	{ "power-off takes the agent along",
	  { WELL, .end = VM_END_POWEROFF, .agent_error = "went away" },
	  "guest-poweroff",
	  125,
	  VERDICT_FROM_VMM },
	{ "the agent gives up",
	  { WELL, .end = VM_END_POWEROFF, .agent_error = "vda", .agent_refuses = true },
	  "refused",
	  125,
	  VERDICT_FROM_GUEST },
	{ "the agent dies",
	  { WELL, .end = VM_END_STOPPED, .stop_sent = true, .agent_error = "went away" },
	  "guest-panic",
	  125,
	  VERDICT_FROM_GUEST },
	{ "triple fault",
	  { WELL, .end = VM_END_TRIPLE_FAULT, EXITED(PROTO_EXIT_STATUS, 0) },
	  "triple-fault",
	  125,
	  VERDICT_FROM_VMM },
	{ "KVM error", { WELL, .end = VM_END_KVM_ERROR }, "kvm-error", 125, VERDICT_FROM_VMM },
	{ "VM not built", { WELL, .vmm_status = 1, .end = VM_END_SETUP }, "refused", 125, VERDICT_FROM_VMM },
	{ "not built, says a VMM whose guest spoke",
	  { WELL, .vmm_status = 1, .end = VM_END_SETUP, .agent_spoke = true, .vmm_error = "no segment" },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "not built, after a forged exit",
	  { WELL, .end = VM_END_SETUP, .agent_spoke = true, EXITED(PROTO_EXIT_STATUS, 0) },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "the VMM's own fault", { WELL, .end = VM_END_FAULT }, "vmm-fault", 125, VERDICT_FROM_VMM },
	{ "an end that does not exist", { WELL, .end = 1000 }, "vmm-fault", 125, VERDICT_FROM_HOST },
	{ "stopped unasked", { WELL, .end = VM_END_STOPPED }, "vmm-fault", 125, VERDICT_FROM_HOST },
	{ "crash",
	  { .vmm_waited = true, .vmm_code = CLD_DUMPED, .vmm_status = SIGSEGV },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "crash after a forged exit",
	  { .vmm_waited = true,
	    .vmm_code = CLD_KILLED,
	    .vmm_status = SIGSYS,
	    .vmm_ended = true,
	    .end = VM_END_STOPPED,
	    EXITED(PROTO_EXIT_STATUS, 0) },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "killed from outside",
	  { .vmm_waited = true, .vmm_code = CLD_KILLED, .vmm_status = SIGKILL },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "killed by the host's out-of-memory killer",
	  { .vmm_waited = true,
	    .vmm_code = CLD_KILLED,
	    .vmm_status = SIGKILL,
	    .host_oom = true,
	    EXITED(PROTO_EXIT_STATUS, 0) },
	  "host-oom",
	  125,
	  VERDICT_FROM_HOST },
	{ "exit without a word",
	  { .vmm_waited = true, .vmm_code = CLD_EXITED, .vmm_status = 1, .vmm_error = "config: bad" },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "broken protocol over all the guest says",
	  { .vmm_broke = "garbage",
	    .killed_by_us = true,
	    .vmm_waited = true,
	    .vmm_code = CLD_KILLED,
	    .vmm_status = SIGKILL,
	    EXITED(PROTO_EXIT_STATUS, 0) },
	  "vmm-fault",
	  125,
	  VERDICT_FROM_HOST },
	{ "nothing known", { 0 }, "vmm-fault", 125, VERDICT_FROM_HOST },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct verdict v;

		memset(&v, 0xff, sizeof(v));
		verdict_decide(&cases[i].facts, &v);
		if (strcmp(verdict_name(v.kind), cases[i].verdict) != 0 || v.status != cases[i].status ||
		    v.source != cases[i].source || !v.cause[0])
			fail_msg("%s: %s, %d, %d: %s", cases[i].name, verdict_name(v.kind), v.status, v.source,
				 v.cause);
	}
}

static void test_causes(void **state)
{
	struct verdict v;

	(void)state;
	verdict_decide(&(struct verdict_facts){ .vmm_waited = true, .vmm_code = CLD_KILLED, .vmm_status = SIGSYS }, &v);
	assert_non_null(strstr(v.cause, "SIGSYS; root finds"));
	verdict_decide(
		&(struct verdict_facts){
			.vmm_waited = true, .vmm_code = CLD_KILLED, .vmm_status = SIGSYS, .killed_call = "openat" },
		&v);
	assert_non_null(strstr(v.cause, "(SIGSYS: openat)"));
	verdict_decide(&(struct verdict_facts){ .vmm_waited = true, .vmm_code = CLD_KILLED, .vmm_status = SIGKILL },
		       &v);
	assert_non_null(strstr(v.cause, "SIGKILL"));
	verdict_decide(&(struct verdict_facts){ .vmm_waited = true, .vmm_code = CLD_KILLED, .vmm_status = 63 }, &v);
	assert_non_null(strstr(v.cause, "SIG?"));
	verdict_decide(
		&(struct verdict_facts){ WELL, .end = VM_END_STOPPED, .failed = true, .failure_text = "a\033[31m" },
		&v);
	assert_string_equal(v.cause, "a?[31m"); /* the guest's words are printed on a terminal */
}

static void test_names(void **state)
{
	(void)state;
	for (uint32_t kind = 1; kind < VERDICT_KINDS; kind++) {
		assert_string_not_equal(verdict_name(kind), "unknown");
		for (uint32_t other = 1; other < kind; other++)
			assert_string_not_equal(verdict_name(kind), verdict_name(other));
	}
	assert_string_equal(verdict_name(0), "unknown");
	assert_string_equal(verdict_name(VERDICT_KINDS), "unknown");
	assert_string_equal(verdict_name(UINT32_MAX), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_causes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
