/* Packets to the guest: the receive queue's buffers, headers, and bytes read from sockets. */
#include "virtio/vsock.h"

#include <errno.h>
#include <string.h>

#define READ_IOV      64U /* pieces of guest memory per readv() */
#define RX_TURNS      128U /* connections served per run, then other devices have their turn */
#define RX_BYTES      (1U << 20) /* payload per run */
#define RX_TELL       (32U << 10) /* payload of one turn that is worth an interrupt of its own */
#define RX_RUN_POPS   4096U /* looks at the queue per run */
#define PAYLOAD_FIRST (uint32_t)sizeof(struct vsock_hdr)

/* Takes the writable pieces of a chain over as a receive buffer; NULL or why the guest's buffer is unusable. */
static const char *stash_chain(struct vsock *vs, const struct vq_chain *chain)
{
	struct vsock_rxbuf *buf = &vs->stash[vs->nstash];

	if (chain->nread)
		return "receive buffer that the device may not write";
	*buf = (struct vsock_rxbuf){ .head = chain->head };
	for (unsigned i = 0; i < chain->nwrite && buf->niov < VSOCK_RX_IOV; i++) {
		size_t len = chain->iov[i].iov_len;

		if (len > PAYLOAD_FIRST + VSOCK_PACKET_MAX - buf->len)
			len = PAYLOAD_FIRST + VSOCK_PACKET_MAX - buf->len;
		if (!len)
			continue;
		buf->iov[buf->niov++] = (struct iovec){ chain->iov[i].iov_base, len };
		buf->len += (uint32_t)len;
	}
	if (buf->len <= PAYLOAD_FIRST)
		return "receive buffer without room for a packet";
	vs->nstash++;
	return NULL;
}

/* Whether at least one receive buffer is at hand. */
static bool refill(struct vsock *vs)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_RX];

	for (unsigned looks = 0; vs->nstash < VSOCK_STASH && looks < RX_RUN_POPS; looks++) {
		const char *reason;
		int r = vq_pop(vq, &vs->chain);

		if (r == 0) {
			/* Kicks are wanted only while we starve. */
			if (vs->nstash || !vq_enable_kicks(vq))
				break;
			vq_disable_kicks(vq);
			continue;
		}
		reason = r < 0 ? vq->error : stash_chain(vs, &vs->chain);
		if (reason) {
			vsock_fail(vs, reason);
			return false;
		}
	}
	return vs->nstash > 0;
}

int vsock_rx_take_up(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->nrestored; i++)
		if (vq_pop_head(&vs->dev.queues[VSOCK_RX], vs->restored[i], &vs->chain) != 1 ||
		    stash_chain(vs, &vs->chain))
			return -EPROTO;
	vs->nrestored = 0;
	return 0;
}

/* Copies a header into the buffer's first pieces, wherever they end. */
static void put_header(const struct vsock_rxbuf *buf, const struct vsock_hdr *hdr)
{
	size_t done = 0;

	for (unsigned i = 0; i < buf->niov && done < sizeof(*hdr); i++) {
		size_t n = buf->iov[i].iov_len < sizeof(*hdr) - done ? buf->iov[i].iov_len : sizeof(*hdr) - done;

		memcpy(buf->iov[i].iov_base, (const uint8_t *)hdr + done, n);
		done += n;
	}
}

/* Completes the `index`th buffer at hand; the caller then shifts the stash. */
static void send_at(struct vsock *vs, unsigned index, const struct vsock_packet *packet)
{
	struct vsock_rxbuf *buf = &vs->stash[index];
	struct vsock_hdr hdr = {
		.src_cid = le64_of(VSOCK_CID_HOST),
		.dst_cid = le64_of(vs->guest_cid),
		.src_port = le32_of(packet->host_port),
		.dst_port = le32_of(packet->guest_port),
		.len = le32_of(packet->len),
		.type = le16_of(packet->type),
		.op = le16_of(packet->op),
		.flags = le32_of(packet->flags),
		.buf_alloc = le32_of(packet->buf_alloc),
		.fwd_cnt = le32_of(packet->fwd_cnt),
	};

	put_header(buf, &hdr);
	vq_push(&vs->dev.queues[VSOCK_RX], buf->head, (uint32_t)sizeof(hdr) + packet->len);
}

static void stash_shift(struct vsock *vs, unsigned n)
{
	vs->nstash -= n;
	for (unsigned i = 0; i < vs->nstash; i++) {
		struct vsock_rxbuf *dst = &vs->stash[i];
		const struct vsock_rxbuf *src = &vs->stash[i + n];

		dst->head = src->head;
		dst->niov = src->niov;
		dst->len = src->len;
		memcpy(dst->iov, src->iov, src->niov * sizeof(src->iov[0]));
	}
}

/* A packet of `conn` with our newest credit in it. */
static struct vsock_packet packet_of(struct vsock_conn *conn, enum virtio_vsock_op op)
{
	conn->want = (uint8_t)(conn->want & ~VSOCK_WANT_CREDIT_UPDATE);
	return (struct vsock_packet){
		.guest_port = conn->guest_port,
		.host_port = conn->host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = vsock_credit_grant(conn),
		.fwd_cnt = conn->forwarded,
	};
}

static void send_control(struct vsock_conn *conn, unsigned want, enum virtio_vsock_op op)
{
	struct vsock_packet packet = packet_of(conn, op);

	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		packet.flags = vsock_conn_shutdown_flags(conn);
	conn->want = (uint8_t)(conn->want & ~want);
	send_at(conn->vs, 0, &packet);
	stash_shift(conn->vs, 1);
	if (want == VSOCK_WANT_RST)
		vsock_conn_rst_sent(conn);
}

