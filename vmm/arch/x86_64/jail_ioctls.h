/* The KVM requests that building an x86_64 VM takes, for jail/seccomp_table.c: X(request, why). */
#ifndef X86_64_JAIL_IOCTLS_H
#define X86_64_JAIL_IOCTLS_H

#define ARCH_JAIL_IOCTLS(X)                                                                                            \
	X(KVM_SET_TSS_ADDR, "what VMX needs below 4 GiB")                                                              \
	X(KVM_SET_IDENTITY_MAP_ADDR, "what VMX needs below 4 GiB")                                                     \
	X(KVM_GET_SUPPORTED_CPUID, "the guest's CPUID is made from it")                                                \
	X(KVM_SET_CPUID2, "the guest's CPUID")                                                                         \
	X(KVM_SET_MSRS, "boot state of a vCPU")                                                                        \
	X(KVM_SET_SREGS, "boot state of a vCPU")                                                                       \
	X(KVM_SET_FPU, "boot state of a vCPU")                                                                         \
	X(KVM_SET_REGS, "boot state of a vCPU")

#endif
