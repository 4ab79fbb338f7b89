/* What may be dialled, what a VMM may say, on its control socket and in its log. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* Dials; the descriptor of an answer that came at once, -errno of a refusal. */
static int dial(struct broker *broker, uint32_t port)
{
	struct broker_answer answer = { .fd = -2 };

	assert_true(broker_dial(broker, 77, port, 0, &answer));
	assert_int_equal(answer.id, 77);
	assert_int_equal(answer.port, port);
	return answer.fd >= 0 ? answer.fd : -answer.error;
}

static void test_grants_are_good_once(void **state)
{
	struct broker broker = { 0 };
	int fd = some_fd();

	(void)state;
	assert_int_equal(dial(&broker, 1), -ECONNREFUSED);
	assert_int_equal(broker_grant(&broker, 1, fd), 0);
	assert_int_equal(dial(&broker, 2), -ECONNREFUSED);
	assert_int_equal(dial(&broker, 1), fd);
	assert_int_equal(dial(&broker, 1), -ECONNREFUSED);
	assert_true(is_open(fd)); /* the taker's now */
	(void)close(fd);
}

static int offer(void *arg)
{
	int *left = arg;

	return (*left)-- > 0 ? some_fd() : -EAGAIN;
}

/* A channel that makes a socket for each dial; what it cannot is told the first time, the second, the fourth. */
static void test_offers(void **state)
{
	struct broker broker = { 0 };
	struct broker_answer answer;
	int left = 2, fd;

	(void)state;
	assert_int_equal(broker_offer(&broker, 7, "there", offer, &left), 0);
	assert_int_equal(broker_offer(&broker, 7, "there", offer, &left), -EEXIST);
	for (unsigned i = 0; i < 2; i++) {
		fd = dial(&broker, 7);
		assert_true(fd >= 0);
		(void)close(fd);
	}
	for (unsigned i = 1; i <= 4; i++) {
		assert_true(broker_dial(&broker, 1, 7, 0, &answer));
		assert_int_equal(answer.fd, -1);
		assert_int_equal(answer.error, EAGAIN);
		assert_int_equal(answer.tell, i != 3);
		assert_string_equal(answer.channel->target, "there");
	}
	assert_int_equal(broker.channels[0].opened, 2);
	assert_int_equal(broker.channels[0].failed, 4);
	assert_int_equal(broker.refused, 0);
	broker_free(&broker);
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
	assert_int_equal(broker_grant(&broker, 9999, fds[BROKER_GRANTS_MAX]), -ENOSPC);
	assert_false(is_open(fds[BROKER_GRANTS_MAX]));
	(void)close(dial(&broker, 0));
	fds[BROKER_GRANTS_MAX + 1] = some_fd();
	assert_int_equal(broker_grant(&broker, 1, fds[BROKER_GRANTS_MAX + 1]), -EEXIST);
	assert_int_equal(dial(&broker, BROKER_GRANTS_MAX - 1), fds[BROKER_GRANTS_MAX - 1]); /* moved, still there */
	(void)close(fds[BROKER_GRANTS_MAX - 1]);
	broker_close(&broker);
	for (unsigned i = 0; i < BROKER_GRANTS_MAX; i++)
		assert_false(is_open(fds[i]));
	assert_int_equal(dial(&broker, 2), -ECONNREFUSED);
}

/* A guest that dials what it may not is told of once for each port, and counted. */
static void test_refusals_are_counted(void **state)
{
	struct broker broker = { 0 };
	struct broker_answer answer;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_true(broker_dial(&broker, i, 99, 0, &answer));
		assert_int_equal(answer.tell, i == 0);
	}
	assert_int_equal(broker.refused_ports[0].times, 3);
	for (unsigned i = 0; i < 100; i++)
		assert_true(broker_dial(&broker, i, 1000 + i, 0, &answer));
	assert_false(answer.tell);
	assert_int_equal(broker.nrefused, BROKER_REFUSED_MAX);
	assert_int_equal(broker.refused, 103);
}

/* ---- channels ---- */

static struct sockaddr_storage unix_address(const char *path)
{
	struct sockaddr_storage addr = { 0 };
	struct sockaddr_un *un = (struct sockaddr_un *)&addr;

	un->sun_family = AF_UNIX;
	(void)snprintf(un->sun_path, sizeof(un->sun_path), "%s", path);
	return addr;
}

