/* What a guest may send: nothing in another's name, nothing that only routers say, nothing that hides from such checks. */
#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/net.h"

#define MAC_LEN 6U

enum {
	ETHER_MIN = 0x0600, /* below: a length, IEEE 802.3 */
	ETHER_IPV4 = 0x0800,
	ETHER_ARP = 0x0806,
	ETHER_VLAN = 0x8100,
	ETHER_IPV6 = 0x86dd,
	ETHER_SVLAN = 0x88a8,
	ETHER_OLD_SVLAN = 0x9100,
};

enum {
	PROTO_HOP_BY_HOP = 0,
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AUTH = 51,
	PROTO_ICMPV6 = 58,
	PROTO_DEST_OPTIONS = 60,
};

enum { /* RFC 792, RFC 1256 §3; DHCP: RFC 2131 §4.1 */
       ICMP_REDIRECT = 5,
       ICMP_ROUTER = 9,
       DHCP_SERVER = 67,
       DHCP_CLIENT = 68,
};

enum { /* RFC 4861 §4 */
       ND_ROUTER_SOLICIT = 133,
       ND_SOLICIT = 135,
       ND_ADVERTISE = 136,
       ND_ROUTER = 134,
       ND_REDIRECT = 137,
       ND_OPT_SOURCE = 1,
       ND_OPT_TARGET = 2,
};

static const char *const drop_names[NET_DROPS] = {
	[NET_PASSED] = "passed",
	[NET_DROP_SIZE] = "its size",
	[NET_DROP_OFFLOAD] = "its offload header",
	[NET_DROP_MAC] = "another's MAC address",
	[NET_DROP_ADDRESS] = "another's address",
	[NET_DROP_ROUTE] = "a source route",
	[NET_DROP_ROUTER] = "what only a router says",
	[NET_DROP_KIND] = "its kind",
	[NET_DROP_HOST] = "the host's end did not take it",
};

const char *net_drop_name(enum net_drop drop)
{
	return (size_t)drop < NET_DROPS ? drop_names[drop] : "unknown";
}

/* The bytes of a frame that were copied. */
struct view {
	const uint8_t *p;
	size_t len;
};

static bool has(struct view v, size_t at, size_t len)
{
	return at <= v.len && len <= v.len - at;
}

static unsigned be16_at(struct view v, size_t at)
{
	return (unsigned)v.p[at] << 8 | v.p[at + 1];
}

static bool is_zero(const uint8_t *p, size_t len)
{
	while (len--)
		if (p[len])
			return false;
	return true;
}

/* Nobody's address on a wire; to a host's stack, or to passt's sockets, its own: RFC 1122 §3.2.1.3. */
static bool is_nobody4(const uint8_t *ip)
{
	return ip[0] == 127 || ip[0] == 0;
}

/* The same, and IPv4's in IPv6's clothes: RFC 4291 §2.5. */
static bool is_nobody6(const uint8_t *ip)
{
	return is_zero(ip, 10) && ((ip[10] == 0xff && ip[11] == 0xff) || (is_zero(ip + 10, 5) && ip[15] <= 1));
}

static void set_transport(unsigned kind, size_t at, uint8_t gso_tcp, struct net_transport *ret)
{
	if (kind == PROTO_TCP || kind == PROTO_UDP)
		*ret = (struct net_transport){ at, kind == PROTO_TCP ? gso_tcp : NET_GSO_UDP_L4 };
}

/* ---- IPv4 and ARP ---- */

/* Loose and strict source routes, RFC 791 §3.1; -1: the options are malformed. */
static int source_routed(struct view v, size_t at, size_t end)
{
	while (at < end && v.p[at] != 0) {
		unsigned type = v.p[at];
		size_t len;

		if (type == 1) { /* no operation */
			at++;
			continue;
		}
		if (type == 131 || type == 137)
			return 1;
		if (at + 1 >= end)
			return -1;
		len = v.p[at + 1];
		if (len < 2 || len > end - at)
			return -1;
		at += len;
	}
	return 0;
}

/* Without any address given every one is the guest's; else those of a family of which none was given are not. */
static bool may_be_any(const struct net_rules *rules)
{
	return is_zero(rules->ip4, 4) && is_zero(rules->ip6, 16);
}

/* A client that asks for its address has none yet: RFC 2131 §4.1. */
static bool is_dhcp_request(struct view v, size_t payload)
{
	return v.p[NET_ETH + 9] == PROTO_UDP && !(be16_at(v, NET_ETH + 6) & 0x3fff) && has(v, payload, 8) &&
	       be16_at(v, payload) == DHCP_CLIENT && be16_at(v, payload + 2) == DHCP_SERVER;
}

