/*
 * The vsock device against a program of bytes: a guest that sends any packet and scribbles on its
 * rings, host programs that write, read and die, a broker that answers at any time, resets and
 * snapshots in between. After each step the device's books must balance.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device.h"
#include "virtio/vsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SCRATCH_USED 0x38000U
#define ENDS_MAX     24U
#define DIALS_MAX    64U
#define STEPS_MAX    512U

struct world {
	struct device d;
	int ends[ENDS_MAX]; /* host programs' */
	unsigned nends;
	uint32_t dials[DIALS_MAX];
	unsigned ndials;
	bool open[STEPS_MAX]; /* what virtio_vsock_connect() made */
	uint32_t nconnects;
};

static int on_dial(void *arg, uint32_t dial, uint32_t port)
{
	struct world *w = arg;

	if (port == 13 || w->ndials == DIALS_MAX)
		return -EACCES;
	w->dials[w->ndials++] = dial;
	return 0;
}

static void on_closed(void *arg, uint32_t id)
{
	struct world *w = arg;

	CHECK(id < w->nconnects && w->open[id]); /* once for each */
	w->open[id] = false;
}

static struct virtio_dev *new_device(struct world *w)
{
	struct virtio_dev *dev;

	CHECK(virtio_vsock_new(3, (struct vsock_broker){ on_dial, w, on_closed }, w->d.gm, w->d.loop, &dev) == 0);
	return dev;
}

/* ---- the guest ---- */

static void guest_packet(struct world *w, bool kicked)
{
	static const uint32_t allocs[] = { 0, 1, 100, 4096, 65536, 262144, 1U << 31, UINT32_MAX };
	uint32_t what = take(&w->d, 2);
	uint32_t guest_port = 100 + (what & 3);
	uint32_t host_port = what & 4 ? VSOCK_PORT_HOST + (what >> 3 & 1) : 10 + (what >> 3 & 3);
	uint32_t op = take(&w->d, 1);
	uint32_t len = op == VIRTIO_VSOCK_OP_RW ? take(&w->d, 2) : 0;
	const struct vsock_conn *conn = vsock_conn_find(vsock_of(w->d.dev), guest_port, host_port);
	struct vsock_hdr hdr = {
		.src_cid = le64_of(what & 0x20 ? take(&w->d, 1) : 3),
		.dst_cid = le64_of(what & 0x40 ? take(&w->d, 1) : 2),
		.src_port = le32_of(guest_port),
		.dst_port = le32_of(host_port),
		.len = le32_of(what & 0x80 ? take(&w->d, 4) : len),
		.type = le16_of(what & 0x100 ? (uint16_t)take(&w->d, 1) : 1),
		.op = le16_of((uint16_t)op),
		.flags = le32_of(op == VIRTIO_VSOCK_OP_SHUTDOWN ? take(&w->d, 1) : 0),
		.buf_alloc = le32_of(allocs[what >> 9 & 7]),
		.fwd_cnt = le32_of(what & 0x1000 ? take(&w->d, 4)
				   : conn        ? conn->to_guest - (what >> 13 & 3)
						 : 0),
	};
	uint16_t head = w->d.q[VSOCK_TX].next_desc % QUEUE_SIZE;
	uint32_t first = what & 0x8000 ? 20 : sizeof(hdr); /* header in one piece or two */
	gpa_t at = SCRATCH + head * 0x800U; /* packets may wait unkicked: each header has its place */

	CHECK(guestmem_write(w->d.gm, at, &hdr, sizeof(hdr)) == 0);
	add_desc(&w->d, VSOCK_TX, at, first, VRING_DESC_F_NEXT);
	add_desc(&w->d, VSOCK_TX, at + first, (uint32_t)sizeof(hdr) - first + len, 0);
	make_available(&w->d, VSOCK_TX, head);
	if (kicked)
		kick(&w->d, VSOCK_TX);
}

static void guest_buffers(struct world *w, unsigned queue)
{
	static const uint32_t sizes[8] = { 44, 45, 100, 1000, 4096, 5000, 65580, 70000 };

	give_buffers(&w->d, queue, sizes, 30);
}

