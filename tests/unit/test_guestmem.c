/* guestmem: every address and length a guest can name is either inside one region or -EFAULT. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guestmem.h"

#define MIB        (1ULL << 20)
#define HOLE_START (64 * MIB)
#define HOLE_END   (128 * MIB)

static int setup(void **state)
{
	struct guestmem *gm;

	/* 64 MiB below the hole, 16 MiB above it */
	assert_int_equal(guestmem_new(80 * MIB, HOLE_START, HOLE_END, &gm), 0);
	*state = gm;
	return 0;
}

static int teardown(void **state)
{
	guestmem_free(*state);
	return 0;
}

static void test_slices(void **state)
{
	static const struct {
		const char *name;
		gpa_t gpa;
		size_t len;
		int want;
	} cases[] = {
		{ "first byte", 0, 1, 0 },
		{ "whole low region", 0, HOLE_START, 0 },
		{ "one too many", 0, HOLE_START + 1, -EFAULT },
		{ "last low byte", HOLE_START - 1, 1, 0 },
		{ "into the hole", HOLE_START - 1, 2, -EFAULT },
		{ "the hole", HOLE_START, 1, -EFAULT },
		{ "last of the hole", HOLE_END - 1, 1, -EFAULT },
		{ "from the hole into RAM", HOLE_END - 1, 2, -EFAULT },
		{ "first high byte", HOLE_END, 1, 0 },
		{ "whole high region", HOLE_END, 16 * MIB, 0 },
		{ "past the end", HOLE_END + 16 * MIB, 1, -EFAULT },
		{ "across both regions", 0, HOLE_END + MIB, -EFAULT },
		{ "length wraps", HOLE_END, SIZE_MAX, -EFAULT },
		{ "address and length wrap", UINT64_MAX - 10, 100, -EFAULT },
		{ "highest address", UINT64_MAX, 1, -EFAULT },
		{ "nothing, inside", 5, 0, 0 },
		{ "nothing, outside", HOLE_START, 0, -EFAULT },
	};
	const struct guestmem *gm = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		void *hva = NULL;
		int got = guestmem_slice(gm, cases[i].gpa, cases[i].len, &hva);

		if (got != cases[i].want)
			fail_msg("%s: %d, wanted %d", cases[i].name, got, cases[i].want);
		if (got == 0)
			assert_non_null(hva);
		else
			assert_null(hva);
	}
}

static void test_bytes_come_back(void **state)
{
	const struct guestmem *gm = *state;
	char back[16] = { 0 };

	assert_int_equal(guestmem_write(gm, HOLE_END + 4096, "hello", 6), 0);
	assert_int_equal(guestmem_read(gm, HOLE_END + 4096, back, 6), 0);
	assert_string_equal(back, "hello");
	assert_int_equal(guestmem_read(gm, HOLE_START, back, 1), -EFAULT);
	assert_int_equal(guestmem_write(gm, HOLE_START - 3, "hello", 6), -EFAULT);
	assert_int_equal(guestmem_read(gm, HOLE_START - 3, back, 3), 0);
	assert_memory_equal(back, "\0\0\0", 3); /* a refused write wrote nothing */
}

/* A pointer that runs off either end of a region meets a guard page, not somebody else's memory. */
static void test_guards(void **state)
{
	const struct guestmem *gm = *state;

	for (unsigned i = 0; i < gm->nregions; i++) {
		const volatile uint8_t *outside[2] = { gm->regions[i].hva - 1,
						       gm->regions[i].hva + gm->regions[i].size };

		for (unsigned side = 0; side < 2; side++) {
			int status;
			pid_t pid = fork();

			if (pid == 0) {
				(void)signal(SIGSEGV, SIG_DFL);
				_exit(*outside[side]);
			}
			assert_true(pid > 0);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
		}
	}
}

/* proc(5): "dd" of VmFlags, for what lies at gpa */
static bool is_never_dumped(const struct guestmem *gm, gpa_t gpa)
{
	char line[512];
	void *hva;
	bool ours = false, never = false;
	FILE *maps = fopen("/proc/self/smaps", "re");

	assert_non_null(maps);
	assert_int_equal(guestmem_slice(gm, gpa, 1, &hva), 0);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long long start, end;

		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			ours = (uintptr_t)hva >= start && (uintptr_t)hva < end;
		if (ours && !strncmp(line, "VmFlags:", 8))
			never = strstr(line, " dd") != NULL;
	}
	(void)fclose(maps);
	return never;
}

