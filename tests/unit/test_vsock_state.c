/* vsock: snapshots in the middle of everything, resets by the driver, and broken rings. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vsock_peer.h"

#define GUEST 5000U
#define HOST  77U

#define RST      VIRTIO_VSOCK_OP_RST
#define RW       VIRTIO_VSOCK_OP_RW
#define SHUTDOWN VIRTIO_VSOCK_OP_SHUTDOWN

/* ---- snapshots ---- */

static void expect_reset_event(struct peer *p)
{
	uint16_t head;
	uint32_t len, id;

	assert_true(fake_wait_used(&p->drv.queues[VSOCK_EVENT], &head, &len));
	assert_int_equal(len, sizeof(struct virtio_vsock_event));
	memcpy(&id, fake_ptr(&p->drv, p->event_gpa), sizeof(id));
	assert_int_equal(id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
}

static void add_event_buffer(struct peer *p)
{
	struct fake_buf buf = { p->event_gpa, sizeof(struct virtio_vsock_event), true };

	memset(fake_ptr(&p->drv, p->event_gpa), 0xff, sizeof(struct virtio_vsock_event));
	assert_true(fake_add(&p->drv.queues[VSOCK_EVENT], &buf, 1, FAKE_DIRECT) >= 0);
	(void)fake_kick(&p->drv.queues[VSOCK_EVENT]);
}

/* In the middle of a stream both ways, receive buffers popped and not used, a dial unanswered, a request unsent. */
static void clone_in_the_middle(void **state)
{
	struct peer p;
	struct peer_conn c, dialling;
	struct peer_packet packet;
	int end, fd;

	(void)state;
	peer_init_quiet(&p);
	assert_int_equal(peer_start(&p, 20, false), 0);
	c = peer_open(&p, GUEST, HOST);
	peer_host_write(c.fd, "first", 5);
	peer_expect(&p, &c, RW, NULL);
	assert_true(vsock_of(p.drv.dev)->nstash > 0); /* what this test is about */
	dialling = peer_request(&p, GUEST + 1, HOST);
	fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, 22, end), 0);
	assert_true(peer_recv(&p, &packet));
	p.ndials = 0;

	assert_int_equal(fake_replace(&p.drv, peer_device(&p)), 0);
	assert_true(peer_host_eof(c.fd)); /* nothing of the old instance is left */
	assert_true(peer_host_eof(fd));
	(void)close(c.fd);
	(void)close(fd);
	peer_expect_nothing(&p);
	add_event_buffer(&p); /* the event was remembered until now */
	expect_reset_event(&p);

	/* The guest's old sockets speak until they have seen the event. */
	peer_send(&p, &c, RW, 0, "more", 4);
	peer_expect(&p, &c, RST, NULL);
	peer_send(&p, &dialling, SHUTDOWN, 3, NULL, 0);
	peer_expect(&p, &dialling, RST, NULL);
	/* A new connection by the host meets none of the old ports. */
	fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, 22, end), 0);
	assert_true(peer_recv(&p, &packet));
	assert_int_equal(packet.h.host_port, VSOCK_PORT_HOST + 1);
	(void)close(fd);
	/* Every receive buffer is still one: 100 packets pass through the 20. */
	c = peer_open(&p, GUEST, HOST);
	for (unsigned i = 0; i < 100; i++) {
		peer_host_write(c.fd, &i, sizeof(i));
		peer_expect(&p, &c, RW, &packet);
		assert_memory_equal(packet.data, &i, sizeof(i));
	}
	assert_int_equal(p.drv.queues[VSOCK_RX].nfree, 256 - 20);
	(void)close(c.fd);
	peer_fini(&p);
}

