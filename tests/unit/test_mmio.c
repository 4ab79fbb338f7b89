/* The virtio-mmio transport (vmm/virtio/mmio.c) around a device that only counts what is asked of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "fake_driver.h"

#define MEM        (1U << 20)
#define FEATURE    (1ULL << 5)
#define DUMMY_ID   42
#define CONFIG_LEN 10

#define ACK         VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER      VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define FAILED      VIRTIO_CONFIG_S_FAILED
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define RUNNING     (ACK | DRIVER | FEATURES_OK | DRIVER_OK)

/* Echoes: every chain it gets goes back with its readable length. */
struct dummy {
	struct virtio_dev dev;
	unsigned activated, resets, kicks[2];
	int activate_result;
	uint32_t secret; /* device state that a snapshot must carry */
	uint8_t config[CONFIG_LEN];
	struct vq_chain chain;
};

static void dummy_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	assert_true(offset + len <= CONFIG_LEN);
	memcpy(data, ((struct dummy *)dev)->config + offset, len);
}

static void dummy_config_write(struct virtio_dev *dev, uint32_t offset, const void *data, unsigned len)
{
	assert_true(offset + len <= CONFIG_LEN);
	memcpy(((struct dummy *)dev)->config + offset, data, len);
}

static int dummy_activate(struct virtio_dev *dev)
{
	((struct dummy *)dev)->activated++;
	return ((struct dummy *)dev)->activate_result;
}

static void dummy_reset(struct virtio_dev *dev)
{
	assert_false(dev->live);
	((struct dummy *)dev)->resets++;
}

static void dummy_kick(struct virtio_dev *dev, unsigned queue)
{
	struct dummy *d = (struct dummy *)dev;
	int n;

	assert_true(dev->live);
	d->kicks[queue]++;
	do {
		while ((n = vq_pop(&dev->queues[queue], &d->chain)) > 0)
			vq_push(&dev->queues[queue], d->chain.head, (uint32_t)d->chain.read_len);
	} while (n == 0 && vq_enable_kicks(&dev->queues[queue]));
	if (n < 0)
		virtio_dev_broken(dev, dev->queues[queue].error);
	else
		virtio_dev_used(dev, queue);
}

static void dummy_save(struct virtio_dev *dev, struct state_writer *w)
{
	state_put_u32(w, ((struct dummy *)dev)->secret);
}

static int dummy_restore(struct virtio_dev *dev, struct state_reader *r)
{
	((struct dummy *)dev)->secret = state_get_u32(r);
	return ((struct dummy *)dev)->secret == 0xbad ? -EINVAL : 0;
}

static void dummy_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
	free(dev);
}

static const struct virtio_ops dummy_ops = {
	.name = "dummy",
	.device_id = DUMMY_ID,
	.nqueues = 2,
	.queue_size = 16,
	.config_read = dummy_config_read,
	.config_write = dummy_config_write,
	.config_size = CONFIG_LEN,
	.activate = dummy_activate,
	.reset = dummy_reset,
	.kick = dummy_kick,
	.save = dummy_save,
	.restore = dummy_restore,
	.free = dummy_free,
};

static struct dummy *dummy_new(struct fake_driver *drv)
{
	struct dummy *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	assert_int_equal(virtio_dev_init(&d->dev, &dummy_ops, "dummy0", drv->gm, drv->loop), 0);
	d->dev.features |= FEATURE;
	for (uint8_t i = 0; i < CONFIG_LEN; i++)
		d->config[i] = (uint8_t)(0x10 + i);
	return d;
}

static struct fake_driver drv;
static struct dummy *dummy;

static int setup(void **state)
{
	(void)state;
	fake_init(&drv, MEM);
	dummy = dummy_new(&drv);
	fake_bind(&drv, &dummy->dev);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_fini(&drv);
	return 0;
}

static uint32_t status(void)
{
	return fake_get(&drv, VIRTIO_MMIO_STATUS);
}

static void set_status(uint32_t value)
{
	fake_set(&drv, VIRTIO_MMIO_STATUS, value);
}

