/*
 * The profile that AppArmor puts around a VMM (tools/apparmor/mvm-vmm): whether it is there to be entered.
 *
 * Purpose: asked in the supervisor before there is a VMM, so that a host without it is refused in words; the child
 *          asks for the transition itself (enter.c), and that one is what counts.
 * Trust:   the kernel's word; nothing else is read.
 * Thread:  any; the process is left as it was.
 */
#ifndef JAIL_LSM_H
#define JAIL_LSM_H

#include <stdbool.h>

#define LSM_PROFILE "mvm-vmm"
#define LSM_LOAD    "sudo apparmor_parser -r /etc/apparmor.d/" LSM_PROFILE
#define LSM_ENFORCE "sudo aa-enforce " LSM_PROFILE

/*
 * 0: a process of ours can enter the profile, and it is enforced. -EOPNOTSUPP: no AppArmor, or it is off. -ENOENT: the
 * profile is not loaded. -EUCLEAN: it is in complain mode. Other -errno, -EACCES first: what confines us forbids it.
 */
int lsm_profile(void);

/*
 * Whether a label as the kernel tells it, "one//&another (mode)", has the profile in it, and enforced. A stack of several
 * comes of a caller who is confined, or of kernel.apparmor_restrict_unprivileged_unconfined.
 */
bool lsm_holds(const char *label);

#endif