/* The event's buffer was there before: it comes by itself. */
static void clone_idle(void **state)
{
	struct peer p;
	struct peer_conn c;

	(void)state;
	peer_init(&p);
	assert_int_equal(fake_replace(&p.drv, peer_device(&p)), 0);
	expect_reset_event(&p);
	c = peer_open(&p, GUEST, HOST);
	(void)close(c.fd);
	/* Cloned again before the guest gave another buffer: due again, delivered once. */
	assert_int_equal(fake_replace(&p.drv, peer_device(&p)), 0);
	assert_int_equal(fake_replace(&p.drv, peer_device(&p)), 0);
	add_event_buffer(&p);
	expect_reset_event(&p);
	add_event_buffer(&p);
	peer_settle(&p);
	assert_int_equal(p.drv.queues[VSOCK_EVENT].nfree, 255);
	peer_fini(&p);
}

static void clone_before_the_driver(void **state)
{
	struct peer p;
	struct peer_conn c;
	uint16_t head;
	uint32_t len;

	(void)state;
	peer_init_quiet(&p);
	assert_int_equal(fake_replace(&p.drv, peer_device(&p)), 0);
	assert_int_equal(peer_start(&p, 20, true), 0);
	c = peer_open(&p, GUEST, HOST);
	peer_settle(&p);
	assert_false(fake_used(&p.drv.queues[VSOCK_EVENT], &head, &len)); /* nothing was lost, nothing to tell */
	(void)close(c.fd);
	peer_fini(&p);
}

static void damaged_state(void **state)
{
	struct state_writer good, bad;
	struct peer p;
	struct peer_conn c;
	size_t ours;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST); /* pops receive buffers */
	fake_save(&p.drv, &good);
	assert_true(vsock_of(p.drv.dev)->nstash >= VSOCK_STASH - 1);
	ours = good.len - 12 - 2 * vsock_of(p.drv.dev)->nstash;
	for (size_t len = 0; len < good.len; len++) {
		bad = good;
		bad.len = len;
		assert_int_equal(fake_restore(&p.drv, peer_device(&p), &bad), -EINVAL);
	}
	/* version, whether active, how many buffers are held, each of their heads */
	for (size_t i = 0; i < good.len - ours; i++) {
		uint8_t keep = good.data[ours + i];

		if ((i >= 4 && i < 8) || (i >= 12 && i % 2 == 0))
			continue; /* the next port and the low half of a head: any will do */
		good.data[ours + i] = 0xee;
		assert_int_equal(fake_restore(&p.drv, peer_device(&p), &good), -EINVAL);
		good.data[ours + i] = keep;
	}
	assert_int_equal(fake_restore(&p.drv, peer_device(&p), &good), 0);
	expect_reset_event(&p);
	state_writer_free(&good);
	(void)close(c.fd);
	peer_fini(&p);
}

/* Paused for a snapshot and let go on: the original keeps its connections. */
static void original_goes_on(void **state)
{
	struct state_writer w;
	struct peer p;
	struct peer_conn c, dialling;
	struct peer_packet packet;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	dialling = peer_request(&p, GUEST + 1, HOST);
	fake_save(&p.drv, &w);
	state_writer_free(&w);
	peer_host_write(c.fd, "while paused", 12);
	dialling.fd = peer_answer(&p, 1, true);
	peer_expect_nothing(&p);
	virtio_mmio_resume(p.drv.mmio);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(peer_recv(&p, &packet));
		assert_int_equal(packet.h.op, packet.h.guest_port == GUEST ? RW : VIRTIO_VSOCK_OP_RESPONSE);
	}
	(void)close(c.fd);
	(void)close(dialling.fd);
	peer_fini(&p);
}

/* ---- resets ---- */

/*
 * The guest powers off right after its last write: the kick may not have been seen, the transmit
 * queue holds the bytes, then the driver resets the device. The host program gets them, and the end.
 */
