/*
 * What libmvm, outside of any VM, must know of the host's architecture.
 *
 * Purpose: messages and flags before a VM is started; nothing here touches KVM.
 * Thread:  any; pure.
 */
#ifndef ARCH_HOST_ARCH_H
#define ARCH_HOST_ARCH_H

#include <cpuid.h>
#include <elf.h>
#include <stdbool.h>

#define HOST_ARCH_NAME        "x86_64"
#define HOST_ARCH_ELF_MACHINE EM_X86_64
#define HOST_ARCH_KVM_MODULES "kvm_intel or kvm_amd"

/* What `console=` and `earlycon=` name on this architecture; the address is arch_serial_base. */
#define HOST_ARCH_EARLYCON "earlycon=uart8250,mmio,0xc0000000"

/* Whether the CPU offers VMX or SVM (CPUID 1 and 0x80000001). Asked of the CPU: /proc/cpuinfo costs milliseconds on large machines. */
static inline bool host_arch_has_virtualization(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1U << 5)))
		return true;
	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & (1U << 2));
}

/* Whether this machine is itself virtual (CPUID 1, ECX bit 31). */
static inline bool host_arch_is_virtual(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & (1U << 31));
}

/*
 * A KVM without VMX or SVM emulates the guest kernel's instructions, and lacks some that CPUID
 * announces all the same: the guest is told (kernel-config/README.md, "The command line").
 */
#define HOST_ARCH_EMULATED_CMDLINE "mvm.pvm mitigations=off"

#endif
