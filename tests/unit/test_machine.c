/* x86_64: the IOAPIC's registers and the hardware description. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "hwdesc.h"
#include "ioapic.h"
#include "layout.h"

static unsigned unmasked_pins;

static void on_unmasked(void *arg, unsigned pin)
{
	(void)arg;
	unmasked_pins |= 1U << pin;
}

static void out(struct ioapic *ioapic, uint32_t index, uint32_t value)
{
	ioapic_bus_ops.write(ioapic, 0, &index, 4);
	ioapic_bus_ops.write(ioapic, 0x10, &value, 4);
}

static uint32_t in(struct ioapic *ioapic, uint32_t index)
{
	uint32_t value = 0;

	ioapic_bus_ops.write(ioapic, 0, &index, 4);
	ioapic_bus_ops.read(ioapic, 0x10, &value, 4);
	return value;
}

static void test_ioapic(void **state)
{
	struct ioapic *ioapic;
	uint8_t byte = 1;

	(void)state;
	assert_int_equal(ioapic_new(-1, 0, on_unmasked, NULL, &ioapic), -EINVAL);
	assert_int_equal(ioapic_new(-1, 33, on_unmasked, NULL, &ioapic), -EINVAL);
	assert_int_equal(ioapic_new(-1, 5, on_unmasked, NULL, &ioapic), 0);
	assert_int_equal(in(ioapic, 1), 0x11 | 4 << 16); /* version, highest pin */
	assert_int_equal(in(ioapic, 0x10), 1 << 16); /* masked at reset */
	out(ioapic, 0x11 + 2, 0x02000000);
	out(ioapic, 0x10 + 2, 0x5031 | 1 << 16); /* read-only bits 12 and 14 stay 0 */
	assert_int_equal(in(ioapic, 0x10 + 2), 0x0031 | 1 << 16);
	assert_int_equal(in(ioapic, 0x11 + 2), 0x02000000);
	assert_int_equal(unmasked_pins, 0);
	out(ioapic, 0x10 + 2, 0x31);
	assert_int_equal(unmasked_pins, 1 << 1);
	out(ioapic, 0x10 + 2 * 5, 0x31); /* no such pin */
	assert_int_equal(in(ioapic, 0x10 + 2 * 5), 0);
	assert_int_equal(unmasked_pins, 1 << 1);
	ioapic_bus_ops.write(ioapic, 0, &byte, 1); /* wrong width: ignored */
	assert_int_equal(in(ioapic, 0), 0);
	ioapic_raise(ioapic, 99);
	ioapic_free(ioapic);
}

static void check_tree(unsigned vcpus, unsigned devices)
{
	const fdt32_t *reg;
	char path[64];
	size_t size;
	void *fdt;
	int node, len;

	assert_int_equal(hwdesc_build(vcpus, devices, &fdt, &size), 0);
	assert_int_equal(fdt_check_full(fdt, size), 0);
	assert_true(size < X86_SETUP_END - X86_SETUP_DATA - 256);
	for (unsigned i = 0; i < vcpus; i++) {
		(void)snprintf(path, sizeof(path), "/cpus/cpu@%x", i);
		node = fdt_path_offset(fdt, path);
		assert_true(node >= 0);
		reg = fdt_getprop(fdt, node, "reg", &len);
		assert_int_equal(len, 4);
		assert_int_equal(fdt32_to_cpu(*reg), i);
	}
	for (unsigned i = 0; i < devices; i++) {
		(void)snprintf(path, sizeof(path), "/soc/virtio@%llx", (unsigned long long)arch_virtio_base(i));
		node = fdt_path_offset(fdt, path);
		assert_true(node >= 0);
		reg = fdt_getprop(fdt, node, "interrupts", &len);
		assert_int_equal(len, 8);
		assert_int_equal(fdt32_to_cpu(reg[0]), arch_virtio_pin(i));
	}
	free(fdt);
}

static void test_tree(void **state)
{
	(void)state;
	check_tree(1, 0);
	check_tree(1, 3);
	check_tree(VMM_VCPUS_MAX, ARCH_VIRTIO_MAX);
	assert_true(arch_virtio_base(ARCH_VIRTIO_MAX) < X86_IOAPIC);
	assert_true(arch_virtio_pin(ARCH_VIRTIO_MAX - 1) < 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ioapic),
		cmocka_unit_test(test_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