static void reset_loses_nothing(void **state)
{
	struct vsock_packet h = { .src_cid = PEER_CID,
				  .dst_cid = 2,
				  .type = 1,
				  .guest_port = GUEST,
				  .host_port = HOST,
				  .op = RW,
				  .buf_alloc = 65536,
				  .len = 7 };
	struct peer p;
	struct peer_conn c, dialling;
	char text[21];

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	dialling = peer_request(&p, GUEST + 1, HOST);
	for (unsigned i = 0; i < 3; i++)
		assert_true(peer_queue_raw(&p, &h, "goodbye", 7) >= 0);
	h.op = VIRTIO_VSOCK_OP_REQUEST;
	h.len = 0;
	h.guest_port++;
	assert_true(peer_queue_raw(&p, &h, NULL, 0) >= 0); /* breaks the pending dial, on a vCPU thread */
	h.guest_port++;
	assert_true(peer_queue_raw(&p, &h, NULL, 0) >= 0);
	fake_set(&p.drv, VIRTIO_MMIO_STATUS, 0);
	peer_host_read(c.fd, text, sizeof(text));
	assert_memory_equal(text, "goodbyegoodbyegoodbye", sizeof(text));
	assert_true(peer_host_eof(c.fd));
	(void)close(c.fd);
	assert_int_equal(p.ndials, 2); /* nobody was asked during the reset */
	dialling.fd = peer_answer(&p, 1, true);
	assert_true(peer_host_eof(dialling.fd));
	(void)close(dialling.fd);
	assert_int_equal(vsock_of(p.drv.dev)->nconns, 0);
	assert_int_equal(vsock_of(p.drv.dev)->extra_free, VSOCK_EXTRA);
	assert_int_equal(peer_connect(&p, 22, peer_pair(&c.fd)), -ENOTCONN);
	(void)close(c.fd);
	memset(p.rx_gpa, 0, sizeof(p.rx_gpa));
	assert_int_equal(peer_start(&p, 20, true), 0);
	c = peer_open(&p, GUEST, HOST);
	(void)close(c.fd);
	peer_fini(&p);
}

/* Bytes in our buffer at a reset drain for as long as the host program takes. */
static void reset_with_a_slow_host(void **state)
{
	struct peer p;
	struct peer_conn c, idle;

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	idle = peer_open(&p, GUEST + 1, HOST);
	(void)peer_spend_credit(&p, &c);
	fake_set(&p.drv, VIRTIO_MMIO_STATUS, 0);
	assert_true(peer_host_eof(idle.fd));
	assert_true(peer_pending(&p) > 0);
	peer_read_back(c.fd, 0, c.sent);
	assert_true(peer_host_eof(c.fd));
	assert_int_equal(peer_pending(&p), 0);
	(void)close(c.fd);
	(void)close(idle.fd);
	peer_fini(&p);
}

/* The guest's last packets have been kicked, or not even that: pending() has seen them. */
static void pending_looks_first(void **state)
{
	struct vsock_packet h = { .src_cid = PEER_CID,
				  .dst_cid = 2,
				  .type = 1,
				  .guest_port = GUEST,
				  .host_port = HOST,
				  .op = RW,
				  .buf_alloc = 65536,
				  .len = 4 };
	struct peer p;
	struct peer_conn c;
	char text[4];

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	assert_true(peer_queue_raw(&p, &h, "last", 4) >= 0);
	assert_int_equal(peer_pending(&p), 0);
	assert_int_equal(read(c.fd, text, sizeof(text)), 4); /* no waiting: it is there */
	(void)close(c.fd);
	peer_fini(&p);
}

/* What sockets do not take is given up, but for a range of ports. */
static void given_up(void **state)
{
	struct peer_conn low, high;
	struct peer p;
	uint64_t pending;

	(void)state;
	peer_init(&p);
	low = peer_open(&p, GUEST, HOST);
	high = peer_open(&p, GUEST + 1, HOST + 1000);
	(void)peer_spend_credit(&p, &low);
	(void)peer_spend_credit(&p, &high);
	pending = peer_pending(&p);
	assert_true(pending > 0);
	peer_give_up(&p, HOST + 1000, HOST + 1002);
	assert_true(peer_pending(&p) > 0);
	assert_true(peer_pending(&p) < pending);
	peer_give_up(&p, HOST + 1001, HOST + 1002);
	assert_int_equal(peer_pending(&p), 0);
	(void)close(low.fd);
	(void)close(high.fd);
	peer_fini(&p);
}

/* ---- broken rings ---- */

