/*
 * virtio-blk (virtio 1.2 §5.2): the device and its threads. README.md beside this file says why threads.
 *
 * Each disk has VIRTIO_BLK_THREADS threads of its own. Idle ones sleep in epoll_wait on one epoll instance
 * that holds the kick eventfd, edge-triggered: the kernel wakes exactly one per kick, the one that
 * slept last. A thread that wakes pops a request, does it and pushes it, so at queue depth 1 no
 * request ever changes threads. Reads that lie in the page cache are done one after another by one
 * thread, with kicks off and one interrupt for several. Before a thread does something that may block
 * it turns kicks on again, and if more is waiting wakes one sibling, who does the same.
 *
 * A limited disk (ratelimit.h): the thread whose request has to wait keeps it and sleeps, until its time
 * comes, the limits change, or the disk is reset or freed; the others pop nothing meanwhile, so
 * requests pass in their order. Without a limit this costs one comparison.
 *
 * A request lives in its thread from pop to push: requests in flight are bounded by the threads,
 * nothing is allocated, and threads (with their 4 KiB of iovecs) that load never needed stay untouched.
 */
#include "virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>

#include "jail/self.h"

#include "mvm/cleanup.h"
#include "virtio/ratelimit.h"

#define THREAD_STACK (64U << 10) /* bytes */
#define QUEUE_SIZE   256
#define IRQ_BATCH    8U /* cached reads per interrupt at most */
#define SAVE_VERSION 1U

struct blk;

struct worker {
	struct blk *blk;
	pthread_t thread;
	char name[16];
	bool busy; /* req was popped and not pushed yet (L) */
	struct blk_request req;
	uint64_t took_ns; /* until its answer */
};

struct blk {
	struct virtio_dev dev;
	struct blk_disk disk;
	struct virtio_blk_config config;
	int epoll_fd;
	/* all under dev.lock */
	bool stopping; /* free(): threads end */
	bool dropping; /* reset(): what is in flight ends unpushed */
	bool throttled; /* one thread waits for the limits, the others leave the queue alone */
	struct ratelimit limit;
	struct counters_disk *counted, uncounted; /* as dev.counted */
	struct counters_latency *timed, untimed;
	unsigned nbusy, nidle;
	pthread_cond_t resumed; /* not paused any more, or dropping, or stopping, or other limits */
	pthread_cond_t quiet; /* nbusy == 0 */
	uint16_t redo[QUEUE_SIZE]; /* heads that were in flight when the state was saved, done again */
	unsigned nredo, redone;
	unsigned nthreads;
	struct worker workers[VIRTIO_BLK_THREADS];
};

static struct blk *blk_of(struct virtio_dev *dev)
{
	return (struct blk *)dev;
}

static void wake_one(struct blk *blk)
{
	(void)eventfd_write(blk->dev.kick_fds[0], 1);
}

static void log_failure(struct blk *blk, const struct blk_request *req)
{
	const char *reason = strerrordesc_np(req->error);

	if (!log_allowed(&blk->dev.log_limit, blk->dev.name))
		return;
	log_warn("disk %s: %s: %s%s", blk->dev.name, blk_request_name(req), reason ? reason : "unknown error",
		 req->type == VIRTIO_BLK_T_FLUSH ? "; writes before it may be lost, so no later flush will succeed"
						 : "");
}

/* What was answered, by kind. (L) */
static void count(struct counters_disk *c, const struct blk_request *req)
{
	uint64_t *times = &c->others, *bytes = NULL, n = req->done;

	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		times = &c->reads;
		bytes = &c->read_bytes;
		break;
	case VIRTIO_BLK_T_OUT:
		times = &c->writes;
		bytes = &c->written_bytes;
		break;
	case VIRTIO_BLK_T_FLUSH:
		times = &c->flushes;
		break;
	case VIRTIO_BLK_T_DISCARD:
		times = &c->discards;
		bytes = &c->discarded_bytes;
		n = req->discarded;
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		times = &c->zeroes;
		bytes = &c->zeroed_bytes;
		n = req->zeroed;
		break;
	default:
		break;
	}
	counters_add(times, 1);
	if (bytes)
		counters_add(bytes, n);
	if (req->status != VIRTIO_BLK_S_OK)
		counters_add(&c->errors, 1);
	if (req->error == ENOSPC || req->error == EDQUOT)
		counters_add(&c->no_space, 1);
}

