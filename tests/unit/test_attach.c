/* The control socket of a VM: its messages, its folder's path, and calls that end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/attach.h"

static void test_check(void **state)
{
	static const struct {
		const char *name;
		struct attach_hdr hdr;
		size_t n;
		int r;
	} cases[] = {
		{ "empty payload", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, 0, 0 }, 16, 0 },
		{ "payload", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, 8, 0 }, 24, 0 },
		{ "longest", { ATTACH_MAGIC, ATTACH_VERSION, 77, ATTACH_PAYLOAD_MAX, 0 }, 16 + ATTACH_PAYLOAD_MAX, 0 },
		{ "nothing", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, 0, 0 }, 0, -EPROTO },
		{ "half a header", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, 0, 0 }, 15, -EPROTO },
		{ "other magic", { ATTACH_MAGIC + 1, ATTACH_VERSION, ATTACH_UPDATE, 0, 0 }, 16, -EPROTO },
		{ "other version", { ATTACH_MAGIC, ATTACH_VERSION + 1, ATTACH_UPDATE, 9, 0 }, 16, -EPROTONOSUPPORT },
		{ "cut short", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, 9, 0 }, 24, -EPROTO },
		{ "more than said", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, 7, 0 }, 24, -EPROTO },
		{ "too long",
		  { ATTACH_MAGIC, ATTACH_VERSION, 1, ATTACH_PAYLOAD_MAX + 1, 0 },
		  17 + ATTACH_PAYLOAD_MAX,
		  -EPROTO },
		{ "endless", { ATTACH_MAGIC, ATTACH_VERSION, ATTACH_UPDATE, UINT32_MAX, 0 }, 24, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct attach_msg msg;

		memset(&msg, 0xff, sizeof(msg));
		msg.hdr = cases[i].hdr;
		if (attach_check(&msg, cases[i].n) != cases[i].r)
			fail_msg("%s", cases[i].name);
		if (cases[i].r == 0)
			assert_int_equal(msg.payload[msg.hdr.len], 0);
	}
}

/* A folder whose path is far longer than a socket's name may be. */
static char root[] = "/tmp/test_attach.XXXXXX";
static char folder[512];
static int folder_fd;

