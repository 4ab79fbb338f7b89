/*
 * The state folder of a run: <parent>/<id> with `lock`, `state.json` (record.h), `spec.json` and `jail.json` (inspect.h),
 * the socket `control` (attach.h), a detached one's `log` (output_log.h), and of a VM with a name the link `name`, whose
 * target is the name. Beside the folders the journal of events (event.h).
 *
 * Purpose: a run is found by its folder and proved alive by the lock that its supervisor holds;
 *          never by a bare pid. A VM with a name keeps its folder when it has ended.
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
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "mvm/mvm.h"

#define STATE_NAME_MAX    63 /* characters; SPEC_NAME_MAX */
#define STATE_ENTRIES_MAX 8192
#define STATE_CGROUPS     "cgroups" /* file: the cgroups to remove with the folder, a path a line */

struct state_dir {
	int parent_fd, fd, lock_fd; /* -1: none */
	char id[MVM_ID_LEN + 1];
};

#define STATE_DIR_NONE ((struct state_dir){ .parent_fd = -1, .fd = -1, .lock_fd = -1 })

/* /run/mvm for root; $XDG_RUNTIME_DIR/mvm; /tmp/mvm-<uid> where that is not set. */
int state_dir_parent(char ret_path[PATH_MAX], struct mvm_error *err);

/* Opens the parent, made (one level) when missing; refused where it is not ours alone. */
int state_dir_open_parent(const char *parent, int *ret_fd, struct mvm_error *err);

/* Makes parent (one level) and folder, takes the lock, chooses the id. With a name (or NULL): -EEXIST when it is taken. */
int state_dir_create(const char *parent, const char *name, struct state_dir *ret_dir, struct mvm_error *err);

/* Takes the folder of a VM that has ended. -EBUSY: it has not, or somebody else was first. */
int state_dir_reopen(const char *parent, const char *id, struct state_dir *ret_dir, struct mvm_error *err);

/* The name of the VM in <parent>/<id>; "" without one. */
void state_dir_name(int parent_fd, const char *id, char ret_name[STATE_NAME_MAX + 1]);

bool state_dir_alive(int folder_fd); /* somebody else holds its lock */

/* Calls `each` for every folder below the parent, alive or not, STATE_ENTRIES_MAX at most. 0, or what `each` returned if not 0. */
int state_dir_each(const char *parent, int (*each)(void *arg, int parent_fd, int fd, const char *id, bool alive),
		   void *arg, struct mvm_error *err);

/* Writes `name` in the folder whole: a reader sees the old text or the new. */
int state_dir_write(const struct state_dir *dir, const char *name, const char *text, struct mvm_error *err);

/* A file of the folder, of `max` bytes at most; free() it. -EINVAL: empty, larger, or no file. */
int state_dir_read(int folder_fd, const char *name, size_t max, char **ret_text);

/*
 * Deletes the folders under the parent whose lock nobody holds: what crashed runs left; of VMs with a name only
 * what else they left, and their record says that they have ended. Returns their number, 0 also when another
 * process is at it. `but`: an id that is left alone, or "".
 */
int state_dir_reclaim(const char *parent, const char *but);

/*
 * The VM whose name or id is `prefix`, or whose id or name alone begins so: its id and its folder (the caller's
 * to close). Only those that live, unless `ended`. -ESRCH, -ENOTUNIQ; the error names what there is.
 */
int state_dir_find(const char *parent, const char *prefix, bool ended, char ret_id[MVM_ID_LEN + 1], int *ret_fd,
		   struct mvm_error *err);

/*
 * The same for root, who may look at everybody's: in /run/mvm, then in every user's folder; *ret_owner: whose it is,
 * who may have written anything there. For others as state_dir_find() in their own.
 */
int state_dir_find_any(const char *prefix, char ret_id[MVM_ID_LEN + 1], char ret_parent[PATH_MAX], int *ret_fd,
		       uid_t *ret_owner, struct mvm_error *err);

/*
 * The VM with a name has ended: its record is written, the lock given up, the folder stays. So does, with or without a
 * name, the list of cgroups that cannot be removed yet: state_dir_reclaim() tries again.
 */
void state_dir_keep(struct state_dir *dir, const char *record, struct mvm_error *err);

void state_dir_remove(struct state_dir *dir);
void state_dir_close(struct state_dir *dir);

#endif
