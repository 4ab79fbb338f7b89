/* What may be dialled, what a VMM may say, on its control socket and in its log. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/broker.h"
#include "lib/log_reader.h"
#include "lib/session.h"
#include "mvm/version.h"

static int some_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_grants_are_good_once(void **state)
{
	struct broker broker = { 0 };
	int fd = some_fd();

	(void)state;
	assert_int_equal(broker_dial(&broker, 1), -ECONNREFUSED);
	assert_int_equal(broker_grant(&broker, 1, fd), 0);
	assert_int_equal(broker_dial(&broker, 2), -ECONNREFUSED);
	assert_int_equal(broker_dial(&broker, 1), fd);
	assert_int_equal(broker_dial(&broker, 1), -ECONNREFUSED);
	assert_true(is_open(fd)); /* the taker's now */
	(void)close(fd);
}

static void test_grants_are_bounded_and_closed(void **state)
{
	struct broker broker = { 0 };
	int fds[BROKER_GRANTS_MAX + 2];

	(void)state;
	for (unsigned i = 0; i < BROKER_GRANTS_MAX; i++) {
		fds[i] = some_fd();
		assert_int_equal(broker_grant(&broker, i, fds[i]), 0);
	}
	fds[BROKER_GRANTS_MAX] = some_fd();
	assert_int_equal(broker_grant(&broker, 99, fds[BROKER_GRANTS_MAX]), -ENOSPC);
	assert_false(is_open(fds[BROKER_GRANTS_MAX]));
	(void)close(broker_dial(&broker, 0));
	fds[BROKER_GRANTS_MAX + 1] = some_fd();
	assert_int_equal(broker_grant(&broker, 1, fds[BROKER_GRANTS_MAX + 1]), -EEXIST);
	assert_int_equal(broker_dial(&broker, BROKER_GRANTS_MAX - 1),
			 fds[BROKER_GRANTS_MAX - 1]); /* moved, still there */
	(void)close(fds[BROKER_GRANTS_MAX - 1]);
	broker_close(&broker);
	for (unsigned i = 0; i < BROKER_GRANTS_MAX; i++)
		assert_false(is_open(fds[i]));
	assert_int_equal(broker_dial(&broker, 2), -ECONNREFUSED);
}