/* What is in it: nothing that routers and DHCP servers say. A first fragment that hides it is no fragment of anybody's. */
static enum net_drop check_payload(struct view v, size_t payload, struct net_transport *ret_transport)
{
	unsigned kind = v.p[NET_ETH + 9], fragment = be16_at(v, NET_ETH + 6);

	if (fragment & 0x1fff) /* a later piece */
		return NET_PASSED;
	if (fragment & 0x2000 && !has(v, payload, 8))
		return NET_DROP_KIND;
	if (kind == PROTO_ICMP && has(v, payload, 1) && (v.p[payload] == ICMP_REDIRECT || v.p[payload] == ICMP_ROUTER))
		return NET_DROP_ROUTER;
	if (kind == PROTO_UDP && has(v, payload, 4) && be16_at(v, payload) == DHCP_SERVER &&
	    be16_at(v, payload + 2) == DHCP_CLIENT)
		return NET_DROP_ROUTER;
	if (!(fragment & 0x2000))
		set_transport(kind, payload, VIRTIO_NET_HDR_GSO_TCPV4, ret_transport);
	return NET_PASSED;
}

static enum net_drop check_ipv4(const struct net_rules *rules, struct view v, struct net_transport *ret_transport)
{
	const uint8_t *source;
	size_t header;
	int routed;

	if (!has(v, NET_ETH, 20))
		return NET_DROP_SIZE;
	header = (v.p[NET_ETH] & 15UL) * 4;
	if (v.p[NET_ETH] >> 4 != 4 || header < 20 || !has(v, NET_ETH, header))
		return NET_DROP_KIND;
	routed = source_routed(v, NET_ETH + 20, NET_ETH + header);
	if (routed)
		return routed < 0 ? NET_DROP_KIND : NET_DROP_ROUTE;
	source = v.p + NET_ETH + 12;
	if (is_nobody4(source + 4) || source[0] == 127)
		return NET_DROP_ADDRESS;
	if (!may_be_any(rules) && (is_zero(rules->ip4, 4) || memcmp(source, rules->ip4, 4) != 0) &&
	    !(!is_zero(rules->ip4, 4) && is_zero(source, 4) && is_dhcp_request(v, NET_ETH + header)))
		return NET_DROP_ADDRESS;
	return check_payload(v, NET_ETH + header, ret_transport);
}

/* RFC 826, for IPv4 over Ethernet and nothing else. */
static enum net_drop check_arp(const struct net_rules *rules, struct view v)
{
	static const uint8_t kind[] = { 0, 1, 8, 0, 6, 4 };
	const uint8_t *arp = v.p + NET_ETH;

	if (!has(v, NET_ETH, 28))
		return NET_DROP_SIZE;
	if (memcmp(arp, kind, sizeof(kind)) != 0)
		return NET_DROP_KIND;
	if (memcmp(arp + 8, rules->mac, MAC_LEN) != 0)
		return NET_DROP_MAC;
	if (may_be_any(rules))
		return NET_PASSED;
	if (is_zero(rules->ip4, 4))
		return NET_DROP_ADDRESS;
	return is_zero(arp + 14, 4) || memcmp(arp + 14, rules->ip4, 4) == 0 ? NET_PASSED : NET_DROP_ADDRESS;
}

/* ---- IPv6 ---- */

/* The link-local address that RFC 4291 (appendix A) makes of the MAC address. */
static bool is_link_local(const struct net_rules *rules, const uint8_t *ip)
{
	const uint8_t *m = rules->mac;
	const uint8_t own[16] = {
		[0] = 0xfe,  [1] = 0x80,  [8] = m[0] ^ 2, [9] = m[1],  [10] = m[2],
		[11] = 0xff, [12] = 0xfe, [13] = m[3],    [14] = m[4], [15] = m[5],
	};

	return memcmp(ip, own, sizeof(own)) == 0;
}

static bool is_own(const struct net_rules *rules, const uint8_t *ip)
{
	return may_be_any(rules) || is_link_local(rules, ip) ||
	       (!is_zero(rules->ip6, 16) && memcmp(ip, rules->ip6, 16) == 0);
}

