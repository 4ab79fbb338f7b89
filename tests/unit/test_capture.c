/* --pcap's file: what a VMM sends, of whatever kind, within the bound, on a disk that fills, over restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "lib/capture.h"
#include "lib/text.h"
#include "pcapng.h"

static const uint8_t macs[2][6] = { { 2, 0, 0, 0, 0, 1 }, { 2, 0, 0, 0, 0, 2 } };
static const uint64_t none[VMM_NETS_MAX];

static char folder[64], path[80];
static struct capture *capture;
static int vmm = -1; /* its end */

static int setup(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)snprintf(folder, sizeof(folder), "/tmp/test_capture.XXXXXX");
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/file", folder);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	capture_free(capture);
	capture = NULL;
	if (vmm >= 0)
		(void)close(vmm);
	vmm = -1;
	(void)snprintf(command, sizeof(command), "rm -rf %s", folder);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): the folder is ours */
	return 0;
}

static void begin(void)
{
	struct mvm_error err;
	int theirs;

	assert_int_equal(capture_socket(capture, &theirs, &err), 0);
	if (vmm >= 0)
		(void)close(vmm);
	vmm = dup(theirs);
	assert_int_equal(capture_begin(capture, macs, 2, &err), 0);
	capture_handed_over(capture);
}

static void start(uint64_t max, uint32_t snap)
{
	struct mvm_error err;

	assert_int_equal(capture_open(path, max, snap, &capture, &err), 0);
	begin();
}

static void fill(uint8_t *frame, size_t len, unsigned number)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(number * 31UL + i * 7 + (i >> 8));
}

/* As the VMM does it; false: the socket is full. */
static bool sends(const struct capture_record *record, size_t len, unsigned number)
{
	uint8_t frame[CAPTURE_FRAME_MAX + 8];
	const struct iovec iov[2] = { { (void *)(uintptr_t)record, sizeof(*record) }, { frame, len } };

	fill(frame, len, number);
	if (writev(vmm, iov, 2) == (ssize_t)(sizeof(*record) + len))
		return true;
	assert_int_equal(errno, EAGAIN);
	return false;
}

static void send_frame(unsigned net, bool to_guest, uint32_t len, unsigned number)
{
	struct capture_record record = {
		.time_ns = text_now_ns(), .len = len, .net = (uint8_t)net, .to_guest = to_guest
	};

	assert_true(sends(&record, len < capture->snap ? len : capture->snap, number));
}

static uint8_t *file;
static size_t file_len;

/* The file, as the strict reader sees it. */
static struct pcapng look(void (*on_frame)(void *arg, const struct pcapng_frame *frame), void *arg)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct pcapng seen;
	const char *wrong;
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	file_len = (size_t)st.st_size;
	free(file);
	file = malloc(file_len + 1);
	assert_non_null(file);
	assert_int_equal(read(fd, file, file_len), file_len);
	(void)close(fd);
	wrong = pcapng_read(file, file_len, on_frame, arg, &seen);
	if (wrong)
		fail_msg("%s", wrong);
	return seen;
}

static void one_frame(void *arg, const struct pcapng_frame *frame)
{
	static const uint32_t sizes[] = { 14, 15, 60, 63, 64, 65, 1514, 9014, 65549 };
	unsigned *number = arg;
	uint8_t want[CAPTURE_FRAME_MAX];
	struct timespec now;

	assert_int_equal(frame->len, sizes[*number % 9]);
	assert_int_equal(frame->net, *number & 1);
	assert_int_equal(frame->to_guest, *number >> 1 & 1);
	fill(want, frame->have, *number);
	assert_memory_equal(frame->bytes, want, frame->have);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	assert_true((uint64_t)now.tv_sec * 1000000000U - frame->time_ns + 60000000000U < 120000000000U);
	++*number;
}

static void frames_of_all_sizes(uint32_t snap)
{
	static const uint32_t sizes[] = { 14, 15, 60, 63, 64, 65, 1514, 9014, 65549 };
	const uint64_t dropped[VMM_NETS_MAX] = { 3, 1ULL << 40 };
	struct pcapng seen;
	unsigned number = 0;

	start(CAPTURE_DEFAULT, snap);
	for (unsigned i = 0; i < 36; i++) {
		send_frame(i & 1, i >> 1 & 1, sizes[i % 9], i);
		assert_true(capture_read(capture) == CAPTURE_NOTHING);
	}
	capture_finish(capture, dropped);
	assert_int_equal(capture->frames, 36);
	seen = look(one_frame, &number);
	assert_int_equal(number, 36);
	assert_int_equal(seen.sections, 1);
	assert_int_equal(seen.nets, 2);
	assert_int_equal(seen.snap, snap);
	assert_memory_equal(seen.macs, macs, sizeof(macs));
	assert_int_equal(seen.statistics, 2);
	assert_int_equal(seen.dropped[0], 3);
	assert_int_equal(seen.dropped[1], 1ULL << 40);
	assert_int_equal(capture->size, file_len);
}

static void test_whole_frames(void **state)
{
	(void)state;
	frames_of_all_sizes(CAPTURE_FRAME_MAX);
}

