/*
 * mvm-vmm: one virtual machine, from the descriptors that the supervisor hands over.
 * It takes no arguments, reads no environment and opens nothing by name.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "jail/self.h"
#include "log.h"
#include "mvm/control.h"
#include "mvm/version.h"
#include "vm.h"

MVM_VERSION_MARKED;

static void report(enum vm_end reason, uint64_t arg)
{
	struct control_msg msg = { .type = CONTROL_ENDED, .code = (uint32_t)reason, .arg = arg };

	if (write(VMM_FD_CONTROL, &msg, sizeof(msg)) < 0 && errno != EPIPE)
		log_error("control: the end could not be reported");
}

int main(void)
{
	const struct vmm_config *config;
	enum vm_end reason = VM_END_SETUP;
	uint64_t arg = 0;
	sigset_t all;
	const char *step;
	struct vm *vm;
	int r;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL); /* the vCPU threads open their kick signal alone */
	(void)signal(SIGPIPE, SIG_IGN); /* a closed stream is an EPIPE, handled where it is written */
	log_init(VMM_FD_LOG, LOG_DEBUG);
	r = jail_close_behind(VMM_FD_JAIL, &step);
	if (r < 0)
		log_error("jail: %s: %s", step, strerror(-r));
	else if (config_read(VMM_FD_CONFIG, &config) == 0 && vm_new(config, &vm) == 0) {
		reason = vm_run(vm, &arg);
		vm_free(vm); /* every host call in flight is finished before the end is reported */
	}
	report(reason, arg);
	return reason == VM_END_SETUP ? EXIT_FAILURE : EXIT_SUCCESS;
}
