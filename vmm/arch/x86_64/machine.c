/* The x86_64 machine: arch.h's calls, memory map, boot parameters, port I/O. */
#include <asm/bootparam.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "arch/arch.h"
#include "boot.h"
#include "cpu.h"
#include "dev/serial.h"
#include "host_arch.h"
#include "hwdesc.h"
#include "ioapic.h"
#include "layout.h"
#include "log.h"
#include "vcpu.h"
#include "vm.h"

const gpa_t arch_hole_start = X86_HOLE_START, arch_hole_end = X86_HOLE_END;
const gpa_t arch_serial_base = X86_SERIAL, arch_poweroff_base = X86_POWEROFF, arch_panic_base = X86_PVPANIC;

#define VIRTIO_FIRST_PIN (ARCH_SERIAL_PIN + 1)
#define RNG_SEED_BYTES   64U
#define I8042_COMMAND    0x64U
#define I8042_RESET      0xfeU
#define E820_RAM         1U
#define LOADER_UNDEFINED 0xffU

gpa_t arch_virtio_base(unsigned slot)
{
	return X86_VIRTIO + (gpa_t)slot * ARCH_DEVICE_SIZE;
}

unsigned arch_virtio_pin(unsigned slot)
{
	return VIRTIO_FIRST_PIN + slot;
}

int arch_check_kvm(int kvm_fd)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
#define NEEDED(cap) { cap, #cap },
		HOST_ARCH_KVM_CAPS(NEEDED)
#undef NEEDED
	};
	int version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION) {
		log_error("kvm: API version %d, needed %d", version, KVM_API_VERSION);
		return -ENOSYS;
	}
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0) {
			log_error("kvm: this host's KVM lacks %s", needed[i].name);
			return -ENOSYS;
		}
	}
	return 0;
}

/* An unmasked pin whose device has something to say gets its edge again. */
static void on_unmasked(void *arg, unsigned pin)
{
	struct vm *vm = arg;

	if (pin == ARCH_SERIAL_PIN && vm->serial)
		serial_resend(vm->serial);
	else if (pin >= VIRTIO_FIRST_PIN && pin - VIRTIO_FIRST_PIN < vm->ndevices)
		virtio_mmio_resend(vm->devices[pin - VIRTIO_FIRST_PIN]);
}

int arch_vm_init(struct vm *vm, unsigned pins)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { pins } };
	struct kvm_enable_cap no_pmu = { .cap = KVM_CAP_PMU_CAPABILITY, .args = { KVM_PMU_CAP_DISABLE } };
	uint64_t identity = X86_IDENTITY;
	int err;

	if (ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
	    ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, X86_TSS) < 0 || ioctl(vm->vm_fd, KVM_ENABLE_CAP, &split) < 0) {
		log_error("vm: interrupt controller set-up: %s", strerror(errno));
		return -errno;
	}
	/* AMD's legacy counters are there whatever CPUID says: the PMU is switched off where KVM can (api.rst §8.35). */
	if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE)
		if (ioctl(vm->vm_fd, KVM_ENABLE_CAP, &no_pmu) < 0)
			log_warn("vm: the PMU could not be switched off: %s", strerror(errno));
	err = ioapic_new(vm->vm_fd, pins, on_unmasked, vm, &vm->intc);
	if (!err)
		err = bus_add(&vm->bus, X86_IOAPIC, 0x1000, &ioapic_bus_ops, vm->intc);
	return err;
}

void arch_vm_fini(struct vm *vm)
{
	ioapic_free(vm->intc);
	vm->intc = NULL;
}

void arch_irq_raise(void *arg, unsigned pin)
{
	struct vm *vm = arg;

	ioapic_raise(vm->intc, pin);
}

static int load_initrds(struct vm *vm, const struct vmm_config *config, const struct boot_kernel *kernel,
			struct boot_params *params)
{
	uint64_t low = vm->mem->regions[0].size, total = 0, at;
	uint64_t top = kernel->header.initrd_addr_max ? kernel->header.initrd_addr_max + 1ULL : low;

	/* Archives are concatenated; the kernel wants each to start on a multiple of four. */
	for (unsigned i = 0; i < config->ninitrds; i++)
		total += (config->initrds[i].size + 3) & ~3ULL;
	if (total == 0)
		return 0;
	if (top > low)
		top = low;
	if (total > top || (top - total) < kernel->end) {
		log_error("initrd: %llu bytes do not fit beside the kernel into %llu MiB of memory",
			  (unsigned long long)total, (unsigned long long)(config->mem_bytes >> 20));
		return -ENOMEM;
	}
	at = (top - total) & ~4095ULL;
	if (at < kernel->end)
		at = top - total;
	params->hdr.ramdisk_image = (uint32_t)at;
	params->hdr.ramdisk_size = (uint32_t)total;
	for (unsigned i = 0; i < config->ninitrds; i++) {
		uint64_t done = 0, size = config->initrds[i].size;
		void *hva;
		int err = guestmem_slice(vm->mem, at, size, &hva);

		if (err)
			return err;
		while (done < size) {
			ssize_t n = pread(config->initrds[i].fd, (uint8_t *)hva + done, size - done, (off_t)done);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				log_error("initrd %u: reading it: %s", i, n < 0 ? strerror(errno) : "cut short");
				return n < 0 ? -errno : -ENODATA;
			}
			done += (uint64_t)n;
		}
		at += (size + 3) & ~3ULL;
	}
	return 0;
}

