/*
 * The register file as a byte program of a hostile guest: register accesses of every width, ring
 * contents, kicks, snapshots, and snapshots whose bytes were damaged. Behind the transport works
 * virtio-rng, so that rings are really served.
 *
 * One operation is an opcode and its operands, below. Everything runs on one thread: the device gets no
 * loop, and the program itself decides when a kick is served.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "guestmem.h"
#include "virtio/devices.h"
#include "virtio/mmio.h"

#define MEM       (64U << 10)
#define OPS_MAX   400
#define SAVED_MAX 4096

enum op {
	OP_WRITE, /* offset/4 (1), value (4) */
	OP_WRITE_SMALL, /* offset/4 (1), value (1) */
	OP_READ, /* offset/4 (1) */
	OP_WIDE, /* offset (2), log2 width and direction (1), value (1): any width, any alignment */
	OP_MEMORY, /* address (2), length (1), bytes */
	OP_KICK, /* serves what was kicked */
	OP_PROBE, /* a whole sound initialisation, size log2 (1) */
	OP_CLONE, /* save, restore into a fresh device */
	OP_DAMAGED, /* save, change n (1) bytes at (1) to (1), restore: refused or not, then on with the clone if not */
	OP_BARE, /* restore from the next 1 + n (1) bytes of the program */
	OPS,
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

struct program {
	const uint8_t *pos, *end;
};

static struct guestmem *gm;
static struct virtio_mmio *mmio;

static void need(int ok)
{
	if (!ok)
		abort();
}

static uint8_t get8(struct program *p)
{
	return p->pos < p->end ? *p->pos++ : 0;
}

static uint32_t get32(struct program *p)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++)
		v |= (uint32_t)get8(p) << (8 * i);
	return v;
}

static void raise_irq(void *arg, unsigned pin)
{
	(void)arg;
	(void)pin;
}

static struct virtio_mmio *fresh(void)
{
	static _Alignas(uint32_t) uint8_t pages[2][VIRTIO_MMIO_SIZE]; /* a clone is made beside what it replaces */
	struct virtio_mmio *new;
	struct virtio_dev *dev;
	uint8_t *page = pages[mmio && mmio->page == pages[0]];

	need(virtio_rng_new(gm, NULL, &dev) == 0);
	memset(page, 0, VIRTIO_MMIO_SIZE);
	need(virtio_mmio_new(dev, (struct irq_line){ .raise = raise_irq }, page, &new) == 0);
	return new;
}

static void set(uint32_t offset, uint32_t value)
{
	virtio_mmio_bus_ops.write(mmio, offset, &value, 4);
}

static uint32_t get(uint32_t offset)
{
	uint32_t value = 0;

	virtio_mmio_bus_ops.read(mmio, offset, &value, 4);
	return value;
}

static void wide(struct program *p)
{
	uint32_t offset = get8(p) | (uint32_t)get8(p) << 8;
	uint8_t how = get8(p);
	unsigned len = 1U << (how & 3);
	uint64_t value = get8(p) * 0x0101010101010101ULL;

	offset %= VIRTIO_MMIO_SIZE - 7; /* the bus lets no access cross the end of the range */
	if (how & 4) {
		virtio_mmio_bus_ops.write(mmio, offset, &value, len);
	} else {
		value = 0;
		virtio_mmio_bus_ops.read(mmio, offset, &value, len);
	}
}

static void memory(struct program *p)
{
	uint32_t gpa = get8(p) | (uint32_t)get8(p) << 8;
	uint32_t len = get8(p);

	for (uint32_t i = 0; i < len; i++)
		gm->regions[0].hva[(gpa + i) % MEM] = get8(p);
}

static void kick(void)
{
	struct virtio_dev *dev = mmio->dev;
	eventfd_t count;

	if (eventfd_read(dev->kick_fds[0], &count) == 0 && dev->live)
		dev->ops->kick(dev, 0);
}

static void probe(struct program *p)
{
	static const uint32_t status[] = { 0, 1, 3, 11, 15 };

	for (unsigned i = 0; i < 5; i++) {
		if (i == 3) {
			set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
			set(VIRTIO_MMIO_DRIVER_FEATURES, 1);
			set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
			set(VIRTIO_MMIO_DRIVER_FEATURES, get8(p) & 1 ? 3U << 28 : 0);
		}
		if (i == 4) {
			set(VIRTIO_MMIO_QUEUE_SEL, 0);
			set(VIRTIO_MMIO_QUEUE_NUM, 1U << (get8(p) % 7));
			set(VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
			set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x400);
			set(VIRTIO_MMIO_QUEUE_USED_LOW, 0x500);
			set(VIRTIO_MMIO_QUEUE_READY, 1);
		}
		set(VIRTIO_MMIO_STATUS, status[i]);
	}
}

