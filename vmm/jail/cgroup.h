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

/* Where the path of each folder is written before it is made, a line at the end of it: for whoever removes what a kill left. */
struct cgroup_list {
	int dir_fd;
	const char *name; /* NULL: nowhere */
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
		const struct cgroup_list *list, struct cgroup *ret_cgroup, struct mvm_error *err);

/* Bytes: now, at most so far, and the bound; 0 where there is no cgroup or its kernel does not say. */
void cgroup_memory(const struct cgroup *cgroup, uint64_t *ret_now, uint64_t *ret_peak, uint64_t *ret_max);

/* The limits of I/O, in cgroup_io.c: 0 or -errno. */
int cgroup_limit_io(const struct cgroup *cgroup, const struct io_limits *io);

/*
 * Other ones for its devices: of each key MVM_KEEP, 0 for no limit, or what it may do a second. -ENOTSUP: no cgroup;
 * -ENOENT: no such controller for it; at any failure some may be changed and others not.
 */
int cgroup_change_io(const struct cgroup *cgroup, const struct io_limits *io, const uint64_t most[IO_MAX_KEYS]);

/* Takes the limits of I/O away again: what waits at a device for its turn keeps even a killed process until it is done. */
void cgroup_lift_io(const struct cgroup *cgroup, const struct io_limits *io);

/* Writes a file of a group's folder. */
int cgroup_put(int folder, const char *file, const char *value);

/* How often the kernel's out-of-memory killer struck in it. */
unsigned cgroup_oom_kills(const struct cgroup *cgroup);

/* Puts a child of ours into it, before it does anything. Nothing, where there is none. 0 or -errno. */
int cgroup_join(const struct cgroup *cgroup, pid_t pid);

/* Removes a cgroup and closes it. */
void cgroup_free(struct cgroup *cgroup);

/*
 * Removes what a supervisor left at `path`, whose last part must begin with "mvm-" (another is not looked at). False: it is
 * still there.
 */
bool cgroup_reclaim(const char *path);

#endif
