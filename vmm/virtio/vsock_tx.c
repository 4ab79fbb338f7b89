/* Packets from the guest: every field is hostile until checked here (virtio 1.2 §5.10.6). */
#include "virtio/vsock.h"

#include <string.h>

#define TX_BYTES (4U << 20) /* payload per run; then other devices have their turn */

/* Drops the first `skip` bytes of a vector and what exceeds `len` after them. Returns the pieces left. */
static unsigned trim(struct iovec *iov, unsigned niov, size_t skip, size_t len)
{
	unsigned n = 0;

	for (unsigned i = 0; i < niov && len; i++) {
		size_t off = skip < iov[i].iov_len ? skip : iov[i].iov_len;
		size_t use = iov[i].iov_len - off;

		skip -= off;
		use = use < len ? use : len;
		len -= use;
		if (use)
			iov[n++] = (struct iovec){ (uint8_t *)iov[i].iov_base + off, use };
	}
	return n;
}

/* The one read of a header: the guest may change it afterwards, and change nothing. */
static struct vsock_packet take_header(const struct vq_chain *chain)
{
	struct vsock_hdr hdr = { 0 };
	size_t done = 0;

	for (unsigned i = 0; i < chain->nread && done < sizeof(hdr); i++) {
		size_t n = chain->iov[i].iov_len < sizeof(hdr) - done ? chain->iov[i].iov_len : sizeof(hdr) - done;

		memcpy((uint8_t *)&hdr + done, chain->iov[i].iov_base, n);
		done += n;
	}
	return (struct vsock_packet){
		.src_cid = le64_get(hdr.src_cid),
		.dst_cid = le64_get(hdr.dst_cid),
		.guest_port = le32_get(hdr.src_port),
		.host_port = le32_get(hdr.dst_port),
		.len = le32_get(hdr.len),
		.type = le16_get(hdr.type),
		.op = le16_get(hdr.op),
		.flags = le32_get(hdr.flags),
		.buf_alloc = le32_get(hdr.buf_alloc),
		.fwd_cnt = le32_get(hdr.fwd_cnt),
	};
}

static void request(struct vsock *vs, const struct vsock_packet *p)
{
	struct vsock_dial *dial = NULL;
	struct vsock_conn *conn;

	for (unsigned i = 0; i < CONTROL_DIALS_MAX && !dial; i++)
		if (!vs->dials[i].busy)
			dial = &vs->dials[i];
	/* On a vCPU thread the device is being reset: nobody is left to hear the answer. */
	conn = dial && !vs->no_io ? vsock_conn_new(vs, p->guest_port, p->host_port, VSOCK_DIALLING) : NULL;
	if (!conn) {
		counters_add(&vs->counted->refused, 1);
		vsock_warn(vs, "port %u refused: too many %s", p->host_port, dial ? "connections" : "pending dials");
		vsock_rx_reset_unknown(vs, p->guest_port, p->host_port, p->type);
		return;
	}
	*dial = (struct vsock_dial){ .busy = true, .id = vs->next_dial++, .conn = conn };
	if (!vsock_credit_peer(conn, p->buf_alloc, p->fwd_cnt) ||
	    vs->broker.dial(vs->broker.arg, dial->id, p->host_port)) {
		dial->busy = false;
		counters_add(&vs->counted->refused, 1);
		vsock_conn_close(conn, true);
	}
}

