/*
 * File systems: what the agent mounts, where, and in which of the two mount namespaces.
 *
 * Purpose: the agent's own namespace (on the initramfs) holds /dev with what lies below it,
 *          /cgroup, /scratch (one tmpfs), /lower and the assembled root on /root. The workload's
 *          namespace is a copy of it in which mount_enter() moves /root over "/".
 * Trust:   the image decides nothing: targets inside it are single components, symlinks at them
 *          are not followed while anything of the agent's could be reached.
 * Returns: 0 or -errno with *f filled.
 */
#ifndef MVM_GUEST_MOUNT_H
#define MVM_GUEST_MOUNT_H

#include "failure.h"
#include "request.h"

#define MOUNT_RESOLV "/scratch/resolv.conf" /* if it is there, the workload sees it as /etc/resolv.conf */

/* What needs no word of the host: done while the control session connects. */
int mount_stage(struct failure *f);

/* The root of SETUP, on /root of the agent's namespace. */
int mount_root(const struct setup_request *setup, struct failure *f);

/* In the workload's namespace, as the first process of its pid namespace: makes /root the root and fills it. */
int mount_enter(bool rw, bool cgroup, struct failure *f);

/* Fills in the scratch's two numbers. */
void mount_scratch_use(struct proto_statted *wire);

/*
 * After the workload's namespace is gone: writes back what is left. `device` is the root's.
 * -EBUSY: the root was mounted read-write and something still holds it (synced, but not clean).
 */
int mount_settle(const char *device, bool rw);

#endif
