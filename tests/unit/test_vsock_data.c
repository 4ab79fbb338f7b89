/* vsock, guest to host: credit, the pool, what waits at a close; and long streams both ways. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vsock_peer.h"

#define GUEST 5000U
#define HOST  77U

#define RST            VIRTIO_VSOCK_OP_RST
#define REQUEST        VIRTIO_VSOCK_OP_REQUEST
#define RW             VIRTIO_VSOCK_OP_RW
#define SHUTDOWN       VIRTIO_VSOCK_OP_SHUTDOWN
#define CREDIT_UPDATE  VIRTIO_VSOCK_OP_CREDIT_UPDATE
#define CREDIT_REQUEST VIRTIO_VSOCK_OP_CREDIT_REQUEST

#define STREAM_BYTES (200ULL << 20)

static uint8_t bytes[VSOCK_PACKET_MAX], got[VSOCK_PACKET_MAX];

static uint32_t min_u32(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

/* ---- up ---- */

static void credit_runs_out(void **state)
{
	struct peer p;
	struct peer_conn c;
	uint32_t sent;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	sent = peer_spend_credit(&p, &c); /* the host reads nothing: socket buffer and ours fill up */
	assert_in_range(sent, VSOCK_CREDIT_MAX, VSOCK_CREDIT_MAX + (2U << 20));
	assert_in_range(peer_pending(&p), VSOCK_CREDIT_MAX / 2, VSOCK_CREDIT_MAX);
	peer_expect_nothing(&p);
	peer_read_back(c.fd, 0, sent);
	peer_expect(&p, &c, CREDIT_UPDATE, NULL); /* one is enough to go on */
	assert_true(peer_credit(&c) >= VSOCK_CREDIT_MAX / 2);
	peer_settle(&p);
	peer_take_updates(&p, &c);
	assert_int_equal(peer_pending(&p), 0);
	peer_pattern(bytes, c.sent, 1000);
	peer_send(&p, &c, RW, 0, bytes, 1000);
	peer_read_back(c.fd, c.sent - 1000, 1000);
	(void)close(c.fd);
	peer_fini(&p);
}

static void credit_overrun(void **state)
{
	struct peer p;
	struct peer_conn c;
	uint32_t sent;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	sent = peer_spend_credit(&p, &c);
	peer_send(&p, &c, RW, 0, "x", 1);
	peer_expect(&p, &c, RST, NULL);
	peer_read_back(c.fd, 0, sent); /* what it was allowed to send is delivered */
	assert_true(peer_host_eof(c.fd));
	assert_int_equal(peer_pending(&p), 0);
	(void)close(c.fd);
	peer_fini(&p);
}

static void close_with_bytes_waiting(void **state)
{
	struct peer p;
	struct peer_conn c, again;
	uint32_t sent;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	sent = peer_spend_credit(&p, &c);
	peer_send(&p, &c, SHUTDOWN, 3, NULL, 0);
	peer_expect(&p, &c, RST, NULL); /* at once: the guest's close waits for it */
	assert_true(peer_pending(&p) > 0);
	again = peer_open(&p, GUEST, HOST); /* its ports are free, its bytes still wait */
	peer_send(&p, &again, RW, 0, "new", 3);
	peer_host_read(again.fd, got, 3);
	peer_read_back(c.fd, 0, sent);
	assert_true(peer_host_eof(c.fd));
	assert_int_equal(peer_pending(&p), 0);
	(void)close(c.fd);
	(void)close(again.fd);
	peer_fini(&p);
}

