/* What a guest may send: frames and offload headers, judged one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/net.h"

/* Frames as hex, blanks ignored. M: the guest's MAC, B: broadcast, I: its IPv4 address, S: its IPv6 address, L: its link-local one. */
static size_t parse(const char *text, uint8_t *out)
{
	static const struct {
		char letter;
		const char *hex;
	} names[] = {
		{ 'M', "020000000001" },
		{ 'B', "ffffffffffff" },
		{ 'I', "0a000002" },
		{ 'S', "fd000000000000000000000000000002" },
		{ 'L', "fe80000000000000000000fffe000001" },
		{ 'Z', "00000000000000000000000000000000" },
		{ 'X', "fd000000000000000000000000000bad" },
	};
	size_t n = 0;

	for (const char *c = text; *c; c++) {
		const char *hex = NULL;

		if (*c == ' ')
			continue;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (names[i].letter == *c)
				hex = names[i].hex;
		if (hex) {
			n += parse(hex, out + n);
		} else {
			const char digits[3] = { c[0], c[1], '\0' };

			out[n++] = (uint8_t)strtoul(digits, NULL, 16);
			c++;
		}
	}
	return n;
}

#define IP4(options, source)              "B M 0800 4" options " 00 0014 0000 0000 40 06 0000 " source " 0a000001"
#define IP6(next, length, source)         "B M 86dd 60000000 " length " " next " ff " source " ff020000000000000000000000000001"
#define ARP(mac, ip)                      "B M 0806 0001 0800 06 04 0001 " mac " " ip " 000000000000 0a000001"
#define UDP4(source, ports)               "B M 0800 45 00 0024 0000 0000 40 11 0000 " source " ffffffff " ports " 0008 0000"
#define ICMP6(type, length, source, rest) IP6("3a", length, source) type "00 0000 " rest

