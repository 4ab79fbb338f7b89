/*
 * The proxy's connections (--proxy): of each one end is the guest's, a stream socket that came as a descriptor, and the other
 * a TCP socket to where its first bytes ask for (proxy_request.h).
 *
 * Purpose: everything between a new descriptor and its end, driven by poll(2). Which addresses may be reached is not decided
 *          here: the network namespace's rules do (rules.h), and what they refuse is told to the client.
 * Trust:   guest and servers are hostile; of what they say the request and the name server's answers are looked at.
 * Bounds:  UPLINK_CONNS connections, of each two descriptors and PROXY_BUFFER bytes a direction, which are the kernel's again
 *          when it ends. Time-outs until it is connected; one that stands still costs no other anything.
 * Ownership: the struct owns the descriptors it is given and makes; memory is the caller's.
 * Thread:  one.
 */
#ifndef UPLINK_PROXY_CONN_H
#define UPLINK_PROXY_CONN_H

#include <poll.h>

#include "uplink/proxy_request.h"
#include "uplink/uplink.h"

#define PROXY_BUFFER (64U << 10) /* bytes; a vsock packet's most */
#define PROXY_ARENA  (2UL * UPLINK_CONNS * PROXY_BUFFER) /* bytes */
#define PROXY_TRIES  8U /* addresses of a name */
#define PROXY_FDS    (2UL * UPLINK_CONNS)

struct proxy_half {
	uint8_t *bytes; /* read, and not taken by the reader yet: from begin to end */
	size_t begin, end;
	uint64_t
		left; /* bytes that are still to be taken of the writer; what is behind them is dropped. UINT64_MAX: all */
	bool eof; /* the writer has said its last */
	bool over; /* and the reader was told, or is gone */
};

enum proxy_state {
	PROXY_STATE_FREE,
	PROXY_STATE_HEAD, /* its request comes */
	PROXY_STATE_NAME, /* the name server is asked; `server` is the socket to it */
	PROXY_STATE_CONNECT,
	PROXY_STATE_PUMP,
	PROXY_STATE_LAST, /* an answer is all that it gets */
};

struct proxy_address {
	uint8_t family; /* 4 or 6; 0: none */
	uint8_t bytes[16];
};

struct proxy;

struct proxy_conn {
	struct proxy *proxy;
	enum proxy_state state;
	int client, server; /* -1: none */
	uint64_t deadline_ns, step_ns; /* of the state, of a part of it */
	struct proxy_request request;
	bool greeted; /* of SOCKS */
	bool client_gone; /* nothing sent to it arrives any more */
	bool waiting[2]; /* for the answer to A, AAAA */
	unsigned wrong; /* answers that are none */
	bool answered; /* by a server that knows */
	bool unnamed; /* the resolver answers for other names alone */
	uint16_t ids[2];
	unsigned naddresses, at;
	struct proxy_address addresses[PROXY_TRIES];
	enum proxy_result result; /* of the addresses so far; OPENED: none was tried */
	struct proxy_address refused; /* by the rules, where that is the result */
	struct proxy_half up, down; /* to the server, to the client */
};

struct proxy {
	uint32_t flags; /* of the request (uplink.h) */
	struct uplink_proxied *counted;
	struct proxy_address name_server; /* family 0: no names are resolved */
	uint16_t name_port;
	unsigned nconns;
	uint8_t made[PROXY_REWRITE];
	struct proxy_conn conns[UPLINK_CONNS];
};

/* `arena`: PROXY_ARENA bytes of mmap(2)'s. */
void proxy_init(struct proxy *p, uint32_t flags, struct uplink_proxied *counted, uint8_t *arena);

/* A client; there must be room, nconns tells. */
void proxy_take(struct proxy *p, int fd, uint64_t now_ns);

void proxy_prepare(const struct proxy *p, struct pollfd fds[PROXY_FDS]);
void proxy_run(struct proxy *p, const struct pollfd fds[PROXY_FDS], uint64_t now_ns);
uint64_t proxy_deadline(const struct proxy *p); /* when to call it though nothing happens; UINT64_MAX: never */

/* ---- between proxy_conn.c and proxy_connect.c ---- */

#define PROXY_NS_PER_S 1000000000ULL

void proxy_drop(int *fd);
void proxy_end(struct proxy_conn *c);
void proxy_refuse(struct proxy_conn *c, enum proxy_result result, uint64_t now_ns); /* its client is told */
void proxy_opened(struct proxy_conn *c, uint64_t now); /* `server` is connected */

/* The request is there: asks for its name, then connects; ends in proxy_refuse() or proxy_opened(). */
void proxy_connect(struct proxy_conn *c, uint64_t now_ns);
void proxy_connect_ready(struct proxy_conn *c, short events, uint64_t now_ns);
void proxy_connect_late(struct proxy_conn *c, uint64_t now_ns); /* the state's deadline */
void proxy_connect_step(struct proxy_conn *c, uint64_t now_ns);

void proxy_address_text(const struct proxy_address *address, uint16_t port, char text[PROXY_WHERE]);

#endif
