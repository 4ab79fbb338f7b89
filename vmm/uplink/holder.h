/*
 * mvm-net's own parts, shared by vmm/uplink/{main,space,watch,proxy}.c and nobody else.
 *
 * Purpose: main.c is the process's birth, space.c makes the network namespace, watch.c waits in it, proxy.c serves in it.
 * Ownership: the struct owns every descriptor in it, -1 where there is none.
 * Thread:  one.
 */
#ifndef UPLINK_HOLDER_H
#define UPLINK_HOLDER_H

#include <stdbool.h>
#include <sys/types.h>

#include "uplink/uplink.h"

struct holder {
	struct uplink_request request;
	long pid; /* our number below /proc */
	int host; /* rtnetlink of the host's namespace: its addresses */
	int route; /* rtnetlink of the VM's */
	int nft; /* nfnetlink: requests */
	int log; /* nfnetlink: packets that were refused */
	int tap;
	int pasta, pasta_says; /* its pidfd; what it writes to stderr */
	int pasta_go; /* a byte here lets it begin */
	int names; /* the resolver's socket; -1: no names are to be answered */
	uint64_t names_refused;
	struct names_said {
		long second; /* of the clock */
		unsigned times;
	} names_told, names_warned;
	int conns, proxied; /* of a proxy, as they came with the request */
	int proxy; /* its pidfd */
	unsigned asking; /* of which family the host's addresses are asked for: 4, 6; 0: not */
};

/* Tells the supervisor, and ends this process. `code`: errno. */
void holder_fail(int code, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
void holder_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void holder_send(const struct uplink_message *message, int fd); /* fd: goes with it; -1: none */

/* space.c: from the host's namespace into one of its own, complete; the tap in h->tap. Fails by holder_fail(). */
void space_make(struct holder *h);

/* The last line of what pasta said; "" where it said nothing. */
const char *space_pasta_says(struct holder *h, char *buf, size_t size);

/* names.c: a process that answers the guest's questions, where the request has names. */
void names_start(struct holder *h);
/* What it has to say; true: a counter changed. */
bool names_read(struct holder *h);

/* Between names.c and resolver.c: each message is answered by a byte, for the resolver to go on. */
struct resolved {
	char name[DNS_NAME];
	uint16_t type; /* DNS_A, DNS_AAAA; 0: the name was refused */
	struct dns_answer answer;
	uint64_t refused; /* names so far: not all of them are told */
};

/* resolver.c: its whole life. `four`, `six`: UDP sockets where the guest asks, -1: none; `holder`: a socket of packets. */
void resolver(const struct uplink_request *request, int four, int six, int holder) __attribute__((noreturn));
/* proxy.c: the process that serves the guest's connections; forked, it drops all that it may before it takes the first. */
void proxy_start(struct holder *h);

/* watch.c: the host's addresses into the rules' sets, all of them once. */
void watch_host(struct holder *h);
/* Until the supervisor goes, or pasta. */
void watch(struct holder *h) __attribute__((noreturn));

#endif
