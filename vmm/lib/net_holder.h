/*
 * mvm-net, as who starts it sees it: the process that holds a network namespace, and the messages to and from it
 * (uplink/uplink.h).
 *
 * Trust:   what it says is bounded by who reads it (net_user.h).
 * Ownership: the struct owns its descriptors, the process, and root's uid for it.
 * Thread:  one.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NET_HOLDER_H
#define LIB_NET_HOLDER_H

#include <sys/types.h>

#include "jail/ids.h"
#include "mvm/mvm.h"
#include "uplink/uplink.h"

struct cgroup;

struct net_holder {
	int fd, pidfd; /* -1: none */
	pid_t pid;
	struct jail_ids ids;
};

void net_holder_init(struct net_holder *holder);

/* Root's: a uid of its own, into the request. */
int net_holder_take_uid(struct net_holder *holder, uint32_t first, uint32_t count, struct uplink_request *request,
			struct mvm_error *err);

/* Starts it with the request; `group`: for spawn_part(). `fds`: those that go with it, NULL: none. `flag`: for errors, here and below. */
int net_holder_start(struct net_holder *holder, const char *flag, const struct cgroup *group,
		     const struct uplink_request *request, const int *fds, struct mvm_error *err);

/*
 * Waits until it is ready, or ready for one who joins; ret_tap: NULL where none comes with that. -EPIPE: it ended, without a
 * word.
 */
int net_holder_await(int fd, const char *flag, int *ret_tap, struct uplink_message *ret, struct mvm_error *err);

/* A message, with a descriptor where one came, without waiting: bytes, 0: the other side is gone, -errno. */
ssize_t net_holder_receive(int fd, struct uplink_message *message, int *ret_fd);

/* Ends the process; nothing of it is left when it returns. */
void net_holder_close(struct net_holder *holder);

#endif
