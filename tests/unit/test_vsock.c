/* vsock: how connections begin and end, and what hostile packets and rings get for an answer. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vsock_peer.h"

#define GUEST 5000U
#define HOST  77U

#define RST           VIRTIO_VSOCK_OP_RST
#define REQUEST       VIRTIO_VSOCK_OP_REQUEST
#define RESPONSE      VIRTIO_VSOCK_OP_RESPONSE
#define RW            VIRTIO_VSOCK_OP_RW
#define SHUTDOWN      VIRTIO_VSOCK_OP_SHUTDOWN
#define CREDIT_UPDATE VIRTIO_VSOCK_OP_CREDIT_UPDATE
#define RCV           VIRTIO_VSOCK_SHUTDOWN_RCV
#define SEND          VIRTIO_VSOCK_SHUTDOWN_SEND

static void identity(void **state)
{
	struct peer p;
	struct le64 cid;
	const uint64_t bad_cids[] = { 0, 1, 2, UINT32_MAX, 1ULL << 32 };
	struct vsock_broker broker;
	struct virtio_dev *dev;

	(void)state;
	peer_init(&p);
	broker = vsock_of(p.drv.dev)->broker;
	assert_int_equal(fake_get(&p.drv, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_VSOCK);
	fake_config(&p.drv, 0, &cid, sizeof(cid));
	assert_int_equal(le64_get(cid), PEER_CID);
	assert_true(p.drv.features & 1); /* VIRTIO_VSOCK_F_STREAM */
	assert_false(p.drv.features & 1ULL << VIRTIO_VSOCK_F_SEQPACKET);
	for (size_t i = 0; i < sizeof(bad_cids) / sizeof(bad_cids[0]); i++)
		assert_int_equal(virtio_vsock_new(bad_cids[i], broker, p.drv.gm, p.drv.loop, &dev), -EINVAL);
	peer_fini(&p);
}

static void both_ways(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet packet;
	char text[8];

	(void)state;
	peer_init(&p);
	c = peer_open(&p, GUEST, HOST);
	assert_true(c.dev_alloc >= VSOCK_CREDIT_MIN);
	peer_send(&p, &c, RW, 0, "hello", 5);
	peer_host_read(c.fd, text, 5);
	assert_memory_equal(text, "hello", 5);
	peer_host_write(c.fd, "world!", 6);
	peer_expect(&p, &c, RW, &packet);
	assert_int_equal(packet.h.len, 6);
	assert_memory_equal(packet.data, "world!", 6);
	assert_int_equal(c.dev_fwd, 5);
	peer_send(&p, &c, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
	peer_expect(&p, &c, CREDIT_UPDATE, NULL);
	(void)close(c.fd);
	peer_fini(&p);
}

/* ---- dials ---- */

static void dial_refused(void **state)
{
	struct peer p;
	struct peer_conn c;

	(void)state;
	peer_init(&p);
	p.dial_error = -EACCES;
	c = peer_request(&p, GUEST, HOST);
	peer_expect(&p, &c, RST, NULL);
	p.dial_error = 0;
	c = peer_request(&p, GUEST, HOST);
	peer_expect_nothing(&p);
	assert_int_equal(peer_answer(&p, 0, false), -1);
	peer_expect(&p, &c, RST, NULL);
	peer_fini(&p);
}

static void dials_bounded(void **state)
{
	struct peer p;
	struct peer_conn c[CONTROL_DIALS_MAX], more;

	(void)state;
	peer_init(&p);
	for (unsigned i = 0; i < CONTROL_DIALS_MAX; i++)
		c[i] = peer_request(&p, GUEST + i, HOST);
	peer_expect_nothing(&p);
	more = peer_request(&p, GUEST - 1, HOST);
	peer_expect(&p, &more, RST, NULL);
	assert_int_equal(p.ndials, CONTROL_DIALS_MAX);
	/* Giving up does not make room: the supervisor still owes the answer. */
	peer_send(&p, &c[3], RST, 0, NULL, 0);
	more = peer_request(&p, GUEST - 1, HOST);
	peer_expect(&p, &more, RST, NULL);
	c[3].fd = peer_answer(&p, 3, true);
	assert_true(peer_host_eof(c[3].fd));
	(void)close(c[3].fd);
	more = peer_open(&p, GUEST - 1, HOST);
	(void)close(more.fd);
	for (unsigned i = 0; i < CONTROL_DIALS_MAX; i++)
		if (i != 3)
			(void)close(peer_answer(&p, i, true));
	peer_fini(&p);
}

static void do_wrong_answers(void *arg)
{
	struct peer *p = arg;
	int dev_end, host_end = peer_pair(&dev_end);
	int plain[2];

	virtio_vsock_dialled(p->drv.dev, 12345, dev_end); /* nobody asked */
	assert_true(peer_host_eof(host_end));
	(void)close(host_end);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain), 0);
	virtio_vsock_dialled(p->drv.dev, p->dials[0].id, plain[0]); /* would block the whole VM */
	assert_true(peer_host_eof(plain[1]));
	(void)close(plain[1]);
}

