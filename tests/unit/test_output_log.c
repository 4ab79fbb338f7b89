/* The log of a detached VM: its form, its bound, what is said of what is lost; and the record beside it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/output_log.h"
#include "lib/record.h"

static char folder[] = "/tmp/test_output_log.XXXXXX";
static int at = -1;

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return at < 0;
}

static int clear(void **state)
{
	(void)state;
	(void)unlinkat(at, OUTPUT_LOG_FILE, 0);
	(void)unlinkat(at, OUTPUT_LOG_OLD, 0);
	(void)unlinkat(at, RECORD_FILE, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)clear(state);
	(void)close(at);
	return rmdir(folder);
}

static char *content(const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	char *text = calloc(1, 1 << 20);
	ssize_t n = fd < 0 ? 0 : read(fd, text, (1 << 20) - 1);

	assert_true(n >= 0);
	(void)close(fd);
	return text;
}

static off_t size_of(const char *name)
{
	struct stat st;

	return fstatat(at, name, &st, 0) < 0 ? 0 : st.st_size;
}

/* The text behind the time of line `number`. */
static void line_is(const char *text, unsigned number, const char *want)
{
	const char *line = text, *space;

	while (number--) {
		line = strchr(line, '\n');
		assert_non_null(line);
		line++;
	}
	space = strchr(line, ' ');
	assert_non_null(space);
	assert_int_equal(space - line, strlen("2026-11-22T10:20:30.123456789Z"));
	assert_int_equal(space[-1], 'Z');
	if (strncmp(space + 1, want, strlen(want)) != 0 || space[1 + strlen(want)] != '\n')
		fail_msg("line is %.80s, not %s", space + 1, want);
}

static void test_form(void **state)
{
	struct output_log log;
	char *text;

	(void)state;
	assert_int_equal(output_log_open(&log, at, 0), 0);
	output_log_write(&log, OUTPUT_STDOUT, "one\ntw", 6);
	output_log_write(&log, OUTPUT_STDERR, "err\n\n", 5);
	output_log_write(&log, OUTPUT_STDOUT, "o\nend", 5);
	output_log_say(&log, "a word of ours");
	output_log_finish(&log, OUTPUT_STDOUT);
	output_log_finish(&log, OUTPUT_STDERR);
	output_log_close(&log);
	text = content(OUTPUT_LOG_FILE);
	line_is(text, 0, "stdout F one");
	line_is(text, 1, "stderr F err");
	line_is(text, 2, "stderr F ");
	line_is(text, 3, "stdout F two");
	line_is(text, 4, "mvm F a word of ours");
	line_is(text, 5, "stdout F end");
	free(text);
	/* The next run of a VM with a name goes on in it. */
	assert_int_equal(output_log_open(&log, at, 0), 0);
	output_log_write(&log, OUTPUT_STDOUT, "again\n", 6);
	output_log_close(&log);
	text = content(OUTPUT_LOG_FILE);
	line_is(text, 6, "stdout F again");
	free(text);
}

/* A line of any length comes whole, in pieces that say so. */
static void test_long_lines(void **state)
{
	static char bytes[3 * OUTPUT_LOG_LINE + 1];
	struct output_log log;
	unsigned parts = 0, got = 0;
	char *text, *line;

	(void)state;
	memset(bytes, 'x', sizeof(bytes) - 1);
	bytes[sizeof(bytes) - 1] = '\n';
	assert_int_equal(output_log_open(&log, at, 0), 0);
	for (size_t step = 1, done = 0; done < sizeof(bytes); step = step * 7 % 4099) {
		size_t n = step < sizeof(bytes) - done ? step : sizeof(bytes) - done;

		output_log_write(&log, OUTPUT_STDOUT, bytes + done, n);
		done += n;
	}
	output_log_close(&log);
	text = content(OUTPUT_LOG_FILE);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *tag = strstr(line, "stdout ") + strlen("stdout ");

		parts += *tag == 'P';
		got += (unsigned)strlen(tag + 2);
	}
	assert_int_equal(got, sizeof(bytes) - 1);
	assert_true(parts == 2 || parts == 3); /* as the line's end came with the last piece, or after it */
	free(text);
}

static void test_bound(void **state)
{
	struct output_log log;
	uint64_t max = OUTPUT_LOG_LEAST;
	char *text, *said;

	(void)state;
	assert_int_equal(output_log_open(&log, at, max), 0);
	for (unsigned i = 0; i < 20000; i++) {
		char line[32];

		output_log_write(&log, OUTPUT_STDOUT, line, (size_t)snprintf(line, sizeof(line), "line %u\n", i));
		if (i % 1000 == 0)
			assert_true((uint64_t)(size_of(OUTPUT_LOG_FILE) + size_of(OUTPUT_LOG_OLD)) <= max);
	}
	output_log_close(&log);
	assert_true((uint64_t)(size_of(OUTPUT_LOG_FILE) + size_of(OUTPUT_LOG_OLD)) <= max);
	assert_true((uint64_t)size_of(OUTPUT_LOG_OLD) > max / 3);
	text = content(OUTPUT_LOG_OLD);
	said = strstr(text, " mvm F ");
	assert_non_null(said);
	assert_non_null(strstr(said, "bytes of this log were dropped\n"));
	free(text);
	text = content(OUTPUT_LOG_FILE);
	assert_non_null(strstr(text, "line 19999\n"));
	free(text);
}

