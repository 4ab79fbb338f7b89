/* The status machine and the queues' registers (virtio 1.2 §3.1.1, §4.2.2). */
#include "guest.h"

#define LIVE (S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK)

static uint64_t rng(void)
{
	return device_find(VIRTIO_ID_RNG, 0);
}

static void expect_status(uint64_t base, uint32_t want)
{
	expect("status", read32(base + R_STATUS) == want, read32(base + R_STATUS));
}

static void status_order(void)
{
	static const uint32_t tries[] = { S_DRIVER_OK, S_FEATURES_OK, S_DRIVER, S_FEATURES_OK | S_DRIVER_OK };
	uint64_t base = rng();

	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		write32(base + R_STATUS, 0);
		write32(base + R_STATUS, tries[i]);
		expect_status(base, 0);
	}
	write32(base + R_STATUS, S_ACK);
	write32(base + R_STATUS, S_ACK | S_DRIVER);
	write32(base + R_STATUS, S_ACK | S_DRIVER | S_DRIVER_OK);
	expect_status(base, S_ACK | S_DRIVER);
	write32(base + R_QUEUE_NOTIFY, 0);
	rng_works();
}

static void features_not_offered(void)
{
	uint64_t base = rng(), offered = device_features(base);

	for (unsigned i = 0; i < 64; i++)
		if (!(offered & 1ULL << i))
			expect("taken", !(device_negotiate(base, F_VERSION_1 | 1ULL << i) & S_FEATURES_OK), i);
	expect("without VERSION_1", !(device_negotiate(base, 0) & S_FEATURES_OK), 0);
	rng_works();
}

static void features_late(void)
{
	uint64_t base = rng();

	rng_up(0);
	write32(base + R_DRIVER_FEATURES_SEL, 0);
	write32(base + R_DRIVER_FEATURES, UINT32_MAX);
	write32(base + R_DRIVER_FEATURES_SEL, 77);
	write32(base + R_DRIVER_FEATURES, UINT32_MAX);
	write32(base + R_DEVICE_FEATURES_SEL, 2);
	expect("third half", read32(base + R_DEVICE_FEATURES) == 0, read32(base + R_DEVICE_FEATURES));
	/* had it counted, this indirect descriptor would be allowed */
	desc_set(&rings[0], 0, address(data), 16, D_INDIRECT, 0);
	offer(&rings[0], 0);
	kick(&rings[0]);
	expect("late features count", device_broken(base), 0);
	rng_works();
}

static void failed_sticks(void)
{
	uint64_t base = rng();

	rng_up(0);
	write32(base + R_STATUS, LIVE | S_FAILED);
	expect_status(base, LIVE | S_FAILED);
	write32(base + R_STATUS, LIVE);
	expect_status(base, LIVE | S_FAILED);
	desc_set(&rings[0], 0, address(data), 64, D_WRITE, 0);
	offer(&rings[0], 0);
	kick(&rings[0]);
	wait_ns(SECOND / 2);
	expect("served after FAILED", rings[0].used.idx == 0, rings[0].used.idx);
	rng_works();
}

static void bits_cleared(void)
{
	uint64_t base = rng();

	rng_up(0);
	for (uint32_t bit = 1; bit <= S_FEATURES_OK; bit <<= 1) {
		write32(base + R_STATUS, LIVE & ~bit);
		expect_status(base, LIVE);
	}
	write32(base + R_STATUS, LIVE | S_NEEDS_RESET | 0xffffff00U | 0x30);
	expect_status(base, LIVE);
	rng_works();
}