static void wrong_answers(void **state)
{
	struct peer p;
	struct peer_conn c;

	(void)state;
	peer_init(&p);
	c = peer_request(&p, GUEST, HOST);
	fake_on_io(&p.drv, do_wrong_answers, &p);
	peer_expect(&p, &c, RST, NULL);
	peer_fini(&p);
}

/* ---- connections that the host opens ---- */

static void host_connects(void **state)
{
	struct peer p;
	struct peer_conn c = { .guest_port = 22, .alloc = 65536 }, d;
	struct peer_packet packet;
	int end, plain[2];

	(void)state;
	peer_init_quiet(&p);
	c.fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, 22, end), -ENOTCONN);
	assert_true(peer_host_eof(c.fd));
	(void)close(c.fd);
	assert_int_equal(peer_start(&p, PEER_RX_BUFS, true), 0);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain), 0);
	assert_int_equal(peer_connect(&p, 22, plain[0]), -EINVAL);
	assert_true(peer_host_eof(plain[1]));
	(void)close(plain[1]);

	c.fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, 22, end), 0);
	assert_true(peer_recv(&p, &packet));
	assert_int_equal(packet.h.op, REQUEST);
	assert_int_equal(packet.h.guest_port, 22);
	assert_true(packet.h.host_port >= VSOCK_PORT_HOST);
	c.host_port = packet.h.host_port;
	c.dev_alloc = packet.h.buf_alloc;

	d = (struct peer_conn){ .guest_port = 22, .alloc = 65536 };
	d.fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, 22, end), 0);
	assert_true(peer_recv(&p, &packet));
	d.host_port = packet.h.host_port;
	assert_int_not_equal(c.host_port, d.host_port);

	peer_host_write(c.fd, "early", 5);
	peer_expect_nothing(&p);
	peer_send(&p, &c, RESPONSE, 0, NULL, 0);
	peer_expect(&p, &c, RW, &packet);
	assert_memory_equal(packet.data, "early", 5);
	peer_send(&p, &c, RW, 0, "reply", 5);
	peer_host_read(c.fd, packet.data, 5);

	peer_send(&p, &d, RST, 0, NULL, 0); /* nobody listens */
	assert_true(peer_host_eof(d.fd));
	peer_expect_nothing(&p);
	assert_int_equal(p.nconnects, 2);
	assert_int_equal(p.nclosed, 1);
	assert_true(p.closed[1]);
	(void)close(c.fd);
	peer_expect(&p, &c, SHUTDOWN, &packet);
	assert_int_equal(p.nclosed, 1); /* the guest has not let go of it */
	peer_send(&p, &c, RST, 0, NULL, 0);
	peer_settle(&p);
	assert_int_equal(p.nclosed, 2);
	(void)close(d.fd);
	peer_fini(&p);
}