static void guest_scribbles(struct world *w)
{
	unsigned what = take(&w->d, 1);
	unsigned queue = what % 3;
	struct vring_desc *desc = &w->d.q[queue].desc[what >> 2 & 15];

	desc->addr = take(&w->d, 1) << 16;
	desc->len = take(&w->d, 2);
	desc->flags = (uint16_t)(take(&w->d, 1) & 7);
	desc->next = (uint16_t)take(&w->d, 1);
	if (what & 0x80)
		w->d.q[queue].avail->idx = w->d.q[queue].idx = (uint16_t)take(&w->d, 2);
	else
		make_available(&w->d, queue, what >> 2 & 15);
	kick(&w->d, queue);
}

/* ---- the host ---- */

static int new_end(struct world *w, unsigned what)
{
	int one = 1, fds[2];

	if (w->nends == ENDS_MAX)
		return -1;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | (what & 1 ? 0 : SOCK_NONBLOCK), 0, fds) == 0);
	CHECK(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
	if (what & 2) /* a small socket buffer: ours is used */
		(void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &one, sizeof(one));
	w->ends[w->nends++] = fds[1];
	return fds[0];
}

static void host_acts(struct world *w)
{
	static uint8_t buf[65536];
	unsigned what = take(&w->d, 1);
	unsigned i = w->nends ? (what >> 3) % w->nends : 0;
	ssize_t n = 0;

	if (!w->nends)
		return;
	switch (what & 7) {
	case 0:
	case 1:
		n = write(w->ends[i], buf, take(&w->d, 2));
		break;
	case 2:
	case 3:
		n = read(w->ends[i], buf, sizeof(buf));
		break;
	case 4:
		n = shutdown(w->ends[i], SHUT_WR);
		break;
	case 5:
		n = shutdown(w->ends[i], SHUT_RD);
		break;
	case 6:
		(void)close(w->ends[i]);
		w->ends[i] = w->ends[--w->nends];
		break;
	default:
		turn_loop(&w->d);
		break;
	}
	(void)n; /* whatever became of it is the device's to cope with */
}

static void broker_answers(struct world *w)
{
	unsigned what = take(&w->d, 1);
	uint32_t dial = what & 0x80 || !w->ndials ? take(&w->d, 4) : w->dials[(what >> 3) % w->ndials];

	virtio_vsock_dialled(w->d.dev, dial, what & 4 ? -1 : new_end(w, what));
}

static void host_connects(struct world *w)
{
	unsigned what = take(&w->d, 1);
	int fd = new_end(w, what);

	if (fd < 0)
		return;
	w->open[w->nconnects++] = true; /* at most one a step */
	if (virtio_vsock_connect(w->d.dev, w->nconnects - 1, 100 + (what >> 2 & 3), fd) < 0)
		w->open[--w->nconnects] = false;
}

/* ---- life of the device ---- */

static void reset(struct world *w)
{
	(void)pthread_mutex_lock(&w->d.dev->lock);
	w->d.dev->live = false;
	w->d.dev->ops->reset(w->d.dev);
	for (unsigned i = 0; i < 3; i++)
		vq_reset(&w->d.dev->queues[i]);
	start_device(&w->d);
	(void)pthread_mutex_unlock(&w->d.dev->lock);
}

static void snapshot(struct world *w)
{
	struct state_writer writer = { 0 };
	struct state_reader reader;
	struct virtio_dev *old = w->d.dev;
	unsigned damage = take(&w->d, 1);
	int err = 0;

	if (!old->live)
		return;
	(void)pthread_mutex_lock(&old->lock);
	old->ops->save(old, &writer);
	(void)pthread_mutex_unlock(&old->lock);
	CHECK(!writer.failed);
	w->d.dev = new_device(w);
	memcpy(w->d.dev->queues, old->queues, sizeof(old->queues));
	run_posts(w->d.loop); /* a device may be freed when the loop has nothing more of it */
	old->ops->free(old);
	w->ndials = 0;
	if (damage & 1 && writer.len)
		writer.data[damage % writer.len] ^= (uint8_t)take(&w->d, 1);
	if (damage & 2)
		writer.len = damage % (writer.len + 1);
	reader = (struct state_reader){ .pos = writer.data, .end = writer.data + writer.len };
	err = w->d.dev->ops->restore(w->d.dev, &reader);
	state_writer_free(&writer);
	w->d.dev->live = true;
	if (err || w->d.dev->ops->activate(w->d.dev)) {
		w->d.dev->live = false;
		CHECK(damage & 3 || err != -EINVAL);
		reset(w);
	}
}