/* Restores from w into a fresh device; goes on with that if it was accepted. */
static int restore(const struct state_writer *w)
{
	struct virtio_mmio *clone = fresh();
	struct state_reader r = { w->data, w->data + w->len, false };
	int err = virtio_mmio_restore(clone, &r);

	if (err) {
		virtio_mmio_free(clone);
		return err;
	}
	virtio_mmio_free(mmio);
	mmio = clone;
	virtio_mmio_resend(mmio);
	return 0;
}

static void snapshot(struct program *p, int damaged)
{
	struct state_writer w = { 0 };
	int err;

	virtio_mmio_pause(mmio);
	virtio_mmio_save(mmio, &w);
	need(!w.failed && w.len < SAVED_MAX);
	virtio_mmio_resume(mmio);
	for (unsigned n = damaged ? get8(p) % 8 : 0; n > 0; n--) {
		size_t at = get8(p) % w.len;

		w.data[at] = get8(p);
	}
	err = restore(&w);
	need(damaged || err == 0); /* what a device saved it takes back */
	state_writer_free(&w);
}

static void bare(struct program *p)
{
	struct state_writer w = { 0 };

	for (unsigned n = 1U + get8(p); n > 0; n--) {
		uint8_t byte = get8(p);

		state_put_bytes(&w, &byte, 1);
	}
	(void)restore(&w);
	state_writer_free(&w);
}

static void step(struct program *p)
{
	uint32_t offset;

	switch ((enum op)(get8(p) % OPS)) {
	case OP_WRITE:
		offset = get8(p) * 4U;
		set(offset, get32(p));
		break;
	case OP_WRITE_SMALL:
		offset = get8(p) * 4U;
		set(offset, get8(p));
		break;
	case OP_READ:
		(void)get(get8(p) * 4U);
		break;
	case OP_WIDE:
		wide(p);
		break;
	case OP_MEMORY:
		memory(p);
		break;
	case OP_KICK:
		kick();
		break;
	case OP_PROBE:
		probe(p);
		break;
	case OP_CLONE:
		snapshot(p, 0);
		break;
	case OP_DAMAGED:
		snapshot(p, 1);
		break;
	case OP_BARE:
		bare(p);
		break;
	case OPS:
	default:
		break;
	}
}

/* What the guest reads is what there is, whoever changed it. */
static void shown(void)
{
	const struct virtio_dev *dev = mmio->dev;
	const struct virtqueue *vq = mmio->queue_sel < dev->ops->nqueues ? &dev->queues[mmio->queue_sel] : NULL;
	unsigned sel = mmio->device_features_sel;

	need(get(VIRTIO_MMIO_STATUS) == (mmio->status | (dev->broken ? VIRTIO_CONFIG_S_NEEDS_RESET : 0)));
	need(get(VIRTIO_MMIO_DEVICE_FEATURES) == (sel > 1 ? 0 : (uint32_t)(dev->features >> 32 * sel)));
	need(get(VIRTIO_MMIO_QUEUE_NUM_MAX) == (vq ? vq->size_max : 0));
	need(get(VIRTIO_MMIO_QUEUE_READY) == (vq && vq->ready));
	need(get(VIRTIO_MMIO_CONFIG_GENERATION) == mmio->config_generation);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct program p = { bytes, bytes + len };

	if (!gm)
		need(guestmem_new(MEM, 0xc0000000, 0x100000000, &gm) == 0);
	memset(gm->regions[0].hva, 0, MEM);
	mmio = fresh();
	for (unsigned i = 0; i < OPS_MAX && p.pos < p.end; i++) {
		step(&p);
		shown();
	}
	/* nothing of what was written is beyond the registers */
	for (unsigned at = VIRTIO_MMIO_CONFIG; at < VIRTIO_MMIO_SIZE; at++)
		need(mmio->page[at] == 0);
	/* whatever happened, a reset mends the device */
	set(VIRTIO_MMIO_STATUS, 0);
	need(get(VIRTIO_MMIO_STATUS) == 0 && !mmio->dev->broken && !mmio->dev->queues[0].ready);
	set(VIRTIO_MMIO_STATUS, 3);
	need(get(VIRTIO_MMIO_STATUS) == 3);
	virtio_mmio_free(mmio);
	mmio = NULL;
	return 0;
}