/* A client that writes and leaves before the guest has accepted: its bytes arrive all the same. */
static void host_leaves_early(void **state)
{
	struct peer p;
	struct peer_conn c = { .guest_port = 22, .alloc = 65536 };
	struct peer_packet packet;
	int end;

	(void)state;
	peer_init(&p);
	c.fd = peer_pair(&end);
	assert_int_equal(peer_connect(&p, 22, end), 0);
	assert_true(peer_recv(&p, &packet));
	c.host_port = packet.h.host_port;
	c.dev_alloc = packet.h.buf_alloc;
	peer_host_write(c.fd, "last words", 10);
	(void)close(c.fd);
	peer_expect_nothing(&p);
	peer_send(&p, &c, RESPONSE, 0, NULL, 0);
	peer_expect(&p, &c, RW, &packet);
	assert_int_equal(packet.h.len, 10);
	peer_expect(&p, &c, SHUTDOWN, &packet);
	assert_int_equal(packet.h.flags, RCV | SEND);
	peer_send(&p, &c, RST, 0, NULL, 0);
	peer_expect_nothing(&p);
	peer_fini(&p);
}

/* ---- ends ---- */

enum step {
	END = 0,
	G_SEND, /* guest: shutdown(SHUT_WR) */
	G_RCV,
	G_BOTH, /* guest: close() */
	G_RST,
	G_DATA, /* guest writes, accepted */
	H_SEND, /* host: shutdown(SHUT_WR) */
	H_CLOSE,
	H_DATA, /* host writes, guest reads it */
	H_READ, /* host reads what G_DATA wrote */
	X_SEND, /* expect SHUTDOWN(SEND) at the guest */
	X_RCV,
	X_BOTH,
	X_RST,
	X_NONE, /* expect no packet */
	X_EOF, /* expect end of file at the host */
	X_EPIPE, /* expect the host's writes to fail */
};

static const struct {
	const char *name;
	enum step steps[12];
} ends[] = {
	{ "guest closes", { G_BOTH, X_RST, X_EOF } },
	{ "guest writes and closes", { G_DATA, G_BOTH, X_RST, H_READ, X_EOF } },
	{ "guest half-closes, then closes", { G_SEND, X_NONE, X_EOF, H_DATA, G_BOTH, X_RST, X_EPIPE } },
	{ "guest half-closes both, one by one", { G_SEND, X_EOF, G_RCV, X_RST, X_EPIPE } },
	{ "guest half-closes both, the other order", { G_RCV, X_EPIPE, G_DATA, H_READ, G_SEND, X_RST, X_EOF } },
	{ "guest stops reading, then closes", { G_RCV, X_EPIPE, G_DATA, G_BOTH, X_RST, H_READ, X_EOF } },
	{ "guest resets", { G_RST, X_NONE, X_EOF } },
	{ "guest writes and resets", { G_DATA, G_RST, H_READ, X_EOF } },
	{ "host half-closes, guest answers and closes", { H_SEND, X_SEND, G_DATA, H_READ, G_BOTH, X_RST, X_EOF } },
	{ "host half-closes, then guest does", { H_SEND, X_SEND, G_SEND, X_EOF, X_BOTH, G_RST, X_NONE } },
	{ "guest half-closes, then host does", { G_SEND, X_EOF, H_DATA, H_SEND, X_BOTH, G_RST, X_NONE } },
	{ "guest half-closes, host closes", { G_SEND, X_EOF, H_DATA, H_CLOSE, X_BOTH, G_BOTH, X_RST } },
	{ "host closes", { H_DATA, H_CLOSE, X_BOTH, G_RST, X_NONE } },
	{ "host closes, guest closes", { H_CLOSE, X_BOTH, G_BOTH, X_RST } },
	{ "host half-closes, then closes", { H_SEND, X_SEND, H_CLOSE, X_RCV, G_BOTH, X_RST } },
	{ "guest does not read, host closes", { G_RCV, X_EPIPE, H_CLOSE, X_RCV, G_BOTH, X_RST } },
	{ "guest half-closes twice", { G_SEND, G_SEND, X_EOF, X_NONE, H_DATA, G_RCV, X_RST } },
};

