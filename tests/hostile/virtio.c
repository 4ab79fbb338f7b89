/* A driver that could behave: what the cases build their misdeeds upon. */
#include "guest.h"

struct ring rings[RINGS];
uint8_t data[DATA_BYTES] __attribute__((aligned(4096)));

uint64_t device_find(uint32_t id, unsigned nth)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (read32(SLOT(i) + R_MAGIC) != 0x74726976 || read32(SLOT(i) + R_DEVICE_ID) != id)
			continue;
		if (nth-- == 0)
			return SLOT(i);
	}
	wrong("no such device", id);
	power_off();
	return 0;
}

uint64_t device_features(uint64_t base)
{
	uint64_t features;

	write32(base + R_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)read32(base + R_DEVICE_FEATURES) << 32;
	write32(base + R_DEVICE_FEATURES_SEL, 0);
	return features | read32(base + R_DEVICE_FEATURES);
}

uint32_t device_negotiate(uint64_t base, uint64_t features)
{
	write32(base + R_STATUS, 0);
	write32(base + R_STATUS, S_ACK);
	write32(base + R_STATUS, S_ACK | S_DRIVER);
	for (unsigned half = 0; half < 2; half++) {
		write32(base + R_DRIVER_FEATURES_SEL, half);
		write32(base + R_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
	}
	write32(base + R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
	return read32(base + R_STATUS);
}

static void put_address(uint64_t at, uint64_t value)
{
	write32(at, (uint32_t)value);
	write32(at + 4, (uint32_t)(value >> 32));
}

void queue_addresses(uint64_t base, unsigned queue, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	write32(base + R_QUEUE_SEL, queue);
	write32(base + R_QUEUE_READY, 0);
	write32(base + R_QUEUE_NUM, size);
	put_address(base + R_QUEUE_DESC, desc);
	put_address(base + R_QUEUE_AVAIL, avail);
	put_address(base + R_QUEUE_USED, used);
	write32(base + R_QUEUE_READY, 1);
}

void ring_init(struct ring *ring, uint64_t base, unsigned queue, uint16_t size)
{
	memset(ring, 0, sizeof(*ring));
	ring->base = base;
	ring->queue = (uint16_t)queue;
	ring->size = size;
	queue_addresses(base, queue, size, address(ring->desc), address(&ring->avail), address(&ring->used));
}

void device_up(uint64_t base, unsigned queues, uint16_t size, uint64_t features)
{
	uint32_t status = device_negotiate(base, features | F_VERSION_1);

	expect("features refused", status == (S_ACK | S_DRIVER | S_FEATURES_OK), status);
	for (unsigned q = 0; q < queues; q++)
		ring_init(&rings[q], base, q, size);
	write32(base + R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	status = read32(base + R_STATUS);
	expect("not live", status == (S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK), status);
}

bool device_broken(uint64_t base)
{
	uint64_t end = now() + PATIENCE;

	while (now() < end)
		if (read32(base + R_STATUS) & S_NEEDS_RESET)
			return true;
	return false;
}

void desc_set(struct ring *ring, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, unsigned next)
{
	ring->desc[i] = (struct desc){ addr, len, flags, (uint16_t)next };
}

void offer(struct ring *ring, uint16_t head)
{
	uint16_t idx = ring->avail.idx;

	ring->avail.entries[idx % ring->size] = head;
	__asm__ volatile("mfence" ::: "memory");
	ring->avail.idx = (uint16_t)(idx + 1);
	__asm__ volatile("mfence" ::: "memory");
}

void kick(const struct ring *ring)
{
	write32(ring->base + R_QUEUE_NOTIFY, ring->queue);
}

bool wait_used(struct ring *ring, uint32_t *ret_len)
{
	uint64_t end = now() + PATIENCE;

	while (ring->used.idx == ring->seen)
		if (now() > end)
			return false;
	__asm__ volatile("mfence" ::: "memory");
	if (ret_len)
		*ret_len = ring->used.entries[ring->seen % ring->size].len;
	ring->seen++;
	return true;
}

void rng_up(uint64_t features)
{
	device_up(device_find(VIRTIO_ID_RNG, 0), 1, 64, features);
}

void rng_works(void)
{
	uint32_t len = 0;

	rng_up(0);
	memset(data, 0, 64);
	desc_set(&rings[0], 0, address(data), 64, D_WRITE, 0);
	offer(&rings[0], 0);
	kick(&rings[0]);
	expect("rng is silent", wait_used(&rings[0], &len), 0);
	expect("rng gave too little", len == 64, len);
}

uint64_t blk_writable(void)
{
	return device_find(VIRTIO_ID_BLOCK, 1);
}

void blk_header(uint32_t type, uint64_t sector)
{
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = { type, 0, sector };

	memcpy(BLK_HEADER, &header, sizeof(header));
}

uint8_t blk_request(uint32_t type, uint64_t sector, const void *buffer, uint32_t len)
{
	uint16_t direction = type == BLK_IN || type == BLK_GET_ID ? D_WRITE : 0;
	struct ring *ring = &rings[0];

	blk_header(type, sector);
	*BLK_STATUS = BLK_SILENT;
	desc_set(ring, 0, address(BLK_HEADER), 16, D_NEXT, len ? 1 : 2);
	desc_set(ring, 1, address(buffer), len, direction | D_NEXT, 2);
	desc_set(ring, 2, address(BLK_STATUS), 1, D_WRITE, 0);
	offer(ring, 0);
	kick(ring);
	if (!wait_used(ring, NULL))
		return BLK_SILENT;
	return *(volatile uint8_t *)BLK_STATUS;
}

void blk_works(uint64_t base)
{
	uint8_t status;

	device_up(base, 1, 256, 0);
	status = blk_request(BLK_IN, 0, data, 4096);
	expect("disk does not read", status == BLK_OK, status);
}
