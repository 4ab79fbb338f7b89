#include "lib/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/endian.h"

#define SECTOR 512U

static uint16_t at16(const uint8_t *p)
{
	struct le16 v;

	memcpy(&v, p, sizeof(v));
	return le16_get(v);
}

static uint32_t at32(const uint8_t *p)
{
	struct le32 v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

static uint64_t at64(const uint8_t *p)
{
	struct le64 v;

	memcpy(&v, p, sizeof(v));
	return le64_get(v);
}

struct magic {
	size_t offset, len;
	const char *bytes, *name, *remedy; /* remedy may hold one %s: the path */
};

/* What people hand in instead of a file system; the first that fits names it. */
static const struct magic magics[] = {
	{ 257, 5, "ustar", "a tar archive", "make an image of it: tar2sqfs app.img < %s" },
	{ 0, 6, "070701", "a cpio archive", NULL },
	{ 0, 2, "\x1f\x8b", "gzip data", "of a tar make an image: zcat %s | tar2sqfs app.img" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "zstd data", "of a tar make an image: zstdcat %s | tar2sqfs app.img" },
	{ 0, 6,
	  "\xfd"
	  "7zXZ\0",
	  "xz data", "of a tar make an image: xzcat %s | tar2sqfs app.img" },
	{ 0, 3, "BZh", "bzip2 data", "of a tar make an image: bzcat %s | tar2sqfs app.img" },
	{ 0, 4, "QFI\xfb", "a qcow2 disk", "make it raw: qemu-img convert -O raw %s app.img" },
	{ 0, 4, "KDMV", "a VMDK disk", "make it raw: qemu-img convert -O raw %s app.img" },
	{ 0, 8, "vhdxfile", "a VHDX disk", "make it raw: qemu-img convert -O raw %s app.img" },
	{ 0, 4,
	  "\x7f"
	  "ELF",
	  "an ELF program", NULL },
	{ 0, 4, "PK\x03\x04", "a zip archive", NULL },
	{ 0, 4, "XFSB", "an XFS file system", NULL },
	{ 512, 8, "EFI PART", "a disk with partitions (GPT)", "take its root partition out into a file of its own" },
	{ 0x202, 4, "HdrS", "a Linux kernel (bzImage)", NULL },
	{ 510, 2, "\x55\xaa", "a disk with partitions (MBR)", "take its root partition out into a file of its own" },
	{ 56, 4, "ARM\x64", "a Linux kernel for arm64", NULL },
	{ 0, 2, "#!", "a script", NULL },
};

static const struct magic *magic_find(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		const struct magic *m = &magics[i];

		if (len >= m->offset + m->len && !memcmp(head + m->offset, m->bytes, m->len))
			return m;
	}
	return NULL;
}

const char *image_describe(const void *head_arg, size_t len, char *buf, size_t cap)
{
	const uint8_t *head = head_arg;
	const struct magic *m = magic_find(head, len);
	size_t shown = len < 8 ? len : 8, zeros = 0, at;

	while (zeros < len && !head[zeros])
		zeros++;
	if (m) {
		(void)snprintf(buf, cap, "%s", m->name);
	} else if (zeros == len) {
		(void)snprintf(buf, cap, "%zu zero bytes", len);
	} else {
		at = (size_t)snprintf(buf, cap, "the bytes");
		for (size_t i = 0; i < shown && at + 4 < cap; i++)
			at += (size_t)snprintf(buf + at, cap - at, " %02x", head[i]);
	}
	return buf;
}

static int open_failed(const char *what, const char *path, int flags, int code, struct mvm_error *err)
{
	const char *remedy = "check the path";

	if (code == EACCES || code == EPERM)
		remedy = (flags & O_ACCMODE) == O_RDONLY
				 ? "give yourself read permission (chmod u+r)"
				 : "give yourself read and write permission (chmod u+rw), or do without writing";
	else if (code == EROFS)
		remedy = "its file system is read-only: do without writing, or copy it elsewhere";
	else if (code == EISDIR)
		remedy = "it is a directory: give a file";
	else if (code == EMFILE || code == ENFILE)
		remedy = "raise the limit of open files (ulimit -n)";
	return error_set(err, code, "%s: %s: %s: %s", what, path, strerror(code), remedy);
}

