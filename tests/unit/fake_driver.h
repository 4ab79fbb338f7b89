/*
 * A guest driver for the unit tests and fuzzers: builds split rings in guest memory and talks to a
 * device through the registers of its virtio-mmio transport, as a kernel would (virtio 1.2 §2.7, §3.1, §4.2).
 *
 * Purpose: device tests say what the guest does, not how rings look; hostile tests reach into
 *          queue->desc, ->avail and ->used and break what they like.
 * Ownership: fake_init() makes guest memory, an event loop and an I/O thread that runs it;
 *          fake_bind() takes the device over (its transport frees it). fake_fini() frees all.
 * Thread:  the test's thread plays the vCPU. Functions that the devices want on the I/O thread go
 *          through fake_on_io(), which returns when they did.
 * Errors:  what cannot fail in a sound test (memory, threads) aborts with a message.
 */
#ifndef TESTS_UNIT_FAKE_DRIVER_H
#define TESTS_UNIT_FAKE_DRIVER_H

#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "guestmem.h"
#include "loop.h"
#include "virtio/mmio.h"
#include "virtio/virtio.h"

#define FAKE_WAIT_MS 10000 /* a used buffer that takes longer is a failed test, not a slow one */

struct fake_driver;

struct fake_queue {
	struct fake_driver *drv;
	unsigned index;
	uint16_t size; /* 0: the device has no such queue */
	gpa_t desc_gpa, avail_gpa, used_gpa;
	struct vring_desc *desc; /* the rings themselves, for tests that break them */
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_idx; /* what avail->idx is, unless a test broke it */
	uint16_t kicked_idx; /* avail_idx at the last fake_kick() */
	uint16_t used_seen; /* used entries taken so far */
	uint16_t nfree;
	uint16_t free[VQ_SIZE_MAX]; /* stack of free descriptors */
	uint16_t chain_next[VQ_SIZE_MAX]; /* private copy of the links, the rings belong to the test */
	uint16_t chain_len[VQ_SIZE_MAX]; /* by head: direct descriptors in use, 0 free */
};

struct fake_driver {
	struct guestmem *gm;
	uint64_t mem_bytes;
	struct loop *loop;
	pthread_t io_thread;
	struct virtio_mmio *mmio;
	_Alignas(uint32_t) uint8_t page[VIRTIO_MMIO_SIZE]; /* what registers and configuration read as */
	struct virtio_dev *dev;
	uint64_t features; /* negotiated */
	gpa_t heap; /* next free guest address */
	struct fake_queue queues[VIRTIO_QUEUES_MAX];
	pthread_mutex_t lock; /* guards irqs */
	pthread_cond_t irq_cond;
	unsigned irqs; /* edges so far */
};

/* One buffer of a chain. */
struct fake_buf {
	gpa_t gpa;
	uint32_t len;
	bool write; /* device-writable */
};

enum fake_add_flags {
	FAKE_DIRECT = 0,
	FAKE_INDIRECT = 1, /* the whole chain in an indirect table */
	FAKE_MIXED = 2, /* first descriptor direct, the others in an indirect table */
};

void fake_init(struct fake_driver *drv, uint64_t mem_bytes);
void fake_fini(struct fake_driver *drv);

/* Puts a transport around dev, which belongs to it from now on. */
void fake_bind(struct fake_driver *drv, struct virtio_dev *dev);

/* Runs fn(arg) on the I/O thread and waits for it. */
void fake_on_io(struct fake_driver *drv, void (*fn)(void *arg), void *arg);

/* Registers, as 32-bit accesses at the offset of linux/virtio_mmio.h. */
uint32_t fake_get(struct fake_driver *drv, uint32_t offset);
void fake_set(struct fake_driver *drv, uint32_t offset, uint32_t value);
void fake_config(struct fake_driver *drv, uint32_t offset, void *data, unsigned len);

/*
 * The whole initialisation of virtio 1.2 §3.1.1 up to DRIVER_OK, all queues at their maximum size
 * (or `queue_size` if that is smaller and not 0). `features` is what the driver would like;
 * VERSION_1 is added, what is not offered left out. 0, or -EPROTO when the device refused.
 * May be called again: it begins with a reset, and rings are made anew.
 */
int fake_probe(struct fake_driver *drv, uint64_t features, uint16_t queue_size);
int fake_negotiate(struct fake_driver *drv, uint64_t features); /* its first half, up to FEATURES_OK */

gpa_t fake_alloc(struct fake_driver *drv, uint64_t len); /* zeroed, 16-byte aligned; never freed */
void *fake_ptr(struct fake_driver *drv, gpa_t gpa);

/* Makes a chain available. Its head, or -1 when too few descriptors are free. No kick. */
int fake_add(struct fake_queue *q, const struct fake_buf *bufs, unsigned n, enum fake_add_flags flags);
void fake_make_available(struct fake_queue *q, uint16_t head); /* the avail entry alone, any head */
bool fake_kick(struct fake_queue *q); /* QueueNotify, if the device asks for it; whether it did */

/* Takes one used entry; false: none. fake_wait_used() waits for it by interrupts alone, false after FAKE_WAIT_MS. */
bool fake_used(struct fake_queue *q, uint16_t *ret_head, uint32_t *ret_len);
bool fake_wait_used(struct fake_queue *q, uint16_t *ret_head, uint32_t *ret_len);

/* Adds, kicks, waits; the used length. Aborts the test run if nothing comes. */
uint32_t fake_do(struct fake_queue *q, const struct fake_buf *bufs, unsigned n, enum fake_add_flags flags);

unsigned fake_irqs(struct fake_driver *drv); /* edges so far */
bool fake_wait_irqs(struct fake_driver *drv, unsigned seen); /* until there were more than `seen` */
bool fake_needs_reset(struct fake_driver *drv);

/*
 * Snapshot and clone, guest memory stays: fake_save() pauses the bound device and saves it;
 * fake_restore() frees it, binds `dev` and restores into that: 0, or what virtio_mmio_restore() said
 * (-E2BIG when it left bytes over). fake_replace() is both.
 */
void fake_save(struct fake_driver *drv, struct state_writer *ret_state);
int fake_restore(struct fake_driver *drv, struct virtio_dev *dev, const struct state_writer *state);
int fake_replace(struct fake_driver *drv, struct virtio_dev *dev);

#endif
