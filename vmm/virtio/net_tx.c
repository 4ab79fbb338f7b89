/* Packets from the guest: judged by a copy of their first bytes, sent by one call each. */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/net.h"

/* Copies the chain's first bytes out; how many there were room for. */
static size_t copy_head(const struct vq_chain *chain, void *dst, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < chain->nread && done < len; i++) {
		size_t n = chain->iov[i].iov_len < len - done ? chain->iov[i].iov_len : len - done;

		memcpy((uint8_t *)dst + done, chain->iov[i].iov_base, n);
		done += n;
	}
	/* What is judged is what was copied: nothing is fetched again. */
	__asm__ volatile("" ::: "memory");
	return done;
}

/* The copy, and behind it the rest where it lies. */
static unsigned gather(struct net *net, size_t copied)
{
	const struct vq_chain *chain = &net->chain;
	size_t skip = copied;
	unsigned n = 0;

	if (net->capture.on)
		return net_capture_gather(net, copied);
	net->iov[n++] = (struct iovec){ &net->head.hdr, sizeof(net->head.hdr) };
	net->iov[n++] = (struct iovec){ net->head.frame, copied - sizeof(net->head.hdr) };
	for (unsigned i = 0; i < chain->nread; i++) {
		size_t past = skip < chain->iov[i].iov_len ? skip : chain->iov[i].iov_len;

		skip -= past;
		if (past < chain->iov[i].iov_len)
			net->iov[n++] = (struct iovec){ (uint8_t *)chain->iov[i].iov_base + past,
							chain->iov[i].iov_len - past };
	}
	return n;
}

static void count_drop(struct net *net, enum net_drop why)
{
	counters_add(&net->counted->drops[why - 1], 1);
	counters_add(&net->counted->tx_dropped, 1);
	net_warn(net, "a packet of the guest's was dropped: %s", net_drop_name(why));
}

/* A packet that was judged: its first bytes are in net->head. */
struct packet {
	size_t copied, len; /* with the offload header; of the frame */
	unsigned segments;
};

/* Whether it may leave, by a copy of its first bytes. */
static enum net_drop judge(struct net *net, struct packet *packet)
{
	struct net_transport transport;
	enum net_drop why;

	packet->copied = copy_head(&net->chain, &net->head, sizeof(net->head));
	packet->len = net->chain.read_len - sizeof(struct net_hdr);
	packet->segments = 1;
	why = net_frame_check(&net->rules, net->head.frame, packet->copied - sizeof(struct net_hdr), packet->len,
			      &transport);
	return why != NET_PASSED ? why
				 : net_offload_check(&net->head.hdr, net->dev.acked, packet->len, &transport,
						     net->rules.mtu, &packet->segments);
}

/* Sends a packet that may leave; false: the end is full, and nothing was done. */
static bool send_packet(struct net *net, const struct packet *packet)
{
	int err;

	net->head.hdr.num_buffers = le16_of(0);
	err = net->end->send(net, net->iov, gather(net, packet->copied), packet->len);
	if (err == -EAGAIN)
		return false;
	if (err) {
		count_drop(net, NET_DROP_HOST);
		if (err == -EPIPE || err == -ECONNRESET)
			net_link_down(net, "its socket is closed");
		return true;
	}
	counters_add(&net->counted->tx_packets, 1);
	counters_add(&net->counted->tx_bytes, packet->len);
	if (net->capture.on)
		net_capture_frame(net, net->capture.frame, packet->len, false);
	return true;
}

static const char *malformed(const struct net *net, int popped)
{
	if (popped < 0)
		return net->dev.queues[NET_TX].error;
	if (net->chain.nwrite)
		return "a transmit buffer that the device is to write";
	return net->chain.read_len < sizeof(struct net_hdr) ? "a packet shorter than its header" : NULL;
}

/* What it is to the limits and to our own: each segment is a packet, with headers of its own. */
static size_t weight(const struct packet *packet)
{
	return packet->len + (size_t)(packet->segments - 1) * NET_HEADERS;
}

/* Whether the limits let the packet just popped pass; else it is put back, for later. */
static bool within_limits(struct net *net, const struct packet *packet)
{
	uint64_t at, now;

	if (!ratelimit_on(&net->tx_limit))
		return true;
	now = net_now();
	at = ratelimit_take(&net->tx_limit, weight(packet), now);
	if (!at) {
		ratelimit_charge_ops(&net->tx_limit, packet->segments - 1, now);
		return true;
	}
	vq_unpop(&net->dev.queues[NET_TX]);
	net_wait_until(net, at);
	return false;
}

void net_tx_run(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_TX];
	size_t bytes = 0;
	unsigned packets = 0, looks = 0;
	bool pushed = false;

	vq_disable_kicks(vq);
	while (net->dev.live && net->ready && !net->full) {
		struct packet packet = { 0 };
		const char *reason;
		enum net_drop why;
		int popped;

		if (looks++ == NET_RUN || packets >= NET_RUN || bytes >= NET_RUN_BYTES) {
			net_schedule(net); /* kicks stay off: we come back unasked */
			break;
		}
		popped = vq_pop(vq, &net->chain);
		if (!popped) {
			if (!vq_enable_kicks(vq))
				break;
			vq_disable_kicks(vq);
			continue;
		}
		reason = malformed(net, popped);
		if (reason) {
			virtio_dev_broken(&net->dev, reason);
			return;
		}
		why = judge(net, &packet);
		if (why != NET_PASSED) {
			count_drop(net, why);
		} else if (!within_limits(net, &packet)) {
			break;
		} else if (net->link && !send_packet(net, &packet)) {
			net->full = true;
			vq_unpop(vq);
			break;
		}
		packets += packet.segments;
		bytes += weight(&packet);
		vq_push(vq, net->chain.head, 0);
		pushed = true;
	}
	if (pushed && net->dev.live)
		virtio_dev_used(&net->dev, NET_TX);
}
