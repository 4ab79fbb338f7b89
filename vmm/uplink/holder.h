/*
 * mvm-net's own parts, shared by its files and nobody else.
 *
 * Purpose: main.c is the process's birth, space.c makes the network namespace, bridge.c its way to a bridge; watch.c waits in one VM's, steward.c in a
 *          named network's; names.c and proxy.c have processes that serve in it.
 * Ownership: the struct owns every descriptor in it, -1 where there is none.
 * Thread:  one.
 */
#ifndef UPLINK_HOLDER_H
#define UPLINK_HOLDER_H

#include <stdbool.h>
#include <sys/types.h>

#include "mvm/mvm.h"
#include "uplink/questions.h"
#include "uplink/rules.h"
#include "uplink/uplink.h"

struct holder {
	struct uplink_request request;
	struct rules_limits limits; /* of a network */
	long pid; /* our number below /proc */
	int host; /* rtnetlink of the host's namespace: its addresses */
	int route; /* rtnetlink of the VM's */
	int nft; /* nfnetlink: requests */
	int log; /* nfnetlink: packets that were refused */
	int tap;
	int pasta, pasta_says; /* its pidfd; what it writes to stderr */
	int pasta_go; /* a byte here lets it begin */
	int names; /* the resolver's socket; -1: no names are to be answered */
	struct names_said {
		uint64_t refused;
		struct names_rate {
			long second; /* of the clock */
			unsigned times;
		} told, warned;
	} names_said;
	int fds[UPLINK_FDS]; /* as they came with the request; -1: none */
	int raw[2]; /* of a network: IP packets as we write them, by IPv4 and IPv6: resets of what a member had */
	int refusals; /* of a network: what watcher.c says */
	int proxy; /* its pidfd */
	unsigned asking; /* of which family the host's addresses are asked for: 4, 6; 0: not */
};

/* Tells the supervisor, and ends this process. `code`: errno. */
void holder_fail(int code, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* `to`: a supervisor. Here and below. */
void holder_warn(int to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void holder_send(int to, const struct uplink_message *message, int fd); /* fd: goes with it; -1: none */

/* space.c: from the host's namespace into one of its own, complete; of a VM the tap in h->tap. Fails by holder_fail(). */
void space_make(struct holder *h);

/* Of /proc/sys/net/. False, with errno. */
bool space_set(const char *name, const char *value);
/* bridge.c: has the supervisor make UPLINK_OUT a port of the bridge, and the guest be there by its own addresses. */
void bridge_attach(struct holder *h);

/* What guests know the namespace by; "" without that family. */
struct space_gateway {
	char four[16], six[46];
};

void space_gateway(const struct uplink_request *request, struct space_gateway *ret);

/* A tap, up, with the gateway's addresses. 0 or -errno with err. */
int space_tap(const struct holder *h, const char *name, unsigned mtu, int *ret_tap, int *ret_index,
	      struct mvm_error *err);
/* Has nft do what the text says, whole or not at all. 0 or -errno with err. */
int space_nft(const struct holder *h, const char *text, struct mvm_error *err);

/* The last line of what pasta said; "" where it said nothing. */
const char *space_pasta_says(struct holder *h, char *buf, size_t size);

/* names.c: a process that answers the guest's questions, where the request has names. */
void names_start(struct holder *h);

/* Whose names are meant: their sets, and where the supervisor is. */
struct names_of {
	char of[8]; /* as in rules.h */
	const struct uplink_name *names;
	uint32_t nnames;
	struct names_said *said;
	int fd;
};

/* What it has to say. `find`: of a network, who that is; NULL: the VM. 0, or -errno: it is gone. */
int names_read(struct holder *h, bool (*find)(void *arg, unsigned slot, struct names_of *ret), void *arg);

/* To the resolver of a network. 0 or -errno: it does not listen any more. */
int names_tell(struct holder *h, const struct names_member *member);

/*
 * resolver.c: its whole life. `servers`: questions with the server in three minutes, of a network. `four`, `six`: UDP sockets
 * where the guest asks, -1: none; `holder`: a socket of packets.
 */
void resolver(const struct uplink_request *request, unsigned servers, int four, int six, int holder)
	__attribute__((noreturn));
/* proxy.c: the process that serves the guest's connections; forked, it drops all that it may before it takes the first. */
void proxy_start(struct holder *h);

/* watch.c: the host's addresses into the rules' sets, all of them once; then what has come. */
void watch_host(struct holder *h);
void watch_host_news(struct holder *h);
/* The connections, of a member, or NULL: all, busiest first, as answer to one request; what the supervisor does not take is lost to it. */
void watch_tell_flows(const struct holder *h, int to, const struct uplink_member *of);
/* Until the supervisor goes, or pasta. */
void watch(struct holder *h) __attribute__((noreturn));

/* watcher.c: the process that reads a network's refused packets; of each a struct uplink_refused comes at h->refusals. */
void watcher_start(struct holder *h);

/* steward.c: a named network's members come and go, until the last has gone, or pasta. */
void steward(struct holder *h) __attribute__((noreturn));

#endif