static const struct {
	const char *name;
	const char *frame;
	enum net_drop strict, loose; /* with the guest's addresses given, and without */
} frames[] = {
	{ "IPv4", IP4("5", "I"), NET_PASSED, NET_PASSED },
	{ "another's IPv4", IP4("5", "0a000003"), NET_DROP_ADDRESS, NET_PASSED },
	{ "no IPv4 address, TCP", IP4("5", "00000000"), NET_DROP_ADDRESS, NET_PASSED },
	{ "asks for an address", UDP4("00000000", "0044 0043"), NET_PASSED, NET_PASSED },
	{ "asks from another port", UDP4("00000000", "0035 0043"), NET_DROP_ADDRESS, NET_PASSED },
	{ "asks in another's name", UDP4("0a000003", "0044 0043"), NET_DROP_ADDRESS, NET_PASSED },
	{ "asks with options of IP",
	  "B M 0800 46 00 0028 0000 0000 40 11 0000 00000000 ffffffff 01010100 0044 0043 0008 0000", NET_PASSED,
	  NET_PASSED },
	{ "asks by another's MAC",
	  "B 020000000002 0800 45 00 0024 0000 0000 40 11 0000 00000000 ffffffff 0044 0043 0008 0000", NET_DROP_MAC,
	  NET_DROP_MAC },
	{ "asks in pieces", "B M 0800 45 00 0024 0000 2000 40 11 0000 00000000 ffffffff 0044 0043 0008 0000",
	  NET_DROP_ADDRESS, NET_PASSED },
	{ "asks in a later piece", "B M 0800 45 00 0024 0000 0001 40 11 0000 00000000 ffffffff 0044 0043 0008 0000",
	  NET_DROP_ADDRESS, NET_PASSED },
	{ "asks by TCP", "B M 0800 45 00 0024 0000 0000 40 06 0000 00000000 ffffffff 0044 0043 0008 0000",
	  NET_DROP_ADDRESS, NET_PASSED },
	{ "asks, cut", "B M 0800 45 00 0024 0000 0000 40 11 0000 00000000 ffffffff 0044 0043", NET_DROP_ADDRESS,
	  NET_PASSED },
	{ "asks another service", UDP4("00000000", "0044 0035"), NET_DROP_ADDRESS, NET_PASSED },
	{ "a DHCP server without an address", UDP4("00000000", "0043 0044"), NET_DROP_ADDRESS, NET_DROP_ROUTER },
	{ "no version", "B M 0800 55 00 0014 0000 0000 40 06 0000 I 0a000001", NET_DROP_KIND, NET_DROP_KIND },
	{ "header too short by its own word", IP4("4", "I"), NET_DROP_KIND, NET_DROP_KIND },
	{ "header cut", "B M 0800 45 00 0014 0000", NET_DROP_SIZE, NET_DROP_SIZE },
	{ "options cut", IP4("6", "I"), NET_DROP_KIND, NET_DROP_KIND },
	{ "no operation, end", IP4("6", "I") "01 01 00 00", NET_PASSED, NET_PASSED },
	{ "loose source route", IP4("6", "I") "83 04 04 00", NET_DROP_ROUTE, NET_DROP_ROUTE },
	{ "strict source route, later", IP4("7", "I") "01 01 94 04 00 00 89 03", NET_DROP_ROUTE, NET_DROP_ROUTE },
	{ "router alert", IP4("6", "I") "94 04 00 00", NET_PASSED, NET_PASSED },
	{ "option of no length", IP4("6", "I") "94 00 00 00", NET_DROP_KIND, NET_DROP_KIND },
	{ "option beyond the header", IP4("6", "I") "94 05 00 00", NET_DROP_KIND, NET_DROP_KIND },
	{ "option without its length", IP4("6", "I") "01 01 01 94", NET_DROP_KIND, NET_DROP_KIND },
	{ "another's MAC", "M B 0800 45 00 0014 0000 0000 40 06 0000 I 0a000001", NET_DROP_MAC, NET_DROP_MAC },
	{ "to the host's loopback", "B M 0800 45 00 0014 0000 0000 40 06 0000 I 7f000001", NET_DROP_ADDRESS,
	  NET_DROP_ADDRESS },
	{ "to nobody", "B M 0800 45 00 0014 0000 0000 40 06 0000 I 00000000", NET_DROP_ADDRESS, NET_DROP_ADDRESS },
	{ "from the loopback", IP4("5", "7f000001"), NET_DROP_ADDRESS, NET_DROP_ADDRESS },
	{ "to the loopback by IPv6", "B M 86dd 60000000 0014 06 ff S 00000000000000000000000000000001",
	  NET_DROP_ADDRESS, NET_DROP_ADDRESS },
	{ "to the loopback as IPv4 in IPv6", "B M 86dd 60000000 0014 06 ff S 00000000000000000000ffff7f000001",
	  NET_DROP_ADDRESS, NET_DROP_ADDRESS },
	{ "ARP", ARP("M", "I"), NET_PASSED, NET_PASSED },
	{ "ARP probe", ARP("M", "00000000"), NET_PASSED, NET_PASSED },
	{ "ARP for another", ARP("M", "0a000001"), NET_DROP_ADDRESS, NET_PASSED },
	{ "ARP by another", ARP("020000000002", "I"), NET_DROP_MAC, NET_DROP_MAC },
	{ "ARP cut", "B M 0806 0001 0800 06 04", NET_DROP_SIZE, NET_DROP_SIZE },
	{ "ARP of another kind", "B M 0806 0006 0800 06 04 0001 M I 000000000000 0a000001", NET_DROP_KIND,
	  NET_DROP_KIND },
	{ "IPv6", IP6("06", "0014", "S"), NET_PASSED, NET_PASSED },
	{ "IPv6, link-local", IP6("06", "0014", "L"), NET_PASSED, NET_PASSED },
	{ "another's IPv6", IP6("06", "0014", "X"), NET_DROP_ADDRESS, NET_PASSED },
	{ "no IPv6 address", IP6("06", "0014", "Z"), NET_DROP_ADDRESS, NET_PASSED },
	{ "no version 6", "B M 86dd 50000000 0014 06 ff S S", NET_DROP_KIND, NET_DROP_KIND },
	{ "IPv6 cut", "B M 86dd 60000000 0000 06", NET_DROP_SIZE, NET_DROP_SIZE },
	{ "routing header 0", IP6("2b", "0008", "S") "06 00 00 01 00000000", NET_DROP_ROUTE, NET_DROP_ROUTE },
	{ "segment routing", IP6("2b", "0008", "S") "06 00 04 01 00000000", NET_DROP_ROUTE, NET_DROP_ROUTE },
	{ "routing behind options", IP6("3c", "0010", "S") "2b 00 01 04 00000000 06 00 00 01 00000000", NET_DROP_ROUTE,
	  NET_DROP_ROUTE },
	{ "mobile's own address", IP6("2b", "0008", "S") "06 00 02 01 00000000", NET_PASSED, NET_PASSED },
	{ "extension cut", IP6("00", "0008", "S") "06 00", NET_DROP_KIND, NET_DROP_KIND },
	{ "extension that goes on", IP6("00", "0800", "S") "06 ff 0000 00000000", NET_PASSED, NET_PASSED },
	{ "later fragment", IP6("2c", "0008", "S") "3a 00 0008 00000000", NET_PASSED, NET_PASSED },
	{ "asks whether an address is free", ICMP6("87", "0018", "Z", "00000000 S"), NET_PASSED, NET_PASSED },
	{ "router advertisement", ICMP6("86", "0008", "L", "00000000"), NET_DROP_ROUTER, NET_DROP_ROUTER },
	{ "behind options", IP6("00", "0010", "L") "3a 00 0502 00000000 8600 0000 00000000", NET_DROP_ROUTER,
	  NET_DROP_ROUTER },
	{ "in a first fragment", IP6("2c", "0010", "L") "3a 00 0001 00000000 8600 0000 00000000", NET_DROP_ROUTER,
	  NET_DROP_ROUTER },
	{ "behind an authentication", IP6("33", "0014", "L") "3a 01 0000 00000000 00000000 8600 0000 00000000",
	  NET_DROP_ROUTER, NET_DROP_ROUTER },
	{ "redirect", ICMP6("89", "0008", "L", "00000000"), NET_DROP_ROUTER, NET_DROP_ROUTER },
	{ "echo", ICMP6("80", "0008", "S", "00000000"), NET_PASSED, NET_PASSED },
	{ "ICMPv6 cut", IP6("3a", "0004", "S") "87", NET_DROP_SIZE, NET_DROP_SIZE },
	{ "solicitation cut", ICMP6("87", "0008", "S", "00000000"), NET_DROP_SIZE, NET_DROP_SIZE },
	{ "own advertisement", ICMP6("88", "0020", "S", "60000000 S 02 01 M"), NET_PASSED, NET_PASSED },
	{ "advertises another's", ICMP6("88", "0020", "S", "60000000 X 02 01 M"), NET_DROP_ADDRESS, NET_PASSED },
	{ "advertises another's MAC", ICMP6("88", "0020", "S", "60000000 S 02 01 020000000002"), NET_DROP_MAC,
	  NET_DROP_MAC },
	{ "solicits by another's MAC", ICMP6("87", "0020", "S", "00000000 S 01 01 020000000002"), NET_DROP_MAC,
	  NET_DROP_MAC },
	{ "option of no length 6", ICMP6("87", "0020", "S", "00000000 S 01 00 M"), NET_DROP_KIND, NET_DROP_KIND },
	{ "VLAN", "B M 8100 0001 0800", NET_DROP_KIND, NET_DROP_KIND },
	{ "VLAN of a provider", "B M 88a8 0001 8100", NET_DROP_KIND, NET_DROP_KIND },
	{ "length instead of a type", "B M 0026 42 42 03", NET_DROP_KIND, NET_DROP_KIND },
	{ "another protocol", "B M 88cc 0207", NET_DROP_KIND, NET_PASSED },
	{ "runt", "B M 08", NET_DROP_SIZE, NET_DROP_SIZE },
	{ "ICMP redirect", "B M 0800 45 00 001c 0000 0000 40 01 0000 I 0a000001 05 00 0000 00000000", NET_DROP_ROUTER,
	  NET_DROP_ROUTER },
	{ "ICMP router", "B M 0800 45 00 001c 0000 0000 40 01 0000 I 0a000001 09 00 0000 00000000", NET_DROP_ROUTER,
	  NET_DROP_ROUTER },
	{ "ICMP echo", "B M 0800 45 00 001c 0000 0000 40 01 0000 I 0a000001 08 00 0000 00000000", NET_PASSED,
	  NET_PASSED },
	{ "a DHCP server", UDP4("I", "0043 0044"), NET_DROP_ROUTER, NET_DROP_ROUTER },
	{ "a first fragment of nothing", "B M 0800 45 00 0018 0000 2000 40 01 0000 I 0a000001 05000000", NET_DROP_KIND,
	  NET_DROP_KIND },
	{ "IPv6 of no length",
	  "B M 86dd 60000000 0000 00 ff S ff020000000000000000000000000001 3a 00 0104 00000000 88 00 0000 60000000 S "
	  "02 01 020000000002",
	  NET_DROP_KIND, NET_DROP_KIND },
	{ "looks for routers by another's MAC", IP6("3a", "0010", "L") "85 00 0000 00000000 01 01 020000000002",
	  NET_DROP_MAC, NET_DROP_MAC },
	{ "looks for routers", IP6("3a", "0010", "L") "85 00 0000 00000000 01 01 M", NET_PASSED, NET_PASSED },
};

