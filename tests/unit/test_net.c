/* virtio-net: packets both ways through a stream socket, in pieces, in floods, over limits, snapshots and ends. */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <unistd.h>

#include "net_guest.h"

static void test_config(void **state)
{
	uint8_t mac[6];
	uint16_t status, mtu;

	(void)state;
	nic_start(0, 0);
	assert_int_equal(fake_get(&nic, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_NET);
	fake_config(&nic, 0, mac, 4);
	fake_config(&nic, 4, mac + 4, 2);
	assert_memory_equal(mac, nic_guest_mac, 6);
	fake_config(&nic, 6, &status, 2);
	assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
	fake_config(&nic, 10, &mtu, 2);
	assert_int_equal(mtu, 1500);
	/* a stream has no offloads */
	assert_int_equal(nic.dev->features & (1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM), 0);
}

static void test_from_the_guest(void **state)
{
	static const size_t sizes[] = { 14, 15, 60, NET_HEAD - 1, NET_HEAD, NET_HEAD + 1, 1514 };

	(void)state;
	nic_start(1ULL << VIRTIO_RING_F_INDIRECT_DESC | MERGE, 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned pieces = 1; pieces <= 8; pieces++) {
			nic_guest_send(sizes[i], i + pieces, pieces, pieces & 1 ? FAKE_DIRECT : FAKE_INDIRECT);
			nic_host_expect(sizes[i], i + pieces);
		}
}

/* One whose byte `at` was changed after it was made. */
static void guest_send_changed(unsigned at, uint8_t value)
{
	int head = nic_guest_add(100, 0, 1, FAKE_DIRECT);
	uint16_t used_head;
	uint32_t used;

	*((uint8_t *)fake_ptr(&nic, nic.queues[NET_TX].desc[head].addr) + at) = value;
	(void)fake_kick(&nic.queues[NET_TX]);
	assert_true(fake_wait_used(&nic.queues[NET_TX], &used_head, &used));
}

/* Dropped, counted, and the device goes on; never an end of it. */
static void test_refused(void **state)
{
	struct net *net;

	(void)state;
	nic_start(0, 0);
	net = net_of(nic.dev);
	nic_guest_send(13, 0, 1, FAKE_DIRECT);
	nic_guest_send(1515, 0, 1, FAKE_DIRECT);
	guest_send_changed(HDR + 6, 4); /* another's MAC */
	guest_send_changed(0, VIRTIO_NET_HDR_F_NEEDS_CSUM); /* was not offered */
	nic_guest_send(100, 1, 1, FAKE_DIRECT);
	nic_host_expect(100, 1);
	nic_host_expect_nothing();
	assert_int_equal(net->counted->drops[NET_DROP_SIZE - 1], 2);
	assert_int_equal(net->counted->drops[NET_DROP_MAC - 1], 1);
	assert_int_equal(net->counted->drops[NET_DROP_OFFLOAD - 1], 1);
	assert_int_equal(net->counted->tx_dropped, 4);
	assert_false(fake_needs_reset(&nic));
}

/* The socket takes little at a time: frames wait, in order, and come whole. */
static void test_slow_host(void **state)
{
	unsigned sent = 0, seen = 0;
	uint16_t head;
	uint32_t used;

	(void)state;
	nic_start(MERGE, 4096);
	while (seen < 500) {
		while (sent < 500 && sent - seen < 100 &&
		       nic_guest_add(60 + sent * 2, sent, 1 + sent % 3, FAKE_DIRECT) >= 0)
			sent++;
		(void)fake_kick(&nic.queues[NET_TX]);
		nic_host_expect(60 + seen * 2, seen);
		seen++;
		while (fake_used(&nic.queues[NET_TX], &head, &used))
			;
	}
	nic_host_expect_nothing();
}

static void test_to_the_guest(void **state)
{
	static const size_t sizes[] = { 14, 60, 1514, 1515, 9000, FRAME_MAX };
	static const uint32_t buffers[] = { HDR + 1, 100, 1536, 70000 };

	(void)state;
	nic_start(MERGE, 0);
	for (unsigned b = 0; b < sizeof(buffers) / sizeof(buffers[0]); b++) {
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			unsigned needed = (unsigned)((HDR + sizes[i] + buffers[b] - 1) / buffers[b]);

			if (needed > NET_STASH)
				continue;
			nic_host_send(sizes[i], i);
			nic_give(needed, buffers[b]);
			nic_guest_expect(sizes[i], i);
		}
	}
	nic_no_more_packets();
}

