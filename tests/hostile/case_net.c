/* The network device's queues, features and registers (virtio 1.2 §5.1). What packets say is case_packet.c's. */
#include "net.h"

/* Directions that are due: the device reads what is sent, and writes what comes. */
static uint16_t due(unsigned q)
{
	return q == NET_RX ? D_WRITE : 0;
}

/* A live device; a receive buffer is looked at when there is something for it. */
static struct ring *ring_up(unsigned q)
{
	net_up(0, 0);
	if (q == NET_RX)
		net_ask_echo();
	return &rings[q];
}

static void breaks(struct ring *ring)
{
	uint16_t used = ring->used.idx;

	kick(ring);
	expect("not broken", device_broken(net_base), ring->queue);
	expect("used", ring->used.idx == used, ring->used.idx);
}

/* A chain of two descriptors, the second where the first goes on. */
static void chain(unsigned q, struct desc first, struct desc second)
{
	struct ring *ring = ring_up(q);

	ring->desc[8] = first;
	ring->desc[9] = second;
	offer(ring, 8);
	breaks(ring);
}

static void one(unsigned q, uint64_t addr, uint32_t len, uint16_t flags, unsigned next)
{
	chain(q, (struct desc){ addr, len, flags, (uint16_t)next }, (struct desc){ 0 });
}

static void chains(unsigned q)
{
	uint16_t on = due(q) | D_NEXT;

	one(q, address(data), 64, on, 8); /* itself */
	one(q, address(data), 0, on, 8);
	one(q, address(data), 64, on, NET_QUEUE);
	one(q, RAM_LEAST - 8, 64, due(q), 0);
	one(q, UINT64_MAX - 15, 64, due(q), 0);
	one(q, X86_VIRTIO, 64, due(q), 0);
	one(q, address(data), 64, D_INDIRECT, 0);
	net_works();
}

static void net_tx_chains(void)
{
	chains(NET_TX);
}

static void net_rx_chains(void)
{
	chains(NET_RX);
}

/* No byte, too few, and the other direction, alone and behind the due one. */
static void net_tx_buffers(void)
{
	static const uint32_t lengths[] = { 0, 1, sizeof(struct net_header) - 1 };

	for (unsigned i = 0; i < 3; i++)
		one(NET_TX, address(data), lengths[i], 0, 0);
	one(NET_TX, address(data), 64, D_WRITE, 0);
	chain(NET_TX, (struct desc){ address(data), 64, D_NEXT, 9 }, (struct desc){ address(data), 64, D_WRITE, 0 });
	chain(NET_TX, (struct desc){ address(data), 64, D_WRITE | D_NEXT, 9 },
	      (struct desc){ address(data), 64, 0, 0 });
	net_works();
}

static void net_rx_buffers(void)
{
	static const uint32_t lengths[] = { 0, 1, sizeof(struct net_header) };

	for (unsigned i = 0; i < 3; i++)
		one(NET_RX, address(data), lengths[i], D_WRITE, 0);
	one(NET_RX, address(data), 4096, 0, 0);
	chain(NET_RX, (struct desc){ address(data), 64, D_NEXT, 9 }, (struct desc){ address(data), 4096, D_WRITE, 0 });
	chain(NET_RX, (struct desc){ address(data), 64, D_WRITE | D_NEXT, 9 },
	      (struct desc){ address(data), 64, 0, 0 });
	net_works();
}

/* Heads outside the queue, and an available index that jumps both ways. */
static void net_indices(void)
{
	for (unsigned q = NET_RX; q <= NET_TX; q++) {
		struct ring *ring = ring_up(q);

		offer(ring, NET_QUEUE);
		breaks(ring);
		ring = ring_up(q);
		ring->avail.idx = (uint16_t)(ring->avail.idx + NET_QUEUE + 1);
		breaks(ring);
		net_up(0, NET_QUEUE / 2);
		net_echo();
		ring->avail.idx = (uint16_t)(ring->seen - 1);
		if (q == NET_RX)
			net_ask_echo(); /* may still come, into the buffer that the device has in hand */
		kick(ring);
		expect("not broken", device_broken(net_base), q);
	}
	net_works();
}

