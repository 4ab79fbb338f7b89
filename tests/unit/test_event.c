/* Events: their table, their form, the journal that many write, and the daemons that may not listen. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/event.h"
#include "lib/event_sink.h"
#include "lib/rotated.h"

#define WRITERS 6
#define LINES   1000U
#define FILLER  1000 /* bytes: all lines together are rotated once, not twice */

static char folder[] = "/tmp/test_event.XXXXXX";
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
	(void)unlinkat(at, EVENT_FILE, 0);
	(void)unlinkat(at, EVENT_OLD, 0);
	(void)unlinkat(at, "other", 0);
	(void)unlinkat(at, "socket", 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)clear(state);
	(void)close(at);
	return rmdir(folder);
}

static void test_table(void **state)
{
	const char *ids[EVENT_KINDS];

	(void)state;
	for (unsigned i = 0; i < EVENT_KINDS; i++) {
		json_object *event = event_new(i, "0123456789ab", NULL);
		const char *id = event_message_id(event);

		assert_non_null(id);
		assert_int_equal(strlen(id), 32);
		assert_int_equal(strspn(id, "0123456789abcdef"), 32);
		assert_int_equal(strspn(event_name(i), "abcdefghijklmnopqrstuvwxyz-"), strlen(event_name(i)));
		ids[i] = id;
		for (unsigned other = 0; other < i; other++) {
			assert_string_not_equal(ids[other], id);
			assert_string_not_equal(event_name(other), event_name(i));
		}
		(void)json_object_put(event);
	}
	assert_string_equal(event_name(EVENT_KINDS), "unknown");
}

static json_object *parsed(const char *line)
{
	json_object *object = json_tokener_parse(line);

	assert_non_null(object);
	return object;
}

static const char *text_of(json_object *object, const char *key)
{
	json_object *value = NULL;

	(void)json_object_object_get_ex(object, key, &value);
	return value ? json_object_get_string(value) : "none";
}

static void test_form(void **state)
{
	json_object *event = event_new(EVENT_VIOLATION, "0123456789ab", ""), *back;
	char summary[256], *line;

	(void)state;
	event_text(event, "cause", "a\nb\033[2J\xff\"\\ \xe2\x80\xae!");
	event_text(event, "nothing", NULL);
	event_number(event, "large", UINT64_MAX);
	event_flag(event, "yes", true);
	event_by(event, &(struct event_actor){ false, 5, 5, 5, 5 }); /* nobody */
	line = event_line(event);
	assert_non_null(line);
	assert_null(strchr(line, '\n'));
	assert_null(strchr(line, '\033'));
	back = parsed(line);
	assert_string_equal(text_of(back, "cause"), "a?b?[2J?\"\\ ?\?\?!");
	assert_string_equal(text_of(back, "event"), "violation");
	assert_string_equal(text_of(back, "severity"), "error");
	assert_string_equal(text_of(back, "large"), "18446744073709551615");
	assert_string_equal(text_of(back, "yes"), "true");
	assert_string_equal(text_of(back, "name"), "none");
	assert_string_equal(text_of(back, "nothing"), "none");
	assert_string_equal(text_of(back, "by_uid"), "none");
	assert_int_equal(event_priority(event), LOG_ERR);
	event_severity(event, LOG_NOTICE);
	assert_int_equal(event_priority(event), LOG_NOTICE);
	assert_non_null(strstr(event_summary(event, summary, sizeof(summary)), "0123456789ab: violation"));
	assert_int_equal(strlen(event_summary(event, summary, 5)), 4);
	free(line);
	(void)json_object_put(back);
	(void)json_object_put(event);
	/* out of memory: nothing happens */
	event_text(NULL, "key", "text");
	event_number(NULL, "key", 1);
	assert_null(event_line(NULL));
}