/* Payload room of the buffers at hand, up to `credit`, as one vector for readv(). */
static unsigned gather(const struct vsock *vs, uint32_t credit, struct iovec *iov)
{
	unsigned n = 0;

	for (unsigned b = 0; b < vs->nstash && credit; b++) {
		const struct vsock_rxbuf *buf = &vs->stash[b];
		size_t skip = PAYLOAD_FIRST;

		for (unsigned i = 0; i < buf->niov && credit; i++) {
			size_t len = buf->iov[i].iov_len;
			size_t off = skip < len ? skip : len;

			skip -= off;
			len -= off;
			if (!len)
				continue;
			if (n == READ_IOV)
				return n;
			len = len < credit ? len : credit;
			iov[n].iov_base = (uint8_t *)buf->iov[i].iov_base + off;
			iov[n++].iov_len = len;
			credit -= (uint32_t)len;
		}
	}
	return n;
}

/*
 * Reads from the socket straight into guest memory and heads each buffer that got bytes.
 * Returns the bytes moved. The order of the vector is that of gather(): a buffer is full before
 * the next one gets a byte.
 */
static uint32_t send_data(struct vsock_conn *conn, uint32_t credit)
{
	struct vsock *vs = conn->vs;
	struct iovec iov[READ_IOV];
	unsigned niov = gather(vs, credit, iov);
	ssize_t n = readv(conn->source.fd, iov, (int)niov);
	uint32_t left;
	unsigned used = 0;

	if (n <= 0) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			conn->readable = errno == EINTR;
		else
			vsock_conn_eof(conn, n < 0);
		return 0;
	}
	for (left = (uint32_t)n; left; used++) {
		struct vsock_packet packet = packet_of(conn, VIRTIO_VSOCK_OP_RW);
		uint32_t room = vs->stash[used].len - PAYLOAD_FIRST;

		packet.len = left < room ? left : room;
		conn->to_guest += packet.len;
		left -= packet.len;
		send_at(vs, used, &packet);
	}
	stash_shift(vs, used);
	counters_add(&vs->counted->to_guest_bytes, (uint64_t)n);
	if (conn->published)
		counters_add(&vs->published->to_guest_bytes, (uint64_t)n);
	return (uint32_t)n;
}

/* One turn of a connection: one control packet, or one readv() of data. Returns bytes moved. */
static uint32_t serve(struct vsock_conn *conn)
{
	static const struct {
		enum vsock_want want;
		enum virtio_vsock_op op;
	} first[] = {
		{ VSOCK_WANT_RST, VIRTIO_VSOCK_OP_RST },
		{ VSOCK_WANT_REQUEST, VIRTIO_VSOCK_OP_REQUEST },
		{ VSOCK_WANT_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE },
		{ VSOCK_WANT_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN },
	};
	uint32_t moved = 0;

	for (unsigned i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		if (conn->want & first[i].want) {
			send_control(conn, first[i].want, first[i].op);
			return 0;
		}
	}
	if (vsock_conn_can_read(conn)) {
		uint32_t credit = vsock_credit_left(conn);

		if (credit) {
			moved = send_data(conn, credit);
		} else if (!conn->credit_asked) {
			conn->credit_asked = true; /* once: the answer, or any packet, will tell */
			send_control(conn, 0, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
			return 0;
		}
	}
	/* Last, because any packet above told the same. */
	if (!moved && (conn->want & VSOCK_WANT_CREDIT_UPDATE))
		send_control(conn, VSOCK_WANT_CREDIT_UPDATE, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	return moved;
}

static bool wants_turn(const struct vsock_conn *conn)
{
	return conn->state != VSOCK_FREE &&
	       (conn->want || (vsock_conn_can_read(conn) && (vsock_credit_left(conn) || !conn->credit_asked)));
}

static void send_rst(struct vsock *vs)
{
	const struct vsock_rst *rst = &vs->rsts[vs->rst_first];
	struct vsock_packet packet = {
		.guest_port = rst->guest_port,
		.host_port = rst->host_port,
		.type = rst->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};

	vs->rst_first = (vs->rst_first + 1) % VSOCK_RSTS_MAX;
	vs->nrsts--;
	send_at(vs, 0, &packet);
	stash_shift(vs, 1);
}

void vsock_rx_reset_unknown(struct vsock *vs, uint32_t guest_port, uint32_t host_port, uint16_t type)
{
	if (vs->nrsts == VSOCK_RSTS_MAX) {
		vsock_warn(vs, "reset of port %u dropped: the guest takes no packets", host_port);
		return;
	}
	vs->rsts[(vs->rst_first + vs->nrsts++) % VSOCK_RSTS_MAX] = (struct vsock_rst){ guest_port, host_port, type };
}

void vsock_rx_run(struct vsock *vs)
{
	uint32_t moved = 0;
	unsigned turns = 0;

	while (vs->dev.live && (vs->nrsts || !TAILQ_EMPTY(&vs->ready))) {
		struct vsock_conn *conn;
		uint32_t n;

		if (turns++ == RX_TURNS || moved >= RX_BYTES) {
			vsock_schedule(vs);
			break;
		}
		if (!refill(vs))
			break;
		if (vs->nrsts) {
			send_rst(vs);
			continue;
		}
		conn = TAILQ_FIRST(&vs->ready);
		TAILQ_REMOVE(&vs->ready, conn, ready_link);
		conn->ready = false;
		n = serve(conn);
		moved += n;
		if (wants_turn(conn))
			vsock_conn_want(conn, 0); /* to the end of the line */
		if (n >= RX_TELL && vs->dev.live)
			virtio_dev_used(&vs->dev, VSOCK_RX); /* the guest reads these while we read more */
	}
	if (turns && vs->dev.live)
		virtio_dev_used(&vs->dev, VSOCK_RX);
}
