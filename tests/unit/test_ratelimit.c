/* Token buckets: what passes when, debts, changes, and that no number breaks them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "virtio/ratelimit.h"

#define S 1000000000ULL

static void test_no_limit(void **state)
{
	struct ratelimit limit = { 0 };

	(void)state;
	assert_false(ratelimit_on(&limit));
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(ratelimit_take(&limit, UINT64_MAX, 5), 0);
}

static void test_operations(void **state)
{
	struct ratelimit limit = { .ops.rate = 10 };

	(void)state;
	for (unsigned i = 0; i < 10; i++) /* the burst */
		assert_int_equal(ratelimit_take(&limit, 4096, 5 * S), 0);
	assert_int_equal(ratelimit_take(&limit, 4096, 5 * S), 5 * S + S / 10);
	assert_int_equal(ratelimit_take(&limit, 4096, 5 * S + S / 10 - 1), 5 * S + S / 10);
	assert_int_equal(ratelimit_take(&limit, 4096, 5 * S + S / 10), 0);
	assert_int_equal(ratelimit_take(&limit, 4096, 5 * S + S / 10), 5 * S + S / 5);
	/* Idle for long: a full bucket, and no more than that. */
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(ratelimit_take(&limit, 4096, 100 * S), 0);
	assert_int_not_equal(ratelimit_take(&limit, 4096, 100 * S), 0);
}

static void test_bytes_and_debt(void **state)
{
	struct ratelimit limit = { .bytes.rate = 1000 };

	(void)state;
	assert_int_equal(ratelimit_take(&limit, 600, S), 0);
	assert_int_equal(ratelimit_take(&limit, 600, S), S + S / 5);
	assert_int_equal(ratelimit_take(&limit, 400, S), 0); /* fits into what is left */
	assert_int_equal(ratelimit_take(&limit, 0, S), 0); /* a flush moves nothing */
	/* Five times the bucket: not before it is full, and then it is paid for. */
	assert_int_equal(ratelimit_take(&limit, 5000, S), 2 * S);
	assert_int_equal(ratelimit_take(&limit, 5000, 2 * S), 0);
	assert_int_equal(ratelimit_take(&limit, 1, 2 * S), 6 * S + S / 1000);
	assert_int_equal(ratelimit_take(&limit, 0, 2 * S), 0); /* not even of a bucket in debt */
	assert_int_equal(ratelimit_take(&limit, 1, 6 * S + S / 1000), 0);
	assert_int_equal(ratelimit_available(&limit.bytes, 7 * S), 999);
	ratelimit_charge(&limit, 1000, 10 * S);
	assert_int_equal(ratelimit_available(&limit.bytes, 10 * S), 0);
	assert_int_equal(ratelimit_available(&limit.bytes, 10 * S + S / 4), 250);
	assert_int_equal(ratelimit_take(&limit, 500, 10 * S), 10 * S + S / 2);
}

/* Nothing is taken from one bucket while the other says no. */
static void test_both(void **state)
{
	struct ratelimit limit = { .ops.rate = 100, .bytes.rate = 1000 };

	(void)state;
	assert_int_equal(ratelimit_take(&limit, 1000, S), 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_not_equal(ratelimit_take(&limit, 1000, S), 0);
	for (unsigned i = 0; i < 99; i++)
		assert_int_equal(ratelimit_take(&limit, 0, S), 0);
	assert_int_not_equal(ratelimit_take(&limit, 0, S), 0);
}

static void test_changes(void **state)
{
	struct ratelimit limit = { .bytes.rate = 1000 };

	(void)state;
	assert_int_equal(ratelimit_take(&limit, 3000, S), 0); /* 2000 in debt: full again 3 s later */
	ratelimit_set(&limit.bytes, 10000, S);
	assert_int_equal(ratelimit_take(&limit, 1, S), S + S / 5 + S / 10000);
	/* An emptied bucket of a higher rate is an emptied bucket, not a debt. */
	limit = (struct ratelimit){ .bytes.rate = 1000000 };
	assert_int_equal(ratelimit_take(&limit, 1000000, S), 0);
	ratelimit_set(&limit.bytes, 1000, S);
	assert_int_equal(ratelimit_take(&limit, 1, S), S + S / 1000);
	ratelimit_set(&limit.bytes, 0, S);
	assert_int_equal(ratelimit_take(&limit, UINT64_MAX, S), 0);
	ratelimit_set(&limit.bytes, 1000, S); /* from none: full */
	assert_int_equal(ratelimit_take(&limit, 1000, S), 0);
}

/* Whatever is asked: never more than rate * (t + 1), and what was asked last beyond the bucket. */
static void test_average(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 20; seed++) {
		struct ratelimit limit = { .ops.rate = 1 + seed * 37, .bytes.rate = 1 + seed * 100003 };
		uint64_t now = 7 * S, begin = now, bytes = 0, ops = 0;
		unsigned random = seed;

		for (unsigned i = 0; i < 20000; i++) {
			uint64_t want, at;

			random = random * 1103515245 + 12345;
			want = (random >> 16) % (limit.bytes.rate + 1); /* no larger than the bucket */
			at = ratelimit_take(&limit, want, now);
			if (!at) {
				bytes += want;
				ops++;
			} else {
				assert_true(at > now);
				now = at;
			}
			assert_true((unsigned __int128)bytes * S <=
				    (unsigned __int128)limit.bytes.rate * (now - begin + S));
			assert_true(ops * S <= limit.ops.rate * (now - begin + S));
		}
	}
}

static void test_extremes(void **state)
{
	struct ratelimit limit = { .ops.rate = UINT64_MAX, .bytes.rate = 1 };

	(void)state;
	assert_int_equal(ratelimit_take(&limit, 1, 0), 0); /* the clock's first second */
	for (unsigned i = 0; i < 1000; i++) {
		(void)ratelimit_take(&limit, UINT64_MAX, (uint64_t)i * S);
		ratelimit_charge(&limit, UINT64_MAX, (uint64_t)i * S);
		assert_true(limit.bytes.full_ns <= UINT64_MAX / 2);
	}
	ratelimit_set(&limit.bytes, UINT64_MAX, S);
	ratelimit_set(&limit.bytes, 1, S);
	(void)ratelimit_take(&limit, 1, S);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_limit),       cmocka_unit_test(test_operations),
		cmocka_unit_test(test_bytes_and_debt), cmocka_unit_test(test_both),
		cmocka_unit_test(test_changes),        cmocka_unit_test(test_average),
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