static struct sockaddr_storage listen_tcp(int *ret_fd)
{
	struct sockaddr_storage addr = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&addr;
	socklen_t len = sizeof(*in);

	*ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(*ret_fd, (struct sockaddr *)in, sizeof(*in)), 0);
	assert_int_equal(listen(*ret_fd, 16), 0);
	assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)in, &len), 0);
	return addr;
}

/* Until the dial is over, as the supervisor's loop would. */
static struct broker_answer wait_answer(struct broker *broker, uint64_t now)
{
	struct pollfd fds[BROKER_PENDING_MAX];
	struct broker_answer answer;

	while (!broker_next(broker, now, &answer)) {
		broker_prepare(broker, fds);
		assert_true(poll(fds, BROKER_PENDING_MAX, 10000) >= 0);
	}
	return answer;
}

static void test_channels(void **state)
{
	struct broker broker = { 0 };
	struct broker_answer answer;
	struct sockaddr_storage addrs[2];
	int listener, closed, fd;

	(void)state;
	/* Nobody listens behind the first address any more: the second is taken. */
	addrs[0] = listen_tcp(&closed);
	addrs[1] = listen_tcp(&listener);
	(void)close(closed);
	assert_int_equal(broker_allow(&broker, 5, "tcp:x", addrs, 2), 0);
	assert_int_equal(broker_allow(&broker, 5, "tcp:y", addrs, 1), -EEXIST);
	assert_int_equal(broker_allow(&broker, 6, "tcp:y", addrs, 0), -EINVAL);
	assert_int_equal(broker_allow(&broker, 6, "tcp:closed", addrs, 1), 0);
	for (unsigned i = 1; i <= 2; i++) { /* as often as it likes */
		if (!broker_dial(&broker, 9, 5, 0, &answer))
			answer = wait_answer(&broker, 0);
		assert_true(answer.fd >= 0);
		assert_int_equal(answer.id, 9);
		assert_int_equal(fcntl(answer.fd, F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(answer.fd, F_GETFL) & O_NONBLOCK);
		fd = accept(listener, NULL, NULL);
		assert_int_equal(write(answer.fd, "x", 1), 1);
		(void)close(answer.fd);
		(void)close(fd);
		assert_int_equal(broker.channels[0].opened, i);
	}
	for (unsigned i = 1; i <= 5; i++) {
		if (!broker_dial(&broker, 9, 6, 0, &answer))
			answer = wait_answer(&broker, 0);
		assert_int_equal(answer.fd, -1);
		assert_int_equal(answer.error, ECONNREFUSED);
		assert_int_equal(answer.tell, i == 1 || i == 2 || i == 4);
		assert_int_equal(broker.channels[1].failed, i);
	}
	assert_int_equal(broker.refused, 0);
	(void)close(listener);
	broker_free(&broker);
}

static void test_unix_channels(void **state)
{
	char folder[] = "/tmp/test_broker.XXXXXX", path[64];
	struct broker broker = { 0 };
	struct broker_answer answer;
	struct sockaddr_storage addr;
	int listener, taken = 0;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	addr = unix_address(path);
	assert_int_equal(broker_allow(&broker, 5, "unix:s", &addr, 1), 0);
	assert_int_equal(dial(&broker, 5), -ENOENT); /* looked for when it is dialled */
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(struct sockaddr_un)), 0);
	assert_int_equal(dial(&broker, 5), -ECONNREFUSED);
	assert_int_equal(listen(listener, 0), 0);
	/* Its queue takes some; then dials wait, bounded in number and time, until it accepts. */
	while (broker_dial(&broker, 1, 5, 0, &answer)) {
		assert_true(answer.fd >= 0 && ++taken < 10);
		(void)close(answer.fd);
	}
	for (unsigned i = 1; i < BROKER_PENDING_MAX; i++)
		assert_false(broker_dial(&broker, 1 + i, 5, 0, &answer));
	assert_int_equal(dial(&broker, 5), -EAGAIN);
	assert_false(broker_next(&broker, 1, &answer));
	assert_true(broker_deadline(&broker) < BROKER_CONNECT_NS);
	(void)close(accept(listener, NULL, NULL));
	assert_true(broker_next(&broker, broker_deadline(&broker), &answer));
	assert_int_equal(answer.id, 1);
	assert_true(answer.fd >= 0);
	(void)close(answer.fd);
	for (unsigned i = 0; i < BROKER_PENDING_MAX - 1; i++) {
		assert_true(broker_next(&broker, BROKER_CONNECT_NS, &answer));
		assert_int_equal(answer.error, ETIMEDOUT);
	}
	assert_int_equal(broker_deadline(&broker), UINT64_MAX);
	(void)close(listener);
	(void)unlink(path);
	(void)rmdir(folder);
	broker_free(&broker);
}