static void expect_shutdown(struct peer *p, struct peer_conn *c, uint32_t flags)
{
	struct peer_packet packet;

	peer_expect(p, c, SHUTDOWN, &packet);
	/* RCV alone and both are the same news when SEND was told before */
	assert_int_equal(packet.h.flags & flags, flags);
	assert_true(flags != SEND || packet.h.flags == SEND);
}

static void take_step(struct peer *p, struct peer_conn *c, enum step step)
{
	struct peer_packet packet;
	char text[4];

	switch (step) {
	case G_SEND:
		peer_send(p, c, SHUTDOWN, SEND, NULL, 0);
		break;
	case G_RCV:
		peer_send(p, c, SHUTDOWN, RCV, NULL, 0);
		break;
	case G_BOTH:
		peer_send(p, c, SHUTDOWN, RCV | SEND, NULL, 0);
		break;
	case G_RST:
		peer_send(p, c, RST, 0, NULL, 0);
		break;
	case G_DATA:
		peer_send(p, c, RW, 0, "ping", 4);
		break;
	case H_SEND:
		assert_int_equal(shutdown(c->fd, SHUT_WR), 0);
		break;
	case H_CLOSE:
		(void)close(c->fd);
		c->fd = -1;
		break;
	case H_DATA:
		peer_host_write(c->fd, "pong", 4);
		peer_expect(p, c, RW, &packet);
		assert_memory_equal(packet.data, "pong", 4);
		break;
	case H_READ:
		peer_host_read(c->fd, text, 4);
		assert_memory_equal(text, "ping", 4);
		break;
	case X_SEND:
		expect_shutdown(p, c, SEND);
		break;
	case X_RCV:
		expect_shutdown(p, c, RCV);
		break;
	case X_BOTH:
		expect_shutdown(p, c, RCV | SEND);
		break;
	case X_RST:
		peer_expect(p, c, RST, NULL);
		break;
	case X_NONE:
		peer_expect_nothing(p);
		break;
	case X_EOF:
		assert_true(peer_host_eof(c->fd));
		break;
	case X_EPIPE:
		peer_settle(p);
		assert_int_equal(write(c->fd, "x", 1), -1);
		assert_int_equal(errno, EPIPE);
		break;
	case END:
		break;
	}
}

static void all_ends(void **state)
{
	struct peer p;

	(void)state;
	peer_init(&p);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct peer_conn c = peer_open(&p, GUEST, HOST); /* the same ports: nothing is left of the last */

		print_message("  %s\n", ends[i].name);
		for (const enum step *step = ends[i].steps; *step; step++)
			take_step(&p, &c, *step);
		peer_expect_nothing(&p);
		if (c.fd >= 0)
			(void)close(c.fd);
		assert_int_equal(peer_pending(&p), 0);
	}
	peer_fini(&p);
}

/* ---- hostile packets ---- */

enum before { NOTHING, DIALLING, OPEN, CONNECTING, HALF_CLOSED };
enum answer { SILENCE, RESET, RESET_AND_DEAD };

/* The fields that an honest packet has; the table's entries hold differences to them. */
static const struct vsock_packet honest = { .src_cid = PEER_CID, .dst_cid = 2, .type = 1, .buf_alloc = 65536 };

#define P(...)                                                                                                         \
	{                                                                                                              \
		__VA_ARGS__                                                                                            \
	} /* clang-format off */
#define SRC(v)   .src_cid = PEER_CID ^ (v)
#define DST(v)   .dst_cid = 2 ^ (v)
#define TYPE(v)  .type = 1 ^ (v)
#define ALLOC(v) .buf_alloc = 65536 ^ (v) /* clang-format on */

