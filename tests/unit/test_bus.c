/* bus: an access reaches a device only when it lies wholly inside its range. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "bus.h"

struct probe {
	unsigned reads, writes;
	uint64_t offset;
	unsigned len;
};

static void probe_read(void *dev, uint64_t offset, void *data, unsigned len)
{
	struct probe *p = dev;

	p->reads++;
	p->offset = offset;
	p->len = len;
	memset(data, 0x5a, 1);
}

static void probe_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
	struct probe *p = dev;

	(void)data;
	p->writes++;
	p->offset = offset;
	p->len = len;
}

static const struct bus_ops ops = { .read = probe_read, .write = probe_write };

static void test_dispatch(void **state)
{
	struct bus bus = { 0 };
	struct probe low = { 0 }, high = { 0 };
	uint8_t data[8];

	(void)state;
	assert_int_equal(bus_add(&bus, 0x2000, 0x1000, &ops, &high), 0);
	assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &ops, &low), 0);
	bus_read(&bus, 0x1ffc, data, 4);
	assert_int_equal(low.reads, 1);
	assert_int_equal(low.offset, 0xffc);
	assert_int_equal(data[0], 0x5a);
	assert_int_equal(data[1], 0); /* the bus zeroed it first */
	bus_read(&bus, 0x1ffe, data, 4); /* straddles both: nobody's */
	assert_int_equal(low.reads + high.reads, 1);
	assert_int_equal(data[0], 0xff);
	bus_write(&bus, 0x2000, data, 8);
	assert_int_equal(high.writes, 1);
	assert_int_equal(high.len, 8);
	bus_write(&bus, 0x3000, data, 1);
	bus_write(&bus, UINT64_MAX, data, 1);
	bus_read(&bus, 0, data, 1);
	assert_int_equal(high.writes + low.writes, 1);
}

static void test_ranges(void **state)
{
	struct bus bus = { 0 };
	struct probe p = { 0 };

	(void)state;
	assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &ops, &p), 0);
	assert_int_equal(bus_add(&bus, 0x1fff, 1, &ops, &p), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x800, 0x801, &ops, &p), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x800, 0x800, &ops, &p), 0);
	for (unsigned i = 2; i < BUS_RANGES_MAX; i++)
		assert_int_equal(bus_add(&bus, i * 0x10000ULL, 0x1000, &ops, &p), 0);
	assert_int_equal(bus_add(&bus, 0x7000, 1, &ops, &p), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
