/*
 * vCPU threads: KVM_RUN and the dispatch of exits.
 *
 * Trust:   addresses, widths and data of exits come from the guest.
 * Thread:  everything here on the I/O thread; vcpu_main() alone is the vCPU's own.
 * System calls: from the first line of its run loop to its end a vCPU thread makes these and no others, nor does
 *          anything that bus_read(), bus_write() or arch_vcpu_exit() reaches:
 *
 *            ioctl         KVM_RUN on its vCPU, KVM_SIGNAL_MSI on the VM
 *            write         eight bytes to an eventfd: loop_post(), a device's kick
 *            futex         all PRIVATE. Mutexes: WAIT, WAKE. While a disk's reset waits for its requests, a condition
 *                          variable: WAIT_BITSET with CLOCK_REALTIME
 *            rt_sigreturn  from the kick
 *            exit          the raw one; its stack is ours, so that none of it is unmapped or advised then
 *
 *          So nothing there logs, allocates, asks for the time, or touches a descriptor that is no eventfd. What is
 *          to be said of a guest's fault is left behind (struct vcpu, virtio_dev_broken()) for the I/O thread to say.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/counters.h"

struct vm;

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	void *stack; /* with a guard page below */
	pthread_t thread;
	struct counters_vcpu *counted, uncounted; /* never NULL; its thread's */
	bool started;
	atomic_bool stop;
	/* Why its thread ended the VM, for the I/O thread to log once it was joined; fault NULL: it did not. */
	const char *fault; /* a string constant */
	uint64_t fault_arg;
	int fault_errno; /* 0: none */
};

/* KVM_CREATE_VCPU and its run page; registers are arch's business. */
int vcpu_new(struct vm *vm, unsigned index, size_t run_size, struct vcpu *vcpu);
int vcpu_start(struct vcpu *vcpu); /* its thread, which waits for vm->gate */
void vcpu_kick_out(struct vcpu *vcpu); /* it leaves KVM_RUN and its thread ends; does not wait */
void vcpu_join(struct vcpu *vcpu); /* waits for that */
bool vcpu_explain(struct vcpu *vcpu); /* joined: logs its fault and its registers, once; false: it had none */
void vcpu_free(struct vcpu *vcpu);

/* Installs the kick signal's handler; once per process. */
int vcpu_init_kicks(void);

#endif
