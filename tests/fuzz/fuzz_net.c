/*
 * The network device against a program of bytes: a guest that sends any packet and scribbles on its rings, a host's end
 * with every offload that sends any packet, takes some, and goes; limits, resets and snapshots in between. What reaches the host
 * must have passed the rules, by a judgement of its own; after each step the device's books must balance.
 *
 * One thread: the event loop is compiled in here and turned by hand, so that an input does the same each time.
 */
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../vmm/loop.c"
#include "virtio/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEM_BYTES  (1U << 20)
#define QUEUE_SIZE 16U
#define RING_BYTES 0x1000U
#define SCRATCH    0x10000U
#define STEPS_MAX  256U
#define ALL_F                                                                                                          \
	(1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |                 \
	 1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << NET_F_HOST_USO | 1ULL << VIRTIO_NET_F_GUEST_CSUM |                    \
	 1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_MRG_RXBUF)

#define CHECK(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			__builtin_trap();                                                                              \
	} while (0)

static const uint8_t own[6] = { 2, 0, 0, 0, 0, 1 };

static struct world {
	const uint8_t *pos, *end;
	struct guestmem *gm;
	struct loop *loop;
	struct virtio_dev *dev;
	int peer;
	struct {
		struct vring_desc *desc;
		struct vring_avail *avail;
		uint16_t next_desc, idx;
	} q[2];
	size_t waiting; /* bytes of the next packet of the host's, 0: none */
	uint8_t waiting_gso, waiting_flags;
	bool full;
} w;

static uint32_t take(unsigned bytes)
{
	uint32_t v = 0;

	while (bytes-- && w.pos < w.end)
		v = v << 8 | *w.pos++;
	return v;
}

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
	return take(1) & 1 ? 0 : -EIO;
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
		left -= n;
	}
	w.waiting = 0;
	return (ssize_t)(len - left);
}

static const struct net_end fuzz_end = { end_open, end_nothing, end_send, end_receive, end_nothing, end_nothing };

/* ---- the guest ---- */

static void turn_loop(void)
{
	struct loop *loop = w.loop;

	for (unsigned round = 0; round < 8; round++) {
		loop->nevents = epoll_wait(loop->epoll_fd, loop->events, EVENTS_BATCH, 0);
		if (loop->nevents <= 0)
			break;
		for (int i = 0; i < loop->nevents; i++) {
			struct loop_source *source = loop->events[i].data.ptr;

			if (source)
				source->on_event(source, loop->events[i].events);
		}
		loop->nevents = 0;
		run_posts(loop);
	}
	loop->nevents = 0;
}

static void start_queues(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct virtqueue *vq = &w.dev->queues[i];
		void *ring;

		vq->size = QUEUE_SIZE;
		vq->ready = true;
		vq->desc_gpa = (i + 1) * RING_BYTES;
		vq->avail_gpa = vq->desc_gpa + 0x400;
		vq->used_gpa = vq->desc_gpa + 0x800;
		CHECK(guestmem_slice(w.gm, vq->desc_gpa, RING_BYTES, &ring) == 0);
		memset(ring, 0, RING_BYTES);
		w.q[i].desc = ring;
		w.q[i].avail = (struct vring_avail *)(void *)((uint8_t *)ring + 0x400);
		w.q[i].next_desc = w.q[i].idx = 0;
		CHECK(vq_start(vq, w.gm, i == 1, true) == 0);
	}
	w.dev->acked = w.dev->features & (ALL_F & ~(uint64_t)(take(1) << 7)); /* some less, MRG_RXBUF among them */
	w.dev->live = true;
	w.dev->broken = false;
	CHECK(w.dev->ops->activate(w.dev) == 0);
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
	CHECK(virtio_net_new(&config, "net0", w.gm, w.loop, &dev) == 0);
	net_of(dev)->end->close(net_of(dev));
	net_of(dev)->stream = NULL;
	net_of(dev)->end = &fuzz_end;
	CHECK(end_open(net_of(dev)) == 0);
	return dev;
}

