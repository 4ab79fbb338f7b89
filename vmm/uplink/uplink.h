/*
 * Between the supervisor and mvm-net, the process that holds a VM's network namespace (--net user, --net bridge=, --proxy),
 * or a named network's that VMs join: one request, then messages.
 *
 * Purpose: fixed-layout structs on a SOCK_SEQPACKET socket pair, and what both sides know of the namespace.
 * Trust:   mvm-net reads what its supervisor wrote. The supervisor bounds what mvm-net says: that one reads headers of
 *          packets that were refused, which the guest wrote.
 */
#ifndef UPLINK_UPLINK_H
#define UPLINK_UPLINK_H

#include <assert.h>
#include <errno.h>
#include <stdint.h>

#include "uplink/dns.h"

#define UPLINK_TUN     "/dev/net/tun"
#define UPLINK_VERSION 5U
#define UPLINK_FD      0 /* the socket, in mvm-net */
#define UPLINK_RULES   64U
#define UPLINK_NAMES   64U
#define UPLINK_LINKS   64U /* networks that the host is on */
#define UPLINK_TEXT    400U
#define UPLINK_PATH    256U
#define UPLINK_MTU     65520U /* what pasta takes: TCP crosses the namespace in pieces as large as they get */

/*
 * Two links, each with a network of its own. RFC 7335 sets 192.0.0.0/29 aside for translation inside of a host, so no
 * network that a guest may want to reach lies below them; the ULA's 40 bits are random (RFC 4193 §3.2.1).
 */
#define UPLINK_VM       "vm0" /* the VM's tap */
#define UPLINK_OUT      "out0" /* pasta's, or the one to a bridge of the host's */
#define UPLINK_GUEST4   "192.0.0.2"
#define UPLINK_GATEWAY4 "192.0.0.1"
#define UPLINK_OWN4     "192.0.0.10"
#define UPLINK_PASTA4   "192.0.0.9"
#define UPLINK_BITS4    29U
#define UPLINK_GUEST6   "fd6e:82a4:17c9::2"
#define UPLINK_GATEWAY6 "fd6e:82a4:17c9::1"
#define UPLINK_OWN6     "fd6e:82a4:17c9::a"
#define UPLINK_PASTA6   "fd6e:82a4:17c9::9"
#define UPLINK_BITS6    125U

/* Why a packet of the guest's was refused; each has a counter of its name in nftables. */
enum uplink_reason {
	UPLINK_METADATA, /* a cloud's metadata service */
	UPLINK_HOST, /* one of this host's own addresses */
	UPLINK_PRIVATE, /* no address of the public internet */
	UPLINK_EGRESS, /* not named, under --egress deny */
	UPLINK_GATEWAY, /* the namespace itself */
	UPLINK_FLOWS, /* more connections, or more new ones a second, than one VM may have */
	UPLINK_SPOOFED, /* from an address that is not the guest's: the VMM should not have let it out */
	UPLINK_NAME, /* a question for a name that is not among the named: counted by mvm-net, no packet of the rules' */
	UPLINK_ISOLATED, /* another VM of its network, which is --isolated */
	UPLINK_REASONS
};

/* "metadata", "host" …; NULL: there is no such. */
static inline const char *uplink_reason_name(unsigned reason)
{
	static const char *const names[UPLINK_REASONS] = { "metadata", "host",    "private", "egress",  "gateway",
							   "flows",    "spoofed", "name",    "isolated" };

	return reason < UPLINK_REASONS ? names[reason] : 0;
}

/* What helps where UPLINK_TUN cannot be had. */
static inline const char *uplink_tun_remedy(int code)
{
	switch (code) {
	case EACCES:
	case EPERM:
		return "everybody may open it where udev rules: have root say chmod 666 " UPLINK_TUN;
	case ENOTTY:
		return "it is no such device: have root make it: rm -f " UPLINK_TUN " && mknod -m 666 " UPLINK_TUN
		       " c 10 200";
	default:
		return "load it: modprobe tun";
	}
}

struct uplink_rule {
	uint8_t family; /* 4 or 6 */
	uint8_t prefix; /* bits */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0: both */
	uint8_t reserved;
	uint16_t port; /* 0: all, of every protocol */
	uint16_t reserved2;
	uint8_t address[16];
};

_Static_assert(sizeof(struct uplink_rule) == 24, "wire");

