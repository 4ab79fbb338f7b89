/*
 * A cgroup of one's own, asked of the user's systemd: a scope with delegation, as `systemd-run --user --scope -p Delegate=yes`
 * makes one. For a user whose session has no group that they may write.
 *
 * Trust:   systemd's private socket in the user's run-time folder (root's: /run); its answers are bounded and only looked at for yes or no.
 * Thread:  one.
 */
#ifndef JAIL_SCOPE_H
#define JAIL_SCOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Moves this process into a new scope `name` (".scope" at its end), and there into a leaf, so that the scope itself may have
 * children. 0 or -errno: -ENOENT without a systemd of the user's, -EACCES when it refuses, -ETIMEDOUT.
 */
int scope_enter(const char *runtime_dir, const char *name);

/* The same for another process of this user's, without a leaf: it is to outlive whatever we belong to. */
int scope_place(const char *runtime_dir, const char *name, pid_t pid);

/*
 * Where our own group was delegated as a whole (Delegate= of a systemd service): moves all that is in it, which is the
 * service's, into a leaf of the same kind. 0 or -errno: -ENODATA, it was not.
 */
int scope_step_aside(void);

/* Whether our own group is that of a service of systemd's. */
bool scope_is_service(void);

/* The D-Bus message that asks for it; for tests. Its length, or -ENOSPC. */
int scope_message(const char *name, pid_t pid, uint8_t *buf, size_t cap);

#endif
