/* virtio-blk on a host that fails: errors, short transfers, flushes that lost data, caches. */
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

/* ---- faults of the host ---- */

static void test_write_errors(void **state)
{
	static const struct {
		int error;
		const char *line;
	} cases[] = {
		{ -ENOSPC, "warning disk blk0: write: No space left on device\n" },
		{ -EIO, "warning disk blk0: write: Input/output error\n" },
		{ -EDQUOT, "warning disk blk0: write: Disk quota exceeded\n" },
		{ -EINVAL, "warning disk blk0: write: Invalid argument\n" },
	};

	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		host.write_error = cases[i].error;
		assert_int_equal(write_disk(0, 4096), VIRTIO_BLK_S_IOERR);
		assert_string_equal(logged(), cases[i].line);
		host.write_error = 0;
		assert_int_equal(write_disk(0, 4096), VIRTIO_BLK_S_OK);
	}
	/* and not without limit */
	host.write_error = -ENOSPC;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(write_disk(0, 512), VIRTIO_BLK_S_IOERR);
	assert_true(strlen(logged()) < 12 * 60);
}

static void test_read_errors(void **state)
{
	uint32_t used;

	(void)state;
	bring_up(0, &fault_io, 0, 0);
	host.read_error = -EIO;
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, true, &used), VIRTIO_BLK_S_IOERR);
	assert_int_equal(used, 1);
	assert_string_equal(logged(), "warning disk blk0: read: Input/output error\n");
	host.read_error = 0;
	/* the file was cut short under us */
	assert_int_equal(ftruncate(image, 1000), 0);
	assert_int_equal(read_disk(0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(read_disk(1, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(read_disk(4, 512), VIRTIO_BLK_S_IOERR);
	(void)logged();
	/* a discard that fails for a real reason says so; one that the host cannot do is done */
	host.punch_error = -EIO;
	memset(fake_ptr(&drv, data), 0, 16);
	*(uint32_t *)fake_ptr(&drv, data + 8) = 1;
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_string_equal(logged(), "warning disk blk0: discard: Input/output error\n");
}

static void test_short_and_interrupted(void **state)
{
	static const size_t shorts[] = { 0, 1, 511, 512, 700, 4096 };

	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	for (size_t i = 0; i < sizeof(shorts) / sizeof(shorts[0]); i++) {
		host.short_by = shorts[i];
		host.eintr = 3;
		assert_int_equal(read_disk(5, 8192), VIRTIO_BLK_S_OK);
		assert_true(same(data, 5, 8192));
		pattern(fake_ptr(&drv, data), 8192, (unsigned)i + 77);
		host.eintr = 3;
		assert_int_equal(write_disk(9, 8192), VIRTIO_BLK_S_OK);
		assert_true(same(data, 9, 8192));
		/* zeroes written out */
		host.punch_error = host.zero_range_error = -EOPNOTSUPP;
		host.eintr = 2;
		memset(fake_ptr(&drv, data), 0, 16);
		*(uint64_t *)fake_ptr(&drv, data) = 100;
		*(uint32_t *)fake_ptr(&drv, data + 8) = 7;
		assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL), VIRTIO_BLK_S_OK);
		assert_true(image_zero(100, 7));
	}
	assert_int_equal(host.eintr, 0);
}

/*
 * A flush that failed once means that data may be gone; the host forgets that after telling it. The
 * guest is told every time from then on, also after it reset the device, also in a clone.
 */
static void test_flush_error_is_sticky(void **state)
{
	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_OK);
	host.flush_error = -EIO;
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_IOERR);
	assert_non_null(strstr(logged(), "disk blk0: flush: Input/output error"));
	host.flush_error = 0;
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_IOERR);
	assert_int_equal(host.flushes, 2);
	assert_int_equal(fake_probe(&drv, FLUSH_F, 0), 0);
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_IOERR);
	assert_int_equal(fake_replace(&drv, disk_new(0, &fault_io)), 0);
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_IOERR);
	assert_int_equal(host.flushes, 2);
	assert_int_equal(write_disk(0, 512), VIRTIO_BLK_S_OK); /* everything else goes on */
	assert_int_equal(read_disk(0, 512), VIRTIO_BLK_S_OK);
}

