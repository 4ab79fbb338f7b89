/*
 * The network device against a program of bytes: a guest that sends any packet and scribbles on its rings, a host's end
 * with every offload that sends any packet, takes some, and goes; limits, resets and snapshots in between. What reaches the host
 * must have passed the rules, by a judgement of its own; after each step the device's books must balance, and what --pcap
 * shows must be what went.
 */
#include <linux/virtio_net.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device.h"
#include "virtio/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 256U
#define CTRL_F    (1ULL << VIRTIO_NET_F_CTRL_VQ | 1ULL << VIRTIO_NET_F_CTRL_RX)
#define ALL_F                                                                                                          \
	(1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |                 \
	 1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << NET_F_HOST_USO | 1ULL << VIRTIO_NET_F_GUEST_CSUM |                    \
	 1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_MRG_RXBUF | CTRL_F)

static const uint8_t own[6] = { 2, 0, 0, 0, 0, 1 };

static struct world {
	struct device d;
	int peer;
	size_t waiting; /* bytes of the next packet of the host's, 0: none */
	uint8_t waiting_gso, waiting_flags, waiting_to; /* to: the destination's first byte */
	bool full;
	int capture[2]; /* --pcap: its reader, the device's end; -1: nobody looks */
	struct counters_net counted; /* over all clones */
	uint64_t shown;
} w;

/* ---- the host's end ---- */

static int end_open(struct net *net)
{
	net->dev.features |= ALL_F;
	return 0;
}

static void end_nothing(struct net *net)
{
	(void)net;
}

static int end_send(struct net *net, struct iovec *iov, unsigned niov, size_t len)
{
	size_t sum = 0;
	uint8_t frame[NET_ETH];

	(void)net;
	for (unsigned i = 0; i < niov; i++) {
		sum += iov[i].iov_len;
		for (size_t k = 0; k < iov[i].iov_len; k += 512)
			(void)*(volatile uint8_t *)((uint8_t *)iov[i].iov_base + k);
	}
	CHECK(iov[0].iov_len == sizeof(struct net_hdr) && sum == sizeof(struct net_hdr) + len);
	CHECK(len >= NET_ETH && len <= NET_FRAME_MAX && iov[1].iov_len >= NET_ETH);
	memcpy(frame, iov[1].iov_base, sizeof(frame));
	CHECK(memcmp(frame + 6, own, 6) == 0);
	CHECK(!(frame[12] == 0x81 && frame[13] == 0));
	if (w.full)
		return -EAGAIN;
	return take(&w.d, 1) & 1 ? 0 : -EIO;
}

static ssize_t end_receive(struct net *net, struct iovec *iov, unsigned niov)
{
	struct net_hdr hdr = { .flags = w.waiting_flags, .gso_type = w.waiting_gso };
	size_t left = w.waiting, len = w.waiting;

	(void)net;
	if (!w.waiting)
		return 0;
	CHECK(iov[0].iov_len == sizeof(hdr));
	memcpy(iov[0].iov_base, &hdr, sizeof(hdr));
	for (unsigned i = 1; i < niov && left; i++) {
		size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

		memset(iov[i].iov_base, 0x5a, n);
		if (i == 1 && n)
			*(uint8_t *)iov[i].iov_base = w.waiting_to;
		left -= n;
	}
	w.waiting = 0;
	return (ssize_t)(len - left);
}

static const struct net_end fuzz_end = { end_open, end_nothing, end_send, end_receive, end_nothing, end_nothing };

/* ---- the guest ---- */

static void start_queues(void)
{
	w.d.dev->acked =
		w.d.dev->features & ALL_F & ~((uint64_t)take(&w.d, 1) << 8); /* some less, MRG_RXBUF among them */
	w.d.dev->acked &= ~((uint64_t)take(&w.d, 1) << 17 & CTRL_F);
	start_device(&w.d);
}

static struct virtio_dev *new_device(void)
{
	struct vmm_net config = { .mtu = 1500, .ip4 = { 10, 0, 0, 2 } };
	struct virtio_dev *dev;
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	config.fd = pair[0];
	if (w.peer >= 0)
		(void)close(w.peer);
	w.peer = pair[1];
	memcpy(config.mac, own, sizeof(own));
	CHECK(virtio_net_new(&config, "net0", w.d.gm, w.d.loop, &dev) == 0);
	net_of(dev)->end->close(net_of(dev));
	net_of(dev)->stream = NULL;
	net_of(dev)->end = &fuzz_end;
	CHECK(end_open(net_of(dev)) == 0);
	virtio_net_count(dev, &w.counted);
	if (w.capture[1] >= 0)
		CHECK(virtio_net_capture(dev, w.capture[1], 1, 200) == 0);
	return dev;
}

