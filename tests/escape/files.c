/* Attacks on files: by name, and by what was handed over. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "attack.h"
#include "call.h"
#include "tries.h"

#define FDS 64

/* The first that gives something, else what the last open one answered. */
#define ON_EVERY_FD(expression)                                                                                        \
	({                                                                                                             \
		long last = -EBADF;                                                                                    \
		for (int fd = 0; fd < FDS && last < 0; fd++) {                                                         \
			long got = (expression);                                                                       \
			if (got != -EBADF)                                                                             \
				last = got;                                                                            \
		}                                                                                                      \
		last;                                                                                                  \
	})

long try_openat_fds(void)
{
	return ON_EVERY_FD(RAW(SYS_openat, fd, "etc/passwd", O_RDONLY));
}

long try_openat_above_fds(void)
{
	return ON_EVERY_FD(RAW(SYS_openat, fd, "../../../../../../../../etc/passwd", O_RDONLY));
}

long try_open_by_handle(void)
{
	struct {
		uint32_t bytes, type;
		uint64_t inode;
		uint32_t generation;
	} handle = { 8, 1 /* FILEID_INO32_GEN */, 2, 0 };

	return ON_EVERY_FD(RAW(SYS_open_by_handle_at, fd, &handle, O_RDONLY));
}

long try_openat2(void)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = 0 };

	return RAW(SYS_openat2, AT_FDCWD, "/../../etc/passwd", &how, sizeof(how));
}

long try_open_tree_fds(void)
{
	return ON_EVERY_FD(RAW(SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE));
}

long try_chmod_disk(void)
{
	return RAW(SYS_fchmod, attack_targets()->writable, 0777);
}

long try_xattr_disk(void)
{
	return RAW(SYS_fsetxattr, attack_targets()->writable, "user.escape", "x", 1, 0);
}

long try_write_read_only(void)
{
	return RAW(SYS_write, attack_targets()->read_only, "x", 1);
}

static long pwritev2_at(int fd, uint64_t offset)
{
	struct iovec piece = { (void *)(uintptr_t) "x", 1 };

	return RAW(SYS_pwritev2, fd, &piece, 1, offset, 0, 0);
}

long try_pwritev2_read_only(void)
{
	return pwritev2_at(attack_targets()->read_only, 0);
}

long try_pwritev2_beyond(void)
{
	return pwritev2_at(attack_targets()->writable, attack_targets()->size_max);
}

long try_truncate_larger(void)
{
	return RAW(SYS_ftruncate, attack_targets()->writable, attack_targets()->size_max + 4096);
}

long try_truncate_smaller(void)
{
	return RAW(SYS_ftruncate, attack_targets()->writable, attack_targets()->writable_size - 4096);
}

long try_allocate_larger(void)
{
	return RAW(SYS_fallocate, attack_targets()->writable, 0, attack_targets()->size_max, 4096);
}

long try_allocate_collapse(void)
{
	return RAW(SYS_fallocate, attack_targets()->writable, FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
}

/* Blocks behind the end of the file: its size does not change, and no limit of file sizes is asked. */
long try_zero_range_beyond(void)
{
	return RAW(SYS_fallocate, attack_targets()->writable, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		   4 * attack_targets()->size_max, 16U << 20);
}

long try_punch_read_only(void)
{
	return RAW(SYS_fallocate, attack_targets()->read_only, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
}

/* POSIX locks of the VMM's own say nothing of the supervisor's: dropping them drops nothing. */
long try_unlock(void)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	return RAW(SYS_fcntl, attack_targets()->writable, F_SETLK, &lock);
}

long try_relock_ofd(void)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	return RAW(SYS_fcntl, attack_targets()->writable, F_OFD_SETLK, &lock);
}

long try_set_append(void)
{
	return RAW(SYS_fcntl, attack_targets()->writable, F_SETFL, O_APPEND);
}

long try_set_direct(void)
{
	return RAW(SYS_fcntl, attack_targets()->writable, F_SETFL, O_DIRECT);
}

long try_set_owner(void)
{
	return RAW(SYS_fcntl, attack_targets()->console, F_SETOWN, 4000);
}

long try_lease(void)
{
	return RAW(SYS_fcntl, attack_targets()->read_only, F_SETLEASE, F_RDLCK);
}

long try_ioctl_fionread(void)
{
	int n;

	return ON_EVERY_FD(RAW(SYS_ioctl, fd, FIONREAD, &n));
}

/* Immutable: what its owner could then not remove. */
long try_ioctl_fs_flags(void)
{
	int flags = FS_IMMUTABLE_FL;

	return ON_EVERY_FD(RAW(SYS_ioctl, fd, FS_IOC_SETFLAGS, &flags));
}

long try_ioctl_ficlone(void)
{
	return RAW(SYS_ioctl, attack_targets()->writable, FICLONE, attack_targets()->read_only);
}

long try_ioctl_tiocsti(void)
{
	return ON_EVERY_FD(RAW(SYS_ioctl, fd, TIOCSTI, "x"));
}

long try_ioctl_fioasync(void)
{
	int on = 1;

	return RAW(SYS_ioctl, attack_targets()->console, FIOASYNC, &on);
}

long try_setns_fds(void)
{
	return ON_EVERY_FD(RAW(SYS_setns, fd, 0));
}

long try_splice_disk(void)
{
	int pipe[2];
	long r = RAW(SYS_pipe2, pipe, O_CLOEXEC);
	uint64_t at = 0;

	if (r < 0)
		return r;
	r = RAW(SYS_splice, attack_targets()->read_only, &at, pipe[1], 0, 1, 0);
	(void)RAW(SYS_close, pipe[0]);
	(void)RAW(SYS_close, pipe[1]);
	return r;
}