static void fill_e820(const struct guestmem *mem, struct boot_params *params)
{
	unsigned n = 0;

	params->e820_table[n++] = (struct boot_e820_entry){ 0, X86_LOW_END, E820_RAM };
	params->e820_table[n++] = (struct boot_e820_entry){ X86_HIMEM, mem->regions[0].size - X86_HIMEM, E820_RAM };
	if (mem->nregions > 1)
		params->e820_table[n++] =
			(struct boot_e820_entry){ mem->regions[1].gpa, mem->regions[1].size, E820_RAM };
	params->e820_entries = (uint8_t)n;
}

/* Appends one struct setup_data with its bytes at *at and links it before what `params` has so far. */
static int put_setup_data(const struct guestmem *mem, gpa_t *at, uint32_t type, const void *data, size_t len,
			  struct boot_params *params)
{
	struct setup_data head = { .next = params->hdr.setup_data, .type = type, .len = (uint32_t)len };
	int err;

	if (*at + sizeof(head) + len > X86_SETUP_END)
		return -ENOSPC;
	err = guestmem_write(mem, *at, &head, sizeof(head));
	if (!err)
		err = guestmem_write(mem, *at + sizeof(head), data, len);
	if (!err)
		params->hdr.setup_data = *at;
	*at = (*at + sizeof(head) + len + 15) & ~15ULL;
	return err;
}

static int write_setup_data(struct vm *vm, struct boot_params *params)
{
	gpa_t at = X86_SETUP_DATA;
	uint8_t seed[RNG_SEED_BYTES];
	size_t size;
	void *blob;
	int err;

	/* The guest's random generator is ready from its first instruction; the kernel wipes the seed. */
	if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return -EIO;
	err = put_setup_data(vm->mem, &at, SETUP_RNG_SEED, seed, sizeof(seed), params);
	explicit_bzero(seed, sizeof(seed));
	if (err)
		return err;
	err = hwdesc_build(vm->nvcpus, vm->ndevices, &blob, &size);
	if (err)
		return err;
	err = put_setup_data(vm->mem, &at, SETUP_DTB, blob, size, params);
	free(blob);
	return err;
}

int arch_vm_load(struct vm *vm, const struct vmm_config *config)
{
	struct boot_kernel kernel;
	struct boot_params *params;
	int err = boot_load_kernel(vm->mem, config->kernel_fd, config->kernel_size,
				   config->flags & VMM_CONFIG_KERNEL_MAPPED, &kernel);

	if (err)
		return err;
	params = calloc(1, sizeof(*params));
	if (!params)
		return -ENOMEM;
	params->hdr = kernel.header;
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.cmd_line_ptr = X86_CMDLINE;
	params->hdr.cmdline_size = VMM_CMDLINE_MAX - 1;
	params->hdr.setup_data = 0;
	fill_e820(vm->mem, params);
	err = load_initrds(vm, config, &kernel, params);
	if (!err)
		err = write_setup_data(vm, params);
	if (!err)
		err = cpu_write_boot_tables(vm->mem);
	if (!err)
		err = guestmem_write(vm->mem, X86_CMDLINE, config->cmdline, strlen(config->cmdline) + 1);
	if (!err)
		err = guestmem_write(vm->mem, X86_ZERO_PAGE, params, sizeof(*params));
	free(params);
	vm->boot_entry = kernel.entry;
	vm->boot_arg = X86_ZERO_PAGE;
	if (err)
		log_error("vm: loading the guest: %s", strerror(-err));
	return err;
}

/* Port I/O: the i8042's reset line is all there is; everything else floats high. */
int arch_vcpu_exit(struct vcpu *vcpu, struct kvm_run *run)
{
	uint8_t *data;
	size_t len;

	if (run->exit_reason != KVM_EXIT_IO)
		return -ENOTSUP;
	len = (size_t)run->io.size * run->io.count;
	if (run->io.data_offset > vcpu->run_size || len > vcpu->run_size - run->io.data_offset)
		return -ENOTSUP;
	data = (uint8_t *)run + run->io.data_offset;
	if (run->io.direction == KVM_EXIT_IO_IN)
		memset(data, run->io.port == I8042_COMMAND ? 0 : 0xff, len);
	else if (run->io.port == I8042_COMMAND && run->io.size == 1 && len >= 1 && data[0] == I8042_RESET)
		vm_end(vcpu->vm, VM_END_REBOOT, 0);
	return 0;
}
