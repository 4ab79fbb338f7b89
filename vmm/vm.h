/*
 * One virtual machine: built from the config, run until it ends.
 *
 * Trust:   the config is checked (config.h) before it comes here; the guest is hostile.
 * Ownership: struct vm owns every descriptor that the config names, memory, devices, vCPUs.
 * Thread:  vm_new/vm_run/vm_free on the I/O (main) thread; vm_end() on any.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/arch.h"
#include "bus.h"
#include "guestmem.h"
#include "loop.h"
#include "mvm/control.h"
#include "mvm/counters.h"
#include "mvm/vmm_config.h"
#include "virtio/mmio.h"

struct ioapic;
struct serial;
struct vcpu;

struct vm {
	const struct vmm_config *config;
	struct counters *counters; /* mapped, shared with the supervisor; NULL: nobody reads them */
	int kvm_fd, vm_fd;
	struct guestmem *mem;
	struct bus bus;
	struct loop *loop;
	struct ioapic *intc; /* arch's interrupt controller */
	struct serial *serial;
	struct virtio_mmio *devices[ARCH_VIRTIO_MAX];
	unsigned ndevices;
	uint8_t *registers; /* a page for each, VIRTIO_MMIO_SIZE: what the guest reads there, read-only memory to it */
	size_t registers_size;
	struct virtio_dev *vsock; /* borrowed from devices[]; NULL without */
	struct virtio_dev *disks[VMM_DISKS_MAX]; /* borrowed, as many as the config has */
	struct virtio_dev *nets[VMM_NETS_MAX]; /* borrowed, as many as the config has */
	struct vcpu *vcpus;
	unsigned nvcpus;
	pthread_mutex_t gate; /* held while the vCPUs' threads are made: none enters the guest before all are there */
	gpa_t boot_entry, boot_arg; /* set by arch_vm_load, used by arch_vcpu_init */

	atomic_uint end; /* enum vm_end; the first reason stays */
	_Atomic uint64_t end_arg;

	bool explained; /* the fault behind `end` was logged; I/O thread */

	atomic_bool panicked; /* pvpanic told; the console is still being written */
	struct loop_source timer; /* a panic's grace, and at the end that of channels */

	struct control *control;
};

int vm_new(const struct vmm_config *config, struct vm **ret_vm);
void vm_free(struct vm *vm);

/* Runs the VM until it ends; returns its reason. */
enum vm_end vm_run(struct vm *vm, uint64_t *ret_arg);

/* Asks the VM to end, from any thread; only the first reason counts. */
void vm_end(struct vm *vm, enum vm_end reason, uint64_t arg);

/*
 * The guest's kernel says that it panicked (any thread). It tells so before its console is flushed: the VM
 * ends with VM_END_PANIC when the guest resets itself, or a second later.
 */
void vm_panicked(struct vm *vm);

const char *vm_end_name(enum vm_end reason);

#endif