/* With an address of one family alone, nothing of the other's leaves but what its own machinery needs. */
static void test_one_family(void **state)
{
	static const struct {
		const char *frame;
		enum net_drop only4, only6;
	} cases[] = {
		{ IP4("5", "I"), NET_PASSED, NET_DROP_ADDRESS },
		{ UDP4("00000000", "0044 0043"), NET_PASSED, NET_DROP_ADDRESS },
		{ ARP("M", "I"), NET_PASSED, NET_DROP_ADDRESS },
		{ IP6("06", "0014", "S"), NET_DROP_ADDRESS, NET_PASSED },
		{ IP6("06", "0014", "L"), NET_PASSED, NET_PASSED },
		{ ICMP6("88", "001c", "L", "60000000 X 02 01 M"), NET_DROP_ADDRESS, NET_DROP_ADDRESS },
		{ "B M 88cc 0207", NET_DROP_KIND, NET_DROP_KIND },
	};
	struct net_rules only4 = { .mtu = 1500 }, only6 = { .mtu = 1500 };
	uint8_t frame[512];
	struct net_transport transport;

	(void)state;
	(void)parse("M", only4.mac);
	(void)parse("I", only4.ip4);
	(void)parse("M", only6.mac);
	(void)parse("S", only6.ip6);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = parse(cases[i].frame, frame);

		assert_int_equal(net_frame_check(&only4, frame, len, len, &transport), cases[i].only4);
		assert_int_equal(net_frame_check(&only6, frame, len, len, &transport), cases[i].only6);
	}
}

