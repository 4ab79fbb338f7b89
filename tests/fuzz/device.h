/*
 * A device with a guest and an event loop of a fuzzer's own: what fuzz_net and fuzz_vsock share.
 *
 * Purpose: rings in guest memory that a program of bytes fills, kicks, and a loop that is compiled in here and turned by
 *          hand: one thread, so that an input does the same each time.
 * Use:     included once, by the fuzzer itself.
 */
#ifndef FUZZ_DEVICE_H
#define FUZZ_DEVICE_H

#include <linux/virtio_ring.h>
#include <string.h>

#include "../../vmm/loop.c"
#include "virtio/virtio.h"

#define MEM_BYTES  (1U << 20)
#define QUEUE_SIZE 16U
#define RING_BYTES 0x1000U
#define SCRATCH    0x10000U /* packets and receive buffers lie here and beyond */

#define CHECK(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			__builtin_trap();                                                                              \
	} while (0)

struct device {
	const uint8_t *pos, *end; /* of the input */
	struct guestmem *gm;
	struct loop *loop;
	struct virtio_dev *dev;
	struct {
		struct vring_desc *desc;
		struct vring_avail *avail;
		uint16_t next_desc, idx;
	} q[VIRTIO_QUEUES_MAX];
};

static uint32_t take(struct device *d, unsigned bytes)
{
	uint32_t v = 0;

	while (bytes-- && d->pos < d->end)
		v = v << 8 | *d->pos++;
	return v;
}

static void turn_loop(struct device *d)
{
	struct loop *loop = d->loop;

	for (unsigned round = 0; round < 16; round++) {
		loop->nevents = epoll_wait(loop->epoll_fd, loop->events, EVENTS_BATCH, 0);
		if (loop->nevents <= 0)
			break;
		for (int i = 0; i < loop->nevents; i++) {
			struct loop_source *source = loop->events[i].data.ptr;

			if (source)
				source->on_event(source, loop->events[i].events);
		}
		loop->nevents = 0;
		run_posts(loop);
	}
	loop->nevents = 0;
}

/* Empty rings on every queue, and the device goes live. */
static void start_device(struct device *d)
{
	for (unsigned i = 0; i < d->dev->ops->nqueues; i++) {
		struct virtqueue *vq = &d->dev->queues[i];
		void *ring;

		vq->size = QUEUE_SIZE;
		vq->ready = true;
		vq->desc_gpa = (i + 1) * RING_BYTES;
		vq->avail_gpa = vq->desc_gpa + 0x400;
		vq->used_gpa = vq->desc_gpa + 0x800;
		CHECK(guestmem_slice(d->gm, vq->desc_gpa, RING_BYTES, &ring) == 0);
		memset(ring, 0, RING_BYTES);
		d->q[i].desc = ring;
		d->q[i].avail = (struct vring_avail *)(void *)((uint8_t *)ring + 0x400);
		d->q[i].next_desc = d->q[i].idx = 0;
		CHECK(vq_start(vq, d->gm, i == 1, true) == 0);
	}
	d->dev->live = true;
	d->dev->broken = false;
	CHECK(d->dev->ops->activate(d->dev) == 0);
}

static void add_desc(struct device *d, unsigned queue, uint64_t addr, uint32_t len, unsigned flags)
{
	uint16_t at = d->q[queue].next_desc++ % QUEUE_SIZE;

	d->q[queue].desc[at] = (struct vring_desc){
		.addr = addr, .len = len, .flags = (uint16_t)flags, .next = (uint16_t)((at + 1U) % QUEUE_SIZE)
	};
}

static void make_available(struct device *d, unsigned queue, uint16_t head)
{
	d->q[queue].avail->ring[d->q[queue].idx++ % QUEUE_SIZE] = head;
	d->q[queue].avail->idx = d->q[queue].idx;
}

static void kick(struct device *d, unsigned queue)
{
	(void)pthread_mutex_lock(&d->dev->lock);
	if (d->dev->live)
		d->dev->ops->kick(d->dev, queue);
	(void)pthread_mutex_unlock(&d->dev->lock);
}

/* Receive buffers of one of eight sizes, one to eight of them, each in one piece or two of which the first has `first` bytes. */
static void give_buffers(struct device *d, unsigned queue, const uint32_t sizes[8], uint32_t first)
{
	unsigned what = take(d, 1);

	for (unsigned n = 0; n <= (what >> 3 & 7); n++) {
		uint16_t head = d->q[queue].next_desc % QUEUE_SIZE;

		if (what & 0x40) {
			add_desc(d, queue, SCRATCH + 0x20000, first, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
			add_desc(d, queue, SCRATCH + 0x20100, sizes[what & 7], VRING_DESC_F_WRITE);
		} else {
			add_desc(d, queue, SCRATCH + 0x20000, sizes[what & 7], VRING_DESC_F_WRITE);
		}
		make_available(d, queue, head);
	}
	kick(d, queue);
}

#endif
