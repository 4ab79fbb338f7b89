/*
 * What the host offers: KVM, memory, mvm's own parts.
 *
 * Trust:   the host is trusted; its answers are reported as they are.
 * Thread:  any.
 * Returns: 0 or -errno; err says which of the possible causes it is and the command that fixes it.
 */
#ifndef LIB_HOST_H
#define LIB_HOST_H

#include <stdint.h>

#include "mvm/mvm.h"

/* Opens KVM at `path` (/dev/kvm) and checks that it is one. */
int host_open_kvm(const char *path, int *ret_fd, struct mvm_error *err);

/* -ENOMEM with both numbers when `bytes` are more than the host, or this process's cgroup, has. */
int host_check_memory(uint64_t bytes, struct mvm_error *err);
int host_check_cgroup_memory(const char *cgroup_root, const char *proc_cgroup, uint64_t bytes, struct mvm_error *err);

#endif