static void test_snap(void **state)
{
	(void)state;
	frames_of_all_sizes(64);
}

/* Many wait in the socket: a batch at a time, none is lost, and in their order. */
static void test_batches(void **state)
{
	unsigned sent = 0, number = 0;

	(void)state;
	start(CAPTURE_DEFAULT, CAPTURE_FRAME_MAX);
	for (unsigned round = 0; round < 3; round++) {
		struct capture_record record = { .time_ns = text_now_ns() };
		enum capture_news news;

		for (;;) {
			static const uint32_t sizes[] = { 14, 15, 60, 63, 64, 65, 1514, 9014, 65549 };

			record.len = sizes[sent % 9];
			record.net = sent & 1;
			record.to_guest = sent >> 1 & 1;
			if (!sends(&record, record.len, sent))
				break;
			sent++;
		}
		do
			news = capture_read(capture);
		while (news == CAPTURE_MORE);
		assert_int_equal(news, CAPTURE_NOTHING);
	}
	capture_finish(capture, none);
	(void)look(one_frame, &number);
	assert_int_equal(number, sent);
}

/* The bound holds to the byte, its end is told once, and the VMM sees that nobody looks any more. */
static void test_full(void **state)
{
	struct capture_record record = { .len = 1514 };
	unsigned told = 0;
	struct pcapng seen;

	(void)state;
	for (uint64_t max = CAPTURE_LEAST; max < CAPTURE_LEAST + 1600; max += 397) {
		enum capture_news news = CAPTURE_NOTHING;

		start(max, CAPTURE_FRAME_MAX);
		while (news == CAPTURE_NOTHING || news == CAPTURE_MORE) {
			(void)sends(&record, 1514, 0);
			news = capture_read(capture);
		}
		assert_int_equal(news, CAPTURE_FULL);
		told++;
		assert_int_equal(write(vmm, &record, sizeof(record)), -1);
		assert_int_equal(errno, EPIPE);
		assert_int_equal(capture->socket, -1);
		capture_finish(capture, none);
		seen = look(NULL, NULL);
		assert_true(file_len <= max && file_len + 1600 > max);
		assert_int_equal(seen.frames, capture->frames);
		capture_free(capture);
		capture = NULL;
	}
	assert_true(told > 3);
}

static void test_hostile(void **state)
{
	static const struct {
		const char *name;
		struct capture_record record;
		size_t len;
	} cases[] = {
		{ "runt", { .len = 13 }, 13 },
		{ "nothing", { .len = 0 }, 0 },
		{ "giant", { .len = 65550 }, 1000 },
		{ "huge", { .len = UINT32_MAX }, 1000 },
		{ "more than it says", { .len = 100 }, 101 },
		{ "less than it says", { .len = 100 }, 99 },
		{ "more than the snap length", { .len = 2000 }, 1001 },
		{ "more than any", { .len = 65549 }, CAPTURE_FRAME_MAX + 1 },
		{ "no such device", { .len = 100, .net = 2 }, 100 },
		{ "the last device", { .len = 100, .net = 255 }, 100 },
		{ "no direction", { .len = 100, .to_guest = 2 }, 100 },
		{ "something reserved", { .len = 100, .reserved = 1 }, 100 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start(CAPTURE_DEFAULT, 1000);
		send_frame(0, false, 100, 1);
		assert_true(sends(&cases[i].record, cases[i].len, 2));
		if (capture_read(capture) != CAPTURE_BROKEN)
			fail_msg("%s: taken", cases[i].name);
		capture_finish(capture, none);
		assert_int_equal(look(NULL, NULL).frames, 1);
		capture_free(capture);
		capture = NULL;
	}
	start(CAPTURE_DEFAULT, 1000);
	assert_int_equal(write(vmm, "", 1), 1); /* not even a header */
	assert_int_equal(capture_read(capture), CAPTURE_BROKEN);
}

/* A datagram with descriptors brings none along. */
static void test_passed_descriptors(void **state)
{
	struct capture_record record = { .len = 14 };
	uint8_t frame[14] = { 0 };
	struct iovec iov[2] = { { &record, sizeof(record) }, { frame, sizeof(frame) } };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ancillary = { 0 };
	struct msghdr msg = { .msg_iov = iov,
			      .msg_iovlen = 2,
			      .msg_control = ancillary.bytes,
			      .msg_controllen = sizeof(ancillary.bytes) };
	int before, after;

	(void)state;
	start(CAPTURE_DEFAULT, 1000);
	ancillary.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&ancillary.align), &(int){ STDERR_FILENO }, sizeof(int));
	before = dup(0);
	(void)close(before);
	assert_int_equal(sendmsg(vmm, &msg, 0), sizeof(record) + sizeof(frame));
	assert_int_equal(capture_read(capture), CAPTURE_NOTHING);
	after = dup(0);
	(void)close(after);
	assert_int_equal(before, after);
	assert_int_equal(capture->frames, 1);
}