/* Where a checksum may be stored: behind headers that were judged, in TCP and UDP alone. */
static void test_transport(void **state)
{
	static const struct {
		const char *frame;
		size_t at;
		unsigned gso;
	} cases[] = {
		{ IP4("5", "I"), 34, VIRTIO_NET_HDR_GSO_TCPV4 },
		{ IP4("6", "I") "01 01 00 00", 38, VIRTIO_NET_HDR_GSO_TCPV4 },
		{ UDP4("I", "0007 0007"), 34, NET_GSO_UDP_L4 },
		{ "B M 0800 45 00 0024 0000 2000 40 11 0000 I 0a000001 0000 0000 0000 0000", 0, 0 },
		{ "B M 0800 45 00 001c 0000 0000 40 01 0000 I 0a000001 08 00 0000 00000000", 0, 0 },
		{ ARP("M", "I"), 0, 0 },
		{ IP6("06", "0014", "S"), 54, VIRTIO_NET_HDR_GSO_TCPV6 },
		{ IP6("00", "001c", "S") "11 00 0104 00000000", 62, NET_GSO_UDP_L4 },
		{ IP6("2c", "001c", "S") "11 00 0000 00000000", 0, 0 },
		{ ICMP6("80", "0008", "S", "00000000"), 0, 0 },
	};
	struct net_rules rules = { .mac = { 2, 0, 0, 0, 0, 1 }, .mtu = 1500 };
	uint8_t frame[512];
	struct net_transport transport;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = parse(cases[i].frame, frame);

		assert_int_equal(net_frame_check(&rules, frame, len, len, &transport), NET_PASSED);
		assert_int_equal(transport.at, cases[i].at);
		assert_int_equal(transport.gso, cases[i].gso);
	}
}

static void test_frames(void **state)
{
	struct net_rules strict = { .mtu = 1500 }, loose = { .mtu = 1500 };

	(void)state;
	(void)parse("M", strict.mac);
	(void)parse("I", strict.ip4);
	(void)parse("S", strict.ip6);
	memcpy(loose.mac, strict.mac, sizeof(loose.mac));
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		uint8_t frame[512];
		size_t len = parse(frames[i].frame, frame), nhead = len < NET_HEAD ? len : NET_HEAD;
		uint8_t *head = malloc(nhead); /* whatever is read beyond is seen by the sanitizer */
		enum net_drop got;
		struct net_transport transport;

		assert_non_null(head);
		memcpy(head, frame, nhead);
		got = net_frame_check(&strict, head, nhead, len, &transport);
		if (got != frames[i].strict)
			fail_msg("%s: %s", frames[i].name, net_drop_name(got));
		got = net_frame_check(&loose, head, nhead, len, &transport);
		if (got != frames[i].loose)
			fail_msg("%s, any address: %s", frames[i].name, net_drop_name(got));
		free(head);
	}
}