/* What a name resolves to may be reached while the answer counts, as far as it is public. */
struct uplink_name {
	char name[DNS_NAME]; /* as dns_name() writes them */
	uint16_t port; /* 0: all, of every protocol */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0: both */
	uint8_t below; /* 1: the names below it, and not it: *.NAME */
};

_Static_assert(sizeof(struct uplink_name) == 258, "wire");

/*
 * DNS4, DNS6: pasta passes questions on to a name server of the host's by that family: the guest's, or
 * the resolver's under DENY; with BRIDGE: its place has a server of that family, for the resolver. PROXY: there is no tap, and no
 * guest on a link; the guest's connections come as descriptors to a process in the namespace (proxy.c).
 */
enum {
	UPLINK_IP4 = 1,
	UPLINK_IP6 = 2,
	UPLINK_DENY = 4,
	UPLINK_DNS4 = 8,
	UPLINK_DNS6 = 16,
	UPLINK_PROXY = 32,
	UPLINK_NETWORK = 64, /* a named network: VMs join it; neither IP4 nor IP6: it is --internal */
	UPLINK_ISOLATE = 128, /* … and do not reach each other */
	UPLINK_BRIDGE = 256, /* no pasta, but a port of a bridge; IP4, IP6: the guest has addresses of that family */
};

/*
 * Two descriptors come with a request of NETWORK: a listening SOCK_SEQPACKET socket, where supervisors join, and root's
 * lock of its uid (jail/ids.h), which is kept for as long as the process lives. Without a uid it is the socket again.
 */
#define UPLINK_MEMBERS 254U /* VMs on a network */
#define UPLINK_ID      64U /* of a VM's or a network's name, with the NUL */

struct uplink_subnet {
	uint8_t net4[4], net6[16];
	uint8_t bits4, bits6; /* bits6 0: without IPv6 */
};

#define UPLINK_GATEWAY_HOST 1U /* of a network's addresses: its own */

/* The address with that number in the network. */
static inline void uplink_host4(const struct uplink_subnet *subnet, uint32_t host, uint8_t ret[4])
{
	for (unsigned i = 0; i < 4; i++)
		ret[i] = (uint8_t)(subnet->net4[i] | host >> 8 * (3 - i));
}

static inline void uplink_host6(const struct uplink_subnet *subnet, uint32_t host, uint8_t ret[16])
{
	for (unsigned i = 0; i < 16; i++)
		ret[i] = (uint8_t)(subnet->net6[i] | (i < 12 ? 0 : host >> 8 * (15 - i)));
}

/* Of a guest on a bridge of the host's: its place on the bridge's network. A family that it has no address of is zeroes. */
struct uplink_place {
	uint8_t ip4[4], ip6[16];
	uint8_t gateway4[4], gateway6[16]; /* zeroes: nothing leads out of that network */
	uint8_t server4[4], server6[16]; /* with DNS4, DNS6 */
	uint8_t bits4, bits6; /* of its network's addresses */
};

_Static_assert(sizeof(struct uplink_place) == 62, "wire");

/*
 * Two descriptors come with a request of PROXY: the end of a SOCK_SEQPACKET socket by which connections come, each with a byte;
 * and memory for this, which proxy.c adds in and the supervisor reads as hostile numbers, of which none falls.
 */
#define UPLINK_FDS   2U /* with a request of PROXY or NETWORK */
#define UPLINK_CONNS 256U /* connections of the proxy at once; more wait in the socket */

struct uplink_proxied {
	uint64_t opened; /* connections to where the guest asked for */
	uint64_t refused; /* by the rules, or for a name that is not resolved */
	uint64_t failed; /* for any other reason */
	uint64_t from_guest_bytes, to_guest_bytes; /* payload */
};

_Static_assert(sizeof(struct uplink_proxied) == 40, "shared");

struct uplink_request {
	uint32_t version;
	uint32_t flags;
	uint32_t uid, gid; /* to become; UINT32_MAX: to stay who we are */
	uint8_t mac[6]; /* the guest's */
	uint16_t mtu;
	uint32_t nrules;
	struct uplink_rule rules[UPLINK_RULES];
	uint32_t nnames; /* with UPLINK_DENY alone */
	struct uplink_name names[UPLINK_NAMES];
	uint32_t nlinks;
	struct uplink_rule links[UPLINK_LINKS]; /* the host's neighbours: private, whatever their addresses */
	char pasta[UPLINK_PATH], nft[UPLINK_PATH]; /* absolute paths */
	char network[UPLINK_ID]; /* of a network: its name */
	struct uplink_subnet subnet; /* … and addresses; the first is the gateway */
	struct uplink_place place; /* with BRIDGE */
};

