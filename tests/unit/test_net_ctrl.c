/* virtio-net's control queue: which frames the guest gets by what it asked for, and commands that are wrong in every way. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "net_guest.h"

#define CTRL (1ULL << VIRTIO_NET_F_CTRL_VQ | 1ULL << VIRTIO_NET_F_CTRL_RX)

enum { RX = VIRTIO_NET_CTRL_RX, MAC = VIRTIO_NET_CTRL_MAC }; /* classes */
enum {
	PROMISC = VIRTIO_NET_CTRL_RX_PROMISC,
	ALLMULTI = VIRTIO_NET_CTRL_RX_ALLMULTI,
	TABLE = VIRTIO_NET_CTRL_MAC_TABLE_SET
};

/* A command in pieces of `piece` bytes, 0: one; its answer. */
static uint8_t command(const void *bytes, size_t len, size_t piece)
{
	struct fake_buf bufs[64];
	gpa_t at = fake_alloc(&nic, len + 1), ack = fake_alloc(&nic, 1);
	uint8_t *answer = fake_ptr(&nic, ack);
	unsigned n = 0;

	memcpy(fake_ptr(&nic, at), bytes, len);
	*answer = 0x5a;
	if (!piece)
		piece = len;
	for (size_t done = 0; done < len; done += piece)
		bufs[n++] = (struct fake_buf){ at + done, (uint32_t)(len - done < piece ? len - done : piece), false };
	bufs[n++] = (struct fake_buf){ ack, 1, true };
	assert_int_equal(fake_do(&nic.queues[NET_CTRL], bufs, n, FAKE_DIRECT), 1);
	return *answer;
}

static uint8_t mode(uint8_t what, uint8_t on)
{
	const uint8_t bytes[] = { RX, what, on };

	return command(bytes, sizeof(bytes), 0);
}

static void put_number(uint8_t *p, uint32_t n)
{
	const struct le32 wire = le32_of(n);

	memcpy(p, &wire, sizeof(wire));
}

/* A table of addresses 2,…,i and 3,…,i; the length. */
static size_t table(uint8_t *bytes, unsigned nunicast, unsigned nmulticast)
{
	size_t at = 2;

	bytes[0] = MAC;
	bytes[1] = TABLE;
	for (unsigned half = 0; half < 2; half++) {
		unsigned n = half ? nmulticast : nunicast;

		put_number(bytes + at, n);
		at += 4;
		for (unsigned i = 0; i < n; i++, at += 6)
			memcpy(bytes + at,
			       (const uint8_t[6]){ (uint8_t)(2 + half), 1, 2, 3, (uint8_t)(i >> 8), (uint8_t)i }, 6);
	}
	return at;
}

static uint8_t set_table(unsigned nunicast, unsigned nmulticast, size_t piece)
{
	static uint8_t bytes[10 + 6 * 2000];

	return command(bytes, table(bytes, nunicast, nmulticast), piece);
}

/* A frame to that address comes, or does not, before one to the broadcast address that always does. */
static bool gets(const uint8_t mac[6])
{
	uint8_t frame[4 + 60];
	uint16_t head;
	uint32_t used;
	uint64_t filtered = net_of(nic.dev)->counted->rx_filtered;
	bool got;

	memset(frame, 0, 3);
	frame[3] = 60;
	nic_fill(frame + 4, 60, 1);
	memcpy(frame + 4, mac, 6);
	nic_host_write(frame, sizeof(frame));
	nic_host_send(61, 2);
	nic_give(2, 1536);
	assert_true(fake_wait_used(&nic.queues[NET_RX], &head, &used));
	got = used == HDR + 60;
	if (got)
		assert_true(fake_wait_used(&nic.queues[NET_RX], &head, &used));
	assert_int_equal(used, HDR + 61);
	fake_on_io(&nic, nic_nothing, NULL);
	assert_int_equal(net_of(nic.dev)->counted->rx_filtered - filtered, got ? 0 : 1);
	return got;
}

static const uint8_t in_unicast[6] = { 2, 1, 2, 3, 0, 1 }, in_multicast[6] = { 3, 1, 2, 3, 0, 2 };
static const uint8_t other_unicast[6] = { 2, 9, 9, 9, 9, 9 }, other_multicast[6] = { 3, 9, 9, 9, 9, 9 };

static void test_everything_at_first(void **state)
{
	(void)state;
	nic_start(MERGE | CTRL, 0);
	assert_true(gets(nic_guest_mac) && gets(other_unicast) && gets(other_multicast));
	/* a table alone narrows nothing */
	assert_int_equal(set_table(2, 3, 0), VIRTIO_NET_OK);
	assert_true(gets(other_unicast) && gets(other_multicast));
}

