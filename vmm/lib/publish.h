/*
 * The published ports of a VM: sockets of the host, and which connections are with the VMM.
 *
 * Purpose: binds before there is a VM, accepts, numbers connections. UDP ports are bound here alone: publish_udp.h.
 *          A connection's bytes never pass here: its socket is the VMM's (control.h, CONTROL_CONNECT), which says when
 *          it has closed it.
 * Trust:   clients are anybody who reaches the port; of them no byte is read here. What the VMM says of an end is
 *          checked.
 * Bounds:  SPEC_PUBLISH_MAX ports, CONTROL_CONNS_MAX connections at once, of which each port leaves some to the others
 *          (publish_full()); more wait in the kernel's queue, PUBLISH_BACKLOG of each port.
 * Ownership: owns the listening sockets; an accepted one belongs to who asked.
 * Thread:  the supervisor's.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_PUBLISH_H
#define LIB_PUBLISH_H

#include <stdbool.h>

#include "lib/spec_publish.h"
#include "mvm/control.h"

#define PUBLISH_BACKLOG 128
#define PUBLISH_RESERVE 8U

_Static_assert(PROTO_CONNS_MAX == CONTROL_CONNS_MAX, "the agent takes what the supervisor gives");

struct publish {
	int handed[SPEC_PUBLISH_MAX]; /* sockets that another bound and listens on, until a port takes them; owned */
	unsigned nhanded;
	unsigned nports, nconns;
	struct publish_port {
		int fd; /* listening, or of UDP bound; non-blocking, CLOEXEC */
		struct spec_publish spec;
		uint16_t host; /* what was asked for, or what the kernel chose */
		unsigned nconns;
	} ports[SPEC_PUBLISH_MAX];
	uint8_t open[CONTROL_CONNS_MAX]; /* index: the connection's number; its port's place + 1, 0: free */
	unsigned next; /* where to look for a free number */
	uint64_t accepted; /* in this run of the VM */
};

/* publish_handed.c: gives it a listening socket, before publish_open(). -EINVAL: none of TCP's, or it does not listen; -E2BIG. */
int publish_hand(struct publish *publish, int fd, struct mvm_error *err);
int publish_take_handed(struct publish *publish, const struct spec_publish *spec); /* the one of that address, or -1 */
int publish_check_handed(const struct publish *publish, struct mvm_error *err); /* -EINVAL: one was not taken */

/* Listens on all of them, or on none. */
int publish_open(struct publish *publish, const struct spec_publish *specs, unsigned n, struct mvm_error *err);

/* Whether a port has all that it may: PUBLISH_RESERVE of the connections (or an equal share) stay for each other port. */
bool publish_full(const struct publish *publish, unsigned index);

/* A client of the port at `index`. 1 and its socket and number; 0: none is there, or none may be; -errno. */
int publish_accept(struct publish *publish, unsigned index, int *ret_fd, uint32_t *ret_id);

/* The number of a connection that somebody made: one of a UDP port's clients. False: publish_full(). */
bool publish_take(struct publish *publish, unsigned index, uint32_t *ret_id);

int publish_closed(struct publish *publish, uint32_t id); /* by the VMM; -EPROTO: it was not open */
void publish_forget(struct publish *publish); /* the VMM is gone, and with it all connections */
void publish_close(struct publish *publish); /* nobody comes any more; publish_where() still tells of it */

/* "127.0.0.1:8080->80/tcp, …"; "" without any. free() it. NULL: out of memory. */
char *publish_where(const struct publish *publish);

#define PUBLISH_HOLDER 96U /* bytes */

/*
 * Who has that port in this network namespace, as far as this process may see: "nginx (process 123)", "a process of
 * user 33", ""; `proc` is "/proc". Reads what other processes call themselves: harmless on a terminal.
 */
void publish_holder(const char *proc, const struct spec_publish *wanted, char ret_text[PUBLISH_HOLDER]);

#endif
