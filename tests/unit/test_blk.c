/* virtio-blk: what requests do, in every layout and at every limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk_guest.h"

/* ---- what a sound driver sees ---- */

static void test_configuration(void **state)
{
	struct virtio_blk_config config;
	uint32_t low;

	(void)state;
	bring_up(0, &fault_io, 0, 0);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BLOCK);
	fake_config(&drv, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, BLK_SEG_MAX);
	assert_int_equal(config.blk_size, 512);
	assert_int_equal(config.max_discard_seg, BLK_DISCARD_SEGS);
	assert_int_equal(config.max_write_zeroes_sectors, BLK_ZEROES_SECTORS);
	fake_set(&drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = fake_get(&drv, VIRTIO_MMIO_DEVICE_FEATURES);
	assert_true(low & 1U << VIRTIO_BLK_F_FLUSH && low & 1U << VIRTIO_BLK_F_DISCARD);
	assert_false(low & 1U << VIRTIO_BLK_F_RO);
}

static void test_configuration_read_only(void **state)
{
	uint32_t low;

	(void)state;
	bring_up(VMM_DISK_RO, &fault_io, 0, 0);
	fake_set(&drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = fake_get(&drv, VIRTIO_MMIO_DEVICE_FEATURES);
	assert_true(low & 1U << VIRTIO_BLK_F_RO);
	assert_false(low & (1U << VIRTIO_BLK_F_FLUSH | 1U << VIRTIO_BLK_F_DISCARD | 1U << VIRTIO_BLK_F_WRITE_ZEROES));
}

/* How a driver cuts a request into descriptors means nothing (virtio 1.2 §2.7.4.1). */
static void test_layouts(void **state)
{
	static const struct {
		const char *name;
		unsigned read[20], write[20]; /* lengths of descriptors, 0 ends; header 16 (+ data), data + status 1 */
		enum fake_add_flags flags;
	} cases[] = {
		{ "read: header, data, status", { 16 }, { 1024, 1 }, FAKE_DIRECT },
		{ "read: data and status in one", { 16 }, { 1025 }, FAKE_DIRECT },
		{ "read: status behind the last bytes", { 16 }, { 512, 513 }, FAKE_DIRECT },
		{ "read: header in bytes",
		  { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 },
		  { 100, 924, 1 },
		  FAKE_DIRECT },
		{ "read: odd pieces, indirect", { 7, 9 }, { 1, 3, 5, 1015, 1 }, FAKE_INDIRECT },
		{ "read: mixed", { 4, 12 }, { 1000, 25 }, FAKE_MIXED },
		{ "read: more readable bytes than a header", { 100 }, { 1025 }, FAKE_DIRECT },
		{ "write: header, data, status", { 16, 1024 }, { 1 }, FAKE_DIRECT },
		{ "write: header and data in one", { 1040 }, { 1 }, FAKE_DIRECT },
		{ "write: header split into data", { 10, 30, 1000 }, { 1 }, FAKE_DIRECT },
		{ "write: odd pieces, indirect", { 15, 2, 1, 1022 }, { 1 }, FAKE_INDIRECT },
		{ "write: room behind which the status lies", { 1040 }, { 30, 3 }, FAKE_MIXED },
	};

	(void)state;
	bring_up(0, &fault_io, INDIR_F | EVENT_F | FLUSH_F, 0);
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		bool writing = strncmp(cases[c].name, "write", 5) == 0;
		struct fake_buf bufs[40];
		gpa_t in = fake_alloc(&drv, 4096), out = fake_alloc(&drv, 4096);
		uint32_t nin = 0, nout = 0, used;
		unsigned n = 0;

		set_header(in, writing ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 3 + c);
		pattern((uint8_t *)fake_ptr(&drv, in) + 16, 1024, (unsigned)c);
		memset(fake_ptr(&drv, out), NONE, 4096);
		for (unsigned i = 0; i < 20 && cases[c].read[i]; nin += cases[c].read[i++])
			bufs[n++] = (struct fake_buf){ in + nin, cases[c].read[i], false };
		for (unsigned i = 0; i < 20 && cases[c].write[i]; nout += cases[c].write[i++])
			bufs[n++] = (struct fake_buf){ out + nout, cases[c].write[i], true };
		used = fake_do(&drv.queues[0], bufs, n, cases[c].flags);
		if (*(uint8_t *)fake_ptr(&drv, out + nout - 1) != VIRTIO_BLK_S_OK || used != (writing ? 1 : 1025) ||
		    !same(writing ? in + 16 : out, 3 + c, 1024))
			fail_msg("%s: wrong", cases[c].name);
	}
}

