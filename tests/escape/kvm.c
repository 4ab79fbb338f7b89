/* Attacks by KVM's own interface, beyond what the VMM asks of it. The VM's and vCPU's descriptors are searched. */
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "attack.h"
#include "call.h"
#include "tries.h"

#define FDS 64

/* KVM_ASSIGN_PCI_DEVICE, gone from Linux 4.12 and its headers. */
#define ASSIGN_PCI_DEVICE 0x8040ae69UL

static long on_every_fd(unsigned long request, const void *arg)
{
	long last = -EBADF;

	for (int fd = 0; fd < FDS && last < 0; fd++) {
		long r = RAW(SYS_ioctl, fd, request, arg);

		if (r != -EBADF && r != -ENOTTY)
			last = r;
	}
	return last == -EBADF ? -ENOTTY : last;
}

long try_kvm_second_vm(void)
{
	long fd = RAW(SYS_ioctl, attack_targets()->kvm, KVM_CREATE_VM, 0);

	if (fd >= 0)
		(void)RAW(SYS_close, fd);
	return fd;
}

long try_kvm_device(void)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };

	return on_every_fd(KVM_CREATE_DEVICE, &device);
}

long try_kvm_assign(void)
{
	static const uint8_t device[64];

	return on_every_fd(ASSIGN_PCI_DEVICE, device);
}

/* A memory slot over the program's own pages: guest and attacker in one. */
long try_kvm_memory(void)
{
	static uint8_t page[4096] __attribute__((aligned(4096)));
	struct kvm_userspace_memory_region slot = {
		.slot = 20,
		.guest_phys_addr = 1ULL << 40,
		.memory_size = sizeof(page),
		.userspace_addr = P(page),
	};

	return on_every_fd(KVM_SET_USER_MEMORY_REGION, &slot);
}

long try_kvm_msrs(void)
{
	union {
		struct kvm_msrs msrs;
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} get = { .msrs = { .nmsrs = 1 } };

	get.msrs.entries[0].index = 0xc0000080; /* EFER */
	return on_every_fd(KVM_GET_MSRS, &get);
}

long try_kvm_vcpu(void)
{
	return on_every_fd(KVM_CREATE_VCPU, (void *)(uintptr_t)7);
}

long try_kvm_irqfd(void)
{
	struct kvm_irqfd irqfd = { .fd = 1, .gsi = 5 }; /* no eventfd */

	return on_every_fd(KVM_IRQFD, &irqfd);
}

long try_kvm_stats(void)
{
	return on_every_fd(KVM_GET_STATS_FD, NULL);
}
