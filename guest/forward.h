/*
 * Connections to published ports, and those of the proxy's clients (proto.h, PUBLISH, PROXY). Of UDP: forward_udp.h.
 *
 * Purpose: takes the host's vsock connections, connects each to a TCP port of the loopback (127.0.0.1, then ::1) and
 *          moves bytes both ways; or takes those to a port of 127.0.0.1 and dials the host for each. An end of stream travels
 *          as a half-close; an end that fails closes the other.
 * Trust:   both ends are hostile; neither's bytes are looked at.
 *          A port that nobody in the guest has listened on yet has its clients wait for the first who does, in the
 *          VM's first FORWARD_PATIENCE_S seconds; then, and once there was one, they are refused where there is nobody.
 * Bounds:  PROTO_CONNS_MAX connections, of which the proxy's take half at most where ports are published; of each two descriptors and, in a direction whose reader is slow, one buffer of
 *          FORWARD_BUFFER bytes, for as long as it is. A connection that stands still costs no other anything.
 * Ownership: struct forward owns the listening sockets and the connections. One that is over is freed by
 *          forward_pump(), behind the events of its turn (watch.h).
 * Thread:  the agent's only one; edge-triggered, bounded work per call.
 */
#ifndef MVM_GUEST_FORWARD_H
#define MVM_GUEST_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "mvm/proto.h"
#include "watch.h"

#define FORWARD_BUFFER     (64U << 10) /* bytes; a vsock packet's most */
#define FORWARD_PATIENCE_S 30

_Static_assert(FORWARD_BUFFER >= PROTO_DATAGRAM_HEAD + PROTO_DATAGRAM_MAX, "a datagram is read whole");

struct forward_conn;
struct forward_flow;

struct forward {
	int epoll;
	unsigned nports, nconns;
	unsigned nclients, ndialling; /* of the proxy: all; those whose dial is not answered yet */
	struct forward_door {
		struct watch watch;
		int fd; /* the proxy's clients come there; -1: there is no proxy */
		bool knocked; /* some may be waiting */
	} door;
	struct forward_port {
		struct watch watch;
		struct forward *forward;
		int fd;
		uint16_t port;
		bool udp;
		bool served; /* somebody has listened there */
		uint64_t end_ns; /* of the patience with it, CLOCK_MONOTONIC */
	} ports[PROTO_PUBLISH_MAX];
	struct forward_again {
		struct watch watch;
		int timer; /* while connections wait to try again; -1: made with the first */
		bool armed;
	} again;
	struct forward_conn *conns, *todo; /* all; those that forward_pump() has to see */
	struct forward_flow *flows, *flows_todo; /* the same, of UDP; in nconns, too */
	uint8_t *buffer; /* what is being moved; from the first port on */
};

void forward_init(struct forward *f, int epoll);

/* Listens for a port. 0; -EEXIST, -E2BIG: the host's mistake; -errno. */
int forward_listen(struct forward *f, uint16_t port, bool udp);

/* Listens for the proxy's clients. 0; -EEXIST: the host's mistake; -errno. */
int forward_listen_proxy(struct forward *f, uint16_t port);

/* Behind the events of a turn: goes on with what had more to do than one call may. True: there is more. */
bool forward_pump(struct forward *f);

/* Nothing that the guest wrote is left to send, once nobody in it writes any more. */
bool forward_drained(const struct forward *f);

#endif