/* The request is done: gives it back to the driver, unless there is nobody any more to give it to. (L) */
static void complete(struct worker *w)
{
	struct blk *blk = w->blk;
	struct virtio_dev *dev = &blk->dev;

	while (dev->paused && !blk->dropping && !blk->stopping)
		(void)pthread_cond_wait(&blk->resumed, &dev->lock);
	if (w->req.error)
		log_failure(blk, &w->req);
	if (dev->live && !blk->stopping) {
		count(blk->counted, &w->req);
		counters_add(&blk->timed->buckets[counters_bucket(w->took_ns)], 1);
		counters_add(&blk->timed->sum_ns, w->took_ns);
		*w->req.status_byte = w->req.status;
		vq_push(&dev->queues[0], w->req.chain.head, w->req.written);
	}
	w->busy = false;
	if (--blk->nbusy == 0)
		(void)pthread_cond_signal(&blk->quiet);
}

/* The next request, popped and dissected; 1, 0, or -EPROTO with the device broken. (L) */
static int take(struct worker *w)
{
	struct blk *blk = w->blk;
	struct virtqueue *vq = &blk->dev.queues[0];
	const char *wrong;
	int n;

	if (blk->redone < blk->nredo)
		n = vq_pop_head(vq, blk->redo[blk->redone++], &w->req.chain);
	else
		n = vq_pop(vq, &w->req.chain);
	if (!n)
		return 0;
	wrong = n < 0 ? vq->error : blk_request_parse(&w->req);
	if (wrong) {
		virtio_dev_broken(&blk->dev, wrong);
		return -EPROTO;
	}
	w->busy = true;
	blk->nbusy++;
	return 1;
}