/* Headers whose chain lies beyond what is looked at hide nothing. */
static void test_headers_beyond_the_copy(void **state)
{
	struct net_rules rules = { .mac = { 2, 0, 0, 0, 0, 1 }, .mtu = 1500 };
	uint8_t frame[512];
	size_t at = parse(IP6("00", "0100", "S"), frame);
	struct net_transport transport;

	(void)state;
	for (unsigned i = 0; i < 20; i++, at += 8) {
		memset(frame + at, 0, 8);
		frame[at] = i == 19 ? 58 : 60;
	}
	frame[at] = 134;
	assert_int_equal(net_frame_check(&rules, frame, NET_HEAD, at + 8, &transport), NET_DROP_KIND);
}

#define F(feature) (1ULL << (feature))
#define ALL_TX                                                                                                         \
	(F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_HOST_TSO6) | F(VIRTIO_NET_F_HOST_ECN) |     \
	 F(NET_F_HOST_USO))

static const struct {
	const char *name;
	uint64_t features;
	unsigned flags, gso, size, start, offset;
	size_t len, transport;
	enum net_drop drop;
} offloads[] = {
	{ "nothing", 0, 0, 0, 0, 0, 0, 1514, 34, NET_PASSED },
	{ "giant", ALL_TX, 0, 0, 0, 0, 0, 1515, 34, NET_DROP_SIZE },
	{ "sum", ALL_TX, 1, 0, 0, 34, 16, 100, 34, NET_PASSED },
	{ "sum at the end", ALL_TX, 1, 0, 0, 82, 16, 100, 34, NET_PASSED },
	{ "sum beyond the end", ALL_TX, 1, 0, 0, 83, 16, 100, 34, NET_DROP_OFFLOAD },
	{ "sum elsewhere", ALL_TX, 1, 0, 0, 34, 12, 100, 34, NET_DROP_OFFLOAD },
	{ "sum in the IP header", ALL_TX, 1, 0, 0, 20, 6, 100, 34, NET_DROP_OFFLOAD },
	{ "sum of what is neither TCP nor UDP", ALL_TX, 1, 0, 0, 34, 16, 100, 0, NET_DROP_OFFLOAD },
	{ "sum far beyond", ALL_TX, 1, 0, 0, 65535, 65535, 100, 34, NET_DROP_OFFLOAD },
	{ "sum in the Ethernet header", ALL_TX, 1, 0, 0, 13, 16, 100, 34, NET_DROP_OFFLOAD },
	{ "sum not agreed", ALL_TX & ~F(VIRTIO_NET_F_CSUM), 1, 0, 0, 34, 16, 100, 34, NET_DROP_OFFLOAD },
	{ "flags for receivers", ALL_TX, 2, 0, 0, 0, 0, 100, 34, NET_DROP_OFFLOAD },
	{ "TCPv4", ALL_TX, 1, 1, 1448, 34, 16, 65549, 34, NET_PASSED },
	{ "TCPv4 not agreed", F(VIRTIO_NET_F_CSUM), 1, 1, 1448, 34, 16, 60000, 34, NET_DROP_OFFLOAD },
	{ "TCPv4 without a sum", ALL_TX, 0, 1, 1448, 34, 16, 60000, 34, NET_DROP_OFFLOAD },
	{ "TCPv4 in bits", ALL_TX, 1, 1, 63, 34, 16, 65549, 34, NET_DROP_OFFLOAD },
	{ "TCPv4 of the least size", ALL_TX, 1, 1, 88, 34, 16, 65549, 34, NET_PASSED },
	{ "TCPv4 of no size", ALL_TX, 1, 1, 0, 34, 16, 60000, 34, NET_DROP_OFFLOAD },
	{ "TCPv4 of a large size", ALL_TX, 1, 1, 1501, 34, 16, 60000, 34, NET_DROP_OFFLOAD },
	{ "TCPv4 with ECN", ALL_TX, 1, 0x81, 1448, 34, 16, 60000, 34, NET_PASSED },
	{ "ECN not agreed", ALL_TX & ~F(VIRTIO_NET_F_HOST_ECN), 1, 0x81, 1448, 34, 16, 60000, 34, NET_DROP_OFFLOAD },
	{ "TCPv6", ALL_TX, 1, 4, 1428, 54, 16, 60000, 54, NET_PASSED },
	{ "TCPv4 with UDP's sum", ALL_TX, 1, 1, 1448, 34, 6, 60000, 34, NET_DROP_OFFLOAD },
	{ "TCPv4 with another's sum", ALL_TX, 1, 1, 1448, 100, 16, 60000, 34, NET_DROP_OFFLOAD },
	{ "UDP", ALL_TX, 1, 5, 1000, 42, 6, 60000, 42, NET_PASSED },
	{ "UDP with ECN", ALL_TX, 1, 0x85, 1000, 42, 6, 60000, 42, NET_DROP_OFFLOAD },
	{ "UDP in fragments", ALL_TX, 1, 3, 1000, 42, 6, 60000, 42, NET_DROP_OFFLOAD },
	{ "ECN alone", ALL_TX, 1, 0x80, 1000, 42, 6, 60000, 42, NET_DROP_OFFLOAD },
	{ "unknown", ALL_TX, 1, 0x7f, 1000, 42, 6, 60000, 42, NET_DROP_OFFLOAD },
};

