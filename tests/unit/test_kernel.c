/* The kernel loader: what is a kernel of this machine, what is not, and that nothing lands outside its segments. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot.h"
#include "guestmem.h"
#include "layout.h"

#define MIB      (1ULL << 20)
#define MEM      (64 * MIB)
#define SEG_FILE 0x1000U
#define SEG_SIZE 0x2000U

struct image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	uint8_t pad[SEG_FILE - sizeof(Elf64_Ehdr) - 2 * sizeof(Elf64_Phdr)];
	uint8_t text[SEG_SIZE];
};

_Static_assert(sizeof(struct image) == SEG_FILE + SEG_SIZE, "layout");

static void good_elf(struct image *im)
{
	memset(im, 0, sizeof(*im));
	memcpy(im->eh.e_ident, ELFMAG, SELFMAG);
	im->eh.e_ident[EI_CLASS] = ELFCLASS64;
	im->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	im->eh.e_machine = EM_X86_64;
	im->eh.e_entry = 16 * MIB;
	im->eh.e_phoff = offsetof(struct image, ph);
	im->eh.e_phentsize = sizeof(Elf64_Phdr);
	im->eh.e_phnum = 2;
	im->ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
				  .p_offset = SEG_FILE,
				  .p_paddr = 16 * MIB,
				  .p_filesz = SEG_SIZE,
				  .p_memsz = 2 * SEG_SIZE };
	im->ph[1].p_type = PT_NOTE;
	memset(im->text, 0xcc, sizeof(im->text));
}

static int load_so(const void *bytes, size_t len, bool mapped, struct boot_kernel *ret, struct guestmem *gm)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	int err;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	err = boot_load_kernel(gm, fd, len, mapped, ret);
	(void)close(fd);
	return err;
}

static int load(const void *bytes, size_t len, struct boot_kernel *ret, struct guestmem *gm)
{
	return load_so(bytes, len, false, ret, gm);
}

static int setup(void **state)
{
	struct guestmem *gm;

	assert_int_equal(guestmem_new(MEM, X86_HOLE_START, X86_HOLE_END, &gm), 0);
	*state = gm;
	return 0;
}

static int teardown(void **state)
{
	guestmem_free(*state);
	return 0;
}

static void test_good_elf(void **state)
{
	struct boot_kernel k;
	struct image im;
	uint8_t byte;

	good_elf(&im);
	assert_int_equal(load(&im, sizeof(im), &k, *state), 0);
	assert_int_equal(k.entry, 16 * MIB);
	assert_int_equal(k.end, 16 * MIB + 2 * SEG_SIZE);
	assert_int_equal(guestmem_read(*state, 16 * MIB + SEG_SIZE - 1, &byte, 1), 0);
	assert_int_equal(byte, 0xcc);
	assert_int_equal(guestmem_read(*state, 16 * MIB + SEG_SIZE, &byte, 1), 0);
	assert_int_equal(byte, 0);
}

/* Pages of the page cache: whether the kernel's file lies behind an address of the guest's. */
static bool is_mapped(struct guestmem *gm, gpa_t gpa)
{
	char line[512];
	void *hva;
	bool found = false;
	FILE *maps = fopen("/proc/self/maps", "re");

	assert_non_null(maps);
	assert_int_equal(guestmem_slice(gm, gpa, 1, &hva), 0);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long long start, end;

		if (sscanf(line, "%llx-%llx", &start, &end) == 2 && (uintptr_t)hva >= start && (uintptr_t)hva < end)
			found = strstr(line, "memfd:kernel") != NULL;
	}
	(void)fclose(maps);
	return found;
}

