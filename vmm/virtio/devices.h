/* The devices there are: one constructor each. A device is owned by the transport it is bound to. */
#ifndef VMM_VIRTIO_DEVICES_H
#define VMM_VIRTIO_DEVICES_H

#include "mvm/counters.h"
#include "mvm/vmm_config.h"
#include "virtio/virtio.h"

/*
 * Threads of each disk, made with it and never more: what pids.max has to count. Random reads at
 * queue depth 32 that miss the page cache: 30,000 a second with 1, 47,000 with 4, 63,000 with 8, 68,000 with 16.
 */
#define VIRTIO_BLK_THREADS 8U

/* Takes disk->fd and direct_fd over on success. Worker threads do the I/O; see blk.c. */
int virtio_blk_new(const struct vmm_disk *disk, const char *name, const struct guestmem *gm, struct loop *loop,
		   struct virtio_dev **ret_dev);

#define BLK_LIMIT_KEEP UINT64_MAX

/* Changes the limits of a disk, 0: none, BLK_LIMIT_KEEP: as it is; requests that wait for the old ones are looked at again. Any thread, unlocked. */
void virtio_blk_limit(struct virtio_dev *dev, uint64_t iops, uint64_t bps);

/*
 * Where a device adds up what it does, from here on; before it is nowhere. Borrowed, for the device's life. Any
 * thread, unlocked.
 */
void virtio_blk_count(struct virtio_dev *dev, struct counters_disk *counters, struct counters_latency *latency);
void virtio_vsock_count(struct virtio_dev *dev, struct counters_vsock *counters, struct counters_publish *publish);
void virtio_net_count(struct virtio_dev *dev, struct counters_net *counters);
void virtio_rng_count(struct virtio_dev *dev, struct counters_rng *counters);

int virtio_rng_new(const struct guestmem *gm, struct loop *loop, struct virtio_dev **ret_dev);

/* Takes net->fd over on success. */
int virtio_net_new(const struct vmm_net *net, const char *name, const struct guestmem *gm, struct loop *loop,
		   struct virtio_dev **ret_dev);

/*
 * Frames that leave and that the guest receives are copied to fd, a socket of mvm/capture.h's records (borrowed, for the device's
 * life), of each at most `snap` bytes. Once, before the guest runs. 0 or -ENOMEM.
 */
int virtio_net_capture(struct virtio_dev *dev, int fd, unsigned number, uint32_t snap);

#define NET_LIMIT_KEEP UINT64_MAX

/* Changes the limits of both directions, 0: none, NET_LIMIT_KEEP: as it is. I/O thread, unlocked. */
void virtio_net_limit(struct virtio_dev *dev, uint64_t pps, uint64_t bps);

/*
 * The guest dials host port `port`: the owner decides and answers later with virtio_vsock_dialled()
 * on the I/O thread. `dial` is the device's number for it.
 */
struct vsock_broker {
	/* 0, or -errno: refuse at once (the guest gets RST). I/O thread, device locked. */
	int (*dial)(void *arg, uint32_t dial, uint32_t port);
	void *arg;
	/* A connection that virtio_vsock_connect() made is over, its socket closed. The same. */
	void (*closed)(void *arg, uint32_t id);
};

int virtio_vsock_new(uint64_t guest_cid, struct vsock_broker broker, const struct guestmem *gm, struct loop *loop,
		     struct virtio_dev **ret_dev);

/*
 * The answer to a dial: fd >= 0 a connected, non-blocking stream socket (taken over), fd < 0 refused.
 * Dials that the guest gave up, and unknown ones, close fd. I/O thread, unlocked.
 */
void virtio_vsock_dialled(struct virtio_dev *dev, uint32_t dial, int fd);

/*
 * Connects fd, a non-blocking stream socket (taken over, always), to the guest's port. Should nobody
 * listen there the socket is closed later. 0: the broker's closed() will tell of its end, with `id`; -EMFILE,
 * -ENOTCONN (no driver yet), -EINVAL (blocking fd). I/O thread, unlocked.
 */
int virtio_vsock_connect(struct virtio_dev *dev, uint32_t id, uint32_t port, int fd);

/*
 * Bytes that the guest has sent and its host sockets have not taken yet; 0 when all is delivered.
 * Looks at the transmit queue first, so that it holds also right after the guest's last instruction.
 * Not 0: let the loop run and ask again. I/O thread, unlocked.
 */
uint64_t virtio_vsock_pending(struct virtio_dev *dev);

/*
 * Gives up the bytes that host sockets have not taken, but for those of ports `first` to `last`. Returns how many
 * they were. I/O thread, unlocked.
 */
uint64_t virtio_vsock_give_up(struct virtio_dev *dev, uint32_t first, uint32_t last);

#endif
