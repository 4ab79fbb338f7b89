#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/self.h"
#include "log.h"
#include "vm.h"

#define KICK_SIGNAL (SIGRTMIN)
#define VCPU_STACK  (64UL << 10)
#define VCPU_GUARD  4096UL

/* The kick handler's way to its own vCPU: a signal that lands just before KVM_RUN must not be lost. */
static __thread struct kvm_run *kicked_run;

static void on_kick(int signo)
{
	(void)signo;
	if (kicked_run)
		kicked_run->immediate_exit = 1; /* KVM api.rst §5: KVM_RUN returns -EINTR at once */
}

int vcpu_init_kicks(void)
{
	struct sigaction action = { .sa_handler = on_kick };

	(void)sigemptyset(&action.sa_mask);
	return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

int vcpu_new(struct vm *vm, unsigned index, size_t run_size, struct vcpu *vcpu)
{
	*vcpu = (struct vcpu){ .vm = vm, .index = index, .fd = -1, .run_size = run_size };
	vcpu->counted = vm->counters ? &vm->counters->vcpus[index] : &vcpu->uncounted;
	vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0) {
		int err = -errno;

		log_error("vcpu %u: KVM_CREATE_VCPU: %s", index, strerror(-err));
		return err;
	}
	vcpu->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		int err = -errno;

		vcpu->run = NULL;
		log_error("vcpu %u: mapping its run page: %s", index, strerror(-err));
		return err;
	}
	vcpu->stack = mmap(NULL, VCPU_GUARD + VCPU_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (vcpu->stack == MAP_FAILED || mprotect(vcpu->stack, VCPU_GUARD, PROT_NONE) < 0) {
		int err = -errno;

		if (vcpu->stack == MAP_FAILED)
			vcpu->stack = NULL;
		log_error("vcpu %u: its stack: %s", index, strerror(-err));
		return err;
	}
	return 0;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (vcpu->stack)
		(void)munmap(vcpu->stack, VCPU_GUARD + VCPU_STACK);
	if (vcpu->run)
		(void)munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		(void)close(vcpu->fd);
	vcpu->stack = NULL;
	vcpu->run = NULL;
	vcpu->fd = -1;
}

/* The thread may not log: what it knows stays in struct vcpu, the registers in KVM. Returns false, as dispatch() does. */
static bool fault(struct vcpu *vcpu, const char *what, enum vm_end reason, uint64_t arg)
{
	vcpu->fault = what;
	vcpu->fault_arg = arg;
	vm_end(vcpu->vm, reason, arg);
	return false;
}

bool vcpu_explain(struct vcpu *vcpu)
{
	const char *what = vcpu->fault;

	if (!what)
		return false;
	vcpu->fault = NULL;
	if (vcpu->fault_errno)
		log_error("vcpu %u: %s: %s", vcpu->index, what, strerror(vcpu->fault_errno));
	else if (vcpu->fault_arg)
		log_error("vcpu %u: %s 0x%llx", vcpu->index, what, (unsigned long long)vcpu->fault_arg);
	else
		log_error("vcpu %u: %s", vcpu->index, what);
	arch_vcpu_dump(vcpu);
	return true;
}

static enum counters_exit kind_of(const struct kvm_run *run)
{
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		return run->mmio.is_write ? COUNTERS_EXIT_MMIO_WRITE : COUNTERS_EXIT_MMIO_READ;
	case KVM_EXIT_IO:
		return COUNTERS_EXIT_PORT;
	case KVM_EXIT_INTR:
		return COUNTERS_EXIT_KICKED;
	default:
		return COUNTERS_EXIT_FATAL;
	}
}

/* What one exit asks for. Returns false when this vCPU is done. */
static bool dispatch(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		if (run->mmio.len > sizeof(run->mmio.data))
			return true; /* KVM never does; nothing to guess */
		if (run->mmio.is_write)
			bus_write(&vm->bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
		else
			bus_read(&vm->bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SHUTDOWN:
		return fault(vcpu, "triple fault", VM_END_TRIPLE_FAULT, 0);
	case KVM_EXIT_INTERNAL_ERROR:
		return fault(vcpu, "KVM internal error, suberror", VM_END_KVM_ERROR, run->internal.suberror);
	case KVM_EXIT_FAIL_ENTRY:
		return fault(vcpu, "the CPU refused to enter the guest, reason", VM_END_KVM_ERROR,
			     run->fail_entry.hardware_entry_failure_reason);
	default:
		if (arch_vcpu_exit(vcpu, run) == 0)
			return true;
		return fault(vcpu, "unknown KVM exit", VM_END_KVM_ERROR, run->exit_reason);
	}
}

/* All that a vCPU thread does once it is set up; its system calls are those that vcpu.h names. */
static void run_guest(struct vcpu *vcpu)
{
	bool go = jail_enter_thread(JAIL_FILTER_VCPU) == 0;

	if (!go)
		vm_end(vcpu->vm, VM_END_SETUP, 0);
	while (go && !atomic_load_explicit(&vcpu->stop, memory_order_acquire)) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			counters_add(&vcpu->counted->exits[kind_of(vcpu->run)], 1);
			go = dispatch(vcpu);
			continue;
		}
		if (errno == EINTR || errno == EAGAIN) {
			counters_add(&vcpu->counted->exits[COUNTERS_EXIT_KICKED], 1);
			vcpu->run->immediate_exit = 0;
			continue;
		}
		vcpu->fault_errno = errno;
		counters_add(&vcpu->counted->exits[COUNTERS_EXIT_FATAL], 1);
		go = fault(vcpu, "KVM_RUN", VM_END_KVM_ERROR, (uint64_t)errno);
	}
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	/* For people who look at top; failing harms nobody. By prctl, from within: there is no /proc in the jail. */
	(void)snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	(void)pthread_setname_np(pthread_self(), name);
	kicked_run = vcpu->run;
	(void)pthread_mutex_lock(&vcpu->vm->gate);
	(void)pthread_mutex_unlock(&vcpu->vm->gate);
	run_guest(vcpu);
#ifndef __SANITIZE_ADDRESS__ /* which wants to see its threads end */
	/*
	 * Past the C library's own end of a thread, which makes calls for what there is none of here: thread-specific
	 * data, a heap, a stack to give back. The kernel clears the word that pthread_join() waits for.
	 */
	(void)syscall(SYS_exit, 0);
#endif
	return NULL;
}

int vcpu_start(struct vcpu *vcpu)
{
	sigset_t blocked, old;
	pthread_attr_t attr;
	int err;

	/* The thread starts with every signal but the kick blocked. */
	(void)sigfillset(&blocked);
	(void)sigdelset(&blocked, KICK_SIGNAL);
	(void)pthread_sigmask(SIG_SETMASK, &blocked, &old);
	(void)pthread_attr_init(&attr);
	err = pthread_attr_setstack(&attr, (uint8_t *)vcpu->stack + VCPU_GUARD, VCPU_STACK);
	if (!err)
		err = pthread_create(&vcpu->thread, &attr, vcpu_main, vcpu);
	(void)pthread_attr_destroy(&attr);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		log_error("vcpu %u: its thread: %s", vcpu->index, strerror(err));
		return -err;
	}
	vcpu->started = true;
	return 0;
}

void vcpu_kick_out(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	atomic_store_explicit(&vcpu->stop, true, memory_order_release);
	(void)pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_join(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	(void)pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
}
