/*
 * The jail: what stands around a VMM, made and entered before its first instruction.
 *
 * Purpose: the ordered steps of enter.c, prepared by the supervisor, walked by the child between fork
 *          and exec. There is no way to start a VMM but jail_spawn().
 * Trust:   its caller is the supervisor; what is jailed may be anybody's.
 * Ownership: struct jail owns its descriptors, the cgroup and the uid, until jail_free().
 * Thread:  one (the supervisor's).
 * Returns: 0 or -errno with err: the layer, the reason, the remedy.
 */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/cgroup.h"
#include "jail/ids.h"
#include "jail/layers.h"
#include "jail/seccomp.h"
#include "lib/vm_files.h"
#include "mvm/mvm.h"

struct jail_options {
	const struct vmm_config *config;
	const char *id; /* of the VM */
	unsigned may_lack; /* enum jail_layer */
	uint32_t uid_first, uid_count; /* root: where the VM's uid comes from */
	uint64_t cpu_percent; /* of one CPU; 0: no limit */
	struct io_limits io;
	struct cgroup_list list; /* the cgroups that were made */
	uint64_t file_size_max; /* bytes; the largest file written to may become so large */
};

struct jail {
	struct jail_options options;
	bool by_root; /* a uid of the VM's own; otherwise the caller's, in a user namespace */
	unsigned missing; /* enum jail_layer: what this host lacks, as allowed */
	unsigned threads;
	struct jail_ids ids;
	struct cgroup cgroup;
	int papers; /* memfd; -1 */
	struct jail_filters_shown filters;
	uint64_t address_space, open_files; /* limits, bytes and descriptors */
};

/*
 * A cgroup for the processes that serve the VM's network (mvm-net, pasta, mvm-udp), beside the VMM's: 256 MiB, 64 processes, and as
 * much CPU time again as the VM may have. Where none can be made there is none in *ret_cgroup.
 */
void jail_parts(const char *id, uint64_t cpu_percent, const struct cgroup_list *list, struct cgroup *ret_cgroup);

void jail_init(struct jail *jail);
int jail_prepare(const struct jail_options *options, struct jail *ret_jail, struct mvm_error *err);

/* Starts the VMM `exe` (an O_PATH descriptor) in the jail with exactly the descriptors of `handover`. */
int jail_spawn(struct jail *jail, struct handover *handover, int exe, pid_t *ret_pid, int *ret_pidfd,
	       struct mvm_error *err);

/* After the VMM's end was waited for. */
void jail_free(struct jail *jail);

#endif
