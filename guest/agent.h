/*
 * The control session and the event loop.
 *
 * Purpose: reads the host's messages, does what they say in the order that proto.h gives, and ends
 *          with BYE (or ERROR). One thread, one epoll instance, no timer while a workload runs.
 * Trust:   every byte from the host is checked by proto.c and request.c; out of order means ERROR.
 * Ownership: struct agent owns the control socket, the container and the sessions; it lives on
 *          main's stack and is never freed: after it comes the power-off. Sessions beside the boot
 *          session are on the heap for as long as they are open.
 * Returns: see each.
 */
#ifndef MVM_GUEST_AGENT_H
#define MVM_GUEST_AGENT_H

#include "container.h"
#include "forward.h"
#include "session.h"

#define AGENT_INPUT_FIRST 16384U /* bytes of input that need no allocation */

struct agent {
	struct watch control_watch;
	int epoll;
	int control; /* -1: the host is gone */
	uint64_t boot_ns;
	bool connected; /* the host has accepted */
	bool greeted; /* the host's has come */
	bool rooted; /* SETUP is done */
	bool ending; /* the container is being or has been taken down */
	bool over; /* BYE or ERROR is sent: run() returns */
	bool rw;
	char device[REQUEST_NAME_MAX + 1];
	char hostname[REQUEST_HOSTNAME_MAX + 1];
	struct container container;
	struct forward forward;
	struct session boot;
	struct session *more[PROTO_SESSIONS_MAX]; /* NULL: free */
	unsigned nmore;
	uint64_t cut_ns; /* when what nobody reads of `more` and `forward` is given up; 0: the container is there */
	int proc; /* procfs_open(), -1: nobody has asked */
	struct proto_out out;
	size_t out_sent;
	uint8_t *in; /* first[], or a larger one from the heap */
	size_t in_len, in_cap;
	uint8_t first[AGENT_INPUT_FIRST];
};

/* Starts to dial the host. 0 or -errno with *f filled. */
int agent_init(struct agent *a, uint64_t boot_ns, struct failure *f);
/* Serves the host to the end. On return everything that was to be said has been queued. */
void agent_run(struct agent *a);
/* Tells the host that the agent cannot go on; the console too while there is no session. */
void agent_fail(struct agent *a, const char *text);
/* Sends what is queued and waits, a few seconds at most, for the host to end the VM. */
void agent_linger(struct agent *a);

#endif