static void test_limits(void **state)
{
	static const struct {
		const char *name;
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t expect, expect_ro;
	} cases[] = {
		{ "first sector", VIRTIO_BLK_T_IN, 0, 512, 0, 0 },
		{ "last sector", VIRTIO_BLK_T_IN, SECTORS - 1, 512, 0, 0 },
		{ "the whole disk", VIRTIO_BLK_T_IN, 0, BYTES, 0, 0 },
		{ "nothing, at the end", VIRTIO_BLK_T_IN, SECTORS, 0, 0, 0 },
		{ "one sector behind", VIRTIO_BLK_T_IN, SECTORS, 512, 1, 1 },
		{ "over the end", VIRTIO_BLK_T_IN, SECTORS - 1, 1024, 1, 1 },
		{ "half a sector", VIRTIO_BLK_T_IN, 0, 256, 1, 1 },
		{ "a sector and a byte", VIRTIO_BLK_T_IN, 0, 513, 1, 1 },
		{ "sector times 512 wraps to 0", VIRTIO_BLK_T_IN, 1ULL << 55, 512, 1, 1 },
		{ "sector plus count wraps", VIRTIO_BLK_T_IN, ~0ULL, 1024, 1, 1 },
		{ "sign bit", VIRTIO_BLK_T_IN, 1ULL << 63, 512, 1, 1 },
		{ "write first", VIRTIO_BLK_T_OUT, 0, 512, 0, 1 },
		{ "write last", VIRTIO_BLK_T_OUT, SECTORS - 1, 512, 0, 1 },
		{ "write behind", VIRTIO_BLK_T_OUT, SECTORS, 512, 1, 1 },
		{ "write over the end", VIRTIO_BLK_T_OUT, SECTORS - 1, 1024, 1, 1 },
		{ "write that wraps", VIRTIO_BLK_T_OUT, ~0ULL, 512, 1, 1 },
		{ "write half a sector", VIRTIO_BLK_T_OUT, 0, 100, 1, 1 },
		{ "flush", VIRTIO_BLK_T_FLUSH, 0, 0, 0, 0 },
		{ "flush with a sector", VIRTIO_BLK_T_FLUSH, ~0ULL, 0, 0, 0 },
		{ "scsi", VIRTIO_BLK_T_SCSI_CMD, 0, 512, 2, 2 },
		{ "barrier bit", VIRTIO_BLK_T_BARRIER, 0, 512, 2, 2 },
		{ "secure erase", VIRTIO_BLK_T_SECURE_ERASE, 0, 16, 2, 2 },
		{ "unknown", 0xffffffff, 0, 512, 2, 2 },
	};

	(void)state;
	for (unsigned ro = 0; ro < 2; ro++) {
		bring_up(ro ? VMM_DISK_RO : 0, &fault_io, FLUSH_F, 0);
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			uint8_t expect = ro ? cases[i].expect_ro : cases[i].expect;
			bool to_guest = cases[i].type == VIRTIO_BLK_T_IN;
			uint32_t used;
			uint8_t got;

			got = request(cases[i].type, cases[i].sector, cases[i].len, to_guest, &used);
			if (got != expect || used != (to_guest && !got ? cases[i].len + 1 : 1))
				fail_msg("%s (ro %u): status %u, used %u", cases[i].name, ro, got, used);
		}
		assert_string_equal(logged(), ""); /* the guest's mistakes are no failures of the disk */
		if (!ro) {
			blk_teardown(NULL);
			blk_setup(NULL);
		}
	}
	assert_int_equal(host.writes + host.flushes, 0); /* read-only */
}

static void test_get_id(void **state)
{
	static const uint32_t lens[] = { 20, 5, 0, 19, 100 };

	(void)state;
	bring_up(VMM_DISK_RO, &fault_io, 0, 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint32_t n = lens[i] < 20 ? lens[i] : 20;
		uint8_t *p = fake_ptr(&drv, data);
		uint32_t used;

		memset(p, 0xaa, 128);
		assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, lens[i], true, &used), VIRTIO_BLK_S_OK);
		assert_int_equal(used, n + 1);
		assert_memory_equal(p, "twenty-bytes-of-name", n);
		for (uint32_t b = n; b < 128; b++)
			assert_int_equal(p[b], 0xaa);
	}
}

