/* Packets that must not leave, each beside one that may (vmm/virtio/net_frame.c). */
#include "net.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t *const ip = NET_FRAME + NET_ETH;
static uint8_t *const payload4 = NET_FRAME + NET_ETH + 20, *const payload6 = NET_FRAME + NET_ETH + 40;

static void net_runts(void)
{
	net_up(0, 0);
	for (size_t len = 0; len < NET_ETH; len++) {
		(void)frame_ether(ETH_IP4);
		net_send(len);
	}
	(void)frame_ip4(own4, IP_UDP);
	for (size_t len = NET_ETH; len < NET_ETH + 20; len++)
		net_send(len);
	(void)frame_ip6(own6, IP_UDP, 8);
	for (size_t len = NET_ETH; len < NET_ETH + 40; len++)
		net_send(len);
	(void)frame_arp(own_mac, own4);
	for (size_t len = NET_ETH; len < NET_ETH + 28; len++)
		net_send(len);
	net_works();
}

static void net_giants(void)
{
	static const size_t lengths[] = {
		NET_ETH + NET_MTU + 1, 9014, 65535, NET_ETH + 65535, NET_ETH + 65536, DATA_BYTES / 4,
		DATA_BYTES / 2 - 12
	};

	net_up(0, 0);
	for (unsigned i = 0; i < ARRAY(lengths); i++) {
		(void)frame_ip4(own4, IP_UDP);
		net_send(lengths[i]);
	}
	(void)frame_ip4(own4, IP_UDP);
	net_good(NET_ETH + NET_MTU - 4); /* the largest, with its mark */
	net_works();
}

/* Tags, lengths in a type's place, and what is neither IP nor ARP. */
static void net_kinds(void)
{
	static const uint16_t kinds[] = { 0x8100, 0x88a8, 0x9100, 0, 46, 0x05ff, 0x88cc, 0xffff };

	net_up(0, 0);
	for (unsigned i = 0; i < ARRAY(kinds); i++) {
		size_t len = frame_ether(kinds[i]);

		NET_FRAME[16] = ETH_IP4 >> 8;
		net_evil(len);
	}
	net_works();
}

static void net_spoof_mac(void)
{
	size_t len;

	net_up(0, 0);
	for (unsigned byte = 0; byte < 6; byte++) {
		len = frame_ip4(own4, IP_UDP);
		NET_FRAME[6 + byte] ^= 1;
		net_evil(len);
	}
	net_good(frame_ip4(own4, IP_UDP));
	net_works();
}

static void net_spoof_ip4(void)
{
	static const uint8_t sources[][4] = {
		{ 10, 9, 7, 3 }, { 10, 9, 7, 1 }, { 127, 0, 0, 1 }, { 0, 0, 0, 0 }, { 255, 255, 255, 255 }
	};
	size_t len;

	net_up(0, 0);
	for (unsigned i = 0; i < ARRAY(sources); i++)
		net_evil(frame_ip4(sources[i], IP_UDP));
	len = frame_ip4(own4, IP_UDP);
	ip[16] = 127; /* to the host's own stack */
	net_evil(len);
	len = frame_ip4(own4, IP_UDP);
	ip[16] = 0;
	net_evil(len);
	net_good(frame_ip4(own4, IP_UDP));
	net_works();
}

static void net_spoof_ip6(void)
{
	static const uint8_t sources[][16] = { { 0xfd, 9, [15] = 3 },
					       { 0xfe, 0x80, [15] = 1 },
					       { [15] = 1 },
					       { 0 },
					       { [10] = 0xff, 0xff, 10, 9, 7, 2 },
					       { 0xff, 2, [15] = 1 } };
	size_t len;

	net_up(0, 0);
	for (unsigned i = 0; i < ARRAY(sources); i++)
		net_evil(frame_ip6(sources[i], IP_UDP, 8));
	len = frame_ip6(own6, IP_UDP, 8);
	memset(ip + 24, 0, 15); /* ::1 */
	net_evil(len);
	net_good(frame_ip6(own6, IP_UDP, 8));
	net_good(frame_ip6(link6, IP_UDP, 8));
	net_works();
}