/* Its configuration, in the device's own way. */
static void changed(void)
{
	(void)pthread_mutex_lock(&dummy->dev.lock);
	dummy->dev.notify_config(&dummy->dev);
	(void)pthread_mutex_unlock(&dummy->dev.lock);
}

/* ---- registers ---- */

static void test_identity(void **state)
{
	(void)state;
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_DEVICE_ID), DUMMY_ID);
	assert_int_equal(status(), 0);
	for (uint32_t offset = 0xb0; offset <= 0xbc; offset += 4)
		assert_int_equal(fake_get(&drv, offset), 0xffffffff); /* no shared memory */
}

/* Every register at every width but a 32-bit one, and unaligned: writes change nothing, reads are of memory. */
static void test_wrong_widths(void **state)
{
	static const unsigned widths[] = { 1, 2, 4, 8 };
	const uint64_t ones = ~0ULL;
	uint8_t before[VIRTIO_MMIO_SIZE];

	(void)state;
	set_status(ACK);
	memcpy(before, drv.page, sizeof(before));
	for (uint32_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset++) {
		for (unsigned w = 0; w < 4; w++) {
			uint64_t data = 0;

			if (offset + widths[w] > VIRTIO_MMIO_CONFIG || (widths[w] == 4 && offset % 4 == 0))
				continue;
			virtio_mmio_bus_ops.write(drv.mmio, offset, &ones, widths[w]);
			virtio_mmio_bus_ops.read(drv.mmio, offset, &data, widths[w]);
			assert_memory_equal(&data, before + offset, widths[w]);
			assert_memory_equal(drv.page, before, sizeof(before));
		}
	}
	assert_int_equal(dummy->resets, 0);
}

