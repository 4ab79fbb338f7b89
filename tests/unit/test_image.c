/* Images and kernels: recognised, found whole, locked; the command line that goes with them. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "jail/io_max.h"
#include "lib/cmdline.h"
#include "lib/host.h"
#include "lib/image.h"
#include "lib/spec.h"
#include "lib/vm_files.h"
#include "mvm/vmm_config.h"

static char folder[] = "/tmp/test_image.XXXXXX";

static void write_file(const char *name, const void *bytes, size_t len)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	(void)close(fd);
}

static void put32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

struct head {
	uint8_t bytes[IMAGE_HEAD];
};

static struct head ext_head(uint32_t blocks, uint32_t blocks_high, uint32_t log_size, uint32_t incompat)
{
	struct head head = { 0 };

	put32(head.bytes + 1024 + 0x4, blocks);
	put32(head.bytes + 1024 + 0x18, log_size);
	head.bytes[1024 + 0x38] = 0x53;
	head.bytes[1024 + 0x39] = 0xef;
	put32(head.bytes + 1024 + 0x60, incompat);
	put32(head.bytes + 1024 + 0x150, blocks_high);
	return head;
}

static struct head erofs_head(uint8_t bits, uint32_t blocks)
{
	struct head head = { 0 };

	put32(head.bytes + 1024, 0xe0f5e1e2);
	head.bytes[1024 + 12] = bits;
	put32(head.bytes + 1024 + 36, blocks);
	return head;
}

static struct head squashfs_head(uint32_t used, uint32_t used_high)
{
	struct head head = { 0 };

	memcpy(head.bytes, "hsqs", 4);
	put32(head.bytes + 40, used);
	put32(head.bytes + 44, used_high);
	return head;
}

static struct head text_head(size_t at, const char *text, size_t len)
{
	struct head head = { 0 };

	memset(head.bytes, 0xa5, sizeof(head.bytes));
	memcpy(head.bytes + at, text, len);
	return head;
}

static void test_probe(void **state)
{
	const struct {
		const char *name;
		struct head head;
		uint64_t size;
		bool rw;
		const char *type, *says; /* one of them */
	} cases[] = {
		{ "ext", ext_head(1024, 0, 0, 0), 1 << 20, false, "ext4", NULL },
		{ "ext to write", ext_head(1024, 0, 0, 0), 1 << 20, true, "ext4", NULL },
		{ "ext truncated", ext_head(1025, 0, 0, 0), 1 << 20, false, NULL, "truncated" },
		{ "ext 4k blocks", ext_head(256, 0, 2, 0), 1 << 20, false, "ext4", NULL },
		{ "ext high blocks", ext_head(1024, 1, 0, 0x80), 1 << 20, false, NULL, "truncated" },
		{ "ext high blocks not in use", ext_head(1024, 1, 0, 0), 1 << 20, false, "ext4", NULL },
		{ "ext size overflows", ext_head(UINT32_MAX, UINT32_MAX, 6, 0x80), 1 << 20, false, NULL, "truncated" },
		{ "ext absurd block size", ext_head(1, 0, 60, 0), 1 << 20, false, NULL, "block size" },
		{ "ext to be recovered", ext_head(1024, 0, 0, 4), 1 << 20, false, NULL, "e2fsck" },
		{ "ext to be recovered, writable", ext_head(1024, 0, 0, 4), 1 << 20, true, "ext4", NULL },
		{ "erofs", erofs_head(12, 16), 65536, false, "erofs", NULL },
		{ "erofs truncated", erofs_head(12, 17), 65536, false, NULL, "truncated" },
		{ "erofs absurd", erofs_head(200, 17), 65536, false, NULL, "truncated" },
		{ "erofs to write", erofs_head(12, 16), 65536, true, NULL, "read-only by nature" },
		{ "squashfs", squashfs_head(4096, 0), 4096, false, "squashfs", NULL },
		{ "squashfs truncated", squashfs_head(4097, 0), 4096, false, NULL, "truncated" },
		{ "squashfs beyond 4 GiB", squashfs_head(0, 1), 4096, false, NULL, "truncated" },
		{ "tar", text_head(257, "ustar", 5), 10240, false, NULL, "tar2sqfs app.img < some.img" },
		{ "gzip", text_head(0, "\x1f\x8b", 2), 10240, false, NULL, "zcat some.img" },
		{ "qcow2", text_head(0, "QFI\xfb", 4), 10240, false, NULL, "qemu-img convert" },
		{ "partitions", text_head(510, "\x55\xaa", 2), 10240, false, NULL, "partitions" },
		{ "noise", text_head(0, "\x01\x02", 2), 10240, false, NULL, "01 02 a5 a5" },
		{ "zeros", { { 0 } }, 10240, false, NULL, "zero bytes" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mvm_error err = { 0 };
		const char *type = NULL;
		int r = image_probe("some.img", cases[i].head.bytes, IMAGE_HEAD, cases[i].size, cases[i].rw, &type,
				    &err);

		if (cases[i].type ? r < 0 || strcmp(type, cases[i].type) != 0
				  : r >= 0 || !strstr(err.text, cases[i].says))
			fail_msg("%s: %d, %s", cases[i].name, r, err.text);
	}
}