/* Mapped is what is whole pages of segments that are not written; all of it reads as if it had been copied. */
static void test_mapped(void **state)
{
	static const struct {
		const char *name;
		uint32_t flags;
		unsigned file, memory; /* offsets of the segment, in the file and in memory */
		unsigned len;
		bool mapped;
	} cases[] = {
		{ "text", PF_R | PF_X, SEG_FILE, 0, SEG_SIZE, true },
		{ "text and a bit", PF_R | PF_X, SEG_FILE, 0, SEG_SIZE - 4095, true },
		{ "less than a page", PF_R | PF_X, SEG_FILE, 0, 4095, false },
		{ "data", PF_R | PF_W, SEG_FILE, 0, SEG_SIZE, false },
		{ "text in the middle of a file's page", PF_R | PF_X, SEG_FILE + 16, 0, SEG_SIZE - 16, false },
		{ "text up to the end of memory", PF_R | PF_X, SEG_FILE, MEM - SEG_SIZE - 16 * MIB, SEG_SIZE, true },
		{ "text in the middle of a page", PF_R | PF_X, SEG_FILE, 16, SEG_SIZE, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		gpa_t at = 16 * MIB + cases[i].memory;
		uint8_t got[SEG_SIZE], want[SEG_SIZE] = { 0 };
		struct boot_kernel k;
		struct guestmem *gm;
		struct image im;

		good_elf(&im);
		for (unsigned b = 0; b < SEG_SIZE; b++)
			im.text[b] = (uint8_t)(b * 7 + b / 256);
		im.eh.e_entry = at;
		im.ph[0].p_flags = cases[i].flags;
		im.ph[0].p_offset = cases[i].file;
		im.ph[0].p_paddr = at;
		im.ph[0].p_filesz = cases[i].len;
		im.ph[0].p_memsz = MEM - at < im.ph[0].p_memsz ? MEM - at : im.ph[0].p_memsz;
		assert_int_equal(guestmem_new(MEM, X86_HOLE_START, X86_HOLE_END, &gm), 0);
		assert_int_equal(load_so(&im, sizeof(im), true, &k, gm), 0);
		if (is_mapped(gm, at) != cases[i].mapped)
			fail_msg("%s: mapped: %d", cases[i].name, !cases[i].mapped);
		memcpy(want, (uint8_t *)&im + cases[i].file, cases[i].len);
		assert_int_equal(guestmem_read(gm, at, got, SEG_SIZE), 0);
		assert_memory_equal(got, want, SEG_SIZE);
		guestmem_free(gm);
	}
}

#define ELVES(X)                                                                                                       \
	X("arm64", -ENOEXEC, im.eh.e_machine = EM_AARCH64)                                                             \
	X("32-bit", -ENOEXEC, im.eh.e_ident[EI_CLASS] = ELFCLASS32)                                                    \
	X("big-endian", -ENOEXEC, im.eh.e_ident[EI_DATA] = ELFDATA2MSB)                                                \
	X("no segments", -ENOEXEC, im.eh.e_phnum = 0)                                                                  \
	X("too many segments", -ENOEXEC, im.eh.e_phnum = 65)                                                           \
	X("odd header size", -ENOEXEC, im.eh.e_phentsize = 8)                                                          \
	X("headers beyond the file", -ENOEXEC, im.eh.e_phoff = 1 << 20)                                                \
	X("headers at a negative offset", -ENOEXEC, im.eh.e_phoff = UINT64_MAX)                                        \
	X("segment beyond the file", -ENOEXEC, im.ph[0].p_offset = SEG_FILE + 1)                                       \
	X("segment offset wraps", -ENOEXEC, im.ph[0].p_offset = UINT64_MAX)                                            \
	X("file part larger than memory part", -ENOEXEC, im.ph[0].p_memsz = 1)                                         \
	X("address wraps", -ENOEXEC, im.ph[0].p_paddr = UINT64_MAX - 4)                                                \
	X("over the boot tables", -ENOEXEC, im.ph[0].p_paddr = 0x7000)                                                 \
	X("outside of memory", -EFAULT, im.ph[0].p_paddr = MEM - SEG_SIZE + 1)                                         \
	X("in the hole", -EFAULT, im.ph[0].p_paddr = X86_HOLE_START)                                                   \
	X("entry elsewhere", -ENOEXEC, im.eh.e_entry = 17 * MIB)                                                       \
	X("entry in the zeroes", -ENOEXEC, im.eh.e_entry = 16 * MIB + SEG_SIZE)

#define REFUSE(name, want, change)                                                                                     \
	{                                                                                                              \
		struct boot_kernel k;                                                                                  \
		struct image im;                                                                                       \
		int got;                                                                                               \
		good_elf(&im);                                                                                         \
		(void)(change);                                                                                        \
		for (unsigned mapped = 0; mapped < 2; mapped++) {                                                      \
			got = load_so(&im, sizeof(im), mapped, &k, *state);                                            \
			if (got != (want))                                                                             \
				fail_msg("%s: %d, wanted %d (mapped: %u)", name, got, want, mapped);                   \
		}                                                                                                      \
	}

static void test_bad_elves(void **state)
{
	ELVES(REFUSE)
}

static void test_cut_short(void **state)
{
	struct boot_kernel k;
	struct image im;

	good_elf(&im);
	for (size_t len = 0; len < sizeof(im); len += 61)
		assert_int_equal(load(&im, len, &k, *state), -ENOEXEC);
}

struct bz {
	uint8_t boot[0x1f1];
	struct setup_header header;
	uint8_t rest[5 * 512 - 0x1f1 - sizeof(struct setup_header)];
	uint8_t payload[4096];
};

static void good_bz(struct bz *bz)
{
	memset(bz, 0, sizeof(*bz));
	bz->header.setup_sects = 4;
	bz->header.boot_flag = 0xaa55;
	bz->header.header = 0x53726448;
	bz->header.version = 0x20f;
	bz->header.loadflags = LOADED_HIGH;
	bz->header.xloadflags = XLF_KERNEL_64;
	bz->header.syssize = sizeof(bz->payload) / 16;
	bz->header.pref_address = 16 * MIB;
	bz->header.init_size = 4 * MIB;
	memset(bz->payload, 0x90, sizeof(bz->payload));
}

static void test_bzimage(void **state)
{
	struct boot_kernel k;
	struct bz bz;
	uint8_t byte = 0;

	good_bz(&bz);
	assert_int_equal(load(&bz, sizeof(bz), &k, *state), 0);
	assert_int_equal(k.entry, 16 * MIB + 0x200);
	assert_int_equal(k.end, 20 * MIB);
	assert_int_equal(guestmem_read(*state, 16 * MIB + 4095, &byte, 1), 0);
	assert_int_equal(byte, 0x90);
	assert_int_equal(load(&bz, sizeof(bz) - 17, &k, *state), -ENOEXEC);
	bz.header.init_size = 0xffffffff;
	assert_int_equal(load(&bz, sizeof(bz), &k, *state), -ENOMEM);
	good_bz(&bz);
	bz.header.xloadflags = 0;
	assert_int_equal(load(&bz, sizeof(bz), &k, *state), -ENOEXEC);
	good_bz(&bz);
	bz.header.setup_sects = 255;
	assert_int_equal(load(&bz, sizeof(bz), &k, *state), -ENOEXEC);
	good_bz(&bz);
	bz.header.init_size = 16; /* less than its own payload */
	assert_int_equal(load(&bz, sizeof(bz), &k, *state), -ENOEXEC);
	memset(&bz, 'x', sizeof(bz));
	assert_int_equal(load(&bz, sizeof(bz), &k, *state), -ENOEXEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good_elf, setup, teardown),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test_setup_teardown(test_bad_elves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bzimage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