static void test_protocol_errors(void **state)
{
	static const struct {
		const char *name;
		unsigned n;
		uint32_t read, write;
	} cases[] = { { "no header", 1, 0, 1 },
		      { "15 bytes of header", 2, 15, 1 },
		      { "no status", 1, 16, 0 },
		      { "nothing", 1, 0, 0 } };

	(void)state;
	bring_up(0, &fault_io, 0, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_buf bufs[] = { { header, cases[i].read, false }, { status, cases[i].write, true } };
		unsigned irqs = fake_irqs(&drv);
		uint16_t before = drv.queues[0].used->idx;

		(void)fake_add(&drv.queues[0], bufs, 2, FAKE_DIRECT);
		(void)fake_kick(&drv.queues[0]);
		assert_true(fake_wait_irqs(&drv, irqs));
		if (!fake_needs_reset(&drv) || drv.queues[0].used->idx != before)
			fail_msg("%s: accepted", cases[i].name);
		assert_int_equal(fake_probe(&drv, 0, 0), 0);
		assert_int_equal(read_disk(0, 512), VIRTIO_BLK_S_OK);
	}
}

/* ---- discard and write zeroes ---- */

struct range {
	uint64_t sector;
	uint32_t count, flags;
};

static void test_ranges(void **state)
{
	static const struct {
		const char *name;
		uint32_t type;
		uint32_t bytes; /* 0: all of the ranges */
		unsigned n;
		struct range ranges[2];
		uint8_t expect, expect_ro;
	} cases[] = {
		{ "discard", VIRTIO_BLK_T_DISCARD, 0, 1, { { 8, 16, 0 } }, 0, 1 },
		{ "discard two", VIRTIO_BLK_T_DISCARD, 0, 2, { { 8, 16, 0 }, { 1024, 1024, 0 } }, 0, 1 },
		{ "discard all", VIRTIO_BLK_T_DISCARD, 0, 1, { { 0, SECTORS, 0 } }, 0, 1 },
		{ "discard nothing", VIRTIO_BLK_T_DISCARD, 0, 1, { { SECTORS, 0, 0 } }, 0, 1 },
		{ "discard over the end", VIRTIO_BLK_T_DISCARD, 0, 1, { { SECTORS - 1, 2, 0 } }, 1, 1 },
		{ "second over the end", VIRTIO_BLK_T_DISCARD, 0, 2, { { 0, 1, 0 }, { SECTORS, 1, 0 } }, 1, 1 },
		{ "discard that wraps", VIRTIO_BLK_T_DISCARD, 0, 1, { { ~0ULL, 2, 0 } }, 1, 1 },
		{ "discard with UNMAP", VIRTIO_BLK_T_DISCARD, 0, 1, { { 0, 8, 1 } }, 2, 1 },
		{ "discard with unknown flags", VIRTIO_BLK_T_DISCARD, 0, 1, { { 0, 8, 0x80000000 } }, 2, 1 },
		{ "discard without a range", VIRTIO_BLK_T_DISCARD, 0, 0, { { 0, 0, 0 } }, 1, 1 },
		{ "half a range", VIRTIO_BLK_T_DISCARD, 24, 1, { { 0, 8, 0 } }, 1, 1 },
		{ "17 ranges", VIRTIO_BLK_T_DISCARD, 17 * 16, 1, { { 0, 8, 0 } }, 1, 1 },
		{ "zero", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { 9, 100, 0 } }, 0, 1 },
		{ "zero, unmap", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { 9, 100, 1 } }, 0, 1 },
		{ "zero all", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { 0, SECTORS, 0 } }, 0, 1 },
		{ "zero the last", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { SECTORS - 1, 1, 1 } }, 0, 1 },
		{ "zero over the end", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { 1, SECTORS, 0 } }, 1, 1 },
		{ "zero too much", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { 0, BLK_ZEROES_SECTORS + 1, 0 } }, 1, 1 },
		{ "zero two ranges", VIRTIO_BLK_T_WRITE_ZEROES, 0, 2, { { 0, 1, 0 }, { 2, 1, 0 } }, 1, 1 },
		{ "zero with unknown flags", VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, { { 0, 1, 2 } }, 2, 1 },
	};
	/* what the host's file system can: everything, holes only, neither */
	static const int missing[][2] = { { 0, 0 }, { 0, -EOPNOTSUPP }, { -EOPNOTSUPP, -EOPNOTSUPP } };

	(void)state;
	for (unsigned m = 0; m < 4; m++) {
		bool ro = m == 3;

		if (m) {
			blk_teardown(NULL);
			blk_setup(NULL);
		}
		bring_up(ro ? VMM_DISK_RO : 0, &fault_io, FLUSH_F, 0);
		host.punch_error = missing[m % 3][0];
		host.zero_range_error = missing[m % 3][1];
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			uint32_t bytes = cases[i].bytes ? cases[i].bytes : cases[i].n * 16;
			uint8_t expect = ro ? cases[i].expect_ro : cases[i].expect;
			uint8_t filler[512], got;

			pattern(filler, sizeof(filler), 5);
			for (uint32_t s = 0; s < SECTORS; s++)
				assert_int_equal(pwrite(image, filler, 512, (off_t)s * 512), 512);
			memset(fake_ptr(&drv, data), 0, bytes + 1);
			memcpy(fake_ptr(&drv, data), cases[i].ranges, sizeof(cases[i].ranges));
			got = request(cases[i].type, 0, bytes, false, NULL);
			if (got != expect)
				fail_msg("%s (host %u): status %u", cases[i].name, m, got);
			for (unsigned r = 0; r < cases[i].n && r < 2; r++) {
				const struct range *range = &cases[i].ranges[r];
				bool zeroed =
					!got && range->count && (cases[i].type == VIRTIO_BLK_T_WRITE_ZEROES || m != 2);

				if (range->sector >= SECTORS)
					continue;
				if (image_zero(range->sector, 1) != zeroed ||
				    (zeroed && !image_zero(range->sector, range->count)))
					fail_msg("%s (host %u): wrong sectors", cases[i].name, m);
				if (zeroed && range->sector + range->count < SECTORS)
					assert_false(image_zero(range->sector + range->count, 1));
				if (zeroed && range->sector)
					assert_false(image_zero(range->sector - 1, 1));
			}
		}
	}
}