/* A file's pages in the guest's memory: the guest's writes are its own. */
static void test_map(void **state)
{
	static const struct {
		const char *name;
		gpa_t gpa;
		size_t len;
		uint64_t offset;
		int want;
	} cases[] = {
		{ "not a page", MIB + 1, 4096, 0, -EINVAL },
		{ "not pages", MIB, 4095, 0, -EINVAL },
		{ "not a page of the file", MIB, 4096, 1, -EINVAL },
		{ "an offset beyond all", MIB, 4096, INT64_MAX - 4095, -EINVAL },
		{ "beyond memory", HOLE_START - 4096, 8192, 0, -EFAULT },
		{ "in the hole", HOLE_START, 4096, 0, -EFAULT },
		{ "wraps", HOLE_END, SIZE_MAX - 4095, 0, -EFAULT },
		{ "nothing", MIB, 0, 0, 0 },
		{ "beyond the file", MIB, 8192, 8192, -ENODATA },
		{ "all of it, to memory's end", HOLE_START - 12288, 12288, 0, 0 },
	};
	const struct guestmem *gm = *state;
	int fd = memfd_create("file", MFD_CLOEXEC);
	char page[4096], back[2];

	assert_true(fd >= 0);
	for (unsigned i = 0; i < 3; i++) {
		memset(page, 'a' + (int)i, sizeof(page));
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int got = guestmem_map(gm, cases[i].gpa, cases[i].len, fd, cases[i].offset);

		if (got != cases[i].want)
			fail_msg("%s: %d, wanted %d", cases[i].name, got, cases[i].want);
	}
	assert_int_equal(guestmem_write(gm, MIB - 4096, "before", 6), 0);
	assert_int_equal(guestmem_map(gm, MIB, 8192, fd, 4096), 0);
	assert_int_equal(guestmem_read(gm, MIB + 4095, back, 2), 0);
	assert_memory_equal(back, "bc", 2);
	assert_int_equal(guestmem_read(gm, MIB + 8191, back, 2), 0);
	assert_memory_equal(back, "c\0", 2);
	assert_int_equal(guestmem_read(gm, MIB - 4096, back, 2), 0);
	assert_memory_equal(back, "be", 2);
	assert_int_equal(guestmem_write(gm, MIB, "own", 3), 0);
	assert_int_equal(pread(fd, page, 3, 4096), 3);
	assert_memory_equal(page, "bbb", 3);
	assert_int_equal(guestmem_map(gm, MIB, 4096, -1, 0), -EBADF);
	(void)close(fd);
	assert_true(is_never_dumped(gm, MIB));
	assert_true(is_never_dumped(gm, HOLE_END));
	test_guards(state);
}

static void test_sizes(void **state)
{
	struct guestmem *gm = NULL;

	(void)state;
	assert_int_equal(guestmem_new(0, HOLE_START, HOLE_END, &gm), -EINVAL);
	assert_int_equal(guestmem_new(4095, HOLE_START, HOLE_END, &gm), -EINVAL);
	assert_int_equal(guestmem_new(MIB, HOLE_END, HOLE_START, &gm), -EINVAL);
	assert_int_equal(guestmem_new(UINT64_MAX & ~4095ULL, HOLE_START, HOLE_END, &gm), -ENOMEM);
	assert_null(gm);
	assert_int_equal(guestmem_new(HOLE_START, HOLE_START, HOLE_END, &gm), 0);
	assert_int_equal(gm->nregions, 1);
	guestmem_free(gm);
	assert_int_equal(guestmem_new(HOLE_START + 4096, HOLE_START, HOLE_END, &gm), 0);
	assert_int_equal(gm->nregions, 2);
	assert_int_equal(gm->regions[1].gpa, HOLE_END);
	assert_int_equal(gm->regions[1].size, 4096);
	guestmem_free(gm);
	guestmem_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_slices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map, setup, teardown),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