static void test_probe_short(void **state)
{
	struct head head = ext_head(1, 0, 0, 0);
	const char *type;

	(void)state;
	/* A file that ends within the superblock must not be read beyond its end. */
	for (size_t len = 0; len < IMAGE_HEAD; len += 64) {
		uint8_t *exact = malloc(len + 1);

		memcpy(exact, head.bytes, len);
		assert_int_equal(image_probe("x", exact, len, len, false, &type, NULL), -EINVAL);
		free(exact);
	}
}

static void test_rootfs_files(void **state)
{
	struct image_file file = { .fd = -1 };
	struct mvm_error err;
	const char *type;
	struct head head = ext_head(2, 0, 0, 0);
	uint8_t odd[IMAGE_HEAD + 100] = { 0 };

	(void)state;
	assert_int_equal(image_open_rootfs("missing", false, &file, &type, &err), -ENOENT);
	write_file("empty", "", 0);
	assert_int_equal(image_open_rootfs("empty", false, &file, &type, &err), -EINVAL);
	assert_non_null(strstr(err.text, "empty"));
	assert_int_equal(mkdir("tree", 0700), 0);
	assert_int_equal(image_open_rootfs("tree", false, &file, &type, &err), -EISDIR);
	assert_non_null(strstr(err.text, "mke2fs -q -t ext4 -d tree"));
	assert_int_equal(image_open_rootfs("tree", true, &file, &type, &err), -EISDIR);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(image_open_rootfs("fifo", false, &file, &type, &err), -EINVAL); /* and does not wait */
	memcpy(odd, head.bytes, sizeof(head.bytes));
	write_file("odd", odd, sizeof(odd));
	assert_int_equal(image_open_rootfs("odd", false, &file, &type, &err), -EINVAL);
	assert_non_null(strstr(err.text, "truncate -s %512"));
	write_file("odd.gz", "\x1f\x8bxx", 4);
	assert_int_equal(image_open_rootfs("odd.gz", false, &file, &type, &err), -EINVAL);
	assert_non_null(strstr(err.text, "gzip"));
	write_file("good", head.bytes, 2048);
	assert_int_equal(image_open_rootfs("good", false, &file, &type, &err), 0);
	assert_string_equal(type, "ext4");
	assert_int_equal(file.size, 2048);
	assert_int_equal(fcntl(file.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
	assert_int_equal(fcntl(file.fd, F_GETFD), FD_CLOEXEC);
	(void)close(file.fd);
}

static void test_locks(void **state)
{
	struct image_file first, second, third;
	struct mvm_error err;
	uint8_t sector[512] = { 0 };

	(void)state;
	write_file("disk", sector, sizeof(sector));
	assert_int_equal(image_open_disk("--disk", "disk", false, &first, &err), 0);
	assert_int_equal(image_open_disk("--disk", "disk", false, &second, &err), 0); /* readers share */
	assert_int_equal(image_open_disk("--disk", "disk", true, &third, &err), -EBUSY);
	assert_non_null(strstr(err.text, "disk: in use by another VM"));
	(void)close(first.fd);
	assert_int_equal(image_open_disk("--disk", "disk", true, &third, &err), -EBUSY);
	(void)close(second.fd);
	assert_int_equal(image_open_disk("--disk", "disk", true, &third, &err), 0);
	assert_int_equal(image_open_disk("--disk", "disk", false, &first, &err), -EBUSY);
	assert_int_equal(image_open_disk("--disk", "disk", true, &first, &err), -EBUSY);
	/* An ext image in use looks as if it had not been unmounted: the lock must be what is reported. */
	{
		struct head used = ext_head(2, 0, 0, 4);
		const char *type;

		write_file("used", used.bytes, sizeof(used.bytes));
		assert_int_equal(image_open_rootfs("used", true, &first, &type, &err), 0);
		assert_int_equal(image_open_rootfs("used", false, &second, &type, &err), -EBUSY);
		(void)close(first.fd);
		assert_int_equal(image_open_rootfs("used", false, &second, &type, &err), -EINVAL);
	}
	/* The lock goes with the open file, not with the process: a copy keeps it. */
	first.fd = dup(third.fd);
	(void)close(third.fd);
	assert_int_equal(image_open_disk("--disk", "disk", false, &second, &err), -EBUSY);
	(void)close(first.fd);
	assert_int_equal(image_open_disk("--disk", "disk", false, &second, &err), 0);
	(void)close(second.fd);
}

struct kernel_file {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr[2];
	char body[256];
};

static struct kernel_file good_kernel(void)
{
	struct kernel_file k = {
		.ehdr = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			  .e_type = ET_EXEC,
			  .e_machine = EM_X86_64,
			  .e_phoff = sizeof(Elf64_Ehdr),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = 2 },
		.phdr = { { .p_type = PT_LOAD, .p_offset = 0, .p_filesz = 256, .p_memsz = 4096, .p_paddr = 0x1000000 },
			  { .p_type = PT_NOTE, .p_offset = UINT64_MAX, .p_filesz = UINT64_MAX } },
		.body = "xxLinux version %s Linux version 6.12.1 (x@y) #1\n",
	};

	return k;
}

static void expect_kernel(const char *name, const struct kernel_file *k, size_t len, const char *says)
{
	struct image_file file = { .fd = -1 };
	struct mvm_error err = { 0 };
	uint64_t needs = 0;
	int r;

	write_file("kernel", k, len);
	r = image_open_kernel("kernel", &file, &needs, &err);
	if (says ? r >= 0 || !strstr(err.text, says) : r < 0 || needs != 0x1001000)
		fail_msg("%s: %d, %s", name, r, err.text);
	if (r == 0)
		(void)close(file.fd);
}

static void test_kernels(void **state)
{
	struct kernel_file k = good_kernel();

	(void)state;
	expect_kernel("good", &k, sizeof(k), NULL);
	expect_kernel("cut in a segment", &k, 255, "cut short");
	expect_kernel("cut in the headers", &k, sizeof(k.ehdr) + 20, "cut short");
	expect_kernel("empty", &k, 0, "empty");
	k.ehdr.e_machine = EM_AARCH64;
	expect_kernel("arm64", &k, sizeof(k), "arm64");
	k.ehdr.e_machine = 4711;
	expect_kernel("odd machine", &k, sizeof(k), "ELF machine 4711");
	k = good_kernel();
	k.ehdr.e_phnum = 0;
	expect_kernel("no segments", &k, sizeof(k), "program headers");
	k = good_kernel();
	k.ehdr.e_phoff = UINT64_MAX - 8;
	expect_kernel("headers beyond the end", &k, sizeof(k), "cut short");
	k = good_kernel();
	k.phdr[0].p_offset = UINT64_MAX - 8;
	expect_kernel("segment wraps the file", &k, sizeof(k), "cut short");
	k = good_kernel();
	k.phdr[0].p_paddr = UINT64_MAX - 8;
	expect_kernel("segment wraps memory", &k, sizeof(k), "wraps");
	k = good_kernel();
	k.phdr[0].p_type = PT_NULL;
	expect_kernel("nothing to load", &k, sizeof(k), "nothing to load");
	memset(&k, 'x', sizeof(k));
	expect_kernel("text", &k, sizeof(k), "78 78 78");
	memset(&k, 0, sizeof(k));
	memcpy(&k, "\x1f\x8b", 2);
	expect_kernel("compressed", &k, sizeof(k), "gzip");
}

static void test_kernel_share(void **state)
{
	static const struct {
		mode_t mode;
		bool may;
	} modes[] = { { 0444, true }, { 0755, true }, { 0664, false }, { 0646, false } };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd, disk;

	(void)state;
	write_file("kernel", "a kernel", 8);
	fd = open("kernel", O_RDONLY | O_CLOEXEC);
	disk = open("kernel", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && disk >= 0);
	assert_int_equal(fcntl(disk, F_OFD_SETLK, &lock), 0);
	assert_false(image_kernel_share(fd)); /* a VM writes to it */
	lock.l_type = F_UNLCK;
	assert_int_equal(fcntl(disk, F_OFD_SETLK, &lock), 0);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod("kernel", modes[i].mode), 0);
		assert_int_equal(image_kernel_share(fd), modes[i].may);
	}
	lock.l_type = F_WRLCK;
	assert_int_equal(fcntl(disk, F_OFD_SETLK, &lock), -1); /* now nobody does */
	(void)close(disk);
	assert_int_equal(chmod("kernel", 0644), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown("kernel", 1000, 1000), 0);
		assert_false(image_kernel_share(fd)); /* somebody else's */
	}
	assert_int_equal(unlink("kernel"), 0);
	(void)close(fd);
	fd = open("/proc/version", O_RDONLY | O_CLOEXEC); /* root's, but of no local file system */
	assert_true(fd >= 0);
	assert_false(image_kernel_share(fd));
	(void)close(fd);
}

