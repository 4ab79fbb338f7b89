#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "jail/self.h"
#include "log.h"
#include "vm.h"

#define KICK_SIGNAL (SIGRTMIN)
#define VCPU_STACK  (64UL << 10)

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
	return 0;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (vcpu->run)
		(void)munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		(void)close(vcpu->fd);
	vcpu->run = NULL;
	vcpu->fd = -1;
}

static void end_unexpected(struct vcpu *vcpu, enum vm_end reason, uint64_t arg)
{
	arch_vcpu_dump(vcpu);
	vm_end(vcpu->vm, reason, arg);
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
		log_error("vcpu %u: triple fault", vcpu->index);
		end_unexpected(vcpu, VM_END_TRIPLE_FAULT, 0);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		log_error("vcpu %u: KVM internal error, suberror %u", vcpu->index, run->internal.suberror);
		end_unexpected(vcpu, VM_END_KVM_ERROR, run->internal.suberror);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("vcpu %u: the CPU refused to enter the guest, reason 0x%llx", vcpu->index,
			  run->fail_entry.hardware_entry_failure_reason);
		end_unexpected(vcpu, VM_END_KVM_ERROR, run->fail_entry.hardware_entry_failure_reason);
		return false;
	default:
		if (arch_vcpu_exit(vcpu, run) == 0)
			return true;
		log_error("vcpu %u: unknown KVM exit %u", vcpu->index, run->exit_reason);
		end_unexpected(vcpu, VM_END_KVM_ERROR, run->exit_reason);
		return false;
	}
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];
	bool go;

	(void)snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	(void)prctl(PR_SET_NAME, name); /* for people who look at top; failing harms nobody */
	go = jail_enter_thread(JAIL_FILTER_VCPU) == 0;
	if (!go)
		vm_end(vcpu->vm, VM_END_SETUP, 0);
	kicked_run = vcpu->run;
	while (go && !atomic_load_explicit(&vcpu->stop, memory_order_acquire)) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			go = dispatch(vcpu);
			continue;
		}
		if (errno == EINTR || errno == EAGAIN) {
			vcpu->run->immediate_exit = 0;
			continue;
		}
		log_error("vcpu %u: KVM_RUN: %s", vcpu->index, strerror(errno));
		end_unexpected(vcpu, VM_END_KVM_ERROR, (uint64_t)errno);
		go = false;
	}
	kicked_run = NULL;
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
	(void)pthread_attr_setstacksize(&attr, VCPU_STACK);
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
