/* virtio-rng: fills what it is given, bounded per request and per wake-up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>

#include "fake_driver.h"
#include "virtio/devices.h"

#define MEM         (4U << 20)
#define REQUEST_MAX (64U << 10) /* what the device gives one request */

static struct fake_driver drv;

static struct virtio_dev *rng_new(void)
{
	struct virtio_dev *dev;

	assert_int_equal(virtio_rng_new(drv.gm, drv.loop, &dev), 0);
	return dev;
}

static int setup(void **state)
{
	(void)state;
	fake_init(&drv, MEM);
	fake_bind(&drv, rng_new());
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_fini(&drv);
	return 0;
}

static size_t zeroes(const uint8_t *p, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += !p[i];
	return n;
}

static void test_fills(void **state)
{
	static const uint32_t sizes[] = { 1, 16, 64, 4096, REQUEST_MAX - 1, REQUEST_MAX, REQUEST_MAX + 1, 1U << 20 };

	(void)state;
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
	assert_int_equal(fake_probe(&drv, 1ULL << VIRTIO_RING_F_EVENT_IDX, 0), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t expect = sizes[i] < REQUEST_MAX ? sizes[i] : REQUEST_MAX;
		struct fake_buf buf = { fake_alloc(&drv, sizes[i] + 1), sizes[i], true };
		const uint8_t *p = fake_ptr(&drv, buf.gpa);

		assert_int_equal(fake_do(&drv.queues[0], &buf, 1, FAKE_DIRECT), expect);
		if (expect >= 64) /* 1/256 of random bytes are zero; a quarter of them never */
			assert_true(zeroes(p, expect) < expect / 4);
		assert_int_equal(zeroes(p + expect, sizes[i] + 1 - expect), sizes[i] + 1 - expect);
	}
}

static void test_scattered(void **state)
{
	struct fake_buf bufs[] = { { 0, 40000, true }, { 0, 0, true }, { 0, 20000, true }, { 0, 10000, true } };

	(void)state;
	assert_int_equal(fake_probe(&drv, 1ULL << VIRTIO_RING_F_INDIRECT_DESC, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		bufs[i].gpa = fake_alloc(&drv, 40000);
	assert_int_equal(fake_do(&drv.queues[0], bufs, 4, FAKE_INDIRECT), REQUEST_MAX);
	assert_true(zeroes(fake_ptr(&drv, bufs[3].gpa), REQUEST_MAX - 60000) < 2000);
	assert_int_equal(
		zeroes((uint8_t *)fake_ptr(&drv, bufs[3].gpa) + REQUEST_MAX - 60000, 60000 + 10000 - REQUEST_MAX),
		60000 + 10000 - REQUEST_MAX);
}

static void test_protocol_errors(void **state)
{
	static const struct {
		const char *name;
		unsigned n;
		struct fake_buf bufs[2];
	} cases[] = {
		{ "no room", 1, { { 0x1000, 16, false } } },
		{ "readable bytes", 2, { { 0x1000, 16, false }, { 0x1000, 16, true } } },
		{ "empty", 1, { { 0x1000, 0, true } } },
		{ "outside memory", 1, { { MEM, 16, true } } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_buf good = { 0, 32, true };
		unsigned irqs = fake_irqs(&drv);

		assert_int_equal(fake_probe(&drv, 0, 0), 0);
		(void)fake_add(&drv.queues[0], cases[i].bufs, cases[i].n, FAKE_DIRECT);
		(void)fake_kick(&drv.queues[0]);
		assert_true(fake_wait_irqs(&drv, irqs));
		if (!fake_needs_reset(&drv))
			fail_msg("%s: accepted", cases[i].name);
		assert_int_equal(fake_probe(&drv, 0, 0), 0);
		good.gpa = fake_alloc(&drv, 32);
		assert_int_equal(fake_do(&drv.queues[0], &good, 1, FAKE_DIRECT), 32);
	}
}

struct wakeup {
	unsigned before, after; /* used entries */
	bool kicked_itself;
};

/* One wake-up, by hand: the loop's own is kept away by doing all of it on the I/O thread. */
static void one_wakeup(void *arg)
{
	struct wakeup *w = arg;
	eventfd_t count = 0;

	(void)pthread_mutex_lock(&drv.dev->lock);
	w->before = drv.queues[0].used->idx;
	drv.dev->ops->kick(drv.dev, 0);
	w->after = drv.queues[0].used->idx;
	w->kicked_itself = eventfd_read(drv.dev->kick_fds[0], &count) == 0;
	(void)pthread_mutex_unlock(&drv.dev->lock);
}

/* A guest that floods gets a bounded share of the I/O thread; what is left is served after a kick of the device's own. */
static void test_wakeup_is_bounded(void **state)
{
	static const struct {
		const char *name;
		uint32_t len;
		unsigned served;
	} cases[] = { { "large requests", REQUEST_MAX, 1 }, { "small requests", 1, 32 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_buf buf = { fake_alloc(&drv, cases[i].len), cases[i].len, true };
		struct wakeup w;

		assert_int_equal(fake_probe(&drv, 0, 64), 0);
		for (unsigned n = 0; n < 64; n++)
			assert_true(fake_add(&drv.queues[0], &buf, 1, FAKE_DIRECT) >= 0);
		fake_on_io(&drv, one_wakeup, &w);
		if (w.after - w.before != cases[i].served || !w.kicked_itself)
			fail_msg("%s: %u served, kicked itself: %d", cases[i].name, w.after - w.before,
				 w.kicked_itself);
		/* that kick was taken away above; another one, and all of them come */
		fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		for (unsigned n = 0; n < 64; n++) {
			uint16_t head;
			uint32_t len;

			assert_true(fake_wait_used(&drv.queues[0], &head, &len));
			assert_int_equal(len, cases[i].len);
		}
	}
}

/* Saved with requests that wait their turn, some already served: the clone serves the others, each once. */
static void test_snapshot_with_requests_waiting(void **state)
{
	struct fake_buf buf = { fake_alloc(&drv, REQUEST_MAX), REQUEST_MAX, true };
	struct wakeup w;

	(void)state;
	assert_int_equal(fake_probe(&drv, 1ULL << VIRTIO_RING_F_EVENT_IDX, 0), 0);
	for (unsigned n = 0; n < 5; n++)
		assert_true(fake_add(&drv.queues[0], &buf, 1, FAKE_DIRECT) >= 0);
	fake_on_io(&drv, one_wakeup, &w);
	assert_int_equal(w.after, 1);
	assert_int_equal(fake_replace(&drv, rng_new()), 0);
	for (unsigned n = 0; n < 5; n++) {
		uint16_t head;
		uint32_t len;

		assert_true(fake_wait_used(&drv.queues[0], &head, &len));
		assert_int_equal(len, REQUEST_MAX);
	}
	assert_int_equal(drv.queues[0].used->idx, 5);
}

/* A state that claims a request in flight is not this device's. */
static void test_restore_refuses_in_flight(void **state)
{
	struct state_writer w;

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	drv.dev->queues[0].avail_next++;
	fake_save(&drv, &w);
	assert_int_equal(fake_restore(&drv, rng_new(), &w), -EINVAL);
	state_writer_free(&w);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_fills),
		T(test_scattered),
		T(test_protocol_errors),
		T(test_wakeup_is_bounded),
		T(test_snapshot_with_requests_waiting),
		T(test_restore_refuses_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
