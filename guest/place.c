#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "place.h"

#define NAME_TRIES 100

/* ---- under a name at last ---- */

struct thing {
	int fd; /* of a file that has no name yet, or other ones */
	const char *target; /* of a symbolic link; NULL: it is a file */
};

static int give_name(const struct thing *thing, int dir, const char *name)
{
	char self[32];

	if (thing->target)
		return symlinkat(thing->target, dir, name) < 0 ? -errno : 0;
	if (linkat(thing->fd, "", dir, name, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	/* ENOENT also says that the caller lacks CAP_DAC_READ_SEARCH. The guest's agent has it, and no /proc. */
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", thing->fd);
	return linkat(AT_FDCWD, self, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int random_name(char temp[sizeof(PLACE_TEMP)])
{
	unsigned v;

	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		return -EIO;
	(void)snprintf(temp, sizeof(PLACE_TEMP), ".mvm-cp-%08x", v);
	return 0;
}

static int give_temporary_name(const struct thing *thing, int dir, char temp[sizeof(PLACE_TEMP)])
{
	int r = -EEXIST;

	for (int i = 0; i < NAME_TRIES && r == -EEXIST; i++) {
		r = random_name(temp);
		r = r < 0 ? r : give_name(thing, dir, temp);
	}
	if (r < 0)
		temp[0] = 0;
	return r;
}

/* Files and links may be replaced; what is swapped behind our back, too: a rename follows nothing. */
static int may_replace(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? 0 : -EEXIST;
}

static int rename_over(int dir, const char *temp, const char *name)
{
	int r = may_replace(dir, name);

	if (r == 0 && renameat(dir, temp, dir, name) < 0)
		r = -errno;
	/* Two names of one file are left as they are by a rename; where it was done nothing is there. */
	(void)unlinkat(dir, temp, 0);
	return r;
}

static int put(const struct thing *thing, int dir, const char *name)
{
	char temp[sizeof(PLACE_TEMP)];
	int r = give_name(thing, dir, name);
	sigset_t all, before;

	if (r != -EEXIST)
		return r;
	r = may_replace(dir, name);
	if (r < 0)
		return r;
	/* A signal that ends us comes before or after, lest it leave the temporary name. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	r = give_temporary_name(thing, dir, temp);
	if (r == 0)
		r = rename_over(dir, temp, name);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

/* ---- looks ---- */

static int set_time(int fd, int64_t mtime)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)mtime } };

	return futimens(fd, times) < 0 ? -errno : 0;
}

/* The owner first: to change it clears the set-id bits. Who is the owner already need not be root. */
static int dress(int fd, const struct place_look *look)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((st.st_uid != look->uid || st.st_gid != look->gid) && fchown(fd, look->uid, look->gid) < 0)
		return -errno;
	return fchmod(fd, look->mode & 07777) < 0 ? -errno : 0;
}

int place_dress_folder(int fd, const struct place_look *look)
{
	struct stat st;
	int r = 0;

	if (look->archive)
		r = dress(fd, look);
	else if ((look->mode & 0700) != 0700 &&
		 (fstat(fd, &st) < 0 || fchmod(fd, st.st_mode & (look->mode | 07077)) < 0))
		r = -errno;
	return r < 0 ? r : set_time(fd, look->mtime);
}

/* ---- files ---- */

int place_begin(int dir, const struct place_look *look, struct place_file *ret)
{
	mode_t mode = look->archive ? 0600 : look->mode & 0777;
	int r = 0;

	*ret = (struct place_file){ .dir = dir };
	ret->fd = openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
	if (ret->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return -errno;
	for (int i = 0; i < NAME_TRIES; i++) {
		r = random_name(ret->temp);
		if (r < 0)
			break;
		ret->fd = openat(dir, ret->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
		if (ret->fd >= 0)
			return 0;
		r = -errno;
		if (r != -EEXIST)
			break;
	}
	ret->temp[0] = 0;
	return r;
}

int place_size(struct place_file *file, uint64_t size)
{
	return ftruncate(file->fd, (off_t)size) < 0 ? -errno : 0;
}

int place_write(struct place_file *file, const void *data, size_t len, uint64_t offset)
{
	const char *bytes = data;

	while (len) {
		ssize_t n = pwrite(file->fd, bytes, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int place_finish(struct place_file *file, const char *name, const struct place_look *look)
{
	const struct thing thing = { .fd = file->fd };
	int r = look->archive ? dress(file->fd, look) : 0;

	r = r < 0 ? r : set_time(file->fd, look->mtime);
	if (r < 0)
		return r;
	if (!*file->temp)
		return put(&thing, file->dir, name);
	r = rename_over(file->dir, file->temp, name);
	file->temp[0] = 0;
	return r;
}

void place_end(struct place_file *file)
{
	if (*file->temp)
		(void)unlinkat(file->dir, file->temp, 0); /* it may be gone: whoever may write there took it */
	cleanup_fd(&file->fd);
	file->fd = -1;
	file->temp[0] = 0;
}

/* ---- links ---- */

int place_symlink(int dir, const char *name, const char *target, const struct place_look *look)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)look->mtime } };
	const struct thing thing = { .fd = -1, .target = target };
	_cleanup_fd_ int fd = -1;
	struct stat st;
	int r = put(&thing, dir, name);

	if (r < 0)
		return r;
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode))
		return -ESTALE; /* swapped meanwhile: its owner is not ours to change */
	if (look->archive && (st.st_uid != look->uid || st.st_gid != look->gid) &&
	    fchownat(fd, "", look->uid, look->gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* By system call: C libraries refuse the empty path. A kernel before 5.8 does, too; then it keeps its own time. */
	(void)syscall(SYS_utimensat, fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
	return 0;
}

int place_link(int dir, const char *name, int fd)
{
	const struct thing thing = { .fd = fd };

	return put(&thing, dir, name);
}
