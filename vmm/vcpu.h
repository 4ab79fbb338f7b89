/*
 * vCPU threads: KVM_RUN and the dispatch of exits.
 *
 * Trust:   addresses, widths and data of exits come from the guest.
 * Thread:  vcpu_start/kick_out/join on the I/O thread; the rest on the vCPU's own. A vCPU thread
 *          allocates nothing and logs only when it ends the VM.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct vm;

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	bool started;
	atomic_bool stop;
};

/* KVM_CREATE_VCPU and its run page; registers are arch's business. */
int vcpu_new(struct vm *vm, unsigned index, size_t run_size, struct vcpu *vcpu);
int vcpu_start(struct vcpu *vcpu);
void vcpu_kick_out(struct vcpu *vcpu); /* it leaves KVM_RUN and its thread ends; does not wait */
void vcpu_join(struct vcpu *vcpu); /* waits for that */
void vcpu_free(struct vcpu *vcpu);

/* Installs the kick signal's handler; once per process. */
int vcpu_init_kicks(void);

#endif
