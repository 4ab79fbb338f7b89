#include "dev/power.h"

#include <string.h>

#include "arch/arch.h"
#include "vm.h"

#define PVPANIC_PANICKED 1U

static void poweroff_read(void *dev, uint64_t offset, void *data, unsigned len)
{
	/* syscon's regmap may read before it writes: zeroes, as the bus prepared. */
	(void)dev;
	(void)offset;
	(void)data;
	(void)len;
}

static void poweroff_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
	uint32_t value;

	if (offset != 0 || len != sizeof(value))
		return;
	memcpy(&value, data, sizeof(value));
	if (value == ARCH_POWEROFF_VALUE)
		vm_end(dev, VM_END_POWEROFF, 0);
}

const struct bus_ops poweroff_bus_ops = { .read = poweroff_read, .write = poweroff_write };

static void pvpanic_read(void *dev, uint64_t offset, void *data, unsigned len)
{
	uint8_t events = PVPANIC_PANICKED;

	(void)dev;
	if (offset == 0 && len == 1)
		memcpy(data, &events, 1);
}

static void pvpanic_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
	uint8_t event;

	if (offset != 0 || len != 1)
		return;
	memcpy(&event, data, 1);
	if (event & PVPANIC_PANICKED)
		vm_panicked(dev);
}

const struct bus_ops pvpanic_bus_ops = { .read = pvpanic_read, .write = pvpanic_write };
