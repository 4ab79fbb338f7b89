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

/* Sends the chain's packet, or drops it; false: the end is full, and nothing was done. */
static bool send_packet(struct net *net)
{
	size_t copied = copy_head(&net->chain, &net->head, sizeof(net->head));
	size_t len = net->chain.read_len - sizeof(struct net_hdr);
	enum net_drop why;
	int err;

	why = net_frame_check(&net->rules, net->head.frame, copied - sizeof(struct net_hdr), len);
	if (why == NET_PASSED)
		why = net_offload_check(&net->head.hdr, net->dev.acked, len, net->rules.mtu);
	if (why != NET_PASSED) {
		count_drop(net, why);
		return true;
	}
	net->head.hdr.num_buffers = le16_of(0);
	err = net->end->send(net, net->iov, gather(net, copied), len);
	if (err == -EAGAIN)
		return false;
	if (err) {
		count_drop(net, NET_DROP_HOST);
		if (err == -EPIPE || err == -ECONNRESET)
			net_link_down(net, "its socket is closed");
		return true;
	}
	counters_add(&net->counted->tx_packets, 1);
	counters_add(&net->counted->tx_bytes, len);
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

/* Whether the limits let the packet just popped pass; else it is put back, for later. */
static bool within_limits(struct net *net)
{
	uint64_t at;

	if (!ratelimit_on(&net->tx_limit))
		return true;
	at = ratelimit_take(&net->tx_limit, net->chain.read_len, net_now());
	if (!at)
		return true;
	vq_unpop(&net->dev.queues[NET_TX]);
	net_wait_until(net, at);
	return false;
}

void net_tx_run(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_TX];
	size_t bytes = 0;
	unsigned packets = 0;
	bool pushed = false;

	vq_disable_kicks(vq);
	while (net->dev.live && net->ready && !net->full) {
		const char *reason;
		int popped;

		if (packets++ == NET_RUN || bytes >= NET_RUN_BYTES) {
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
		if (!within_limits(net))
			break;
		if (net->link && !send_packet(net)) {
			net->full = true;
			vq_unpop(vq);
			break;
		}
		bytes += net->chain.read_len;
		vq_push(vq, net->chain.head, 0);
		pushed = true;
	}
	if (pushed && net->dev.live)
		virtio_dev_used(&net->dev, NET_TX);
}
