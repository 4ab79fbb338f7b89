#include "lib/event_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "lib/event.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define FILE_PREFIX     "file:"
#define SYSLOG_SOCKET   "/dev/log"
#define JOURNALD_SOCKET "/run/systemd/journal/socket"
#define FIELD_NAME_MAX  64U /* bytes; journald's own bound */

int event_sink_check(const char *what, const char *value, struct mvm_error *err)
{
	size_t prefix = strlen(FILE_PREFIX);

	if (!strcmp(value, "journald") || !strcmp(value, "syslog") ||
	    (!strncmp(value, FILE_PREFIX, prefix) && value[prefix] == '/'))
		return 0;
	return error_set(err, EINVAL, "%s: '%.80s': give journald, syslog or file:/PATH", what, value);
}

static int check_file(const char *what, const char *path, struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "%s: %s: %s: choose a file that can be written", what, path,
				 strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "%s: %s: not a regular file: choose one", what, path);
	return 0;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return addr;
}

static int open_socket(const char *what, struct event_sink *sink, struct mvm_error *err)
{
	struct sockaddr_un addr = address(sink->path);
	_cleanup_fd_ int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* Connected for the question alone: a daemon that is started anew has another socket of that name. */
	if (probe < 0 || connect(probe, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return error_set(err, errno,
				 "%s: %s: nobody takes events there: %s: start the daemon, or choose another", what,
				 sink->path, strerror(errno));
	sink->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return sink->socket < 0 ? error_set(err, errno, "%s: no socket: %s", what, strerror(errno)) : 0;
}

int event_sink_open(const char *what, const char *value, struct event_sink *ret_sink, struct mvm_error *err)
{
	struct event_sink sink = EVENT_SINK_CLOSED;
	int r = event_sink_check(what, value, err);

	if (r < 0)
		return r;
	if (!strncmp(value, FILE_PREFIX, strlen(FILE_PREFIX))) {
		sink.kind = EVENT_SINK_FILE;
		sink.path = value + strlen(FILE_PREFIX);
		r = check_file(what, sink.path, err);
	} else {
		sink.kind = !strcmp(value, "syslog") ? EVENT_SINK_SYSLOG : EVENT_SINK_JOURNALD;
		sink.path = sink.kind == EVENT_SINK_SYSLOG ? SYSLOG_SOCKET : JOURNALD_SOCKET;
		r = open_socket(what, &sink, err);
	}
	if (r == 0)
		*ret_sink = sink;
	return r;
}

void event_sink_close(struct event_sink *sink)
{
	cleanup_fd(&sink->socket);
	*sink = EVENT_SINK_CLOSED;
}

/* ---- what is sent ---- */

/* Opened for each: whoever rotates it needs to tell nobody. */
static int to_file(const struct event_sink *sink, const char *line)
{
	_cleanup_fd_ int fd = open(sink->path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct iovec iov[] = { { (void *)(uintptr_t)line, strlen(line) }, { (void *)(uintptr_t) "\n", 1 } };
	ssize_t n = fd < 0 ? -1 : writev(fd, iov, 2);

	return n == (ssize_t)(iov[0].iov_len + 1) ? 0 : -EIO;
}

static int to_socket(const struct event_sink *sink, const void *bytes, size_t len)
{
	struct sockaddr_un addr = address(sink->path);
	ssize_t n =
		sendto(sink->socket, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&addr, sizeof(addr));

	return n < 0 ? -errno : 0;
}

/* "<30>Nov 22 10:20:30 mvm[123]: {…}": what syslog daemons take from /dev/log (RFC 3164 without the host's name). */
static int to_syslog(const struct event_sink *sink, json_object *event, const char *line)
{
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	_cleanup_free_ char *text = NULL;
	time_t now = time(NULL);
	struct tm local;
	int n;

	(void)localtime_r(&now, &local);
	n = asprintf(&text, "<%d>%s %2d %02d:%02d:%02d mvm[%d]: %s", LOG_DAEMON | event_priority(event),
		     months[local.tm_mon], local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec, getpid(), line);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return to_socket(sink, text, (size_t)n);
}

/* "by_uid" becomes "MVM_BY_UID". */
static void field_name(const char *key, char name[FIELD_NAME_MAX])
{
	(void)snprintf(name, FIELD_NAME_MAX, "MVM_%s", key);
	for (char *p = name; *p; p++)
		*p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p == '-' ? '_' : *p;
}

char *event_journald(json_object *event, size_t *ret_len)
{
	const char *id = event_message_id(event);
	char summary[512], name[FIELD_NAME_MAX], *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	if (!out)
		return NULL;
	/* No value holds a line feed: texts are harmless, and JSON is written in one line. */
	(void)fprintf(out, "MESSAGE=%s\nMESSAGE_ID=%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=mvm\n",
		      event_summary(event, summary, sizeof(summary)), id ? id : "", event_priority(event));
	json_object_object_foreach(event, key, value)
	{
		_cleanup_free_ char *copy =
			strdup(json_object_is_type(value, json_type_string)
				       ? json_object_get_string(value)
				       : json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
										       JSON_C_TO_STRING_NOSLASHESCAPE));

		if (!copy)
			continue;
		text_harmless(copy);
		field_name(key, name);
		(void)fprintf(out, "%s=%s\n", name, copy);
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static int to_journald(const struct event_sink *sink, json_object *event)
{
	size_t len;
	_cleanup_free_ char *text = event_journald(event, &len);

	return text ? to_socket(sink, text, len) : -ENOMEM;
}

void event_sink_send(struct event_sink *sink, json_object *event)
{
	_cleanup_free_ char *line = NULL;
	int r = -ENOMEM;

	if (sink->kind == EVENT_SINK_NONE)
		return;
	if (sink->lost)
		event_number(event, "lost", sink->lost);
	line = event_line(event);
	if (line && sink->kind == EVENT_SINK_FILE)
		r = to_file(sink, line);
	else if (line && sink->kind == EVENT_SINK_SYSLOG)
		r = to_syslog(sink, event, line);
	else if (line)
		r = to_journald(sink, event);
	if (event)
		json_object_object_del(event, "lost");
	sink->lost = r < 0 ? sink->lost + 1 : 0;
}
