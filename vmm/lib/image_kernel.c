/* Guest kernels: what kind a file is, for which machine, and whether it is whole; see image.h. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host_arch.h"
#include "lib/image.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PHDRS_MAX  64U /* a vmlinux has about five */
#define BANNER_MAX 256U

static const char *machine_name(unsigned machine, char buf[32])
{
	switch (machine) {
	case EM_X86_64:
		return "x86_64";
	case EM_386:
		return "32-bit x86";
	case EM_AARCH64:
		return "arm64";
	case EM_ARM:
		return "32-bit ARM";
	case EM_RISCV:
		return "RISC-V";
	default:
		(void)snprintf(buf, 32, "ELF machine %u", machine);
		return buf;
	}
}

static int cut_short(const char *path, uint64_t needs, uint64_t size, struct mvm_error *err)
{
	return error_set(err, EINVAL, "--kernel: %s: cut short: %llu bytes belong to it, %llu are there: copy it again",
			 path, (unsigned long long)needs, (unsigned long long)size);
}

static int probe_elf(const char *path, int fd, const Elf64_Ehdr *ehdr, uint64_t size, uint64_t *ret_needs,
		     struct mvm_error *err)
{
	Elf64_Phdr phdrs[PHDRS_MAX];
	uint64_t needs = 0, end, mem_end, table;
	char buf[32];

	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64 || ehdr->e_machine != HOST_ARCH_ELF_MACHINE)
		return error_set(err, EINVAL,
				 "--kernel: %s: a kernel for %s, and this machine is " HOST_ARCH_NAME
				 ": give one built for " HOST_ARCH_NAME,
				 path, machine_name(ehdr->e_machine, buf));
	if (ehdr->e_type != ET_EXEC && ehdr->e_type != ET_DYN)
		return error_set(err, EINVAL, "--kernel: %s: an ELF file that is no program: give a vmlinux", path);
	if (!ehdr->e_phnum || ehdr->e_phnum > PHDRS_MAX || ehdr->e_phentsize != sizeof(Elf64_Phdr))
		return error_set(err, EINVAL,
				 "--kernel: %s: an ELF file without a kernel's program headers: give a vmlinux", path);
	table = ehdr->e_phnum * sizeof(Elf64_Phdr);
	if (ehdr->e_phoff > size || size - ehdr->e_phoff < table)
		return cut_short(path, ehdr->e_phoff + table, size, err);
	if (pread(fd, phdrs, table, (off_t)ehdr->e_phoff) != (ssize_t)table)
		return error_set(err, EIO, "--kernel: %s: its program headers cannot be read", path);
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		if (phdrs[i].p_type != PT_LOAD)
			continue;
		if (__builtin_add_overflow(phdrs[i].p_offset, phdrs[i].p_filesz, &end) || end > size)
			return cut_short(path, end, size, err);
		if (__builtin_add_overflow(phdrs[i].p_paddr, phdrs[i].p_memsz, &mem_end))
			return error_set(err, EINVAL, "--kernel: %s: damaged: a segment wraps around memory's end",
					 path);
		if (mem_end > needs)
			needs = mem_end;
	}
	if (!needs)
		return error_set(err, EINVAL, "--kernel: %s: an ELF file with nothing to load: give a vmlinux", path);
	*ret_needs = needs;
	return 0;
}

/* Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header". */
static int probe_bzimage(const char *path, const uint8_t *head, uint64_t size, uint64_t *ret_needs,
			 struct mvm_error *err)
{
	uint64_t setup_sects = head[0x1f1] ? head[0x1f1] : 4, whole;
	uint32_t syssize, init_size;
	uint16_t protocol;

	memcpy(&syssize, head + 0x1f4, sizeof(syssize));
	memcpy(&init_size, head + 0x260, sizeof(init_size));
	memcpy(&protocol, head + 0x206, sizeof(protocol));
	whole = (setup_sects + 1) * 512 + (uint64_t)syssize * 16;
	if (whole > size)
		return cut_short(path, whole, size, err);
	/* init_size (protocol 2.10 and later) is what it takes from 16 MiB on, where it likes to be */
	*ret_needs = (16ULL << 20) + (protocol >= 0x20a ? init_size : whole * 4);
	return 0;
}

