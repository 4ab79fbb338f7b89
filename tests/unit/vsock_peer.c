#include "vsock_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MEM_BYTES (32ULL << 20)

static int on_dial(void *arg, uint32_t dial, uint32_t port)
{
	struct peer *p = arg;

	if (p->dial_error)
		return p->dial_error;
	if (p->ndials == PEER_DIALS)
		return -ENOSPC;
	p->dials[p->ndials].id = dial;
	p->dials[p->ndials++].port = port;
	return 0;
}

static void on_closed(void *arg, uint32_t id)
{
	struct peer *p = arg;

	assert_true(id < p->nconnects);
	assert_false(p->closed[id]); /* once for each */
	p->closed[id] = true;
	p->nclosed++;
}

struct virtio_dev *peer_device(struct peer *p)
{
	struct vsock_broker broker = { .dial = on_dial, .arg = p, .closed = on_closed };
	struct virtio_dev *dev;

	assert_int_equal(virtio_vsock_new(PEER_CID, broker, p->drv.gm, p->drv.loop, &dev), 0);
	return dev;
}

void peer_init_quiet(struct peer *p)
{
	*p = (struct peer){ .rx_size = 4096, .rx_split = false };
	fake_init(&p->drv, MEM_BYTES);
	fake_bind(&p->drv, peer_device(p));
}

int peer_start(struct peer *p, unsigned rx_buffers, bool event_buffer)
{
	int err = fake_probe(&p->drv, ~0ULL, 0);

	if (err)
		return err;
	for (unsigned i = 0; i < PEER_RX_BUFS && !p->rx_gpa[i]; i++)
		p->rx_gpa[i] = fake_alloc(&p->drv, p->rx_size);
	for (unsigned i = 0; i < PEER_PAYLOADS && !p->tx_hdr[i]; i++) {
		p->tx_hdr[i] = fake_alloc(&p->drv, sizeof(struct vsock_hdr));
		p->tx_payload[i] = fake_alloc(&p->drv, PEER_PAYLOAD_MAX);
	}
	for (unsigned i = 0; i < rx_buffers; i++)
		peer_rx_add(p, i);
	(void)fake_kick(&p->drv.queues[VSOCK_RX]);
	p->event_gpa = fake_alloc(&p->drv, sizeof(struct virtio_vsock_event));
	if (event_buffer) {
		struct fake_buf buf = { p->event_gpa, sizeof(struct virtio_vsock_event), true };

		assert_true(fake_add(&p->drv.queues[VSOCK_EVENT], &buf, 1, FAKE_DIRECT) >= 0);
		(void)fake_kick(&p->drv.queues[VSOCK_EVENT]);
	}
	return 0;
}

void peer_init(struct peer *p)
{
	peer_init_quiet(p);
	assert_int_equal(peer_start(p, PEER_RX_BUFS, true), 0);
}

void peer_fini(struct peer *p)
{
	fake_fini(&p->drv);
}

void peer_rx_add(struct peer *p, unsigned index)
{
	struct fake_buf bufs[2] = { { p->rx_gpa[index], p->rx_size, true } };
	unsigned n = 1;
	int head;

	if (p->rx_split) {
		bufs[0].len = sizeof(struct vsock_hdr);
		bufs[1] = (struct fake_buf){ p->rx_gpa[index] + bufs[0].len, p->rx_size - bufs[0].len, true };
		n = 2;
	}
	head = fake_add(&p->drv.queues[VSOCK_RX], bufs, n, FAKE_DIRECT);
	assert_true(head >= 0);
	p->rx_of_head[head] = (uint16_t)index;
}

static void nothing(void *arg)
{
	(void)arg;
}

void peer_settle(struct peer *p)
{
	/* A run may leave work for the next round of the loop, a socket's event may need one to arrive. */
	for (unsigned i = 0; i < 4; i++)
		fake_on_io(&p->drv, nothing, NULL);
}

int peer_queue_raw(struct peer *p, const struct vsock_packet *h, const void *payload, uint32_t len)
{
	unsigned slot = p->tx_next++ % PEER_PAYLOADS;
	struct fake_buf bufs[2] = { { p->tx_hdr[slot], sizeof(struct vsock_hdr), false },
				    { p->tx_payload[slot], len, false } };
	struct vsock_hdr hdr = {
		.src_cid = le64_of(h->src_cid),
		.dst_cid = le64_of(h->dst_cid),
		.src_port = le32_of(h->guest_port),
		.dst_port = le32_of(h->host_port),
		.len = le32_of(h->len),
		.type = le16_of(h->type),
		.op = le16_of(h->op),
		.flags = le32_of(h->flags),
		.buf_alloc = le32_of(h->buf_alloc),
		.fwd_cnt = le32_of(h->fwd_cnt),
	};

	assert_true(len <= PEER_PAYLOAD_MAX);
	memcpy(fake_ptr(&p->drv, p->tx_hdr[slot]), &hdr, sizeof(hdr));
	if (len)
		memcpy(fake_ptr(&p->drv, p->tx_payload[slot]), payload, len);
	return fake_add(&p->drv.queues[VSOCK_TX], bufs, len ? 2 : 1, FAKE_DIRECT);
}