/* Options of any size: they go, and that is said. */
static void test_too_long(void **state)
{
	json_object *event = event_new(EVENT_CREATED, "0123456789ab", "name"), *options = json_object_new_object(),
		    *back;
	char *long_text = calloc(1, 2 * EVENT_LINE_MAX), *line;

	(void)state;
	memset(long_text, 'x', 2 * EVENT_LINE_MAX - 1);
	(void)json_object_object_add(options, "cmdline", json_object_new_string(long_text));
	event_text(event, "rootfs", long_text);
	event_object(event, "options", options);
	line = event_line(event);
	assert_non_null(line);
	assert_true(strlen(line) < EVENT_LINE_MAX);
	back = parsed(line);
	assert_string_equal(text_of(back, "cut"), "true");
	assert_string_equal(text_of(back, "options"), "none");
	assert_int_equal(strlen(text_of(back, "rootfs")), EVENT_TEXT_MAX - 1);
	free(line);
	free(long_text);
	(void)json_object_put(back);
	(void)json_object_put(event);
}

static off_t size_of(const char *name)
{
	struct stat st;

	return fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : -1;
}

static void write_lines(unsigned writer)
{
	char line[FILLER + 64];

	for (unsigned i = 0; i < LINES; i++) {
		int n = snprintf(line, sizeof(line), "%u %u ", writer, i);

		memset(line + n, 'x', FILLER);
		line[n + FILLER] = '\0';
		if (event_append(at, line) < 0)
			_exit(1);
	}
	_exit(0);
}

/* Six processes at once, over a rotation: every line is there, whole, once, and each writer's in order. */
static void test_many_writers(void **state)
{
	static struct rotated file;
	unsigned next[WRITERS] = { 0 };
	size_t len;
	char *line;
	int r, status;

	(void)state;
	for (unsigned i = 0; i < WRITERS; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			write_lines(i);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_true(size_of(EVENT_OLD) > 0);
	assert_true(size_of(EVENT_OLD) < (off_t)EVENT_FILE_MAX + (off_t)EVENT_FILE_MAX / 4);
	rotated_init(&file, at, EVENT_FILE, EVENT_OLD);
	while ((r = rotated_next(&file, &line, &len)) > 0) {
		unsigned writer, i;

		if (!len) /* one that saw another's line half written ended it: an empty line is nobody's */
			continue;
		line[len] = '\0';
		assert_int_equal(sscanf(line, "%u %u ", &writer, &i), 2);
		assert_true(writer < WRITERS);
		assert_int_equal(i, next[writer]);
		assert_true(len > FILLER);
		assert_int_equal(strspn(line + len - FILLER, "x"), FILLER);
		next[writer]++;
	}
	assert_int_equal(r, 0);
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(next[i], LINES);
	rotated_close(&file);
}

/* What somebody's full disk left of a line costs nobody else's. */
static void test_torn_line(void **state)
{
	static struct rotated file;
	size_t len;
	char *line;
	int fd;

	(void)state;
	fd = openat(at, EVENT_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "{\"torn", 6), 6);
	(void)close(fd);
	assert_int_equal(event_append(at, "whole"), 0);
	assert_int_equal(event_append(at, "another"), 0);
	rotated_init(&file, at, EVENT_FILE, EVENT_OLD);
	assert_int_equal(rotated_next(&file, &line, &len), 1);
	assert_int_equal(len, 6);
	assert_int_equal(rotated_next(&file, &line, &len), 1);
	assert_memory_equal(line, "whole", 5);
	assert_int_equal(rotated_next(&file, &line, &len), 1);
	assert_memory_equal(line, "another", 7);
	assert_int_equal(rotated_next(&file, &line, &len), 0);
	rotated_close(&file);
}

/* Something else of that name is left alone. */
static void test_no_file(void **state)
{
	(void)state;
	assert_int_equal(symlinkat("other", at, EVENT_FILE), 0);
	assert_int_equal(event_append(at, "line"), -ELOOP);
	assert_int_equal(size_of("other"), -1);
	assert_int_equal(unlinkat(at, EVENT_FILE, 0), 0);
	assert_int_equal(mkfifoat(at, EVENT_FILE, 0600), 0);
	assert_int_equal(event_append(at, "line"), -EINVAL);
}

/* ---- where else they go ---- */

