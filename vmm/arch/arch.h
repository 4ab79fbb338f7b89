/*
 * What an architecture owes the VMM. Only arch/ knows CPUs, interrupt controllers, boot protocols
 * and the memory map; everything else is written against this header.
 *
 * Thread: arch_vm_* and arch_vcpu_init() before any vCPU runs; arch_vcpu_exit() on the vCPU's own thread, with its
 *         few system calls (vcpu.h); arch_vcpu_dump() once that thread was joined; arch_irq_raise() on any.
 * Returns: 0 or -errno, logged where the context is known.
 */
#ifndef VMM_ARCH_ARCH_H
#define VMM_ARCH_ARCH_H

#include <linux/kvm.h>
#include <stdint.h>

#include "guestmem.h"
#include "mvm/vmm_config.h"

struct vm;
struct vcpu;

/* Where RAM may not be: [start, end) belongs to devices. */
extern const gpa_t arch_hole_start, arch_hole_end;

/* Device addresses; pins number interrupt lines from 1. virtio slot i has pin arch_virtio_pin(i), and the slots lie side by side. */
extern const gpa_t arch_serial_base, arch_poweroff_base, arch_panic_base;
#define ARCH_DEVICE_SIZE 0x1000U
#define ARCH_SERIAL_PIN  1U
#define ARCH_VIRTIO_MAX  24U
gpa_t arch_virtio_base(unsigned slot);
unsigned arch_virtio_pin(unsigned slot);

/* What the guest must write to the power-off register, a 32-bit word at offset 0. */
#define ARCH_POWEROFF_VALUE 0x34U

/* KVM's version and every capability that we need, by name. */
int arch_check_kvm(int kvm_fd);

/* After KVM_CREATE_VM, before devices: interrupt controller for `pins` lines (pins 0 .. pins-1). */
int arch_vm_init(struct vm *vm, unsigned pins);
void arch_vm_fini(struct vm *vm);

/* Loads kernel and initrds, writes the hardware description and the boot registers' source. */
int arch_vm_load(struct vm *vm, const struct vmm_config *config);

/* CPUID, MSRs, registers; vCPU 0 is the one that boots. */
int arch_vcpu_init(struct vcpu *vcpu);

/* An exit that is the architecture's own (port I/O). 0 handled; -ENOTSUP: nobody knows it. */
int arch_vcpu_exit(struct vcpu *vcpu, struct kvm_run *run);

/* One log block with the registers, for ends that need explaining. I/O thread. */
void arch_vcpu_dump(struct vcpu *vcpu);

/* An edge on a line. arg = struct vm *. */
void arch_irq_raise(void *arg, unsigned pin);

#endif