int image_probe_kernel(const char *path, int fd, uint64_t size, uint64_t *ret_needs, struct mvm_error *err)
{
	uint8_t head[1024] = { 0 };
	Elf64_Ehdr ehdr;
	char found[64];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	if (n < 0)
		return error_set(err, errno, "--kernel: %s: cannot be read: %s", path, strerror(errno));
	if (n >= (ssize_t)sizeof(ehdr) && !memcmp(head, ELFMAG, SELFMAG)) {
		memcpy(&ehdr, head, sizeof(ehdr));
		return probe_elf(path, fd, &ehdr, size, ret_needs, err);
	}
	if (n >= 0x264 && HOST_ARCH_ELF_MACHINE == EM_X86_64 && !memcmp(head + 0x202, "HdrS", 4))
		return probe_bzimage(path, head, size, ret_needs, err);
	return error_set(err, EINVAL, "--kernel: %s: no vmlinux or bzImage for " HOST_ARCH_NAME ": it begins with %s",
			 path, n ? image_describe(head, (size_t)n, found, sizeof(found)) : "nothing: it is empty");
}

int image_open_kernel(const char *path, struct image_file *ret_file, uint64_t *ret_needs, struct mvm_error *err)
{
	struct image_file file = { .fd = -1 };
	int r = image_open("--kernel", path, O_RDONLY, &file, err);

	if (r < 0)
		return r;
	r = image_probe_kernel(path, file.fd, file.size, ret_needs, err);
	if (r < 0)
		(void)close(file.fd);
	else
		*ret_file = file;
	return r;
}

#define OVERFLOW_UID 65534U /* in a user namespace: all that have no number there */

/* Of a file system that is somebody else's (FUSE, NFS, 9p), owners and modes may be anything, and what is read twice may differ. */
static bool is_local(int fd)
{
	static const uint32_t local[] = {
		EXT4_SUPER_MAGIC,      XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,    F2FS_SUPER_MAGIC,
		OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,     EROFS_SUPER_MAGIC_V1, SQUASHFS_MAGIC,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		if ((uint32_t)fs.f_type == local[i])
			return true;
	return false;
}

bool image_kernel_share(int fd)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_uid == 0 || (st.st_uid == geteuid() && st.st_uid != OVERFLOW_UID)) &&
	       !(st.st_mode & (S_IWGRP | S_IWOTH)) && is_local(fd) && fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* A bzImage's banner: header field kernel_version, an offset from 0x200. */
static char *bzimage_banner(const uint8_t *map, size_t size)
{
	uint16_t offset;
	char *banner;

	if (size < 0x264 || memcmp(map + 0x202, "HdrS", 4) != 0)
		return NULL;
	memcpy(&offset, map + 0x20e, sizeof(offset));
	if (!offset || (size_t)offset + 0x200 >= size)
		return NULL;
	offset = (uint16_t)(offset + 0x200);
	if (asprintf(&banner, "Linux version %.*s",
		     (int)strnlen((const char *)map + offset, size - offset < BANNER_MAX ? size - offset : BANNER_MAX),
		     (const char *)map + offset) < 0)
		return NULL;
	return banner;
}

int mvm_kernel_version(const char *path, char **ret_banner, struct mvm_error *err)
{
	static const char begins[] = "Linux version ";
	struct image_file file = { .fd = -1 };
	_cleanup_fd_ int fd = -1;
	const uint8_t *map, *at, *from;
	char *banner = NULL;
	int r = image_open("--kernel", path, O_RDONLY, &file, err);

	if (r < 0)
		return r;
	fd = file.fd;
	map = file.size ? mmap(NULL, file.size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	if (map == MAP_FAILED)
		return error_set(err, EIO, "--kernel: %s: cannot be read", path);
	banner = bzimage_banner(map, file.size);
	/* linux_banner is the occurrence that a release number follows; others are format strings. */
	for (from = map; !banner; from = at + 1) {
		at = memmem(from, file.size - (size_t)(from - map), begins, sizeof(begins) - 1);
		if (!at)
			break;
		if (file.size - (size_t)(at - map) > BANNER_MAX && at[sizeof(begins) - 1] >= '0' &&
		    at[sizeof(begins) - 1] <= '9')
			banner = strndup((const char *)at, BANNER_MAX); /* cut at its line below */
	}
	(void)munmap((void *)(uintptr_t)map, file.size);
	if (!banner)
		return error_set(err, ENOENT, "--kernel: %s: no Linux version inside", path);
	banner[strcspn(banner, "\n")] = '\0';
	text_harmless(banner);
	*ret_banner = banner;
	return 0;
}