static int setup(void **state)
{
	size_t len;

	(void)state;
	assert_non_null(mkdtemp(root));
	(void)snprintf(folder, sizeof(folder), "%s", root);
	for (unsigned i = 0; i < 2; i++) {
		len = strlen(folder);
		(void)snprintf(folder + len, sizeof(folder) - len, "/%0150d", i);
		assert_int_equal(mkdir(folder, 0700), 0);
	}
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder_fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	(void)close(folder_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

enum manners { TELLS, TELLS_LESS, ANSWERS, REFUSES, HANGS_UP, TALKS_NONSENSE, IS_NEWER };

static struct {
	int listener;
	enum manners manners;
} server;

static void *serve(void *arg)
{
	struct pollfd ready = { .fd = server.listener, .events = POLLIN };
	struct attach_peer refused;
	struct attach_msg msg;
	int fd = -1, r;

	(void)arg;
	while ((r = attach_accept(server.listener, &fd, &refused)) == 0)
		(void)poll(&ready, 1, -1);
	assert_int_equal(r, 1);
	ready.fd = fd;
	while ((r = attach_receive(fd, &msg)) == 0)
		(void)poll(&ready, 1, -1);
	assert_int_equal(r, 1);
	if (server.manners == TELLS || server.manners == TELLS_LESS) {
		assert_int_equal(msg.hdr.type, ATTACH_STATUS);
		assert_int_equal(msg.hdr.len, 0);
	} else {
		assert_int_equal(msg.hdr.type, ATTACH_UPDATE);
		assert_memory_equal(msg.payload, "payload", 8);
	}
	switch (server.manners) {
	case TELLS:
	case TELLS_LESS:
		assert_int_equal(attach_send(fd, ATTACH_ANSWER, 0, "12345678", server.manners == TELLS ? 8 : 7), 0);
		break;
	case ANSWERS:
		assert_int_equal(attach_send(fd, ATTACH_ANSWER, 0, NULL, 0), 0);
		break;
	case REFUSES:
		assert_int_equal(attach_send(fd, ATTACH_ANSWER, ERANGE, "not \033 so", 8), 0);
		break;
	case HANGS_UP:
		break;
	case TALKS_NONSENSE:
		assert_int_equal(send(fd, "nonsense", 8, 0), 8);
		break;
	case IS_NEWER:
		msg.hdr.version++;
		assert_true(send(fd, &msg, sizeof(msg.hdr), 0) > 0);
		break;
	}
	(void)close(fd);
	return NULL;
}

static void test_calls(void **state)
{
	static const struct {
		enum manners manners;
		int r;
		const char *says;
	} cases[] = {
		{ ANSWERS, 0, "" },
		{ REFUSES, -ERANGE, "not ? so" },
		{ HANGS_UP, -EPIPE, "has ended" },
		{ TALKS_NONSENSE, -EPROTO, "no answer" },
		{ IS_NEWER, -EPROTONOSUPPORT, "another version" },
	};
	struct mvm_error err;
	pthread_t thread;

	(void)state;
	assert_int_equal(attach_call(folder_fd, ATTACH_UPDATE, "payload", 8, &err), -ENOENT);
	assert_non_null(strstr(err.text, "has ended"));
	assert_int_equal(attach_listen(folder_fd, &server.listener), 0);
	assert_int_equal(fcntl(server.listener, F_GETFD), FD_CLOEXEC);
	assert_int_equal(attach_listen(folder_fd, &server.listener), -EADDRINUSE);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		err.text[0] = '\0';
		server.manners = cases[i].manners;
		assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
		assert_int_equal(attach_call(folder_fd, ATTACH_UPDATE, "payload", 8, &err), cases[i].r);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (!strstr(err.text, cases[i].says))
			fail_msg("'%s' does not say '%s'", err.text, cases[i].says);
	}
	for (enum manners m = TELLS; m <= TELLS_LESS; m++) {
		char told[9] = "";
		struct attach_peer peer = { 0 };

		server.manners = m;
		assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
		assert_int_equal(attach_ask(folder_fd, ATTACH_STATUS, told, 8, &peer, &err), m == TELLS ? 0 : -EPROTO);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_string_equal(told, m == TELLS ? "12345678" : "");
		assert_int_equal(peer.pid, m == TELLS ? getpid() : 0);
	}
	(void)close(server.listener);
	assert_int_equal(attach_call(folder_fd, ATTACH_UPDATE, "payload", 8, &err), -ECONNREFUSED);
}

static void test_limits(void **state)
{
	struct mvm_limits limits = MVM_LIMITS_KEEP;
	struct mvm_error err;

	(void)state;
	assert_int_equal(mvm_update("abc", &limits, &err), -EINVAL);
	assert_non_null(strstr(err.text, "nothing to change"));
	assert_int_equal(mvm_limits_set(&limits, "blk-bps", "10m", &err), 0);
	assert_true(limits.blk_bps == 10 << 20 && limits.blk_iops == MVM_KEEP);
	assert_int_equal(mvm_limits_set(&limits, "blk-iops", "0", &err), 0);
	assert_int_equal(limits.blk_iops, 0);
	assert_int_equal(mvm_limits_set(&limits, "blk-bps", "1", &err), -EINVAL);
	assert_int_equal(limits.blk_bps, 10 << 20);
	assert_int_equal(mvm_limits_set(&limits, "io-max", "rbps=1m,wiops=0", &err), 0);
	assert_int_equal(mvm_limits_set(&limits, "io-max", "wbps=2m", &err), 0);
	assert_true(limits.io_rbps == 1 << 20 && limits.io_wbps == 2 << 20 && limits.io_wiops == 0);
	assert_true(limits.io_riops == MVM_KEEP);
	assert_int_equal(mvm_limits_set(&limits, "io-max", "rbps=2m,rbps=3m", &err), -EINVAL);
	assert_non_null(strstr(err.text, "given twice"));
	assert_int_equal(mvm_limits_set(&limits, "io-max", "riops=5,rbps=1", &err), -EINVAL);
	assert_non_null(strstr(err.text, "or 0 for no limit"));
	assert_true(limits.io_rbps == 1 << 20 && limits.io_riops == MVM_KEEP); /* all or nothing */
	assert_int_equal(mvm_limits_set(&limits, "memory", "1g", &err), -EINVAL);
	assert_non_null(strstr(err.text, "--blk-iops, --blk-bps and --io-max can"));
}

/* As callers that were compiled with other headers, or without the macro. */
static void test_limits_of_other_versions(void **state)
{
	struct {
		struct mvm_limits known;
		uint64_t more;
	} newer = { MVM_LIMITS_KEEP, MVM_KEEP };
	struct mvm_limits none = { 0 }, huge = MVM_LIMITS_KEEP, older = MVM_LIMITS_KEEP;
	struct mvm_error err;

	(void)state;
	newer.known.size = sizeof(newer);
	assert_int_equal(mvm_limits_set(&newer.known, "blk-bps", "10m", &err), 0);
	assert_true(newer.known.blk_bps == 10 << 20 && newer.known.size == sizeof(newer));
	newer.more = 1;
	assert_int_equal(mvm_update("abc", &newer.known, &err), -E2BIG);
	assert_non_null(strstr(err.text, mvm_version()));
	assert_int_equal(mvm_limits_set(&none, "blk-bps", "10m", &err), -EINVAL);
	assert_int_equal(none.blk_bps, 0);
	assert_non_null(strstr(err.text, "macro"));
	huge.size = UINT32_MAX;
	assert_int_equal(mvm_update("abc", &huge, &err), -EINVAL);
	/* One that was compiled before there was --io-max here: it changes the others, and nothing behind its struct. */
	older.size = offsetof(struct mvm_limits, io_rbps);
	older.io_rbps = 42;
	assert_int_equal(mvm_limits_set(&older, "blk-bps", "10m", &err), 0);
	assert_int_equal(mvm_limits_set(&older, "io-max", "rbps=1m", &err), -EINVAL);
	assert_non_null(strstr(err.text, "older header"));
	assert_int_equal(older.io_rbps, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_limits_of_other_versions),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