/* ---- construction ---- */

static void test_constructor_refuses(void **state)
{
	char path[] = "/tmp/test_blk.XXXXXX";
	int regular = mkstemp(path);
	int read_only = open(path, O_RDONLY | O_CLOEXEC);
	int device = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct {
		const char *name;
		struct vmm_disk disk;
		int expect;
	} cases[] = {
		{ "sound", { .fd = regular, .size = 1024 }, 0 },
		{ "empty", { .fd = regular, .size = 0 }, 0 },
		{ "read-only", { .fd = read_only, .size = 1024, .flags = VMM_DISK_RO }, 0 },
		{ "not whole sectors", { .fd = regular, .size = 1000 }, -EINVAL },
		{ "larger than off_t", { .fd = regular, .size = 1ULL << 63 }, -EINVAL },
		{ "larger than the file", { .fd = regular, .size = 2048 }, -EINVAL },
		{ "unknown flag", { .fd = regular, .size = 1024, .flags = 1U << 31 }, -EINVAL },
		{ "read-write on a read-only descriptor", { .fd = read_only, .size = 1024 }, -EINVAL },
		{ "a character device", { .fd = device, .size = 0 }, -EINVAL },
		{ "a pipe", { .fd = log_pipe[0], .size = 0, .flags = VMM_DISK_RO }, -EINVAL },
		{ "a second descriptor that is not direct",
		  { .fd = regular, .size = 1024, .direct_fd = regular },
		  -EINVAL },
		{ "a second descriptor of another file",
		  { .fd = regular, .size = 1024, .direct_fd = device },
		  -EINVAL },
		{ "a second descriptor that is none", { .fd = regular, .size = 1024, .direct_fd = 1000 }, -EBADF },
		{ "no descriptor", { .fd = -1, .size = 1024 }, -EBADF },
	};

	(void)state;
	assert_int_equal(ftruncate(regular, 1024), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmm_disk disk = cases[i].disk;
		struct virtio_dev *dev = NULL;
		int err;

		if (!cases[i].expect)
			disk.fd = dup(disk.fd);
		err = virtio_blk_new(&disk, "blk0", drv.gm, drv.loop, &dev);
		if (err != cases[i].expect)
			fail_msg("%s: %d", cases[i].name, err);
		if (!err)
			dev->ops->free(dev);
		else if (disk.fd >= 0)
			assert_true(fcntl(disk.fd, F_GETFD) >= 0); /* still the caller's */
	}
	(void)close(regular);
	(void)close(read_only);
	(void)close(device);
	(void)unlink(path);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, blk_setup, blk_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_configuration), T(test_configuration_read_only), T(test_layouts), T(test_limits),
		T(test_get_id),        T(test_protocol_errors),         T(test_ranges),  T(test_constructor_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
