/* The VMM's end of the control socket: what it makes of messages, sound and not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blk_guest.h"
#include "control.h"
#include "vm.h"

static void quit(void *loop)
{
	loop_quit(loop);
}

/* Hands one datagram over and lets a loop see it. */
static void deliver(struct vm *vm, const int pair[2], const void *bytes, size_t len)
{
	struct control *control;

	assert_int_equal(loop_new(&vm->loop), 0);
	assert_int_equal(control_new(pair[0], vm, &control), 0);
	assert_int_equal(send(pair[1], bytes, len, 0), (ssize_t)len);
	loop_set_after(vm->loop, quit, vm->loop);
	assert_int_equal(loop_run(vm->loop), 0);
	control_free(control);
	loop_free(vm->loop);
}

static void test_limits(void **state)
{
	const uint32_t both = CONTROL_LIMITS_ALL;
	const struct {
		const char *name;
		struct control_msg msg;
		bool good;
	} cases[] = {
		{ "all disks", { CONTROL_LIMITS, 100, CONTROL_ALL_DISKS, both, 1 << 20 }, true },
		{ "the first", { CONTROL_LIMITS, 0, 0, both, 0 }, true },
		{ "the most", { CONTROL_LIMITS, VMM_IOPS_MAX, 0, both, VMM_BPS_MAX }, true },
		{ "bytes alone", { CONTROL_LIMITS, UINT32_MAX, 0, CONTROL_LIMITS_BPS, VMM_BPS_MIN }, true },
		{ "operations alone", { CONTROL_LIMITS, 5, 0, CONTROL_LIMITS_IOPS, 1 }, true },
		{ "nothing", { CONTROL_LIMITS, 5, 0, 0, 0 }, false },
		{ "unknown flag", { CONTROL_LIMITS, 5, 0, 4, 0 }, false },
		{ "no such disk", { CONTROL_LIMITS, 5, 1, both, 0 }, false },
		{ "too many operations", { CONTROL_LIMITS, VMM_IOPS_MAX + 1, 0, both, 0 }, false },
		{ "too many bytes", { CONTROL_LIMITS, 5, 0, both, VMM_BPS_MAX + 1 }, false },
		{ "too few bytes", { CONTROL_LIMITS, 5, 0, both, VMM_BPS_MIN - 1 }, false },
		{ "keep, as a number", { CONTROL_LIMITS, 5, 0, both, UINT64_MAX }, false },
		{ "unknown message", { 99, 0, 0, 0, 0 }, false },
	};
	struct vmm_config config = { .ndisks = 1 };
	struct vm vm = { .config = &config };
	int pair[2];

	(void)state;
	bring_up(0, &fault_io, EVENT_F, 0);
	vm.disks[0] = drv.dev;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	(void)logged();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *text;

		deliver(&vm, pair, &cases[i].msg, sizeof(cases[i].msg));
		text = logged();
		if (cases[i].good == (strstr(text, "control:") != NULL))
			fail_msg("%s: '%s'", cases[i].name, text);
	}
	deliver(&vm, pair, &cases[0].msg, sizeof(cases[0].msg) - 1);
	assert_non_null(strstr(logged(), "wrong size"));
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* Answered by the loop, with the question's number. */
static void test_ping(void **state)
{
	const struct control_msg ping = { .type = CONTROL_PING, .id = 77 };
	struct vmm_config config = { 0 };
	struct vm vm = { .config = &config };
	struct control_msg pong = { 0 };
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	deliver(&vm, pair, &ping, sizeof(ping));
	assert_int_equal(recv(pair[1], &pong, sizeof(pong), MSG_DONTWAIT), sizeof(pong));
	assert_int_equal(pong.type, CONTROL_PONG);
	assert_int_equal(pong.id, 77);
	assert_int_equal(recv(pair[1], &pong, sizeof(pong), MSG_DONTWAIT), -1);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limits, blk_setup, blk_teardown),
		cmocka_unit_test(test_ping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