static void test_bzimage(void **state)
{
	uint8_t image[4096] = { 0 };
	struct image_file file = { .fd = -1 };
	struct mvm_error err;
	uint64_t needs;
	char *banner;

	(void)state;
	image[0x1f1] = 1; /* two sectors of setup */
	put32(image + 0x1f4, (4096 - 1024) / 16);
	memcpy(image + 0x202, "HdrS", 4);
	put32(image + 0x206, 0x20f);
	put32(image + 0x260, 5 << 20);
	image[0x20e] = 0x80;
	memcpy(image + 0x280, "6.1.0 (a@b)", 12);
	write_file("bz", image, sizeof(image));
	assert_int_equal(image_open_kernel("bz", &file, &needs, &err), 0);
	assert_int_equal(needs, 21 << 20);
	(void)close(file.fd);
	assert_int_equal(mvm_kernel_version("bz", &banner, &err), 0);
	assert_string_equal(banner, "Linux version 6.1.0 (a@b)");
	free(banner);
	write_file("bz", image, sizeof(image) - 1);
	assert_int_equal(image_open_kernel("bz", &file, &needs, &err), -EINVAL);
	assert_non_null(strstr(err.text, "cut short"));
	/* An offset to the text that points out of the file. */
	image[0x20f] = 0xff;
	write_file("bz", image, sizeof(image));
	assert_int_equal(mvm_kernel_version("bz", &banner, &err), -ENOENT);
}