static bool more_waiting(struct blk *blk)
{
	return blk->redone < blk->nredo || vq_enable_kicks(&blk->dev.queues[0]);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static uint64_t bytes_of(const struct blk_request *req)
{
	return req->type == VIRTIO_BLK_T_IN || req->type == VIRTIO_BLK_T_OUT ? req->len : 0;
}

/*
 * Waits until the limits let the request pass; false: the disk is reset or freed first. Nothing passes while the
 * device is paused: what the clone will do is not done here as well. (L), dropped while it waits.
 */
static bool wait_for_limit(struct worker *w, uint64_t at)
{
	struct blk *blk = w->blk;
	struct virtio_dev *dev = &blk->dev;
	uint64_t began = now_ns();

	blk->throttled = true;
	counters_add(&blk->counted->throttled, 1);
	while (at && !blk->dropping && !blk->stopping) {
		const struct timespec until = { .tv_sec = (time_t)(at / 1000000000U),
						.tv_nsec = (long)(at % 1000000000U) };

		if (dev->paused)
			(void)pthread_cond_wait(&blk->resumed, &dev->lock);
		else
			(void)pthread_cond_clockwait(&blk->resumed, &dev->lock, CLOCK_MONOTONIC, &until);
		if (!dev->paused)
			at = ratelimit_take(&blk->limit, bytes_of(&w->req), now_ns());
	}
	blk->throttled = false;
	counters_add(&blk->counted->throttled_ns, now_ns() - began);
	return !at;
}

/* Serves the queue until it is empty. (L), dropped while a request is done. */
static void serve(struct worker *w)
{
	struct blk *blk = w->blk;
	struct virtio_dev *dev = &blk->dev;
	uint64_t began = 0, now; /* a request's end is the next one's beginning: one look at the clock for each */
	unsigned unsignalled = 0;

	while (dev->live && !blk->stopping && !blk->throttled && take(w) > 0) {
		bool done;

		vq_disable_kicks(&dev->queues[0]);
		if (!began)
			began = now_ns();
		if (ratelimit_on(&blk->limit)) {
			uint64_t at = ratelimit_take(&blk->limit, bytes_of(&w->req), now_ns());

			if (at && unsignalled) {
				virtio_dev_used(dev, 0);
				unsignalled = 0;
			}
			if (at && !wait_for_limit(w, at)) {
				complete(w); /* unpushed: there is nobody any more */
				break;
			}
		}
		(void)pthread_mutex_unlock(&dev->lock);
		done = blk_request_try(&blk->disk, &w->req);
		(void)pthread_mutex_lock(&dev->lock);
		if (!done) {
			/* This may take long: what was finished is announced, what waits finds another thread. */
			if (unsignalled && dev->live)
				virtio_dev_used(dev, 0);
			unsignalled = IRQ_BATCH;
			if (blk->nidle && dev->live && more_waiting(blk))
				wake_one(blk);
			(void)pthread_mutex_unlock(&dev->lock);
			blk_request_run(&blk->disk, &w->req);
			(void)pthread_mutex_lock(&dev->lock);
			if (w->req.zeroed && ratelimit_on(&blk->limit))
				ratelimit_charge(&blk->limit, w->req.zeroed, now_ns());
		}
		now = now_ns();
		w->took_ns = now - began;
		began = now;
		complete(w);
		if (++unsignalled >= IRQ_BATCH && dev->live) {
			virtio_dev_used(dev, 0);
			unsignalled = 0;
		}
	}
	if (unsignalled && dev->live)
		virtio_dev_used(dev, 0);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct blk *blk = w->blk;
	struct epoll_event event;

	(void)pthread_setname_np(pthread_self(), w->name); /* by prctl: there is no /proc in the jail */
	if (jail_enter_thread(JAIL_FILTER_DISK) < 0)
		abort(); /* the kernel took this very program for the first thread: it cannot fail but by our own bug */
	(void)pthread_mutex_lock(&blk->dev.lock);
	while (!blk->stopping) {
		serve(w);
		/* A kick for myself rather than a loop under the lock: a guest may change the index as fast as we look. */
		if (blk->dev.live && !blk->throttled && more_waiting(blk))
			wake_one(blk);
		blk->nidle++;
		(void)pthread_mutex_unlock(&blk->dev.lock);
		(void)epoll_wait(blk->epoll_fd, &event, 1, -1); /* EINTR only makes us look once too often */
		(void)pthread_mutex_lock(&blk->dev.lock);
		blk->nidle--;
		counters_add(&blk->dev.counted->kicks, 1);
	}
	(void)pthread_mutex_unlock(&blk->dev.lock);
	wake_one(blk); /* the next sleeper ends too */
	return NULL;
}

static void blk_kick(struct virtio_dev *dev, unsigned queue)
{
	(void)queue;
	(void)pthread_cond_broadcast(&blk_of(dev)->resumed);
	wake_one(blk_of(dev));
}

static int blk_activate(struct virtio_dev *dev)
{
	struct blk *blk = blk_of(dev);

	/* §5.2.6.2: a driver that knows no FLUSH gets a disk whose writes are durable when they complete. */
	blk->disk.writethrough = !(dev->acked & 1ULL << VIRTIO_BLK_F_FLUSH);
	wake_one(blk);
	return 0;
}

static void blk_reset(struct virtio_dev *dev)
{
	struct blk *blk = blk_of(dev);

	/* The driver will not hear of what is in flight (§2.4): a vCPU waits here for one host call each, no longer. */
	blk->dropping = true;
	atomic_store_explicit(&blk->disk.stop, true, memory_order_relaxed);
	(void)pthread_cond_broadcast(&blk->resumed);
	while (blk->nbusy)
		(void)pthread_cond_wait(&blk->quiet, &dev->lock);
	blk->dropping = false;
	atomic_store_explicit(&blk->disk.stop, false, memory_order_relaxed);
	blk->nredo = blk->redone = 0;
}

void virtio_blk_limit(struct virtio_dev *dev, uint64_t iops, uint64_t bps)
{
	struct blk *blk = blk_of(dev);

	(void)pthread_mutex_lock(&dev->lock);
	if (iops != BLK_LIMIT_KEEP)
		ratelimit_set(&blk->limit.ops, iops, now_ns());
	if (bps != BLK_LIMIT_KEEP)
		ratelimit_set(&blk->limit.bytes, bps, now_ns());
	(void)pthread_cond_broadcast(&blk->resumed);
	(void)pthread_mutex_unlock(&dev->lock);
}

void virtio_blk_count(struct virtio_dev *dev, struct counters_disk *counters, struct counters_latency *latency)
{
	(void)pthread_mutex_lock(&dev->lock);
	blk_of(dev)->counted = counters;
	blk_of(dev)->timed = latency;
	dev->counted = &counters->queues;
	(void)pthread_mutex_unlock(&dev->lock);
}

static void blk_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	memcpy(data, (const uint8_t *)&blk_of(dev)->config + offset, len);
}

/*
 * A request in flight is saved as its head and done again by the clone: its buffers belong to the
 * device until it is pushed, and reading, writing, zeroing or flushing twice equals doing so once.
 */
