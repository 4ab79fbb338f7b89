/*
 * Published UDP ports: the supervisor's side of mvm-udp, the process that serves them (udp/udp.h).
 *
 * Purpose: starts it with the ports' sockets, hears which client wants a connection to the guest, hands its end of
 *          one over, ends it.
 * Trust:   it reads anybody's datagrams and the guest's stream, and may be theirs: what it says is checked, no
 *          descriptor is taken from it, its numbers are copied.
 * Bounds:  it asks for connections alone; how many there may be is publish.h's affair.
 * Ownership: the struct owns its descriptors, the process, its mapping, and root's uid for it. The ports' sockets
 *            stay publish.h's.
 * Thread:  the supervisor's.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_PUBLISH_UDP_H
#define LIB_PUBLISH_UDP_H

#include "jail/cgroup.h"
#include "jail/ids.h"
#include "lib/publish.h"
#include "udp/udp.h"

struct publish_udp {
	int fd, pidfd; /* -1: none */
	pid_t pid;
	struct jail_ids ids;
	const struct udp_counted *counted; /* NULL: none */
	unsigned nports;
	uint8_t places[SPEC_PUBLISH_MAX]; /* of its ports among the publish's */
};

void publish_udp_init(struct publish_udp *udp);

/* No UDP port among them: nothing. `parts`: the cgroup for it, NULL: none. `uid_first`, `uid_count`: of which root
 * gives it one. */
int publish_udp_open(struct publish_udp *udp, const struct publish *publish, const struct cgroup *parts,
		     uint32_t uid_first, uint32_t uid_count, struct mvm_error *err);

/*
 * What it asks for. 1 with the port's place among the publish's and the client's number; 0: nothing now; -errno: it
 * is gone, or broke its protocol; fd is -1 then.
 */
int publish_udp_asked(struct publish_udp *udp, unsigned *ret_index, uint32_t *ret_flow);

/* Its answer: a connection, that stays the caller's to close, or -1. One that it does not take is lost by that. */
void publish_udp_answer(const struct publish_udp *udp, uint32_t flow, int fd);

/* The two ends of a client's connection: non-blocking stream sockets. 0 or -errno. */
int publish_udp_pair(int ret_pair[2]);

void publish_udp_close(struct publish_udp *udp);
void publish_udp_counted(const struct publish_udp *udp, struct udp_counted *ret); /* zeroes without one */

#endif
