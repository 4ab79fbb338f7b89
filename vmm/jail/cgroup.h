/*
 * The VMM's own cgroup: memory, processes, CPU and I/O bounded from outside (cgroups(7); v2, or v1 where
 * the host's controllers are there).
 *
 * Purpose: found beside or above the supervisor's own, where its user may make one; limits written
 *          before the VMM is born into it; removed after its end.
 * Ownership: the folders and descriptors in struct cgroup, until cgroup_free().
 * Thread:  one.
 */
#ifndef JAIL_CGROUP_H
#define JAIL_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/io_max.h"
#include "mvm/mvm.h"

#define CGROUP_HIERARCHIES 4U /* v1: memory, pids, cpu, blkio */

struct cgroup_limits {
	uint64_t memory; /* bytes */
	uint64_t pids;
	uint64_t cpu_percent; /* of one CPU; 0: no limit */
	struct io_limits io;
};

struct cgroup {
	unsigned n; /* folders; 0: no cgroup */
	bool v2;
	int folders[CGROUP_HIERARCHIES]; /* v2: one, for CLONE_INTO_CGROUP */
	int procs[CGROUP_HIERARCHIES]; /* v1: cgroup.procs, where the child writes itself */
	char paths[CGROUP_HIERARCHIES][PATH_MAX];
};

void cgroup_init(struct cgroup *cgroup);

/* `root`: where cgroups are mounted, `self`: /proc/self/cgroup. -ENOTSUP: none can be made; err says why. */
int cgroup_make(const char *root, const char *self, const char *name, const struct cgroup_limits *limits,
		struct cgroup *ret_cgroup, struct mvm_error *err);

/* Bytes: now, at most so far, and the bound; 0 where there is no cgroup or its kernel does not say. */
void cgroup_memory(const struct cgroup *cgroup, uint64_t *ret_now, uint64_t *ret_peak, uint64_t *ret_max);

/* Takes the limits of I/O away again: what waits at a device for its turn keeps even a killed process until it is done. */
void cgroup_lift_io(const struct cgroup *cgroup, const struct io_limits *io);

/* How often the kernel's out-of-memory killer struck in it. */
unsigned cgroup_oom_kills(const struct cgroup *cgroup);

/* Removes a cgroup and closes it. False: it is still there, as a process is in it, and somebody has to reclaim it later. */
bool cgroup_free(struct cgroup *cgroup);

/* Removes what a crashed supervisor left at `path`, whose last part must begin with "mvm-". */
void cgroup_reclaim(const char *path);

#endif