/* Large reads on every entry, then a reset at once, again and again; nothing is written after it. */
static void reset_in_flight(void)
{
	uint64_t base = blk_writable();

	for (unsigned round = 0; round < 8; round++) {
		device_up(base, 1, 256, 0);
		memset(BLK_HEADER, 0, 16);
		for (unsigned i = 0; i + 2 < 256; i += 3) {
			desc_set(&rings[0], i, address(BLK_HEADER), 16, D_NEXT, i + 1);
			desc_set(&rings[0], i + 1, address(data), DATA_BYTES / 2, D_WRITE | D_NEXT, i + 2);
			desc_set(&rings[0], i + 2, address(BLK_STATUS), 1, D_WRITE, 0);
			offer(&rings[0], (uint16_t)i);
		}
		kick(&rings[0]);
		write32(base + R_STATUS, 0);
		expect_status(base, 0);
		memset(data, 0x5a, 4096);
		rings[0].used.idx = 0;
		wait_ns(SECOND / 50);
		expect("used after the reset", rings[0].used.idx == 0, rings[0].used.idx);
		expect("written after the reset", data[100] == 0x5a, data[100]);
	}
	blk_works(base);
}

static void reset_storm(void)
{
	for (unsigned i = 0; i < 300; i++) {
		uint64_t base = SLOT(i % 4);

		device_negotiate(base, F_VERSION_1);
		for (unsigned q = 0; q < RINGS; q++)
			ring_init(&rings[q], base, q, 8);
		write32(base + R_STATUS, LIVE);
		for (unsigned q = 0; q < RINGS; q++)
			write32(base + R_QUEUE_NOTIFY, q);
	}
	rng_works();
	blk_works(blk_writable());
}

/* Two CPUs on one device's status: the other's half-made set-up is never built upon. */
static volatile bool stop;

static void reset_race_other(void)
{
	while (!stop)
		write32(device_find(VIRTIO_ID_RNG, 0) + R_STATUS, 0);
	stop = false;
}

static void reset_race(void)
{
	uint64_t base = rng();

	ap_start(reset_race_other);
	for (unsigned i = 0; i < 300; i++) {
		device_negotiate(base, F_VERSION_1);
		ring_init(&rings[0], base, 0, 64);
		desc_set(&rings[0], 0, address(data), 64, D_WRITE, 0);
		write32(base + R_STATUS, LIVE);
		offer(&rings[0], 0);
		kick(&rings[0]);
	}
	stop = true;
	while (stop)
		__asm__ volatile("pause");
	rng_works();
}

static void queue_select(void)
{
	uint64_t base = rng();

	device_negotiate(base, F_VERSION_1);
	for (unsigned i = 0; i < 40; i++) {
		uint32_t q = i < 32 ? 1U << i : any() | 1;

		write32(base + R_QUEUE_SEL, q);
		expect("a queue that is not there", read32(base + R_QUEUE_NUM_MAX) == 0, q);
		queue_addresses(base, q, 64, address(data), address(data), address(data));
		expect("ready", read32(base + R_QUEUE_READY) == 0, q);
		write32(base + R_QUEUE_NOTIFY, q);
	}
	rng_works();
}

static void queue_num(void)
{
	static const uint32_t sizes[] = { 0, 3, 63, 65, 128, 0x8000, 0x10000, 0x10040, 0x80000000, UINT32_MAX };
	uint64_t base = rng();

	device_negotiate(base, F_VERSION_1);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		queue_addresses(base, 0, sizes[i], address(rings[0].desc), address(&rings[0].avail),
				address(&rings[0].used));
		expect("a size that is none", read32(base + R_QUEUE_READY) == 0, sizes[i]);
	}
	write32(base + R_STATUS, LIVE);
	kick(&(struct ring){ .base = base });
	rng_works();
}

/* Ready before it has a size or addresses: size 0 never gets ready, addresses 0 are memory as any other. */
static void queue_ready_early(void)
{
	uint64_t base = rng();

	device_negotiate(base, F_VERSION_1);
	write32(base + R_QUEUE_SEL, 0);
	write32(base + R_QUEUE_READY, 1);
	expect("ready without a size", read32(base + R_QUEUE_READY) == 0, 0);
	write32(base + R_QUEUE_NUM, 64);
	write32(base + R_QUEUE_READY, 1);
	write32(base + R_STATUS, LIVE);
	kick(&(struct ring){ .base = base });
	wait_ns(SECOND / 20);
	rng_works();
}

