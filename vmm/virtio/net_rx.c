/*
 * Packets to the guest: read straight into its receive buffers. What a packet has beyond the buffers at hand is read into
 * `tail`, and follows when the guest gives more; so no packet needs to be measured first, and none is copied that fits.
 * One that is captured is read into `tail` whole: what is shown is what came, whatever the guest does to its buffers.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/net.h"

#define LOOKS 512U /* at the queue, per run */

static bool merges(const struct net *net)
{
	return net->dev.acked >> VIRTIO_NET_F_MRG_RXBUF & 1;
}

/* The `i`th receive buffer at hand; nstash: the next one's place. */
static struct net_rxbuf *stashed(struct net *net, unsigned i)
{
	return &net->stash[(net->first + i) % NET_STASH];
}

/* Takes the writable pieces of a chain over as a receive buffer; NULL or why the guest's buffer is unusable. */
static const char *stash_chain(struct net *net, const struct vq_chain *chain)
{
	struct net_rxbuf *buf = stashed(net, net->nstash);

	if (chain->nread)
		return "a receive buffer that the device may not write";
	buf->head = chain->head;
	buf->niov = 0;
	buf->len = 0;
	for (unsigned i = 0; i < chain->nwrite && buf->niov < NET_RX_IOV; i++) {
		size_t most = sizeof(struct net_hdr) + NET_FRAME_MAX - buf->len;
		size_t len = chain->iov[i].iov_len < most ? chain->iov[i].iov_len : most;

		if (!len)
			continue;
		buf->iov[buf->niov++] = (struct iovec){ chain->iov[i].iov_base, len };
		buf->len += (uint32_t)len;
	}
	if (buf->len <= sizeof(struct net_hdr))
		return "a receive buffer without room for a packet";
	net->nstash++;
	net->stash_bytes += buf->len;
	return NULL;
}

/* Whether a packet of `len` bytes has room behind its header. */
static bool has_room(const struct net *net, size_t len)
{
	return net->stash_bytes >= sizeof(struct net_hdr) + len;
}

/* Takes buffers until a packet of `len` bytes has room, or there are none; false: the device broke. Without merging one is all. */
static bool refill(struct net *net, size_t len)
{
	struct virtqueue *vq = &net->dev.queues[NET_RX];
	unsigned most = merges(net) ? NET_STASH : 1;

	for (unsigned looks = 0; !has_room(net, len) && net->nstash < most && looks < LOOKS; looks++) {
		int popped = vq_pop(vq, &net->chain);
		const char *reason;

		if (!popped) {
			if (!vq_enable_kicks(vq))
				break;
			vq_disable_kicks(vq);
			continue;
		}
		reason = popped < 0 ? vq->error : stash_chain(net, &net->chain);
		if (reason) {
			virtio_dev_broken(&net->dev, reason);
			return false;
		}
	}
	return true;
}

int net_rx_take_up(struct net *net)
{
	for (unsigned i = 0; i < net->nrestored; i++)
		if (vq_pop_head(&net->dev.queues[NET_RX], net->restored[i], &net->chain) != 1 ||
		    stash_chain(net, &net->chain))
			return -EPROTO;
	net->nrestored = 0;
	return 0;
}

/* The header's own piece, the stash's room behind the guest's header, and the tail: that alone where frames are captured. */
static unsigned gather(struct net *net, size_t *ret_room)
{
	size_t skip = sizeof(struct net_hdr);
	unsigned n = 0;

	*ret_room = 0;
	net->iov[n++] = (struct iovec){ &net->rx_hdr, sizeof(net->rx_hdr) };
	for (unsigned b = 0; b < net->nstash && !net->capture.on; b++) {
		const struct net_rxbuf *buf = stashed(net, b);

		for (unsigned i = 0; i < buf->niov && n < NET_IOV; i++) {
			size_t past = skip < buf->iov[i].iov_len ? skip : buf->iov[i].iov_len;

			skip -= past;
			if (past == buf->iov[i].iov_len)
				continue;
			net->iov[n] =
				(struct iovec){ (uint8_t *)buf->iov[i].iov_base + past, buf->iov[i].iov_len - past };
			*ret_room += net->iov[n++].iov_len;
		}
	}
	net->iov[n++] = (struct iovec){ net->tail, NET_FRAME_MAX };
	return n;
}