int image_open(const char *what, const char *path, int flags, struct image_file *ret_file, struct mvm_error *err)
{
	/* O_NONBLOCK: the open of a FIFO must not wait for its writer; taken away again once it is known for a file. */
	_cleanup_fd_ int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return open_failed(what, path, flags, errno, err);
	if (fstat(fd, &st) < 0 || (S_ISREG(st.st_mode) && fcntl(fd, F_SETFL, flags & O_APPEND) < 0))
		return open_failed(what, path, flags, errno, err);
	if (S_ISDIR(st.st_mode))
		return open_failed(what, path, flags, EISDIR, err);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "%s: %s: not a regular file: copy it into one", what, path);
	ret_file->fd = take_fd(&fd);
	ret_file->size = (uint64_t)st.st_size;
	ret_file->dev = st.st_dev;
	ret_file->ino = st.st_ino;
	return 0;
}

static int take_lock(const char *what, const char *path, bool rw, int fd, struct mvm_error *err)
{
	struct flock lock = { .l_type = rw ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(err, EBUSY, "%s: %s: in use by another VM%s: end that one, or give each a copy", what,
				 path, rw ? "" : ", which writes to it");
	return error_set(err, errno, "%s: %s: cannot be locked: %s: copy it to a local file system", what, path,
			 strerror(errno));
}

static int check_size(const char *what, const char *path, uint64_t size, struct mvm_error *err)
{
	if (!size)
		return error_set(err, EINVAL, "%s: %s: empty: it holds no bytes at all", what, path);
	if (size % SECTOR)
		return error_set(err, EINVAL, "%s: %s: its size, %llu, is no multiple of %u: truncate -s %%%u %s", what,
				 path, (unsigned long long)size, SECTOR, SECTOR, path);
	return 0;
}

int image_open_disk(const char *what, const char *path, bool rw, struct image_file *ret_file, struct mvm_error *err)
{
	struct image_file file = { .fd = -1 };
	int r = image_open(what, path, rw ? O_RDWR : O_RDONLY, &file, err);

	if (r < 0)
		return r;
	r = take_lock(what, path, rw, file.fd, err);
	r = r < 0 ? r : check_size(what, path, file.size, err);
	if (r < 0)
		(void)close(file.fd);
	else
		*ret_file = file;
	return r;
}

static int truncated(const char *path, const char *kind, uint64_t needs, uint64_t size, struct mvm_error *err)
{
	return error_set(
		err, EINVAL,
		"--rootfs: %s: truncated: its %s file system has %llu bytes, the file only %llu: copy it again", path,
		kind, (unsigned long long)needs, (unsigned long long)size);
}

/* ext2/3/4: superblock at 1024 (Documentation/filesystems/ext4/super.rst). */
static int probe_ext(const char *path, const uint8_t *sb, uint64_t size, bool rw, struct mvm_error *err)
{
	uint32_t incompat = at32(sb + 0x60), log_block = at32(sb + 0x18);
	uint64_t blocks = at32(sb + 0x4), bytes;

	if (incompat & 0x80) /* INCOMPAT_64BIT */
		blocks |= (uint64_t)at32(sb + 0x150) << 32;
	if (log_block > 6)
		return error_set(err, EINVAL,
				 "--rootfs: %s: damaged: its ext superblock claims an impossible block size: check it: "
				 "e2fsck -f %s",
				 path, path);
	if (__builtin_mul_overflow(blocks, (uint64_t)1024 << log_block, &bytes) || bytes > size)
		return truncated(path, "ext", bytes, size, err);
	if (!rw && incompat & 0x4) /* INCOMPAT_RECOVER: the guest could not replay the journal */
		return error_set(err, EINVAL,
				 "--rootfs: %s: was not cleanly unmounted: repair it: e2fsck -fp %s (or use --rw)",
				 path, path);
	return 0;
}

int image_probe(const char *path, const void *head_arg, size_t len, uint64_t size, bool rw, const char **ret_type,
		struct mvm_error *err)
{
	const uint8_t *head = head_arg;
	const uint8_t *sb = head + 1024;
	const struct magic *m;
	char found[64], remedy[512];
	uint64_t bytes;

	if (len >= IMAGE_HEAD && at16(sb + 0x38) == 0xef53) {
		*ret_type = "ext4"; /* the guest's ext4 driver mounts all three */
		return probe_ext(path, sb, size, rw, err);
	}
	if (len >= IMAGE_HEAD && at32(sb) == 0xe0f5e1e2) { /* fs/erofs/erofs_fs.h, struct erofs_super_block */
		if (sb[12] > 16 || __builtin_mul_overflow((uint64_t)at32(sb + 36), 1ULL << sb[12], &bytes) ||
		    bytes > size)
			return truncated(path, "EROFS", (uint64_t)at32(sb + 36) << (sb[12] & 31), size, err);
		*ret_type = "erofs";
	} else if (len >= 96 && at32(head) == 0x73717368) { /* fs/squashfs/squashfs_fs.h, struct squashfs_super_block */
		bytes = at64(head + 40);
		if (bytes > size)
			return truncated(path, "squashfs", bytes, size, err);
		*ret_type = "squashfs";
	} else {
		m = magic_find(head, len);
		remedy[0] = '\0';
		if (m && m->remedy) {
			memcpy(remedy, ": ", 3);
			/* The table above is the only source of this format. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(remedy + 2, sizeof(remedy) - 2, m->remedy, path);
#pragma GCC diagnostic pop
		}
		return error_set(err, EINVAL,
				 "--rootfs: %s: no file system that is known (ext2, ext3, ext4, erofs, squashfs): it "
				 "begins with %s%s",
				 path, image_describe(head, len, found, sizeof(found)), remedy);
	}
	if (rw)
		return error_set(err, EINVAL,
				 "--rw: %s: %s is read-only by nature: use an ext4 image, or leave --rw out", path,
				 *ret_type);
	return 0;
}

int image_open_rootfs(const char *path, bool rw, struct image_file *ret_file, const char **ret_type,
		      struct mvm_error *err)
{
	struct image_file file = { .fd = -1 };
	_cleanup_fd_ int fd = -1;
	uint8_t head[IMAGE_HEAD];
	struct stat st;
	ssize_t n;
	int r = image_open("--rootfs", path, rw ? O_RDWR : O_RDONLY, &file, err);

	if (r < 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return error_set(err, EISDIR,
				 "--rootfs: %s: a directory: make an image of it: mke2fs -q -t ext4 -d %s app.img 1g",
				 path, path);
	if (r < 0)
		return r;
	fd = file.fd;
	/* Locked before it is looked at: an image that is being written to looks damaged. */
	r = take_lock("--rootfs", path, rw, fd, err);
	if (r < 0)
		return r;
	n = file.size ? pread(fd, head, sizeof(head), 0) : 0;
	if (n < 0)
		return error_set(err, errno, "--rootfs: %s: cannot be read: %s", path, strerror(errno));
	/* What it is comes first: an archive or a stump is better named than measured. */
	r = n ? image_probe(path, head, (size_t)n, file.size, rw, ret_type, err) : 0;
	r = r < 0 ? r : check_size("--rootfs", path, file.size, err);
	if (r < 0)
		return r;
	file.fd = take_fd(&fd);
	*ret_file = file;
	return 0;
}

int image_open_initrd(const char *path, struct image_file *ret_file, uint64_t *ret_needs, struct mvm_error *err)
{
	struct image_file file = { .fd = -1 };
	char magic[6];
	ssize_t n;
	int r = image_open("--initrd", path, O_RDONLY, &file, err);

	if (r < 0)
		return r;
	n = file.size ? pread(file.fd, magic, sizeof(magic), 0) : 0;
	if (n <= 0) {
		(void)close(file.fd);
		return error_set(err, EINVAL, "--initrd: %s: empty or unreadable: give a cpio archive", path);
	}
	/* A plain archive is in memory twice while it is unpacked; a compressed one grows by what only the guest can tell. */
	*ret_needs = file.size;
	if (n == (ssize_t)sizeof(magic) && !memcmp(magic, "070701", sizeof(magic)))
		*ret_needs = file.size * 2;
	*ret_file = file;
	return 0;
}