static void blk_save(struct virtio_dev *dev, struct state_writer *w)
{
	struct blk *blk = blk_of(dev);

	state_put_u16(w, SAVE_VERSION);
	state_put_u64(w, blk->disk.sectors);
	(void)pthread_mutex_lock(&blk->disk.flush_lock);
	state_put_u16(w, blk->disk.flush_failed);
	(void)pthread_mutex_unlock(&blk->disk.flush_lock);
	state_put_u16(w, (uint16_t)(blk->nbusy + blk->nredo - blk->redone));
	for (unsigned i = 0; i < blk->nthreads; i++)
		if (blk->workers[i].busy)
			state_put_u16(w, blk->workers[i].req.chain.head);
	for (unsigned i = blk->redone; i < blk->nredo; i++)
		state_put_u16(w, blk->redo[i]);
}

static int blk_restore(struct virtio_dev *dev, struct state_reader *r)
{
	struct blk *blk = blk_of(dev);
	const struct virtqueue *vq = &dev->queues[0];
	uint16_t version = state_get_u16(r);
	uint64_t sectors = state_get_u64(r);
	uint16_t flush_failed = state_get_u16(r);
	uint16_t n = state_get_u16(r);
	bool seen[QUEUE_SIZE] = { false };

	/* a disk of another size is another disk */
	if (!state_ok(r) || version != SAVE_VERSION || sectors != blk->disk.sectors || flush_failed > 1)
		return -EINVAL;
	/* Every buffer popped and not pushed is accounted for, unless the device had broken or failed and dropped some. */
	if (n > vq->size || (vq->avail && n != (uint16_t)(vq->avail_next - vq->used_next)))
		return -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		uint16_t head = state_get_u16(r);

		if (!state_ok(r) || head >= vq->size || seen[head])
			return -EINVAL;
		seen[head] = true;
		blk->redo[i] = head;
	}
	blk->nredo = n;
	blk->redone = 0;
	blk->disk.flush_failed = flush_failed;
	return 0;
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *blk = blk_of(dev);

	(void)pthread_mutex_lock(&dev->lock);
	blk->stopping = true;
	atomic_store_explicit(&blk->disk.stop, true, memory_order_relaxed);
	(void)pthread_cond_broadcast(&blk->resumed);
	(void)pthread_mutex_unlock(&dev->lock);
	wake_one(blk);
	for (unsigned i = 0; i < blk->nthreads; i++)
		(void)pthread_join(blk->workers[i].thread, NULL);
	cleanup_fd(&blk->disk.fd);
	cleanup_fd(&blk->disk.direct_fd);
	cleanup_fd(&blk->epoll_fd);
	(void)pthread_cond_destroy(&blk->quiet);
	(void)pthread_cond_destroy(&blk->resumed);
	(void)pthread_mutex_destroy(&blk->disk.flush_lock);
	virtio_dev_fini(dev);
	free(blk);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.device_id = VIRTIO_ID_BLOCK,
	.nqueues = 1,
	.queue_size = QUEUE_SIZE,
	.own_kicks = true,
	.config_read = blk_config_read,
	.config_size = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
	.activate = blk_activate,
	.reset = blk_reset,
	.kick = blk_kick,
	.save = blk_save,
	.restore = blk_restore,
	.free = blk_free,
};

static int open_kicks(struct blk *blk)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	/* Its counter is never read: each write is an edge of its own, and 2^64 kicks do not come. */
	blk->dev.kick_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (blk->dev.kick_fds[0] < 0)
		return -errno;
	blk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (blk->epoll_fd < 0)
		return -errno;
	return epoll_ctl(blk->epoll_fd, EPOLL_CTL_ADD, blk->dev.kick_fds[0], &event) < 0 ? -errno : 0;
}

static int start_threads(struct blk *blk)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	err = pthread_attr_setstacksize(&attr, THREAD_STACK);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited: signals are the main thread's */
	while (!err && blk->nthreads < VIRTIO_BLK_THREADS) {
		struct worker *w = &blk->workers[blk->nthreads];

		w->blk = blk;
		(void)snprintf(w->name, sizeof(w->name), "%.11s-%u", blk->dev.name, blk->nthreads);
		err = pthread_create(&w->thread, &attr, worker_main, w);
		if (!err)
			blk->nthreads++;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return -err;
}