static void test_filter(void **state)
{
	(void)state;
	nic_start(MERGE | CTRL, 0);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
	assert_true(gets(nic_guest_mac));
	assert_false(gets(other_unicast) || gets(other_multicast) || gets(in_unicast) || gets(in_multicast));
	assert_int_equal(mode(ALLMULTI, 1), VIRTIO_NET_OK);
	assert_true(gets(other_multicast));
	assert_false(gets(other_unicast));
	assert_int_equal(mode(ALLMULTI, 0), VIRTIO_NET_OK);
	assert_int_equal(set_table(2, 3, 7), VIRTIO_NET_OK);
	assert_true(gets(in_unicast) && gets(in_multicast) && gets(nic_guest_mac));
	assert_false(gets(other_unicast) || gets(other_multicast));
	assert_int_equal(set_table(0, 3, 0), VIRTIO_NET_OK);
	assert_false(gets(in_unicast));
	assert_true(gets(in_multicast));
	assert_int_equal(mode(PROMISC, 1), VIRTIO_NET_OK);
	assert_true(gets(other_unicast) && gets(other_multicast));
}

/* What has no room in the table: all of that kind, and of no other. */
static void test_large_tables(void **state)
{
	static const struct {
		unsigned nunicast, nmulticast;
		bool unicast, multicast; /* whether others come */
	} cases[] = {
		{ NET_MACS, 0, false, false },
		{ NET_MACS - 3, 3, false, false },
		{ NET_MACS + 1, 3, true, false },
		{ 3, NET_MACS - 2, false, true },
		{ NET_MACS + 1, NET_MACS + 1, true, true },
		{ 900, 900, true, true },
		{ NET_MACS, 1, false, true },
	};

	(void)state;
	nic_start(MERGE | CTRL, 0);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(set_table(cases[i].nunicast, cases[i].nmulticast, 0), VIRTIO_NET_OK);
		assert_int_equal(gets(other_unicast), cases[i].unicast);
		assert_int_equal(gets(other_multicast), cases[i].multicast);
		assert_true(gets(in_unicast) && gets(nic_guest_mac));
		assert_int_equal(gets(in_multicast), cases[i].nmulticast > 2 || cases[i].multicast);
	}
}

