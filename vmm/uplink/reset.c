#include "uplink/reset.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>

#define HOPS 64

static uint32_t add(uint32_t sum, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < len; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	return sum;
}

/* RFC 9293 §3.1: over the addresses, protocol and length as well; each has an even number of bytes. */
static uint16_t checksum(const struct reset_ends *ends, size_t len, const struct tcphdr *tcp)
{
	uint32_t sum = IPPROTO_TCP + (uint32_t)sizeof(*tcp);

	sum = add(sum, ends->from, len);
	sum = add(sum, ends->to, len);
	sum = add(sum, tcp, sizeof(*tcp));
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

size_t reset_packet(const struct reset_ends *ends, size_t len, uint8_t ret[RESET_MAX])
{
	struct tcphdr tcp = {
		.th_sport = ends->from_port, .th_dport = ends->to_port, .th_off = sizeof(tcp) / 4, .th_flags = TH_RST
	};
	struct iphdr four = {
		.version = 4,
		.ihl = sizeof(four) / 4,
		.ttl = HOPS,
		.protocol = IPPROTO_TCP,
		.tot_len = htons(sizeof(four) + sizeof(tcp)), /* the kernel fills in the checksum */
	};
	struct ip6_hdr six = { .ip6_nxt = IPPROTO_TCP, .ip6_hlim = HOPS, .ip6_plen = htons(sizeof(tcp)) };
	size_t head = len == 4 ? sizeof(four) : sizeof(six);

	tcp.th_sum = checksum(ends, len, &tcp);
	six.ip6_vfc = 6 << 4;
	memcpy(&four.saddr, ends->from, 4);
	memcpy(&four.daddr, ends->to, 4);
	memcpy(&six.ip6_src, ends->from, sizeof(six.ip6_src));
	memcpy(&six.ip6_dst, ends->to, sizeof(six.ip6_dst));
	memcpy(ret, len == 4 ? (void *)&four : (void *)&six, head);
	memcpy(ret + head, &tcp, sizeof(tcp));
	return head + sizeof(tcp);
}
