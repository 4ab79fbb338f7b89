/*
 * What the workload lives in: a pid namespace, a mount namespace, a cgroup and its namespace.
 *
 * Purpose: a tiny init, forked from the agent, is pid 1 of the pid namespace: it assembles the
 *          mount namespace, drops every descriptor and then only exists, so that orphans have a
 *          parent (the kernel reaps them, SIGCHLD is ignored) and so that killing it kills
 *          everything. Commands are children of the agent, placed inside: their exit status
 *          reaches the agent from the kernel, and a workload that takes its pid 1 over gains
 *          nothing by it.
 * Trust:   nothing that runs inside is believed; the ready pipe is closed before anything does.
 * Ownership: the struct owns init's pidfd, the ready pipe and the cgroup.
 * Thread:  the agent's only one.
 * Returns: 0 or -errno with *f filled.
 */
#ifndef MVM_GUEST_CONTAINER_H
#define MVM_GUEST_CONTAINER_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "failure.h"
#include "request.h"
#include "watch.h"

struct container {
	struct watch watch; /* init's pidfd */
	pid_t init; /* 0: not started */
	int init_fd; /* pidfd, -1 once reaped */
	int ready_fd; /* read end of the pipe that init reports on, -1 once read */
	int cgroup_fd; /* O_PATH, -1: the kernel has no cgroup v2 */
	bool rw;
	bool dying;
	uint64_t oom_told; /* kills of the OOM killer that explained a session's end */
	struct rusage usage; /* of init and of the orphans it inherited; valid once reaped */
};

struct container_usage {
	uint64_t user_us, sys_us, peak_bytes;
};

void container_zero(struct container *c);
/* Makes the cgroup; a kernel without cgroup v2 is no error. */
int container_stage(struct container *c, struct failure *f);
/* At most so many processes and threads, init not counted; for good: the workload sees the group from inside. */
int container_limit(struct container *c, uint32_t pids_max, struct failure *f);
/* Forks init into the new namespaces; mount_root() was done before. Does not wait for it. */
int container_start(struct container *c, int epoll, bool rw, struct failure *f);
/* Waits until init has assembled the root and makes the agent's next children its citizens. */
int container_ready(struct container *c, struct failure *f);
/* Kills all that runs inside. The end is reported by the watch: container_gone() becomes true. */
void container_kill(struct container *c);
bool container_gone(const struct container *c);
/* Adds init's times to what rusage() said of the command, or takes the cgroup's instead; call after the end. */
void container_account(const struct container *c, struct container_usage *usage);
/* The number behind `key` in a file of the cgroup ("": behind nothing); 0 where there is none. */
uint64_t container_number(const struct container *c, const char *file, const char *key);
/* Whether the OOM killer struck inside since its count was `before`, and nobody was told of it; now somebody is. */
bool container_take_oom(struct container *c, uint64_t before);
/*
 * A cgroup for further commands below the container's own, for when the workload has divided that one: the kernel
 * then lets no process into it any more. A descriptor that the caller owns, or -errno.
 */
int container_leaf(const struct container *c);

#endif
