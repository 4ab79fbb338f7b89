/*
 * Where mvm's own parts are: beside the running program (a build tree, or the folder that holds
 * them all), in ../lib/mvm of it (any place an installation was moved to), else under the prefix.
 * No environment variable has a say: it could redirect a run to another VMM.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/mvm.h"

/* "vmlinux" is made in build/kernel, beside the variants' folders. */
static const char *const places[] = { "%s/%s", "%s/../kernel/%s", "%s/../lib/mvm/%s" };

/* Readable, and nobody's but root's or the running program's own: a part is code that runs as the caller. */
static bool usable(const char *path)
{
	struct stat st, exe;

	if (access(path, R_OK) < 0 || stat(path, &st) < 0 || stat("/proc/self/exe", &exe) < 0)
		return false;
	return (st.st_uid == 0 || st.st_uid == exe.st_uid) && !(st.st_mode & S_IWOTH);
}

int mvm_part_path(const char *part, char **ret_path, struct mvm_error *err)
{
	char exe[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n < 0)
		n = 0; /* no /proc: the prefix remains */
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (slash && strcmp(exe, MVM_PREFIX "/bin/mvm") != 0) {
		*slash = '\0';
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(path, sizeof(path), places[i], exe, part);
#pragma GCC diagnostic pop
			if (usable(path))
				goto found;
		}
	}
	(void)snprintf(path, sizeof(path), MVM_PREFIX "/lib/mvm/%s", part);
	if (access(path, R_OK) < 0)
		return error_set(err, errno,
				 "%s: not found, neither beside the program nor in " MVM_PREFIX "/lib/mvm: %s", part,
				 strcmp(part, "vmlinux") ? "install mvm again"
							 : "install it, build it (make kernel) or give --kernel");
found:
	*ret_path = strdup(path);
	return *ret_path ? 0 : error_set(err, ENOMEM, "%s: out of memory", part);
}