/* A driver that takes FLUSH gets a cache, one that does not gets durable writes (virtio 1.2 §5.2.6.2). */
static void test_write_cache(void **state)
{
	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	assert_int_equal(write_disk(0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(host.last_flags, 0);
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	assert_int_equal(write_disk(0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(host.last_flags, RWF_DSYNC);
}

static void test_cached_reads(void **state)
{
	(void)state;
	bring_up(0, &fault_io, EVENT_F, 0);
	/* not in the cache: a blocking read */
	assert_int_equal(read_disk(0, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(host.nowaits, 1);
	assert_int_equal(host.reads, 1);
	/* partly */
	host.nowait_error = 0;
	host.nowait_max = 1000;
	assert_int_equal(read_disk(1, 4096), VIRTIO_BLK_S_OK);
	assert_true(same(data, 1, 4096));
	assert_int_equal(host.reads, 2);
	/* wholly */
	host.nowait_max = SIZE_MAX;
	assert_int_equal(read_disk(2, 4096), VIRTIO_BLK_S_OK);
	assert_true(same(data, 2, 4096));
	assert_int_equal(host.reads, 2);
	assert_int_equal(host.nowaits, 3);
	/* over the end: refused before anything is tried */
	assert_int_equal(read_disk(SECTORS, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(host.nowaits, 3);
	/* a file system that cannot: never asked again */
	host.nowait_error = -EOPNOTSUPP;
	assert_int_equal(read_disk(3, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(read_disk(4, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(host.nowaits, 4);
	assert_int_equal(host.reads, 4);
}

/* Long transfers take the O_DIRECT descriptor; what it cannot do, or would not help, takes the other one. */
static void test_direct(void **state)
{
	static const struct {
		const char *name;
		uint32_t type, len;
		unsigned shift; /* of the buffer in memory */
		int error; /* on the O_DIRECT descriptor */
		unsigned directs; /* transfers tried there */
		uint8_t expect;
	} cases[] = {
		{ "long read", VIRTIO_BLK_T_IN, 512 << 10, 0, 0, 1, VIRTIO_BLK_S_OK },
		{ "long write", VIRTIO_BLK_T_OUT, 512 << 10, 0, 0, 1, VIRTIO_BLK_S_OK },
		{ "short read", VIRTIO_BLK_T_IN, 4096, 0, 0, 0, VIRTIO_BLK_S_OK },
		{ "short write", VIRTIO_BLK_T_OUT, 4096, 0, 0, 0, VIRTIO_BLK_S_OK },
		{ "read to an odd address", VIRTIO_BLK_T_IN, 512 << 10, 16, 0, 0, VIRTIO_BLK_S_OK },
		{ "write from an odd address", VIRTIO_BLK_T_OUT, 512 << 10, 16, 0, 0, VIRTIO_BLK_S_OK },
		{ "larger sectors, read", VIRTIO_BLK_T_IN, 512 << 10, 0, -EINVAL, 1, VIRTIO_BLK_S_OK },
		{ "larger sectors, write", VIRTIO_BLK_T_OUT, 512 << 10, 0, -EINVAL, 1, VIRTIO_BLK_S_OK },
		{ "read fails", VIRTIO_BLK_T_IN, 512 << 10, 0, -EIO, 1, VIRTIO_BLK_S_IOERR },
		{ "write fails", VIRTIO_BLK_T_OUT, 512 << 10, 0, -ENOSPC, 1, VIRTIO_BLK_S_IOERR },
		{ "over the end", VIRTIO_BLK_T_IN, 2 << 20, 0, 0, 0, VIRTIO_BLK_S_IOERR },
	};
	gpa_t aligned;

	(void)state;
	host.with_direct = true;
	bring_up(0, &fault_io, FLUSH_F, 0);
	aligned = (fake_alloc(&drv, (2 << 20) + 1024) + 511) & ~511ULL;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t got;

		data = aligned + cases[i].shift;
		host.directs = 0;
		host.direct_error = cases[i].error;
		if (cases[i].type == VIRTIO_BLK_T_OUT)
			pattern(fake_ptr(&drv, data), cases[i].len, (unsigned)i + 50);
		got = request(cases[i].type, 8, cases[i].len, cases[i].type == VIRTIO_BLK_T_IN, NULL);
		if (got != cases[i].expect || host.directs != cases[i].directs)
			fail_msg("%s: status %u, %u transfers past the cache", cases[i].name, got, host.directs);
		if (!got)
			assert_true(same(data, 8, cases[i].len));
	}
}

/* ---- what one request may cost ---- */

struct counted {
	struct blk_disk *disk;
	unsigned calls, stop_after; /* disk->stop is set during that call; 0: never */
	uint64_t longest, bytes; /* of one call, of all */
	int error; /* of fallocate and discard */
};

static void count(struct counted *c, uint64_t len)
{
	c->calls++;
	c->bytes += len;
	if (len > c->longest)
		c->longest = len;
	if (c->calls == c->stop_after)
		atomic_store(&c->disk->stop, true);
}

static ssize_t counted_move(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	uint64_t len = 0;

	(void)fd;
	(void)offset;
	(void)flags;
	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	count(arg, len);
	return (ssize_t)len;
}

static int counted_fallocate(void *arg, int fd, int mode, off_t offset, off_t len)
{
	struct counted *c = arg;

	(void)fd;
	(void)mode;
	if (c->error)
		return c->error;
	assert_int_equal(offset / (off_t)BLK_CALL_MAX, (offset + len - 1) / (off_t)BLK_CALL_MAX);
	count(c, (uint64_t)len);
	return 0;
}

static int counted_flush(void *arg, int fd)
{
	(void)fd;
	count(arg, 0);
	return 0;
}

/* Whatever a guest asks for, the host is never in one call for more than BLK_CALL_MAX bytes, and stops between two. */
static void test_calls_are_bounded(void **state)
{
	static const struct blk_io_ops io = {
		.readv = counted_move,
		.writev = counted_move,
		.fallocate = counted_fallocate,
		.flush = counted_flush,
	};
	static const struct {
		const char *name;
		uint32_t type;
		uint64_t sector, bytes; /* moved, or in one range */
		int fallocate_error;
		unsigned calls, stop_after;
	} cases[] = {
		{ "read", VIRTIO_BLK_T_IN, 3, 13 << 20, 0, 4, 0 },
		{ "write", VIRTIO_BLK_T_OUT, 3, 13 << 20, 0, 4, 0 },
		{ "read, stopped", VIRTIO_BLK_T_IN, 3, 13 << 20, 0, 2, 2 },
		{ "write, stopped", VIRTIO_BLK_T_OUT, 3, 13 << 20, 0, 1, 1 },
		{ "discard", VIRTIO_BLK_T_DISCARD, 0, 2ULL << 30, 0, 512, 0 },
		{ "discard askew", VIRTIO_BLK_T_DISCARD, 3, 2ULL << 30, 0, 513, 0 },
		{ "discard, stopped", VIRTIO_BLK_T_DISCARD, 3, 2ULL << 30, 0, 7, 7 },
		{ "zeroes", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32 << 20, 0, 8, 0 },
		{ "zeroes, stopped", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32 << 20, 0, 3, 3 },
		{ "zeroes written out", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32 << 20, -EOPNOTSUPP, 128, 0 },
		{ "zeroes written out, stopped", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32 << 20, -EOPNOTSUPP, 5, 5 },
	};
	uint8_t *bytes = malloc(13 << 20);

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blk_disk disk = { .io = &io, .sectors = 1ULL << 32, .direct_fd = -1 };
		struct counted counted = { .disk = &disk, .stop_after = cases[i].stop_after };
		bool ranges = cases[i].type != VIRTIO_BLK_T_IN && cases[i].type != VIRTIO_BLK_T_OUT;
		struct virtio_blk_discard_write_zeroes range = { .sector = htole64(cases[i].sector),
								 .num_sectors =
									 htole32((uint32_t)(cases[i].bytes / 512)) };
		/* a piece ends amid the third: its length must come back */
		struct iovec iov[] = { { bytes, 1 << 20 },
				       { bytes + (1 << 20), 512 },
				       { bytes + 512, (12 << 20) - 512 } };
		struct iovec range_iov = { &range, sizeof(range) };
		struct blk_request req = {
			.type = cases[i].type,
			.sector = ranges ? 0 : cases[i].sector,
			.iov = ranges ? &range_iov : iov,
			.niov = ranges ? 1 : 3,
			.len = ranges ? sizeof(range) : cases[i].bytes,
		};

		disk.io_arg = &counted;
		disk.can_punch = disk.can_zero_range = true;
		(void)pthread_mutex_init(&disk.flush_lock, NULL);
		counted.error = cases[i].fallocate_error;
		blk_request_run(&disk, &req);
		if (counted.calls != cases[i].calls || counted.longest > BLK_CALL_MAX)
			fail_msg("%s: %u calls, the longest of %llu bytes", cases[i].name, counted.calls,
				 (unsigned long long)counted.longest);
		if (req.error || req.status != (cases[i].stop_after ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK) ||
		    (!cases[i].stop_after && counted.bytes != cases[i].bytes))
			fail_msg("%s: status %u, error %d, %llu bytes", cases[i].name, req.status, req.error,
				 (unsigned long long)counted.bytes);
		/* flushes that queue behind one another end as well, and none of them counts as failed */
		counted.calls = 0;
		req = (struct blk_request){ .type = VIRTIO_BLK_T_FLUSH };
		blk_request_run(&disk, &req);
		assert_int_equal(counted.calls, cases[i].stop_after ? 0 : 1);
		assert_false(disk.flush_failed);
		(void)pthread_mutex_destroy(&disk.flush_lock);
	}
	free(bytes);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, blk_setup, blk_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_write_errors),
		T(test_read_errors),
		T(test_short_and_interrupted),
		T(test_flush_error_is_sticky),
		T(test_write_cache),
		T(test_cached_reads),
		T(test_direct),
		cmocka_unit_test(test_calls_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
