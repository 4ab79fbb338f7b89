/*
 * The allow-list of host ports that a VM may dial.
 *
 * Purpose: decides every CONTROL_DIAL, outside of the process that a guest might take over. A grant
 *          is a descriptor made before, good for one connection; a channel (--allow-port) leads to
 *          addresses known since the VM started, and is connected anew for each dial, without blocking; or to what
 *          makes a socket for each (--proxy).
 * Trust:   control messages are hostile; control_from_vmm() is their only reader. Nothing that a
 *          guest asks costs more than BROKER_PENDING_MAX descriptors or BROKER_CONNECT_NS each.
 * Ownership: a granted descriptor belongs to the broker until a dial takes it; an answer's
 *          descriptor belongs to who asked.
 * Thread:  the supervisor's.
 */
#ifndef LIB_BROKER_H
#define LIB_BROKER_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "mvm/control.h"
#include "mvm/proto.h"

#define BROKER_GRANTS_MAX  (4 + 3 * PROTO_SESSIONS_MAX) /* the session's, and three streams of each command */
#define BROKER_PENDING_MAX CONTROL_DIALS_MAX
#define BROKER_ADDRS_MAX   8U /* of one channel */
#define BROKER_REFUSED_MAX 16U /* ports outside the list that are remembered by number */
#define BROKER_CONNECT_NS  10000000000ULL /* for all addresses of a channel together */

struct broker_channel {
	uint32_t port;
	unsigned naddrs;
	const char *target; /* borrowed, for logs */
	struct sockaddr_storage *addrs;
	int (*open)(void *arg); /* NULL: the addresses are connected to */
	void *arg;
	uint64_t opened, failed;
};

struct broker {
	unsigned ngrants;
	struct {
		uint32_t port;
		int fd;
	} grants[BROKER_GRANTS_MAX];

	unsigned nchannels;
	struct broker_channel *channels;

	unsigned npending;
	struct broker_pending {
		uint32_t id;
		unsigned channel, addr;
		int fd;
		bool again; /* a Unix socket whose queue was full: there is nothing to wait for but time */
		uint64_t end_ns, deadline_ns; /* of the dial, and of this address or the next try */
	} pending[BROKER_PENDING_MAX];

	uint64_t refused; /* dials to ports that are not on the list */
	unsigned nrefused;
	struct {
		uint32_t port;
		uint64_t times;
	} refused_ports[BROKER_REFUSED_MAX];
};

struct broker_answer {
	uint32_t id, port;
	int fd; /* connected, non-blocking, CLOEXEC; -1: refused */
	int error; /* errno of a refusal */
	const struct broker_channel *channel; /* that it was about; NULL: a grant, or no such port */
	bool tell; /* of this refusal: the first of its port, and of a channel the second, fourth, eighth … */
};

/* Takes fd over, always. -EEXIST, -ENOSPC. */
int broker_grant(struct broker *broker, uint32_t port, int fd);

/*
 * Adds a channel whose connections open() makes, at once: a connected, non-blocking socket that is the answer's, or -errno.
 * -EEXIST, -ENOMEM.
 */
int broker_offer(struct broker *broker, uint32_t port, const char *target, int (*open)(void *arg), void *arg);

/* Takes a grant back that no dial has taken. */
void broker_revoke(struct broker *broker, uint32_t port);

/* Adds a channel; the addresses are copied, `target` is borrowed. -EEXIST, -ENOMEM, -EINVAL. */
int broker_allow(struct broker *broker, uint32_t port, const char *target, const struct sockaddr_storage *addrs,
		 unsigned naddrs);

/* The guest dials. True: answered at once. False: broker_next() will. */
bool broker_dial(struct broker *broker, uint32_t id, uint32_t port, uint64_t now_ns, struct broker_answer *ret);

/* The next dial that came to its end meanwhile. False: none. */
bool broker_next(struct broker *broker, uint64_t now_ns, struct broker_answer *ret);

/* Entries for poll(); all BROKER_PENDING_MAX are filled. Something is there, or the deadline passed: broker_next(). */
void broker_prepare(const struct broker *broker, struct pollfd fds[BROKER_PENDING_MAX]);
uint64_t broker_deadline(const struct broker *broker); /* UINT64_MAX: none */

void broker_cancel(struct broker *broker); /* who dialled is gone: pending connects are closed */
void broker_close(struct broker *broker); /* everything; counts stay readable until broker_free() */
void broker_free(struct broker *broker);

/* Checks a datagram from the VMM: its size, and that it is of a kind that a VMM sends. 0, -EPROTO. */
int control_from_vmm(const void *datagram, size_t len, struct control_msg *ret_msg);

#endif
