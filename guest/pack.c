#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "mvm/cleanup.h"
#include "pack.h"
#include "tar.h"

struct packer {
	struct tar_writer tar;
	struct tar_member m; /* its path is the place in the tree */
	struct tar_extent *map; /* of sparse files, made when the first is met */
	struct pack_note *note;
	const char *source;
	struct failure *f;
	unsigned depth;
};

int pack_top(const char *source, char ret_top[NAME_MAX + 1])
{
	size_t end = strlen(source), begin;

	while (end && source[end - 1] == '/')
		end--;
	for (begin = end; begin && source[begin - 1] != '/';)
		begin--;
	if (end - begin > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_top, source + begin, end - begin);
	ret_top[end - begin] = 0;
	if (!*ret_top || !strcmp(ret_top, ".."))
		memcpy(ret_top, ".", 2);
	return 0;
}

/* Says what became of the thing in work. */
static int failed(struct packer *p, int error)
{
	return fail(p->f, error, "%.200s: %.200s", p->source, p->m.path);
}

static void leave_out(struct packer *p)
{
	size_t len = strlen(p->m.path);

	if (!p->note->left_out++) {
		len = len < PACK_NOTE_MAX - 1 ? len : PACK_NOTE_MAX - 1;
		memcpy(p->note->first, p->m.path, len);
		p->note->first[len] = 0;
	}
}

static bool is_kernels(int fd)
{
	static const unsigned long kinds[] = { PROC_SUPER_MAGIC,    SYSFS_MAGIC,        CGROUP_SUPER_MAGIC,
					       CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, DEBUGFS_MAGIC,
					       TRACEFS_MAGIC,       SECURITYFS_MAGIC,   BPF_FS_MAGIC };
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if ((unsigned long)fs.f_type == kinds[i])
			return true;
	return false;
}

static void describe(struct packer *p, const struct stat *st, enum tar_kind kind)
{
	p->m.kind = kind;
	p->m.mode = st->st_mode & 07777;
	p->m.uid = st->st_uid;
	p->m.gid = st->st_gid;
	p->m.mtime = st->st_mtime;
	p->m.size = kind == TAR_FILE ? (uint64_t)st->st_size : 0;
	p->m.sparse = false;
}

/* ---- files ---- */

/* Where the data of a file is; what does not fit into the map is data to the file's end. */
static size_t find_data(struct packer *p, int fd, uint64_t size)
{
	off_t at = 0, end;
	size_t n = 0;

	while ((uint64_t)at < size && n < TAR_EXTENTS_MAX - 1) {
		at = lseek(fd, at, SEEK_DATA);
		if (at < 0 || (uint64_t)at >= size)
			break; /* ENXIO: a hole to the end */
		end = n == TAR_EXTENTS_MAX - 2 ? (off_t)size : lseek(fd, at, SEEK_HOLE);
		if (end < 0 || (uint64_t)end > size)
			end = (off_t)size;
		p->map[n++] = (struct tar_extent){ (uint64_t)at, (uint64_t)(end - at) };
		at = end;
	}
	/* GNU tar tells a hole at the end so. */
	if (!n || p->map[n - 1].offset + p->map[n - 1].length < size)
		p->map[n++] = (struct tar_extent){ size, 0 };
	return n;
}

