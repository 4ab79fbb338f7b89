/*
 * A tap as the host's end: a packet is a readv() or writev(), straight from and into guest memory, behind a
 * virtio_net_hdr_v1 that carries the offloads. The supervisor opened it with IFF_VNET_HDR and set the header's size.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "virtio/net.h"

#define TUN_USO4 0x20U /* Linux 6.2; the headers are older */
#define TUN_USO6 0x40U

#define BIT(feature) (1ULL << (feature))

static int offload(const struct net *net, unsigned flags)
{
	return ioctl(net->host.fd, TUNSETOFFLOAD, (unsigned long)flags) < 0 ? -errno : 0;
}

static int tap_open(struct net *net)
{
	int size = 0, err;

	if (ioctl(net->host.fd, TUNGETVNETHDRSZ, &size) < 0)
		return -errno;
	if (size != (int)sizeof(struct net_hdr))
		return -EINVAL;
	net->dev.features |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
			     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
			     BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN);
	err = offload(net, TUN_F_CSUM | TUN_USO4 | TUN_USO6);
	if (!err)
		net->dev.features |= BIT(NET_F_HOST_USO) | BIT(NET_F_GUEST_USO4) | BIT(NET_F_GUEST_USO6);
	return offload(net, 0);
}

/* The kernel segments and sums up itself what the driver would not take. */
static void tap_negotiated(struct net *net)
{
	static const struct {
		unsigned feature, flag;
	} map[] = {
		{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
		{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
		{ NET_F_GUEST_USO4, TUN_USO4 },
		{ NET_F_GUEST_USO6, TUN_USO6 },
	};
	unsigned flags = 0;
	int err;

	if (net->dev.acked & BIT(VIRTIO_NET_F_GUEST_CSUM)) {
		flags = TUN_F_CSUM;
		for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++)
			if (net->dev.acked & BIT(map[i].feature))
				flags |= map[i].flag;
		/* The kernel wants both of these or none, and ECN beside another. */
		if ((flags & (TUN_USO4 | TUN_USO6)) != (TUN_USO4 | TUN_USO6))
			flags &= ~(TUN_USO4 | TUN_USO6);
		if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
			flags &= ~(unsigned)TUN_F_TSO_ECN;
	}
	err = offload(net, flags);
	if (err && flags)
		err = offload(net, 0);
	if (err)
		net_link_down(net, "its tap takes no offloads");
}

static int tap_send(struct net *net, struct iovec *iov, unsigned niov, size_t len)
{
	ssize_t n;

	(void)len;
	do
		n = writev(net->host.fd, iov, (int)niov);
	while (n < 0 && errno == EINTR);
	/* EAGAIN is a packet lost as any other: a tap says when it can be read, never when its queue has room. */
	return n >= 0 ? 0 : errno == EAGAIN ? -ENOBUFS : -errno;
}

static ssize_t tap_receive(struct net *net, struct iovec *iov, unsigned niov)
{
	ssize_t n;

	do
		n = readv(net->host.fd, iov, (int)niov);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	/* A tap gives its header with each packet; less is no tap. */
	return n > (ssize_t)sizeof(struct net_hdr) ? n - (ssize_t)sizeof(struct net_hdr) : -EPROTO;
}

static void tap_writable(struct net *net)
{
	(void)net;
}

static void tap_close(struct net *net)
{
	(void)net; /* the descriptor is all there is, and the device's */
}

const struct net_end net_end_tap = {
	.open = tap_open,
	.negotiated = tap_negotiated,
	.send = tap_send,
	.receive = tap_receive,
	.on_writable = tap_writable,
	.close = tap_close,
};