static void test_kernel_version(void **state)
{
	struct {
		struct kernel_file k;
		char rest[512];
	} file = { .k = good_kernel() };
	struct mvm_error err;
	char *banner;

	(void)state;
	write_file("kernel", &file, sizeof(file));
	assert_int_equal(mvm_kernel_version("kernel", &banner, &err), 0);
	assert_string_equal(banner, "Linux version 6.12.1 (x@y) #1");
	free(banner);
	memset(file.k.body, 0, sizeof(file.k.body));
	write_file("kernel", &file, sizeof(file));
	assert_int_equal(mvm_kernel_version("kernel", &banner, &err), -ENOENT);
	write_file("kernel", "", 0);
	assert_true(mvm_kernel_version("kernel", &banner, &err) < 0);
}

static void test_initrd(void **state)
{
	struct image_file file = { .fd = -1 };
	struct mvm_error err;
	uint64_t needs;

	(void)state;
	write_file("cpio", "070701rest", 10);
	assert_int_equal(image_open_initrd("cpio", &file, &needs, &err), 0);
	assert_int_equal(needs, 20);
	(void)close(file.fd);
	write_file("cpio", "\x1f\x8b..", 4);
	assert_int_equal(image_open_initrd("cpio", &file, &needs, &err), 0);
	assert_int_equal(needs, 4);
	(void)close(file.fd);
	write_file("cpio", "", 0);
	assert_int_equal(image_open_initrd("cpio", &file, &needs, &err), -EINVAL);
}