static void test_control_messages(void **state)
{
	static const struct {
		const char *name;
		struct control_msg msg;
		size_t len;
		int r;
	} cases[] = {
		{ "running", { .type = CONTROL_RUNNING, .arg = CONTROL_VERSION }, 24, 0 },
		{ "running, other version", { .type = CONTROL_RUNNING, .arg = CONTROL_VERSION + 1 }, 24, -EPROTO },
		{ "dial", { .type = CONTROL_DIAL, .port = UINT32_MAX }, 24, 0 },
		{ "ended", { .type = CONTROL_ENDED, .code = 12345 }, 24, 0 },
		{ "short", { .type = CONTROL_DIAL }, 23, -EPROTO },
		{ "long", { .type = CONTROL_DIAL }, 25, -EPROTO },
		{ "empty", { .type = CONTROL_DIAL }, 0, -EPROTO },
		{ "type 0", { .type = 0 }, 24, -EPROTO },
		{ "ours", { .type = CONTROL_DIALLED }, 24, -EPROTO },
		{ "stop", { .type = CONTROL_STOP }, 24, -EPROTO },
		{ "unknown", { .type = UINT32_MAX }, 24, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char bytes[sizeof(struct control_msg) + 1] = { 0 };
		struct control_msg msg;

		memcpy(bytes, &cases[i].msg, sizeof(cases[i].msg));
		if (control_from_vmm(bytes, cases[i].len, &msg) != cases[i].r)
			fail_msg("%s", cases[i].name);
		if (cases[i].r == 0)
			assert_memory_equal(&msg, &cases[i].msg, sizeof(msg));
	}
}

/* ---- messages between caller and supervisor ---- */

static void test_session_messages(void **state)
{
	struct session_msg msg;
	char *longer = malloc(SESSION_TEXT_MAX + 100);
	int pair[2];

	(void)state;
	memset(longer, 'x', SESSION_TEXT_MAX + 99);
	longer[SESSION_TEXT_MAX + 99] = '\0';
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(session_receive(pair[1], &msg), 0);
	assert_int_equal(session_send(pair[0], SESSION_ENDED, 7, 3, "cause"), 0);
	assert_int_equal(session_receive(pair[1], &msg), 1);
	assert_int_equal(msg.code, 7);
	assert_int_equal(msg.kind, 3);
	assert_string_equal(msg.text, "cause");
	assert_int_equal(session_send(pair[0], SESSION_LOG, 0, 0, longer), 0);
	assert_int_equal(session_receive(pair[1], &msg), 1);
	assert_int_equal(strlen(msg.text), SESSION_TEXT_MAX);
	assert_int_equal(write(pair[0], "short", 5), 5);
	assert_int_equal(session_receive(pair[1], &msg), -EPROTO);
	msg.text_len = SESSION_TEXT_MAX + 1; /* says more than it has room for */
	assert_int_equal(write(pair[0], &msg, sizeof(msg)), (ssize_t)sizeof(msg));
	assert_int_equal(session_receive(pair[1], &msg), -EPROTO);
	(void)close(pair[0]);
	assert_int_equal(session_receive(pair[1], &msg), -EPIPE);
	(void)close(pair[1]);
	free(longer);
}

/* The other end sends its last word and ends with something of ours unread: the word must arrive. */
static void test_session_last_word(void **state)
{
	struct session_msg msg;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(session_send(pair[1], SESSION_SIGNAL, 15, 0, NULL), 0);
	assert_int_equal(session_send(pair[0], SESSION_ENDED, 7, 3, "cause"), 0);
	(void)close(pair[0]);
	assert_int_equal(session_receive(pair[1], &msg), 1);
	assert_int_equal(msg.code, 7);
	assert_int_equal(session_receive(pair[1], &msg), -EPIPE);
	(void)close(pair[1]);
}

static void test_session_start(void **state)
{
	struct session_start start = {
		.magic = SESSION_MAGIC,
		.version = SESSION_VERSION,
		.fds = SESSION_HAS_STDOUT | SESSION_HAS_RECEIPT,
		.program = MVM_VERSION,
	};
	int fds[3] = { some_fd(), some_fd(), some_fd() }, pair[2], got[SESSION_FDS_MAX];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(session_send_start(pair[0], &start, fds, 3), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got), 0);
	assert_true(got[0] >= 0 && got[1] == -1 && got[2] >= 0 && got[3] == -1 && got[4] >= 0);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	(void)close(got[0]);
	(void)close(got[2]);
	(void)close(got[4]);
	start.program[0] = '9'; /* another build's */
	assert_int_equal(session_send_start(pair[0], &start, fds, 1), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got), -EPROTO);
	for (unsigned i = 0; i < 3; i++)
		(void)close(fds[i]);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* ---- the log ---- */

struct lines {
	unsigned n, errors;
	char last[LOG_READER_LINE + 64];
};

static void on_line(void *arg, enum mvm_log_level level, const char *text)
{
	struct lines *lines = arg;

	lines->n++;
	lines->errors += level == MVM_LOG_ERROR;
	(void)snprintf(lines->last, sizeof(lines->last), "%s", text);
}