/* Answered with an error, and nothing is another than before. */
static void test_wrong_commands(void **state)
{
	static const struct {
		const char *name;
		uint8_t bytes[32];
		size_t len;
	} cases[] = {
		{ "one byte", { RX }, 1 },
		{ "no value", { RX, PROMISC }, 2 },
		{ "two values", { RX, PROMISC, 1, 1 }, 4 },
		{ "neither on nor off", { RX, PROMISC, 2 }, 3 },
		{ "not offered: ALLUNI", { RX, VIRTIO_NET_CTRL_RX_ALLUNI, 1 }, 3 },
		{ "not offered: NOBCAST", { RX, VIRTIO_NET_CTRL_RX_NOBCAST, 1 }, 3 },
		{ "unknown mode", { RX, 200, 1 }, 3 },
		{ "not offered: another MAC", { MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 7 }, 8 },
		{ "unknown table", { MAC, 2, 0, 0, 0, 0, 0, 0, 0, 0 }, 10 },
		{ "table of nothing", { MAC, TABLE }, 2 },
		{ "table of three bytes", { MAC, TABLE, 0, 0, 0 }, 5 },
		{ "half a table", { MAC, TABLE, 0, 0, 0, 0 }, 6 },
		{ "table without its addresses", { MAC, TABLE, 1, 0, 0, 0, 0, 0, 0, 0 }, 10 },
		{ "table with half an address", { MAC, TABLE, 1, 0, 0, 0, 2, 0, 0 }, 9 },
		{ "table of 4 G", { MAC, TABLE, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 10 },
		{ "number that wraps", { MAC, TABLE, 0xab, 0xaa, 0xaa, 0x2a, 0, 0, 0, 0 }, 10 },
		{ "second table of 4 G", { MAC, TABLE, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }, 10 },
		{ "a byte too many", { MAC, TABLE, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 11 },
		{ "not offered: VLAN", { VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 1, 0 }, 4 },
		{ "not offered: announce", { VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK }, 2 },
		{ "not offered: queues", { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1, 0 }, 4 },
		{ "not offered: offloads", { VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10 },
		{ "unknown class", { 200, 0, 0 }, 3 },
	};
	struct net_filter before;

	(void)state;
	nic_start(MERGE | CTRL, 0);
	assert_int_equal(set_table(2, 3, 0), VIRTIO_NET_OK);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
	before = net_of(nic.dev)->filter;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t piece = 0; piece < 3; piece++) {
			if (command(cases[i].bytes, cases[i].len, piece) != VIRTIO_NET_ERR)
				fail_msg("%s: taken", cases[i].name);
			assert_memory_equal(&net_of(nic.dev)->filter, &before, sizeof(before));
		}
	assert_false(fake_needs_reset(&nic));
}

/* Without the features there are no commands. */
static void test_not_negotiated(void **state)
{
	static const uint8_t off[] = { RX, PROMISC, 0 };
	uint16_t head;
	uint32_t used;
	struct fake_buf bufs[2];

	(void)state;
	nic_start(MERGE | 1ULL << VIRTIO_NET_F_CTRL_VQ, 0);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_ERR);
	assert_true(gets(other_unicast));
	assert_int_equal(fake_probe(&nic, MERGE, 0), 0);
	bufs[0] = (struct fake_buf){ fake_alloc(&nic, 3), 3, false };
	bufs[1] = (struct fake_buf){ fake_alloc(&nic, 1), 1, true };
	memcpy(fake_ptr(&nic, bufs[0].gpa), off, sizeof(off));
	assert_true(fake_add(&nic.queues[NET_CTRL], bufs, 2, FAKE_DIRECT) >= 0);
	(void)fake_kick(&nic.queues[NET_CTRL]);
	fake_on_io(&nic, nic_nothing, NULL);
	assert_false(fake_used(&nic.queues[NET_CTRL], &head, &used));
	assert_true(gets(other_unicast));
}

static void test_broken_commands(void **state)
{
	static const struct {
		const char *name;
		unsigned n;
		struct fake_buf bufs[2];
	} cases[] = {
		{ "no room for the answer", 1, { { 0x1000, 3, false } } },
		{ "nothing", 1, { { 0x1000, 0, false } } },
		{ "outside memory", 2, { { MEM, 3, false }, { 0x1000, 1, true } } },
		{ "answer outside memory", 2, { { 0x1000, 3, false }, { MEM - 1, 2, true } } },
	};

	(void)state;
	nic_start(0, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned irqs = fake_irqs(&nic);

		assert_int_equal(fake_probe(&nic, MERGE | CTRL, 0), 0);
		(void)fake_add(&nic.queues[NET_CTRL], cases[i].bufs, cases[i].n, FAKE_DIRECT);
		(void)fake_kick(&nic.queues[NET_CTRL]);
		assert_true(fake_wait_irqs(&nic, irqs));
		if (!fake_needs_reset(&nic))
			fail_msg("%s: accepted", cases[i].name);
	}
	/* an answer alone is a command of no bytes */
	assert_int_equal(fake_probe(&nic, MERGE | CTRL, 0), 0);
	assert_int_equal(command("", 0, 1), VIRTIO_NET_ERR);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
}

/* A reset forgets, and a queue that is full of commands is not in the way of packets. */
static void test_reset_and_flood(void **state)
{
	struct fake_buf bufs[2];

	(void)state;
	nic_start(MERGE | CTRL, 0);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
	assert_false(gets(other_unicast));
	assert_int_equal(fake_probe(&nic, MERGE | CTRL, 0), 0);
	assert_true(gets(other_unicast));
	bufs[0] = (struct fake_buf){ fake_alloc(&nic, 3), 3, false };
	bufs[1] = (struct fake_buf){ fake_alloc(&nic, 1), 1, true };
	for (unsigned round = 0; round < 20; round++) {
		unsigned added = 0, done = 0;
		uint16_t head;
		uint32_t used;

		while (fake_add(&nic.queues[NET_CTRL], bufs, 2, FAKE_DIRECT) >= 0)
			added++;
		assert_true(added > NET_COMMANDS);
		(void)fake_kick(&nic.queues[NET_CTRL]);
		nic_guest_send(100, round, 1, FAKE_DIRECT);
		nic_host_expect(100, round);
		while (done < added && fake_wait_used(&nic.queues[NET_CTRL], &head, &used))
			done++;
		assert_int_equal(done, added);
	}
}

/* As Linux' driver does it: indirect chains, a kick where one is asked for, and a look at the ring until the answer is there. */
static void test_as_linux_does(void **state)
{
	gpa_t header = 0, data = 0, ack = 0;
	uint8_t *bytes;

	(void)state;
	nic_start(MERGE | CTRL | 1ULL << VIRTIO_RING_F_INDIRECT_DESC, 0);
	header = fake_alloc(&nic, 2);
	data = fake_alloc(&nic, 32);
	ack = fake_alloc(&nic, 1);
	bytes = fake_ptr(&nic, data);
	for (unsigned i = 0; i < 20000; i++) {
		bool is_table = i % 3 == 2;
		const struct fake_buf of_mode[] = { { header, 2, false }, { data, 1, false }, { ack, 1, true } };
		const struct fake_buf of_table[] = {
			{ header, 2, false }, { data, 4, false }, { data + 4, 10, false }, { ack, 1, true }
		};
		uint64_t end = net_now() + FAKE_WAIT_MS * 1000000ULL;
		uint32_t used;
		uint16_t head;

		memcpy(fake_ptr(&nic, header), (const uint8_t[2]){ is_table ? MAC : RX, is_table ? TABLE : i % 2 }, 2);
		memset(bytes, 0, 32);
		if (is_table) {
			put_number(bytes + 4, 1);
			memcpy(bytes + 8, in_multicast, 6);
		}
		*(uint8_t *)fake_ptr(&nic, ack) = 0xff;
		if (i % 200 == 0)
			nic_host_send(60, i); /* wakes the device for another reason */
		assert_true(fake_add(&nic.queues[NET_CTRL], is_table ? of_table : of_mode, is_table ? 4 : 3,
				     FAKE_INDIRECT) >= 0);
		(void)fake_kick(&nic.queues[NET_CTRL]);
		while (!fake_used(&nic.queues[NET_CTRL], &head, &used))
			if (net_now() > end)
				fail_msg("command %u: no answer", i);
		assert_int_equal(*(uint8_t *)fake_ptr(&nic, ack), VIRTIO_NET_OK);
	}
}

/* A link that is down takes commands: Linux' driver holds its locks until it has an answer. */
static void test_link_down(void **state)
{
	uint16_t status = 1;

	(void)state;
	nic_start(MERGE | CTRL | 1ULL << VIRTIO_RING_F_INDIRECT_DESC, 0);
	nic_give(4, 1536);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
	(void)close(nic_host);
	nic_host = -1;
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(mode(ALLMULTI, i & 1), VIRTIO_NET_OK);
		fake_config(&nic, 6, &status, 2);
	}
	assert_int_equal(status, 0);
	assert_int_equal(set_table(2, 3, 0), VIRTIO_NET_OK);
	assert_int_equal(fake_probe(&nic, MERGE | CTRL, 0), 0);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
}

