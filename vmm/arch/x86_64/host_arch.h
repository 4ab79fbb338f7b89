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
#include <stddef.h>

#define HOST_ARCH_NAME        "x86_64"
#define HOST_ARCH_ELF_MACHINE EM_X86_64
#define HOST_ARCH_KVM_MODULES "kvm_intel or kvm_amd"

/* What `console=` and `earlycon=` name on this architecture; the address is arch_serial_base. */
#define HOST_ARCH_EARLYCON "earlycon=uart8250,mmio,0xc0000000"

/* What the CPU offers, "VMX" or "SVM", or NULL (CPUID 1 and 0x80000001). Asked of the CPU: /proc/cpuinfo costs milliseconds on large machines. */
static inline const char *host_arch_virtualization(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1U << 5)))
		return "VMX";
	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & (1U << 2)) ? "SVM" : NULL;
}

/* The driver for it. */
static inline const char *host_arch_kvm_module(const char *virtualization)
{
	return virtualization[0] == 'V' ? "kvm_intel" : "kvm_amd";
}

static inline bool host_arch_has_virtualization(void)
{
	return host_arch_virtualization() != NULL;
}

/* Whether this machine is itself virtual (CPUID 1, ECX bit 31). */
static inline bool host_arch_is_virtual(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & (1U << 31));
}

/* What KVM must be capable of (KVM_CHECK_EXTENSION, api.rst §4.4): asked by the VMM, which fails, and by mvm doctor. */
#define HOST_ARCH_KVM_CAPS(X)                                                                                          \
	X(KVM_CAP_USER_MEMORY)                                                                                         \
	X(KVM_CAP_READONLY_MEM)                                                                                        \
	X(KVM_CAP_EXT_CPUID)                                                                                           \
	X(KVM_CAP_SPLIT_IRQCHIP)                                                                                       \
	X(KVM_CAP_SIGNAL_MSI)                                                                                          \
	X(KVM_CAP_IOEVENTFD)                                                                                           \
	X(KVM_CAP_IMMEDIATE_EXIT)                                                                                      \
	X(KVM_CAP_TSC_DEADLINE_TIMER)                                                                                  \
	X(KVM_CAP_SET_TSS_ADDR)

/*
 * CPU features that KVM should have and use, as {of VMX or SVM, flag in /proc/cpuinfo, KVM's own switch}.
 * Without the page tables in hardware (EPT, NPT) KVM shadows them in software: slow, and more code to trust.
 */
#define HOST_ARCH_KVM_FEATURES(X)                                                                                      \
	X("VMX", "ept", "kvm_intel")                                                                                   \
	X("VMX", "unrestricted_guest", "kvm_intel")                                                                    \
	X("VMX", "vpid", "kvm_intel")                                                                                  \
	X("SVM", "npt", "kvm_amd")

/* Clocks of the host that a guest's time can be computed from without leaving it; anything else is slow to read. */
#define HOST_ARCH_GOOD_CLOCKS "tsc", "kvm-clock", "hyperv_clocksource_tsc_page"

/*
 * A KVM without VMX or SVM emulates the guest kernel's instructions, and lacks some that CPUID
 * announces all the same: the guest is told (kernel-config/README.md, "The command line").
 */
#define HOST_ARCH_EMULATED_CMDLINE "mvm.pvm mitigations=off"

#endif