static void test_offered_features(void **state)
{
	uint64_t offered;

	(void)state;
	fake_set(&drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	offered = (uint64_t)fake_get(&drv, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	fake_set(&drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	offered |= fake_get(&drv, VIRTIO_MMIO_DEVICE_FEATURES);
	assert_int_equal(offered, FEATURE | 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
					  1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	fake_set(&drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	fake_set(&drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0xffffffff);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

static void test_config_space(void **state)
{
	static const struct {
		uint32_t offset;
		unsigned len;
		bool inside;
	} cases[] = {
		{ 0, 1, true },  { 9, 1, true },          { 10, 1, false },        { 0, 2, true },  { 8, 2, true },
		{ 9, 2, false }, { 4, 4, true },          { 6, 4, true },          { 7, 4, false }, { 2, 8, true },
		{ 3, 8, false }, { 0xe00 - 1, 1, false }, { 0xe00 - 8, 8, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t data[8] = { 0 }, expect[8] = { 0 };

		for (unsigned b = 0; b < cases[i].len; b++)
			if (cases[i].offset + b < CONFIG_LEN)
				expect[b] = dummy->config[cases[i].offset + b];
		virtio_mmio_bus_ops.read(drv.mmio, VIRTIO_MMIO_CONFIG + cases[i].offset, data, cases[i].len);
		assert_memory_equal(data, expect, 8);
		memset(data, 0xee, sizeof(data));
		virtio_mmio_bus_ops.write(drv.mmio, VIRTIO_MMIO_CONFIG + cases[i].offset, data, cases[i].len);
		if (cases[i].inside)
			assert_memory_equal(dummy->config + cases[i].offset, data, cases[i].len);
		assert_memory_equal(drv.page + VIRTIO_MMIO_CONFIG, dummy->config, CONFIG_LEN);
		for (uint8_t b = 0; b < CONFIG_LEN; b++)
			dummy->config[b] = (uint8_t)(0x10 + b);
		changed();
		assert_memory_equal(drv.page + VIRTIO_MMIO_CONFIG, dummy->config, CONFIG_LEN);
	}
	for (uint32_t at = VIRTIO_MMIO_CONFIG + CONFIG_LEN; at < VIRTIO_MMIO_SIZE; at++)
		assert_int_equal(drv.page[at], 0);
}

/* Of write-only registers nothing is shown, whatever was written. */
static void test_write_only(void **state)
{
	static const uint32_t offsets[] = {
		VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
		VIRTIO_MMIO_QUEUE_SEL,           VIRTIO_MMIO_QUEUE_NUM,       VIRTIO_MMIO_INTERRUPT_ACK,
		VIRTIO_MMIO_QUEUE_DESC_LOW,      VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
		VIRTIO_MMIO_QUEUE_AVAIL_HIGH,    VIRTIO_MMIO_QUEUE_USED_LOW,  VIRTIO_MMIO_QUEUE_USED_HIGH,
	};

	(void)state;
	fake_negotiate(&drv, 0);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		fake_set(&drv, offsets[i], 0xffffffff);
		assert_int_equal(fake_get(&drv, offsets[i]), 0);
	}
}

/* ---- the status machine ---- */

static void test_status_order(void **state)
{
	static const struct {
		const char *name;
		uint32_t writes[4];
		uint32_t expect;
	} cases[] = {
		{ "step by step", { ACK, ACK | DRIVER }, ACK | DRIVER },
		{ "DRIVER without ACKNOWLEDGE", { DRIVER }, 0 },
		{ "both at once", { ACK | DRIVER }, ACK | DRIVER },
		{ "FEATURES_OK without VERSION_1", { ACK, ACK | DRIVER, ACK | DRIVER | FEATURES_OK }, ACK | DRIVER },
		{ "DRIVER_OK without FEATURES_OK", { ACK, ACK | DRIVER, ACK | DRIVER | DRIVER_OK }, ACK | DRIVER },
		{ "everything at once", { RUNNING }, ACK | DRIVER },
		{ "a bit taken back", { ACK, ACK | DRIVER, ACK }, ACK | DRIVER },
		{ "ACKNOWLEDGE taken back", { ACK, DRIVER }, ACK },
		{ "unknown bits", { ACK | 0xffffff30 }, ACK },
		{ "NEEDS_RESET is not the driver's", { ACK, ACK | NEEDS_RESET }, ACK },
		{ "FAILED", { ACK, ACK | FAILED }, ACK | FAILED },
		{ "FAILED is sticky", { ACK | FAILED, ACK | DRIVER | FAILED, ACK | DRIVER }, FAILED },
		{ "reset ends FAILED", { ACK, ACK | FAILED, 0 }, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_status(0);
		for (unsigned w = 0; w < 4 && (w == 0 || cases[i].writes[w] || i == 12); w++)
			set_status(cases[i].writes[w]);
		if (status() != cases[i].expect)
			fail_msg("%s: status %#x", cases[i].name, status());
	}
	assert_int_equal(dummy->activated, 0);
}

static int try_features(uint64_t features)
{
	set_status(0);
	set_status(ACK);
	set_status(ACK | DRIVER);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	set_status(ACK | DRIVER | FEATURES_OK);
	return !!(status() & FEATURES_OK);
}

static void test_features(void **state)
{
	const uint64_t v1 = 1ULL << VIRTIO_F_VERSION_1;

	(void)state;
	assert_true(try_features(v1));
	assert_int_equal(dummy->dev.acked, v1);
	assert_true(try_features(v1 | FEATURE));
	assert_int_equal(dummy->dev.acked, v1 | FEATURE);
	/* none can be added afterwards */
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	set_status(ACK | DRIVER | FEATURES_OK);
	assert_int_equal(dummy->dev.acked, v1 | FEATURE);

	assert_false(try_features(FEATURE)); /* a legacy driver */
	assert_false(try_features(v1 | 1));
	assert_false(try_features(v1 | 1ULL << 63));
	assert_false(try_features(~0ULL));
	assert_int_equal(dummy->dev.acked, 0);
	/* a driver may think again */
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	set_status(ACK | DRIVER | FEATURES_OK);
	assert_true(status() & FEATURES_OK);

	/* before DRIVER nothing is taken */
	set_status(0);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set_status(ACK | DRIVER | FEATURES_OK);
	assert_int_equal(status(), ACK | DRIVER);
}

/* ---- queues ---- */

static void test_probe_and_echo(void **state)
{
	struct fake_buf bufs[] = { { 0, 100, false }, { 0, 100, false }, { 0, 8, true } };

	(void)state;
	for (unsigned f = 0; f < 4; f++) {
		uint64_t features = (f & 1 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0) |
				    (f & 2 ? 1ULL << VIRTIO_RING_F_INDIRECT_DESC : 0);

		assert_int_equal(fake_probe(&drv, features, 0), 0);
		assert_int_equal(status(), RUNNING);
		assert_int_equal(drv.queues[0].size, 16);
		assert_int_equal(drv.queues[2].size, 0);
		for (unsigned i = 0; i < 3; i++)
			bufs[i].gpa = fake_alloc(&drv, 100);
		for (unsigned n = 0; n < 40; n++)
			assert_int_equal(fake_do(&drv.queues[n % 2], bufs, 3,
						 f & 2 ? (enum fake_add_flags)(n % 3) : FAKE_DIRECT),
					 200);
	}
	assert_int_equal(dummy->activated, 4);
}

static void test_queue_size(void **state)
{
	static const struct {
		uint32_t size;
		bool ready;
	} cases[] = { { 16, true },  { 1, true },   { 8, true },        { 0, false },         { 3, false },
		      { 15, false }, { 32, false }, { 0x10000, false }, { 0x80000000, false } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fake_negotiate(&drv, 0), 0);
		fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 1);
		fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, 16);
		fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, cases[i].size);
		fake_set(&drv, VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(fake_get(&drv, VIRTIO_MMIO_QUEUE_READY), cases[i].ready);
	}
	/* queues that are not there */
	fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 2);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, 16);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_QUEUE_READY), 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 0xffffffff);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
}