/* Copies bytes into the stash at `at`, counted over all of its buffers' pieces. */
static void put(struct net *net, size_t at, const void *src, size_t len)
{
	for (unsigned b = 0; b < net->nstash && len; b++) {
		const struct net_rxbuf *buf = stashed(net, b);

		if (at >= buf->len) {
			at -= buf->len;
			continue;
		}
		for (unsigned i = 0; i < buf->niov && len; i++) {
			size_t n;

			if (at >= buf->iov[i].iov_len) {
				at -= buf->iov[i].iov_len;
				continue;
			}
			n = buf->iov[i].iov_len - at < len ? buf->iov[i].iov_len - at : len;
			memcpy((uint8_t *)buf->iov[i].iov_base + at, src, n);
			src = (const uint8_t *)src + n;
			len -= n;
			at = 0;
		}
	}
}

/* The packet is in the stash whole: its header, and the buffers to the guest. */
static void deliver(struct net *net, size_t len)
{
	struct virtqueue *vq = &net->dev.queues[NET_RX];
	size_t left = sizeof(struct net_hdr) + len;
	unsigned used = 0;

	for (size_t sum = 0; sum < left; used++)
		sum += stashed(net, used)->len;
	net->rx_hdr.num_buffers = le16_of((uint16_t)used);
	net->rx_hdr.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
	put(net, 0, &net->rx_hdr, sizeof(net->rx_hdr));
	for (unsigned i = 0; i < used; i++) {
		const struct net_rxbuf *buf = stashed(net, i);
		size_t n = buf->len < left ? buf->len : left;

		vq_push(vq, buf->head, (uint32_t)n);
		net->stash_bytes -= buf->len;
		left -= n;
	}
	net->first = (net->first + used) % NET_STASH;
	net->nstash -= used;
	counters_add(&net->counted->rx_packets, 1);
	counters_add(&net->counted->rx_bytes, len);
}

/* A packet that waits for room gets it, or goes when no room will ever do. True: none waits any more. */
static bool place_held(struct net *net)
{
	if (!net->held)
		return true;
	if (!refill(net, net->held))
		return false;
	if (has_room(net, net->held)) {
		put(net, sizeof(struct net_hdr) + net->held_at, net->tail, net->held - net->held_at);
		if (net->capture.on)
			net_capture_frame(net, net->tail, net->held, true);
		deliver(net, net->held);
		net->held = 0;
		return true;
	}
	if (net->nstash < (merges(net) ? NET_STASH : 1U))
		return false;
	counters_add(&net->counted->rx_dropped, 1);
	net->held = 0;
	return true;
}

/* One packet from the end. False: there is none, or no room, or not yet. */
static bool receive(struct net *net, size_t *ret_len)
{
	size_t have;
	ssize_t n;

	if (!place_held(net) || !refill(net, NET_FRAME_MAX) || !net->nstash)
		return false;
	if (ratelimit_on(&net->rx_limit)) {
		uint64_t at = ratelimit_ready(&net->rx_limit, 1, net_now());

		if (at) {
			net_wait_until(net, at);
			return false;
		}
	}
	n = net->end->receive(net, net->iov, gather(net, &have));
	if (n == -EAGAIN) {
		net_schedule(net);
		return false;
	}
	if (n <= 0) {
		net->readable = false;
		if (n < 0)
			net_link_down(net, "its host's end is over");
		return false;
	}
	*ret_len = (size_t)n;
	if (ratelimit_on(&net->rx_limit)) { /* only now: that there was nothing costs nothing */
		uint64_t now = net_now();

		ratelimit_charge(&net->rx_limit, (size_t)n, now);
		ratelimit_charge_ops(&net->rx_limit, 1, now);
	}
	/* From before the driver came, or from an end that does not listen; then what the guest does not listen to. */
	if (n > (ssize_t)NET_FRAME_MAX || !net_offload_wanted(&net->rx_hdr, net->dev.acked)) {
		counters_add(&net->counted->rx_dropped, 1);
	} else if (net->filter.on && !net_filter_wants(net)) {
		counters_add(&net->counted->rx_filtered, 1);
	} else if ((size_t)n <= have) {
		deliver(net, (size_t)n);
	} else {
		net->held = (size_t)n;
		net->held_at = have;
	}
	return true;
}

void net_rx_run(struct net *net)
{
	size_t bytes = 0, len = 0;
	uint16_t before = net->dev.queues[NET_RX].used_next;
	unsigned packets = 0;

	vq_disable_kicks(&net->dev.queues[NET_RX]);
	while (net->dev.live && net->ready && (net->readable || net->held)) {
		if (packets++ == NET_RUN || bytes >= NET_RUN_BYTES) {
			net_schedule(net);
			break;
		}
		if (!receive(net, &len))
			break;
		bytes += len;
	}
	if (net->dev.queues[NET_RX].used_next != before && net->dev.live)
		virtio_dev_used(&net->dev, NET_RX);
}