/* A chain as long as the queue, a byte a piece, carries a packet; so does one that begins with empty pieces. */
static void net_tx_pieces(void)
{
	struct ring *ring = &rings[NET_TX];
	size_t len;

	net_up(0, 0);
	len = net_mark_good(frame_arp(own_mac, own4)) + sizeof(struct net_header);
	for (unsigned i = 0; i < len; i++)
		desc_set(ring, i, address(NET_HEADER) + i, 1, i + 1 < len ? D_NEXT : 0, i + 1);
	offer(ring, 0);
	kick(ring);
	expect("not taken", wait_used(ring, NULL), len);
	(void)net_mark_good(len - sizeof(struct net_header) - 4);
	for (unsigned i = 0; i + 1 < NET_QUEUE; i++)
		desc_set(ring, i, UINT64_MAX, 0, D_NEXT, i + 1);
	desc_set(ring, NET_QUEUE - 1, address(NET_HEADER), (uint32_t)len, 0, 0);
	offer(ring, 0);
	kick(ring);
	expect("not taken", wait_used(ring, NULL), len);
	net_works();
}

/* Merged from buffers that hold a byte or two of a packet each; and what no number of them will hold is lost. */
static void net_rx_crumbs(void)
{
	struct ring *ring = &rings[NET_RX];
	unsigned buffers = 0;

	net_up(NET_F_MRG_RXBUF, 0);
	for (unsigned i = 0; i < NET_QUEUE; i++)
		net_give(i, sizeof(struct net_header) + 1);
	kick(ring);
	net_ask_echo();
	while (buffers < 5 && wait_used(ring, NULL)) /* 62 bytes of header and frame */
		buffers++;
	expect("silent", buffers == 5, buffers);
	expect("another count", ((struct net_header *)net_buffer(0))->num_buffers == 5,
	       ((struct net_header *)net_buffer(0))->num_buffers);
	net_works();
}

/* Without merging, a buffer that is too small for the packet is kept for one that is not, and the packet is lost. */
static void net_rx_no_room(void)
{
	net_up(0, 0);
	for (unsigned i = 0; i < NET_QUEUE; i++)
		net_give(i, sizeof(struct net_header) + 1 + i % 20);
	kick(&rings[NET_RX]);
	for (unsigned i = 0; i < 200; i++)
		net_ask_echo();
	wait_ns(SECOND / 5);
	expect("used", rings[NET_RX].used.idx == 0, rings[NET_RX].used.idx);
	net_works();
}

/*
 * One buffer, offered for all packets; and one that lies over the rings themselves. Asked before it is offered: what comes
 * back, or late from before, is written over the ring that would have sent.
 */
static void net_rx_overlap(void)
{
	struct ring *ring = &rings[NET_RX];

	net_up(0, 0);
	desc_set(ring, 5, address(data), NET_RX_BYTES, D_WRITE, 0);
	for (unsigned i = 0; i < NET_QUEUE; i++)
		offer(ring, 5);
	kick(ring);
	for (unsigned i = 0; i < NET_QUEUE; i++)
		net_ask_echo();
	for (unsigned i = 0; i < NET_QUEUE; i++)
		expect("silent", wait_used(ring, NULL), i);
	for (unsigned i = 0; i < 6; i++) {
		net_up(i % 2 ? NET_F_MRG_RXBUF : F_EVENT_IDX, 0);
		net_ask_echo();
		desc_set(ring, 0, i < 3 ? address(ring) : address(&rings[NET_TX]), RING_BYTES, D_WRITE, 0);
		rings[NET_RX].avail.used_event = (uint16_t)any();
		offer(ring, 0);
		kick(ring);
		wait_ns(SECOND / 20);
	}
	net_works();
}

/* CVE-2026-5747: what is written after activation changes nothing, on both queues. */
static void net_after_live(void)
{
	net_up(0, NET_QUEUE / 2);
	for (unsigned i = 0; i < 40; i++) {
		for (unsigned q = NET_RX; q <= NET_TX; q++) {
			queue_addresses(net_base, q, i % 2 ? 0x8000 : 1, any(), any(), UINT64_MAX - any());
			write32(net_base + R_QUEUE_READY, i % 2);
			expect("no longer ready", read32(net_base + R_QUEUE_READY) == 1, q);
		}
		write32(net_base + R_DRIVER_FEATURES, UINT32_MAX);
		net_echo();
	}
	net_works();
}

static void net_features(void)
{
	uint64_t offered;

	net_base = device_find(VIRTIO_ID_NET, 0);
	offered = device_features(net_base);
	for (unsigned i = 0; i < 64; i++)
		if (!(offered & 1ULL << i))
			expect("taken", !(device_negotiate(net_base, F_VERSION_1 | 1ULL << i) & S_FEATURES_OK), i);
	expect("taken", !(device_negotiate(net_base, UINT64_MAX) & S_FEATURES_OK), 0);
	expect("without VERSION_1", !(device_negotiate(net_base, 0) & S_FEATURES_OK), 0);
	net_works();
}

