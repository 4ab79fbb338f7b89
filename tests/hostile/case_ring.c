/* Rings and descriptor chains outside the rules (virtio 1.2 §2.7), and what rng does with buffers. */
#include "guest.h"

/* The chain at descriptor 0 breaks the queue; a reset mends it. */
static void breaks(void)
{
	offer(&rings[0], 0);
	kick(&rings[0]);
	expect("not broken", device_broken(rings[0].base), 0);
	expect("used", rings[0].used.idx == 0, rings[0].used.idx);
	rng_works();
}

/* One descriptor that breaks the queue. */
static void one(uint64_t features, uint64_t addr, uint32_t len, uint16_t flags, unsigned next)
{
	rng_up(features);
	desc_set(&rings[0], 0, addr, len, flags, next);
	breaks();
}

static void ring_ahead(void)
{
	rng_up(0);
	desc_set(&rings[0], 0, address(data), 64, D_WRITE, 0);
	rings[0].avail.idx = 0x7fff;
	kick(&rings[0]);
	expect("not broken", device_broken(rings[0].base), 0);
	rng_works();
}

static void ring_backwards(void)
{
	rng_works();
	rings[0].avail.idx = 0;
	kick(&rings[0]);
	expect("not broken", device_broken(rings[0].base), 0);
	rng_works();
}

static void ring_head(void)
{
	rng_up(0);
	rings[0].avail.entries[0] = 64;
	rings[0].avail.idx = 1;
	kick(&rings[0]);
	expect("not broken", device_broken(rings[0].base), 0);
	rng_works();
}

static void ring_next(void)
{
	one(0, address(data), 64, D_WRITE | D_NEXT, 0xffff);
}

static void ring_loop(void)
{
	one(0, address(data), 64, D_WRITE | D_NEXT, 0);
}

static void ring_empty_loop(void)
{
	one(0, address(data), 0, D_WRITE | D_NEXT, 0);
}

static void ring_empty(void)
{
	one(0, UINT64_MAX, 0, D_WRITE, 0);
}

static void ring_longest(void)
{
	one(0, address(data), UINT32_MAX, D_WRITE, 0);
}

static void ring_wrap(void)
{
	one(0, UINT64_MAX - 15, 64, D_WRITE, 0);
}

static void ring_past_ram(void)
{
	one(0, RAM_LEAST - 8, 64, D_WRITE, 0);
}

static void ring_hole(void)
{
	one(0, X86_VIRTIO, 64, D_WRITE, 0);
}

static void ring_order(void)
{
	rng_up(0);
	desc_set(&rings[0], 1, address(data), 64, 0, 0);
	desc_set(&rings[0], 0, address(data), 64, D_WRITE | D_NEXT, 1);
	breaks();
}

static void indirect_unasked(void)
{
	one(0, address(data), 16, D_INDIRECT, 0);
}

/* Tables in data[]: what `n` descriptors there look like is the caller's. */
static struct desc *table(void)
{
	memset(data, 0, DATA_BYTES);
	return (struct desc *)data;
}

static void indirect_nested(void)
{
	*table() = (struct desc){ address(data), 16, D_INDIRECT, 0 };
	one(F_INDIRECT, address(data), 16, D_INDIRECT, 0);
}

static void indirect_and_next(void)
{
	one(F_INDIRECT, address(table()), 16, D_INDIRECT | D_NEXT, 1);
}

static void indirect_length(void)
{
	static const uint32_t lengths[] = { 0, 1, 15, 17, UINT32_MAX, 0xfffffff0 };

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		one(F_INDIRECT, address(table()), lengths[i], D_INDIRECT, 0);
}

static void indirect_outside(void)
{
	one(F_INDIRECT, RAM_LEAST - 16, 32, D_INDIRECT, 0);
}

static void indirect_long(void)
{
	struct desc *t = table();

	for (unsigned i = 0; i < 60000; i++)
		t[i] = (struct desc){ address(data), 1, D_WRITE | D_NEXT, (uint16_t)(i + 1) };
	one(F_INDIRECT, address(t), 60000 * 16, D_INDIRECT, 0);
}