static void net_spoof_arp(void)
{
	static const uint8_t gateway[4] = { 10, 9, 7, 1 };
	size_t len;

	net_up(0, 0);
	net_evil(frame_arp(own_mac, other4));
	net_evil(frame_arp(own_mac, gateway));
	len = frame_arp(own_mac, gateway);
	ip[7] = 2; /* an answer */
	net_evil(len);
	net_evil(frame_arp(other_mac, own4));
	len = frame_arp(own_mac, own4);
	ip[5] = 16; /* addresses of another length */
	net_evil(len);
	net_good(frame_arp(own_mac, own4));
	net_good(frame_arp(own_mac, (const uint8_t[4]){ 0 })); /* is it free? RFC 5227 */
	net_works();
}

static void net_spoof_nd(void)
{
	size_t len;

	net_up(0, 0);
	net_evil(frame_icmp6(136, other6, own_mac));
	net_evil(frame_icmp6(136, own6, other_mac));
	net_evil(frame_icmp6(135, other6, other_mac));
	len = frame_icmp6(136, own6, own_mac);
	payload6[25] = 0; /* an option without a length, before which parsers stand still */
	net_evil(len);
	len = frame_icmp6(136, own6, own_mac);
	payload6[25] = 2; /* and one beyond the end */
	net_evil(len);
	net_good(frame_icmp6(136, own6, own_mac));
	net_good(frame_icmp6(135, other6, own_mac));
	net_works();
}

/* What only routers and DHCP servers say. */
static void net_routers(void)
{
	size_t len;

	net_up(0, 0);
	net_evil(frame_icmp6(134, own6, own_mac));
	net_evil(frame_icmp6(137, own6, own_mac));
	for (unsigned type = 5; type <= 9; type += 4) { /* redirect, router advertisement */
		len = frame_ip4(own4, IP_ICMP);
		payload4[0] = (uint8_t)type;
		net_evil(len);
	}
	len = frame_ip4(own4, IP_UDP);
	payload4[1] = 67;
	payload4[3] = 68;
	net_evil(len);
	net_works();
}

/* Loose, strict, behind another option, and options that are none. */
static void net_source_routes(void)
{
	static const uint8_t options[][8] = { { 131, 7, 4, 10, 9, 7, 9, 0 },
					      { 137, 7, 4, 10, 9, 7, 9, 0 },
					      { 1, 131, 7, 4, 10, 9, 7, 9 },
					      { 7, 3, 4, 137, 3, 4, 0, 0 },
					      { 148, 0 },
					      { 148, 1 },
					      { 148, 9 },
					      { 1, 1, 1, 1, 1, 1, 1, 131 } };
	size_t len;

	net_up(0, 0);
	for (unsigned i = 0; i < ARRAY(options); i++) {
		len = frame_ip4(own4, IP_UDP) + 8;
		ip[0] = 0x47;
		memcpy(ip + 20, options[i], 8);
		net_evil(len);
	}
	len = frame_ip4(own4, IP_UDP) + 8;
	ip[0] = 0x47;
	memcpy(ip + 20, (const uint8_t[8]){ 148, 4 }, 8); /* router alert */
	net_good(len);
	net_works();
}

/* Types 0 (RFC 5095), 3 and 4, at once and behind another header; and chains that hide what they carry. */
static void net_routing_headers(void)
{
	static const uint8_t types[] = { 0, 1, 3, 4, 255 };
	size_t len;

	net_up(0, 0);
	for (unsigned i = 0; i < 2 * ARRAY(types); i++) {
		unsigned at = i % 2 ? 8 : 0;

		len = frame_ip6(own6, at ? IP_DESTINATION : IP_ROUTING, 32);
		payload6[0] = IP_ROUTING; /* behind options for the destination, or not */
		payload6[at] = IP_UDP;
		payload6[at + 2] = types[i / 2];
		net_evil(len);
	}
	len = frame_ip6(own6, IP_DESTINATION, 128);
	for (unsigned at = 0; at < 120; at += 8)
		payload6[at] = IP_DESTINATION;
	net_evil(len); /* options without end: RFC 7113 */
	len = frame_ip6(own6, IP_FRAGMENT, 16);
	payload6[0] = IP_ICMP6;
	payload6[8] = 134;
	net_evil(len); /* a router's word in a fragment */
	net_works();
}

