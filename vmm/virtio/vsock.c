/*
 * virtio-vsock (virtio 1.2 §5.10), stream sockets: the device.
 *
 * Host calls, all on the I/O thread and on sockets that are non-blocking already: readv, writev,
 * shutdown, close, fcntl(F_GETFL); read and write of an eventfd; epoll_ctl through the loop.
 * vCPU threads (activate, reset): write of an eventfd. SIGPIPE is ignored by the process.
 */
#include "virtio/vsock.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define F_STREAM     0 /* feature bit, virtio 1.2 §5.10.3 */
#define TX_PACKETS   256U /* per wake-up */
#define SAVE_VERSION 1U

void vsock_schedule(struct vsock *vs)
{
	(void)eventfd_write(vs->work.fd, 1); /* EAGAIN: counted to the brim, the wake-up is due anyway */
}

static void close_all(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->fresh; i++)
		if (vs->conns[i].state != VSOCK_FREE)
			vsock_conn_close(&vs->conns[i], false);
	vs->nrsts = 0;
	vs->nstash = 0;
}

void vsock_fail(struct vsock *vs, const char *reason)
{
	if (vs->no_io)
		return; /* being reset: that ends all of it */
	virtio_dev_broken(&vs->dev, reason);
	close_all(vs);
}

/* virtio 1.2 §5.10.6.6: the guest learns that every connection of the snapshot is gone. */
static void send_event(struct vsock *vs)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_EVENT];
	const struct virtio_vsock_event event = { .id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) };
	struct vq_chain *chain = &vs->chain;
	int r;

	if (!vs->event_due || !vs->dev.live)
		return;
	r = vq_pop(vq, chain);
	if (r == 0 && vq_enable_kicks(vq))
		r = vq_pop(vq, chain);
	if (r == 0)
		return; /* its driver has not given a buffer yet: the kick brings us back */
	if (r < 0 || chain->nread || chain->write_len < sizeof(event)) {
		vsock_fail(vs, r < 0 ? vq->error : "event buffer that holds no event");
		return;
	}
	for (size_t i = 0, done = 0; done < sizeof(event); i++) {
		size_t left = sizeof(event) - done;
		size_t n = chain->iov[i].iov_len < left ? chain->iov[i].iov_len : left;

		memcpy(chain->iov[i].iov_base, (const uint8_t *)&event + done, n);
		done += n;
	}
	vq_push(vq, chain->head, sizeof(event));
	vs->event_due = false;
	virtio_dev_used(&vs->dev, VSOCK_EVENT);
}

static void run(struct vsock *vs)
{
	if (vsock_tx_run(vs, TX_PACKETS))
		vsock_schedule(vs);
	vsock_rx_run(vs);
}

static void on_work(struct loop_source *source, uint32_t events)
{
	struct vsock *vs = source->arg;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(source->fd, &count); /* EAGAIN: nothing lost, all queues are looked at */
	(void)pthread_mutex_lock(&vs->dev.lock);
	vsock_conn_reap(vs);
	if (vs->dev.live) {
		send_event(vs);
		run(vs);
	}
	(void)pthread_mutex_unlock(&vs->dev.lock);
}

static void vsock_kick(struct virtio_dev *dev, unsigned queue)
{
	struct vsock *vs = vsock_of(dev);

	if (queue == VSOCK_EVENT) {
		send_event(vs);
	} else if (queue == VSOCK_TX) {
		run(vs);
	} else {
		vq_disable_kicks(&dev->queues[VSOCK_RX]); /* until we starve again */
		vsock_rx_run(vs);
	}
}

static void vsock_config_read(struct virtio_dev *dev, uint32_t offset, void *data, unsigned len)
{
	struct le64 cid = le64_of(vsock_of(dev)->guest_cid);

	memcpy(data, (const uint8_t *)&cid + offset, len);
}

static int vsock_activate(struct virtio_dev *dev)
{
	struct vsock *vs = vsock_of(dev);
	int err = vsock_rx_take_up(vs);

	if (err)
		return err;
	vs->active = true;
	vsock_schedule(vs);
	return 0;
}

/*
 * On a vCPU thread. What the guest sent before, it sent: Linux resets its devices when it powers
 * off, perhaps before the I/O thread saw the last kick. So the transmit queue is emptied into the
 * buffers, whose room was reserved with the credit, and the I/O thread writes and closes.
 */