static void test_cmdline(void **state)
{
	char line[VMM_CMDLINE_MAX], extra[VMM_CMDLINE_MAX + 1];
	struct mvm_error err;
	size_t own;

	(void)state;
	assert_int_equal(cmdline_build(false, false, NULL, line, &err), 0);
	assert_non_null(strstr(line, "loglevel=1"));
	assert_null(strstr(line, "mvm.pvm"));
	own = strlen(line);
	assert_int_equal(cmdline_build(false, true, "a=b", line, &err), 0);
	assert_non_null(strstr(line, "mvm.pvm"));
	assert_string_equal(line + strlen(line) - 4, " a=b");
	assert_int_equal(cmdline_build(true, false, NULL, line, &err), 0);
	assert_null(strstr(line, "loglevel=1"));
	assert_non_null(strstr(line, "earlycon"));
	memset(extra, 'x', sizeof(extra));
	extra[VMM_CMDLINE_MAX - 2 - own] = '\0'; /* with the space between and the NUL it just fits */
	assert_int_equal(cmdline_build(false, false, extra, line, &err), 0);
	assert_int_equal(strlen(line), VMM_CMDLINE_MAX - 1);
	extra[VMM_CMDLINE_MAX - 2 - own] = 'x';
	extra[VMM_CMDLINE_MAX - 1 - own] = '\0';
	assert_int_equal(cmdline_build(false, false, extra, line, &err), -E2BIG);
	assert_non_null(strstr(err.text, "--cmdline"));
	assert_int_equal(cmdline_build(false, false, "a\nb", line, &err), -EINVAL);
}

static void test_host(void **state)
{
	struct mvm_error err;
	int fd = -1;

	(void)state;
	assert_int_equal(host_open_kvm("missing-kvm", &fd, &err), -ENOENT);
	assert_non_null(strstr(err.text, "missing-kvm: missing"));
	write_file("plain", "x", 1);
	assert_int_equal(host_open_kvm("plain", &fd, &err), -ENODEV);
	assert_non_null(strstr(err.text, "not KVM"));
	assert_int_equal(fd, -1);
	assert_int_equal(host_check_memory(1 << 20, &err), 0);
	assert_int_equal(host_check_memory(1ULL << 50, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "1048576g asked"));
}

static void test_cgroup_memory(void **state)
{
	struct mvm_error err;

	(void)state;
	assert_int_equal(mkdir("cg", 0700), 0);
	assert_int_equal(mkdir("cg/a", 0700), 0);
	assert_int_equal(mkdir("cg/a/b", 0700), 0);
	write_file("cgroup", "1:name=x:/y\n0::/a/b\n", 20);
	write_file("cg/a/b/memory.max", "max\n", 4);
	write_file("cg/a/memory.max", "1048576\n", 8);
	assert_int_equal(host_check_cgroup_memory("cg", "cgroup", 1 << 20, &err), 0);
	assert_int_equal(host_check_cgroup_memory("cg", "cgroup", (1 << 20) + 1, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "/a allows 1m"));
	write_file("cgroup", "0::/\n", 5);
	assert_int_equal(host_check_cgroup_memory("cg", "cgroup", 1ULL << 40, &err), 0);
	assert_int_equal(host_check_cgroup_memory("cg", "no-such", 1ULL << 40, &err), 0);
}

