/* --restart: which ends are followed by a start, and after how long; --idle-timeout: when a VM is idle. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/idle.h"
#include "lib/restart.h"

#define MS 1000000ULL
#define S  1000000000ULL

static void test_parse(void **state)
{
	static const struct {
		const char *text;
		int r;
		enum restart_when when;
		uint32_t most;
	} cases[] = {
		{ NULL, 0, RESTART_NO, 0 },
		{ "no", 0, RESTART_NO, 0 },
		{ "always", 0, RESTART_ALWAYS, 0 },
		{ "on-failure", 0, RESTART_ON_FAILURE, 0 },
		{ "on-failure:1", 0, RESTART_ON_FAILURE, 1 },
		{ "on-failure:4294967295", 0, RESTART_ON_FAILURE, UINT32_MAX },
		{ "on-failure:0", -ERANGE, RESTART_NO, 0 },
		{ "on-failure:4294967296", -ERANGE, RESTART_NO, 0 },
		{ "on-failure:", -EINVAL, RESTART_NO, 0 },
		{ "on-failure:-1", -EINVAL, RESTART_NO, 0 },
		{ "on-failure:3x", -EINVAL, RESTART_NO, 0 },
		{ "on-failures", -EINVAL, RESTART_NO, 0 },
		{ "always:3", -EINVAL, RESTART_NO, 0 },
		{ "unless-stopped", -EINVAL, RESTART_NO, 0 },
		{ "", -EINVAL, RESTART_NO, 0 },
		{ "No", -EINVAL, RESTART_NO, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct restart restart = { .when = RESTART_NO };

		if (restart_parse(cases[i].text, &restart) != cases[i].r || restart.when != cases[i].when ||
		    restart.most != cases[i].most || restart.count || restart.wait_ns || restart.off)
			fail_msg("%s", cases[i].text ? cases[i].text : "NULL");
	}
}

static void test_which_ends(void **state)
{
	static const struct {
		enum verdict_kind kind;
		int status;
		bool on_failure, always;
	} cases[] = {
		{ VERDICT_EXITED, 0, false, true },          { VERDICT_EXITED, 3, true, true },
		{ VERDICT_SIGNALLED, 137, true, true },      { VERDICT_TIMEOUT, 124, true, true },
		{ VERDICT_BOOT_TIMEOUT, 124, true, true },   { VERDICT_IDLE_TIMEOUT, 124, false, true },
		{ VERDICT_GUEST_PANIC, 125, true, true },    { VERDICT_VMM_FAULT, 125, true, true },
		{ VERDICT_REFUSED, 125, true, true },        { VERDICT_OPERATOR, 125, false, false },
		{ VERDICT_GUEST_POWEROFF, 125, true, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct verdict verdict = { .kind = cases[i].kind, .status = cases[i].status };
		struct restart no = { .when = RESTART_NO }, on_failure = { .when = RESTART_ON_FAILURE };
		struct restart always = { .when = RESTART_ALWAYS }, off = { .when = RESTART_ALWAYS, .off = true };

		if (restart_next(&no, &verdict, 0) || restart_next(&off, &verdict, 0) ||
		    restart_next(&on_failure, &verdict, 0) != cases[i].on_failure ||
		    restart_next(&always, &verdict, 0) != cases[i].always)
			fail_msg("%s, status %d", verdict_name(cases[i].kind), cases[i].status);
		assert_int_equal(no.count + off.count, 0);
		assert_int_equal(always.count, cases[i].always);
	}
}

static void test_back_off(void **state)
{
	static const uint64_t waits[] = { 100 * MS,  200 * MS,   400 * MS,   800 * MS,   1600 * MS,  3200 * MS,
					  6400 * MS, 12800 * MS, 25600 * MS, 51200 * MS, 60000 * MS, 60000 * MS };
	const struct verdict failed = { .kind = VERDICT_EXITED, .status = 1 };
	struct restart restart;

	(void)state;
	assert_int_equal(restart_parse("always", &restart), 0);
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		assert_true(restart_next(&restart, &failed, 10 * S - 1));
		assert_int_equal(restart.wait_ns, waits[i]);
		assert_int_equal(restart.count, i + 1);
	}
	/* One that ran for long enough begins anew; the count goes on. */
	assert_true(restart_next(&restart, &failed, 10 * S));
	assert_int_equal(restart.wait_ns, 100 * MS);
	assert_int_equal(restart.count, 13);
	assert_true(restart_next(&restart, &failed, 0));
	assert_int_equal(restart.wait_ns, 200 * MS);
	restart.count = UINT32_MAX;
	assert_true(restart_next(&restart, &failed, 0));
	assert_int_equal(restart.count, UINT32_MAX);
}