static void vsock_reset(struct virtio_dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	vs->no_io = true;
	if (vs->active && !dev->broken)
		(void)vsock_tx_run(vs, VQ_SIZE_MAX);
	close_all(vs);
	vs->no_io = false;
	vs->active = vs->event_due = false;
	vs->nrestored = 0;
	vsock_schedule(vs);
}

/* Receive buffers at hand are all that is popped and not pushed; connections do not survive (TRANSPORT_RESET). */
static void vsock_save(struct virtio_dev *dev, struct state_writer *w)
{
	const struct vsock *vs = vsock_of(dev);

	state_put_u16(w, SAVE_VERSION);
	state_put_u16(w, vs->active);
	state_put_u32(w, vs->next_port);
	state_put_u32(w, vs->nstash);
	for (unsigned i = 0; i < vs->nstash; i++)
		state_put_u16(w, vs->stash[i].head);
}

static int vsock_restore(struct virtio_dev *dev, struct state_reader *r)
{
	struct vsock *vs = vsock_of(dev);
	const struct virtqueue *q = dev->queues;
	uint16_t version = state_get_u16(r);
	uint16_t active = state_get_u16(r);
	uint32_t next_port = state_get_u32(r);
	uint32_t nstash = state_get_u32(r);

	if (!state_ok(r) || version != SAVE_VERSION || active > 1 || nstash > VSOCK_STASH)
		return -EINVAL;
	/* What the queues miss is what we hold, no more and no less. */
	if ((uint16_t)(q[VSOCK_RX].avail_next - q[VSOCK_RX].used_next) != nstash ||
	    q[VSOCK_TX].avail_next != q[VSOCK_TX].used_next || q[VSOCK_EVENT].avail_next != q[VSOCK_EVENT].used_next)
		return -EINVAL;
	for (unsigned i = 0; i < nstash; i++)
		vs->restored[i] = state_get_u16(r);
	if (!state_ok(r))
		return -EINVAL;
	vs->nrestored = nstash;
	/* The guest still holds sockets of the old connections: new ones must not meet their ports. */
	vs->next_port = next_port;
	vs->event_due = active;
	return 0;
}

static void vsock_free(struct virtio_dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	vsock_conn_discard_all(vs);
	if (vs->work.fd >= 0) {
		loop_remove(dev->loop, &vs->work);
		(void)close(vs->work.fd);
	}
	virtio_dev_fini(dev);
	free(vs->conns);
	free(vs->pool.bytes);
	free(vs);
}

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.nqueues = 3,
	.queue_size = 256,
	.config_read = vsock_config_read,
	.config_size = sizeof(struct virtio_vsock_config),
	.activate = vsock_activate,
	.reset = vsock_reset,
	.kick = vsock_kick,
	.save = vsock_save,
	.restore = vsock_restore,
	.free = vsock_free,
};

int virtio_vsock_new(uint64_t guest_cid, struct vsock_broker broker, const struct guestmem *gm, struct loop *loop,
		     struct virtio_dev **ret_dev)
{
	struct vsock *vs;
	int err;

	/* virtio 1.2 §5.10.4: 0, 1, 2 and all ones are taken, the upper half is zero */
	if (guest_cid <= VSOCK_CID_HOST || guest_cid >= UINT32_MAX || !broker.dial)
		return -EINVAL;
	vs = calloc(1, sizeof(*vs));
	if (!vs)
		return -ENOMEM;
	err = virtio_dev_init(&vs->dev, &vsock_ops, "vsock0", gm, loop);
	if (err) {
		free(vs);
		return err;
	}
	vs->dev.features |= 1ULL << F_STREAM;
	vs->guest_cid = guest_cid;
	vs->counted = &vs->uncounted;
	vs->published = &vs->unpublished;
	vs->broker = broker;
	vs->next_port = VSOCK_PORT_HOST;
	vs->extra_free = VSOCK_EXTRA;
	TAILQ_INIT(&vs->ready);
	vs->work = (struct loop_source){ .fd = -1, .events = EPOLLIN, .on_event = on_work, .arg = vs };
	/* Large and untouched: pages come with use, so three connections cost three connections. */
	vs->conns = calloc(VSOCK_CONNS_MAX, sizeof(*vs->conns));
	vs->pool.bytes = malloc((size_t)VSOCK_CHUNKS * VSOCK_CHUNK);
	if (!vs->conns || !vs->pool.bytes) {
		err = -ENOMEM;
		goto fail;
	}
	vs->work.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vs->work.fd < 0) {
		err = -errno;
		goto fail;
	}
	err = loop_add(loop, &vs->work);
	if (err)
		goto fail;
	*ret_dev = &vs->dev;
	return 0;
