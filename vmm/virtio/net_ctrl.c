/*
 * The control queue (virtio 1.2 §5.1.6.5): which frames the guest wants. A command that is wrong, or of a feature that was
 * not negotiated, is answered by VIRTIO_NET_ERR and changes nothing.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/net.h"

_Static_assert(NET_MACS <= UINT8_MAX, "their numbers are bytes");

/* Copies bytes of the command out, which has at least so many. */
static void copy_at(const struct vq_chain *chain, uint64_t at, void *dst, size_t len)
{
	for (unsigned i = 0; i < chain->nread && len; i++) {
		size_t n = chain->iov[i].iov_len;

		if (at >= n) {
			at -= n;
			continue;
		}
		n = n - at < len ? n - at : len;
		memcpy(dst, (const uint8_t *)chain->iov[i].iov_base + at, n);
		dst = (uint8_t *)dst + n;
		len -= n;
		at = 0;
	}
}

/* §5.1.6.5.1: one byte, 0 or 1. */
static int set_mode(const struct vq_chain *chain, uint8_t command, struct net_filter *filter)
{
	uint8_t on = 0;

	if (chain->read_len != sizeof(struct virtio_net_ctrl_hdr) + 1)
		return -EINVAL;
	copy_at(chain, sizeof(struct virtio_net_ctrl_hdr), &on, 1);
	if (on > 1)
		return -EINVAL;
	if (command == VIRTIO_NET_CTRL_RX_PROMISC)
		filter->on = !on;
	else if (command == VIRTIO_NET_CTRL_RX_ALLMULTI)
		filter->allmulti = on;
	else
		return -EINVAL; /* those of CTRL_RX_EXTRA, which is not offered */
	return 0;
}

/* One half of the table, at *at: a number, and so many addresses. Those that have no room stand for all of their kind. */
static int read_macs(const struct vq_chain *chain, uint64_t *at, unsigned *first, uint8_t *ret_n, bool *ret_all,
		     struct net_filter *filter)
{
	struct le32 wire = { 0 };
	uint64_t n;

	if (chain->read_len - *at < sizeof(wire))
		return -EINVAL;
	copy_at(chain, *at, &wire, sizeof(wire));
	*at += sizeof(wire);
	n = le32_get(wire);
	if (n > (chain->read_len - *at) / sizeof(filter->macs[0]))
		return -EINVAL;
	*ret_all = n > NET_MACS - *first;
	*ret_n = *ret_all ? 0 : (uint8_t)n;
	copy_at(chain, *at, filter->macs[*first], *ret_n * sizeof(filter->macs[0]));
	*first += *ret_n;
	*at += n * sizeof(filter->macs[0]);
	return 0;
}

/* §5.1.6.5.2: the unicast addresses, then the multicast ones. */
static int set_table(const struct vq_chain *chain, struct net_filter *filter)
{
	uint64_t at = sizeof(struct virtio_net_ctrl_hdr);
	unsigned first = 0;
	int err = read_macs(chain, &at, &first, &filter->nunicast, &filter->all_unicast, filter);

	if (!err)
		err = read_macs(chain, &at, &first, &filter->nmulticast, &filter->all_multicast, filter);
	return !err && at != chain->read_len ? -EINVAL : err;
}

/* The command in net->chain, all of it or nothing. */
static int obey(struct net *net)
{
	struct net_filter filter = net->filter;
	struct virtio_net_ctrl_hdr hdr = { 0 };
	int err = -EINVAL;

	if (net->chain.read_len < sizeof(hdr) || !(net->dev.acked >> VIRTIO_NET_F_CTRL_RX & 1))
		return -EINVAL;
	copy_at(&net->chain, 0, &hdr, sizeof(hdr));
	if (hdr.class == VIRTIO_NET_CTRL_RX)
		err = set_mode(&net->chain, hdr.cmd, &filter);
	else if (hdr.class == VIRTIO_NET_CTRL_MAC && hdr.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET)
		err = set_table(&net->chain, &filter);
	if (!err)
		net->filter = filter;
	return err;
}