static void test_at_most(void **state)
{
	const struct verdict failed = { .kind = VERDICT_EXITED, .status = 1 };
	struct restart restart;

	(void)state;
	assert_int_equal(restart_parse("on-failure:2", &restart), 0);
	assert_true(restart_next(&restart, &failed, 0));
	assert_true(restart_next(&restart, &failed, 60 * S)); /* a long run gives no further one */
	assert_false(restart_next(&restart, &failed, 0));
	assert_int_equal(restart.count, 2);
}

/* Looks at the steps that idle_look() asks for; returns when it said so, 0 when it did not within `until_ns`. */
static uint64_t watch(struct idle *idle, uint64_t until_ns, uint64_t cpu_per_s, unsigned *ret_looks)
{
	for (*ret_looks = 0; idle->next_ns <= until_ns; ++*ret_looks) {
		uint64_t now = idle->next_ns, elapsed = now - idle->looked_ns;

		if (idle_look(idle, now, idle->cpu_ns + elapsed / 1000 * cpu_per_s / MS, idle->bytes, false))
			return now;
	}
	return 0;
}

static void test_idle(void **state)
{
	static const struct {
		uint64_t limit, cpu_per_s, ends;
		unsigned looks;
	} cases[] = {
		{ 60 * S, 0, 60 * S, 4 }, /* a few looks … */
		{ 86400 * S, 0, 86400 * S, 4 }, /* … however long it is */
		{ 1 * S, 0, 1 * S, 1 }, /* and none more often than once a second */
		{ 3500 * MS, 0, 4 * S, 4 },     { 60 * S, 19 * MS, 60 * S, 4 }, /* less than 2 % */
		{ 60 * S, 21 * MS, 0, 66 }, /* more */
		{ 60 * S, 32 * S, 0, 66 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct idle idle;
		unsigned looks;
		uint64_t ended;

		idle_start(&idle, cases[i].limit, 5 * S, 77 * S, 1234);
		ended = watch(&idle, cases[i].ends ? UINT64_MAX - 1 : 1000 * S, cases[i].cpu_per_s, &looks);
		if (ended != (cases[i].ends ? cases[i].ends + 5 * S : 0) || looks + !!ended != cases[i].looks)
			fail_msg("case %zu: ended at %llu after %u looks", i, (unsigned long long)ended,
				 looks + !!ended);
		assert_true(!ended || idle.next_ns == UINT64_MAX);
	}
}

static void test_not_idle(void **state)
{
	struct idle idle;

	(void)state;
	idle_start(&idle, 4 * S, 0, 0, 0);
	assert_int_equal(idle.next_ns, 1 * S);
	assert_false(idle_look(&idle, 3 * S, 0, 0, false));
	assert_false(idle_look(&idle, 5 * S, 0, 1, false)); /* one byte */
	assert_false(idle_look(&idle, 8 * S, 0, 1, false));
	assert_false(idle_look(&idle, 10 * S, 0, 1, true)); /* somebody is at it */
	assert_false(idle_look(&idle, 13 * S, 0, 1, false));
	assert_false(idle_look(&idle, 14 * S, 1 * S, 1, false)); /* it worked */
	assert_false(idle_look(&idle, 17 * S, 0, 1, false)); /* its CPU time cannot be told */
	assert_false(idle_look(&idle, 20 * S, 0, 1, false));
	assert_true(idle_look(&idle, 21 * S, 0, 1, false));
	idle_start(&idle, 0, 0, 0, 0);
	assert_true(idle.next_ns == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),   cmocka_unit_test(test_which_ends), cmocka_unit_test(test_back_off),
		cmocka_unit_test(test_at_most), cmocka_unit_test(test_idle),       cmocka_unit_test(test_not_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