static void test_snapshot(void **state)
{
	(void)state;
	nic_start(MERGE | CTRL, 0);
	assert_int_equal(set_table(2, 3, 0), VIRTIO_NET_OK);
	assert_int_equal(mode(PROMISC, 0), VIRTIO_NET_OK);
	assert_int_equal(fake_replace(&nic, nic_new(0)), 0);
	assert_true(gets(in_unicast) && gets(in_multicast) && gets(nic_guest_mac));
	assert_false(gets(other_unicast) || gets(other_multicast));
	assert_int_equal(mode(ALLMULTI, 1), VIRTIO_NET_OK);
	assert_int_equal(fake_replace(&nic, nic_new(0)), 0);
	assert_true(gets(other_multicast));
	assert_false(gets(other_unicast));
}

/* What no device can have saved. */
static void test_wrong_states(void **state)
{
	static const struct {
		size_t from_end; /* of a 16-bit number */
		uint16_t value;
	} cases[] = { { 6, 16 }, { 4, NET_MACS + 1 }, { 2, NET_MACS }, { 2, UINT16_MAX } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct state_writer w;

		nic_start(MERGE | CTRL, 0);
		assert_int_equal(set_table(2, 3, 0), VIRTIO_NET_OK);
		fake_save(&nic, &w);
		memcpy(w.data + w.len - NET_MACS * 6UL - cases[i].from_end, &cases[i].value, 2);
		assert_int_equal(fake_restore(&nic, nic_new(0), &w), -EINVAL);
		state_writer_free(&w);
		if (i + 1 < sizeof(cases) / sizeof(cases[0]))
			(void)nic_teardown(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_everything_at_first, nic_teardown),
		cmocka_unit_test_teardown(test_filter, nic_teardown),
		cmocka_unit_test_teardown(test_large_tables, nic_teardown),
		cmocka_unit_test_teardown(test_wrong_commands, nic_teardown),
		cmocka_unit_test_teardown(test_not_negotiated, nic_teardown),
		cmocka_unit_test_teardown(test_broken_commands, nic_teardown),
		cmocka_unit_test_teardown(test_reset_and_flood, nic_teardown),
		cmocka_unit_test_teardown(test_as_linux_does, nic_teardown),
		cmocka_unit_test_teardown(test_link_down, nic_teardown),
		cmocka_unit_test_teardown(test_snapshot, nic_teardown),
		cmocka_unit_test_teardown(test_wrong_states, nic_teardown),
	};

	return cmocka_run_group_tests_name("net control", tests, NULL, NULL);
}
