/*
 * virtio-net (virtio 1.2 §5.1): the device.
 *
 * Host calls, all on the I/O thread: readv, writev, read and write of the end's descriptor, ioctl(TUNSETOFFLOAD) of a
 * tap; writev of the capture's socket; read and write of an eventfd, timerfd_settime; epoll_ctl through the loop. vCPU threads (activate, reset):
 * write of an eventfd.
 */
#include "virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SAVE_VERSION 2U
#define NS           1000000000U

struct net_config { /* §5.1.4 */
	uint8_t mac[6];
	struct le16 status;
	struct le16 max_virtqueue_pairs;
	struct le16 mtu;
};

_Static_assert(sizeof(struct net_config) == 12, "virtio 1.2 §5.1.4");

void net_schedule(struct net *net)
{
	(void)eventfd_write(net->work.fd, 1); /* EAGAIN: counted to the brim, the wake-up is due anyway */
}

uint64_t net_now(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

void net_wait_until(struct net *net, uint64_t at_ns)
{
	const struct itimerspec at = {
		.it_value = { .tv_sec = (time_t)(at_ns / NS), .tv_nsec = (long)(at_ns % NS) },
	};

	/* One timer for two directions: the earlier counts, the later is set when it is looked at again. */
	if (net->timer_ns && net->timer_ns <= at_ns)
		return;
	net->timer_ns = at_ns;
	(void)timerfd_settime(net->timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

void net_link_down(struct net *net, const char *reason)
{
	if (!net->link)
		return;
	net->link = net->readable = net->full = false;
	log_warn("%s: the link is down: %s", net->dev.name, reason);
	loop_remove(net->dev.loop, &net->host);
	if (net->dev.notify_config)
		net->dev.notify_config(&net->dev);
	net_schedule(net); /* what the guest sends now is lost, and its buffers are given back */
}

static void run(struct net *net)
{
	if (net->active && !net->ready && net->dev.live) {
		if (net->link)
			net->end->negotiated(net);
		net->ready = true;
	}
	net_ctrl_run(net);
	net_tx_run(net);
	net_rx_run(net);
}

static void on_host(struct loop_source *source, uint32_t events)
{
	struct net *net = source->arg;

	(void)pthread_mutex_lock(&net->dev.lock);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		net->readable = true;
	if (events & EPOLLOUT) {
		net->full = false;
		net->end->on_writable(net);
	}
	run(net);
	(void)pthread_mutex_unlock(&net->dev.lock);
}

static void on_work(struct loop_source *source, uint32_t events)
{
	struct net *net = source->arg;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(source->fd, &count); /* EAGAIN: nothing lost, all queues are looked at */
	(void)pthread_mutex_lock(&net->dev.lock);
	run(net);
	(void)pthread_mutex_unlock(&net->dev.lock);
}

static void on_timer(struct loop_source *source, uint32_t events)
{
	struct net *net = source->arg;
	uint64_t times;

	(void)events;
	(void)!read(source->fd, &times, sizeof(times)); /* EAGAIN: it was set anew meanwhile */
	(void)pthread_mutex_lock(&net->dev.lock);
	net->timer_ns = 0;
	run(net);
	(void)pthread_mutex_unlock(&net->dev.lock);
}

static void net_kick(struct virtio_dev *dev, unsigned queue)
{
	struct net *net = net_of(dev);

	if (queue == NET_TX)
		net_tx_run(net);
	else if (queue == NET_RX)
		net_rx_run(net);
	else
		net_ctrl_run(net);
}

static void net_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	const struct net *net = net_of(dev);
	struct net_config config = {
		.status = le16_of(net->link ? VIRTIO_NET_S_LINK_UP : 0),
		.max_virtqueue_pairs = le16_of(1),
		.mtu = le16_of((uint16_t)net->rules.mtu),
	};

	memcpy(config.mac, net->rules.mac, sizeof(config.mac));
	memcpy(data, (const uint8_t *)&config + offset, len);
}

static int net_activate(struct virtio_dev *dev)
{
	struct net *net = net_of(dev);
	int err = net_rx_take_up(net);

	if (err)
		return err;
	net->active = true;
	net_schedule(net);
	return 0;
}

static void net_reset(struct virtio_dev *dev)
{
	struct net *net = net_of(dev);

	net->active = net->ready = false;
	net->nstash = net->nrestored = 0;
	net->stash_bytes = net->held = 0;
	net->filter = (struct net_filter){ 0 };
}

/* Receive buffers at hand are all that is popped and not pushed. A packet that waits for room is lost, as packets may be. */
static void net_save(struct virtio_dev *dev, struct state_writer *w)
{
	const struct net *net = net_of(dev);

	state_put_u16(w, SAVE_VERSION);
	state_put_u32(w, net->nstash);
	for (unsigned i = 0; i < net->nstash; i++)
		state_put_u16(w, net->stash[(net->first + i) % NET_STASH].head);
	net_filter_save(net, w);
}

static int net_restore(struct virtio_dev *dev, struct state_reader *r)
{
	struct net *net = net_of(dev);
	const struct virtqueue *q = dev->queues;
	uint16_t version = state_get_u16(r);
	uint32_t nstash = state_get_u32(r);

	if (!state_ok(r) || version != SAVE_VERSION || nstash > NET_STASH)
		return -EINVAL;
	/* What the queues miss is what we hold, no more and no less. */
	if ((uint16_t)(q[NET_RX].avail_next - q[NET_RX].used_next) != nstash ||
	    q[NET_TX].avail_next != q[NET_TX].used_next || q[NET_CTRL].avail_next != q[NET_CTRL].used_next)
		return -EINVAL;
	for (unsigned i = 0; i < nstash; i++)
		net->restored[i] = state_get_u16(r);
	if (!state_ok(r) || net_filter_restore(net, r))
		return -EINVAL;
	net->nrestored = nstash;
	return 0;
}

static void drop_source(struct loop *loop, struct loop_source *source)
{
	if (source->fd < 0)
		return;
	loop_remove(loop, source);
	(void)close(source->fd);
}

static void net_free(struct virtio_dev *dev)
{
	struct net *net = net_of(dev);

	net->end->close(net);
	drop_source(dev->loop, &net->host);
	drop_source(dev->loop, &net->work);
	drop_source(dev->loop, &net->timer);
	virtio_dev_fini(dev);
	free(net->capture.frame);
	free(net->tail);
	free(net);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.device_id = VIRTIO_ID_NET,
	.nqueues = 3,
	.queue_size = 256,
	.config_read = net_config_read,
	.config_size = sizeof(struct net_config),
	.activate = net_activate,
	.reset = net_reset,
	.kick = net_kick,
	.save = net_save,
	.restore = net_restore,
	.free = net_free,
};

static int watch(struct net *net, struct loop_source *source, int fd, uint32_t events,
		 void (*on_event)(struct loop_source *source, uint32_t events))
{
	if (fd < 0)
		return -errno;
	*source = (struct loop_source){ .fd = fd, .events = events, .on_event = on_event, .arg = net };
	return loop_add(net->dev.loop, source);
}

/* The host's descriptor comes last: until then it is the caller's. */
static int set_up(struct net *net, int fd)
{
	int err;

	net->tail = malloc(NET_FRAME_MAX); /* untouched until a packet is larger than the buffers at hand */
	if (!net->tail)
		return -ENOMEM;
	err = watch(net, &net->work, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), EPOLLIN, on_work);
	if (!err)
		err = watch(net, &net->timer, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), EPOLLIN,
			    on_timer);
	if (err)
		return err;
	net->host.fd = fd;
	err = net->end->open(net);
	if (!err)
		err = watch(net, &net->host, fd, EPOLLIN | EPOLLOUT | (uint32_t)EPOLLET, on_host);
	if (err)
		net->host.fd = -1;
	return err;
}

