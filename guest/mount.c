#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/mount.h>

#include "mount.h"
#include "mvm/cleanup.h"

#define DEVICE_PATH_MAX (sizeof("/dev/") + REQUEST_NAME_MAX)

struct mount_step {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
};

/* Mounts; a target that is missing is made and tried again, so that the usual case is one call. */
static int mount_at(const struct mount_step *m, struct failure *f)
{
	if (mount(m->source, m->target, m->type, m->flags, m->options) == 0)
		return 0;
	if (errno == ENOENT && mkdir(m->target, 0755) == 0 &&
	    mount(m->source, m->target, m->type, m->flags, m->options) == 0)
		return 0;
	return fail(f, errno, "mount %s on %s", m->type, m->target);
}

int mount_stage(struct failure *f)
{
	static const struct mount_step dev = { "dev", "/dev", "devtmpfs", MS_NOSUID, NULL };
	static const struct mount_step below[] = {
		/* gid 5 is tty wherever the image has one; /dev/ptmx of devtmpfs finds pts beside itself */
		{ "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666" },
		{ "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, NULL },
		{ "mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
		/* one budget for all that the workload writes in memory: upper layer and /tmp */
		{ "scratch", "/scratch", "tmpfs", MS_NOSUID | MS_NODEV, NULL },
	};
	static const char *const dirs[] = { "/scratch/upper", "/scratch/work", "/scratch/tmp", "/lower" };
	static const char *const links[][2] = { { "/proc/self/fd", "/dev/fd" },
						{ "/proc/self/fd/0", "/dev/stdin" },
						{ "/proc/self/fd/1", "/dev/stdout" },
						{ "/proc/self/fd/2", "/dev/stderr" } };
	int r = mount_at(&dev, f);

	for (size_t i = 0; r == 0 && i < sizeof(below) / sizeof(below[0]); i++) {
		if (mkdir(below[i].target, 0755) < 0 && errno != EEXIST)
			return fail(f, errno, "mkdir %s", below[i].target);
		r = mount_at(&below[i], f);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
			return fail(f, errno, "mkdir %s", dirs[i]);
	if (chmod("/scratch/tmp", 01777) < 0)
		return fail(f, errno, "chmod /scratch/tmp");
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			return fail(f, errno, "symlink %s", links[i][1]);
	return 0;
}

/* What the kernel's errno does not tell of a root that cannot be mounted. */
static const char *root_hint(int error, bool rw)
{
	switch (error) {
	case ENOENT:
	case ENXIO:
		return " (no such disk)";
	case ENODEV:
		return " (the guest kernel does not know this file system)";
	case EINVAL:
		return " (no such file system on it, or a damaged one)";
	case EUCLEAN:
	case EBADMSG:
		return " (damaged: run fsck on the image)";
	case EROFS:
		return rw ? " (the disk is read-only)" : " (not cleanly unmounted: run fsck on the image)";
	default:
		return "";
	}
}

int mount_root(const struct setup_request *setup, struct failure *f)
{
	static const struct mount_step overlay = { "overlay", "/root", "overlay", 0,
						   "lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work,"
						   "redirect_dir=on,metacopy=on" };
	char device[DEVICE_PATH_MAX], size[sizeof("size=18446744073709551615")];
	const char *target = setup->rw ? "/root" : "/lower";

	(void)snprintf(device, sizeof(device), "/dev/%s", setup->device);
	if (setup->rw && mkdir(target, 0755) < 0 && errno != EEXIST)
		return fail(f, errno, "mkdir %s", target);
	if (mount(device, target, setup->fstype, setup->rw ? 0 : MS_RDONLY, NULL) < 0)
		return fail(f, errno, "rootfs %s as %s%s", setup->device, setup->fstype, root_hint(errno, setup->rw));
	if (setup->scratch) {
		(void)snprintf(size, sizeof(size), "size=%llu", (unsigned long long)setup->scratch);
		if (mount(NULL, "/scratch", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, size) < 0)
			return fail(f, errno, "scratch of %s bytes", size + strlen("size="));
	}
	if (!setup->rw && mount_at(&overlay, f) < 0)
		return fail(f, f->error, "overlay over rootfs %s (%s)", setup->device, setup->fstype);
	return 0;
}

/* Attaches `from`, an absolute path of the agent's, to `to` below the new root; a symlink at `to` is not followed. */
static int attach(const char *from, const char *to, bool clone)
{
	_cleanup_fd_ int tree = -1;

	if (!clone) {
		if (syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, 0) == 0)
			return 0;
		if (errno != ENOENT || mkdir(to, 0755) < 0)
			return -errno;
		return syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, 0) < 0 ? -errno : 0;
	}
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOENT || mkdir(to, 0755) < 0)
		return -errno;
	return syscall(SYS_move_mount, tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

/* A read-write image keeps /run for ever unless a tmpfs lies on it; one that ships files there keeps them visible. */
static bool run_is_empty(void)
{
	_cleanup_fd_ int fd = open("run", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool empty = true;

	if (!dir)
		return false;
	(void)take_fd(&fd); /* closedir() closes it */
	while (empty && (entry = readdir(dir)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	(void)closedir(dir);
	return empty;
}

/* Its text into a file of its own: a link there leads to where nobody serves it, as often as not. */
static int copy_resolv(int etc)
{
	_cleanup_fd_ int from = open(MOUNT_RESOLV, O_RDONLY | O_CLOEXEC), to = -1;
	char text[REQUEST_RESOLV_MAX];
	ssize_t n = from < 0 ? -1 : read(from, text, sizeof(text));

	if (n < 0 || (unlinkat(etc, "resolv.conf", 0) < 0 && errno != ENOENT))
		return -errno;
	to = openat(etc, "resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	return to < 0 || write(to, text, (size_t)n) != n ? -errno : 0;
}

/* An image that is written to is not changed by us: its file is covered, if it is one. */
static int cover_resolv(int etc)
{
	_cleanup_fd_ int fd = openat(etc, "resolv.conf", O_PATH | O_NOFOLLOW | O_CLOEXEC), tree = -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, MOUNT_RESOLV, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	return syscall(SYS_move_mount, tree, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno
														: 0;
}

static void place_resolv(bool rw)
{
	_cleanup_fd_ int etc = -1;
	int r;

	if (access(MOUNT_RESOLV, F_OK) < 0)
		return;
	etc = open("etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = etc < 0 ? -errno : rw ? cover_resolv(etc) : copy_resolv(etc);
	if (r < 0)
		console_line("agent: /etc/resolv.conf stays as the image has it: %s", strerror(-r));
}

int mount_enter(bool rw, bool cgroup, struct failure *f)
{
	static const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	static const struct mount_step inside[] = {
		{ "proc", "/proc", "proc", plain, NULL },
		{ "sysfs", "/sys", "sysfs", plain, NULL },
		{ "cgroup2", "/sys/fs/cgroup", "cgroup2", plain, NULL },
	};
	int r;

	if (chdir("/root") < 0)
		return fail(f, errno, "chdir to the new root");
	r = attach("/dev", "dev", false);
	if (r < 0)
		return fail(f, -r, "the image's /dev cannot be mounted on");
	/* An image without a directory there keeps what it has: the scratch covers it anyway below an overlay. */
	r = attach("/scratch/tmp", "tmp", true);
	if (r < 0 && r != -ENOTDIR && r != -ELOOP && r != -EINVAL)
		return fail(f, -r, "the image's /tmp cannot be mounted on");
	place_resolv(rw);
	if (rw && run_is_empty() && mount("run", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
		return fail(f, errno, "mount tmpfs on /run");
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		return fail(f, errno, "change to the new root");
	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
		if (inside[i].type[0] == 'c' && !cgroup)
			continue;
		r = mount_at(&inside[i], f);
		if (r < 0)
			return r;
	}
	return 0;
}

void mount_scratch_use(struct proto_statted *wire)
{
	struct statfs st;

	if (statfs("/scratch", &st) < 0)
		return;
	wire->scratch_size = le64_of((uint64_t)st.f_blocks * (uint64_t)st.f_bsize);
	wire->scratch_used = le64_of((uint64_t)(st.f_blocks - st.f_bfree) * (uint64_t)st.f_bsize);
}

int mount_settle(const char *device, bool rw)
{
	char path[DEVICE_PATH_MAX];
	_cleanup_fd_ int fd = -1;

	/*
	 * The end of the workload's mount namespace unmounted everything that it had mounted; what can
	 * be left is held by something in the kernel (a loop device on a file of a second disk). A
	 * read-only root with a tmpfs above it and no second disk has nothing to write.
	 */
	if (!rw && strcmp(device, "vda") == 0 && access("/dev/vdb", F_OK) < 0)
		return 0;
	if (rw && umount2("/root", 0) < 0)
		console_line("agent: umount of the root: %s", strerror(errno));
	sync();
	if (!rw)
		return 0;
	(void)snprintf(path, sizeof(path), "/dev/%s", device);
	/* O_EXCL on a block device: refused while a file system holds it. */
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	return fd < 0 ? -errno : 0;
}
