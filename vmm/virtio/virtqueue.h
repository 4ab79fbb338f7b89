/*
 * Split virtqueues (virtio 1.2 §2.7): ring parsing and nothing else.
 *
 * Trust:   everything in the rings is written by a hostile guest, concurrently. Each descriptor is
 *          read once into a local; next, lengths, direction order and chain length are checked;
 *          a chain's bytes are bounded. A broken ring gives -EPROTO with vq->error set, and the
 *          queue stays broken until it is reset.
 * Ownership: a chain's iovecs point into guest memory and stay valid while the VM lives.
 * Thread:  one thread at a time per queue (the device's lock).
 */
#ifndef VMM_VIRTIO_VIRTQUEUE_H
#define VMM_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "guestmem.h"
#include "state.h"

#define VQ_SIZE_MAX  256
#define VQ_CHAIN_MAX 258 /* descriptors in one chain that we take: seg_max 256 + header + status */

struct virtqueue {
	const struct guestmem *gm;
	/* set by the driver through the transport before DRIVER_OK, immutable after it */
	uint16_t size, size_max;
	bool ready;
	gpa_t desc_gpa, avail_gpa, used_gpa;
	/* resolved when the queue goes live */
	void *desc, *avail, *used;
	bool event_idx;
	bool indirect;
	uint16_t avail_next; /* next avail slot that we read */
	uint16_t used_next; /* next used slot that we write */
	uint16_t used_signalled; /* used_next at the last interrupt decision (EVENT_IDX) */
	const char *error; /* why it broke; NULL while sound */
};

struct vq_chain {
	uint16_t head;
	uint16_t nread; /* iov[0..nread): device-readable, first */
	uint16_t nwrite; /* iov[nread..nread+nwrite): device-writable */
	uint64_t read_len; /* bytes */
	uint64_t write_len; /* bytes */
	struct iovec iov[VQ_CHAIN_MAX];
};

/* Resolves and checks ring addresses (alignment, one region, size a power of two <= size_max). 0 or -EINVAL/-EFAULT. */
int vq_start(struct virtqueue *vq, const struct guestmem *gm, bool event_idx, bool indirect);
void vq_reset(struct virtqueue *vq); /* keeps size_max */

/* 1: *ret_chain filled; 0: empty; -EPROTO: the guest broke the ring. */
int vq_pop(struct virtqueue *vq, struct vq_chain *ret_chain);

/* Re-reads the chain at `head` without touching the avail ring: for requests in flight across save/restore. */
int vq_pop_head(struct virtqueue *vq, uint16_t head, struct vq_chain *ret_chain);

/* Un-pops the chain just popped (at most one, before any further pop). */
void vq_unpop(struct virtqueue *vq);

void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written); /* used entry, release-ordered */

/* After pushes: whether the driver wants an interrupt (EVENT_IDX or flags). Contains the full barrier. */
bool vq_wants_interrupt(struct virtqueue *vq);

/* Tells the driver not to kick / to kick again. vq_enable_kicks() returns true when buffers came meanwhile: look again. */
void vq_disable_kicks(struct virtqueue *vq);
bool vq_enable_kicks(struct virtqueue *vq);

void vq_save(const struct virtqueue *vq, struct state_writer *w);
int vq_restore(struct virtqueue *vq, struct state_reader *r); /* -EINVAL; the caller then vq_start()s a ready queue */

#endif
