/*
 * The state folder of a run: <parent>/<id> with `lock`, `state.json`, `spec.json` and `jail.json` (inspect.h), and the
 * socket `control` (attach.h).
 *
 * Purpose: a run is found by its folder and proved alive by the lock that its supervisor holds;
 *          never by a bare pid.
 * Trust:   the parent may have been prepared by another user (it can lie in /tmp): it must be a
 *          real directory, ours, and closed to others, or nothing is put there.
 * Ownership: state_dir_close() gives up the lock; state_dir_remove() deletes the folder first.
 * Thread:  one at a time per object. Creation and reclaiming of several processes exclude each
 *          other by a flock of the parent.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_STATE_DIR_H
#define LIB_STATE_DIR_H

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

#include "mvm/mvm.h"

#define STATE_CGROUPS "cgroups" /* file: the cgroups to remove with the folder, a path a line */

struct state_dir {
	int parent_fd, fd, lock_fd; /* -1: none */
	char id[MVM_ID_LEN + 1];
};

#define STATE_DIR_NONE ((struct state_dir){ .parent_fd = -1, .fd = -1, .lock_fd = -1 })

/* /run/mvm for root; $XDG_RUNTIME_DIR/mvm; /tmp/mvm-<uid> where that is not set. */
int state_dir_parent(char ret_path[PATH_MAX], struct mvm_error *err);

/* Makes parent (one level) and folder, takes the lock, chooses the id. */
int state_dir_create(const char *parent, struct state_dir *ret_dir, struct mvm_error *err);

/* Writes `name` in the folder whole: a reader sees the old text or the new. */
int state_dir_write(const struct state_dir *dir, const char *name, const char *text, struct mvm_error *err);

/*
 * Deletes the folders under the parent whose lock nobody holds: what crashed runs left. Returns
 * their number, 0 also when another process is at it. At most 4096 entries are looked at.
 */
int state_dir_reclaim(const struct state_dir *dir);

/*
 * The living run whose id is, or begins uniquely with, `prefix`: its id and its folder (the caller's to
 * close). -ESRCH, -ENOTUNIQ; the error names what there is.
 */
int state_dir_find(const char *parent, const char *prefix, char ret_id[MVM_ID_LEN + 1], int *ret_fd,
		   struct mvm_error *err);

/*
 * The same for root, who may look at everybody's: in /run/mvm, then in every user's folder; *ret_owner: whose it is,
 * who may have written anything there. For others as state_dir_find() in their own.
 */
int state_dir_find_any(const char *prefix, char ret_id[MVM_ID_LEN + 1], char ret_parent[PATH_MAX], int *ret_fd,
		       uid_t *ret_owner, struct mvm_error *err);

void state_dir_remove(struct state_dir *dir);
void state_dir_close(struct state_dir *dir);

#endif
