#include "hwdesc.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>

#include "arch/arch.h"
#include "layout.h"

#define BLOB_MAX       (16U << 10) /* 32 CPUs and 24 devices take about 6 KiB */
#define PHANDLE_IOAPIC 1U
#define PHANDLE_SYSCON 2U
#define EDGE_RISING    3U /* arch/x86/kernel/devicetree.c: of_ioapic_type[3] */

/* libfdt's sequential writer fails stickily at best and never corrupts: one check of the sum is enough. */
static int begin(void *fdt, const char *base, uint64_t unit)
{
	char name[48];

	(void)snprintf(name, sizeof(name), "%s@%llx", base, (unsigned long long)unit);
	return fdt_begin_node(fdt, name);
}

static int put_reg(void *fdt, gpa_t base, uint32_t size)
{
	fdt32_t reg[2] = { cpu_to_fdt32((uint32_t)base), cpu_to_fdt32(size) };

	return fdt_property(fdt, "reg", reg, sizeof(reg));
}

static int put_irq(void *fdt, unsigned pin)
{
	fdt32_t irq[2] = { cpu_to_fdt32(pin), cpu_to_fdt32(EDGE_RISING) };

	return fdt_property(fdt, "interrupts", irq, sizeof(irq));
}

static int put_cpus(void *fdt, unsigned vcpus)
{
	int err = 0;

	err |= fdt_begin_node(fdt, "cpus");
	err |= fdt_property_u32(fdt, "#address-cells", 1);
	err |= fdt_property_u32(fdt, "#size-cells", 0);
	for (unsigned i = 0; i < vcpus; i++) {
		err |= begin(fdt, "cpu", i);
		err |= fdt_property_string(fdt, "device_type", "cpu");
		err |= fdt_property_string(fdt, "compatible", "mvm,vcpu");
		err |= fdt_property_u32(fdt, "reg", i); /* the local APIC's id */
		err |= fdt_end_node(fdt);
	}
	return err | fdt_end_node(fdt);
}

static int put_interrupt_controllers(void *fdt)
{
	int err = 0;

	err |= begin(fdt, "interrupt-controller", X86_IOAPIC);
	err |= fdt_property_string(fdt, "compatible", "intel,ce4100-ioapic");
	err |= put_reg(fdt, X86_IOAPIC, 0x1000);
	err |= fdt_property_u32(fdt, "#interrupt-cells", 2);
	err |= fdt_property(fdt, "interrupt-controller", NULL, 0);
	err |= fdt_property_u32(fdt, "phandle", PHANDLE_IOAPIC);
	err |= fdt_end_node(fdt);
	err |= begin(fdt, "lapic", X86_LAPIC);
	err |= fdt_property_string(fdt, "compatible", "intel,ce4100-lapic");
	err |= put_reg(fdt, X86_LAPIC, 0x1000);
	return err | fdt_end_node(fdt);
}

static int put_system_devices(void *fdt)
{
	int err = 0;

	err |= begin(fdt, "serial", X86_SERIAL);
	err |= fdt_property_string(fdt, "compatible", "ns16550a");
	err |= put_reg(fdt, X86_SERIAL, 8);
	err |= put_irq(fdt, ARCH_SERIAL_PIN);
	err |= fdt_property_u32(fdt, "clock-frequency", 1843200);
	err |= fdt_property_u32(fdt, "current-speed", 115200);
	err |= fdt_end_node(fdt);

	err |= begin(fdt, "syscon", X86_POWEROFF);
	err |= fdt_property_string(fdt, "compatible", "syscon");
	err |= put_reg(fdt, X86_POWEROFF, 0x1000);
	err |= fdt_property_u32(fdt, "phandle", PHANDLE_SYSCON);
	err |= fdt_end_node(fdt);
	err |= fdt_begin_node(fdt, "poweroff");
	err |= fdt_property_string(fdt, "compatible", "syscon-poweroff");
	err |= fdt_property_u32(fdt, "regmap", PHANDLE_SYSCON);
	err |= fdt_property_u32(fdt, "offset", 0);
	err |= fdt_property_u32(fdt, "value", ARCH_POWEROFF_VALUE);
	err |= fdt_end_node(fdt);

	err |= begin(fdt, "pvpanic", X86_PVPANIC);
	err |= fdt_property_string(fdt, "compatible", "qemu,pvpanic-mmio");
	err |= put_reg(fdt, X86_PVPANIC, 2);
	return err | fdt_end_node(fdt);
}

static int put_tree(void *fdt, unsigned vcpus, unsigned virtio_devices)
{
	int err = 0;

	err |= fdt_create(fdt, BLOB_MAX);
	err |= fdt_finish_reservemap(fdt);
	err |= fdt_begin_node(fdt, "");
	err |= fdt_property_string(fdt, "compatible", "mvm");
	err |= fdt_property_string(fdt, "model", "mvm");
	err |= fdt_property_u32(fdt, "#address-cells", 1);
	err |= fdt_property_u32(fdt, "#size-cells", 1);
	err |= fdt_property_u32(fdt, "interrupt-parent", PHANDLE_IOAPIC);
	err |= put_cpus(fdt, vcpus);
	/* "isa" is one of the bus types below which x86 looks for platform devices (ce4100_ids). */
	err |= fdt_begin_node(fdt, "soc");
	err |= fdt_property_string(fdt, "compatible", "isa");
	err |= fdt_property_u32(fdt, "#address-cells", 1);
	err |= fdt_property_u32(fdt, "#size-cells", 1);
	err |= fdt_property(fdt, "ranges", NULL, 0);
	err |= put_interrupt_controllers(fdt);
	err |= put_system_devices(fdt);
	for (unsigned i = 0; i < virtio_devices; i++) {
		err |= begin(fdt, "virtio", arch_virtio_base(i));
		err |= fdt_property_string(fdt, "compatible", "virtio,mmio");
		err |= put_reg(fdt, arch_virtio_base(i), ARCH_DEVICE_SIZE);
		err |= put_irq(fdt, arch_virtio_pin(i));
		err |= fdt_end_node(fdt);
	}
	err |= fdt_end_node(fdt);
	err |= fdt_end_node(fdt);
	return err | fdt_finish(fdt);
}

int hwdesc_build(unsigned vcpus, unsigned virtio_devices, void **ret_blob, size_t *ret_size)
{
	void *fdt = malloc(BLOB_MAX);

	if (!fdt)
		return -ENOMEM;
	if (put_tree(fdt, vcpus, virtio_devices)) {
		free(fdt);
		return -ENOSPC;
	}
	*ret_blob = fdt;
	*ret_size = fdt_totalsize(fdt);
	return 0;
}