static const struct {
	const char *name;
	unsigned queue;
	struct fake_buf bufs[2]; /* gpa: offset in a scratch page */
	unsigned nbufs;
} broken[] = {
	{ "packet of 43 bytes", VSOCK_TX, { { 0, 43, false } }, 1 },
	{ "packet of nothing", VSOCK_TX, { { 0, 0, false } }, 1 },
	{ "packet that the device is to write", VSOCK_TX, { { 0, 44, true } }, 1 },
	{ "packet with a writable tail", VSOCK_TX, { { 0, 44, false }, { 64, 4, true } }, 2 },
	{ "packet beyond guest memory", VSOCK_TX, { { 1ULL << 40, 44, false } }, 1 },
	{ "payload beyond guest memory", VSOCK_TX, { { 0, 44, false }, { (32ULL << 20) - 8, 64, false } }, 2 },
	{ "receive buffer of a header", VSOCK_RX, { { 0, 44, true } }, 1 },
	{ "receive buffer of nothing", VSOCK_RX, { { 0, 0, true } }, 1 },
	{ "receive buffer that is readable", VSOCK_RX, { { 0, 4096, false } }, 1 },
	{ "receive buffer readable in part", VSOCK_RX, { { 0, 44, false }, { 64, 4000, true } }, 2 },
	{ "receive buffer beyond guest memory", VSOCK_RX, { { UINT64_MAX - 10, 4096, true } }, 1 },
};

static void broken_rings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct fake_buf bufs[2];
		struct peer p;
		struct peer_conn c;
		gpa_t scratch;

		print_message("  %s\n", broken[i].name);
		peer_init_quiet(&p);
		assert_int_equal(peer_start(&p, 2, true), 0);
		c = peer_open(&p, GUEST, HOST);
		scratch = fake_alloc(&p.drv, 8192);
		for (unsigned b = 0; b < broken[i].nbufs; b++) {
			bufs[b] = broken[i].bufs[b];
			if (bufs[b].gpa < 8192)
				bufs[b].gpa += scratch;
		}
		assert_true(fake_add(&p.drv.queues[broken[i].queue], bufs, broken[i].nbufs, FAKE_DIRECT) >= 0);
		fake_set(&p.drv, VIRTIO_MMIO_QUEUE_NOTIFY, broken[i].queue);
		if (broken[i].queue == VSOCK_RX)
			peer_host_write(c.fd, "now it needs a buffer", 21);
		assert_true(peer_host_eof(c.fd)); /* the device gave up, and told the host */
		peer_settle(&p);
		assert_true(fake_needs_reset(&p.drv));
		assert_int_equal(vsock_of(p.drv.dev)->nconns, 0);
		(void)close(c.fd);
		memset(p.rx_gpa, 0, sizeof(p.rx_gpa));
		p.ndials = 0;
		assert_int_equal(peer_start(&p, 20, true), 0);
		assert_false(fake_needs_reset(&p.drv));
		c = peer_open(&p, GUEST, HOST);
		(void)close(c.fd);
		peer_fini(&p);
	}
}

static void broken_event_queue(void **state)
{
	struct fake_buf buf = { 0, 3, true };
	struct peer p;

	(void)state;
	peer_init_quiet(&p);
	assert_int_equal(peer_start(&p, 2, false), 0);
	assert_int_equal(fake_replace(&p.drv, peer_device(&p)), 0);
	buf.gpa = fake_alloc(&p.drv, 16);
	assert_true(fake_add(&p.drv.queues[VSOCK_EVENT], &buf, 1, FAKE_DIRECT) >= 0);
	(void)fake_kick(&p.drv.queues[VSOCK_EVENT]);
	peer_settle(&p);
	assert_true(fake_needs_reset(&p.drv));
	peer_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clone_in_the_middle),
		cmocka_unit_test(clone_idle),
		cmocka_unit_test(clone_before_the_driver),
		cmocka_unit_test(damaged_state),
		cmocka_unit_test(original_goes_on),
		cmocka_unit_test(reset_loses_nothing),
		cmocka_unit_test(reset_with_a_slow_host),
		cmocka_unit_test(pending_looks_first),
		cmocka_unit_test(given_up),
		cmocka_unit_test(broken_rings),
		cmocka_unit_test(broken_event_queue),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
