/*
 * Between the supervisor and mvm-udp, the process that serves a VM's published UDP ports: one request, then messages.
 *
 * Purpose: fixed-layout structs on a SOCK_SEQPACKET socket pair, and the numbers that it adds up.
 * Trust:   mvm-udp reads what its supervisor wrote. It reads datagrams of anybody's and a hostile guest's stream, and
 *          may be theirs: the supervisor bounds what it says, takes no descriptor from it, and copies its numbers.
 */
#ifndef UDP_UDP_H
#define UDP_UDP_H

#include <stdint.h>

#include "mvm/proto.h"

#define UDP_VERSION   1U
#define UDP_FD        0 /* the socket, in mvm-udp */
#define UDP_TEXT      200U
#define UDP_FLOWS_MAX 192U /* clients at once: of CONTROL_CONNS_MAX some are left to TCP */
#define UDP_SOCKET    (256U << 10) /* bytes, as the kernel counts them, on their way in a flow's connection, each way */

/* With it come the memory for struct udp_counted, and the ports' sockets in this order. */
struct udp_request {
	uint32_t version;
	uint32_t uid, gid; /* to become; UINT32_MAX: to stay who we are */
	uint32_t nports;
	struct udp_request_port {
		uint16_t port; /* of the host */
		uint16_t family; /* 4 or 6 */
	} ports[PROTO_PUBLISH_MAX];
};

enum udp_type {
	/* to the supervisor */
	UDP_READY = 1,
	UDP_FAILED, /* code, text; the process ends */
	UDP_ASK, /* a connection to the guest for `flow`, at place `port` of the request's */
	/* to mvm-udp */
	UDP_GIVEN, /* `flow`'s, with a descriptor: a connected, non-blocking stream socket */
	UDP_REFUSED, /* `flow` gets none now */
};

struct udp_message {
	uint32_t type; /* enum udp_type */
	uint32_t flow; /* mvm-udp's own number */
	uint32_t port;
	int32_t code; /* errno */
	char text[UDP_TEXT];
};

/* Why a datagram of a client's was dropped, or an answer. */
enum udp_drop {
	UDP_DROP_FLOWS, /* no room for one more client, or too many new ones a second */
	UDP_DROP_FULL, /* the guest does not take them as fast as they come, or not yet */
	UDP_DROP_BAD, /* longer than IPv4 has them, or from no port */
	UDP_DROP_ANSWER, /* an answer that the host did not send */
	UDP_DROPS
};

/* "flows", "full" …; NULL: there is no such. */
static inline const char *udp_drop_name(unsigned drop)
{
	static const char *const names[UDP_DROPS] = { "flows", "full", "bad", "answer" };

	return drop < UDP_DROPS ? names[drop] : 0;
}

/* mvm-udp adds, the supervisor reads. None falls. */
struct udp_counted {
	uint64_t from_clients, from_clients_bytes; /* datagrams that were passed on; bytes: payload */
	uint64_t to_clients, to_clients_bytes;
	uint64_t dropped[UDP_DROPS]; /* datagrams */
	uint64_t broken; /* flows that ended because the guest broke the framing */
};

_Static_assert(sizeof(struct udp_message) == 216, "wire");
_Static_assert(sizeof(struct udp_counted) == 72, "shared");

#endif