/* Offload headers where none was negotiated, nor is offered. */
static void net_offload_unasked(void)
{
	static const struct net_header headers[] = {
		{ .flags = 1, .csum_start = 34, .csum_offset = 6 },
		{ .flags = 2 },
		{ .flags = 4 },
		{ .flags = 0xff },
		{ .gso_type = 1, .gso_size = 1000 },
		{ .gso_type = 0x80 },
		{ .gso_type = 0x7f },
		{ .flags = 1, .gso_type = 3, .gso_size = 1 },
	};

	net_up(0, 0);
	for (unsigned i = 0; i < ARRAY(headers); i++) {
		*NET_HEADER = headers[i];
		net_evil(frame_ip4(own4, IP_UDP));
	}
	*NET_HEADER = (struct net_header){ .hdr_len = 0xffff, .num_buffers = 77 }; /* mean nothing without a flag */
	net_good(frame_ip4(own4, IP_UDP));
	net_works();
}

#define TCP_AT (NET_ETH + 20U)

/* A TCP segment of `len` bytes in all, to be cut by the host. */
static size_t frame_tcp(struct net_header header, size_t len)
{
	(void)frame_ip4(own4, IP_TCP);
	memset(NET_FRAME + 2048, 0, 4096);
	ip[2] = (uint8_t)((len - NET_ETH) >> 8);
	ip[3] = (uint8_t)(len - NET_ETH);
	payload4[12] = 0x50;
	*NET_HEADER = header;
	return len - 4; /* the mark is the last */
}

/* On a tap, whose kernel takes offloads: those that make no sense. */
static void net_offloads(void)
{
	static const struct net_header sums[] = {
		{ .flags = 1, .csum_start = TCP_AT, .csum_offset = 15 }, /* neither TCP's nor UDP's place */
		{ .flags = 1, .csum_start = TCP_AT, .csum_offset = 0xffff },
		{ .flags = 1, .csum_start = 0xffff, .csum_offset = 16 },
		{ .flags = 1, .csum_start = 2000, .csum_offset = 16 },
		{ .flags = 1, .csum_start = NET_ETH, .csum_offset = 10 }, /* into the IP header */
		{ .flags = 1, .csum_start = 0, .csum_offset = 6 }, /* into the source's MAC address */
		{ .flags = 1, .csum_start = TCP_AT - 4, .csum_offset = 16 },
		{ .flags = 1 },
	};

	net_up(NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6, 0);
	for (unsigned i = 0; i < ARRAY(sums); i++)
		net_evil(frame_tcp(sums[i], 1000));
	/* nothing that has a checksum */
	*NET_HEADER = (struct net_header){ .flags = 1, .csum_start = NET_ETH + 8, .csum_offset = 16 };
	net_evil(frame_arp(own_mac, own4));
	net_good(frame_tcp((struct net_header){ .flags = 1, .csum_start = TCP_AT, .csum_offset = 16 }, 1000));
	net_works();
}

static void net_segments(void)
{
#define SUM .flags = 1, .csum_start = TCP_AT, .csum_offset = 16
	static const struct net_header bad[] = {
		{ SUM, .gso_type = 1, .gso_size = 0 },
		{ SUM, .gso_type = 1, .gso_size = 1 }, /* thousands of packets out of one */
		{ SUM, .gso_type = 1, .gso_size = 0xffff }, /* beyond the MTU */
		{ SUM, .gso_type = 2, .gso_size = 1000 }, /* unknown */
		{ SUM, .gso_type = 0x7f, .gso_size = 1000 },
		{ SUM, .gso_type = 0x81, .gso_size = 1000 }, /* ECN was not asked for */
		{ .gso_type = 1, .gso_size = 1000 }, /* cut, but not summed up */
		{ SUM, .gso_type = 4, .gso_size = 1000 }, /* as IPv6, which it is not */
		{ .flags = 1,
		  .csum_start = TCP_AT,
		  .csum_offset = 6,
		  .gso_type = 1,
		  .gso_size = 1000 }, /* UDP's place */
	};

	net_up(NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6, 0);
	for (unsigned i = 0; i < ARRAY(bad); i++)
		net_evil(frame_tcp(bad[i], 4000));
	/* the host's own refusal */
	net_evil(frame_tcp((struct net_header){ SUM, .gso_type = 1, .gso_size = 1000, .hdr_len = 0xffff }, 4000));
	net_good(frame_tcp((struct net_header){ SUM, .gso_type = 1, .gso_size = 1000, .hdr_len = TCP_AT + 20 }, 4000));
	net_works();
}