/* A frame whose first bytes are the input's, most often from the guest's own address. */
static void guest_packet(void)
{
	static const uint16_t kinds[] = { 0x0800, 0x86dd, 0x0806, 0x8100 };
	uint32_t what = take(&w.d, 2), len = take(&w.d, 2) % (NET_FRAME_MAX + 20), bytes = what >> 8 & 0x7f;
	struct net_hdr hdr = { 0 };
	uint16_t head = w.d.q[NET_TX].next_desc % QUEUE_SIZE;
	gpa_t at = SCRATCH + head * 0x400U;
	uint8_t *p;
	void *hva;

	CHECK(guestmem_slice(w.d.gm, at, 0x400, &hva) == 0);
	p = hva;
	if (what & 1) {
		hdr.flags = (uint8_t)take(&w.d, 1) & 3;
		hdr.gso_type = (uint8_t)take(&w.d, 1);
		hdr.gso_size = le16_of((uint16_t)take(&w.d, 2));
		hdr.csum_start = le16_of((uint16_t)take(&w.d, 2));
		hdr.csum_offset = le16_of((uint16_t)take(&w.d, 1));
	}
	memcpy(p, &hdr, sizeof(hdr));
	p += sizeof(hdr);
	memset(p, 0xff, 6);
	if (what & 2)
		memcpy(p + 6, own, 6);
	p[12] = (uint8_t)(kinds[what >> 2 & 3] >> 8);
	p[13] = (uint8_t)kinds[what >> 2 & 3];
	for (uint32_t i = 0; i < bytes; i++)
		p[14 + i] = (uint8_t)take(&w.d, 1);
	if (what & 0x10) {
		uint32_t first = take(&w.d, 1) % 160;

		add_desc(&w.d, NET_TX, at, first, VRING_DESC_F_NEXT);
		add_desc(&w.d, NET_TX, at + first,
			 (uint32_t)sizeof(hdr) + len > first ? (uint32_t)sizeof(hdr) + len - first : 0,
			 what & 0x8000 ? VRING_DESC_F_WRITE : 0);
	} else {
		add_desc(&w.d, NET_TX, at, (uint32_t)sizeof(hdr) + len, 0);
	}
	make_available(&w.d, NET_TX, head);
	if (what & 0x20)
		kick(&w.d, NET_TX);
}

static void guest_buffers(void)
{
	static const uint32_t sizes[8] = { 12, 13, 60, 100, 1526, 1536, 4096, 70000 };

	give_buffers(&w.d, NET_RX, sizes, 7);
}

/* A command of the input's bytes, most often one that there is. */
static void guest_command(void)
{
	uint32_t what = take(&w.d, 1), len = take(&w.d, 1) & 0x3f, more = what & 4 ? take(&w.d, 2) : 0;
	uint16_t head = w.d.q[NET_CTRL].next_desc % QUEUE_SIZE;
	gpa_t at = SCRATCH + 0x8000U + head * 0x400U;
	void *hva;
	uint8_t *p;

	CHECK(guestmem_slice(w.d.gm, at, 0x400, &hva) == 0);
	p = hva;
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)take(&w.d, 1);
	if (what & 1) {
		p[0] = what >> 3 & 1;
		p[1] = what >> 4 & 1 & (p[0] ^ 1);
	}
	if (what & 2)
		add_desc(&w.d, NET_CTRL, at, 1, VRING_DESC_F_NEXT);
	add_desc(&w.d, NET_CTRL, at + (what & 2 ? 1 : 0), len + more, what & 0x40 ? 0 : VRING_DESC_F_NEXT);
	if (!(what & 0x40))
		add_desc(&w.d, NET_CTRL, at + 0x3ff, what & 0x80 ? 0 : 1, VRING_DESC_F_WRITE);
	make_available(&w.d, NET_CTRL, head);
	kick(&w.d, NET_CTRL);
}

static void scribble(void)
{
	uint32_t queue = take(&w.d, 1) % 3, at = take(&w.d, 2) % 0x900, value = take(&w.d, 4);
	uint8_t *ring = (uint8_t *)w.d.q[queue].desc;

	memcpy(ring + at, &value, sizeof(value));
	kick(&w.d, queue);
}

static void host_packet(void)
{
	uint32_t what = take(&w.d, 1);

	w.waiting = 1 + take(&w.d, 3) % (NET_FRAME_MAX + 100);
	w.waiting_gso = what & 1 ? (uint8_t)take(&w.d, 1) : 0;
	w.waiting_flags = what >> 1 & 3;
	w.waiting_to = (uint8_t)(what >> 3);
	(void)pthread_mutex_lock(&w.d.dev->lock);
	net_of(w.d.dev)->readable = true;
	(void)pthread_mutex_unlock(&w.d.dev->lock);
	kick(&w.d, NET_RX);
}

static void reset(void)
{
	w.d.dev->live = false;
	w.d.dev->ops->reset(w.d.dev);
	for (unsigned i = 0; i < 3; i++)
		vq_reset(&w.d.dev->queues[i]);
	start_queues();
}