static void add_desc(unsigned queue, uint64_t addr, uint32_t len, unsigned flags)
{
	uint16_t at = w.q[queue].next_desc++ % QUEUE_SIZE;

	w.q[queue].desc[at] = (struct vring_desc){
		.addr = addr, .len = len, .flags = (uint16_t)flags, .next = (uint16_t)((at + 1U) % QUEUE_SIZE)
	};
}

static void make_available(unsigned queue, uint16_t head)
{
	w.q[queue].avail->ring[w.q[queue].idx++ % QUEUE_SIZE] = head;
	w.q[queue].avail->idx = w.q[queue].idx;
}

static void kick(unsigned queue)
{
	(void)pthread_mutex_lock(&w.dev->lock);
	if (w.dev->live)
		w.dev->ops->kick(w.dev, queue);
	(void)pthread_mutex_unlock(&w.dev->lock);
}

/* A frame whose first bytes are the input's, most often from the guest's own address. */
static void guest_packet(void)
{
	static const uint16_t kinds[] = { 0x0800, 0x86dd, 0x0806, 0x8100 };
	uint32_t what = take(2), len = take(2) % (NET_FRAME_MAX + 20), bytes = what >> 8 & 0x7f;
	struct net_hdr hdr = { 0 };
	uint16_t head = w.q[NET_TX].next_desc % QUEUE_SIZE;
	gpa_t at = SCRATCH + head * 0x400U;
	uint8_t *p;
	void *hva;

	CHECK(guestmem_slice(w.gm, at, 0x400, &hva) == 0);
	p = hva;
	if (what & 1) {
		hdr.flags = (uint8_t)take(1) & 3;
		hdr.gso_type = (uint8_t)take(1);
		hdr.gso_size = le16_of((uint16_t)take(2));
		hdr.csum_start = le16_of((uint16_t)take(2));
		hdr.csum_offset = le16_of((uint16_t)take(1));
	}
	memcpy(p, &hdr, sizeof(hdr));
	p += sizeof(hdr);
	memset(p, 0xff, 6);
	if (what & 2)
		memcpy(p + 6, own, 6);
	p[12] = (uint8_t)(kinds[what >> 2 & 3] >> 8);
	p[13] = (uint8_t)kinds[what >> 2 & 3];
	for (uint32_t i = 0; i < bytes; i++)
		p[14 + i] = (uint8_t)take(1);
	if (what & 0x10) {
		uint32_t first = take(1) % 160;

		add_desc(NET_TX, at, first, VRING_DESC_F_NEXT);
		add_desc(NET_TX, at + first,
			 (uint32_t)sizeof(hdr) + len > first ? (uint32_t)sizeof(hdr) + len - first : 0,
			 what & 0x8000 ? VRING_DESC_F_WRITE : 0);
	} else {
		add_desc(NET_TX, at, (uint32_t)sizeof(hdr) + len, 0);
	}
	make_available(NET_TX, head);
	if (what & 0x20)
		kick(NET_TX);
}