int virtio_net_new(const struct vmm_net *config, const char *name, const struct guestmem *gm, struct loop *loop,
		   struct virtio_dev **ret_dev)
{
	struct net *net = calloc(1, sizeof(*net));
	uint64_t now = net_now();
	int err;

	if (!net)
		return -ENOMEM;
	err = virtio_dev_init(&net->dev, &net_ops, name, gm, loop);
	if (err) {
		free(net);
		return err;
	}
	net->end = config->flags & VMM_NET_TAP ? &net_end_tap : &net_end_stream;
	net->counted = &net->uncounted;
	net->host.fd = net->work.fd = net->timer.fd = -1;
	net->link = true;
	net->rules.mtu = config->mtu;
	memcpy(net->rules.mac, config->mac, sizeof(net->rules.mac));
	memcpy(net->rules.ip4, config->ip4, sizeof(net->rules.ip4));
	memcpy(net->rules.ip6, config->ip6, sizeof(net->rules.ip6));
	ratelimit_set(&net->tx_limit.ops, config->pps, now);
	ratelimit_set(&net->tx_limit.bytes, config->bps, now);
	net->rx_limit = net->tx_limit;
	net->dev.features |= 1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_STATUS | 1ULL << VIRTIO_NET_F_MTU |
			     1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_NET_F_CTRL_VQ |
			     1ULL << VIRTIO_NET_F_CTRL_RX;
	err = set_up(net, config->fd);
	if (err) {
		net_free(&net->dev);
		return err;
	}
	*ret_dev = &net->dev;
	return 0;
}

void virtio_net_count(struct virtio_dev *dev, struct counters_net *counters)
{
	(void)pthread_mutex_lock(&dev->lock);
	net_of(dev)->counted = counters;
	dev->counted = &counters->queues;
	(void)pthread_mutex_unlock(&dev->lock);
}

int virtio_net_capture(struct virtio_dev *dev, int fd, unsigned number, uint32_t snap)
{
	struct net *net = net_of(dev);
	uint8_t *frame = malloc(NET_FRAME_MAX);

	if (!frame)
		return -ENOMEM;
	(void)pthread_mutex_lock(&dev->lock);
	net->capture =
		(struct net_capture){ .on = true, .number = (uint8_t)number, .fd = fd, .snap = snap, .frame = frame };
	(void)pthread_mutex_unlock(&dev->lock);
	return 0;
}

void virtio_net_limit(struct virtio_dev *dev, uint64_t pps, uint64_t bps)
{
	struct net *net = net_of(dev);
	uint64_t now = net_now();

	(void)pthread_mutex_lock(&dev->lock);
	for (unsigned i = 0; i < 2; i++) {
		struct ratelimit *limit = i ? &net->rx_limit : &net->tx_limit;

		if (pps != NET_LIMIT_KEEP)
			ratelimit_set(&limit->ops, pps, now);
		if (bps != NET_LIMIT_KEEP)
			ratelimit_set(&limit->bytes, bps, now);
	}
	net->timer_ns = 0;
	run(net);
	(void)pthread_mutex_unlock(&dev->lock);
}