static void snapshot(void)
{
	struct state_writer state = { 0 }, queues = { 0 };
	struct state_reader reader;
	struct virtio_dev *old = w.d.dev, *clone;
	bool live = old->live, broken = old->broken;

	if (broken || !live)
		return;
	old->ops->save(old, &state);
	for (unsigned i = 0; i < 3; i++)
		vq_save(&old->queues[i], &queues);
	clone = new_device();
	reader = (struct state_reader){ .pos = queues.data, .end = queues.data + queues.len };
	for (unsigned i = 0; i < 3; i++) {
		CHECK(vq_restore(&clone->queues[i], &reader) == 0);
		CHECK(vq_start(&clone->queues[i], w.d.gm, i == 1, true) == 0);
	}
	clone->acked = old->acked;
	reader = (struct state_reader){ .pos = state.data, .end = state.data + state.len };
	CHECK(clone->ops->restore(clone, &reader) == 0);
	clone->live = true;
	if (clone->ops->activate(clone))
		virtio_dev_broken(clone, "rings changed since"); /* the guest's doing */
	old->ops->free(old);
	w.d.dev = clone;
	state_writer_free(&state);
	state_writer_free(&queues);
}

/* Each frame that went either way is shown once, or counted as lost. */
static void look_at_capture(void)
{
	struct {
		struct capture_record record;
		uint8_t frame[201];
	} got;
	ssize_t n;

	if (w.capture[0] < 0)
		return;
	while ((n = recv(w.capture[0], &got, sizeof(got), MSG_DONTWAIT)) > 0) {
		const struct capture_record *record = &got.record;

		CHECK(n > (ssize_t)sizeof(*record) && record->net == 1 && record->to_guest <= 1 && !record->reserved);
		CHECK(record->len <= NET_FRAME_MAX && record->len > 0);
		CHECK((size_t)n - sizeof(*record) == (record->len < 200 ? record->len : 200));
		if (record->to_guest)
			CHECK(n == sizeof(*record) + 1 || got.frame[(size_t)n - sizeof(*record) - 1] == 0x5a);
		else
			CHECK(record->len >= NET_ETH && memcmp(got.frame + 6, own, sizeof(own)) == 0);
		w.shown++;
	}
	CHECK(w.shown + w.counted.capture_dropped == w.counted.tx_packets + w.counted.rx_packets);
}

static void books_balance(void)
{
	const struct net *net = net_of(w.d.dev);
	const struct virtqueue *rx = &w.d.dev->queues[NET_RX], *tx = &w.d.dev->queues[NET_TX];
	const struct virtqueue *ctrl = &w.d.dev->queues[NET_CTRL];
	const struct net_filter *filter = &net->filter;
	size_t sum = 0;

	for (unsigned i = 0; i < net->nstash; i++)
		sum += net->stash[(net->first + i) % NET_STASH].len;
	CHECK(sum == net->stash_bytes && net->nstash <= NET_STASH);
	CHECK(!net->held || (net->held <= NET_FRAME_MAX && net->held_at < net->held));
	CHECK(filter->nunicast + filter->nmulticast <= NET_MACS);
	CHECK((w.d.dev->acked & CTRL_F) == CTRL_F || (!filter->on && !filter->nunicast && !filter->allmulti));
	if (w.d.dev->broken || !w.d.dev->live)
		return;
	CHECK(ctrl->avail_next == ctrl->used_next);
	CHECK((uint16_t)(rx->avail_next - rx->used_next) == net->nstash);
	CHECK(tx->avail_next == tx->used_next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)signal(SIGPIPE, SIG_IGN);
	w = (struct world){ .d = { .pos = data, .end = data + size }, .peer = -1, .capture = { -1, -1 } };
	if (take(&w.d, 1) & 1)
		CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, w.capture) == 0);
	CHECK(guestmem_new(MEM_BYTES, 3ULL << 30, 4ULL << 30, &w.d.gm) == 0);
	CHECK(loop_new(&w.d.loop) == 0);
	w.d.dev = new_device();
	start_queues();
	for (unsigned step = 0; step < STEPS_MAX && w.d.pos < w.d.end; step++) {
		switch (take(&w.d, 1) % 14) {
		case 0:
		case 1:
		case 2:
			guest_packet();
			break;
		case 3:
		case 4:
			guest_buffers();
			break;
		case 5:
		case 6:
			host_packet();
			break;
		case 7:
			scribble();
			break;
		case 8:
			w.full = take(&w.d, 1) & 1;
			if (!w.full)
				(void)!write(w.peer, "", 1); /* wakes the loop: the end is looked at again */
			net_of(w.d.dev)->full &= w.full;
			break;
		case 9:
			virtio_net_limit(w.d.dev, take(&w.d, 1) & 1 ? take(&w.d, 2) : 0,
					 take(&w.d, 1) & 1 ? 4096U + take(&w.d, 2) : 0);
			break;
		case 10:
			reset();
			break;
		case 11:
		case 12:
			guest_command();
			break;
		default:
			snapshot();
			break;
		}
		turn_loop(&w.d);
		look_at_capture();
		books_balance();
	}
	w.d.dev->ops->free(w.d.dev);
	(void)close(w.peer);
	for (unsigned i = 0; i < 2 && w.capture[i] >= 0; i++)
		(void)close(w.capture[i]);
	loop_free(w.d.loop);
	guestmem_free(w.d.gm);
	return 0;
}