static const uint32_t queue_registers[] = {
	VIRTIO_MMIO_QUEUE_NUM,       VIRTIO_MMIO_QUEUE_READY,     VIRTIO_MMIO_QUEUE_DESC_LOW,
	VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
	VIRTIO_MMIO_QUEUE_USED_LOW,  VIRTIO_MMIO_QUEUE_USED_HIGH,
};

static void scribble(unsigned first)
{
	for (unsigned q = 0; q < 2; q++) {
		fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, q);
		for (unsigned i = first; i < sizeof(queue_registers) / sizeof(queue_registers[0]); i++)
			fake_set(&drv, queue_registers[i], i == 1 ? 0 : 4);
	}
}

static bool same_setup(const struct virtqueue *a, const struct virtqueue *b)
{
	return a->size == b->size && a->ready == b->ready && a->desc_gpa == b->desc_gpa &&
	       a->avail_gpa == b->avail_gpa && a->used_gpa == b->used_gpa && a->desc == b->desc && a->used == b->used;
}

/* Queue configuration is immutable once DRIVER_OK is set, and before that while a queue is ready. */
static void test_queue_registers_are_frozen(void **state)
{
	struct virtqueue before;

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	before = dummy->dev.queues[0];
	assert_true(before.ready);
	scribble(0);
	assert_true(same_setup(&before, &dummy->dev.queues[0]));
	set_status(RUNNING | FAILED);
	scribble(0);
	assert_true(same_setup(&before, &dummy->dev.queues[0]));

	/* before FEATURES_OK: nothing is taken */
	set_status(0);
	before = dummy->dev.queues[0];
	scribble(0);
	set_status(ACK | DRIVER);
	scribble(0);
	assert_true(same_setup(&before, &dummy->dev.queues[0]));
	assert_false(before.ready);

	/* ready: nothing but QueueReady */
	assert_int_equal(fake_negotiate(&drv, 0), 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, 16);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x1);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_READY, 1);
	before = dummy->dev.queues[0];
	assert_int_equal(before.desc_gpa, 0x100001000);
	scribble(2);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, 8);
	assert_true(same_setup(&before, &dummy->dev.queues[0]));
	fake_set(&drv, VIRTIO_MMIO_QUEUE_READY, 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, 8);
	assert_int_equal(dummy->dev.queues[0].size, 8);
}