/* What a supervisor says first on a connection to a network's socket. WHO: only the first two count. */
enum { UPLINK_JOIN = 1, UPLINK_WHO };

struct uplink_join {
	uint32_t version;
	uint32_t kind;
	uint32_t flags; /* UPLINK_DENY */
	char name[UPLINK_ID]; /* the VM's; "": it has none */
	char id[UPLINK_ID];
	uint8_t mac[6];
	uint16_t mtu;
	uint8_t ip4[4], ip6[16]; /* that it wants; zeroes: any */
	uint32_t nrules;
	struct uplink_rule rules[UPLINK_RULES];
	uint32_t nnames; /* with UPLINK_DENY alone */
	struct uplink_name names[UPLINK_NAMES];
};

/* A VM on a network. */
struct uplink_member {
	char name[UPLINK_ID], id[UPLINK_ID];
	uint8_t ip4[4], ip6[16], mac[6];
};

#define UPLINK_FLOWS_MAX 256U /* that are told at once, the busiest */
#define UPLINK_FLOWS_IN  6U /* one message */

/* A connection as the guest, or the proxy, began it. */
struct uplink_flow {
	uint8_t family; /* 4 or 6 */
	uint8_t protocol; /* IPPROTO_* */
	uint8_t state; /* of TCP: enum tcp_conntrack; else 0 */
	uint8_t flags; /* enum uplink_flow_flags */
	uint16_t from_port, to_port; /* of TCP and UDP; else 0 */
	uint32_t age_s; /* UINT32_MAX: not known */
	uint32_t reserved;
	uint8_t from[16], to[16];
	uint64_t out_packets, out_bytes, in_packets, in_bytes; /* out: from who began it */
};

enum uplink_flow_flags { UPLINK_FLOW_ANSWERED = 1 };

/*
 * Of all connections since the VM began. Packets and bytes are those of the namespace's link to the outside, in a named
 * network those of the VM's own link that pass.
 */
struct uplink_traffic {
	uint64_t flows; /* now */
	uint64_t begun; /* ever, that the rules let through */
	uint64_t out_packets, out_bytes, in_packets, in_bytes;
};

struct uplink_counted {
	uint64_t counters[UPLINK_REASONS]; /* packets */
	struct uplink_traffic traffic;
};

_Static_assert(sizeof(struct uplink_flow) == 80 && sizeof(struct uplink_traffic) == 48, "wire");

enum uplink_type {
	/* to the supervisor */
	UPLINK_READY = 1, /* with the tap, but for PROXY and NETWORK; to one who joins with `member`, too */
	UPLINK_FAILED, /* code, text; the process ends */
	UPLINK_LOG, /* text */
	UPLINK_REFUSED, /* one of the packets: some a second are told at most */
	UPLINK_COUNTED, /* counted; after refusals, and as answer */
	UPLINK_MEMBER, /* WHO: one of the members */
	UPLINK_MEMBER_LAST, /* WHO: that were all */
	/* to mvm-net */
	UPLINK_COUNT,
	UPLINK_TELL_FLOWS,
	/* to the supervisor, one after the other as answer to the last */
	UPLINK_LISTED, /* listed: how many are told of how many */
	UPLINK_LIST, /* flows: some of them */
	/* of BRIDGE, before READY: the namespace's descriptor, to the supervisor; and that UPLINK_OUT is there, its answer */
	UPLINK_SPACE,
	UPLINK_LINKED,
};

struct uplink_refused {
	uint8_t reason;
	uint8_t family; /* 4 or 6; of UPLINK_NAME 0 */
	uint8_t protocol;
	uint8_t reserved;
	uint16_t port; /* of TCP, UDP; else 0 */
	uint16_t slot; /* within mvm-net: whose it is, of a network */
	uint8_t to[16];
	char name[DNS_NAME]; /* of UPLINK_NAME; filled up with zeroes */
};

struct uplink_message {
	uint32_t type;
	int32_t code; /* errno */
	union {
		char text[UPLINK_TEXT];
		struct uplink_refused refused;
		struct uplink_member member; /* of READY to one who joined, too; `code`: UPLINK_* of the way out */
		struct uplink_counted counted;
		struct uplink_listed {
			uint32_t told, all;
			uint32_t cut; /* 1: there are more than could be looked at */
		} listed;
		struct {
			uint32_t nflows, reserved;
			struct uplink_flow flows[UPLINK_FLOWS_IN];
		};
	};
};

#endif