/* The options of a neighbour discovery message name no other's MAC address. */
static enum net_drop check_nd_options(const struct net_rules *rules, struct view v, size_t at, size_t end)
{
	while (at < end) {
		size_t len;

		if (!has(v, at, 8))
			return NET_DROP_KIND;
		len = v.p[at + 1] * 8UL;
		if (!len || len > end - at)
			return NET_DROP_KIND;
		if ((v.p[at] == ND_OPT_SOURCE || v.p[at] == ND_OPT_TARGET) &&
		    memcmp(v.p + at + 2, rules->mac, MAC_LEN) != 0)
			return NET_DROP_MAC;
		at += len;
	}
	return NET_PASSED;
}

/* `end`: where the packet ends by its own word. */
static enum net_drop check_icmpv6(const struct net_rules *rules, struct view v, size_t at, size_t end)
{
	unsigned type;

	if (!has(v, at, 4))
		return NET_DROP_SIZE;
	type = v.p[at];
	if (type == ND_ROUTER || type == ND_REDIRECT)
		return NET_DROP_ROUTER;
	if (type == ND_ROUTER_SOLICIT)
		return has(v, at, 8) ? check_nd_options(rules, v, at + 8, end) : NET_DROP_SIZE;
	if (type != ND_SOLICIT && type != ND_ADVERTISE)
		return NET_PASSED;
	if (!has(v, at, 24))
		return NET_DROP_SIZE;
	if (type == ND_ADVERTISE && !is_own(rules, v.p + at + 8))
		return NET_DROP_ADDRESS;
	return check_nd_options(rules, v, at + 24, end);
}

/* Bytes of the extension header of kind `kind` at `at`, of which 8 are there; 0: it is none. RFC 8200 §4, RFC 4302 §2.2. */
static size_t extension(struct view v, unsigned kind, size_t at)
{
	switch (kind) {
	case PROTO_HOP_BY_HOP:
	case PROTO_DEST_OPTIONS:
	case PROTO_ROUTING:
		return 8 + v.p[at + 1] * 8UL;
	case PROTO_AUTH:
		return (v.p[at + 1] + 2UL) * 4;
	case PROTO_FRAGMENT:
		return 8;
	default:
		return 0;
	}
}

/*
 * What is in the packet, behind its extension headers. A chain of them that goes on beyond what was copied is
 * malformed: nobody needs that many, and it would hide what is behind it (RFC 7113).
 */
static enum net_drop check_ipv6(const struct net_rules *rules, struct view v, struct net_transport *ret_transport)
{
	size_t at = NET_ETH + 40, end, len;
	const uint8_t *source = v.p + NET_ETH + 8;
	bool whole = true;
	unsigned kind;

	if (!has(v, NET_ETH, 40))
		return NET_DROP_SIZE;
	/* One that has no length hides its end, RFC 2675 aside, which no Ethernet carries. */
	if (v.p[NET_ETH] >> 4 != 6 || be16_at(v, NET_ETH + 4) == 0)
		return NET_DROP_KIND;
	end = at + be16_at(v, NET_ETH + 4);
	kind = v.p[NET_ETH + 6];
	for (;;) {
		bool there = has(v, at, 8);

		if (!there && (kind == PROTO_HOP_BY_HOP || kind == PROTO_DEST_OPTIONS || kind == PROTO_ROUTING ||
			       kind == PROTO_AUTH || kind == PROTO_FRAGMENT))
			return NET_DROP_KIND;
		len = there ? extension(v, kind, at) : 0;
		if (!len)
			break;
		if (kind == PROTO_ROUTING &&
		    v.p[at + 2] != 2) /* type 2 names but a mobile's own address, RFC 6275 §6.4 */
			return NET_DROP_ROUTE;
		if (kind == PROTO_FRAGMENT) {
			whole = false;
			if (be16_at(v, at + 2) & 0xfff8)
				break; /* a later piece; neighbour discovery never comes in pieces (RFC 6980) */
		}
		kind = v.p[at];
		at += len;
	}
	if (is_nobody6(source + 16) || (is_nobody6(source) && !is_zero(source, 16)))
		return NET_DROP_ADDRESS;
	/* Who has no address yet asks whether one is free, and who the routers are (RFC 4862 §5.4, RFC 4861 §4.1). */
	if (!is_own(rules, source) && !(is_zero(source, 16) && kind == PROTO_ICMPV6))
		return NET_DROP_ADDRESS;
	if (whole)
		set_transport(kind, at, VIRTIO_NET_HDR_GSO_TCPV6, ret_transport);
	return kind == PROTO_ICMPV6 ? check_icmpv6(rules, v, at, end) : NET_PASSED;
}

/* ---- all of it ---- */

