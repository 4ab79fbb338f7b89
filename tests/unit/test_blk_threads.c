/* virtio-blk's threads: many requests at once, resets and snapshots in the middle of them. */
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
#include "mvm/endian.h"

#define IN_FLIGHT VIRTIO_BLK_THREADS /* slow requests at a time */
#define ALL       (IN_FLIGHT + 2) /* and two that wait */

/* ---- many at once ---- */

struct slot {
	gpa_t header, data, status;
	uint32_t len;
	int head;
};

static struct slot slot_new(uint32_t len)
{
	return (struct slot){ fake_alloc(&drv, 16), fake_alloc(&drv, len), fake_alloc(&drv, 1), len, -1 };
}

static void submit(struct slot *s, uint32_t type, uint64_t sector)
{
	struct fake_buf bufs[] = { { s->header, 16, false },
				   { s->data, s->len, type == VIRTIO_BLK_T_IN },
				   { s->status, 1, true } };

	set_header(s->header, type, sector);
	*(uint8_t *)fake_ptr(&drv, s->status) = NONE;
	s->head = fake_add(&drv.queues[0], bufs, 3, drv.features & INDIR_F ? FAKE_INDIRECT : FAKE_DIRECT);
	assert_true(s->head >= 0);
}

static uint8_t slot_status(const struct slot *s)
{
	return __atomic_load_n((uint8_t *)fake_ptr(&drv, s->status), __ATOMIC_RELAXED);
}

/* Takes `n` used entries, each for one of slots[], each slot once. */
static void reap(struct slot *slots, unsigned nslots, unsigned n)
{
	while (n--) {
		unsigned i = 0;
		uint16_t head;
		uint32_t len;

		assert_true(fake_wait_used(&drv.queues[0], &head, &len));
		while (i < nslots && slots[i].head != head)
			i++;
		assert_true(i < nslots);
		slots[i].head = -1;
	}
}

/* Slow requests run beside each other: one kick for all, as many at a time as there are threads, and the rest follows. */
static void test_slow_requests_are_parallel(void **state)
{
	struct slot slots[16];

	(void)state;
	bring_up(0, &fault_io, EVENT_F, 0);
	host_hold(true);
	for (unsigned i = 0; i < 16; i++) {
		slots[i] = slot_new(512);
		submit(&slots[i], VIRTIO_BLK_T_IN, i);
	}
	(void)fake_kick(&drv.queues[0]);
	host_wait_held(IN_FLIGHT);
	assert_int_equal(drv.queues[0].used->idx, 0);
	host_hold(false);
	reap(slots, 16, 16);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(slot_status(&slots[i]), VIRTIO_BLK_S_OK);
		assert_true(same(slots[i].data, i, 512));
	}
}

