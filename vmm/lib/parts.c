/*
 * Where mvm's own parts are: beside the running program (a build tree, or the folder that holds
 * them all), in ../lib/mvm of it (any place an installation was moved to), else under the prefix.
 * No environment variable has a say: it could redirect a run to another VMM.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/mvm.h"
#include "mvm/version.h"

/* "vmlinux" is made in build/kernel, beside the variants' folders. */
static const char *const places[] = { "%s/%s", "%s/../kernel/%s", "%s/../lib/mvm/%s" };

/*
 * Setuid, mvm would open the caller's files with another's rights; and whoever may write it runs as its callers. With a
 * capability on its file mvm would make VMs with a right that its caller has not: of all parts mvm-bridge alone may have one
 * (bridge/main.c). `part`: as which it is to run; NULL: the running program, whatever it is called.
 */
static int check_mode(const char *part, const char *path, const struct stat *st, struct mvm_error *err)
{
	if (S_ISREG(st->st_mode) && st->st_mode & (S_ISUID | S_ISGID))
		return error_set(err, EPERM, "%s: setuid or setgid, which no part of mvm may be: chmod u-s,g-s %s",
				 path, path);
	if ((!part || strcmp(part, "mvm-bridge") != 0) && getxattr(path, "security.capability", NULL, 0) > 0)
		return error_set(err, EPERM,
				 "%s: has capabilities, which no part of mvm but mvm-bridge may: setcap -r %s", path,
				 path);
	if (st->st_mode & S_IWOTH)
		return error_set(err, EPERM, "%s: others may write to it: chmod o-w %s", path, path);
	return 0;
}

/*
 * A part is code that runs as the caller: nobody's but root's or the owner's of the running program, and nobody
 * else's to write. 1: usable; 0: none there; -EPERM with err: it is not looked for elsewhere then, so that what
 * runs is never another one than it seems.
 */
static int usable(const char *part, const char *path, struct mvm_error *err)
{
	struct stat st, exe;
	int r;

	if (access(path, R_OK) < 0 || stat(path, &st) < 0)
		return 0;
	if (stat("/proc/self/exe", &exe) < 0)
		exe.st_uid = 0; /* no /proc: root's alone */
	if (st.st_uid != 0 && st.st_uid != exe.st_uid)
		return error_set(err, EPERM, "%s: belongs to somebody else: install mvm again", path);
	r = check_mode(part, path, &st, err);
	return r < 0 ? r : 1;
}

int mvm_part_path(const char *part, char **ret_path, struct mvm_error *err)
{
	char exe[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	struct stat st;
	char *slash;
	int r;

	if (n < 0)
		n = 0; /* no /proc: the prefix remains */
	exe[n] = '\0';
	if (n && stat("/proc/self/exe", &st) == 0) {
		r = check_mode(NULL, exe, &st, err);
		if (r < 0)
			return r;
	}
	slash = strrchr(exe, '/');
	if (slash && strcmp(exe, MVM_PREFIX "/bin/mvm") != 0) {
		*slash = '\0';
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(path, sizeof(path), places[i], exe, part);
#pragma GCC diagnostic pop
			r = usable(part, path, err);
			if (r < 0)
				return r;
			if (r)
				goto found;
		}
	}
	(void)snprintf(path, sizeof(path), MVM_PREFIX "/lib/mvm/%s", part);
	r = usable(part, path, err);
	if (r < 0)
		return r;
	if (!r)
		return error_set(err, ENOENT,
				 "%s: not found, neither beside the program nor in " MVM_PREFIX "/lib/mvm: %s", part,
				 strcmp(part, "vmlinux") ? "install mvm again"
							 : "install it, build it (make kernel) or give --kernel");
found:
	*ret_path = strdup(path);
	return *ret_path ? 0 : error_set(err, ENOMEM, "%s: out of memory", part);
}

const char *mvm_version(void)
{
	return MVM_VERSION;
}
