/* log: one line an event, harmless bytes, bounded by a limit, never waiting for its reader. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static int pipe_fds[2];

static int setup(void **state)
{
	(void)state;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	log_init(pipe_fds[1], LOG_INFO);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
	return 0;
}

static size_t read_all(char *buf, size_t size)
{
	ssize_t n = read(pipe_fds[0], buf, size - 1);

	buf[n < 0 ? 0 : n] = '\0';
	return n < 0 ? 0 : (size_t)n;
}

static void test_harmless(void **state)
{
	char buf[2048], guest[1500];

	(void)state;
	log_warn("console: %s", "\033[2J\nerror forged\x7f\x9b");
	assert_true(read_all(buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "warning console: ?[2J?error forged??\n");
	log_debug("below the level");
	assert_int_equal(read_all(buf, sizeof(buf)), 0);
	memset(guest, 'a', sizeof(guest) - 1);
	guest[sizeof(guest) - 1] = '\0';
	log_error("%s", guest);
	assert_int_equal(read_all(buf, sizeof(buf)), 511);
	assert_int_equal(buf[510], '\n');
	assert_int_equal(buf[509], 'a');
}

static void test_full_pipe(void **state)
{
	static char buf[1 << 20];
	unsigned lines = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		log_warn("a line that nobody reads, number %u", i);
	while (read_all(buf, sizeof(buf)))
		lines++;
	assert_true(lines > 0);
	log_warn("after");
	assert_true(read_all(buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, "lines lost] after"));
}

static void test_limit(void **state)
{
	struct log_limit limit = { 0 };
	unsigned allowed = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		allowed += log_allowed(&limit, "blk0") ? 1U : 0U;
	assert_in_range(allowed, 8, 16); /* the burst, and what a slow run refills */
	assert_true(limit.dropped >= 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_harmless, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
