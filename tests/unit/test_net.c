/* virtio-net: packets both ways through a stream socket, in pieces, in floods, over limits, snapshots and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_driver.h"
#include "virtio/net.h"

#define MEM       (8U << 20)
#define HDR       ((uint32_t)sizeof(struct net_hdr))
#define MERGE     (1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_RING_F_EVENT_IDX)
#define FRAME_MAX 65549U

static const uint8_t guest_mac[6] = { 2, 0, 0, 0, 0, 1 };

static struct fake_driver drv;
static struct vmm_net config;
static int host = -1; /* the other end of the device's socket */

/* A device with a socket of its own; `sndbuf`: bytes, 0: the system's. */
static struct virtio_dev *net_new(int sndbuf)
{
	struct virtio_dev *dev;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	if (sndbuf)
		assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)), 0);
	config.fd = pair[0];
	memcpy(config.mac, guest_mac, sizeof(config.mac));
	config.mtu = 1500;
	assert_int_equal(virtio_net_new(&config, "net0", drv.gm, drv.loop, &dev), 0);
	if (host >= 0)
		(void)close(host);
	host = pair[1];
	return dev;
}

static void start(uint64_t features, int sndbuf)
{
	fake_init(&drv, MEM);
	fake_bind(&drv, net_new(sndbuf));
	assert_int_equal(fake_probe(&drv, features, 0), 0);
}

static int teardown(void **state)
{
	(void)state;
	fake_fini(&drv);
	(void)close(host);
	host = -1;
	config = (struct vmm_net){ 0 };
	return 0;
}

/* ---- the host's side ---- */

static void host_write(const void *p, size_t len)
{
	while (len) {
		struct pollfd fd = { .fd = host, .events = POLLOUT };
		ssize_t n = send(host, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			assert_int_equal(poll(&fd, 1, FAKE_WAIT_MS), 1);
			continue;
		}
		assert_true(n > 0);
		p = (const uint8_t *)p + n;
		len -= (size_t)n;
	}
}

static void host_read(void *p, size_t len)
{
	while (len) {
		struct pollfd fd = { .fd = host, .events = POLLIN };
		ssize_t n;

		assert_int_equal(poll(&fd, 1, FAKE_WAIT_MS), 1);
		n = recv(host, p, len, 0);
		assert_true(n > 0);
		p = (uint8_t *)p + n;
		len -= (size_t)n;
	}
}