void peer_send_raw(struct peer *p, const struct vsock_packet *h, const void *payload, uint32_t len)
{
	int head = peer_queue_raw(p, h, payload, len);
	uint16_t used;
	uint32_t written;

	assert_true(head >= 0);
	(void)fake_kick(&p->drv.queues[VSOCK_TX]);
	assert_true(fake_wait_used(&p->drv.queues[VSOCK_TX], &used, &written));
	assert_int_equal(used, head);
	assert_int_equal(written, 0);
}

void peer_send(struct peer *p, struct peer_conn *c, enum virtio_vsock_op op, uint32_t flags, const void *payload,
	       uint32_t len)
{
	struct vsock_packet h = {
		.src_cid = PEER_CID,
		.dst_cid = VSOCK_CID_HOST,
		.guest_port = c->guest_port,
		.host_port = c->host_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = c->alloc,
		.fwd_cnt = c->received,
	};

	peer_send_raw(p, &h, payload, len);
	c->sent += len;
}

static void take_packet(struct peer *p, uint16_t head, uint32_t len, struct peer_packet *ret)
{
	const uint8_t *bytes = fake_ptr(&p->drv, p->rx_gpa[p->rx_of_head[head]]);
	struct vsock_hdr hdr;

	assert_in_range(len, sizeof(hdr), p->rx_size);
	memcpy(&hdr, bytes, sizeof(hdr));
	ret->used_len = len;
	ret->h = (struct vsock_packet){
		.src_cid = le64_get(hdr.src_cid),
		.dst_cid = le64_get(hdr.dst_cid),
		.guest_port = le32_get(hdr.dst_port),
		.host_port = le32_get(hdr.src_port),
		.len = le32_get(hdr.len),
		.type = le16_get(hdr.type),
		.op = le16_get(hdr.op),
		.flags = le32_get(hdr.flags),
		.buf_alloc = le32_get(hdr.buf_alloc),
		.fwd_cnt = le32_get(hdr.fwd_cnt),
	};
	assert_int_equal(len, sizeof(hdr) + ret->h.len);
	memcpy(ret->data, bytes + sizeof(hdr), ret->h.len);
	assert_int_equal(ret->h.src_cid, VSOCK_CID_HOST);
	assert_int_equal(ret->h.dst_cid, PEER_CID);
	if (!p->rx_hold) {
		peer_rx_add(p, p->rx_of_head[head]);
		(void)fake_kick(&p->drv.queues[VSOCK_RX]);
	}
}

bool peer_recv(struct peer *p, struct peer_packet *ret)
{
	uint16_t head;
	uint32_t len;

	if (!fake_wait_used(&p->drv.queues[VSOCK_RX], &head, &len))
		return false;
	take_packet(p, head, len, ret);
	return true;
}

bool peer_try_recv(struct peer *p, struct peer_packet *ret)
{
	uint16_t head;
	uint32_t len;

	if (!fake_used(&p->drv.queues[VSOCK_RX], &head, &len))
		return false;
	take_packet(p, head, len, ret);
	return true;
}

static void take_credit(struct peer_conn *c, const struct peer_packet *packet)
{
	/* The edge of what the guest may send never moves back: see vsock.h. */
	assert_true((int32_t)(packet->h.fwd_cnt + packet->h.buf_alloc - (c->dev_fwd + c->dev_alloc)) >= 0);
	assert_true((int32_t)(c->sent - packet->h.fwd_cnt) >= 0);
	c->dev_alloc = packet->h.buf_alloc;
	c->dev_fwd = packet->h.fwd_cnt;
}

void peer_expect(struct peer *p, struct peer_conn *c, enum virtio_vsock_op op, struct peer_packet *ret)
{
	struct peer_packet own;

	if (!ret)
		ret = &own;
	assert_true(peer_recv(p, ret));
	assert_int_equal(ret->h.op, op);
	assert_int_equal(ret->h.guest_port, c->guest_port);
	assert_int_equal(ret->h.host_port, c->host_port);
	if (op == VIRTIO_VSOCK_OP_RST)
		return; /* may answer for a connection that is gone: no credit in it */
	assert_int_equal(ret->h.type, VIRTIO_VSOCK_TYPE_STREAM);
	take_credit(c, ret);
	if (op == VIRTIO_VSOCK_OP_RW)
		c->received += ret->h.len;
}

void peer_expect_nothing(struct peer *p)
{
	struct peer_packet packet;

	peer_settle(p);
	if (peer_try_recv(p, &packet))
		fail_msg("unexpected packet: op %u guest port %u host port %u len %u flags %u", packet.h.op,
			 packet.h.guest_port, packet.h.host_port, packet.h.len, packet.h.flags);
}