static int put_data(struct packer *p, int fd, uint64_t offset, uint64_t length)
{
	while (length) {
		uint8_t *room;
		size_t size;
		ssize_t n;
		int r = tar_room(&p->tar, &room, &size, p->f);

		if (r < 0)
			return r;
		n = pread(fd, room, size < length ? size : (size_t)length, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(p, errno);
		if (n == 0)
			return fail_as(p->f, PROTO_FAIL_REFUSED, EIO,
				       "%.200s: %.200s: it shrank while it was read: copy it when nobody writes to it",
				       p->source, p->m.path);
		tar_filled(&p->tar, (size_t)n);
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int put_sparse(struct packer *p, int fd)
{
	uint64_t bytes = 0;
	size_t n;

	if (!p->map)
		p->map = malloc(TAR_EXTENTS_MAX * sizeof(*p->map));
	if (!p->map)
		return failed(p, ENOMEM);
	n = find_data(p, fd, p->m.size);
	p->m.sparse = true;
	if (tar_put(&p->tar, &p->m, p->map, n, p->f) < 0)
		return -p->f->error;
	for (size_t i = 0; i < n; i++) {
		if (put_data(p, fd, p->map[i].offset, p->map[i].length) < 0)
			return -p->f->error;
		bytes += p->map[i].length;
	}
	return tar_pad(&p->tar, bytes, p->f);
}

static int put_file(struct packer *p, int fd, const struct stat *st)
{
	describe(p, st, TAR_FILE);
	if (st->st_blocks < st->st_size / 512)
		return put_sparse(p, fd);
	if (tar_put(&p->tar, &p->m, NULL, 0, p->f) < 0 || put_data(p, fd, 0, p->m.size) < 0)
		return -p->f->error;
	return tar_pad(&p->tar, p->m.size, p->f);
}

/* ---- the tree ---- */

static int put_one(struct packer *p, int dir, const char *name, bool follow);

/* The next name of a folder, with p->m.path made to end with it. `base`: bytes of the folder's own path. */
static int put_entry(struct packer *p, int fd, const char *name, size_t base)
{
	size_t len = strlen(name);
	int r;

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	if (base + len + 2 > sizeof(p->m.path)) /* a folder's own '/' may follow */
		return failed(p, ENAMETOOLONG);
	memcpy(p->m.path + base, name, len + 1);
	r = put_one(p, fd, name, false);
	p->m.path[base] = 0;
	return r;
}

static int put_entries(struct packer *p, int fd)
{
	size_t base = strlen(p->m.path);
	struct dirent *entry;
	DIR *dir = NULL;
	int r = 0, copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy >= 0)
		dir = fdopendir(copy);
	if (!dir) {
		r = failed(p, errno);
		cleanup_fd(&copy);
		return r;
	}
	for (errno = 0; r == 0 && (entry = readdir(dir)); errno = 0)
		r = put_entry(p, fd, entry->d_name, base);
	if (r == 0 && errno)
		r = failed(p, errno);
	(void)closedir(dir); /* it was only read */
	return r;
}

static int put_folder(struct packer *p, int fd, const struct stat *st)
{
	size_t len = strlen(p->m.path);
	int r;

	if (p->depth == PACK_DEPTH_MAX)
		return failed(p, ELOOP);
	memcpy(p->m.path + len, "/", 2); /* put_entry() left room */
	describe(p, st, TAR_FOLDER);
	r = tar_put(&p->tar, &p->m, NULL, 0, p->f);
	/* What a kernel shows there are no files: they have no sizes, and no end. */
	if (r == 0 && !is_kernels(fd)) {
		p->depth++;
		r = put_entries(p, fd);
		p->depth--;
	}
	p->m.path[len] = 0;
	return r;
}

static int put_link(struct packer *p, int dir, const char *name, const struct stat *st)
{
	ssize_t n = readlinkat(dir, name, p->m.link, sizeof(p->m.link));

	if (n < 0)
		return failed(p, errno);
	if (n == 0 || (size_t)n == sizeof(p->m.link))
		return failed(p, ENAMETOOLONG);
	p->m.link[n] = 0;
	describe(p, st, TAR_SYMLINK);
	return tar_put(&p->tar, &p->m, NULL, 0, p->f);
}

/*
 * Looked at before it is opened, since opening a device may do something; opened without following a link, without
 * waiting, and looked at again: it may have become another meanwhile.
 */
static int put_one(struct packer *p, int dir, const char *name, bool follow)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;

	if (fstatat(dir, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return failed(p, errno);
	if (S_ISLNK(st.st_mode))
		return put_link(p, dir, name, &st);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		leave_out(p);
		return 0;
	}
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW));
	if (fd < 0 || fstat(fd, &st) < 0)
		return failed(p, errno);
	if (S_ISDIR(st.st_mode))
		return put_folder(p, fd, &st);
	if (S_ISREG(st.st_mode))
		return put_file(p, fd, &st);
	leave_out(p);
	return 0;
}

/* A source by itself that could not be copied is an error, where it would be left out of a tree. */
static int check_source(const char *source, bool follow, struct failure *f)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;

	if (fstatat(AT_FDCWD, source, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return fail(f, errno, "%.300s", source);
	if (S_ISLNK(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return fail_as(f, PROTO_FAIL_REFUSED, EINVAL,
			       "%.300s: a device, a fifo or a socket: only files, folders and links are copied",
			       source);
	fd = openat(AT_FDCWD, source, O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
	if (fd < 0)
		return fail(f, errno, "%.300s", source);
	if (is_kernels(fd))
		return fail_as(f, PROTO_FAIL_REFUSED, EINVAL,
			       "%.300s: what the kernel shows there has no size: read it with cat, and keep that",
			       source);
	return 0;
}

int pack(const char *source, bool follow, int out, struct pack_note *ret_note, struct failure *f)
{
	char top[NAME_MAX + 1];
	struct packer *p;
	int r;

	*ret_note = (struct pack_note){ 0 };
	if (pack_top(source, top) < 0 || strlen(source) >= TAR_PATH_MAX)
		return fail(f, ENAMETOOLONG, "%.300s", source);
	if (check_source(source, follow, f) < 0)
		return -f->error;
	p = calloc(1, sizeof(*p));
	if (!p)
		return fail(f, ENOMEM, "%.300s", source);
	p->note = ret_note;
	p->source = source;
	p->f = f;
	memcpy(p->m.path, top, strlen(top) + 1);
	r = tar_writer_init(&p->tar, out, f);
	if (r == 0)
		r = put_one(p, AT_FDCWD, source, follow);
	if (r == 0)
		r = tar_finish(&p->tar, f);
	tar_writer_free(&p->tar);
	free(p->map);
	free(p);
	return r;
}
