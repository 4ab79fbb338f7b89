/*
 * virtio-rng (virtio 1.2 §5.4): random bytes from getrandom(2), straight into the guest's buffers.
 *
 * Runs on the I/O thread, so one wake-up serves a bounded number of requests of bounded size and
 * then kicks itself: everything else that waits gets its turn in between.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "virtio/devices.h"

#define REQUEST_MAX (64U << 10) /* bytes given to one request; a driver takes what it gets and asks again */
#define WAKEUP_MAX  (64U << 10) /* bytes per wake-up, some 150 us of getrandom */
#define ROUNDS_MAX  32U /* requests, or looks at a queue that changes under our eyes, per wake-up */

struct rng {
	struct virtio_dev dev;
	struct counters_rng *counted, uncounted; /* as dev.counted */
	struct vq_chain chain; /* scratch of kick(), 4 KiB that need not lie on a stack */
};

/* getrandom() gives at most what it can before a signal: loop, it never fails once the pool is initialised. */
static int fill(uint8_t *dst, size_t len)
{
	while (len > 0) {
		ssize_t n = getrandom(dst, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		dst += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Serves one request; the bytes written, or -errno. */
static long serve(const struct vq_chain *chain)
{
	size_t left = chain->write_len < REQUEST_MAX ? (size_t)chain->write_len : REQUEST_MAX;
	size_t done = 0;

	for (unsigned i = chain->nread; left > 0; i++) {
		size_t n = chain->iov[i].iov_len < left ? chain->iov[i].iov_len : left;
		int err = fill(chain->iov[i].iov_base, n);

		if (err)
			return err;
		done += n;
		left -= n;
	}
	return (long)done;
}

static void rng_kick(struct virtio_dev *dev, unsigned queue)
{
	struct rng *rng = (struct rng *)dev;
	struct virtqueue *vq = &dev->queues[queue];
	size_t bytes = 0;
	unsigned rounds = 0;
	int popped;

	vq_disable_kicks(vq);
	for (;;) {
		long n;

		if (rounds++ == ROUNDS_MAX || bytes >= WAKEUP_MAX) {
			(void)eventfd_write(dev->kick_fds[queue], 1); /* the rest in the next round of the loop */
			break;
		}
		popped = vq_pop(vq, &rng->chain);
		if (popped < 0) {
			virtio_dev_broken(dev, vq->error);
			return;
		}
		if (!popped) {
			if (vq_enable_kicks(vq))
				continue;
			break;
		}
		if (rng->chain.nread || !rng->chain.nwrite) { /* §5.4.6.1: writable buffers only */
			virtio_dev_broken(dev, "a request for random bytes without room, or with bytes of its own");
			return;
		}
		n = serve(&rng->chain);
		if (n < 0) {
			virtio_dev_broken(dev, "the host has no random bytes");
			return;
		}
		vq_push(vq, rng->chain.head, (uint32_t)n);
		counters_add(&rng->counted->requests, 1);
		counters_add(&rng->counted->bytes, (uint64_t)n);
		bytes += (size_t)n;
	}
	virtio_dev_used(dev, queue);
}

static int rng_activate(struct virtio_dev *dev)
{
	(void)dev;
	return 0; /* requests are served whole, on kicks: nothing to start */
}

static void rng_reset(struct virtio_dev *dev)
{
	(void)dev; /* nothing is kept, nothing is in flight while the lock is held */
}

/* A request is popped, filled and pushed under the lock, so none is ever half done: the queue says it all. */
static void rng_save(struct virtio_dev *dev, struct state_writer *w)
{
	(void)dev;
	(void)w;
}

static int rng_restore(struct virtio_dev *dev, struct state_reader *r)
{
	const struct virtqueue *vq = &dev->queues[0];

	(void)r;
	/* A device that broke over a request never pushed it; its queue is not started, so nobody will miss that one. */
	return !vq->avail || vq->avail_next == vq->used_next ? 0 : -EINVAL;
}

static void rng_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
	free(dev);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.device_id = VIRTIO_ID_RNG,
	.nqueues = 1,
	.queue_size = 64,
	.activate = rng_activate,
	.reset = rng_reset,
	.kick = rng_kick,
	.save = rng_save,
	.restore = rng_restore,
	.free = rng_free,
};

int virtio_rng_new(const struct guestmem *gm, struct loop *loop, struct virtio_dev **ret_dev)
{
	struct rng *rng;
	uint8_t probe;
	int err;

	/* Waits here, before any guest runs, should the host's pool not be initialised yet: after that it never blocks. */
	err = fill(&probe, 1);
	if (err)
		return err;
	rng = calloc(1, sizeof(*rng));
	if (!rng)
		return -ENOMEM;
	err = virtio_dev_init(&rng->dev, &rng_ops, "rng0", gm, loop);
	if (err) {
		free(rng);
		return err;
	}
	rng->counted = &rng->uncounted;
	*ret_dev = &rng->dev;
	return 0;
}

void virtio_rng_count(struct virtio_dev *dev, struct counters_rng *counters)
{
	(void)pthread_mutex_lock(&dev->lock);
	((struct rng *)dev)->counted = counters;
	dev->counted = &counters->queues;
	(void)pthread_mutex_unlock(&dev->lock);
}