void peer_take_updates(struct peer *p, struct peer_conn *c)
{
	struct peer_packet packet;

	while (peer_try_recv(p, &packet)) {
		assert_int_equal(packet.h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		assert_int_equal(packet.h.guest_port, c->guest_port);
		take_credit(c, &packet);
	}
}

uint32_t peer_credit(const struct peer_conn *c)
{
	return c->dev_fwd + c->dev_alloc - c->sent;
}

struct peer_conn peer_request(struct peer *p, uint32_t guest_port, uint32_t host_port)
{
	struct peer_conn c = { .guest_port = guest_port, .host_port = host_port, .fd = -1, .alloc = 256U << 10 };

	peer_send(p, &c, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
	peer_settle(p);
	return c;
}

struct answer {
	struct peer *p;
	uint32_t id;
	int fd;
};

static void do_answer(void *arg)
{
	struct answer *answer = arg;

	virtio_vsock_dialled(answer->p->drv.dev, answer->id, answer->fd);
}

int peer_pair(int *ret_device_end)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	*ret_device_end = fds[0];
	return fds[1];
}

int peer_answer(struct peer *p, unsigned dial, bool accept)
{
	struct answer answer = { .p = p, .fd = -1 };
	int fd = -1;

	assert_true(dial < p->ndials);
	answer.id = p->dials[dial].id;
	if (accept)
		fd = peer_pair(&answer.fd);
	fake_on_io(&p->drv, do_answer, &answer);
	return fd;
}

struct peer_conn peer_open(struct peer *p, uint32_t guest_port, uint32_t host_port)
{
	unsigned before = p->ndials;
	struct peer_conn c = peer_request(p, guest_port, host_port);

	assert_int_equal(p->ndials, before + 1);
	assert_int_equal(p->dials[before].port, host_port);
	c.fd = peer_answer(p, before, true);
	peer_expect(p, &c, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	return c;
}

struct connect {
	struct peer *p;
	uint32_t port;
	int fd, ret;
};

static void do_connect(void *arg)
{
	struct connect *connect = arg;

	connect->ret = virtio_vsock_connect(connect->p->drv.dev, connect->p->nconnects, connect->port, connect->fd);
	if (connect->ret == 0)
		connect->p->nconnects++;
}

int peer_connect(struct peer *p, uint32_t guest_port, int fd)
{
	struct connect connect = { .p = p, .port = guest_port, .fd = fd };

	fake_on_io(&p->drv, do_connect, &connect);
	return connect.ret;
}

struct pending {
	struct peer *p;
	uint64_t ret;
};

static void do_pending(void *arg)
{
	struct pending *pending = arg;

	pending->ret = virtio_vsock_pending(pending->p->drv.dev);
}

uint64_t peer_pending(struct peer *p)
{
	struct pending pending = { .p = p };

	fake_on_io(&p->drv, do_pending, &pending);
	return pending.ret;
}

struct give_up {
	struct peer *p;
	uint32_t first, last;
};

static void do_give_up(void *arg)
{
	struct give_up *give_up = arg;

	(void)virtio_vsock_give_up(give_up->p->drv.dev, give_up->first, give_up->last);
}

void peer_give_up(struct peer *p, uint32_t first, uint32_t last)
{
	struct give_up give_up = { .p = p, .first = first, .last = last };

	fake_on_io(&p->drv, do_give_up, &give_up);
}

void peer_pattern(uint8_t *p, uint64_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((from + i) * 2654435761U >> 13);
}

uint32_t peer_spend_credit(struct peer *p, struct peer_conn *c)
{
	static uint8_t bytes[VSOCK_PACKET_MAX];
	uint32_t before = c->sent;

	peer_settle(p);
	peer_take_updates(p, c);
	while (peer_credit(c)) {
		uint32_t n = peer_credit(c) < sizeof(bytes) ? peer_credit(c) : (uint32_t)sizeof(bytes);

		peer_pattern(bytes, c->sent, n);
		peer_send(p, c, VIRTIO_VSOCK_OP_RW, 0, bytes, n);
		peer_settle(p);
		peer_take_updates(p, c);
	}
	return c->sent - before;
}

static void wait_for(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	assert_int_equal(poll(&pfd, 1, FAKE_WAIT_MS), 1);
}

void peer_host_write(int fd, const void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const uint8_t *)data + done, len - done);

		if (n < 0 && errno == EAGAIN)
			wait_for(fd, POLLOUT);
		else
			assert_true(n > 0);
		done += n > 0 ? (size_t)n : 0;
	}
}

void peer_host_read(int fd, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (uint8_t *)data + done, len - done);

		if (n < 0 && errno == EAGAIN)
			wait_for(fd, POLLIN);
		else
			assert_true(n > 0);
		done += n > 0 ? (size_t)n : 0;
	}
}

bool peer_host_eof(int fd)
{
	uint8_t byte;

	wait_for(fd, POLLIN);
	return recv(fd, &byte, 1, MSG_PEEK) <= 0;
}

void peer_read_back(int fd, uint64_t from, uint32_t len)
{
	static uint8_t expected[VSOCK_PACKET_MAX], got[VSOCK_PACKET_MAX];

	while (len) {
		uint32_t n = len < sizeof(got) ? len : (uint32_t)sizeof(got);

		peer_host_read(fd, got, n);
		peer_pattern(expected, from, n);
		assert_memory_equal(got, expected, n);
		from += n;
		len -= n;
	}
}