static void test_log_lines(void **state)
{
	static const struct {
		const char *bytes, *last;
		unsigned n, errors;
	} cases[] = {
		{ "warning a: b\n", "a: b", 1, 0 },
		{ "error x\nwarning y\n", "y", 2, 1 },
		{ "debug x\n\n\n", "x", 1, 0 },
		{ "assertion failed\n", "assertion failed", 1, 1 },
		{ "info \033]0;t\007x\r\n", "?]0;t?x?", 1, 0 },
		{ "error no newline", "no newline", 1, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned piecewise = 0; piecewise < 2; piecewise++) {
			struct log_reader reader = { 0 };
			struct lines lines = { 0 };
			size_t len = strlen(cases[i].bytes);

			for (size_t at = 0; at < len; at += piecewise ? 1 : len)
				log_reader_feed(&reader, cases[i].bytes + at, piecewise ? 1 : len, 0, on_line, &lines);
			log_reader_finish(&reader, on_line, &lines);
			assert_string_equal(lines.last, cases[i].last);
			assert_int_equal(lines.n, cases[i].n);
			assert_int_equal(lines.errors, cases[i].errors);
		}
	}
}

static void test_log_bounds(void **state)
{
	struct log_reader reader = { 0 };
	struct lines lines = { 0 };
	char *huge = malloc(100000);

	(void)state;
	memset(huge, 'x', 100000);
	huge[99999] = '\n';
	log_reader_feed(&reader, huge, 100000, 0, on_line, &lines);
	assert_int_equal(lines.n, 1);
	assert_int_equal(strlen(lines.last), LOG_READER_LINE - 1);
	for (unsigned i = 0; i < 10000; i++)
		log_reader_feed(&reader, "warning w\n", 10, 0, on_line, &lines);
	assert_int_equal(lines.n, 1 + LOG_READER_BURST);
	/* An error still passes, and time brings warnings back, with the number of those that were lost. */
	log_reader_feed(&reader, "error e\n", 8, 0, on_line, &lines);
	assert_string_equal(lines.last, "e");
	lines.n = 0;
	log_reader_feed(&reader, "warning w\n", 10, 1000000000, on_line, &lines);
	assert_int_equal(lines.n, 2);
	assert_string_equal(lines.last, "w");
	log_reader_finish(&reader, on_line, &lines);
	assert_int_equal(lines.n, 2);
	free(huge);
}

static void test_log_names_disks(void **state)
{
	char longest[1000];
	const char *const paths[] = { "a/root.img", "/x y.img", longest };
	static const struct {
		const char *line, *shown;
	} cases[] = {
		{ "disk blk0: write: No space left on device", "disk a/root.img: write: No space left on device" },
		{ "blk1: stopped until the guest resets it: x", "disk /x y.img: stopped until the guest resets it: x" },
		{ "disk blk3: read: Input/output error", "disk blk3: read: Input/output error" },
		{ "disk blk18446744073709551616: x", "disk blk18446744073709551616: x" },
		{ "disk blk: x", "disk blk: x" },
		{ "disk blk0", "disk blk0" },
		{ "disk : x", "disk : x" },
		{ "vsock0: disk blk0: x", "vsock0: disk blk0: x" },
		{ "", "" },
	};
	char text[LOG_READER_LINE + LOG_READER_PATH];

	(void)state;
	memset(longest, 'l', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		log_reader_name_disk(cases[i].line, paths, 3, text, sizeof(text));
		assert_string_equal(text, cases[i].shown);
	}
	/* the reason survives a long path */
	log_reader_name_disk("disk blk2: flush: Input/output error", paths, 3, text, sizeof(text));
	assert_non_null(strstr(text, "lll: flush: Input/output error"));
	log_reader_name_disk("disk blk0: x", paths, 3, text, 8);
	assert_string_equal(text, "disk a/");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grants_are_good_once),
		cmocka_unit_test(test_grants_are_bounded_and_closed),
		cmocka_unit_test(test_control_messages),
		cmocka_unit_test(test_session_messages),
		cmocka_unit_test(test_session_start),
		cmocka_unit_test(test_session_last_word),
		cmocka_unit_test(test_log_lines),
		cmocka_unit_test(test_log_bounds),
		cmocka_unit_test(test_log_names_disks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
