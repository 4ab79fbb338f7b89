/* vsock, host to guest: the guest's credit and receive buffers; limits and fairness. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

static uint8_t bytes[VSOCK_PACKET_MAX];

/* ---- down ---- */

static void guest_credit_runs_out(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet packet;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	c.alloc = 10;
	peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
	peer_host_write(c.fd, "0123456789abcdefghij!", 21);
	peer_expect(&p, &c, RW, &packet);
	assert_int_equal(packet.h.len, 10);
	peer_expect(&p, &c, CREDIT_REQUEST, NULL);
	peer_expect_nothing(&p); /* asked once */
	peer_host_write(c.fd, "?", 1);
	peer_expect_nothing(&p);
	c.received = 4; /* of the ten, four were read */
	peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
	peer_expect(&p, &c, RW, &packet);
	assert_int_equal(packet.h.len, 4);
	assert_memory_equal(packet.data, "abcd", 4);
	peer_expect(&p, &c, CREDIT_REQUEST, NULL);
	/* An older count is no news: Linux may send it, and it must neither give credit nor take any. */
	c.received = 2;
	c.alloc = 11;
	peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
	peer_expect(&p, &c, RW, &packet);
	assert_int_equal(packet.h.len, 1);
	assert_memory_equal(packet.data, "e", 1);
	peer_expect(&p, &c, CREDIT_REQUEST, NULL);
	peer_expect_nothing(&p);
	/* A smaller buffer than what is in flight: no credit, no wrap. */
	c.alloc = 3;
	c.received = 6;
	peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
	peer_expect(&p, &c, CREDIT_REQUEST, NULL);
	peer_expect_nothing(&p);
	c.received = 15;
	c.alloc = UINT32_MAX;
	peer_send(&p, &c, CREDIT_UPDATE, 0, NULL, 0);
	peer_expect(&p, &c, RW, &packet);
	assert_int_equal(packet.h.len, 7);
	assert_memory_equal(packet.data, "fghij!?", 7);
	(void)close(c.fd);
	peer_fini(&p);
}

/* No receive buffers: nothing is lost, nothing spins, and all goes on when they come. */
static void receive_buffers_run_out(void **state)
{
	struct peer p;
	struct peer_conn c = { .guest_port = GUEST, .host_port = HOST, .alloc = 65536 };
	struct peer_packet packet;
	struct vsock_packet stray = { .src_cid = PEER_CID, .dst_cid = 2, .type = 1, .op = RW, .host_port = 9 };
	unsigned rsts = 0;

	(void)state;
	peer_init_quiet(&p);
	p.rx_hold = true;
	assert_int_equal(peer_start(&p, 0, true), 0);
	c = peer_request(&p, GUEST, HOST);
	c.fd = peer_answer(&p, 0, true);
	peer_host_write(c.fd, "bytes", 5);
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	for (unsigned i = 0; i < VSOCK_RSTS_MAX + 50; i++) {
		stray.guest_port = i;
		peer_send_raw(&p, &stray, NULL, 0);
	}
	peer_expect_nothing(&p);
	for (unsigned i = 0; i < PEER_RX_BUFS; i++)
		peer_rx_add(&p, i);
	assert_true(fake_kick(&p.drv.queues[VSOCK_RX]));
	for (; rsts < VSOCK_RSTS_MAX; rsts++) {
		assert_true(peer_recv(&p, &packet));
		assert_int_equal(packet.h.op, RST);
		assert_int_equal(packet.h.guest_port, rsts);
	}
	peer_expect_nothing(&p); /* the other 50 were dropped: a bound, and this guest's own doing */
	for (unsigned i = 0; i < 3; i++)
		peer_rx_add(&p, i);
	assert_true(fake_kick(&p.drv.queues[VSOCK_RX]));
	peer_expect(&p, &c, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	peer_expect(&p, &c, RW, &packet);
	assert_memory_equal(packet.data, "bytes", 5);
	peer_expect(&p, &c, SHUTDOWN, NULL);
	(void)close(c.fd);
	peer_fini(&p);
}

static const struct {
	const char *name;
	uint32_t size;
	bool split;
	unsigned buffers;
} rx_shapes[] = {
	{ "smallest", 45, false, 256 },
	{ "one descriptor", 4096, false, 256 },
	{ "header apart, as Linux before 6.2", 44 + 4096, true, 128 },
	{ "odd", 1777, false, 7 },
	{ "one buffer", 4096, false, 1 },
	{ "larger than a packet", 44 + VSOCK_PACKET_MAX, false, 16 },
};

static void receive_buffers_of_any_shape(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rx_shapes) / sizeof(rx_shapes[0]); i++) {
		static uint8_t expected[5000];
		struct peer_packet packet;
		struct peer_conn c;
		struct peer p;

		print_message("  %s\n", rx_shapes[i].name);
		peer_init_quiet(&p);
		p.rx_size = rx_shapes[i].size;
		p.rx_split = rx_shapes[i].split;
		assert_int_equal(peer_start(&p, rx_shapes[i].buffers, true), 0);
		c = peer_open(&p, GUEST, HOST);
		peer_pattern(expected, 0, sizeof(expected));
		peer_host_write(c.fd, expected, sizeof(expected));
		while (c.received < sizeof(expected)) {
			uint32_t before = c.received;

			peer_expect(&p, &c, RW, &packet);
			assert_memory_equal(packet.data, expected + before, packet.h.len);
		}
		(void)close(c.fd);
		peer_fini(&p);
	}
}

