/*
 * Files into the container and out of it (`mvm cp`), as tar streams.
 *
 * Purpose: a child of the agent's in the container's mount namespace, whose root is its root: every path, and every
 *          link in one, ends inside. It is in no other of the container's namespaces and in no cgroup of its, so that
 *          what runs there has no sight of it and cannot hold it; and it has no descriptor but its three streams.
 * Trust:   tree and stream are hostile; see pack.h and unpack.h.
 * Returns: 0 or -errno with *f filled.
 */
#ifndef MVM_GUEST_COPY_H
#define MVM_GUEST_COPY_H

#include "exec.h"

/* As exec_launch(). The child ends by itself when its stream does; the container's end does not end it. */
int copy_launch(const struct exec_launch *launch, pid_t *ret_pid, int *ret_pidfd, struct failure *f);

#endif