/* Rings outside memory break the device at DRIVER_OK, and the reset that it asks for mends it. */
static void test_bad_rings(void **state)
{
	unsigned irqs;

	(void)state;
	assert_int_equal(fake_negotiate(&drv, 0), 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NUM, 16);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_DESC_LOW, MEM);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_READY, 1);
	irqs = fake_irqs(&drv);
	set_status(RUNNING);
	assert_int_equal(status(), RUNNING | NEEDS_RESET);
	assert_int_equal(dummy->activated, 0);
	assert_int_equal(fake_irqs(&drv), irqs + 1);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	assert_int_equal(status(), RUNNING);
	assert_int_equal(dummy->kicks[0], 0);
}

static void test_activation_fails(void **state)
{
	(void)state;
	dummy->activate_result = -ENOMEM;
	assert_int_equal(fake_probe(&drv, 0, 0), -EPROTO);
	assert_int_equal(status(), RUNNING | NEEDS_RESET);
	dummy->activate_result = 0;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
}

/* A ring that breaks at run time: NEEDS_RESET, a configuration interrupt, silence until the reset, then all is well. */
static void test_broken_ring(void **state)
{
	struct fake_queue *q = &drv.queues[0];
	struct fake_buf buf = { 0, 4, false };
	unsigned irqs;

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	irqs = fake_irqs(&drv);
	fake_make_available(q, 1000);
	assert_true(fake_kick(q));
	assert_true(fake_wait_irqs(&drv, irqs));
	assert_true(fake_needs_reset(&drv));
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_CONFIG);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(dummy->kicks[0], 1);
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	buf.gpa = fake_alloc(&drv, 4);
	assert_int_equal(fake_do(q, &buf, 1, FAKE_DIRECT), 4);
}

static void drained(void *arg)
{
	(void)arg;
}

/* Kicks before DRIVER_OK, after FAILED, or for queues that are not there reach no device. */
static void test_notify_when_not_live(void **state)
{
	(void)state;
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 2);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 0xffffffff);
	set_status(RUNNING | FAILED);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	fake_on_io(&drv, drained, NULL);
	fake_on_io(&drv, drained, NULL);
	assert_int_equal(dummy->kicks[0] + dummy->kicks[1], 0);
	assert_false(dummy->dev.live);
}

static void test_reset_forgets(void **state)
{
	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	dummy->dev.notify_used(&dummy->dev);
	fake_set(&drv, VIRTIO_MMIO_QUEUE_SEL, 1);
	set_status(0);
	assert_int_equal(dummy->resets, 2);
	assert_int_equal(status(), 0);
	assert_int_equal(dummy->dev.acked, 0);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	for (unsigned q = 0; q < 2; q++) {
		assert_false(dummy->dev.queues[q].ready);
		assert_null(dummy->dev.queues[q].avail);
		assert_int_equal(dummy->dev.queues[q].avail_next, 0);
		assert_int_equal(dummy->dev.queues[q].size_max, 16);
	}
}

/* ---- interrupts ---- */

