/* Messages with descriptors: all of it comes, or an error and no descriptor stays. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fdpass.h"

static int pair[2];

static int set_up(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int tear_down(void **state)
{
	(void)state;
	(void)close(pair[0]);
	return close(pair[1]);
}

/* The number that the next descriptor would have: as many as there are, and none between. */
static int next_fd(void)
{
	int fd = dup(0);

	(void)close(fd);
	return fd;
}

static void test_all_of_them(void **state)
{
	int fds[FDPASS_MAX + 1], got[FDPASS_MAX + 1], before = next_fd();
	struct stat is, was;
	char text[8];
	size_t n;

	(void)state;
	for (size_t i = 0; i < FDPASS_MAX + 1; i++)
		fds[i] = pair[i % 2];
	assert_int_equal(fdpass_send(pair[0], "abc", 3, fds, FDPASS_MAX, 0), 0);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), got, FDPASS_MAX, &n, 0), 3);
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(n, FDPASS_MAX);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(fstat(got[i], &is) + fstat(fds[i], &was), 0);
		assert_true(is.st_ino == was.st_ino && is.st_dev == was.st_dev);
		assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		(void)close(got[i]);
	}
	assert_int_equal(next_fd(), before);
	assert_int_equal(fdpass_send(pair[0], "abc", 3, fds, FDPASS_MAX + 1, 0), -EINVAL);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), got, FDPASS_MAX + 1, &n, 0), -EINVAL);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), got, 1, &n, MSG_DONTWAIT), -EAGAIN);
}

static void test_none_or_one(void **state)
{
	char text[8];
	size_t n = 9;
	int fd = 9;

	(void)state;
	assert_int_equal(fdpass_send(pair[0], "ab", 2, NULL, 0, 0), 0);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), &fd, 1, NULL, 0), 2);
	assert_int_equal(fd, -1);
	assert_int_equal(fdpass_send(pair[0], "ab", 2, &pair[0], 1, 0), 0);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), &fd, 1, NULL, 0), 2);
	assert_true(fd >= 0);
	(void)close(fd);
	(void)close(pair[0]);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), &fd, 1, &n, 0), 0);
	assert_int_equal(n, 0);
	assert_int_equal(fdpass_send(pair[1], "ab", 2, NULL, 0, 0), -EPIPE);
	pair[0] = dup(0);
}

/* One descriptor more than may come, also where the buffer's padding would have room for it; a byte too many. */
static void test_too_much(void **state)
{
	int fds[4] = { pair[0], pair[1], pair[0], pair[1] }, got[4] = { 0 }, before = next_fd();
	char text[4];
	size_t n;

	(void)state;
	for (size_t max = 1; max < 4; max++) {
		assert_int_equal(fdpass_send(pair[0], "ab", 2, fds, max + 1, 0), 0);
		assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), got, max, max > 1 ? &n : NULL, 0),
				 -EMSGSIZE);
		assert_int_equal(max > 1 ? (int)n : got[0] + 1, 0);
		assert_int_equal(next_fd(), before);
	}
	assert_int_equal(fdpass_send(pair[0], "abcde", 5, fds, 1, 0), 0);
	assert_int_equal(fdpass_receive(pair[1], text, sizeof(text), got, 1, NULL, 0), -EMSGSIZE);
	assert_int_equal(got[0], -1);
	assert_int_equal(next_fd(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_of_them, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_none_or_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_much, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
