/*
 * Between the supervisor and mvm-net, the process that holds a VM's network namespace (--net user, --proxy): one request,
 * then messages.
 *
 * Purpose: fixed-layout structs on a SOCK_SEQPACKET socket pair, and what both sides know of the namespace.
 * Trust:   mvm-net reads what its supervisor wrote. The supervisor bounds what mvm-net says: that one reads headers of
 *          packets that were refused, which the guest wrote.
 */
#ifndef UPLINK_UPLINK_H
#define UPLINK_UPLINK_H

#include <assert.h>
#include <stdint.h>

#include "uplink/dns.h"

#define UPLINK_VERSION 2U
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
#define UPLINK_OUT      "out0" /* pasta's */
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
	UPLINK_REASONS
};

/* "metadata", "host" …; NULL: there is no such. */
static inline const char *uplink_reason_name(unsigned reason)
{
	static const char *const names[UPLINK_REASONS] = { "metadata", "host",  "private", "egress",
							   "gateway",  "flows", "spoofed", "name" };

	return reason < UPLINK_REASONS ? names[reason] : 0;
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
 * the resolver's under DENY. PROXY: there is no tap, and no
 * guest on a link; the guest's connections come as descriptors to a process in the namespace (proxy.c).
 */
enum { UPLINK_IP4 = 1, UPLINK_IP6 = 2, UPLINK_DENY = 4, UPLINK_DNS4 = 8, UPLINK_DNS6 = 16, UPLINK_PROXY = 32 };

/*
 * Two descriptors come with a request of PROXY: the end of a SOCK_SEQPACKET socket by which connections come, each with a byte;
 * and memory for this, which proxy.c adds in and the supervisor reads as hostile numbers, of which none falls.
 */
#define UPLINK_PROXY_FDS 2U
#define UPLINK_CONNS     256U /* connections of the proxy at once; more wait in the socket */

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
};

enum uplink_type {
	/* to the supervisor */
	UPLINK_READY = 1, /* with the tap, but for PROXY */
	UPLINK_FAILED, /* code, text; the process ends */
	UPLINK_LOG, /* text */
	UPLINK_REFUSED, /* one of the packets: some a second are told at most */
	UPLINK_COUNTED, /* counters; after refusals, and as answer */
	/* to mvm-net */
	UPLINK_COUNT,
};

struct uplink_refused {
	uint8_t reason;
	uint8_t family; /* 4 or 6; of UPLINK_NAME 0 */
	uint8_t protocol;
	uint8_t reserved;
	uint16_t port; /* of TCP, UDP; else 0 */
	uint16_t reserved2;
	uint8_t to[16];
	char name[DNS_NAME]; /* of UPLINK_NAME; filled up with zeroes */
};

struct uplink_message {
	uint32_t type;
	int32_t code; /* errno */
	union {
		char text[UPLINK_TEXT];
		struct uplink_refused refused;
		uint64_t counters[UPLINK_REASONS]; /* packets */
	};
};

#endif