static void half_close_with_bytes_waiting(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet packet;
	uint32_t sent;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	sent = peer_spend_credit(&p, &c);
	peer_send(&p, &c, SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	peer_host_write(c.fd, "answer", 6);
	peer_expect(&p, &c, RW, &packet);
	peer_read_back(c.fd, 0, sent);
	assert_true(peer_host_eof(c.fd));
	peer_host_write(c.fd, "more", 4);
	peer_expect(&p, &c, RW, &packet);
	peer_send(&p, &c, SHUTDOWN, 3, NULL, 0);
	peer_expect(&p, &c, RST, NULL);
	(void)close(c.fd);
	peer_fini(&p);
}

/* The host program dies with our buffer full: the guest's writers hear of it, the buffer is free again. */
static void host_dies_with_bytes_waiting(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet packet;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	(void)peer_spend_credit(&p, &c);
	(void)close(c.fd);
	peer_expect(&p, &c, SHUTDOWN, &packet);
	assert_true(packet.h.flags & VIRTIO_VSOCK_SHUTDOWN_RCV);
	assert_int_equal(peer_pending(&p), 0);
	peer_fini(&p);
}

/* The host stops reading but goes on writing: the guest's writers get EPIPE, its readers everything. */
static void host_stops_reading(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet packet;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	assert_int_equal(shutdown(c.fd, SHUT_RD), 0);
	peer_send(&p, &c, RW, 0, "into the void", 13);
	peer_expect(&p, &c, SHUTDOWN, &packet);
	assert_int_equal(packet.h.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
	peer_send(&p, &c, RW, 0, "sent before it heard", 20); /* no fault of the guest's */
	peer_host_write(c.fd, "still here", 10);
	peer_expect(&p, &c, RW, &packet);
	assert_memory_equal(packet.data, "still here", 10);
	peer_send(&p, &c, SHUTDOWN, 3, NULL, 0);
	peer_expect(&p, &c, RST, NULL);
	(void)close(c.fd);
	peer_fini(&p);
}

/* Filled and emptied in unequal parts: the pool's chunks go round, no byte changes. */
static void pool_goes_round(void **state)
{
	struct peer p;
	struct peer_conn c[3];
	uint32_t seen[3] = { 0 };

	(void)state;
	peer_init(&p);
	for (unsigned i = 0; i < 3; i++)
		c[i] = peer_open(&p, GUEST + i, HOST);
	for (unsigned round = 0; round < 30; round++) {
		unsigned i = round % 3;
		uint32_t part;

		(void)peer_spend_credit(&p, &c[i]);
		part = (c[i].sent - seen[i]) / (1 + round % 4);
		peer_read_back(c[i].fd, seen[i], part);
		peer_settle(&p);
		peer_take_updates(&p, &c[i]);
		seen[i] += part;
	}
	for (unsigned i = 0; i < 3; i++) {
		peer_read_back(c[i].fd, seen[i], c[i].sent - seen[i]);
		peer_settle(&p);
		peer_take_updates(&p, &c[i]);
	}
	assert_int_equal(peer_pending(&p), 0);
	for (unsigned i = 0; i < 3; i++)
		(void)close(c[i].fd);
	peer_fini(&p);
}

/* Chains with megabytes behind a short packet: the queue is left for a while, and come back to. */
static void transmit_run_is_bounded(void **state)
{
	struct vsock_packet h = { .src_cid = PEER_CID,
				  .dst_cid = 2,
				  .type = 1,
				  .guest_port = GUEST,
				  .host_port = HOST,
				  .op = RW,
				  .buf_alloc = 65536,
				  .len = 1 };
	struct fake_buf bufs[2] = { { 0, sizeof(struct vsock_hdr), false }, { 0, 5U << 20, false } };
	struct peer p;
	struct peer_conn c;
	uint16_t head;
	uint32_t len;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	assert_true(peer_queue_raw(&p, &h, "1", 1) >= 0);
	bufs[0].gpa = p.tx_hdr[p.tx_next - 1];
	bufs[1].gpa = fake_alloc(&p.drv, bufs[1].len);
	for (unsigned i = 0; i < 5; i++)
		assert_true(fake_add(&p.drv.queues[VSOCK_TX], bufs, 2, FAKE_DIRECT) >= 0);
	(void)fake_kick(&p.drv.queues[VSOCK_TX]);
	for (unsigned i = 0; i < 6; i++)
		assert_true(fake_wait_used(&p.drv.queues[VSOCK_TX], &head, &len));
	peer_host_read(c.fd, got, 6);
	(void)close(c.fd);
	peer_fini(&p);
}

static void header_in_pieces(void **state)
{
	struct peer p;
	struct peer_conn c;
	uint16_t head;
	uint32_t len;
	struct fake_buf bufs[48];

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	/* Built by the helper, then sent again one byte per descriptor, the last with four bytes of payload. */
	peer_send(&p, &c, RW, 0, "12345", 5);
	peer_host_read(c.fd, got, 5);
	for (unsigned i = 0; i < 44; i++)
		bufs[i] = (struct fake_buf){ p.tx_hdr[p.tx_next - 1] + i, 1, false };
	bufs[44] = (struct fake_buf){ p.tx_payload[p.tx_next - 1], 2, false };
	bufs[45] = (struct fake_buf){ p.tx_payload[p.tx_next - 1] + 2, 3, false };
	assert_true(fake_add(&p.drv.queues[VSOCK_TX], bufs, 46, FAKE_INDIRECT) >= 0);
	(void)fake_kick(&p.drv.queues[VSOCK_TX]);
	assert_true(fake_wait_used(&p.drv.queues[VSOCK_TX], &head, &len));
	peer_host_read(c.fd, got, 5);
	assert_memory_equal(got, "12345", 5);
	(void)close(c.fd);
	peer_fini(&p);
}

/* ---- long ---- */

static void stream_up(void **state)
{
	struct peer p;
	struct peer_conn c;
	uint64_t read_total = 0, sent_total = 0;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	while (read_total < STREAM_BYTES) {
		uint32_t n = min_u32(peer_credit(&c), VSOCK_PACKET_MAX);
		ssize_t r;

		n = min_u32(n, STREAM_BYTES - sent_total);
		n = min_u32(n, 1 + sent_total % 65521);
		if (n) {
			peer_pattern(bytes, sent_total, n);
			peer_send(&p, &c, RW, 0, bytes, n);
			sent_total += n;
		}
		r = read(c.fd, got, sizeof(got) - read_total % 4099);
		if (r > 0) {
			peer_pattern(bytes, read_total, (size_t)r);
			assert_memory_equal(got, bytes, (size_t)r);
			read_total += (uint64_t)r;
		} else if (!n) {
			peer_settle(&p);
		}
		peer_take_updates(&p, &c);
	}
	peer_send(&p, &c, SHUTDOWN, 3, NULL, 0);
	peer_expect(&p, &c, RST, NULL);
	assert_true(peer_host_eof(c.fd));
	(void)close(c.fd);
	peer_fini(&p);
}

static void stream_down(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet packet;
	uint64_t written = 0, received = 0;

	(void)state;
	peer_init_quiet(&p);
	p.rx_size = 44 + 16384;
	assert_int_equal(peer_start(&p, PEER_RX_BUFS, true), 0);
	c = peer_open(&p, GUEST, HOST);
	while (received < STREAM_BYTES) {
		uint32_t n = min_u32(STREAM_BYTES - written, 1 + written % 65521);

		if (n) {
			ssize_t w;

			peer_pattern(bytes, written, n);
			w = write(c.fd, bytes, n);
			written += w > 0 ? (uint64_t)w : 0;
		}
		while (received < written && (received % 7 ? peer_try_recv(&p, &packet) : peer_recv(&p, &packet))) {
			if (packet.h.op == CREDIT_REQUEST) {
				peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
				continue;
			}
			assert_int_equal(packet.h.op, RW);
			peer_pattern(bytes, received, packet.h.len);
			assert_memory_equal(packet.data, bytes, packet.h.len);
			received += packet.h.len;
			c.received += packet.h.len;
			if (received / 100000 != (received - packet.h.len) / 100000)
				peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
		}
	}
	(void)close(c.fd);
	peer_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(credit_runs_out),
		cmocka_unit_test(credit_overrun),
		cmocka_unit_test(close_with_bytes_waiting),
		cmocka_unit_test(half_close_with_bytes_waiting),
		cmocka_unit_test(host_dies_with_bytes_waiting),
		cmocka_unit_test(host_stops_reading),
		cmocka_unit_test(pool_goes_round),
		cmocka_unit_test(transmit_run_is_bounded),
		cmocka_unit_test(header_in_pieces),
		cmocka_unit_test(stream_up),
		cmocka_unit_test(stream_down),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
