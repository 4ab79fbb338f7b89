/* state: what was put comes back; a short or damaged stream fails once and for good. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "state.h"

static void test_round_trip(void **state)
{
	struct state_writer w = { 0 };
	struct state_reader r;
	char bytes[300];
	char back[300];

	(void)state;
	memset(bytes, 7, sizeof(bytes));
	state_put_u16(&w, 0x1234);
	state_put_u32(&w, 0x12345678);
	state_put_u64(&w, 0x123456789abcdef0ULL);
	state_put_bytes(&w, bytes, sizeof(bytes));
	assert_false(w.failed);
	assert_int_equal(w.len, 2 + 4 + 8 + sizeof(bytes));
	assert_int_equal(w.data[0], 0x34); /* little-endian, whatever the host is */
	r = (struct state_reader){ .pos = w.data, .end = w.data + w.len };
	assert_int_equal(state_get_u16(&r), 0x1234);
	assert_int_equal(state_get_u32(&r), 0x12345678);
	assert_int_equal(state_get_u64(&r), 0x123456789abcdef0ULL);
	state_get_bytes(&r, back, sizeof(back));
	assert_memory_equal(back, bytes, sizeof(bytes));
	assert_true(state_ok(&r));
	assert_ptr_equal(r.pos, r.end);
	state_writer_free(&w);
}

static void test_failure_is_sticky(void **state)
{
	const uint8_t bytes[6] = { 1, 2, 3, 4, 5, 6 };
	struct state_reader r = { .pos = bytes, .end = bytes + sizeof(bytes) };

	(void)state;
	assert_int_equal(state_get_u64(&r), 0);
	assert_false(state_ok(&r));
	assert_int_equal(state_get_u16(&r), 0); /* would have fitted: but what it means is unknown by now */
	assert_ptr_equal(r.pos, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_failure_is_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
