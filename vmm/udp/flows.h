/*
 * The clients of published UDP ports: which datagram belongs to which connection to the guest, and back.
 *
 * Purpose: a client is an address and port, and the address that it sent to; its first datagram asks for a connection
 *          to the guest (proto.h, PUBLISH_UDP), answers on that go back to it alone, from the address that it sent to.
 * Trust:   datagrams are anybody's, with forged senders among them; what comes on a connection is a hostile guest's.
 * Bounds:  UDP_FLOWS_MAX clients, of which each port leaves some to the others; new ones at a rate. One from whom only
 *          questions came ends after a minute of silence, one that was answered after three. Where there is no room,
 *          somebody makes it: least() in flows.c says who, of a host with more than UDP_SHARE also one that is not
 *          silent. What waits for a connection to take it, and what is half a datagram of the guest's, lies in
 *          UDP_SLOTS slots, of which a port has its share: what finds none is dropped and counted.
 * Ownership: the connections' sockets are the struct's; those of the ports are the caller's.
 * Thread:  one; nothing waits.
 */
#ifndef UDP_FLOWS_H
#define UDP_FLOWS_H

#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#include "udp/udp.h"

#define UDP_NS_PER_S    1000000000ULL
#define UDP_ONE_WAY_NS  (60 * UDP_NS_PER_S)
#define UDP_ANSWERED_NS (180 * UDP_NS_PER_S)
#define UDP_QUIET_NS    (2 * UDP_NS_PER_S)
#define UDP_NEW_RATE    1000U /* clients a second, of all ports together; each has an equal share */
#define UDP_NEW_BURST   128U /* of each port */
#define UDP_NEW_SPARE   32U /* of it: for hosts without a client */
#define UDP_SHARE       16U /* clients of a port's that a host keeps whatever comes */
#define UDP_RATE        100000U /* datagrams a second, of all ports together, each way */
#define UDP_BURST       2000U
#define UDP_RESERVE     4U /* clients, of each port for each other one */
#define UDP_SLOT        (64U << 10) /* bytes */
#define UDP_SLOTS       256U
#define UDP_ARENA       ((size_t)UDP_SLOTS * UDP_SLOT)
#define UDP_FDS         (PROTO_PUBLISH_MAX + UDP_FLOWS_MAX)

_Static_assert(UDP_SLOT >= PROTO_DATAGRAM_HEAD + PROTO_DATAGRAM_MAX, "each takes a whole datagram");

/* Who sent to what; of IPv4 the first four bytes of each address. Compared as bytes: zeroed first. */
struct udp_client {
	uint8_t address[16], own[16]; /* own: that it sent to */
	uint32_t scope; /* of a link-local address */
	uint16_t port; /* as on the wire */
	uint16_t family; /* AF_INET, AF_INET6 */
};

struct udp_flow {
	enum { UDP_FREE, UDP_ASKED, UDP_OPEN } state;
	struct udp_client client;
	int fd; /* -1 unless open */
	uint8_t port; /* its place */
	bool answered;
	uint32_t number;
	uint64_t heard_ns; /* a datagram of the client's */
	int out, in; /* slots; -1: none */
	size_t out_pos, out_len; /* to the guest */
	size_t in_len; /* of a datagram of the guest's */
};

/* What may be read next: time that is saved up, or, negative, that is to pass first. */
struct udp_pace {
	int64_t saved_ns;
	uint64_t at_ns;
};

struct udp {
	unsigned nports, nflows;
	struct udp_pace in, out; /* from clients, from the guest */
	unsigned next; /* the flow that the guest is heard on first */
	struct udp_port {
		int fd;
		uint16_t port; /* as on the wire */
		uint16_t family; /* AF_INET, AF_INET6 */
		unsigned nflows, nslots;
		uint64_t tokens_ns, tokens_at_ns; /* new clients: time that is saved up */
	} ports[PROTO_PUBLISH_MAX];
	struct udp_flow flows[UDP_FLOWS_MAX];
	unsigned nslots;
	uint8_t slot_of[UDP_SLOTS]; /* port's place + 1; 0: free */
	uint8_t *arena;
	struct udp_counted *counted;
	/* Asks for a connection; false: that cannot be asked now. */
	bool (*ask)(void *arg, uint32_t number, unsigned port);
	void *arg;
	uint8_t buffer[UDP_SLOT + 64]; /* a datagram, or what came on a connection */
};

/* `fds`: the ports' sockets. `arena`: UDP_ARENA bytes, zero pages that are touched as needed. */
void udp_init(struct udp *udp, const struct udp_request *request, const int *fds, uint8_t *arena,
	      struct udp_counted *counted, uint64_t now);

/* The answer to an ask: a connection, taken over, or -1. */
void udp_given(struct udp *udp, uint32_t number, int fd, uint64_t now);

void udp_prepare(const struct udp *udp, struct pollfd fds[UDP_FDS]);
void udp_run(struct udp *udp, const struct pollfd fds[UDP_FDS], uint64_t now);
uint64_t udp_deadline(const struct udp *udp); /* UINT64_MAX: none */

/* The options by which a port's socket tells what address a datagram was sent to. 0 or -errno. */
int udp_set_options(int fd, unsigned family);

#endif