static const struct {
	const char *name;
	enum before before;
	struct vsock_packet h;
	uint32_t payload; /* bytes really there */
	enum answer answer;
} hostile[] = {
	{ "source CID of another guest", OPEN, P(SRC(4), .op = RW, .len = 4), 4, SILENCE },
	{ "source CID above 32 bits", OPEN, P(SRC(PEER_CID | 1ULL << 32), .op = RW, .len = 4), 4, SILENCE },
	{ "destination CID of another guest", OPEN, P(DST(4), .op = RST), 0, SILENCE },
	{ "destination CID of the hypervisor", NOTHING, P(DST(0), .op = REQUEST), 0, SILENCE },
	{ "request from another CID", NOTHING, P(SRC(5), .op = REQUEST), 0, SILENCE },
	{ "request to another CID", NOTHING, P(DST(5), .op = REQUEST), 0, SILENCE },
	{ "seqpacket request", NOTHING, P(TYPE(2), .op = REQUEST), 0, RESET },
	{ "seqpacket data on a stream", OPEN, P(TYPE(2), .op = RW, .len = 4), 4, RESET },
	{ "unknown type", NOTHING, P(TYPE(77), .op = REQUEST), 0, RESET },
	{ "reset of an unknown type", NOTHING, P(TYPE(77), .op = RST), 0, SILENCE },
	{ "operation 0", NOTHING, P(.op = 0), 0, RESET },
	{ "operation 0 on a connection", OPEN, P(.op = 0), 0, RESET_AND_DEAD },
	{ "operation 8", OPEN, P(.op = 8), 0, RESET_AND_DEAD },
	{ "operation 65535", OPEN, P(.op = 65535), 0, RESET_AND_DEAD },
	{ "data for nobody", NOTHING, P(.op = RW, .len = 4), 4, RESET },
	{ "shutdown for nobody", NOTHING, P(.op = SHUTDOWN, .flags = 3), 0, RESET },
	{ "credit for nobody", NOTHING, P(.op = CREDIT_UPDATE), 0, RESET },
	{ "response for nobody", NOTHING, P(.op = RESPONSE), 0, RESET },
	{ "reset for nobody", NOTHING, P(.op = RST), 0, SILENCE },
	{ "second request", OPEN, P(.op = REQUEST), 0, RESET_AND_DEAD },
	{ "second request while dialling", DIALLING, P(.op = REQUEST), 0, RESET },
	{ "request on a connection of the host's", CONNECTING, P(.op = REQUEST), 0, RESET_AND_DEAD },
	{ "request with forwarded bytes", NOTHING, P(.op = REQUEST, .fwd_cnt = 1), 0, RESET },
	{ "data while dialling", DIALLING, P(.op = RW, .len = 4), 4, RESET },
	{ "shutdown while dialling", DIALLING, P(.op = SHUTDOWN, .flags = 3), 0, RESET },
	{ "response while dialling", DIALLING, P(.op = RESPONSE), 0, RESET },
	{ "data before the response", CONNECTING, P(.op = RW, .len = 4), 4, RESET_AND_DEAD },
	{ "second response", OPEN, P(.op = RESPONSE), 0, RESET_AND_DEAD },
	{ "data after its shutdown", HALF_CLOSED, P(.op = RW, .len = 4), 4, RESET_AND_DEAD },
	{ "length one beyond the buffer", OPEN, P(.op = RW, .len = 5), 4, RESET_AND_DEAD },
	{ "length of a header beyond nothing", OPEN, P(.op = RW, .len = 44), 0, RESET_AND_DEAD },
	{ "length beyond guest memory", OPEN, P(.op = RW, .len = 0x7fffffff), 4, RESET_AND_DEAD },
	{ "length of all ones", OPEN, P(.op = RW, .len = UINT32_MAX), 4, RESET_AND_DEAD },
	{ "length that wraps with the header", OPEN, P(.op = RW, .len = UINT32_MAX - 43), 4, RESET_AND_DEAD },
	{ "request with a length beyond its buffer", NOTHING, P(.op = REQUEST, .len = 1), 0, RESET },
	{ "more than a packet may hold", OPEN, P(.op = RW, .len = VSOCK_PACKET_MAX + 1), VSOCK_PACKET_MAX + 1,
	  RESET_AND_DEAD },
	{ "bytes taken that were never sent", OPEN, P(.op = CREDIT_UPDATE, .fwd_cnt = 1), 0, RESET_AND_DEAD },
	{ "taken count half a turn ahead", OPEN, P(.op = CREDIT_UPDATE, .fwd_cnt = 1U << 31), 0, RESET_AND_DEAD },
	{ "no data", OPEN, P(.op = RW, .len = 0), 0, SILENCE },
	{ "payload on a credit update", OPEN, P(.op = CREDIT_UPDATE, .len = 4), 4, SILENCE },
	{ "shutdown of nothing", OPEN, P(.op = SHUTDOWN, .flags = 0), 0, SILENCE },
	{ "shutdown with unknown flags", OPEN, P(.op = SHUTDOWN, .flags = 0xfffffffc), 0, SILENCE },
	{ "buffer of nothing", OPEN, P(.op = CREDIT_UPDATE, ALLOC(0)), 0, SILENCE },
	{ "buffer of everything", OPEN, P(.op = CREDIT_UPDATE, ALLOC(UINT32_MAX)), 0, SILENCE },
};

