/* Disk requests outside the rules (virtio 1.2 §5.2.6). Slot 0 is the root, read-only; the other disk may be written. */
#include "guest.h"

static uint64_t up(void)
{
	uint64_t base = blk_writable();

	/* without FLUSH among the features, each write would wait for the host's disk */
	device_up(base, 1, 256, device_features(base) & ~(F_INDIRECT | F_EVENT_IDX));
	return base;
}

static uint64_t capacity(uint64_t base)
{
	return read64(base + R_CONFIG);
}

static void gives(uint8_t want, uint32_t type, uint64_t sector, uint32_t len)
{
	uint8_t status = blk_request(type, sector, data, len);

	expect("status of a request", status == want, (uint64_t)type << 32 | (uint64_t)status << 16 | want);
}

static void blk_type(void)
{
	uint64_t base = up();

	for (unsigned type = 2; type < 64; type++)
		if (type != BLK_FLUSH && type != BLK_GET_ID && type != BLK_DISCARD && type != BLK_ZEROES)
			gives(BLK_UNSUPP, type, 0, 512);
	gives(BLK_UNSUPP, UINT32_MAX, 0, 512);
	gives(BLK_UNSUPP, 0x80000000U, 0, 512);
	blk_works(base);
}

static void blk_sector_overflow(void)
{
	uint64_t base = up();

	gives(BLK_IOERR, BLK_IN, UINT64_MAX, 512);
	gives(BLK_IOERR, BLK_OUT, UINT64_MAX - 7, 4096);
	gives(BLK_IOERR, BLK_IN, 1ULL << 55, 512); /* times 512 is 0 */
	gives(BLK_IOERR, BLK_OUT, (1ULL << 55) + 1, 512);
	gives(BLK_IOERR, BLK_IN, 1ULL << 54, 512); /* times 512 is negative */
	blk_works(base);
}

static void blk_capacity(void)
{
	uint64_t base = up(), end = capacity(base);

	gives(BLK_OK, BLK_IN, end - 8, 4096);
	gives(BLK_IOERR, BLK_IN, end - 7, 4096);
	gives(BLK_IOERR, BLK_OUT, end - 7, 4096);
	gives(BLK_IOERR, BLK_IN, end, 512);
	gives(BLK_IOERR, BLK_OUT, end + 1, 512);
	expect("it grew", capacity(base) == end, capacity(base));
	blk_works(base);
}

static void blk_odd(void)
{
	static const uint32_t lengths[] = { 1, 511, 513, 4095, 65537 };
	uint64_t base = up();

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		gives(BLK_IOERR, BLK_IN, 0, lengths[i]);
		gives(BLK_IOERR, BLK_OUT, 0, lengths[i]);
	}
	blk_works(base);
}

/* What breaks the queue: one chain, at descriptor 0. */
static void breaks(uint64_t base)
{
	offer(&rings[0], 0);
	kick(&rings[0]);
	expect("not broken", device_broken(base), 0);
	blk_works(base);
}

static void blk_short_header(void)
{
	uint64_t base = up();

	desc_set(&rings[0], 0, address(BLK_HEADER), 15, D_NEXT, 1);
	desc_set(&rings[0], 1, address(BLK_STATUS), 1, D_WRITE, 0);
	breaks(base);
}

static void blk_no_status(void)
{
	uint64_t base = up();

	memset(BLK_HEADER, 0, 16);
	desc_set(&rings[0], 0, address(BLK_HEADER), 16, D_NEXT, 1);
	desc_set(&rings[0], 1, address(BLK_STATUS), 1, 0, 0);
	breaks(base);
}

static void blk_empty_status(void)
{
	uint64_t base = up();

	memset(BLK_HEADER, 0, 16);
	desc_set(&rings[0], 0, address(BLK_HEADER), 16, D_NEXT, 1);
	desc_set(&rings[0], 1, address(BLK_STATUS), 0, D_WRITE, 0);
	breaks(base);
}

/* Header and status in pieces of one byte, and a read whose last byte is where the status goes: sound, if odd. */
static void blk_pieces(void)
{
	uint64_t base = up();

	memset(BLK_HEADER, 0, 16);
	for (unsigned i = 0; i < 16; i++)
		desc_set(&rings[0], i, address(BLK_HEADER) + i, 1, D_NEXT, i + 1);
	desc_set(&rings[0], 16, address(data), 513, D_WRITE, 0);
	memset(data, 0xee, 600);
	offer(&rings[0], 0);
	kick(&rings[0]);
	expect("silent", wait_used(&rings[0], NULL), 0);
	expect("status", data[512] == BLK_OK, data[512]);
	expect("beyond it", data[513] == 0xee, data[513]);
	blk_works(base);
}

static void blk_read_only(void)
{
	uint64_t base = device_find(VIRTIO_ID_BLOCK, 0);
	static uint8_t before[4096], after[4096];
	uint32_t range[4] = { 0, 0, 8, 0 };

	device_up(base, 1, 256, 0);
	expect("read", blk_request(BLK_IN, 0, before, 4096) == BLK_OK, 0);
	memset(data, 0xff, 4096);
	gives(BLK_IOERR, BLK_OUT, 0, 4096);
	memcpy(data, range, 16);
	gives(BLK_IOERR, BLK_DISCARD, 0, 16);
	gives(BLK_IOERR, BLK_ZEROES, 0, 16);
	gives(BLK_OK, BLK_FLUSH, 0, 0);
	expect("read", blk_request(BLK_IN, 0, after, 4096) == BLK_OK, 0);
	for (unsigned i = 0; i < 4096; i++)
		if (before[i] != after[i]) {
			wrong("changed", i);
			break;
		}
}