static void test_interrupts(void **state)
{
	unsigned irqs = fake_irqs(&drv);

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	virtio_mmio_resend(drv.mmio);
	assert_int_equal(fake_irqs(&drv), irqs); /* nothing to say again */
	dummy->dev.notify_used(&dummy->dev);
	dummy->dev.notify_used(&dummy->dev);
	assert_int_equal(fake_irqs(&drv), irqs + 2); /* an edge even if the bit was set */
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	changed();
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	fake_set(&drv, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	virtio_mmio_resend(drv.mmio);
	assert_int_equal(fake_irqs(&drv), irqs + 4);
	fake_set(&drv, VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	virtio_mmio_resend(drv.mmio);
	assert_int_equal(fake_irqs(&drv), irqs + 4);
}

/* ---- snapshots ---- */

static void test_snapshot_in_use(void **state)
{
	struct fake_queue *q = &drv.queues[0];
	struct fake_buf buf = { 0, 77, false };
	struct dummy *clone = dummy_new(&drv);
	uint16_t head;
	uint32_t len;
	int added;

	(void)state;
	assert_int_equal(fake_probe(&drv, FEATURE | 1ULL << VIRTIO_RING_F_EVENT_IDX, 8), 0);
	buf.gpa = fake_alloc(&drv, 77);
	for (unsigned i = 0; i < 11; i++)
		assert_int_equal(fake_do(q, &buf, 1, FAKE_DIRECT), 77);
	dummy->secret = 4711;
	added = fake_add(q, &buf, 1, FAKE_DIRECT); /* made available, the kick is lost with the original */
	assert_int_equal(fake_replace(&drv, &clone->dev), 0);
	assert_int_equal(clone->secret, 4711);
	assert_int_equal(clone->dev.acked, drv.features);
	assert_int_equal(clone->activated, 1);
	assert_int_equal(status(), RUNNING);
	assert_true(fake_wait_used(q, &head, &len));
	assert_int_equal(head, added);
	assert_int_equal(len, 77);
	q->kicked_idx = q->avail_idx;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(fake_do(q, &buf, 1, FAKE_DIRECT), 77);
}

/* An interrupt that the guest has not taken yet is raised again in the clone. */
static void test_snapshot_with_interrupt(void **state)
{
	struct dummy *clone = dummy_new(&drv);
	unsigned irqs;

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	dummy->dev.notify_used(&dummy->dev);
	irqs = fake_irqs(&drv);
	assert_int_equal(fake_replace(&drv, &clone->dev), 0);
	assert_true(fake_irqs(&drv) > irqs);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}

/* At every step of the initialisation: the driver goes on with the clone where it was. */
static void test_snapshot_at_every_step(void **state)
{
	static const uint32_t steps[] = { ACK, ACK | DRIVER, ACK | DRIVER | FEATURES_OK, RUNNING };

	(void)state;
	for (unsigned at = 0; at <= 4; at++) {
		set_status(0);
		for (unsigned i = 0; i < 4; i++) {
			if (i == at)
				assert_int_equal(fake_replace(&drv, &dummy_new(&drv)->dev), 0);
			if (i == 2) {
				fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
				fake_set(&drv, VIRTIO_MMIO_DRIVER_FEATURES, 1);
			}
			set_status(steps[i]);
			assert_int_equal(status(), steps[i]);
		}
	}
	set_status(RUNNING | FAILED);
	assert_int_equal(fake_replace(&drv, &dummy_new(&drv)->dev), 0);
	assert_int_equal(status(), RUNNING | FAILED);
	assert_false(drv.dev->live);
}

static void test_snapshot_of_broken(void **state)
{
	struct dummy *clone = dummy_new(&drv);

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	fake_make_available(&drv.queues[0], 1000);
	(void)fake_kick(&drv.queues[0]);
	assert_true(fake_wait_irqs(&drv, 0));
	assert_int_equal(fake_replace(&drv, &clone->dev), 0);
	assert_true(fake_needs_reset(&drv));
	assert_int_equal(clone->activated, 0);
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
}

static void test_resume(void **state)
{
	struct fake_queue *q = &drv.queues[0];
	struct fake_buf buf = { 0, 9, false };
	struct state_writer w;
	uint16_t head;
	uint32_t len;

	(void)state;
	assert_int_equal(fake_probe(&drv, 0, 0), 0);
	buf.gpa = fake_alloc(&drv, 9);
	fake_save(&drv, &w);
	state_writer_free(&w);
	(void)fake_add(q, &buf, 1, FAKE_DIRECT);
	(void)fake_kick(q);
	fake_on_io(&drv, drained, NULL);
	fake_on_io(&drv, drained, NULL);
	assert_int_equal(q->used->idx, 0); /* paused */
	virtio_mmio_resume(drv.mmio);
	assert_true(fake_wait_used(q, &head, &len));
	assert_int_equal(len, 9);
}

/* State bytes that no sound device can have written: refused, whatever they are. */
static void test_restore_refuses(void **state)
{
	/* offsets as virtio_mmio_save() writes them */
	static const struct {
		const char *name;
		size_t offset;
		uint32_t value;
	} cases[] = {
		{ "version", 0, 2 | 2 << 16 },
		{ "number of queues", 0, 1 | 3 << 16 },
		{ "device", 4, 1 },
		{ "status without ACKNOWLEDGE", 8, DRIVER },
		{ "status with a hole", 8, ACK | DRIVER | DRIVER_OK },
		{ "status bit unknown", 8, RUNNING | 0x20 },
		{ "broken is no boolean", 12, 2 },
		{ "interrupt unknown", 32, 4 },
		{ "features not offered", 36, 1 },
		{ "no VERSION_1", 40, 0 },
		{ "queue size", 44, 3 | 1 << 16 },
		{ "ring outside memory", 48, MEM },
		{ "ring high address", 52, 0xffffffff },
		{ "device refuses", 112, 0xbad },
	};
	struct state_writer w;

	(void)state;
	assert_int_equal(fake_probe(&drv, FEATURE, 0), 0);
	fake_save(&drv, &w);
	assert_int_equal(w.len, 116);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct state_writer bad = { 0 };
		int err;

		state_put_bytes(&bad, w.data, w.len);
		memcpy(bad.data + cases[i].offset, &cases[i].value, 4);
		err = fake_restore(&drv, &dummy_new(&drv)->dev, &bad);
		if (err != -EINVAL)
			fail_msg("%s: %d", cases[i].name, err);
		state_writer_free(&bad);
	}
	for (size_t len = 0; len < w.len; len++) {
		struct state_writer cut = { .data = w.data, .len = len };

		assert_int_equal(fake_restore(&drv, &dummy_new(&drv)->dev, &cut), -EINVAL);
	}
	assert_int_equal(fake_restore(&drv, &dummy_new(&drv)->dev, &w), 0);
	state_writer_free(&w);
}

/* ---- ops ---- */

static void test_incomplete_devices_do_not_register(void **state)
{
	struct virtio_dev dev;

	(void)state;
#define WITHOUT(...)                                                                                                   \
	do {                                                                                                           \
		struct virtio_ops ops = dummy_ops;                                                                     \
		__VA_ARGS__;                                                                                           \
		assert_int_equal(virtio_dev_init(&dev, &ops, "x", drv.gm, drv.loop), -EINVAL);                         \
	} while (0)
	WITHOUT(ops.save = NULL);
	WITHOUT(ops.restore = NULL);
	WITHOUT(ops.reset = NULL);
	WITHOUT(ops.kick = NULL);
	WITHOUT(ops.activate = NULL);
	WITHOUT(ops.free = NULL);
	WITHOUT(ops.config_read = NULL);
	WITHOUT(ops.nqueues = 0);
	WITHOUT(ops.nqueues = VIRTIO_QUEUES_MAX + 1);
	WITHOUT(ops.queue_size = 0);
	WITHOUT(ops.queue_size = 24);
	WITHOUT(ops.queue_size = 2 * VQ_SIZE_MAX);
#undef WITHOUT
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_identity),
		T(test_wrong_widths),
		T(test_offered_features),
		T(test_config_space),
		T(test_write_only),
		T(test_status_order),
		T(test_features),
		T(test_probe_and_echo),
		T(test_queue_size),
		T(test_queue_registers_are_frozen),
		T(test_bad_rings),
		T(test_activation_fails),
		T(test_broken_ring),
		T(test_notify_when_not_live),
		T(test_reset_forgets),
		T(test_interrupts),
		T(test_snapshot_in_use),
		T(test_snapshot_with_interrupt),
		T(test_snapshot_at_every_step),
		T(test_snapshot_of_broken),
		T(test_resume),
		T(test_restore_refuses),
		T(test_incomplete_devices_do_not_register),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
