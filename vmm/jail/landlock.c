#include "jail/landlock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct landlock_ruleset_attr as of ABI 6; older headers lack the last two. */
struct ruleset_attr {
	uint64_t handled_access_fs, handled_access_net, scoped;
};

#define CREATE_RULESET_VERSION 1U
#define ACCESS_FS_ABI1         ((1ULL << 13) - 1) /* execute … make_sym */
#define ACCESS_FS_REFER        (1ULL << 13) /* ABI 2 */
#define ACCESS_FS_TRUNCATE     (1ULL << 14) /* ABI 3 */
#define ACCESS_FS_IOCTL_DEV    (1ULL << 15) /* ABI 5; for files opened later: those handed over keep theirs */
#define ACCESS_NET_TCP         3ULL /* ABI 4: bind, connect */
#define SCOPED                 3ULL /* ABI 6: abstract unix sockets, signals */

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0UL, (unsigned long)CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

int landlock_close(bool fs, bool net)
{
	struct ruleset_attr attr = { .handled_access_fs = ACCESS_FS_ABI1 };
	int abi = landlock_abi(), fd, r = 0;
	unsigned long size = sizeof(attr.handled_access_fs);

	if ((fs && abi < 1) || (net && abi < LANDLOCK_ABI_NET))
		return -ENOSYS;
	if (abi < 1)
		return 0;
	/* Everything that this kernel knows, and not a rule that allows any of it. */
	if (abi >= 2)
		attr.handled_access_fs |= ACCESS_FS_REFER;
	if (abi >= 3)
		attr.handled_access_fs |= ACCESS_FS_TRUNCATE;
	if (abi >= 4) {
		attr.handled_access_net = ACCESS_NET_TCP;
		size += sizeof(attr.handled_access_net);
	}
	if (abi >= 5)
		attr.handled_access_fs |= ACCESS_FS_IOCTL_DEV;
	if (abi >= 6) {
		attr.scoped = SCOPED;
		size += sizeof(attr.scoped);
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0UL);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_landlock_restrict_self, fd, 0UL) < 0)
		r = -errno;
	(void)close(fd);
	return r;
}
