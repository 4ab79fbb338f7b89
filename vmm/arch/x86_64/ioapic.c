#include "ioapic.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "layout.h"

#define PINS_MAX        32U
#define REG_SELECT      0x00U /* IOREGSEL */
#define REG_WINDOW      0x10U /* IOWIN */
#define IDX_ID          0x00U
#define IDX_VERSION     0x01U
#define IDX_ARB         0x02U
#define IDX_REDIRECT    0x10U
#define VERSION         0x11U
#define ENTRY_MASKED    (1ULL << 16)
#define ENTRY_READ_ONLY ((1ULL << 12) | (1ULL << 14)) /* delivery status, remote IRR */

struct ioapic {
	int vm_fd;
	unsigned pins;
	void (*unmasked)(void *arg, unsigned pin);
	void *arg;
	_Atomic uint32_t select, id;
	_Atomic uint64_t entries[PINS_MAX];
};

int ioapic_new(int vm_fd, unsigned pins, void (*unmasked)(void *arg, unsigned pin), void *arg,
	       struct ioapic **ret_ioapic)
{
	struct ioapic *ioapic;

	if (pins == 0 || pins > PINS_MAX)
		return -EINVAL;
	ioapic = calloc(1, sizeof(*ioapic));
	if (!ioapic)
		return -ENOMEM;
	ioapic->vm_fd = vm_fd;
	ioapic->pins = pins;
	ioapic->unmasked = unmasked;
	ioapic->arg = arg;
	for (unsigned i = 0; i < pins; i++)
		atomic_init(&ioapic->entries[i], ENTRY_MASKED);
	*ret_ioapic = ioapic;
	return 0;
}

void ioapic_free(struct ioapic *ioapic)
{
	free(ioapic);
}

void ioapic_raise(struct ioapic *ioapic, unsigned pin)
{
	struct kvm_msi msi = { 0 };
	uint64_t entry;

	if (pin >= ioapic->pins)
		return;
	entry = atomic_load(&ioapic->entries[pin]);
	if (entry & ENTRY_MASKED)
		return; /* the line's owner raises again when the pin is unmasked */
	/* Redirection entry to MSI: destination id and mode to the address, vector and delivery mode to the data. */
	msi.address_lo = (uint32_t)(X86_LAPIC | ((entry >> 56) & 0xff) << 12 | ((entry >> 11) & 1) << 2);
	msi.data = (uint32_t)(entry & 0x7ff);
	/* 0: every target refused (the guest named no present CPU); the guest's own loss. */
	(void)ioctl(ioapic->vm_fd, KVM_SIGNAL_MSI, &msi);
}

static uint32_t window_read(struct ioapic *ioapic)
{
	uint32_t index = atomic_load(&ioapic->select);
	unsigned pin;

	switch (index) {
	case IDX_ID:
	case IDX_ARB:
		return atomic_load(&ioapic->id);
	case IDX_VERSION:
		return VERSION | (ioapic->pins - 1) << 16;
	default:
		pin = (index - IDX_REDIRECT) / 2;
		if (index < IDX_REDIRECT || pin >= ioapic->pins)
			return 0;
		return (uint32_t)(atomic_load(&ioapic->entries[pin]) >> (index & 1 ? 32 : 0));
	}
}

static void window_write(struct ioapic *ioapic, uint32_t value)
{
	uint32_t index = atomic_load(&ioapic->select);
	unsigned pin = (index - IDX_REDIRECT) / 2;
	uint64_t old, entry;

	if (index == IDX_ID) {
		atomic_store(&ioapic->id, value & 0x0f000000);
		return;
	}
	if (index < IDX_REDIRECT || pin >= ioapic->pins)
		return;
	old = atomic_load(&ioapic->entries[pin]);
	do {
		if (index & 1)
			entry = (old & 0xffffffffULL) | (uint64_t)value << 32;
		else
			entry = (old & ~0xffffffffULL) | value;
		entry &= ~ENTRY_READ_ONLY;
	} while (!atomic_compare_exchange_weak(&ioapic->entries[pin], &old, entry));
	if ((old & ENTRY_MASKED) && !(entry & ENTRY_MASKED))
		ioapic->unmasked(ioapic->arg, pin);
}

static void ioapic_read(void *dev, uint64_t offset, void *data, unsigned len)
{
	struct ioapic *ioapic = dev;
	uint32_t value;

	if (len != sizeof(value))
		return;
	if (offset == REG_SELECT)
		value = atomic_load(&ioapic->select);
	else if (offset == REG_WINDOW)
		value = window_read(ioapic);
	else
		return;
	memcpy(data, &value, sizeof(value));
}

static void ioapic_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
	struct ioapic *ioapic = dev;
	uint32_t value;

	if (len != sizeof(value))
		return;
	memcpy(&value, data, sizeof(value));
	if (offset == REG_SELECT)
		atomic_store(&ioapic->select, value & 0xff);
	else if (offset == REG_WINDOW)
		window_write(ioapic, value);
}

const struct bus_ops ioapic_bus_ops = { .read = ioapic_read, .write = ioapic_write };