static void test_offloads(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(offloads) / sizeof(offloads[0]); i++) {
		struct net_hdr hdr = {
			.flags = (uint8_t)offloads[i].flags,
			.gso_type = (uint8_t)offloads[i].gso,
			.gso_size = le16_of((uint16_t)offloads[i].size),
			.csum_start = le16_of((uint16_t)offloads[i].start),
			.csum_offset = le16_of((uint16_t)offloads[i].offset),
		};
		struct net_transport transport = {
			.at = offloads[i].transport,
			.gso = offloads[i].gso & 0x7f,
		};
		unsigned segments = 0;
		enum net_drop got =
			net_offload_check(&hdr, offloads[i].features, offloads[i].len, &transport, 1500, &segments);

		if (got != offloads[i].drop)
			fail_msg("%s: %s", offloads[i].name, net_drop_name(got));
		if (!got &&
		    segments != (offloads[i].gso ? (offloads[i].len + offloads[i].size - 1) / offloads[i].size : 1))
			fail_msg("%s: %u segments", offloads[i].name, segments);
	}
}

/* Segments are of what the packet is. */
static void test_other_segments(void **state)
{
	static const unsigned kinds[] = { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, NET_GSO_UDP_L4 };

	(void)state;
	for (unsigned says = 0; says < 3; says++)
		for (unsigned is = 0; is < 3; is++) {
			struct net_transport transport = { 34, (uint8_t)kinds[is] };
			struct net_hdr hdr = { .flags = 1,
					       .gso_type = (uint8_t)kinds[says],
					       .gso_size = le16_of(1000),
					       .csum_start = le16_of(34),
					       .csum_offset = le16_of(says == 2 ? 6 : 16) };
			unsigned segments;

			assert_int_equal(net_offload_check(&hdr, ALL_TX, 9000, &transport, 1500, &segments),
					 says == is ? NET_PASSED : NET_DROP_OFFLOAD);
		}
}

static void test_wanted(void **state)
{
	static const struct {
		unsigned flags, gso;
		uint64_t needs;
	} cases[] = {
		{ 0, 0, 0 },
		{ 2, 0, 0 },
		{ 1, 0, F(VIRTIO_NET_F_GUEST_CSUM) },
		{ 1, 1, F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4) },
		{ 1, 4, F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO6) },
		{ 1, 0x81, F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4) | F(VIRTIO_NET_F_GUEST_ECN) },
		{ 1, 5, F(VIRTIO_NET_F_GUEST_CSUM) | F(NET_F_GUEST_USO4) },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct net_hdr hdr = { .flags = (uint8_t)cases[i].flags, .gso_type = (uint8_t)cases[i].gso };

		assert_true(net_offload_wanted(&hdr, cases[i].needs));
		for (unsigned bit = 0; bit < 64; bit++)
			if (cases[i].needs >> bit & 1)
				assert_false(net_offload_wanted(&hdr, cases[i].needs & ~F(bit)));
	}
	assert_false(net_offload_wanted(&(struct net_hdr){ .gso_type = 3 }, ~0ULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),         cmocka_unit_test(test_headers_beyond_the_copy),
		cmocka_unit_test(test_one_family),     cmocka_unit_test(test_transport),
		cmocka_unit_test(test_offloads),       cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_other_segments),
	};

	return cmocka_run_group_tests_name("net_frame", tests, NULL, NULL);
}