fail:
	vsock_free(&vs->dev);
	return err;
}

void virtio_vsock_dialled(struct virtio_dev *dev, uint32_t dial, int fd)
{
	struct vsock *vs = vsock_of(dev);
	struct vsock_conn *conn = NULL;

	(void)pthread_mutex_lock(&dev->lock);
	for (unsigned i = 0; i < CONTROL_DIALS_MAX; i++) {
		if (vs->dials[i].busy && vs->dials[i].id == dial) {
			conn = vs->dials[i].conn;
			vs->dials[i] = (struct vsock_dial){ 0 };
		}
	}
	if (!conn) {
		if (fd >= 0)
			(void)close(fd); /* the guest gave up meanwhile */
	} else if (fd < 0) {
		counters_add(&vs->counted->refused, 1);
		vsock_conn_close(conn, true);
	} else if (vsock_conn_attach(conn, fd)) {
		vsock_warn(vs, "port %u refused: its socket is unusable", conn->host_port);
		vsock_conn_close(conn, true);
	} else {
		vsock_conn_open(conn);
		vsock_conn_want(conn, VSOCK_WANT_RESPONSE);
	}
	vsock_rx_run(vs);
	(void)pthread_mutex_unlock(&dev->lock);
}

void virtio_vsock_count(struct virtio_dev *dev, struct counters_vsock *counters, struct counters_publish *publish)
{
	(void)pthread_mutex_lock(&dev->lock);
	vsock_of(dev)->counted = counters;
	vsock_of(dev)->published = publish;
	dev->counted = &counters->queues;
	(void)pthread_mutex_unlock(&dev->lock);
}

/* A port of ours that has no connection to the guest's `port` yet. */
static uint32_t free_port(struct vsock *vs, uint32_t port)
{
	uint32_t ours;

	do {
		ours = VSOCK_PORT_HOST | vs->next_port++;
		/* all ones is VMADDR_PORT_ANY; of VSOCK_CONNS_MAX + 2 neighbours one is free */
	} while (ours == UINT32_MAX || vsock_conn_find(vs, port, ours));
	return ours;
}

int virtio_vsock_connect(struct virtio_dev *dev, uint32_t id, uint32_t port, int fd)
{
	struct vsock *vs = vsock_of(dev);
	struct vsock_conn *conn;
	int err = -ENOTCONN;

	(void)pthread_mutex_lock(&dev->lock);
	if (!vs->active || dev->broken)
		goto refuse;
	err = -EMFILE;
	conn = vsock_conn_new(vs, port, free_port(vs, port), VSOCK_CONNECTING);
	if (!conn)
		goto refuse;
	err = vsock_conn_attach(conn, fd);
	if (err) {
		vsock_conn_close(conn, false);
	} else {
		conn->published = true;
		conn->id = id;
		vsock_conn_want(conn, VSOCK_WANT_REQUEST);
		vsock_rx_run(vs);
	}
	(void)pthread_mutex_unlock(&dev->lock);
	return err;
refuse:
	counters_add(&vs->published->refused, 1);
	(void)pthread_mutex_unlock(&dev->lock);
	(void)close(fd);
	return err;
}

uint64_t virtio_vsock_pending(struct virtio_dev *dev)
{
	struct vsock *vs = vsock_of(dev);
	uint64_t pending;

	(void)pthread_mutex_lock(&dev->lock);
	vsock_conn_reap(vs);
	if (dev->live)
		run(vs);
	pending = vs->buffered + (vs->tx_more ? 1 : 0);
	(void)pthread_mutex_unlock(&dev->lock);
	return pending;
}

uint64_t virtio_vsock_give_up(struct virtio_dev *dev, uint32_t first, uint32_t last)
{
	struct vsock *vs = vsock_of(dev);
	uint64_t before, lost;

	(void)pthread_mutex_lock(&dev->lock);
	before = vs->buffered;
	vsock_conn_give_up(vs, first, last);
	lost = before - vs->buffered;
	(void)pthread_mutex_unlock(&dev->lock);
	return lost;
}
