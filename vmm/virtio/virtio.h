/*
 * Virtio devices: the contract between a device model and the transport (mmio.c).
 *
 * Purpose: a device is one `const struct virtio_ops` and one struct that embeds struct virtio_dev
 *          as its first member. Devices know no transport and no KVM; interrupts and kicks go
 *          through the function pointers that the transport fills in.
 * Trust:   config space writes, features and everything in queues come from a hostile guest.
 * Thread:  `lock` guards device and queues. The transport takes it around every op marked (L).
 *          kick runs on the I/O thread (or on a thread of the device's own, if it takes kick_fd
 *          over). config_*, activate and reset run on vCPU threads, whose system calls vcpu.h names.
 *          A device may drop the lock while it does host I/O.
 * Snapshots: the transport pauses a device (live = false, paused = true) before it saves: from
 *          then on nothing may be popped or pushed, so that the state and the rings in guest
 *          memory agree. Host I/O under way may end; its result waits. Resuming sets live and kicks.
 * Errors:  a guest that breaks the protocol: virtio_dev_broken() -> DEVICE_NEEDS_RESET, one
 *          rate-limited line; never an abort.
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "loop.h"
#include "mvm/counters.h"
#include "virtio/virtqueue.h"

#define VIRTIO_QUEUES_MAX 4
#define VIRTIO_CONFIG_MAX 256U /* bytes; a transport has room for them */

struct virtio_dev;

struct virtio_ops {
	const char *name; /* "blk", for logs */
	uint32_t device_id; /* VIRTIO_ID_* */
	uint16_t nqueues;
	uint16_t queue_size; /* offered maximum, power of two <= VQ_SIZE_MAX */
	/* The device waits for kicks itself: it may make kick_fds before it is bound; the transport leaves them out of the loop. */
	bool own_kicks;

	/*
	 * (L) in bounds. What it says changes in config_write, or is followed by notify_config(). A driver reads along: what changes
	 * while one runs is one field, naturally aligned, of 4 bytes at most, which a copy of the whole stores at once.
	 */
	void (*config_read)(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len);
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, const void *data,
			     unsigned len); /* (L) may be NULL */
	uint32_t config_size; /* bytes, VIRTIO_CONFIG_MAX at most; accesses beyond are answered by the transport */

	int (*activate)(struct virtio_dev *dev); /* (L) DRIVER_OK seen, queues started; -errno: device broken */
	void (*reset)(struct virtio_dev
			      *dev); /* (L) forget everything of the guest's; returns when no request is in flight */
	void (*kick)(struct virtio_dev *dev, unsigned queue); /* (L) buffers may be there */

	/*
	 * (L) Device-specific state only; the transport saves features, status and queues. save is
	 * called between requests or in the middle of one: what was popped and not pushed is
	 * recorded (by head) and done again or completed after restore.
	 */
	void (*save)(struct virtio_dev *dev, struct state_writer *w);
	/* before activate(); queues are restored, and started (avail != NULL) if the device will be live */
	int (*restore)(struct virtio_dev *dev, struct state_reader *r);

	void (*free)(struct virtio_dev *dev); /* not locked; threads of its own are joined */
};

struct virtio_dev {
	const struct virtio_ops *ops;
	char name[16]; /* "blk0": unique, for logs */
	uint64_t features; /* offered: virtio_dev_init() sets those of the rings, the constructor adds (|=) its own */
	uint64_t acked; /* what the driver took; valid from FEATURES_OK on */
	pthread_mutex_t lock;
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
	int kick_fds[VIRTIO_QUEUES_MAX]; /* eventfds signalled by QueueNotify; -1 before the transport */
	bool live; /* DRIVER_OK, not broken, not paused: only then are queues touched */
	bool broken;
	bool paused;
	bool report_pending; /* a line about broken_reason is on its way to the I/O thread */
	const char *broken_reason;
	const struct guestmem *gm;
	struct loop *loop;
	struct log_limit log_limit;
	struct counters_queues *counted; /* never NULL; added to by transport and device (L) */
	struct counters_queues uncounted; /* where it points when nobody reads it */
	void *transport;
	void (*notify_used)(struct virtio_dev *dev); /* set by the transport: InterruptStatus |= 1 then an edge */
	void (*notify_config)(struct virtio_dev *dev); /* InterruptStatus |= 2, ConfigGeneration++ */
};

/* Interrupts the driver if queue q's driver wants it. (L) */
void virtio_dev_used(struct virtio_dev *dev, unsigned q);

/*
 * Marks the device as needing reset, with a reason (a string constant); (L). Any thread: the line is
 * written by the I/O thread, because vCPU threads may neither ask for the time nor write.
 */
void virtio_dev_broken(struct virtio_dev *dev, const char *reason);

/*
 * Constructors' common part: checks that the ops are complete and sound (-EINVAL otherwise), inits the
 * lock, offers EVENT_IDX, INDIRECT_DESC and VERSION_1 (a device takes out of `features` what it does not want).
 */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, const char *name, const struct guestmem *gm,
		    struct loop *loop);
void virtio_dev_fini(struct virtio_dev *dev); /* closes kick_fds too */

#endif