/* The table is the queue's own: each descriptor is taken for an indirect one. */
static void indirect_own(void)
{
	one(F_INDIRECT, address(rings[0].desc), 64 * 16, D_INDIRECT, 0);
}

/* Rings that lie upon each other, and random bytes written over all of them: whatever comes of it, the device can be reset. */
static void ring_overlap(void)
{
	uint64_t base = device_find(VIRTIO_ID_RNG, 0);

	for (unsigned i = 0; i < 6; i++) {
		device_negotiate(base, F_VERSION_1 | (i % 2 ? F_EVENT_IDX : 0));
		memset(&rings[0], 0, sizeof(rings[0]));
		rings[0].base = base;
		rings[0].size = 64;
		queue_addresses(base, 0, 64, address(i / 2 == 0 ? (void *)&rings[0].avail : rings[0].desc),
				address(&rings[0].avail),
				address(i / 2 == 1 ? (void *)&rings[0].avail : (void *)rings[0].desc));
		write32(base + R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
		for (unsigned k = 0; k < 64; k++)
			rings[0].avail.entries[k] = (uint16_t)(k % 4);
		for (unsigned k = 0; k < 64; k++)
			desc_set(&rings[0], k, address(data), 64, D_WRITE, 0);
		rings[0].avail.idx = 40;
		kick(&rings[0]);
		wait_ns(SECOND / 20);
	}
	rng_works();
}

static void ring_over_itself(void)
{
	for (unsigned i = 0; i < 8; i++) {
		rng_up(i % 2 ? F_EVENT_IDX : 0);
		desc_set(&rings[0], 0, address(&rings[0]), RING_BYTES, D_WRITE, 0);
		offer(&rings[0], 0);
		kick(&rings[0]);
		wait_ns(SECOND / 20);
		kick(&rings[0]);
	}
	rng_works();
}

static void event_index(void)
{
	uint32_t len;

	rng_up(F_EVENT_IDX);
	for (unsigned i = 0; i < 200; i++) {
		rings[0].avail.used_event = (uint16_t)any();
		rings[0].avail.flags = (uint16_t)any();
		*(volatile uint16_t *)&rings[0].avail.entries[64] = (uint16_t)any(); /* where a queue of 64 has it */
		rings[0].used.flags = (uint16_t)any();
		rings[0].used.entries[any() % 64].id = any();
		desc_set(&rings[0], i % 64, address(data), 16, D_WRITE, 0);
		offer(&rings[0], (uint16_t)(i % 64));
		kick(&rings[0]);
		expect("silent", wait_used(&rings[0], &len), i);
	}
	rng_works();
}

/* The used index is the driver's to read: written, it confuses nobody but the driver. */
static void used_scribbled(void)
{
	rng_up(0);
	for (unsigned i = 0; i < 64; i++) {
		rings[0].used.idx = (uint16_t)any();
		desc_set(&rings[0], i % 64, address(data), 16, D_WRITE, 0);
		offer(&rings[0], (uint16_t)(i % 64));
		kick(&rings[0]);
	}
	rng_works();
}

static void same_head(void)
{
	rng_up(0);
	desc_set(&rings[0], 5, address(data), DATA_BYTES, D_WRITE, 0);
	for (unsigned i = 0; i < 64; i++)
		offer(&rings[0], 5);
	kick(&rings[0]);
	for (unsigned i = 0; i < 64; i++)
		expect("silent", wait_used(&rings[0], NULL), i);
	rng_works();
}

/* Another CPU rewrites descriptors, ring and request headers while the devices read them. */
static volatile bool stop;

static void scribble(void)
{
	while (!stop) {
		volatile struct desc *d = &rings[0].desc[any() % 8];

		d->addr = any() % 2 ? address(data) : (uint64_t)any() << 32;
		d->len = any() % 3 ? 64 : UINT32_MAX;
		d->flags = (uint16_t)(any() & 7);
		d->next = (uint16_t)(any() % 16);
		*(volatile uint32_t *)BLK_HEADER = any() % 16;
		*(volatile uint64_t *)(BLK_HEADER + 8) = any() % 2 ? 0 : UINT64_MAX - any();
		d->addr = address(data);
		d->flags = any() % 2 ? D_WRITE : D_NEXT;
	}
	stop = false;
}

static void toctou(uint64_t base, uint16_t size, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		device_up(base, 1, size, F_INDIRECT);
		for (unsigned k = 0; k < 24; k++) {
			desc_set(&rings[0], k % 8, address(k % 8 ? data : BLK_HEADER), k % 8 ? 64 : 16, D_NEXT,
				 k % 8 + 1);
			offer(&rings[0], (uint16_t)(k % 8));
			kick(&rings[0]);
		}
	}
}

