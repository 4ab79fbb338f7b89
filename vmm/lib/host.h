/*
 * What the host offers: KVM, memory, mvm's own parts.
 *
 * Trust:   the host is trusted; its answers are reported as they are.
 * Thread:  any.
 * Returns: 0 or -errno; err says which of the possible causes it is and the command that fixes it.
 */
#ifndef LIB_HOST_H
#define LIB_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "mvm/mvm.h"

#define HOST_KVM_API 12 /* api.rst §4.1: the only stable one, since Linux 2.6.22 */

/* What lets a user in: membership where a group has the device, and that too where none has. */
#define HOST_KVM_JOIN "sudo usermod -aG kvm $USER, then log in again"
#define HOST_KVM_OPEN "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm && " HOST_KVM_JOIN

struct host_advice {
	const char *found, *remedy; /* static */
};

/* Why there is no KVM device, by what the CPU offers and whether it is virtual itself. Pure. */
void host_kvm_missing(bool can_virtualize, bool is_virtual, struct host_advice *ret_advice);

/* Whether the device's mode lets a group in that is not root's. Pure. */
bool host_kvm_group_may(const struct stat *st);

/* Opens KVM at `path` (/dev/kvm) and checks that it is one. */
int host_open_kvm(const char *path, int *ret_fd, struct mvm_error *err);

/* -ENOMEM with both numbers when `bytes` are more than the host, or this process's cgroup, has. */
int host_check_memory(uint64_t bytes, struct mvm_error *err);
int host_check_cgroup_memory(const char *cgroup_root, const char *proc_cgroup, uint64_t bytes, struct mvm_error *err);

#endif