/* A folder of sysfs with a disk, 8:0, two parts of it, 8:1 and 8:2, and another disk, 259:7. */
static void make_sysfs(void)
{
	static const char *const folders[] = { "sys",
					       "sys/dev",
					       "sys/dev/block",
					       "sys/devices",
					       "sys/devices/sda",
					       "sys/devices/sda/sda1",
					       "sys/devices/sda/sda2",
					       "sys/devices/nvme0n1" };

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		assert_int_equal(mkdir(folders[i], 0700), 0);
	write_file("sys/devices/sda/dev", "8:0\n", 4);
	write_file("sys/devices/sda/sda1/partition", "1\n", 2);
	write_file("sys/devices/sda/sda2/partition", "2\n", 2);
	assert_int_equal(symlink("../../devices/sda", "sys/dev/block/8:0"), 0);
	assert_int_equal(symlink("../../devices/sda/sda1", "sys/dev/block/8:1"), 0);
	assert_int_equal(symlink("../../devices/sda/sda2", "sys/dev/block/8:2"), 0);
	assert_int_equal(symlink("../../devices/nvme0n1", "sys/dev/block/259:7"), 0);
}

/* Whole disks, each once, in the order of the VM's disks; what is on none is named, with what helps. */
static void test_devices(void **state)
{
	dev_t devices[VMM_DISKS_MAX], device = 77;
	struct mvm_spec *spec;
	struct vm_files files;
	struct mvm_error err;
	unsigned n = 0;

	(void)state;
	make_sysfs();
	assert_int_equal(mvm_spec_new(&spec), 0);
	assert_int_equal(mvm_spec_set(spec, "rootfs", "root.img", NULL), 0);
	vm_files_init(&files);
	files.rootfs.dev = makedev(8, 2);
	for (unsigned i = 0; i < SPEC_USER_DISKS; i++) {
		assert_int_equal(mvm_spec_set(spec, "disk", i ? "d.img" : "tmp/d.img", NULL), 0);
		files.disks[i].dev = makedev(i % 2 ? 8 : 259, i % 2 ? i % 3 : 7);
	}
	files.ndisks = SPEC_USER_DISKS;
	assert_int_equal(vm_files_devices(&files, spec, "sys", devices, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_true(devices[0] == makedev(8, 0) && devices[1] == makedev(259, 7));
	files.disks[0].dev = makedev(0, 36);
	assert_int_equal(vm_files_devices(&files, spec, "sys", devices, &n, &err), -ENOTBLK);
	assert_non_null(strstr(err.text, "--io-max: tmp/d.img: "));
	assert_non_null(strstr(err.text, "put it on ext4 or XFS, or use --blk-bps"));
	files.rootfs.dev = makedev(8, 9);
	assert_int_equal(vm_files_devices(&files, spec, "sys", devices, &n, &err), -ENOENT);
	assert_non_null(
		strstr(err.text, "--io-max: root.img: its block device 8:9 is not to be found in sys/dev/block"));
	assert_int_equal(n, 2);
	/* What no kernel writes. */
	write_file("sys/devices/sda/dev", "8\n", 2);
	assert_int_equal(io_max_disk("sys", makedev(8, 1), &device), -EPROTO);
	write_file("sys/devices/sda/dev", "8:x\n", 4);
	assert_int_equal(io_max_disk("sys", makedev(8, 1), &device), -EPROTO);
	write_file("sys/devices/sda/dev", "", 0);
	assert_int_equal(io_max_disk("sys", makedev(8, 1), &device), -EPROTO);
	assert_int_equal(unlink("sys/devices/sda/dev"), 0);
	assert_int_equal(io_max_disk("sys", makedev(8, 1), &device), -ENOENT);
	assert_int_equal(device, 77);
	assert_int_equal(io_max_disk("sys", makedev(8, 0), &device), 0);
	assert_int_equal(device, makedev(8, 0));
	mvm_spec_free(spec);
}

static int enter_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
	char command[64];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s", folder);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe),        cmocka_unit_test(test_probe_short),
		cmocka_unit_test(test_rootfs_files), cmocka_unit_test(test_locks),
		cmocka_unit_test(test_kernels),      cmocka_unit_test(test_kernel_share),
		cmocka_unit_test(test_bzimage),      cmocka_unit_test(test_kernel_version),
		cmocka_unit_test(test_initrd),       cmocka_unit_test(test_cmdline),
		cmocka_unit_test(test_host),         cmocka_unit_test(test_cgroup_memory),
		cmocka_unit_test(test_devices),
	};

	return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