/* A packet that found too few buffers waits for more; what comes meanwhile stays behind it. */
static void test_waits_for_room(void **state)
{
	(void)state;
	nic_start(MERGE, 0);
	nic_give(2, 600);
	nic_host_send(3000, 1);
	nic_host_send(100, 2);
	fake_on_io(&nic, nic_nothing, NULL);
	nic_no_more_packets();
	nic_give(1, 600);
	fake_on_io(&nic, nic_nothing, NULL);
	nic_no_more_packets();
	nic_give(4, 600);
	nic_guest_expect(3000, 1);
	nic_guest_expect(100, 2);
}

/* No number of such buffers will do: it is dropped, and the buffers serve the next. */
static void test_too_large(void **state)
{
	(void)state;
	nic_start(MERGE, 0);
	nic_give(NET_STASH, 100);
	nic_host_send(NET_STASH * 100, 1);
	nic_host_send(500, 2);
	nic_guest_expect(500, 2);
	assert_int_equal(net_of(nic.dev)->counted->rx_dropped, 1);
}

static void test_without_merging(void **state)
{
	(void)state;
	nic_start(0, 0);
	nic_give(4, 1600);
	nic_host_send(1514, 1);
	nic_guest_expect(1514, 1);
	nic_host_send(1700, 2); /* more than a buffer holds */
	nic_host_send(60, 3);
	nic_guest_expect(60, 3);
	assert_int_equal(net_of(nic.dev)->counted->rx_dropped, 1);
}

static void test_torn_frames(void **state)
{
	uint8_t bytes[2 * (4 + 200)];

	(void)state;
	nic_start(MERGE, 0);
	nic_give(100, 1536);
	for (unsigned i = 0; i < 2; i++) {
		memset(bytes + i * 204, 0, 3);
		bytes[i * 204 + 3] = 200;
		nic_fill(bytes + i * 204 + 4, 200, i);
	}
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		nic_host_write(bytes + i, 1);
		fake_on_io(&nic, nic_nothing, NULL);
	}
	nic_guest_expect(200, 0);
	nic_guest_expect(200, 1);
}

static void test_flood(void **state)
{
	(void)state;
	nic_start(MERGE, 0);
	for (unsigned i = 0; i < 2000; i++) {
		if (i % 50 == 0)
			nic_give(50, 1536);
		nic_host_send(64 + i % 1400, i);
		nic_guest_expect(64 + i % 1400, i);
	}
}

static void link_is_down(void)
{
	uint16_t status = 1;

	for (unsigned i = 0; i < 1000 && status; i++) {
		fake_on_io(&nic, nic_nothing, NULL);
		fake_config(&nic, 6, &status, 2);
	}
	assert_int_equal(status, 0);
}

/* The guest keeps a device whose link is down, and gets its buffers back. */
static void test_host_gone(void **state)
{
	(void)state;
	nic_start(MERGE, 0);
	nic_give(4, 1536);
	(void)close(nic_host);
	nic_host = -1;
	link_is_down();
	nic_guest_send(100, 1, 1, FAKE_DIRECT);
	assert_false(fake_needs_reset(&nic));
	assert_int_equal(fake_probe(&nic, MERGE, 0), 0);
	nic_guest_send(100, 2, 1, FAKE_DIRECT);
}

