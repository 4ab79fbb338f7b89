/* The kernel's record of a killed call: which are about that process, and what is made of others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/killed_call.h"

#define RECORD(pid, comm, call)                                                                                        \
	"5,812,91245,-;audit: type=1326 audit(1700000000.1:2): auid=0 uid=20001 gid=20001 ses=1 subj=unconfined "      \
	"pid=" pid " comm=" comm " exe=\"/mvm-vmm\" sig=31 arch=c000003e syscall=" call                                \
	" compat=0 ip=0x7f code=0x80000000\n"

static void test_parse(void **state)
{
	static const struct {
		const char *record;
		int number; /* -1: not that process's */
	} cases[] = {
		{ RECORD("4711", "\"vmm\"", "41"), 41 },
		{ RECORD("4711", "\"vmm\"", "0"), 0 },
		{ RECORD("471", "\"vmm\"", "41"), -1 },
		{ RECORD("47110", "\"vmm\"", "41"), -1 },
		{ RECORD("4711", "\"vmm\"", "x"), -1 },
		{ RECORD("4711", "\"vmm\"", "-1"), -1 },
		{ RECORD("4711", "\"vmm\"", "99999999999999999999"), -1 },
		/* a record of another kind; those that a process wrote to /dev/kmsg have a facility; text of another record */
		{ "5,812,91245,-;audit: type=1400 audit(1:2): pid=4711 sig=31 syscall=41\n", -1 },
		{ "12,812,91245,-;audit: type=1326 audit(1:2): pid=4711 sig=31 syscall=41\n", -1 },
		{ "5,812,91245,-;me;audit: type=1326 audit(1:2): pid=4711 sig=31 syscall=41\n", -1 },
		{ "12,812,91245,-;me;audit: x type=1326 audit(1:2): pid=4711 sig=31 syscall=41\n", -1 },
		{ "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int number = -1;

		assert_int_equal(killed_call_parse(cases[i].record, 4711, &number), cases[i].number >= 0);
		assert_int_equal(number, cases[i].number);
	}
}

static void test_name(void **state)
{
	char path[] = "/tmp/kmsg-XXXXXX", name[KILLED_CALL_NAME] = "x";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	killed_call_name(path, 4711, name);
	assert_string_equal(name, "");
	assert_int_equal(write(fd, RECORD("4711", "\"vmm\"", "41"), strlen(RECORD("4711", "\"vmm\"", "41"))),
			 strlen(RECORD("4711", "\"vmm\"", "41")));
	killed_call_name(path, 4711, name);
#ifdef __x86_64__
	assert_string_equal(name, "socket");
#endif
	killed_call_name(path, 4712, name);
	assert_string_equal(name, "");
	(void)close(fd);
	(void)unlink(path);
	killed_call_name(path, 4711, name);
	assert_string_equal(name, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
