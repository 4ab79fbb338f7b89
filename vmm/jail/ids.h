/*
 * Root's VMs: a uid and gid each, shared by no two that live at the same time.
 *
 * Ownership: the lock file of a uid, in the uids folder, is held by the supervisor; its death frees the uid.
 */
#ifndef JAIL_IDS_H
#define JAIL_IDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mvm/mvm.h"

/* Beside systemd's own ranges (524288-1879048191) and below the highest 32-bit signed value. */
#define IDS_FIRST 1900000000U
#define IDS_COUNT 65536U

#define IDS_FOLDER "/run/mvm/uids"

struct jail_ids {
	uid_t uid;
	gid_t gid;
	int folder, lock; /* -1: none */
};

/* Whether we are real root, of the host's own user namespace: only then are all uids there, and capabilities over the host. */
bool ids_are_ours(void);

/* Takes a free uid of [first, first + count); `start` spreads the search. -EAGAIN: none is free. */
int ids_take(const char *folder, uint32_t first, uint32_t count, uint32_t start, struct jail_ids *ret_ids,
	     struct mvm_error *err);
/* Forgets the uids whose supervisors died. */
void ids_reclaim(const char *folder);

void ids_release(struct jail_ids *ids);

#endif
