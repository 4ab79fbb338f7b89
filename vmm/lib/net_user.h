/*
 * --net user, --net bridge=, --net NETWORK, --proxy: the supervisor's side of mvm-net, the process that holds the VM's network namespace
 * or a named network's (uplink/uplink.h).
 *
 * Purpose: starts it, gets the VM's tap from it (or gives connections to its proxy: net_proxy.h), hears what it refused,
 *          ends it; of a named network: joins and leaves (net_join.h).
 * Trust:   what it says is bounded here: it reads headers of refused packets, which are the guest's.
 * Ownership: the struct owns its descriptors, the process, and root's uid for it.
 * Thread:  one.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NET_USER_H
#define LIB_NET_USER_H

#include <sys/types.h>

#include "lib/net_flows.h"
#include "lib/net_holder.h"
#include "lib/net_host.h"
#include "lib/net_proxy.h"
#include "lib/spec.h"

#define NET_USER_PLACE_TEXT (DNS_NAME + 8U)
#define NET_USER_PLACES     16U /* that are kept of what was refused */
#define NET_USER_LINKS      (1U + VMM_NETS_MAX) /* to processes mvm-net: the VM's own, and one for each named network */

/* Where refused packets were to go. */
struct net_user_place {
	struct uplink_refused refused;
	uint64_t told; /* packets that we heard of; of many a second only some are told */
};

struct net_user_link {
	int fd; /* -1: none, or over */
	char network[UPLINK_ID]; /* "": the VM's own */
	uint64_t counters[UPLINK_REASONS];
	struct uplink_traffic traffic;
	bool counted; /* since it was asked to */
};

struct net_user {
	struct net_holder holder; /* the VM's own */
	struct net_user_link links[NET_USER_LINKS]; /* the VM's own is the first */
	bool asked; /* the VM has such a device, or a proxy */
	struct net_proxy proxy;
	uint64_t counters[UPLINK_REASONS]; /* of all links */
	struct uplink_traffic traffic; /* of all links */
	struct net_flows flows;
	struct net_user_place places[NET_USER_PLACES];
	unsigned nplaces;
};

void net_user_init(struct net_user *user);

struct cgroup;

struct net_user_who {
	const struct mvm_spec *spec;
	const char *id; /* the VM's */
	uint32_t uid_first, uid_count; /* of which root gives each process one */
	const struct cgroup *parts; /* for the VM's own, not for a named network's; NULL: where we are */
};

/*
 * Makes what the one end of mode SPEC_NET_USER or SPEC_NET_BRIDGE among `host` needs, or a proxy, and joins the networks of those of mode
 * SPEC_NET_NAMED; there is nothing of these: nothing.
 */
int net_user_open(struct net_user *user, struct net_host *host, const struct net_user_who *who, struct mvm_error *err);

enum net_user_news {
	NET_USER_NOTHING, /* none now */
	NET_USER_PLACE, /* *ret_place: refused for the first time, or for the 2nd, 4th, 8th … */
	NET_USER_COUNTED,
	NET_USER_FLOWS, /* in `flows` */
	NET_USER_TEXT, /* text */
	NET_USER_OVER, /* it has ended, text says why; the link's fd is -1 then */
};

/* One message of a link, without waiting. */
enum net_user_news net_user_read(struct net_user *user, unsigned link, const struct net_user_place **ret_place,
				 char text[UPLINK_TEXT]);

/* The answers come by net_user_read(). False: it is gone, or does not read. */
bool net_user_ask_count(struct net_user *user);
bool net_user_counted(const struct net_user *user); /* all that were asked have answered */
bool net_user_ask_flows(struct net_user *user); /* of the first link there is */

/* The last count, when the guest sends no more; waits a second for it at most. */
void net_user_count(struct net_user *user);

/* Ends the process; nothing of the namespace is left when it returns, but for the tap that the VMM may hold. */
void net_user_close(struct net_user *user);

/* "tcp 10.0.0.1:80", "icmp 10.0.0.1", "name example.org"; returns buf. */
const char *net_user_place_text(const struct uplink_refused *refused, char buf[NET_USER_PLACE_TEXT]);

/* What --egress and --allow-egress say, for a request; and what is the host's. `flag`: for errors. */
int net_user_rules(const struct mvm_spec *spec, struct uplink_rule rules[UPLINK_RULES], uint32_t *ret_nrules,
		   struct uplink_name names[UPLINK_NAMES], uint32_t *ret_nnames, struct mvm_error *err);
int net_user_uplink(const char *flag, bool dns, struct uplink_request *request, struct mvm_error *err);
int net_user_check_names(uint32_t flags, uint32_t nnames, struct mvm_error *err); /* flags: UPLINK_* of the way out */
int net_user_check_mtu(const char *flag, unsigned mtu, bool six, struct mvm_error *err);
int net_user_programs(const char *flag, bool pasta, struct uplink_request *request, struct mvm_error *err);
int net_user_links(const char *flag, struct uplink_request *request, struct mvm_error *err); /* what the host is on */

/* The absolute path of a program, of $PATH and then of where distributions have it. -ENOENT. */
int net_user_find(const char *program, char ret_path[UPLINK_PATH]);

#endif