static void guest_buffers(void)
{
	static const uint32_t sizes[] = { 12, 13, 60, 100, 1526, 1536, 4096, 70000 };
	unsigned what = take(1);

	for (unsigned n = 0; n <= (what >> 3 & 7); n++) {
		uint16_t head = w.q[NET_RX].next_desc % QUEUE_SIZE;

		if (what & 0x40) {
			add_desc(NET_RX, SCRATCH + 0x20000, 7, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
			add_desc(NET_RX, SCRATCH + 0x20100, sizes[what & 7], VRING_DESC_F_WRITE);
		} else {
			add_desc(NET_RX, SCRATCH + 0x20000, sizes[what & 7], VRING_DESC_F_WRITE);
		}
		make_available(NET_RX, head);
	}
	kick(NET_RX);
}

static void scribble(void)
{
	uint32_t queue = take(1) & 1, at = take(2) % 0x900, value = take(4);
	uint8_t *ring = (uint8_t *)w.q[queue].desc;

	memcpy(ring + at, &value, sizeof(value));
	kick(queue);
}

static void host_packet(void)
{
	uint32_t what = take(1);

	w.waiting = 1 + take(3) % (NET_FRAME_MAX + 100);
	w.waiting_gso = what & 1 ? (uint8_t)take(1) : 0;
	w.waiting_flags = what >> 1 & 3;
	(void)pthread_mutex_lock(&w.dev->lock);
	net_of(w.dev)->readable = true;
	(void)pthread_mutex_unlock(&w.dev->lock);
	kick(NET_RX);
}

static void reset(void)
{
	w.dev->live = false;
	w.dev->ops->reset(w.dev);
	vq_reset(&w.dev->queues[0]);
	vq_reset(&w.dev->queues[1]);
	start_queues();
}

static void snapshot(void)
{
	struct state_writer state = { 0 }, queues = { 0 };
	struct state_reader reader;
	struct virtio_dev *old = w.dev, *clone;
	bool live = old->live, broken = old->broken;

	if (broken || !live)
		return;
	old->ops->save(old, &state);
	for (unsigned i = 0; i < 2; i++)
		vq_save(&old->queues[i], &queues);
	clone = new_device();
	reader = (struct state_reader){ .pos = queues.data, .end = queues.data + queues.len };
	for (unsigned i = 0; i < 2; i++) {
		CHECK(vq_restore(&clone->queues[i], &reader) == 0);
		CHECK(vq_start(&clone->queues[i], w.gm, i == 1, true) == 0);
	}
	clone->acked = old->acked;
	reader = (struct state_reader){ .pos = state.data, .end = state.data + state.len };
	CHECK(clone->ops->restore(clone, &reader) == 0);
	clone->live = true;
	if (clone->ops->activate(clone))
		virtio_dev_broken(clone, "rings changed since"); /* the guest's doing */
	old->ops->free(old);
	w.dev = clone;
	state_writer_free(&state);
	state_writer_free(&queues);
}

static void books_balance(void)
{
	const struct net *net = net_of(w.dev);
	const struct virtqueue *rx = &w.dev->queues[NET_RX], *tx = &w.dev->queues[NET_TX];
	size_t sum = 0;

	for (unsigned i = 0; i < net->nstash; i++)
		sum += net->stash[(net->first + i) % NET_STASH].len;
	CHECK(sum == net->stash_bytes && net->nstash <= NET_STASH);
	CHECK(!net->held || (net->held <= NET_FRAME_MAX && net->held_at < net->held));
	if (w.dev->broken || !w.dev->live)
		return;
	CHECK((uint16_t)(rx->avail_next - rx->used_next) == net->nstash);
	CHECK(tx->avail_next == tx->used_next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)signal(SIGPIPE, SIG_IGN);
	w = (struct world){ .pos = data, .end = data + size, .peer = -1 };
	CHECK(guestmem_new(MEM_BYTES, 3ULL << 30, 4ULL << 30, &w.gm) == 0);
	CHECK(loop_new(&w.loop) == 0);
	w.dev = new_device();
	start_queues();
	for (unsigned step = 0; step < STEPS_MAX && w.pos < w.end; step++) {
		switch (take(1) % 12) {
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
			w.full = take(1) & 1;
			if (!w.full)
				(void)!write(w.peer, "", 1); /* wakes the loop: the end is looked at again */
			net_of(w.dev)->full &= w.full;
			break;
		case 9:
			virtio_net_limit(w.dev, take(1) & 1 ? take(2) : 0, take(1) & 1 ? 4096U + take(2) : 0);
			break;
		case 10:
			reset();
			break;
		default:
			snapshot();
			break;
		}
		turn_loop();
		books_balance();
	}
	w.dev->ops->free(w.dev);
	(void)close(w.peer);
	loop_free(w.loop);
	guestmem_free(w.gm);
	return 0;
}