/* The same packet on every entry, again and again: `good` ones come out, all of them. */
static void storm(size_t len, bool good)
{
	struct ring *ring = &rings[NET_TX];
	uint64_t end = now() + 2 * SECOND;

	for (unsigned i = 0; i < NET_QUEUE; i++)
		desc_set(ring, i, address(NET_HEADER), (uint32_t)(sizeof(struct net_header) + len + 4), 0, 0);
	while (now() < end) {
		for (unsigned i = 0; i < NET_QUEUE; i++) {
			if (good)
				(void)net_mark_good(len);
			offer(ring, (uint16_t)i);
		}
		kick(ring);
		for (unsigned i = 0; i < NET_QUEUE; i++)
			expect("not taken", wait_used(ring, NULL), i);
	}
}

static void net_arp_storm(void)
{
	net_up(0, 0);
	storm(frame_arp(own_mac, own4), true);
	net_works();
}

static void net_spoof_storm(void)
{
	size_t len;

	net_up(0, 0);
	len = frame_arp(own_mac, other4);
	(void)net_mark(len, "EVIL");
	storm(len, false);
	net_works();
}

/* Another CPU rewrites addresses and offload header while packets are judged: what leaves is what was judged. */
static volatile bool stop;

static void scribble(void)
{
	volatile uint8_t *mac = NET_FRAME + 11, *source = ip + 15, *gso = &NET_HEADER->gso_type;

	while (!stop) {
		*mac ^= own_mac[5] ^ other_mac[5];
		*source ^= own4[3] ^ other4[3];
		*gso ^= 1;
	}
	stop = false;
}

static void net_toctou(void)
{
	struct ring *ring = &rings[NET_TX];
	uint64_t end = now() + 3 * SECOND;
	size_t len;

	net_up(0, 0);
	len = frame_ip4(own4, IP_UDP);
	(void)net_mark(len, "ANY!"); /* how many come out is chance */
	for (unsigned i = 0; i < NET_QUEUE; i++)
		desc_set(ring, i, address(NET_HEADER), (uint32_t)(sizeof(struct net_header) + len + 4), 0, 0);
	ap_start(scribble);
	while (now() < end) {
		for (unsigned i = 0; i < NET_QUEUE; i++)
			offer(ring, (uint16_t)i);
		kick(ring);
		for (unsigned i = 0; i < NET_QUEUE; i++)
			expect("not taken", wait_used(ring, NULL), i);
	}
	stop = true;
	while (stop)
		__asm__ volatile("pause");
	net_works();
}

const struct hostile_case packet_cases[] = {
	{ "net-runts", net_runts },
	{ "net-giants", net_giants },
	{ "net-kinds", net_kinds },
	{ "net-spoof-mac", net_spoof_mac },
	{ "net-spoof-ip4", net_spoof_ip4 },
	{ "net-spoof-ip6", net_spoof_ip6 },
	{ "net-spoof-arp", net_spoof_arp },
	{ "net-spoof-nd", net_spoof_nd },
	{ "net-routers", net_routers },
	{ "net-source-routes", net_source_routes },
	{ "net-routing-headers", net_routing_headers },
	{ "net-offload-unasked", net_offload_unasked },
	{ "net-offloads", net_offloads },
	{ "net-segments", net_segments },
	{ "net-arp-storm", net_arp_storm },
	{ "net-spoof-storm", net_spoof_storm },
	{ "net-toctou", net_toctou },
	{ NULL, NULL },
};