enum net_drop net_frame_check(const struct net_rules *rules, const uint8_t *head, size_t nhead, size_t len,
			      struct net_transport *ret_transport)
{
	struct view v = { head, nhead };
	unsigned kind;

	*ret_transport = (struct net_transport){ 0 };
	if (len < NET_ETH || len > NET_FRAME_MAX)
		return NET_DROP_SIZE;
	if (memcmp(head + MAC_LEN, rules->mac, MAC_LEN) != 0)
		return NET_DROP_MAC;
	kind = be16_at(v, 2UL * MAC_LEN);
	switch (kind) {
	case ETHER_IPV4:
		return check_ipv4(rules, v, ret_transport);
	case ETHER_ARP:
		return check_arp(rules, v);
	case ETHER_IPV6:
		return check_ipv6(rules, v, ret_transport);
	case ETHER_VLAN:
	case ETHER_SVLAN:
	case ETHER_OLD_SVLAN:
		return NET_DROP_KIND;
	default:
		if (kind < ETHER_MIN || !may_be_any(rules))
			return NET_DROP_KIND;
		return NET_PASSED;
	}
}

static bool acked(uint64_t features, unsigned feature)
{
	return features >> feature & 1;
}

#define TCP_SUM 16U /* where TCP and UDP have their checksums: RFC 9293 §3.1, RFC 768 */
#define UDP_SUM 6U

static bool sum_is_sound(const struct net_hdr *hdr, uint64_t features, size_t len,
			 const struct net_transport *transport)
{
	size_t start = le16_get(hdr->csum_start), offset = le16_get(hdr->csum_offset);

	return acked(features, VIRTIO_NET_F_CSUM) && transport->at && start >= transport->at &&
	       (offset == TCP_SUM || offset == UDP_SUM) && start + offset + 2 <= len;
}

/* Segments are made of what the packet is, and its own checksum is the one that is left to be summed up. */
static bool gso_fits(const struct net_hdr *hdr, unsigned kind, const struct net_transport *transport)
{
	return kind == transport->gso && le16_get(hdr->csum_start) == transport->at &&
	       le16_get(hdr->csum_offset) == (kind == NET_GSO_UDP_L4 ? UDP_SUM : TCP_SUM);
}

/* virtio 1.2 §5.1.6.2: what a driver may say. */
enum net_drop net_offload_check(const struct net_hdr *hdr, uint64_t features, size_t len,
				const struct net_transport *transport, uint32_t mtu, unsigned *ret_segments)
{
	unsigned kind = hdr->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN, size = le16_get(hdr->gso_size);
	bool known = false;

	*ret_segments = 1;
	if (hdr->flags & ~(unsigned)VIRTIO_NET_HDR_F_NEEDS_CSUM)
		return NET_DROP_OFFLOAD;
	if (hdr->flags && !sum_is_sound(hdr, features, len, transport))
		return NET_DROP_OFFLOAD;
	if (hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return len <= NET_ETH + mtu ? NET_PASSED : NET_DROP_SIZE;
	if (kind == VIRTIO_NET_HDR_GSO_TCPV4)
		known = acked(features, VIRTIO_NET_F_HOST_TSO4);
	else if (kind == VIRTIO_NET_HDR_GSO_TCPV6)
		known = acked(features, VIRTIO_NET_F_HOST_TSO6);
	else if (kind == NET_GSO_UDP_L4)
		known = acked(features, NET_F_HOST_USO) && hdr->gso_type == kind;
	if (hdr->gso_type != kind && !acked(features, VIRTIO_NET_F_HOST_ECN))
		known = false;
	if (!known || !hdr->flags || !gso_fits(hdr, kind, transport) || !size || size > mtu ||
	    (len + size - 1) / size > NET_SEGMENTS)
		return NET_DROP_OFFLOAD;
	*ret_segments = (unsigned)((len + size - 1) / size);
	return NET_PASSED;
}

bool net_offload_wanted(const struct net_hdr *hdr, uint64_t features)
{
	unsigned kind = hdr->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;

	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !acked(features, VIRTIO_NET_F_GUEST_CSUM))
		return false;
	if (hdr->gso_type != kind && !acked(features, VIRTIO_NET_F_GUEST_ECN))
		return false;
	switch (kind) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return acked(features, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return acked(features, VIRTIO_NET_F_GUEST_TSO6);
	case NET_GSO_UDP_L4:
		return acked(features, NET_F_GUEST_USO4) || acked(features, NET_F_GUEST_USO6);
	default:
		return false;
	}
}