/* A host that does not answer at all: a full queue of a listener is one without a network. */
static void test_connects_end(void **state)
{
	struct broker broker = { 0 };
	struct broker_answer answer;
	struct sockaddr_storage addrs[2];
	int silent, fds[64], n = 0, pending_fd;

	(void)state;
	addrs[0] = listen_tcp(&silent);
	assert_int_equal(listen(silent, 0), 0);
	addrs[1] = addrs[0];
	assert_int_equal(broker_allow(&broker, 5, "tcp:x", addrs, 2), 0);
	for (; n < 8; n++) {
		fds[n] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(fds[n], (struct sockaddr *)&addrs[0], sizeof(struct sockaddr_in));
	}
	assert_false(broker_dial(&broker, 1, 5, 0, &answer));
	assert_int_equal(broker_deadline(&broker), BROKER_CONNECT_NS / 2); /* half for each address */
	assert_false(broker_next(&broker, BROKER_CONNECT_NS / 2 - 1, &answer));
	assert_false(broker_next(&broker, BROKER_CONNECT_NS / 2, &answer));
	assert_int_equal(broker_deadline(&broker), BROKER_CONNECT_NS);
	assert_true(broker_next(&broker, BROKER_CONNECT_NS, &answer));
	assert_int_equal(answer.error, ETIMEDOUT);
	/* One whose VMM has gone is closed. */
	assert_false(broker_dial(&broker, 1, 5, 0, &answer));
	pending_fd = broker.pending[0].fd;
	broker_cancel(&broker);
	assert_false(is_open(pending_fd));
	assert_false(broker_next(&broker, UINT64_MAX, &answer));
	while (n)
		(void)close(fds[--n]);
	(void)close(silent);
	broker_free(&broker);
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
		{ "pong", { .type = CONTROL_PONG, .id = UINT32_MAX }, 24, 0 },
		{ "ping", { .type = CONTROL_PING }, 24, -EPROTO },
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
	int fds[3] = { some_fd(), some_fd(), some_fd() }, pair[2], got[SESSION_FDS_MAX], sockets[SESSION_SOCKETS_MAX];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(session_send_start(pair[0], &start, fds, 3), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got, sockets), 0);
	assert_true(got[0] >= 0 && got[1] == -1 && got[2] >= 0 && got[3] == -1 && got[4] >= 0);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	(void)close(got[0]);
	(void)close(got[2]);
	(void)close(got[4]);
	start.fds = 0;
	start.sockets = 2; /* behind the spec */
	assert_int_equal(session_send_start(pair[0], &start, fds, 3), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got, sockets), 0);
	assert_true(got[0] >= 0 && got[1] == -1 && sockets[0] >= 0 && sockets[1] >= 0);
	(void)close(got[0]);
	(void)close(sockets[0]);
	(void)close(sockets[1]);
	start.sockets = 3; /* one more than there is */
	assert_int_equal(session_send_start(pair[0], &start, fds, 3), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got, sockets), -EPROTO);
	start.sockets = UINT32_MAX;
	assert_int_equal(session_send_start(pair[0], &start, fds, 1), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got, sockets), -EPROTO);
	start.sockets = 0;
	start.program[0] = '9'; /* another build's */
	assert_int_equal(session_send_start(pair[0], &start, fds, 1), 0);
	assert_int_equal(session_receive_start(pair[1], &start, got, sockets), -EPROTO);
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
	/* An error still passes, time brings warnings back, and the number of those that were lost is told at the end. */
	log_reader_feed(&reader, "error e\n", 8, 0, on_line, &lines);
	assert_string_equal(lines.last, "e");
	lines.n = 0;
	log_reader_feed(&reader, "warning w\n", 10, 1000000000, on_line, &lines);
	assert_int_equal(lines.n, 1);
	assert_string_equal(lines.last, "w");
	log_reader_finish(&reader, on_line, &lines);
	assert_int_equal(lines.n, 2);
	assert_non_null(strstr(lines.last, "dropped"));
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
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_grants_are_bounded_and_closed),
		cmocka_unit_test(test_refusals_are_counted),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_unix_channels),
		cmocka_unit_test(test_connects_end),
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
