/*
 * --net user, --proxy: the supervisor's side of mvm-net, the process that holds the VM's network namespace (uplink/uplink.h).
 *
 * Purpose: starts it, gets the VM's tap from it (or gives connections to its proxy: net_proxy.h), hears what it refused, ends it.
 * Trust:   what it says is bounded here: it reads headers of refused packets, which are the guest's.
 * Ownership: the struct owns its descriptors, the process, and root's uid for it.
 * Thread:  one.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NET_USER_H
#define LIB_NET_USER_H

#include <sys/types.h>

#include "jail/ids.h"
#include "lib/net_host.h"
#include "lib/net_proxy.h"
#include "lib/spec.h"
#include "uplink/uplink.h"

#define NET_USER_PLACE_TEXT (DNS_NAME + 8U)
#define NET_USER_PLACES     16U /* that are kept of what was refused */

/* Where refused packets were to go. */
struct net_user_place {
	struct uplink_refused refused;
	uint64_t told; /* packets that we heard of; of many a second only some are told */
};

struct net_user {
	int fd, pidfd; /* -1: none */
	pid_t pid;
	struct jail_ids ids;
	bool asked; /* the VM has such a device, or a proxy */
	const char *flag; /* that asked for it, for errors */
	struct net_proxy proxy;
	uint64_t counters[UPLINK_REASONS];
	struct net_user_place places[NET_USER_PLACES];
	unsigned nplaces;
};

void net_user_init(struct net_user *user);

/*
 * Makes what the one end of mode SPEC_NET_USER among `host` needs, or a proxy; there is neither: nothing. `uid_first`, `uid_count`: of
 * which root gives it one.
 */
int net_user_open(struct net_user *user, struct net_host *host, const struct mvm_spec *spec, uint32_t uid_first,
		  uint32_t uid_count, struct mvm_error *err);

enum net_user_news {
	NET_USER_NOTHING, /* none now */
	NET_USER_PLACE, /* *ret_place: refused for the first time, or for the 2nd, 4th, 8th … */
	NET_USER_COUNTED,
	NET_USER_TEXT, /* text */
	NET_USER_OVER, /* it has ended, text says why; fd is -1 then */
};

/* One message, without waiting. */
enum net_user_news net_user_read(struct net_user *user, const struct net_user_place **ret_place,
				 char text[UPLINK_TEXT]);

/* The last count, when the guest sends no more; waits a second for it at most. */
void net_user_count(struct net_user *user);

/* Ends the process; nothing of the namespace is left when it returns, but for the tap that the VMM may hold. */
void net_user_close(struct net_user *user);

/* "tcp 10.0.0.1:80", "icmp 10.0.0.1", "name example.org"; returns buf. */
const char *net_user_place_text(const struct uplink_refused *refused, char buf[NET_USER_PLACE_TEXT]);

/* The absolute path of a program, of $PATH and then of where distributions have it. -ENOENT. */
int net_user_find(const char *program, char ret_path[UPLINK_PATH]);

#endif