static void ring_toctou(void)
{
	uint64_t end = now() + 2 * SECOND;

	ap_start(scribble);
	while (now() < end) {
		toctou(device_find(VIRTIO_ID_RNG, 0), 64, 4);
		toctou(blk_writable(), 256, 4);
	}
	stop = true;
	while (stop)
		__asm__ volatile("pause");
	rng_works();
	blk_works(blk_writable());
}

/* 64 pieces of 16 MiB: 1 GiB asked for in one request. */
static void rng_greedy(void)
{
	uint32_t len = 0;

	rng_up(0);
	for (unsigned i = 0; i < 64; i++)
		desc_set(&rings[0], i, 8U << 20, 16U << 20, i == 63 ? D_WRITE : D_WRITE | D_NEXT, i + 1);
	for (unsigned i = 0; i < 40; i++) {
		offer(&rings[0], 0);
		kick(&rings[0]);
		expect("silent", wait_used(&rings[0], &len), 0);
		expect("not 64 KiB", len == 65536, len);
	}
}

static void rng_over_4g(void)
{
	rng_up(F_INDIRECT);
	for (unsigned i = 0; i < 300; i++)
		((struct desc *)data)[i] = (struct desc){ 8U << 20, 16U << 20, D_WRITE | D_NEXT, (uint16_t)(i + 1) };
	desc_set(&rings[0], 0, address(data), 300 * 16, D_INDIRECT, 0);
	breaks();
}

static void rng_readable(void)
{
	one(0, address(data), 64, 0, 0);
}

/* The device breaks thousands of times: what it says stays within its rate. */
static void broken_storm(void)
{
	uint64_t end = now() + 2 * SECOND;

	while (now() < end) {
		rng_up(0);
		desc_set(&rings[0], 0, UINT64_MAX, 1, D_WRITE, 0);
		offer(&rings[0], 0);
		kick(&rings[0]);
		expect("not broken", device_broken(rings[0].base), 0);
	}
	rng_works();
}

const struct hostile_case ring_cases[] = {
	{ "ring-ahead", ring_ahead },
	{ "ring-backwards", ring_backwards },
	{ "ring-head", ring_head },
	{ "ring-next", ring_next },
	{ "ring-loop", ring_loop },
	{ "ring-empty-loop", ring_empty_loop },
	{ "ring-empty", ring_empty },
	{ "ring-longest", ring_longest },
	{ "ring-wrap", ring_wrap },
	{ "ring-past-ram", ring_past_ram },
	{ "ring-hole", ring_hole },
	{ "ring-order", ring_order },
	{ "indirect-unasked", indirect_unasked },
	{ "indirect-nested", indirect_nested },
	{ "indirect-and-next", indirect_and_next },
	{ "indirect-length", indirect_length },
	{ "indirect-outside", indirect_outside },
	{ "indirect-long", indirect_long },
	{ "indirect-own", indirect_own },
	{ "ring-overlap", ring_overlap },
	{ "ring-over-itself", ring_over_itself },
	{ "event-index", event_index },
	{ "used-scribbled", used_scribbled },
	{ "same-head", same_head },
	{ "ring-toctou", ring_toctou },
	{ "rng-greedy", rng_greedy },
	{ "rng-over-4g", rng_over_4g },
	{ "rng-readable", rng_readable },
	{ "broken-storm", broken_storm },
	{ NULL, NULL },
};