static void test_sink_values(void **state)
{
	static const char *const good[] = { "journald", "syslog", "file:/var/log/mvm" };
	static const char *const bad[] = { "", "file:", "file:relative", "journal", "/var/log/mvm", "syslog " };
	struct event_sink sink = EVENT_SINK_CLOSED;
	struct mvm_error err;
	char value[128];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(event_sink_check("--events", good[i], &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (event_sink_check("--events", bad[i], &err) != -EINVAL || !strstr(err.text, "--events: "))
			fail_msg("%s", bad[i]);
	(void)snprintf(value, sizeof(value), "file:%s", folder);
	assert_true(event_sink_open("--events", value, &sink, &err) < 0);
	(void)snprintf(value, sizeof(value), "file:%s/none/such", folder);
	assert_int_equal(event_sink_open("--events", value, &sink, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none/such"));
	(void)snprintf(value, sizeof(value), "file:%s/other", folder);
	assert_int_equal(event_sink_open("--events", value, &sink, &err), 0);
	event_sink_close(&sink);
}

static int listener(char path[108])
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(path, 108, "%s/socket", folder);
	(void)unlink(path);
	memcpy(addr.sun_path, path, sizeof(addr.sun_path));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void take(int fd, char *text, size_t size)
{
	ssize_t n = recv(fd, text, size - 1, 0);

	assert_true(n > 0);
	text[n] = '\0';
}

/* Nobody listens, then somebody who does not read, then one who does: nothing waits, and the loss is told. */
static void test_syslog(void **state)
{
	json_object *event = event_new(EVENT_ENDED, "0123456789ab", "web");
	char path[108], text[EVENT_LINE_MAX], *json;
	struct event_sink sink = EVENT_SINK_CLOSED;
	unsigned taken = 0;
	int fd;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/socket", folder);
	sink.kind = EVENT_SINK_SYSLOG;
	sink.path = path;
	sink.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	for (unsigned i = 0; i < 3; i++)
		event_sink_send(&sink, event);
	assert_int_equal(sink.lost, 3);
	fd = listener(path);
	while (sink.lost == 3 || !sink.lost)
		event_sink_send(&sink, event); /* until its queue is full */
	assert_int_equal(sink.lost, 1);
	take(fd, text, sizeof(text));
	assert_memory_equal(text, "<30>", 4);
	json = strchr(text, '{');
	assert_non_null(json);
	assert_non_null(strstr(text, " mvm["));
	assert_non_null(strstr(json, "\"lost\":3"));
	while (recv(fd, text, sizeof(text), 0) > 0)
		taken++;
	assert_true(taken > 0);
	event_sink_send(&sink, event);
	take(fd, text, sizeof(text));
	assert_non_null(strstr(text, "\"lost\":1"));
	event_sink_send(&sink, event);
	take(fd, text, sizeof(text));
	assert_null(strstr(text, "\"lost\""));
	/* a daemon started anew */
	(void)close(fd);
	fd = listener(path);
	event_sink_send(&sink, event);
	take(fd, text, sizeof(text));
	(void)close(fd);
	event_sink_close(&sink);
	(void)json_object_put(event);
}

static void test_journald(void **state)
{
	json_object *event = event_new(EVENT_ENDED, "0123456789ab", "web"), *options = json_object_new_object();
	size_t len;
	char *text;

	(void)state;
	event_text(event, "verdict", "exited\nMESSAGE=forged");
	(void)json_object_object_add(options, "a\nb", json_object_new_string("c\nd"));
	event_object(event, "options", options);
	text = event_journald(event, &len);
	assert_non_null(text);
	assert_int_equal(strlen(text), len);
	assert_non_null(strstr(text, "\nMESSAGE_ID=c60d801722b148fdaf9df42963fb29d5\n"));
	assert_non_null(strstr(text, "\nPRIORITY=6\nSYSLOG_IDENTIFIER=mvm\n"));
	assert_non_null(strstr(text, "\nMVM_ID=0123456789ab\n"));
	assert_non_null(strstr(text, "\nMVM_VERDICT=exited?MESSAGE=forged\n"));
	assert_non_null(strstr(text, "\nMVM_OPTIONS={\"a\\nb\":\"c\\nd\"}\n"));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		size_t name = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		assert_true(name > 0 && line[name] == '=');
	}
	free(text);
	(void)json_object_put(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test_teardown(test_many_writers, clear),
		cmocka_unit_test_teardown(test_torn_line, clear),
		cmocka_unit_test_teardown(test_no_file, clear),
		cmocka_unit_test_teardown(test_sink_values, clear),
		cmocka_unit_test_teardown(test_syslog, clear),
		cmocka_unit_test(test_journald),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