static void put_range(size_t i, uint64_t sector, uint32_t count, uint32_t flags)
{
	memcpy(data + 16 * i, &sector, 8);
	memcpy(data + 16 * i + 8, &count, 4);
	memcpy(data + 16 * i + 12, &flags, 4);
}

static void blk_ranges(void)
{
	static const uint32_t types[] = { BLK_DISCARD, BLK_ZEROES };
	uint64_t base = up();

	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 1024; k++)
			put_range(k, 0, 8, 0);
		gives(BLK_IOERR, types[i], 0, 16 * 17);
		gives(BLK_IOERR, types[i], 0, 16 * 1024);
		gives(BLK_IOERR, types[i], 0, 15);
		gives(BLK_IOERR, types[i], 0, 17);
		gives(BLK_IOERR, types[i], 0, 0);
		put_range(0, 0, 8, 0xfffffffe);
		gives(BLK_UNSUPP, types[i], 0, 16);
		put_range(0, 0, UINT32_MAX, 0);
		gives(BLK_IOERR, types[i], 0, 16);
		put_range(0, UINT64_MAX, 8, 0);
		gives(BLK_IOERR, types[i], 0, 16);
		put_range(0, capacity(base) - 7, 8, 0);
		gives(BLK_IOERR, types[i], 0, 16);
		put_range(0, 1ULL << 55, 8, 0);
		gives(BLK_IOERR, types[i], 0, 16);
	}
	blk_works(base);
}

static void blk_get_id(void)
{
	uint64_t base = up();

	memset(data, 0xee, 64);
	gives(BLK_OK, BLK_GET_ID, 0, 5);
	expect("beyond the buffer", data[5] == 0xee, data[5]);
	gives(BLK_OK, BLK_GET_ID, UINT64_MAX, 0);
	gives(BLK_OK, BLK_GET_ID, 0, 4096);
	expect("beyond the id", data[20] == 0xee || data[20] == 0, data[20]);
	blk_works(base);
}

/* Every entry: 254 pieces of 16 MiB, the same memory again and again: 3.9 GiB a request, 1 TiB in all. */
static void offer_huge(uint32_t type)
{
	struct desc *t = (struct desc *)data;
	uint64_t base = blk_writable();

	device_up(base, 1, 256, F_INDIRECT);
	blk_header(type, 0);
	t[0] = (struct desc){ address(BLK_HEADER), 16, D_NEXT, 1 };
	for (unsigned i = 1; i < 255; i++)
		t[i] = (struct desc){ 8U << 20, 16U << 20, type == BLK_IN ? D_WRITE | D_NEXT : D_NEXT,
				      (uint16_t)(i + 1) };
	t[255] = (struct desc){ address(BLK_STATUS), 1, D_WRITE, 0 };
	for (unsigned i = 0; i < 256; i++) {
		desc_set(&rings[0], i, address(t), 256 * 16, D_INDIRECT, 0);
		offer(&rings[0], (uint16_t)i);
	}
	kick(&rings[0]);
	wait_ns(SECOND / 5);
}

static void blk_huge_reset(void)
{
	uint64_t begin;

	offer_huge(BLK_IN);
	begin = now();
	write32(blk_writable() + R_STATUS, 0);
	expect("a reset that takes long", now() - begin < 10 * SECOND, now() - begin);
	blk_works(blk_writable());
}

static void blk_huge_end(void)
{
	offer_huge(BLK_IN);
}

static void blk_flushes(void)
{
	uint64_t base = up();

	blk_header(BLK_FLUSH, 0);
	for (unsigned i = 0; i < 256; i += 2) {
		desc_set(&rings[0], i, address(BLK_HEADER), 16, D_NEXT, i + 1);
		desc_set(&rings[0], i + 1, address(BLK_STATUS), 1, D_WRITE, 0);
		offer(&rings[0], (uint16_t)i);
	}
	kick(&rings[0]);
	for (unsigned i = 0; i < 128; i++)
		expect("silent", wait_used(&rings[0], NULL), i);
	blk_works(base);
}

/* Data that lands on the request's own ring, header and status. */
static void blk_over_itself(void)
{
	uint64_t base = 0;

	for (unsigned i = 0; i < 8; i++) {
		base = up();
		(void)blk_request(BLK_OUT, 0, &rings[0], RING_BYTES);
		desc_set(&rings[0], 0, address(BLK_HEADER), 16, D_NEXT, 1);
		memset(BLK_HEADER, 0, 16);
		desc_set(&rings[0], 1, address(&rings[0]), RING_BYTES, D_WRITE | D_NEXT, 2);
		desc_set(&rings[0], 2, address(&rings[0].used.idx), 1, D_WRITE, 0);
		offer(&rings[0], 0);
		kick(&rings[0]);
		wait_ns(SECOND / 50);
		kick(&rings[0]);
	}
	blk_works(base);
}

const struct hostile_case blk_cases[] = {
	{ "blk-type", blk_type },
	{ "blk-sector-overflow", blk_sector_overflow },
	{ "blk-capacity", blk_capacity },
	{ "blk-odd", blk_odd },
	{ "blk-short-header", blk_short_header },
	{ "blk-no-status", blk_no_status },
	{ "blk-empty-status", blk_empty_status },
	{ "blk-pieces", blk_pieces },
	{ "blk-read-only", blk_read_only },
	{ "blk-ranges", blk_ranges },
	{ "blk-get-id", blk_get_id },
	{ "blk-huge-reset", blk_huge_reset },
	{ "blk-huge-end", blk_huge_end },
	{ "blk-flushes", blk_flushes },
	{ "blk-over-itself", blk_over_itself },
	{ NULL, NULL },
};