static void receive_header_in_pieces(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct vsock_hdr hdr = { 0 };
	struct fake_buf bufs[50];
	uint16_t head;
	uint32_t len;
	gpa_t gpa;

	(void)state;
	peer_init_quiet(&p);
	assert_int_equal(peer_start(&p, 0, true), 0);
	c = peer_request(&p, GUEST, HOST);
	gpa = fake_alloc(&p.drv, 1000);
	for (unsigned i = 0; i < 50; i++)
		bufs[i] = (struct fake_buf){ gpa + i * 20, 1, true };
	assert_true(fake_add(&p.drv.queues[VSOCK_RX], bufs, 50, FAKE_DIRECT) >= 0);
	(void)fake_kick(&p.drv.queues[VSOCK_RX]);
	c.fd = peer_answer(&p, 0, true);
	assert_true(fake_wait_used(&p.drv.queues[VSOCK_RX], &head, &len));
	assert_int_equal(len, sizeof(hdr));
	for (unsigned i = 0; i < sizeof(hdr); i++)
		((uint8_t *)&hdr)[i] = *((uint8_t *)fake_ptr(&p.drv, gpa) + i * 20);
	assert_int_equal(le16_get(hdr.op), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(le32_get(hdr.dst_port), GUEST);
	(void)close(c.fd);
	peer_fini(&p);
}

/* ---- many ---- */

static void one_thousand_and_twenty_three(void **state)
{
	static struct peer_conn c[VSOCK_CONNS_MAX];
	uint64_t total = 0, most = (uint64_t)VSOCK_CHUNKS * VSOCK_CHUNK;
	struct peer_conn more;
	struct peer p;
	int end;

	(void)state;
	peer_init(&p);
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
		int one = 1; /* the kernel's least: our pool has to take the rest */

		c[i] = peer_open(&p, GUEST + i, HOST + i % 3);
		assert_true(peer_credit(&c[i]) >= VSOCK_CREDIT_MIN);
		assert_int_equal(
			setsockopt(vsock_of(p.drv.dev)->conns[i].source.fd, SOL_SOCKET, SO_SNDBUF, &one, sizeof(one)),
			0);
	}
	more = peer_request(&p, GUEST - 1, HOST);
	peer_expect(&p, &more, RST, NULL);
	more.fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, GUEST - 2, end), -EMFILE);
	(void)close(more.fd);
	/* All send all they may and nobody reads: the pool holds, however large the sum of the wishes. */
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++)
		(void)peer_spend_credit(&p, &c[i]);
	assert_in_range(peer_pending(&p), most / 4, most);
	/* Each makes progress all the same. */
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
		uint32_t sent = c[i].sent;

		peer_read_back(c[i].fd, 0, sent);
		peer_settle(&p);
		peer_take_updates(&p, &c[i]);
		assert_true(peer_credit(&c[i]) >= VSOCK_CREDIT_MIN);
		peer_pattern(bytes, sent, 500);
		peer_send(&p, &c[i], RW, 0, bytes, 500);
		peer_read_back(c[i].fd, sent, 500);
		peer_settle(&p);
		peer_take_updates(&p, &c[i]);
		total += c[i].sent;
	}
	assert_true(total > most / 2);
	assert_int_equal(peer_pending(&p), 0);
	/* Slots come back, credit with them. */
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
		peer_send(&p, &c[i], SHUTDOWN, 3, NULL, 0);
		peer_expect(&p, &c[i], RST, NULL);
		assert_true(peer_host_eof(c[i].fd));
		(void)close(c[i].fd);
	}
	assert_int_equal(vsock_of(p.drv.dev)->extra_free, VSOCK_EXTRA);
	assert_int_equal(vsock_of(p.drv.dev)->nconns, 0);
	more = peer_open(&p, GUEST - 1, HOST);
	(void)close(more.fd);
	peer_fini(&p);
}