/* Payload checked against the chain already. Returns NULL or why the connection is reset. */
static const char *receive(struct vsock_conn *conn, const struct vsock_packet *p, struct vq_chain *chain)
{
	if (p->op == VIRTIO_VSOCK_OP_REQUEST)
		return "second request";
	if (!vsock_credit_peer(conn, p->buf_alloc, p->fwd_cnt))
		return "took more bytes than it was sent";
	if (p->op == VIRTIO_VSOCK_OP_RESPONSE) {
		if (conn->state != VSOCK_CONNECTING || (conn->want & VSOCK_WANT_REQUEST))
			return "response to nothing";
		vsock_conn_open(conn);
		return NULL;
	}
	if (conn->state != VSOCK_OPEN)
		return "used before it was established";
	switch (p->op) {
	case VIRTIO_VSOCK_OP_RW:
		if (!p->len)
			return NULL;
		if (conn->up_last)
			return "data after its shutdown";
		if (p->len > conn->granted - conn->from_guest)
			return "more data than it had credit for";
		vsock_conn_data(conn, chain->iov, trim(chain->iov, chain->nread, sizeof(struct vsock_hdr), p->len),
				p->len);
		return NULL;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		vsock_conn_shutdown(conn, p->flags);
		return NULL;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		return NULL;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_conn_want(conn, VSOCK_WANT_CREDIT_UPDATE);
		return NULL;
	default:
		return "unknown operation";
	}
}

static void packet_in(struct vsock *vs, struct vq_chain *chain)
{
	struct vsock_packet p = take_header(chain);
	struct vsock_conn *conn;
	const char *fault = NULL;

	if (p.src_cid != vs->guest_cid || p.dst_cid != VSOCK_CID_HOST) {
		vsock_warn(vs, "packet dropped: from CID %llu to %llu", (unsigned long long)p.src_cid,
			   (unsigned long long)p.dst_cid);
		return; /* no answer: it would go to somebody else's address */
	}
	if (p.type != VIRTIO_VSOCK_TYPE_STREAM) {
		if (p.op != VIRTIO_VSOCK_OP_RST)
			vsock_rx_reset_unknown(vs, p.guest_port, p.host_port, p.type);
		return;
	}
	conn = vsock_conn_find(vs, p.guest_port, p.host_port);
	if (p.op == VIRTIO_VSOCK_OP_RST) { /* never answered */
		if (conn) {
			vsock_conn_ended(conn);
			vsock_conn_close(conn, false);
		}
		return;
	}
	/* CVE-2019-18960: the length names bytes beyond what the chain holds. */
	if (p.len > VSOCK_PACKET_MAX || p.len > chain->read_len - sizeof(struct vsock_hdr))
		fault = "length beyond its buffer";
	if (!conn) {
		if (p.op == VIRTIO_VSOCK_OP_REQUEST && !fault)
			request(vs, &p);
		else
			vsock_rx_reset_unknown(vs, p.guest_port, p.host_port, p.type);
		return;
	}
	if (conn->state == VSOCK_CLOSED)
		return; /* its RST is on the way */
	if (!fault)
		fault = receive(conn, &p, chain);
	if (fault) {
		vsock_warn(vs, "connection of guest port %u to port %u reset: %s", p.guest_port, p.host_port, fault);
		vsock_conn_close(conn, true);
	}
}

bool vsock_tx_run(struct vsock *vs, unsigned limit)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_TX];
	uint64_t bytes = 0;
	bool pushed = false;

	vs->tx_more = false;
	vq_disable_kicks(vq);
	while (vs->dev.live || vs->no_io) {
		const char *reason;
		int r;

		if (limit-- == 0 || bytes > TX_BYTES) {
			vs->tx_more = true; /* kicks stay off: we come back unasked */
			break;
		}
		r = vq_pop(vq, &vs->chain);
		if (r == 0) {
			if (!vq_enable_kicks(vq))
				break;
			vq_disable_kicks(vq);
			continue;
		}
		reason = r < 0                                           ? vq->error
			 : vs->chain.nwrite                              ? "transmit buffer that the device is to write"
			 : vs->chain.read_len < sizeof(struct vsock_hdr) ? "packet shorter than its header"
									 : NULL;
		if (reason) {
			vsock_fail(vs, reason);
			return false;
		}
		bytes += vs->chain.read_len;
		packet_in(vs, &vs->chain);
		vq_push(vq, vs->chain.head, 0);
		pushed = true;
	}
	if (pushed && vs->dev.live && !vs->no_io)
		virtio_dev_used(&vs->dev, VSOCK_TX);
	return vs->tx_more;
}