/* A full disk loses lines, says how many bytes once there is room, and goes on. */
static void test_full_disk(void **state)
{
	struct output_log log;
	char *text;
	int good;

	(void)state;
	assert_int_equal(output_log_open(&log, at, 0), 0);
	output_log_write(&log, OUTPUT_STDOUT, "before\n", 7);
	good = log.fd;
	log.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	output_log_write(&log, OUTPUT_STDOUT, "lost\n", 5);
	output_log_write(&log, OUTPUT_STDOUT, "lost, too\n", 10);
	assert_int_equal(log.error, ENOSPC);
	(void)close(log.fd);
	log.fd = good;
	output_log_write(&log, OUTPUT_STDOUT, "after\n", 6);
	output_log_close(&log);
	text = content(OUTPUT_LOG_FILE);
	line_is(text, 0, "stdout F before");
	assert_non_null(strstr(text, "bytes of this log were dropped: No space left on device\n"));
	line_is(text, 2, "stdout F after");
	free(text);
}

/* ---- the record ---- */

static void test_record(void **state)
{
	struct record record = { .id = (char[]){ "0123456789ab" },
				 .rootfs = (char[]){ "/a \"b\"" },
				 .command = (char[]){ "sh -c 'x'" },
				 .state = RECORD_ENDED,
				 .detached = true,
				 .began_ns = 1795343119291986249U,
				 .ended_ns = 1795343128472743996U,
				 .verdict = (char[]){ "exited" },
				 .cause = (char[]){ "" },
				 .restarts = UINT32_MAX,
				 .status = 255 },
		      back;
	char *text = record_text(&record);

	(void)state;
	assert_non_null(text);
	assert_int_equal(record_parse(text, strlen(text), &back), 0);
	assert_string_equal(back.rootfs, record.rootfs);
	assert_string_equal(back.verdict, "exited");
	assert_null(back.name);
	assert_true(back.detached && back.began_ns == record.began_ns && back.status == 255 &&
		    back.restarts == UINT32_MAX);
	record_free(&back);
	for (size_t cut = 0; cut < strlen(text); cut++)
		assert_int_equal(record_parse(text, cut, &back), -EINVAL);
	free(text);
}

static void test_bad_records(void **state)
{
	static const struct {
		const char *text;
		int want;
	} bad[] = {
		{ "[]", -EINVAL },
		{ "{\"version\":2}", -EPROTONOSUPPORT },
		{ "{\"version\":\"1\"}", -EINVAL },
		{ "{\"version\":1,\"id\":5}", -EINVAL },
		{ "{\"version\":1,\"id\":\"a\",\"rootfs\":\"\",\"command\":\"\",\"state\":\"flying\"}", -EINVAL },
		{ "{\"version\":1,\"id\":\"a\",\"rootfs\":\"\",\"command\":\"\",\"state\":\"ended\",\"detached\":true,"
		  "\"remove\":false,\"restarts\":0,\"supervisor\":0,\"vmm\":0,\"began_ns\":0,\"ended_ns\":0,\"status\":"
		  "0}",
		  -EINVAL },
		{ "{\"version\":1,\"id\":\"a\",\"rootfs\":\"\",\"command\":\"\",\"state\":\"running\",\"detached\":"
		  "true,"
		  "\"remove\":false,\"restarts\":0,\"supervisor\":-1,\"vmm\":0,\"began_ns\":0,\"ended_ns\":0,"
		  "\"status\":0}",
		  -EINVAL },
		{ "{\"version\":1,\"id\":\"a\",\"rootfs\":\"\",\"command\":\"\",\"state\":\"running\",\"detached\":"
		  "true,"
		  "\"remove\":false,\"restarts\":4294967296,\"supervisor\":1,\"vmm\":0,\"began_ns\":0,\"ended_ns\":0,"
		  "\"status\":0}",
		  -EINVAL },
		{ "{\"a\":{\"b\":{\"c\":{\"d\":{}}}}}", -EINVAL },
	};
	struct record back;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (record_parse(bad[i].text, strlen(bad[i].text), &back) != bad[i].want)
			fail_msg("%s", bad[i].text);
	assert_int_equal(record_read(at, &back), -ENOENT);
	assert_int_equal(symlinkat("/etc/passwd", at, RECORD_FILE), 0);
	assert_int_equal(record_read(at, &back), -ELOOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_form, clear),   cmocka_unit_test_teardown(test_long_lines, clear),
		cmocka_unit_test_teardown(test_bound, clear),  cmocka_unit_test_teardown(test_full_disk, clear),
		cmocka_unit_test_teardown(test_record, clear), cmocka_unit_test_teardown(test_bad_records, clear),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