/* Each of the three addresses in turn is `bad`; the device must say that it is broken, and be of use after a reset. */
static void bad_addresses(const uint64_t *bad, unsigned n)
{
	uint64_t base = rng();

	for (unsigned i = 0; i < n; i++)
		for (unsigned which = 0; which < 3; which++) {
			uint64_t a[3] = { address(rings[0].desc), address(&rings[0].avail), address(&rings[0].used) };

			a[which] = bad[i];
			device_negotiate(base, F_VERSION_1);
			queue_addresses(base, 0, 64, a[0], a[1], a[2]);
			write32(base + R_STATUS, LIVE);
			expect("a queue outside the rules", read32(base + R_STATUS) & S_NEEDS_RESET, bad[i]);
			kick(&(struct ring){ .base = base });
		}
	rng_works();
}

static void queue_unaligned(void)
{
	static const uint64_t bad[] = { 0x400001, 0x400003 };

	bad_addresses(bad, 2);
}

static void queue_past_ram(void)
{
	static const uint64_t bad[] = { RAM_LEAST, RAM_LEAST - 16, RAM_LEAST - 128, 0x100000000ULL, 1ULL << 52 };

	bad_addresses(bad, 5);
}

static void queue_hole(void)
{
	static const uint64_t bad[] = { X86_VIRTIO, X86_SERIAL, X86_IOAPIC, X86_LAPIC, X86_TSS };

	bad_addresses(bad, 5);
}

static void queue_wrap(void)
{
	static const uint64_t bad[] = { UINT64_MAX - 15, UINT64_MAX - 0x3ff, 0xffffffff00000000ULL, 1ULL << 63 };

	bad_addresses(bad, 4);
}

/* CVE-2026-5747: size and addresses written after activation change nothing. */
static void queue_after_live(void)
{
	uint64_t base = rng();
	uint32_t len = 0;

	rng_up(0);
	for (unsigned i = 0; i < 50; i++) {
		queue_addresses(base, 0, i % 2 ? 0x8000 : 1, any(), any(), UINT64_MAX - any());
		write32(base + R_QUEUE_READY, i % 2);
		expect("no longer ready", read32(base + R_QUEUE_READY) == 1, 0);
		desc_set(&rings[0], i, address(data), 64, D_WRITE, 0);
		offer(&rings[0], (uint16_t)i);
		kick(&rings[0]);
		expect("silent", wait_used(&rings[0], &len), i);
		expect("length", len == 64, len);
	}
	rng_works();
}

static void config_write(void)
{
	for (unsigned i = 0; i < 4; i++) {
		uint64_t before = read64(SLOT(i) + R_CONFIG);

		for (unsigned off = 0; off < 80; off++) {
			write8(SLOT(i) + R_CONFIG + off, (uint8_t)any());
			write32(SLOT(i) + R_CONFIG + off, any());
			write64(SLOT(i) + R_CONFIG + off, any());
			(void)read64(SLOT(i) + R_CONFIG + off);
		}
		expect("configuration changed", read64(SLOT(i) + R_CONFIG) == before, before);
	}
	blk_works(blk_writable());
}

const struct hostile_case status_cases[] = {
	{ "status-order", status_order },
	{ "features-not-offered", features_not_offered },
	{ "features-late", features_late },
	{ "failed-sticks", failed_sticks },
	{ "bits-cleared", bits_cleared },
	{ "reset-in-flight", reset_in_flight },
	{ "reset-storm", reset_storm },
	{ "reset-race", reset_race },
	{ "queue-select", queue_select },
	{ "queue-num", queue_num },
	{ "queue-ready-early", queue_ready_early },
	{ "queue-unaligned", queue_unaligned },
	{ "queue-past-ram", queue_past_ram },
	{ "queue-hole", queue_hole },
	{ "queue-wrap", queue_wrap },
	{ "queue-after-live", queue_after_live },
	{ "config-write", config_write },
	{ NULL, NULL },
};
