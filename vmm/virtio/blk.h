/*
 * virtio-blk's inner seam: one request (blk_request.c) and the device around it (blk.c).
 *
 * Purpose: blk.c owns the queue and the threads; blk_request.c knows the request format (virtio 1.2
 *          §5.2.6) and the host's I/O calls. Tests put calls of their own behind a disk to hold
 *          requests and to inject faults.
 * Trust:   every byte of a request is hostile, and its data changes while we look; the header and
 *          the ranges are copied before they are judged. Sectors are checked without wrapping.
 * Ownership: a request borrows the iovecs of its chain, which point into guest memory.
 * Thread:  a request belongs to the thread that popped it; struct blk_disk is shared by all threads
 *          of a disk, what changes in it is atomic or has a lock.
 */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "virtio/devices.h"

#define BLK_SECTOR  512U
#define BLK_SEG_MAX 254U /* data descriptors of one request: with header and status 256, the queue's size */

#define BLK_DISCARD_SEGS    16U /* ranges in one discard */
#define BLK_DISCARD_SECTORS (1U << 22) /* in one range: 2 GiB, a matter of metadata */
#define BLK_ZEROES_SEGS     1U
#define BLK_ZEROES_SECTORS  (1U << 16) /* 32 MiB: what may have to be written out takes no longer than a large write */

/*
 * Bytes that one host call moves, discards or zeroes at most. A request may be 4 GiB long and there are
 * VIRTIO_BLK_THREADS of them: without this a guest could hold up the end of its own VM, and a vCPU in a reset, at will.
 */
#define BLK_CALL_MAX (4U << 20)

/* The host calls behind a disk: results >= 0 or -errno. flags are RWF_*. */
struct blk_io_ops {
	ssize_t (*readv)(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags);
	ssize_t (*writev)(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags);
	int (*fallocate)(void *arg, int fd, int mode, off_t offset, off_t len);
	int (*flush)(void *arg, int fd);
};

struct blk_disk {
	const struct blk_io_ops *io;
	void *io_arg;
	int fd;
	int direct_fd; /* the same file with O_DIRECT, -1: none; see blk_request.c */
	bool read_only;
	bool writethrough; /* the driver knows no FLUSH: a write is durable when it completes (§5.2.6.2) */
	uint64_t sectors;
	char id[VMM_DISK_ID_MAX];
	atomic_bool stop; /* no further host call: whatever is being done is given up, and nobody will hear of it */
	atomic_bool nowait; /* cached reads may be tried without blocking */
	atomic_bool can_punch, can_zero_range; /* until the file system says no */
	/*
	 * A flush failed: what was written before it may be gone, and the host would report success
	 * next time, because it tells each error once and then drops the pages. So every later flush
	 * fails as well, for the life of the device.
	 */
	bool flush_failed; /* under flush_lock */
	pthread_mutex_t flush_lock;
};

struct blk_request {
	struct vq_chain chain;
	uint32_t type; /* VIRTIO_BLK_T_* */
	uint64_t sector;
	struct iovec *iov; /* the data that is still to be moved, inside chain.iov */
	unsigned niov;
	uint64_t len; /* bytes of it */
	uint64_t done; /* bytes moved */
	uint8_t *status_byte; /* guest memory */
	uint8_t status; /* VIRTIO_BLK_S_*, once done */
	int error; /* the host's errno behind an IOERR, 0: it was the guest's mistake */
	uint32_t written; /* used length */
	uint64_t zeroed, discarded; /* bytes that a write of zeroes, a discard covered */
};

/* Dissects the chain just popped. NULL, or why the driver broke the protocol (no header, no room for a status). */
const char *blk_request_parse(struct blk_request *req);

/* Tries a read that lies in the page cache. True: done. False: blk_request_run() does (the rest of) it. */
bool blk_request_try(struct blk_disk *disk, struct blk_request *req);

/*
 * Does the request, however long that takes, in host calls of BLK_CALL_MAX bytes at most. Once disk->stop is set it
 * ends before the next of them, the rest undone; the caller then sees to it that the driver is never told.
 */
void blk_request_run(struct blk_disk *disk, struct blk_request *req);

const char *blk_request_name(const struct blk_request *req); /* "read", for logs */

extern const struct blk_io_ops blk_host_io;

/* virtio_blk_new() with other host calls; fd is checked only for blk_host_io. For tests. */
int virtio_blk_new_io(const struct vmm_disk *disk, const struct blk_io_ops *io, void *io_arg, const char *name,
		      const struct guestmem *gm, struct loop *loop, struct virtio_dev **ret_dev);

#endif