void net_ctrl_run(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_CTRL];
	bool pushed = false;

	if (!vq->avail || !(net->dev.acked >> VIRTIO_NET_F_CTRL_VQ & 1))
		return;
	vq_disable_kicks(vq);
	for (unsigned looks = 0; net->dev.live; looks++) {
		int popped;

		if (looks == NET_COMMANDS) {
			net_schedule(net);
			break;
		}
		popped = vq_pop(vq, &net->chain);
		if (!popped) {
			if (!vq_enable_kicks(vq))
				break;
			vq_disable_kicks(vq);
			continue;
		}
		if (popped < 0 || !net->chain.nwrite) {
			virtio_dev_broken(&net->dev, popped < 0 ? vq->error : "a command without room for its answer");
			return;
		}
		*(uint8_t *)net->chain.iov[net->chain.nread].iov_base = obey(net) ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
		vq_push(vq, net->chain.head, 1);
		pushed = true;
	}
	if (pushed && net->dev.live)
		virtio_dev_used(&net->dev, NET_CTRL);
}

/* An address as a number, to be compared at once. */
static uint64_t number(const uint8_t mac[6])
{
	uint64_t n = 0;

	memcpy(&n, mac, 6);
	return n;
}

static bool is_among(const uint8_t (*macs)[6], unsigned n, uint64_t mac)
{
	for (unsigned i = 0; i < n; i++)
		if (number(macs[i]) == mac)
			return true;
	return false;
}

/* Where the frame is to go, whatever pieces it begins in. The last one, the tail, has room for any. */
static uint64_t scattered_destination(const struct net *net)
{
	uint8_t mac[6];
	size_t done = 0;

	for (const struct iovec *iov = net->iov + 1; done < sizeof(mac); iov++) {
		size_t n = iov->iov_len < sizeof(mac) - done ? iov->iov_len : sizeof(mac) - done;

		memcpy(mac + done, iov->iov_base, n);
		done += n;
	}
	return number(mac);
}

/* A guest that changes the frame meanwhile fools but itself. */
bool net_filter_wants(const struct net *net)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t group[6] = { 1 };
	const struct net_filter *filter = &net->filter;
	uint64_t to = net->iov[1].iov_len >= 6 ? number(net->iov[1].iov_base) : scattered_destination(net);

	if (to == number(net->rules.mac) || to == number(broadcast))
		return true;
	if (!(to & number(group)))
		return filter->all_unicast || is_among(filter->macs, filter->nunicast, to);
	return filter->allmulti || filter->all_multicast ||
	       is_among(filter->macs + filter->nunicast, filter->nmulticast, to);
}

void net_filter_save(const struct net *net, struct state_writer *w)
{
	const struct net_filter *filter = &net->filter;

	state_put_u16(w, (uint16_t)(filter->on | filter->allmulti << 1 | filter->all_unicast << 2 |
				    filter->all_multicast << 3));
	state_put_u16(w, filter->nunicast);
	state_put_u16(w, filter->nmulticast);
	state_put_bytes(w, filter->macs, sizeof(filter->macs));
}

int net_filter_restore(struct net *net, struct state_reader *r)
{
	struct net_filter filter = { 0 };
	uint16_t flags = state_get_u16(r), nunicast = state_get_u16(r), nmulticast = state_get_u16(r);

	state_get_bytes(r, filter.macs, sizeof(filter.macs));
	if (!state_ok(r) || flags > 15 || nunicast > NET_MACS || nmulticast > NET_MACS - nunicast)
		return -EINVAL;
	if ((flags || nunicast || nmulticast) && !(net->dev.acked >> VIRTIO_NET_F_CTRL_RX & 1))
		return -EINVAL;
	filter.on = flags & 1;
	filter.allmulti = flags >> 1 & 1;
	filter.all_unicast = flags >> 2 & 1;
	filter.all_multicast = flags >> 3 & 1;
	filter.nunicast = (uint8_t)nunicast;
	filter.nmulticast = (uint8_t)nmulticast;
	net->filter = filter;
	return 0;
}
