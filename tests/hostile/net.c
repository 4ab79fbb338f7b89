/* See net.h. */
#include "net.h"

const uint8_t own_mac[6] = { 2, 0, 0, 0, 0, 0xaa }, other_mac[6] = { 2, 0, 0, 0, 0, 0xbb };
const uint8_t own4[4] = { 10, 9, 7, 2 }, other4[4] = { 10, 9, 7, 3 };
const uint8_t own6[16] = { 0xfd, 9, [15] = 2 }, other6[16] = { 0xfd, 9, [15] = 3 };
const uint8_t link6[16] = { 0xfe, 0x80, [11] = 0xff, [12] = 0xfe, [15] = 0xaa };

uint64_t net_base;

static unsigned good, echo; /* frames that must have come out; of these, asked back */

uint8_t *net_buffer(unsigned i)
{
	return data + NET_RX_BYTES * (i % NET_QUEUE);
}

void net_give(unsigned i, uint32_t len)
{
	desc_set(&rings[NET_RX], i, address(net_buffer(i)), len, D_WRITE, 0);
	offer(&rings[NET_RX], (uint16_t)i);
}

void net_up(uint64_t features, unsigned receive)
{
	net_base = device_find(VIRTIO_ID_NET, 0);
	device_up(net_base, features & NET_F_CTRL ? 3 : 2, NET_QUEUE, features);
	memset(NET_HEADER, 0, sizeof(struct net_header));
	for (unsigned i = 0; i < receive; i++)
		net_give(i, NET_RX_BYTES);
	kick(&rings[NET_RX]);
}

void net_send(size_t len)
{
	desc_set(&rings[NET_TX], 0, address(NET_HEADER), (uint32_t)(sizeof(struct net_header) + len), 0, 0);
	offer(&rings[NET_TX], 0);
	kick(&rings[NET_TX]);
	expect("not taken", wait_used(&rings[NET_TX], NULL), len);
}

size_t net_mark(size_t len, const char *mark)
{
	for (unsigned i = 0; i < 4; i++)
		NET_FRAME[len + i] = (uint8_t)mark[i];
	return len + 4;
}

size_t net_mark_good(size_t len)
{
	good++;
	return net_mark(len, "GOOD");
}

void net_good(size_t len)
{
	net_send(net_mark_good(len));
}

void net_evil(size_t len)
{
	net_send(net_mark(len, "EVIL"));
}

/* What is asked back bears a number: echoes from before a reset come late. */
void net_ask_echo(void)
{
	size_t len = net_mark(frame_ip4(own4, IP_UDP), "ECHO");

	echo++;
	good++;
	memcpy(NET_FRAME + len, &echo, sizeof(echo));
	net_send(len + sizeof(echo));
}

static bool is_echo(const uint8_t *frame, uint32_t len)
{
	const size_t at = NET_ETH + 28;
	uint32_t number;

	if (len < sizeof(struct net_header) + at + 8)
		return false;
	memcpy(&number, frame + sizeof(struct net_header) + at + 4, 4);
	return number == echo;
}

void net_echo(void)
{
	struct ring *ring = &rings[NET_RX];
	bool came = false;

	net_ask_echo();
	while (!came) {
		unsigned slot = ring->seen % NET_QUEUE;
		uint32_t len;

		if (!wait_used(ring, &len)) {
			wrong("nothing came back", echo);
			return;
		}
		came = is_echo(net_buffer(ring->used.entries[slot].id), len);
		net_give(ring->used.entries[slot].id, NET_RX_BYTES);
		kick(ring);
	}
}

void net_works(void)
{
	net_up(0, NET_QUEUE / 2);
	net_echo();
	print("good: ");
	print_hex(good);
	print("\n");
}

/* ---- frames ---- */

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

size_t frame_ether(unsigned kind)
{
	memset(NET_FRAME, 0, 2048);
	memset(NET_FRAME, 0xff, 6);
	memcpy(NET_FRAME + 6, own_mac, 6);
	put16(NET_FRAME + 12, kind);
	return NET_ETH + 8;
}

size_t frame_ip4(const uint8_t source[4], unsigned protocol)
{
	uint8_t *ip = NET_FRAME + NET_ETH;

	(void)frame_ether(ETH_IP4);
	ip[0] = 0x45;
	put16(ip + 2, 20 + 8 + 8);
	ip[8] = 64;
	ip[9] = (uint8_t)protocol;
	memcpy(ip + 12, source, 4);
	memcpy(ip + 16, own4, 3);
	ip[19] = 1;
	return NET_ETH + 20 + 8;
}

size_t frame_ip6(const uint8_t source[16], unsigned next, unsigned payload)
{
	uint8_t *ip = NET_FRAME + NET_ETH;

	(void)frame_ether(ETH_IP6);
	ip[0] = 0x60;
	put16(ip + 4, payload);
	ip[6] = (uint8_t)next;
	ip[7] = 255;
	memcpy(ip + 8, source, 16);
	memcpy(ip + 24, own6, 15);
	ip[39] = 1;
	return NET_ETH + 40 + payload;
}

size_t frame_arp(const uint8_t mac[6], const uint8_t ip[4])
{
	static const uint8_t begin[] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	uint8_t *arp = NET_FRAME + NET_ETH;

	(void)frame_ether(ETH_ARP);
	memcpy(arp, begin, sizeof(begin));
	memcpy(arp + 8, mac, 6);
	memcpy(arp + 14, ip, 4);
	memcpy(arp + 24, own4, 3);
	arp[27] = 1;
	return NET_ETH + 28;
}

/* RFC 4861 §4: a router says where it is, others whom they mean; then the options. */
size_t frame_icmp6(unsigned type, const uint8_t target[16], const uint8_t mac[6])
{
	unsigned fixed = type == 134 ? 16 : 24;
	uint8_t *icmp = NET_FRAME + NET_ETH + 40;
	size_t len = frame_ip6(own6, IP_ICMP6, fixed + 8);

	icmp[0] = (uint8_t)type;
	if (type != 134)
		memcpy(icmp + 8, target, 16);
	icmp[fixed] = type == 136 ? 2 : 1;
	icmp[fixed + 1] = 1;
	memcpy(icmp + fixed + 2, mac, 6);
	return len;
}