static void offer(struct blk *blk)
{
	struct virtio_blk_config *config = &blk->config;

	blk->dev.features |= 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE;
	config->capacity = htole64(blk->disk.sectors);
	config->seg_max = htole32(BLK_SEG_MAX);
	config->blk_size = htole32(BLK_SECTOR);
	if (blk->disk.read_only) {
		blk->dev.features |= 1ULL << VIRTIO_BLK_F_RO;
		return;
	}
	blk->dev.features |=
		1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	config->max_discard_sectors = htole32(BLK_DISCARD_SECTORS);
	config->max_discard_seg = htole32(BLK_DISCARD_SEGS);
	config->discard_sector_alignment = htole32(1);
	config->max_write_zeroes_sectors = htole32(BLK_ZEROES_SECTORS);
	config->max_write_zeroes_seg = htole32(BLK_ZEROES_SEGS);
	config->write_zeroes_may_unmap = 1;
}

/* The second descriptor must be the same file, opened alike but for O_DIRECT. */
static int inspect_direct(const struct blk_disk *disk, const struct stat *st, int flags)
{
	int direct_flags = fcntl(disk->direct_fd, F_GETFL);
	struct stat direct;

	if (direct_flags < 0 || fstat(disk->direct_fd, &direct) < 0)
		return -errno;
	if (direct.st_dev != st->st_dev || direct.st_ino != st->st_ino || !(direct_flags & O_DIRECT) ||
	    (direct_flags & O_ACCMODE) != (flags & O_ACCMODE))
		return -EINVAL;
	return 0;
}

/* What the descriptor can do; -EINVAL when it is not what the configuration says it is. */
static int inspect(struct blk_disk *disk, uint64_t size)
{
	struct stat st;
	int flags, err;

	if (disk->io != &blk_host_io)
		return 0;
	flags = fcntl(disk->fd, F_GETFL);
	if (flags < 0 || fstat(disk->fd, &st) < 0)
		return -errno;
	if (disk->read_only && (flags & O_ACCMODE) != O_RDONLY)
		return -EINVAL; /* read-only in the host's open flags too, not by our word alone */
	if (!disk->read_only && (flags & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size < size)
		return -EINVAL;
	err = disk->direct_fd >= 0 ? inspect_direct(disk, &st, flags) : 0;
	if (err)
		return err;
	disk->nowait = !(flags & O_DIRECT); /* without a page cache there is nothing to find in it */
	return 0;
}

int virtio_blk_new_io(const struct vmm_disk *disk, const struct blk_io_ops *io, void *io_arg, const char *name,
		      const struct guestmem *gm, struct loop *loop, struct virtio_dev **ret_dev)
{
	struct blk *blk;
	int err;

	if (disk->size % BLK_SECTOR || disk->size > (uint64_t)INT64_MAX || (disk->flags & ~(uint32_t)VMM_DISK_ALL))
		return -EINVAL;
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return -ENOMEM;
	err = virtio_dev_init(&blk->dev, &blk_ops, name, gm, loop);
	if (err) {
		free(blk);
		return err;
	}
	(void)pthread_mutex_init(&blk->disk.flush_lock, NULL);
	(void)pthread_cond_init(&blk->resumed, NULL);
	(void)pthread_cond_init(&blk->quiet, NULL);
	blk->counted = &blk->uncounted;
	blk->timed = &blk->untimed;
	blk->epoll_fd = -1;
	blk->disk.io = io;
	blk->disk.io_arg = io_arg;
	blk->disk.fd = disk->fd;
	blk->disk.direct_fd = disk->direct_fd ? disk->direct_fd : -1;
	blk->disk.read_only = disk->flags & VMM_DISK_RO;
	blk->disk.sectors = disk->size / BLK_SECTOR;
	memcpy(blk->disk.id, disk->id, sizeof(blk->disk.id));
	blk->limit.ops.rate = disk->iops;
	blk->limit.bytes.rate = disk->bps;
	blk->disk.nowait = true;
	blk->disk.can_punch = blk->disk.can_zero_range = true;
	err = inspect(&blk->disk, disk->size);
	if (!err)
		err = open_kicks(blk);
	if (!err) {
		offer(blk);
		err = start_threads(blk);
	}
	if (err) {
		blk->disk.fd = blk->disk.direct_fd = -1; /* stay the caller's */
		blk_free(&blk->dev);
		return err;
	}
	*ret_dev = &blk->dev;
	return 0;
}

int virtio_blk_new(const struct vmm_disk *disk, const char *name, const struct guestmem *gm, struct loop *loop,
		   struct virtio_dev **ret_dev)
{
	return virtio_blk_new_io(disk, &blk_host_io, NULL, name, gm, loop, ret_dev);
}