/* One held request does not keep those that come after it. */
static void test_held_request_blocks_no_other(void **state)
{
	struct slot slow;

	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	host.nowait_error = 0;
	host.nowait_max = SIZE_MAX;
	slow = slot_new(512);
	host_hold(true);
	submit(&slow, VIRTIO_BLK_T_OUT, 0);
	(void)fake_kick(&drv.queues[0]);
	host_wait_held(1);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(read_disk(i, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(slot_status(&slow), NONE);
	host_hold(false);
	reap(&slow, 1, 1);
}

/* A long mixed run over every combination of ring features and queue sizes; every byte is checked. */
static void test_mixed_load(void **state)
{
	static const struct {
		uint64_t features;
		uint16_t size;
	} cases[] = { { 0, 0 }, { EVENT_F, 0 }, { INDIR_F, 16 }, { EVENT_F | INDIR_F, 0 }, { EVENT_F, 16 } };

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		enum { DEPTH = 5, AREA = SECTORS / DEPTH };
		struct slot slots[DEPTH];
		uint32_t op[DEPTH];
		unsigned random = 12345;

		if (c) {
			blk_teardown(NULL);
			blk_setup(NULL);
		}
		bring_up(0, &blk_host_io, cases[c].features | FLUSH_F, cases[c].size);
		for (unsigned i = 0; i < DEPTH; i++)
			slots[i] = slot_new(4096);
		for (unsigned n = 0; n < 1500; n++) {
			unsigned i = n % DEPTH;
			uint64_t sector;

			if (n >= DEPTH) { /* the ring is full: wait until slot i is back */
				while (slots[i].head >= 0)
					reap(slots, DEPTH, 1);
				assert_int_equal(slot_status(&slots[i]), VIRTIO_BLK_S_OK);
				if (op[i] < 2) {
					struct virtio_blk_outhdr hdr;

					memcpy(&hdr, fake_ptr(&drv, slots[i].header), sizeof(hdr));
					assert_true(same(slots[i].data, hdr.sector, slots[i].len));
				}
			}
			random = random * 1103515245 + 12345;
			/* each slot has sectors of its own, so that what is read back is what it wrote */
			sector = i * AREA + (random >> 8) % (AREA - 8);
			op[i] = (random >> 4) % 8 == 0 ? VIRTIO_BLK_T_FLUSH : (random >> 20) & 1;
			slots[i].len = op[i] < 2 ? 512 * (1 + (random >> 12) % 8) : 0;
			if (op[i] == VIRTIO_BLK_T_OUT)
				pattern(fake_ptr(&drv, slots[i].data), slots[i].len, n);
			submit(&slots[i], op[i], sector);
			(void)fake_kick(&drv.queues[0]);
			drv.heap = drv.heap > MEM - 65536 ? status + 65536 : drv.heap; /* indirect tables, reused */
		}
	}
}

/* ---- reset ---- */

static void *do_reset(void *arg)
{
	(void)arg;
	fake_set(&drv, VIRTIO_MMIO_STATUS, 0);
	return NULL;
}

static bool resetting(void)
{
	bool yes;

	(void)pthread_mutex_lock(&drv.dev->lock);
	yes = drv.mmio->resetting;
	(void)pthread_mutex_unlock(&drv.dev->lock);
	return yes;
}

/* A reset waits for what is in flight, and what was in flight never reaches the rings afterwards. */
static void test_reset_waits(void **state)
{
	struct slot slots[ALL];
	pthread_t vcpu;

	(void)state;
	bring_up(0, &fault_io, EVENT_F, 0);
	host_hold(true);
	for (unsigned i = 0; i < ALL; i++) {
		slots[i] = slot_new(512);
		submit(&slots[i], VIRTIO_BLK_T_IN, i);
	}
	(void)fake_kick(&drv.queues[0]);
	host_wait_held(IN_FLIGHT);
	assert_int_equal(pthread_create(&vcpu, NULL, do_reset, NULL), 0);
	/* another vCPU sees the reset under way, and cannot interfere */
	while (!resetting())
		;
	assert_int_not_equal(fake_get(&drv, VIRTIO_MMIO_STATUS), 0);
	fake_set(&drv, VIRTIO_MMIO_STATUS, 0xf);
	host_hold(false);
	(void)pthread_join(vcpu, NULL);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(drv.queues[0].used->idx, 0);
	for (unsigned i = 0; i < ALL; i++)
		assert_int_equal(slot_status(&slots[i]), NONE);
	assert_int_equal(host.reads, IN_FLIGHT);
	assert_int_equal(fake_probe(&drv, EVENT_F, 0), 0);
	assert_int_equal(read_disk(0, 512), VIRTIO_BLK_S_OK);
}

/* ---- snapshots ---- */

static void *let_go(void *arg)
{
	(void)arg;
	host_hold(false);
	return NULL;
}

/*
 * Saved with a request held in the middle by every thread and two more waiting: the original's results reach the
 * guest never, the clone's exactly once.
 */
static void test_snapshot_in_the_middle(void **state)
{
	struct slot slots[ALL];
	struct state_writer saved;
	pthread_t thread;

	(void)state;
	bring_up(0, &fault_io, EVENT_F | FLUSH_F, 0);
	host_hold(true);
	for (unsigned i = 0; i < ALL; i++) {
		slots[i] = slot_new(1024);
		pattern(fake_ptr(&drv, slots[i].data), 1024, 200 + i);
		submit(&slots[i], i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 10 * i);
	}
	(void)fake_kick(&drv.queues[0]);
	host_wait_held(IN_FLIGHT);
	fake_save(&drv, &saved);
	/* the original's calls end only now, after its state was taken */
	assert_int_equal(pthread_create(&thread, NULL, let_go, NULL), 0);
	assert_int_equal(fake_restore(&drv, disk_new(0, &fault_io), &saved), 0);
	(void)pthread_join(thread, NULL);
	reap(slots, ALL, ALL);
	assert_int_equal(drv.queues[0].used->idx, ALL);
	assert_int_equal(host.reads + host.writes, ALL + IN_FLIGHT); /* what was held, twice */
	for (unsigned i = 0; i < ALL; i++) {
		assert_int_equal(slot_status(&slots[i]), VIRTIO_BLK_S_OK);
		assert_true(same(slots[i].data, 10 * i, 1024));
	}
	assert_int_equal(read_disk(0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(drv.queues[0].used->idx, ALL + 1);
	state_writer_free(&saved);
}

/* Paused with requests held, then resumed: they complete once, in the original. */
static void test_pause_and_resume(void **state)
{
	struct slot slots[ALL];
	struct state_writer saved;

	(void)state;
	bring_up(0, &fault_io, EVENT_F, 0);
	host_hold(true);
	for (unsigned i = 0; i < ALL; i++) {
		slots[i] = slot_new(512);
		submit(&slots[i], VIRTIO_BLK_T_IN, i);
	}
	(void)fake_kick(&drv.queues[0]);
	host_wait_held(IN_FLIGHT);
	fake_save(&drv, &saved);
	host_hold(false);
	(void)pthread_mutex_lock(&host.lock);
	while (host.held)
		(void)pthread_cond_wait(&host.cond, &host.lock);
	(void)pthread_mutex_unlock(&host.lock);
	assert_int_equal(drv.queues[0].used->idx, 0);
	virtio_mmio_resume(drv.mmio);
	reap(slots, ALL, ALL);
	assert_int_equal(host.reads, ALL);
	/* and the state saved meanwhile still speaks of what was held */
	assert_int_equal(saved.len, 44 + 34 + 14 + IN_FLIGHT * 2);
	state_writer_free(&saved);
}

static void test_restore_refuses(void **state)
{
	enum { DEVICE = 44 + 34, HEADS = DEVICE + 14 };
	static const struct {
		const char *name;
		size_t offset;
		uint16_t value;
	} cases[] = {
		{ "version", DEVICE, 9 },         { "size of the disk", DEVICE + 2, 7 },
		{ "flush flag", DEVICE + 10, 2 }, { "fewer heads than in flight", DEVICE + 12, 3 },
		{ "more heads", DEVICE + 12, 5 }, { "far more heads", DEVICE + 12, 0xffff },
		{ "head too large", HEADS, 256 }, { "head twice", HEADS, 0xdddd },
	};
	struct slot slots[4];
	struct state_writer saved;

	(void)state;
	bring_up(0, &fault_io, EVENT_F, 0);
	host_hold(true);
	for (unsigned i = 0; i < 4; i++) {
		slots[i] = slot_new(512);
		submit(&slots[i], VIRTIO_BLK_T_IN, i);
	}
	(void)fake_kick(&drv.queues[0]);
	host_wait_held(4);
	fake_save(&drv, &saved);
	host_hold(false);
	assert_int_equal(saved.len, HEADS + 8);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct state_writer bad = { 0 };
		int err;

		state_put_bytes(&bad, saved.data, saved.len);
		memcpy(bad.data + cases[i].offset,
		       cases[i].value == 0xdddd ? saved.data + HEADS + 2 : (const uint8_t *)&cases[i].value, 2);
		err = fake_restore(&drv, disk_new(0, &fault_io), &bad);
		if (err != -EINVAL)
			fail_msg("%s: %d", cases[i].name, err);
		state_writer_free(&bad);
	}
	for (size_t len = DEVICE; len < saved.len; len++) {
		struct state_writer cut_short = { .data = saved.data, .len = len };

		assert_int_equal(fake_restore(&drv, disk_new(0, &fault_io), &cut_short), -EINVAL);
	}
	/* a head whose descriptor points nowhere: the device breaks, and that is all */
	drv.queues[0].desc[slots[0].head].addr = ~0ULL;
	assert_int_equal(fake_restore(&drv, disk_new(0, &fault_io), &saved), 0);
	while (!fake_needs_reset(&drv))
		;
	state_writer_free(&saved);
}

/* ---- limits ---- */

#define SLOW VMM_BPS_MIN /* bytes a second: one request below is in debt for longer than a test may take */
#define DEBT (64U * VMM_BPS_MIN)

/* Until the device has popped n buffers since it was brought up. */
static void wait_popped(uint16_t n)
{
	uint16_t popped;

	do {
		(void)pthread_mutex_lock(&drv.dev->lock);
		popped = drv.dev->queues[0].avail_next;
		(void)pthread_mutex_unlock(&drv.dev->lock);
	} while (popped != n);
}

/* A disk in debt, with `n` further reads submitted: the first of them was popped and waits. */
static void bring_up_in_debt(struct slot *slots, unsigned n)
{
	bring_up(0, &fault_io, EVENT_F | FLUSH_F, 0);
	virtio_blk_limit(drv.dev, 0, SLOW);
	assert_int_equal(read_disk(0, DEBT), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < n; i++) {
		slots[i] = slot_new(512);
		submit(&slots[i], VIRTIO_BLK_T_IN, i);
		(void)fake_kick(&drv.queues[0]);
	}
	wait_popped(2);
}

/* Those that wait are let go by other limits, in their order, and never before. */
static void test_limit_holds_and_lets_go(void **state)
{
	struct slot slots[ALL];

	(void)state;
	bring_up_in_debt(slots, ALL);
	(void)pthread_mutex_lock(&drv.dev->lock);
	assert_int_equal(drv.dev->queues[0].avail_next, 2); /* one waits, the others are not even popped */
	(void)pthread_mutex_unlock(&drv.dev->lock);
	assert_int_equal(drv.queues[0].used->idx, 1);
	assert_int_equal(host.reads, 1);
	virtio_blk_limit(drv.dev, 0, SLOW + 1); /* asked again, and still in debt */
	assert_int_equal(drv.queues[0].used->idx, 1);
	virtio_blk_limit(drv.dev, 0, 0);
	reap(slots, ALL, ALL);
	for (unsigned i = 0; i < ALL; i++)
		assert_true(same(slots[i].data, i, 512));
}

/* Time alone lets requests pass, whichever of the limits it was. */
static void test_limit_passes_in_time(void **state)
{
	(void)state;
	bring_up(0, &fault_io, EVENT_F | FLUSH_F, 0);
	virtio_blk_limit(drv.dev, 50, 0);
	for (unsigned i = 0; i < 60; i++) /* fifty at once, ten by and by */
		assert_int_equal(read_disk(i, 512), VIRTIO_BLK_S_OK);
	virtio_blk_limit(drv.dev, 0, 1 << 20);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(read_disk(0, 128 << 10), VIRTIO_BLK_S_OK);
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_OK);
}

/* Neither a reset nor the end waits for tokens, and what was held is not done. */
static void test_limit_holds_up_no_reset(void **state)
{
	struct slot slots[ALL];

	(void)state;
	bring_up_in_debt(slots, ALL);
	fake_set(&drv, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(host.reads, 1);
	assert_int_equal(fake_probe(&drv, EVENT_F, 0), 0);
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_OK); /* moves no bytes, and needs none */
	slots[0] = slot_new(512);
	submit(&slots[0], VIRTIO_BLK_T_IN, 0);
	(void)fake_kick(&drv.queues[0]);
	wait_popped(2);
	assert_int_equal(host.reads, 1);
	/* blk_teardown() frees it like this */
}

/* Saved while a request waits for its turn: the clone does it, once. */
static void test_limit_and_snapshot(void **state)
{
	struct slot slots[ALL];
	struct state_writer saved;

	(void)state;
	bring_up_in_debt(slots, ALL);
	fake_save(&drv, &saved);
	virtio_blk_limit(drv.dev, 0, 0); /* even now: the original is paused */
	assert_int_equal(host.reads, 1);
	assert_int_equal(fake_restore(&drv, disk_new(0, &fault_io), &saved), 0);
	reap(slots, ALL, ALL);
	assert_int_equal(host.reads, 1 + ALL);
	for (unsigned i = 0; i < ALL; i++) {
		assert_int_equal(slot_status(&slots[i]), VIRTIO_BLK_S_OK);
		assert_true(same(slots[i].data, i, 512));
	}
	state_writer_free(&saved);
}

/* Paused and resumed while one waits: it still waits, and goes on when it may. */
static void test_limit_and_resume(void **state)
{
	struct slot slots[ALL];
	struct state_writer saved;

	(void)state;
	bring_up_in_debt(slots, ALL);
	fake_save(&drv, &saved);
	virtio_mmio_resume(drv.mmio);
	assert_int_equal(drv.queues[0].used->idx, 1);
	virtio_blk_limit(drv.dev, 0, 0);
	reap(slots, ALL, ALL);
	assert_int_equal(host.reads, 1 + ALL);
	state_writer_free(&saved);
}

/* Zeroes count as bytes, though only afterwards. */
static void test_zeroes_are_charged(void **state)
{
	struct {
		struct le64 sector;
		struct le32 count, flags;
	} range = { .count = le32_of(SECTORS) };
	struct slot slot;

	(void)state;
	bring_up(0, &fault_io, EVENT_F | FLUSH_F | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES, 0);
	virtio_blk_limit(drv.dev, 0, SLOW);
	memcpy(fake_ptr(&drv, data), &range, sizeof(range));
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range), false, NULL), VIRTIO_BLK_S_OK);
	slot = slot_new(512);
	submit(&slot, VIRTIO_BLK_T_IN, 0);
	(void)fake_kick(&drv.queues[0]);
	wait_popped(2);
	assert_int_equal(host.reads, 0);
	virtio_blk_limit(drv.dev, 0, 0);
	reap(&slot, 1, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, blk_setup, blk_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_slow_requests_are_parallel),
		T(test_held_request_blocks_no_other),
		T(test_mixed_load),
		T(test_reset_waits),
		T(test_snapshot_in_the_middle),
		T(test_pause_and_resume),
		T(test_restore_refuses),
		T(test_limit_holds_and_lets_go),
		T(test_limit_passes_in_time),
		T(test_limit_holds_up_no_reset),
		T(test_limit_and_snapshot),
		T(test_limit_and_resume),
		T(test_zeroes_are_charged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