static struct peer_conn prepare(struct peer *p, enum before before)
{
	struct peer_conn c = { .guest_port = GUEST, .host_port = HOST, .fd = -1, .alloc = 65536 };
	struct peer_packet packet;
	int end;

	switch (before) {
	case NOTHING:
		break;
	case DIALLING:
		c = peer_request(p, GUEST, HOST);
		break;
	case OPEN:
		c = peer_open(p, GUEST, HOST);
		break;
	case HALF_CLOSED:
		c = peer_open(p, GUEST, HOST);
		peer_send(p, &c, SHUTDOWN, SEND, NULL, 0);
		break;
	case CONNECTING:
		c.fd = peer_pair(&end);
		assert_int_equal(peer_connect(p, GUEST, end), 0);
		assert_true(peer_recv(p, &packet));
		c.host_port = packet.h.host_port;
		break;
	}
	return c;
}

static void hostile_packets(void **state)
{
	static const uint8_t payload[VSOCK_PACKET_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		struct vsock_packet h = hostile[i].h;
		struct peer_packet packet;
		struct peer_conn c, other;
		struct peer p;

		print_message("  %s\n", hostile[i].name);
		peer_init(&p);
		c = prepare(&p, hostile[i].before);
		h.src_cid ^= honest.src_cid;
		h.dst_cid ^= honest.dst_cid;
		h.type ^= honest.type;
		h.buf_alloc ^= honest.buf_alloc;
		h.guest_port = c.guest_port;
		h.host_port = c.host_port;
		peer_send_raw(&p, &h, payload, hostile[i].payload);
		if (hostile[i].answer == SILENCE) {
			peer_expect_nothing(&p); /* neither here, nor at the host: no byte, no end */
			assert_int_equal(p.ndials, hostile[i].before == NOTHING ? 0 : 1);
			if (c.fd >= 0)
				assert_int_equal(read(c.fd, packet.data, 1), -1);
		} else {
			peer_expect(&p, &c, RST, &packet);
			assert_int_equal(packet.h.type, h.type); /* or Linux drops it */
		}
		peer_expect_nothing(&p);
		if (hostile[i].answer == RESET_AND_DEAD)
			assert_true(peer_host_eof(c.fd));
		if (hostile[i].before == DIALLING && hostile[i].answer == RESET) {
			c.fd = peer_answer(&p, 0, true); /* comes too late */
			assert_true(peer_host_eof(c.fd));
			peer_expect_nothing(&p);
		}
		assert_false(fake_needs_reset(&p.drv));
		other = peer_open(&p, GUEST + 1, HOST + 1); /* the device is as good as before */
		(void)close(other.fd);
		if (c.fd >= 0)
			(void)close(c.fd);
		peer_fini(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity),          cmocka_unit_test(both_ways),     cmocka_unit_test(dial_refused),
		cmocka_unit_test(dials_bounded),     cmocka_unit_test(wrong_answers), cmocka_unit_test(host_connects),
		cmocka_unit_test(host_leaves_early), cmocka_unit_test(all_ends),      cmocka_unit_test(hostile_packets),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