/* A guest that never answers the host's requests cannot keep those whose requester has left. */
static void unanswered_requests_give_way(void **state)
{
	struct peer_packet packet;
	struct peer_conn c;
	struct peer p;
	int fds[VSOCK_CONNS_MAX], end, fd;

	(void)state;
	peer_init(&p);
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
		fds[i] = peer_pair(&end);
		assert_int_equal(peer_connect(&p, GUEST, end), 0);
		assert_true(peer_recv(&p, &packet));
		assert_int_equal(packet.h.op, REQUEST);
	}
	(void)close(fds[500]);
	peer_settle(&p);
	c = peer_request(&p, GUEST, HOST);
	peer_expect(&p, &(struct peer_conn){ .guest_port = GUEST, .host_port = VSOCK_PORT_HOST + 500 }, RST, NULL);
	c.fd = peer_answer(&p, 0, true);
	peer_expect(&p, &c, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, GUEST, end), -EMFILE);
	(void)close(fd);
	(void)close(c.fd);
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++)
		if (i != 500)
			(void)close(fds[i]);
	peer_fini(&p);
}

/* One connection with all the bytes of the world does not keep another waiting. */
static void fair(void **state)
{
	struct peer_conn loud, quiet;
	struct peer_packet packet;
	unsigned loud_packets = 0;
	struct peer p;

	(void)state;
	peer_init_quiet(&p);
	p.rx_hold = true;
	assert_int_equal(peer_start(&p, 32, true), 0);
	loud = peer_open(&p, GUEST, HOST);
	quiet = peer_open(&p, GUEST + 1, HOST);
	while (write(loud.fd, bytes, sizeof(bytes)) > 0)
		;
	peer_settle(&p); /* it has all buffers now and wants more */
	peer_host_write(quiet.fd, "x", 1);
	p.rx_hold = false;
	for (;;) {
		assert_true(peer_recv(&p, &packet));
		if (packet.h.guest_port == quiet.guest_port)
			break;
		assert_true(++loud_packets < 30 + 2 * VSOCK_STASH);
	}
	(void)close(loud.fd);
	(void)close(quiet.fd);
	peer_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_credit_runs_out),
		cmocka_unit_test(receive_buffers_run_out),
		cmocka_unit_test(receive_buffers_of_any_shape),
		cmocka_unit_test(receive_header_in_pieces),
		cmocka_unit_test(one_thousand_and_twenty_three),
		cmocka_unit_test(unanswered_requests_give_way),
		cmocka_unit_test(fair),
	};
	struct rlimit files = { 4096, 4096 };

	(void)signal(SIGPIPE, SIG_IGN);
	if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
		print_error("4096 descriptors are needed\n");
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