/* A frame whose bytes depend on its number. */
static void fill(uint8_t *frame, size_t len, unsigned number)
{
	memset(frame, 0xff, 6);
	memcpy(frame + 6, guest_mac, 6);
	frame[12] = 0x88;
	frame[13] = 0xcc;
	for (size_t i = NET_ETH; i < len; i++)
		frame[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static void host_send(size_t len, unsigned number)
{
	uint8_t *bytes = malloc(4 + len);

	assert_non_null(bytes);
	bytes[0] = (uint8_t)(len >> 24);
	bytes[1] = (uint8_t)(len >> 16);
	bytes[2] = (uint8_t)(len >> 8);
	bytes[3] = (uint8_t)len;
	fill(bytes + 4, len, number);
	host_write(bytes, 4 + len);
	free(bytes);
}

static void host_expect(size_t len, unsigned number)
{
	uint8_t length[4], *got = malloc(len), *want = malloc(len);

	assert_non_null(got);
	assert_non_null(want);
	host_read(length, 4);
	assert_int_equal((size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3], len);
	host_read(got, len);
	fill(want, len, number);
	assert_memory_equal(got, want, len);
	free(got);
	free(want);
}

static void host_expect_nothing(void)
{
	uint8_t byte;

	assert_int_equal(recv(host, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* ---- the guest's side ---- */

/* A frame in guest memory, behind its header; `pieces` buffers. */
static int guest_add(size_t len, unsigned number, unsigned pieces, enum fake_add_flags flags)
{
	struct fake_buf bufs[8];
	gpa_t at = fake_alloc(&drv, HDR + len);
	uint32_t left = HDR + (uint32_t)len;

	fill((uint8_t *)fake_ptr(&drv, at) + HDR, len, number);
	for (unsigned i = 0; i < pieces; i++) {
		uint32_t n = i + 1 == pieces ? left : left / (pieces - i);

		bufs[i] = (struct fake_buf){ at, n, false };
		at += n;
		left -= n;
	}
	return fake_add(&drv.queues[NET_TX], bufs, pieces, flags);
}

static void guest_send(size_t len, unsigned number, unsigned pieces, enum fake_add_flags flags)
{
	uint16_t head;
	uint32_t used;
	int added = guest_add(len, number, pieces, flags);

	assert_true(added >= 0);
	(void)fake_kick(&drv.queues[NET_TX]);
	assert_true(fake_wait_used(&drv.queues[NET_TX], &head, &used));
	assert_int_equal(head, added);
	assert_int_equal(used, 0);
}

static struct {
	gpa_t at;
	uint32_t len;
} rx_bufs[VQ_SIZE_MAX]; /* by head */

static void give(unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		struct fake_buf buf = { fake_alloc(&drv, len), len, true };
		int head = fake_add(&drv.queues[NET_RX], &buf, 1, FAKE_DIRECT);

		assert_true(head >= 0);
		rx_bufs[head].at = buf.gpa;
		rx_bufs[head].len = len;
	}
	(void)fake_kick(&drv.queues[NET_RX]);
}

/* Waits for a packet, over as many buffers as its header says. */
static void guest_expect(size_t len, unsigned number)
{
	uint8_t *got = malloc(HDR + FRAME_MAX), *want = malloc(len);
	size_t have = 0;
	unsigned buffers = 1;

	assert_non_null(got);
	assert_non_null(want);
	for (unsigned i = 0; i < buffers; i++) {
		uint16_t head;
		uint32_t used;

		assert_true(fake_wait_used(&drv.queues[NET_RX], &head, &used));
		assert_true(used <= rx_bufs[head].len && have + used <= HDR + FRAME_MAX);
		memcpy(got + have, fake_ptr(&drv, rx_bufs[head].at), used);
		have += used;
		if (i == 0)
			buffers = le16_get(((struct net_hdr *)(void *)got)->num_buffers);
		assert_true(i + 1 == buffers || used == rx_bufs[head].len); /* only the last is not full, §5.1.6.4.1 */
	}
	assert_int_equal(have, HDR + len);
	assert_int_equal(got[0], 0);
	assert_int_equal(got[1], 0);
	fill(want, len, number);
	assert_memory_equal(got + HDR, want, len);
	free(got);
	free(want);
}

static void no_more_packets(void)
{
	uint16_t head;
	uint32_t used;

	assert_false(fake_used(&drv.queues[NET_RX], &head, &used));
}

/* What the I/O thread has been told before is done when this returns. */
static void nothing(void *arg)
{
	(void)arg;
}

/* ---- tests ---- */

static void test_config(void **state)
{
	uint8_t mac[6];
	uint16_t status, mtu;

	(void)state;
	start(0, 0);
	assert_int_equal(fake_get(&drv, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_NET);
	fake_config(&drv, 0, mac, 4);
	fake_config(&drv, 4, mac + 4, 2);
	assert_memory_equal(mac, guest_mac, 6);
	fake_config(&drv, 6, &status, 2);
	assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
	fake_config(&drv, 10, &mtu, 2);
	assert_int_equal(mtu, 1500);
	/* a stream has no offloads */
	assert_int_equal(drv.dev->features & (1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM), 0);
}

static void test_from_the_guest(void **state)
{
	static const size_t sizes[] = { 14, 15, 60, NET_HEAD - 1, NET_HEAD, NET_HEAD + 1, 1514 };

	(void)state;
	start(1ULL << VIRTIO_RING_F_INDIRECT_DESC | MERGE, 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned pieces = 1; pieces <= 8; pieces++) {
			guest_send(sizes[i], i + pieces, pieces, pieces & 1 ? FAKE_DIRECT : FAKE_INDIRECT);
			host_expect(sizes[i], i + pieces);
		}
}

/* One whose byte `at` was changed after it was made. */
static void guest_send_changed(unsigned at, uint8_t value)
{
	int head = guest_add(100, 0, 1, FAKE_DIRECT);
	uint16_t used_head;
	uint32_t used;

	*((uint8_t *)fake_ptr(&drv, drv.queues[NET_TX].desc[head].addr) + at) = value;
	(void)fake_kick(&drv.queues[NET_TX]);
	assert_true(fake_wait_used(&drv.queues[NET_TX], &used_head, &used));
}

/* Dropped, counted, and the device goes on; never an end of it. */
static void test_refused(void **state)
{
	struct net *net;

	(void)state;
	start(0, 0);
	net = net_of(drv.dev);
	guest_send(13, 0, 1, FAKE_DIRECT);
	guest_send(1515, 0, 1, FAKE_DIRECT);
	guest_send_changed(HDR + 6, 4); /* another's MAC */
	guest_send_changed(0, VIRTIO_NET_HDR_F_NEEDS_CSUM); /* was not offered */
	guest_send(100, 1, 1, FAKE_DIRECT);
	host_expect(100, 1);
	host_expect_nothing();
	assert_int_equal(net->counted->drops[NET_DROP_SIZE - 1], 2);
	assert_int_equal(net->counted->drops[NET_DROP_MAC - 1], 1);
	assert_int_equal(net->counted->drops[NET_DROP_OFFLOAD - 1], 1);
	assert_int_equal(net->counted->tx_dropped, 4);
	assert_false(fake_needs_reset(&drv));
}

/* The socket takes little at a time: frames wait, in order, and come whole. */
static void test_slow_host(void **state)
{
	unsigned sent = 0, seen = 0;
	uint16_t head;
	uint32_t used;

	(void)state;
	start(MERGE, 4096);
	while (seen < 500) {
		while (sent < 500 && sent - seen < 100 &&
		       guest_add(60 + sent * 2, sent, 1 + sent % 3, FAKE_DIRECT) >= 0)
			sent++;
		(void)fake_kick(&drv.queues[NET_TX]);
		host_expect(60 + seen * 2, seen);
		seen++;
		while (fake_used(&drv.queues[NET_TX], &head, &used))
			;
	}
	host_expect_nothing();
}

static void test_to_the_guest(void **state)
{
	static const size_t sizes[] = { 14, 60, 1514, 1515, 9000, FRAME_MAX };
	static const uint32_t buffers[] = { HDR + 1, 100, 1536, 70000 };

	(void)state;
	start(MERGE, 0);
	for (unsigned b = 0; b < sizeof(buffers) / sizeof(buffers[0]); b++) {
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			unsigned needed = (unsigned)((HDR + sizes[i] + buffers[b] - 1) / buffers[b]);

			if (needed > NET_STASH)
				continue;
			host_send(sizes[i], i);
			give(needed, buffers[b]);
			guest_expect(sizes[i], i);
		}
	}
	no_more_packets();
}

/* A packet that found too few buffers waits for more; what comes meanwhile stays behind it. */
static void test_waits_for_room(void **state)
{
	(void)state;
	start(MERGE, 0);
	give(2, 600);
	host_send(3000, 1);
	host_send(100, 2);
	fake_on_io(&drv, nothing, NULL);
	no_more_packets();
	give(1, 600);
	fake_on_io(&drv, nothing, NULL);
	no_more_packets();
	give(4, 600);
	guest_expect(3000, 1);
	guest_expect(100, 2);
}

/* No number of such buffers will do: it is dropped, and the buffers serve the next. */
static void test_too_large(void **state)
{
	(void)state;
	start(MERGE, 0);
	give(NET_STASH, 100);
	host_send(NET_STASH * 100, 1);
	host_send(500, 2);
	guest_expect(500, 2);
	assert_int_equal(net_of(drv.dev)->counted->rx_dropped, 1);
}

static void test_without_merging(void **state)
{
	(void)state;
	start(0, 0);
	give(4, 1600);
	host_send(1514, 1);
	guest_expect(1514, 1);
	host_send(1700, 2); /* more than a buffer holds */
	host_send(60, 3);
	guest_expect(60, 3);
	assert_int_equal(net_of(drv.dev)->counted->rx_dropped, 1);
}

static void test_torn_frames(void **state)
{
	uint8_t bytes[2 * (4 + 200)];

	(void)state;
	start(MERGE, 0);
	give(100, 1536);
	for (unsigned i = 0; i < 2; i++) {
		memset(bytes + i * 204, 0, 3);
		bytes[i * 204 + 3] = 200;
		fill(bytes + i * 204 + 4, 200, i);
	}
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		host_write(bytes + i, 1);
		fake_on_io(&drv, nothing, NULL);
	}
	guest_expect(200, 0);
	guest_expect(200, 1);
}

static void test_flood(void **state)
{
	(void)state;
	start(MERGE, 0);
	for (unsigned i = 0; i < 2000; i++) {
		if (i % 50 == 0)
			give(50, 1536);
		host_send(64 + i % 1400, i);
		guest_expect(64 + i % 1400, i);
	}
}

static void link_is_down(void)
{
	uint16_t status = 1;

	for (unsigned i = 0; i < 1000 && status; i++) {
		fake_on_io(&drv, nothing, NULL);
		fake_config(&drv, 6, &status, 2);
	}
	assert_int_equal(status, 0);
}

/* The guest keeps a device whose link is down, and gets its buffers back. */
static void test_host_gone(void **state)
{
	(void)state;
	start(MERGE, 0);
	give(4, 1536);
	(void)close(host);
	host = -1;
	link_is_down();
	guest_send(100, 1, 1, FAKE_DIRECT);
	assert_false(fake_needs_reset(&drv));
	assert_int_equal(fake_probe(&drv, MERGE, 0), 0);
	guest_send(100, 2, 1, FAKE_DIRECT);
}

static void test_host_breaks_the_framing(void **state)
{
	static const uint8_t bad[][4] = { { 0, 0, 0, 13 }, { 0, 1, 0, 14 }, { 0xff, 0xff, 0xff, 0xff } };

	for (unsigned i = 0; i < 3; i++) {
		start(MERGE, 0);
		give(1, 1536);
		host_write(bad[i], 4);
		link_is_down();
		no_more_packets();
		if (i < 2)
			(void)teardown(state);
	}
}

static void test_protocol_errors(void **state)
{
	static const struct {
		const char *name;
		unsigned queue, n;
		struct fake_buf bufs[2];
	} cases[] = {
		{ "writable packet", NET_TX, 1, { { 0x1000, 100, true } } },
		{ "packet with room", NET_TX, 2, { { 0x1000, 100, false }, { 0x1000, 100, true } } },
		{ "no header", NET_TX, 1, { { 0x1000, HDR - 1, false } } },
		{ "nothing", NET_TX, 1, { { 0x1000, 0, false } } },
		{ "outside memory", NET_TX, 1, { { MEM, 100, false } } },
		{ "readable buffer", NET_RX, 1, { { 0x1000, 100, false } } },
		{ "buffer of a header", NET_RX, 1, { { 0x1000, HDR, true } } },
		{ "buffer outside memory", NET_RX, 1, { { MEM - 10, 100, true } } },
	};

	(void)state;
	start(0, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned irqs = fake_irqs(&drv);

		assert_int_equal(fake_probe(&drv, MERGE, 0), 0);
		host_send(100, 1); /* a buffer is looked at when there is something for it */
		(void)fake_add(&drv.queues[cases[i].queue], cases[i].bufs, cases[i].n, FAKE_DIRECT);
		(void)fake_kick(&drv.queues[cases[i].queue]);
		assert_true(fake_wait_irqs(&drv, irqs));
		if (!fake_needs_reset(&drv))
			fail_msg("%s: accepted", cases[i].name);
	}
	assert_int_equal(fake_probe(&drv, MERGE, 0), 0);
	guest_send(100, 2, 1, FAKE_DIRECT);
	host_expect(100, 2);
}

/* Buffers popped, a packet in the middle: the clone takes the buffers up, and needs no others. */
static void test_snapshot(void **state)
{
	(void)state;
	start(MERGE, 0);
	give(8, 600);
	host_send(100, 1);
	guest_expect(100, 1);
	assert_true(net_of(drv.dev)->nstash > 0); /* what this test is about */
	assert_int_equal(fake_replace(&drv, net_new(0)), 0);
	host_send(1000, 2);
	guest_expect(1000, 2);
	guest_send(100, 3, 1, FAKE_DIRECT);
	host_expect(100, 3);
}

static void test_wrong_states(void **state)
{
	struct state_writer w;

	(void)state;
	start(MERGE, 0);
	give(8, 600);
	host_send(100, 1);
	guest_expect(100, 1);
	fake_save(&drv, &w);
	w.data[w.len - 2 * net_of(drv.dev)->nstash - 4]--; /* one buffer fewer than the queue misses */
	assert_int_equal(fake_restore(&drv, net_new(0), &w), -EINVAL);
	state_writer_free(&w);
}

/* What a limit holds back comes later, whole and in order; taking the limit away lets it go at once. */
static void test_limits(void **state)
{
	(void)state;
	config.pps = 50;
	start(MERGE, 0);
	give(100, 1536);
	for (unsigned i = 0; i < 60; i++)
		assert_true(guest_add(100, i, 1, FAKE_DIRECT) >= 0);
	(void)fake_kick(&drv.queues[NET_TX]);
	for (unsigned i = 0; i < 60; i++)
		host_expect(100, i);
	for (unsigned i = 0; i < 60; i++)
		host_send(100, i);
	for (unsigned i = 0; i < 60; i++)
		guest_expect(100, i);
	assert_int_equal(net_of(drv.dev)->counted->tx_dropped + net_of(drv.dev)->counted->rx_dropped, 0);
}

/* What the bucket of received packets owes. */
struct owed {
	uint64_t packets, full_ns, now_ns;
	bool readable;
};

static struct owed owed;

static void look_what_is_owed(void *arg)
{
	struct net *net = net_of(arg);

	(void)pthread_mutex_lock(&net->dev.lock);
	owed = (struct owed){ net->counted->rx_packets, net->rx_limit.ops.full_ns, net_now(), net->readable };
	(void)pthread_mutex_unlock(&net->dev.lock);
}

/* No more than the one packet that came: that it was the only one costs nothing. */
static void test_empty_reads_cost_nothing(void **state)
{
	(void)state;
	config.pps = 2;
	start(MERGE, 0);
	give(8, 1536);
	host_send(100, 1);
	guest_expect(100, 1);
	fake_on_io(&drv, look_what_is_owed, drv.dev);
	assert_int_equal(owed.packets, 1);
	assert_false(owed.readable);
	assert_true(owed.full_ns <= owed.now_ns + 500000000);
}

static void unlimit(void *arg)
{
	virtio_net_limit(arg, 0, 0);
}

static void test_limit_taken_away(void **state)
{
	(void)state;
	config.bps = VMM_BPS_MIN; /* the second packet of the largest size would take a quarter of a second */
	start(MERGE, 0);
	for (unsigned i = 0; i < 200; i++)
		assert_true(guest_add(1514, i, 1, FAKE_DIRECT) >= 0);
	(void)fake_kick(&drv.queues[NET_TX]);
	host_expect(1514, 0);
	fake_on_io(&drv, unlimit, drv.dev);
	for (unsigned i = 1; i < 200; i++)
		host_expect(1514, i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_config, teardown),
		cmocka_unit_test_teardown(test_from_the_guest, teardown),
		cmocka_unit_test_teardown(test_refused, teardown),
		cmocka_unit_test_teardown(test_slow_host, teardown),
		cmocka_unit_test_teardown(test_to_the_guest, teardown),
		cmocka_unit_test_teardown(test_waits_for_room, teardown),
		cmocka_unit_test_teardown(test_too_large, teardown),
		cmocka_unit_test_teardown(test_without_merging, teardown),
		cmocka_unit_test_teardown(test_torn_frames, teardown),
		cmocka_unit_test_teardown(test_flood, teardown),
		cmocka_unit_test_teardown(test_host_gone, teardown),
		cmocka_unit_test_teardown(test_host_breaks_the_framing, teardown),
		cmocka_unit_test_teardown(test_protocol_errors, teardown),
		cmocka_unit_test_teardown(test_snapshot, teardown),
		cmocka_unit_test_teardown(test_wrong_states, teardown),
		cmocka_unit_test_teardown(test_limits, teardown),
		cmocka_unit_test_teardown(test_empty_reads_cost_nothing, teardown),
		cmocka_unit_test_teardown(test_limit_taken_away, teardown),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