/* The configuration is read only, and ends where it ends. */
static void net_config(void)
{
	uint64_t before;

	net_up(0, 0);
	before = read64(net_base + R_CONFIG);
	for (unsigned at = 0; at < 64; at++) {
		write8(net_base + R_CONFIG + at, (uint8_t)any());
		write32(net_base + R_CONFIG + at, any());
		write64(net_base + R_CONFIG + at, any());
	}
	expect("configuration changed", read64(net_base + R_CONFIG) == before, before);
	for (unsigned at = 12; at < 256; at++)
		expect("beyond its end", read8(net_base + R_CONFIG + at) == 0, at);
	net_works();
}

/* Queues that are not there, and those that are, as often as a CPU can: before, while and after they are ready. */
static void net_kicks(void)
{
	uint64_t end;

	net_base = device_find(VIRTIO_ID_NET, 0);
	write32(net_base + R_STATUS, 0);
	for (unsigned round = 0; round < 3; round++) {
		end = now() + SECOND / 2;
		while (now() < end) {
			for (unsigned q = 0; q < 4; q++)
				write32(net_base + R_QUEUE_NOTIFY, q);
			write32(net_base + R_QUEUE_NOTIFY, 1U << (any() % 32));
			write32(net_base + R_QUEUE_NOTIFY, UINT32_MAX - any() % 4);
		}
		if (round == 0)
			net_up(0, NET_QUEUE / 2);
		else
			net_echo();
	}
	net_works();
}

/* A command of the control queue (virtio 1.2 §5.1.6.5); its answer: 0, 1: an error, NO_ANSWER. */
#define COMMAND   (data + DATA_BYTES / 2 + 0x4000)
#define ANSWER    (*(volatile uint8_t *)(COMMAND + 0x3000))
#define NO_ANSWER 0x5a

static uint8_t command(size_t len)
{
	struct ring *ring = &rings[NET_CTRL];

	ANSWER = NO_ANSWER;
	desc_set(ring, 0, address(COMMAND), (uint32_t)len, D_NEXT, 1);
	desc_set(ring, 1, address(&ANSWER), 1, D_WRITE, 0);
	offer(ring, 0);
	kick(ring);
	(void)wait_used(ring, NULL);
	return ANSWER;
}

static uint8_t command3(uint8_t class, uint8_t what, uint8_t value)
{
	COMMAND[0] = class;
	COMMAND[1] = what;
	COMMAND[2] = value;
	return command(3);
}

static size_t put_table(uint32_t unicast, uint32_t multicast, size_t addresses)
{
	memset(COMMAND, 3, 0x1000);
	COMMAND[0] = 1;
	COMMAND[1] = 0;
	memcpy(COMMAND + 2, &unicast, 4);
	memcpy(COMMAND + 6 + addresses, &multicast, 4);
	return 10 + addresses;
}

/* Wrong in every field and length: an error each, and the filter is as it was: what comes to our own address still comes. */
static void net_commands(void)
{
	net_up(NET_F_CTRL, NET_QUEUE / 2);
	expect("not taken", command3(0, 0, 0) == 0, ANSWER); /* not promiscuous */
	net_echo();
	for (unsigned class = 0; class < 256; class ++)
		for (unsigned what = 0; what < 4; what++)
			if (class > 1 || what > 1)
				expect("taken", command3((uint8_t) class, (uint8_t)what, 1) == 1, class << 8 | what);
	for (unsigned value = 2; value < 256; value++)
		expect("taken", command3(0, 0, (uint8_t)value) == 1, value);
	for (size_t len = 1; len < 10; len++) {
		(void)put_table(0, 0, 0);
		expect("taken", command(len) == 1, len);
	}
	expect("taken", command(put_table(UINT32_MAX, 0, 0)) == 1, 0);
	expect("taken", command(put_table(0, UINT32_MAX, 0)) == 1, 1);
	expect("taken", command(put_table(0x2aaaaaab, 0, 2)) == 1, 2); /* times 6, in 32 bits: 2 */
	expect("taken", command(put_table(1, 0, 0)) == 1, 3);
	expect("taken", command(put_table(0, 0, 6)) == 1, 4);
	expect("not taken", command(put_table(100, 0, 600)) == 0, 5);
	expect("not taken", command(put_table(0, 0, 0)) == 0, 6);
	net_echo();
	expect("taken", (net_up(NET_F_CTRL & ~(1ULL << 18), 0), command3(0, 0, 0)) == 1, 7); /* modes: not negotiated */
	net_works();
}

