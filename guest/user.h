/*
 * Who the workload runs as: a specification looked up in the image's /etc/passwd and /etc/group.
 *
 * Purpose: "name[:group]" or "uid[:gid]", as Docker reads them: a name first, then a number; a
 *          number without an entry is taken as it is (group 0, home "/"); supplementary groups
 *          only when no group was named.
 * Trust:   both files are the image's: size, lines, numbers and counts are bounded, and what is
 *          not a regular file is refused.
 * Thread:  the child between clone and execve (memory shared with the suspended agent).
 * Returns: 0 or -errno with *f filled.
 */
#ifndef MVM_GUEST_USER_H
#define MVM_GUEST_USER_H

#include <stddef.h>
#include <sys/types.h>

#include "failure.h"

#define USER_FILE_MAX   (1U << 20) /* bytes of passwd or group */
#define USER_GROUPS_MAX 1024U
#define USER_HOME_MAX   1024U

struct user {
	uid_t uid;
	gid_t gid;
	size_t ngroups;
	gid_t groups[USER_GROUPS_MAX];
	char home[USER_HOME_MAX];
};

/* Looks `spec` up in the running root; "" is root at home in /root, without opening a file. */
int user_lookup(const char *spec, struct user *ret, struct failure *f);

/* The same on two files' contents (NULL: no such file). Contents need no terminating NUL. */
int user_resolve(const char *spec, const char *passwd, size_t passwd_len, const char *group, size_t group_len,
		 struct user *ret, struct failure *f);

#endif