/* ---- the books ---- */

static void audit(const struct vsock *vs)
{
	unsigned extra = 0, in_use = 0, chunks = 0;
	uint64_t buffered = 0;

	for (unsigned i = 0; i < vs->fresh; i++) {
		const struct vsock_conn *c = &vs->conns[i];

		if (c->state == VSOCK_FREE) {
			CHECK(c->source.fd < 0 && !c->buf.len && !c->hashed && !c->ready);
			continue;
		}
		in_use++;
		extra += c->extra;
		buffered += c->buf.len;
		for (uint16_t n = c->buf.first, own = 0; n; n = vs->pool.next[n - 1]) {
			CHECK(++own <= c->extra + VSOCK_CHUNKS_BASE);
			chunks++;
		}
		CHECK(c->from_guest - c->forwarded == c->buf.len);
		CHECK((int32_t)(c->granted - c->from_guest) >= 0);
		CHECK(c->granted - c->forwarded <= VSOCK_CREDIT_MAX + VSOCK_CHUNK);
		CHECK(c->state != VSOCK_OPEN || c->up_over || c->source.fd >= 0);
		CHECK(!c->want || c->ready || vs->no_io);
		/* what could be read and has credit has its turn coming */
		CHECK(!(vsock_conn_can_read(c) && vsock_credit_left(c)) || c->ready);
	}
	CHECK(in_use == vs->nconns);
	CHECK(buffered == vs->buffered);
	CHECK(extra + vs->extra_free == VSOCK_EXTRA);
	CHECK(chunks <= vs->pool.fresh && vs->pool.fresh <= VSOCK_CHUNKS);
	CHECK(vs->nstash <= VSOCK_STASH && vs->nrsts <= VSOCK_RSTS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guestmem *gm; /* mapped once: that costs more than most inputs */
	static struct loop *loop;
	struct world w = { .d = { .pos = data, .end = data + size } };
	void *mem;

	if (!gm) {
		(void)signal(SIGPIPE, SIG_IGN);
		CHECK(guestmem_new(MEM_BYTES, 0xc0000000, 0x100000000, &gm) == 0);
		CHECK(loop_new(&loop) == 0);
	}
	w.d.gm = gm;
	w.d.loop = loop;
	CHECK(guestmem_slice(gm, SCRATCH, SCRATCH_USED, &mem) == 0);
	memset(mem, 0, SCRATCH_USED);
	w.d.dev = new_device(&w);
	start_device(&w.d);
	for (unsigned steps = 0; w.d.pos < w.d.end && steps < STEPS_MAX; steps++) {
		switch (take(&w.d, 1) % 16) {
		case 0:
		case 1:
		case 2:
		case 3:
			guest_packet(&w, true);
			break;
		case 4:
			guest_packet(&w, false);
			break;
		case 5:
		case 6:
			guest_buffers(&w, VSOCK_RX);
			break;
		case 7:
			guest_buffers(&w, VSOCK_EVENT);
			break;
		case 8:
			guest_scribbles(&w);
			break;
		case 9:
		case 10:
			host_acts(&w);
			break;
		case 11:
			broker_answers(&w);
			break;
		case 12:
			host_connects(&w);
			break;
		case 13:
			turn_loop(&w.d);
			(void)virtio_vsock_pending(w.d.dev);
			(void)virtio_vsock_give_up(w.d.dev, 2, 3);
			break;
		case 14:
			reset(&w);
			break;
		default:
			snapshot(&w);
			break;
		}
		audit(vsock_of(w.d.dev));
	}
	turn_loop(&w.d);
	audit(vsock_of(w.d.dev));
	run_posts(loop);
	w.d.dev->ops->free(w.d.dev);
	for (unsigned i = 0; i < w.nends; i++)
		(void)close(w.ends[i]);
	return 0;
}