/* What a disk does not take whole is not there at all. */
static void test_disk_full(void **state)
{
	struct rlimit old, small;
	struct capture_record record = { .len = 1514 };
	enum capture_news news = CAPTURE_NOTHING;

	(void)state;
	start(CAPTURE_DEFAULT, CAPTURE_FRAME_MAX);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ 20000, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	while (news == CAPTURE_NOTHING || news == CAPTURE_MORE) {
		(void)sends(&record, 1514, 0);
		news = capture_read(capture);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(news, CAPTURE_FAILED);
	assert_int_equal(capture->error, EFBIG);
	capture_finish(capture, none);
	assert_int_equal(look(NULL, NULL).frames, capture->frames);
	assert_true(file_len <= 20000 && file_len > 15000);
	assert_int_equal(capture->size, file_len);
}

/* A run of a VM that is started again is a section of its own; without room for it nothing is written. */
static void test_restarts(void **state)
{
	struct pcapng seen;

	(void)state;
	start(CAPTURE_LEAST, CAPTURE_FRAME_MAX);
	send_frame(0, false, 100, 1);
	assert_int_equal(capture_read(capture), CAPTURE_NOTHING);
	capture_finish(capture, none);
	assert_int_equal(capture->frames, 1);
	capture_finish(capture, none); /* a run that did not come so far writes nothing */
	assert_int_equal(look(NULL, NULL).statistics, 2);
	capture_forget(capture);
	assert_int_equal(capture->frames, 0);
	begin();
	send_frame(1, true, 100, 1);
	assert_int_equal(capture_read(capture), CAPTURE_NOTHING);
	capture_finish(capture, none);
	seen = look(NULL, NULL);
	assert_int_equal(seen.sections, 2);
	assert_int_equal(seen.frames, 2);
	begin();
	while (capture->max - capture->size > 300) {
		uint64_t left = capture->max - capture->size - 200;

		send_frame(0, false, left > 60000 ? 60000 : (uint32_t)left, 1);
		assert_int_equal(capture_read(capture), CAPTURE_NOTHING);
	}
	capture_finish(capture, none);
	begin();
	send_frame(0, false, 100, 1);
	assert_int_equal(capture_read(capture), CAPTURE_FULL);
	capture_finish(capture, none);
	assert_int_equal(look(NULL, NULL).sections, 3);
	assert_true(file_len <= CAPTURE_LEAST);
}

static void refused(const char *name, const char *word)
{
	struct mvm_error err = { 0 };

	assert_true(capture_open(name, CAPTURE_DEFAULT, CAPTURE_FRAME_MAX, &capture, &err) < 0);
	if (!strstr(err.text, name) || !strstr(err.text, word))
		fail_msg("the error names neither %s nor %s: %s", name, word, err.text);
}

static void test_refused(void **state)
{
	char other[96];
	struct mvm_error err;
	struct stat st;
	int fd;

	(void)state;
	refused(folder, "not a regular file");
	refused("/dev/null", "not a regular file");
	(void)snprintf(other, sizeof(other), "%s/fifo", folder);
	assert_int_equal(mkfifo(other, 0600), 0);
	refused(other, "not a regular file");
	(void)snprintf(other, sizeof(other), "%s/link", folder);
	assert_int_equal(symlink("/dev/null", other), 0);
	refused(other, "not a regular file");
	(void)snprintf(other, sizeof(other), "%s/none/file", folder);
	refused(other, "No such file");

	/* Two captures are not one's, and what is there stays until one begins. */
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "something", 9), 9);
	(void)close(fd);
	assert_int_equal(capture_open(path, CAPTURE_DEFAULT, CAPTURE_FRAME_MAX, &capture, &err), 0);
	{
		struct capture *first = capture;

		refused(path, "in use");
		capture = first;
	}
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 9);
	begin();
	capture_finish(capture, none);
	assert_int_equal(look(NULL, NULL).sections, 1);
}

/* Made for nobody: gone again. One that was there stays. */
static void test_taken_back(void **state)
{
	struct mvm_error err;
	struct stat st;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		if (i)
			(void)close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		assert_int_equal(capture_open(path, CAPTURE_DEFAULT, CAPTURE_FRAME_MAX, &capture, &err), 0);
		assert_int_equal(stat(path, &st), 0);
		capture_free(capture);
		capture = NULL;
		assert_int_equal(stat(path, &st), i ? 0 : -1);
	}
}

static void test_private(void **state)
{
	struct stat st;

	(void)state;
	start(CAPTURE_DEFAULT, CAPTURE_FRAME_MAX);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* the VMM's end closed: no more, and no error */
	(void)close(vmm);
	vmm = -1;
	assert_int_equal(capture_read(capture), CAPTURE_NOTHING);
	assert_int_equal(capture->socket, -1);
	assert_int_equal(capture->ended, CAPTURE_NOTHING);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_whole_frames), TEST(test_snap),       TEST(test_batches),
		TEST(test_full),         TEST(test_hostile),    TEST(test_passed_descriptors),
		TEST(test_disk_full),    TEST(test_restarts),   TEST(test_refused),
		TEST(test_private),      TEST(test_taken_back),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(file);
	return failed;
}
