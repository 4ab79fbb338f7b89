#include "jail/rootfs.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLAGS (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

/*
 * Links in the paths lead nowhere: the one name used is /proc, which every caller has checked to be procfs by
 * reading itself there, and it is only covered, in a mount namespace that is ours and about to forget it.
 */
int rootfs_empty(void)
{
	/* Nothing that is mounted here shows outside, nor the other way round. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	if (mount("mvm-jail", "/proc", "tmpfs", FLAGS, "size=4096,nr_inodes=1,mode=0555") < 0)
		return -errno;
	if (chdir("/proc") < 0)
		return -errno;
	/* pivot_root(2), "pivot_root(".", ".")": the old root lies on top of the new one, until it is detached. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	if (umount2(".", MNT_DETACH) < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}
