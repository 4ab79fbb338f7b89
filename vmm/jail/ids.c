#include "jail/ids.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

bool ids_are_ours(void)
{
	_cleanup_fd_ int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
	char text[64], *at = text;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (geteuid() != 0 || n <= 0)
		return false;
	text[n] = '\0';
	/* Inside, outside, count: every uid as itself. */
	return strtoul(at, &at, 10) == 0 && strtoul(at, &at, 10) == 0 && strtoul(at, &at, 10) == UINT32_MAX;
}

static int open_folder(const char *folder, int *ret_fd, struct mvm_error *err)
{
	struct stat st;
	int fd;

	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return error_set(err, errno, "%s: the folder for uids cannot be made: %s", folder, strerror(errno));
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH)) {
		if (fd >= 0)
			(void)close(fd);
		return error_set(err, EPERM, "%s: the folder for uids must be a folder of root's alone: remove it",
				 folder);
	}
	*ret_fd = fd;
	return 0;
}

/* 0: ours now, -EAGAIN: another's. */
static int take(int folder, uint32_t id, int *ret_lock)
{
	struct stat ours, named;
	char name[16];

	(void)snprintf(name, sizeof(name), "%u", id);
	for (;;) {
		_cleanup_fd_ int fd = openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		/* Its last holder may have removed the name after our open: then the lock is on nothing. */
		if (fstat(fd, &ours) < 0)
			return -errno;
		if (fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == ours.st_ino) {
			*ret_lock = take_fd(&fd);
			return 0;
		}
	}
}

int ids_take(const char *folder, uint32_t first, uint32_t count, uint32_t start, struct jail_ids *ret_ids,
	     struct mvm_error *err)
{
	struct jail_ids ids = { .folder = -1, .lock = -1 };
	int r = open_folder(folder, &ids.folder, err);

	if (r < 0)
		return r;
	r = -EAGAIN;
	for (uint32_t i = 0; i < count && r == -EAGAIN; i++) {
		uint32_t id = first + (start % count + i) % count;

		r = take(ids.folder, id, &ids.lock);
		if (r == 0) {
			ids.uid = id;
			ids.gid = id;
		}
	}
	if (r < 0) {
		(void)close(ids.folder);
		if (r == -EAGAIN)
			return error_set(err, EAGAIN,
					 "uids: all %u from %u on are taken by live VMs: end some, or widen uid-range "
					 "in mvm.conf",
					 count, first);
		return error_set(err, -r, "%s: a uid cannot be taken: %s", folder, strerror(-r));
	}
	*ret_ids = ids;
	return 0;
}

void ids_reclaim(const char *folder)
{
	DIR *stream = opendir(folder);
	struct stat ours, named;
	struct dirent *entry;

	if (!stream)
		return;
	while ((entry = readdir(stream))) {
		_cleanup_fd_ int fd = -1;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		fd = openat(dirfd(stream), entry->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		/* Locked, a taker that has it open looks again; but the name may be another's file by now. */
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &ours) == 0 &&
		    fstatat(dirfd(stream), entry->d_name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		    ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
			(void)unlinkat(dirfd(stream), entry->d_name, 0);
	}
	(void)closedir(stream);
}

void ids_release(struct jail_ids *ids)
{
	char name[16];

	if (ids->lock < 0)
		return;
	(void)snprintf(name, sizeof(name), "%u", ids->uid);
	(void)unlinkat(ids->folder, name, 0); /* while the lock is held: a taker that has it open looks again */
	cleanup_fd(&ids->lock);
	cleanup_fd(&ids->folder);
	ids->lock = ids->folder = -1;
}