/* Chains that no command is. */
static void net_command_chains(void)
{
	static const struct desc bad[][2] = {
		{ { 0x200000, 3, 0, 0 } }, /* no room for the answer */
		{ { 0x200000, 3, D_NEXT, 1 }, { RAM_LEAST, 1, D_WRITE, 0 } },
		{ { RAM_LEAST - 1, 3, D_NEXT, 1 }, { 0x200000, 1, D_WRITE, 0 } },
		{ { 0x200000, 1, D_WRITE | D_NEXT, 1 }, { 0x200000, 3, 0, 0 } },
		{ { 0x200000, 3, D_NEXT, 0 } },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ring *ring = &rings[NET_CTRL];

		net_up(NET_F_CTRL, 0);
		ring->desc[0] = bad[i][0];
		ring->desc[1] = bad[i][1];
		offer(ring, 0);
		breaks(ring);
	}
	net_works();
}

/* Commands as fast as they go, one over its own answer: packets come through all the same. */
static void net_command_storm(void)
{
	struct ring *ring;
	uint64_t end = now() + 2 * SECOND;

	net_up(NET_F_CTRL, NET_QUEUE / 2);
	ring = &rings[NET_CTRL];
	(void)put_table(600, 0, 3600);
	for (unsigned i = 0; i < NET_QUEUE / 2; i++) {
		desc_set(ring, 2 * i, address(COMMAND), 3610, D_NEXT, 2 * i + 1);
		desc_set(ring, 2 * i + 1, address(COMMAND) + i, 1, D_WRITE, 0);
	}
	while (now() < end) {
		for (unsigned i = 0; i < NET_QUEUE / 2; i++)
			offer(ring, (uint16_t)(2 * i));
		kick(ring);
		net_echo();
		for (unsigned i = 0; i < NET_QUEUE / 2; i++)
			expect("no answer", wait_used(ring, NULL), i);
	}
	net_works();
}

/* Resets with packets on their way in both directions: nothing is written afterwards. */
static void net_reset(void)
{
	for (unsigned round = 0; round < 40; round++) {
		net_up(round % 2 ? NET_F_MRG_RXBUF : 0, NET_QUEUE / 2);
		for (unsigned i = 0; i < 4; i++)
			net_ask_echo();
		write32(net_base + R_STATUS, 0);
		memset(data, 0x5a, NET_RX_BYTES * 8);
		rings[NET_RX].used.idx = 0;
		wait_ns(SECOND / 100);
		expect("used after the reset", rings[NET_RX].used.idx == 0, round);
		for (unsigned i = 0; i < 8; i++)
			expect("written after the reset", *net_buffer(i) == 0x5a, i);
	}
	net_works();
}

/* Both directions as fast as they go: what the end of a VM, and its neighbours, have to live with. */
static void net_storm_forever(void)
{
	struct ring *rx = &rings[NET_RX];

	net_up(NET_F_MRG_RXBUF, NET_QUEUE);
	print("ready\n");
	for (;;) {
		net_ask_echo();
		while (rx->used.idx != rx->seen) {
			net_give(rx->used.entries[rx->seen % NET_QUEUE].id, NET_RX_BYTES);
			rx->seen++;
		}
		kick(rx);
	}
}

const struct hostile_case net_cases[] = {
	{ "net-tx-chains", net_tx_chains },
	{ "net-rx-chains", net_rx_chains },
	{ "net-tx-buffers", net_tx_buffers },
	{ "net-rx-buffers", net_rx_buffers },
	{ "net-indices", net_indices },
	{ "net-tx-pieces", net_tx_pieces },
	{ "net-rx-crumbs", net_rx_crumbs },
	{ "net-rx-no-room", net_rx_no_room },
	{ "net-rx-overlap", net_rx_overlap },
	{ "net-after-live", net_after_live },
	{ "net-features", net_features },
	{ "net-config", net_config },
	{ "net-kicks", net_kicks },
	{ "net-commands", net_commands },
	{ "net-command-chains", net_command_chains },
	{ "net-command-storm", net_command_storm },
	{ "net-reset", net_reset },
	{ "net-storm-forever", net_storm_forever },
	{ NULL, NULL },
};