static void test_host_breaks_the_framing(void **state)
{
	static const uint8_t bad[][4] = { { 0, 0, 0, 13 }, { 0, 1, 0, 14 }, { 0xff, 0xff, 0xff, 0xff } };

	for (unsigned i = 0; i < 3; i++) {
		nic_start(MERGE, 0);
		nic_give(1, 1536);
		nic_host_write(bad[i], 4);
		link_is_down();
		nic_no_more_packets();
		if (i < 2)
			(void)nic_teardown(state);
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
	nic_start(0, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned irqs = fake_irqs(&nic);

		assert_int_equal(fake_probe(&nic, MERGE, 0), 0);
		nic_host_send(100, 1); /* a buffer is looked at when there is something for it */
		(void)fake_add(&nic.queues[cases[i].queue], cases[i].bufs, cases[i].n, FAKE_DIRECT);
		(void)fake_kick(&nic.queues[cases[i].queue]);
		assert_true(fake_wait_irqs(&nic, irqs));
		if (!fake_needs_reset(&nic))
			fail_msg("%s: accepted", cases[i].name);
	}
	assert_int_equal(fake_probe(&nic, MERGE, 0), 0);
	nic_guest_send(100, 2, 1, FAKE_DIRECT);
	nic_host_expect(100, 2);
}

/* Buffers popped, a packet in the middle: the clone takes the buffers up, and needs no others. */
static void test_snapshot(void **state)
{
	(void)state;
	nic_start(MERGE, 0);
	nic_give(8, 600);
	nic_host_send(100, 1);
	nic_guest_expect(100, 1);
	assert_true(net_of(nic.dev)->nstash > 0); /* what this test is about */
	assert_int_equal(fake_replace(&nic, nic_new(0)), 0);
	nic_host_send(1000, 2);
	nic_guest_expect(1000, 2);
	nic_guest_send(100, 3, 1, FAKE_DIRECT);
	nic_host_expect(100, 3);
}

static void test_wrong_states(void **state)
{
	struct state_writer w;

	(void)state;
	nic_start(MERGE, 0);
	nic_give(8, 600);
	nic_host_send(100, 1);
	nic_guest_expect(100, 1);
	fake_save(&nic, &w);
	/* one buffer fewer than the queue misses: before the heads, and what is saved of the filter */
	w.data[w.len - 6 - NET_MACS * 6UL - 2UL * net_of(nic.dev)->nstash - 4]--;
	assert_int_equal(fake_restore(&nic, nic_new(0), &w), -EINVAL);
	state_writer_free(&w);
}

/* What a limit holds back comes later, whole and in order; taking the limit away lets it go at once. */
static void test_limits(void **state)
{
	(void)state;
	nic_config.pps = 50;
	nic_start(MERGE, 0);
	nic_give(100, 1536);
	for (unsigned i = 0; i < 60; i++)
		assert_true(nic_guest_add(100, i, 1, FAKE_DIRECT) >= 0);
	(void)fake_kick(&nic.queues[NET_TX]);
	for (unsigned i = 0; i < 60; i++)
		nic_host_expect(100, i);
	for (unsigned i = 0; i < 60; i++)
		nic_host_send(100, i);
	for (unsigned i = 0; i < 60; i++)
		nic_guest_expect(100, i);
	assert_int_equal(net_of(nic.dev)->counted->tx_dropped + net_of(nic.dev)->counted->rx_dropped, 0);
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
	nic_config.pps = 2;
	nic_start(MERGE, 0);
	nic_give(8, 1536);
	nic_host_send(100, 1);
	nic_guest_expect(100, 1);
	fake_on_io(&nic, look_what_is_owed, nic.dev);
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
	nic_config.bps = VMM_BPS_MIN; /* the second packet of the largest size would take a quarter of a second */
	nic_start(MERGE, 0);
	for (unsigned i = 0; i < 200; i++)
		assert_true(nic_guest_add(1514, i, 1, FAKE_DIRECT) >= 0);
	(void)fake_kick(&nic.queues[NET_TX]);
	nic_host_expect(1514, 0);
	fake_on_io(&nic, unlimit, nic.dev);
	for (unsigned i = 1; i < 200; i++)
		nic_host_expect(1514, i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_config, nic_teardown),
		cmocka_unit_test_teardown(test_from_the_guest, nic_teardown),
		cmocka_unit_test_teardown(test_refused, nic_teardown),
		cmocka_unit_test_teardown(test_slow_host, nic_teardown),
		cmocka_unit_test_teardown(test_to_the_guest, nic_teardown),
		cmocka_unit_test_teardown(test_waits_for_room, nic_teardown),
		cmocka_unit_test_teardown(test_too_large, nic_teardown),
		cmocka_unit_test_teardown(test_without_merging, nic_teardown),
		cmocka_unit_test_teardown(test_torn_frames, nic_teardown),
		cmocka_unit_test_teardown(test_flood, nic_teardown),
		cmocka_unit_test_teardown(test_host_gone, nic_teardown),
		cmocka_unit_test_teardown(test_host_breaks_the_framing, nic_teardown),
		cmocka_unit_test_teardown(test_protocol_errors, nic_teardown),
		cmocka_unit_test_teardown(test_snapshot, nic_teardown),
		cmocka_unit_test_teardown(test_wrong_states, nic_teardown),
		cmocka_unit_test_teardown(test_limits, nic_teardown),
		cmocka_unit_test_teardown(test_empty_reads_cost_nothing, nic_teardown),
		cmocka_unit_test_teardown(test_limit_taken_away, nic_teardown),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
