#include "jail/lsm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mvm/cleanup.h"

#define QUERY_FILE "/sys/kernel/security/apparmor/.access"
#define ATTR_FILE  "/proc/self/attr/apparmor/current"
#define STACK_SIZE 65536U
#define LABEL_MAX  512 /* bytes; a longer stack of profiles is not looked through */

/* A query of what the profile allows fails when there is none; the byte at its end, of class "file", has to be there. */
static const char query[] = "profile\0" LSM_PROFILE "\0\2";
static const char change[] = "changeprofile " LSM_PROFILE;

bool lsm_holds(const char *label)
{
	static const char mode[] = " (enforce)", between[] = "//&";
	const size_t len = sizeof(LSM_PROFILE) - 1;
	const char *end = strstr(label, mode);

	if (!end)
		return false;
	for (const char *at = label; at && at < end;) {
		const char *next = strstr(at, between);

		if (!next || next > end)
			next = end;
		if ((size_t)(next - at) == len && !memcmp(at, LSM_PROFILE, len))
			return true;
		at = next == end ? NULL : next + sizeof(between) - 1;
	}
	return false;
}

/* The kernel logs each try to enter what is not there, so this is asked first: by file, for everybody, and not logged. */
static bool is_known_missing(void)
{
	_cleanup_fd_ int fd = open(QUERY_FILE, O_RDWR | O_CLOEXEC);

	return fd >= 0 && write(fd, query, sizeof(query) - 1) < 0 && errno == ENOENT;
}

/* In a child, on memory of its parent's: what it becomes ends with it. */
static int enter(void *answer)
{
	int fd = open(ATTR_FILE, O_RDWR | O_CLOEXEC), *ret = answer;
	char label[LABEL_MAX];
	ssize_t n;

	if (fd < 0 || write(fd, change, sizeof(change) - 1) < 0) {
		/* No such file: not built in, or no /proc. EINVAL: nobody takes what is written to it. */
		*ret = fd < 0 || errno == EINVAL ? -EOPNOTSUPP : -errno;
		return 0;
	}
	/* The mode is told to whoever is in the profile, without a look into securityfs, which need not be mounted. */
	n = pread(fd, label, sizeof(label) - 1, 0);
	label[n > 0 ? n : 0] = '\0';
	*ret = lsm_holds(label) ? 0 : -EUCLEAN;
	return 0;
}

int lsm_profile(void)
{
	int answer = -EIO, r = 0;
	char *stack;
	pid_t pid;

	if (is_known_missing())
		return -ENOENT;
	stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return -errno;
	/* As vfork(): it runs before we go on. No signal when it ends: a caller's handler is not ours to call. */
	pid = clone(enter, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK, &answer);
	if (pid < 0)
		r = -errno;
	else
		while (waitpid(pid, NULL, (int)__WCLONE) < 0 && errno == EINTR)
			;
	(void)munmap(stack, STACK_SIZE);
	return r < 0 ? r : answer;
}
