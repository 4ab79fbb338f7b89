#include "lib/event.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

/* Names and message ids are for ever: filters and catalogues hold them. */
static const struct {
	const char *name;
	int priority;
	const char *message_id;
} kinds[EVENT_KINDS] = {
	[EVENT_CREATED] = { "created", LOG_INFO, "5d43a5ff586a4908a589cf9a18f57770" },
	[EVENT_LAYER_MISSING] = { "layer-missing", LOG_WARNING, "27aee692ec4544e69ae10413964eb74c" },
	[EVENT_BOOTED] = { "booted", LOG_INFO, "be4045a8b67f42c3a3b14481a5534066" },
	[EVENT_STARTED] = { "started", LOG_INFO, "d649cc2c6ccd4496925ea7c4b4024b9e" },
	[EVENT_ATTACH] = { "attach", LOG_INFO, "46affdf6da93c8279c72fb257587d7c0" },
	[EVENT_EXEC] = { "exec", LOG_INFO, "3e2ccc95d45c4855a6e295f21ef051d5" },
	[EVENT_EXEC_ENDED] = { "exec-ended", LOG_INFO, "c3d02dd033c9485585e5a489f1f6b26c" },
	[EVENT_STOP] = { "stop", LOG_NOTICE, "5c44761908be46b2bd08c0dc601ee21c" },
	[EVENT_KILL] = { "kill", LOG_NOTICE, "b2626e00bfde4a2cab194956a0622fdd" },
	[EVENT_SIGNAL] = { "signal", LOG_NOTICE, "6f46acf628c74a979b2bf326f4ccf9ed" },
	[EVENT_PAUSE] = { "pause", LOG_NOTICE, "9b311f30f9a64b66a013148df3203eac" },
	[EVENT_RESUME] = { "resume", LOG_NOTICE, "69c5066d9ac64b1aa00fb5446ca2cf3e" },
	[EVENT_UPDATE] = { "update", LOG_NOTICE, "b77235ecdb7143ab88be53f200eb06bf" },
	[EVENT_PORT_REFUSED] = { "port-refused", LOG_WARNING, "c47a94967b30406faae0f47e489fbe97" },
	[EVENT_PORT_FAILED] = { "port-failed", LOG_WARNING, "72cd5ee40f784b1abda9309c07c1a81e" },
	[EVENT_EGRESS_REFUSED] = { "egress-refused", LOG_WARNING, "e154c9a6f25448a7bebfe3262b34da0b" },
	[EVENT_CLIENT_REFUSED] = { "client-refused", LOG_WARNING, "f62139cc1cd0403089ae64a44afee33e" },
	[EVENT_VIOLATION] = { "violation", LOG_ERR, "0e6c2c90b49744cb8cdac2b6d5b59767" },
	[EVENT_LOG_DROPPED] = { "log-dropped", LOG_WARNING, "2240c53a1c564fb1893cc115ee103b14" },
	[EVENT_REFUSED] = { "refused", LOG_WARNING, "29dac1a48f5d46f19364af5eb3762c4a" },
	[EVENT_ENDED] = { "ended", LOG_INFO, "c60d801722b148fdaf9df42963fb29d5" },
	[EVENT_REMOVED] = { "removed", LOG_NOTICE, "44c060112c11493d8582364e829fd1af" },
};

static const char *const severities[] = {
	[LOG_ERR] = "error", [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info"
};

const char *event_name(enum event_kind kind)
{
	return kind < EVENT_KINDS ? kinds[kind].name : "unknown";
}

/* ---- who ---- */

/* UINT32_MAX where there is none, or the kernel does not say. */
static uint32_t login_uid(pid_t pid)
{
	char path[48], text[16];
	_cleanup_fd_ int fd = -1;
	uint64_t uid;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/loginuid", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return UINT32_MAX;
	text[n] = '\0';
	return text_parse_uint(text, UINT32_MAX, &uid) < 0 ? UINT32_MAX : (uint32_t)uid;
}

void event_actor_self(struct event_actor *ret)
{
	*ret = (struct event_actor){ true, getpid(), getuid(), getgid(), login_uid(getpid()) };
}

void event_actor_peer(int fd, struct event_actor *ret)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	*ret = (struct event_actor){ .login_uid = UINT32_MAX };
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return;
	*ret = (struct event_actor){ true, peer.pid, peer.uid, peer.gid, peer.pid ? login_uid(peer.pid) : UINT32_MAX };
}

/* ---- building ---- */

static void put(json_object *event, const char *key, json_object *value)
{
	if (event && value && json_object_object_add(event, key, value) == 0)
		return;
	(void)json_object_put(value);
}

void event_text(json_object *event, const char *key, const char *text)
{
	char copy[EVENT_TEXT_MAX];

	if (!text)
		return;
	(void)snprintf(copy, sizeof(copy), "%s", text);
	text_harmless(copy);
	put(event, key, json_object_new_string(copy));
}

void event_number(json_object *event, const char *key, uint64_t value)
{
	put(event, key, json_object_new_uint64(value));
}

void event_flag(json_object *event, const char *key, bool value)
{
	put(event, key, json_object_new_boolean(value));
}

void event_object(json_object *event, const char *key, json_object *value)
{
	put(event, key, value);
}

void event_by(json_object *event, const struct event_actor *actor)
{
	if (!actor->known)
		return;
	event_number(event, "by_uid", actor->uid);
	event_number(event, "by_gid", actor->gid);
	if (actor->pid)
		event_number(event, "by_pid", (uint64_t)actor->pid);
	if (actor->login_uid != UINT32_MAX)
		event_number(event, "by_login_uid", actor->login_uid);
}

void event_severity(json_object *event, int priority)
{
	event_text(event, "severity", severities[priority]);
}

json_object *event_new(enum event_kind kind, const char *id, const char *name)
{
	json_object *event = json_object_new_object();
	char now[TEXT_TIME];

	(void)text_time(now);
	event_text(event, "time", now);
	event_text(event, "event", event_name(kind));
	event_severity(event, kinds[kind].priority);
	event_text(event, "id", id && *id ? id : NULL);
	event_text(event, "name", name && *name ? name : NULL);
	event_number(event, "uid", geteuid());
	return event;
}

/* ---- reading what was built ---- */

static const char *text_of(json_object *event, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(event, key, &value) ? json_object_get_string(value) : NULL;
}

int event_priority(json_object *event)
{
	const char *severity = text_of(event, "severity");

	for (int i = LOG_ERR; severity && i <= LOG_INFO; i++)
		if (!strcmp(severities[i], severity))
			return i;
	return LOG_INFO;
}

const char *event_message_id(json_object *event)
{
	const char *name = text_of(event, "event");

	for (unsigned i = 0; name && i < EVENT_KINDS; i++)
		if (!strcmp(kinds[i].name, name))
			return kinds[i].message_id;
	return NULL;
}

const char *event_summary(json_object *event, char *buf, size_t size)
{
	static const char *const shown[] = { "verdict", "command", "cause", "layers", "port", "by_uid" };
	const char *who = text_of(event, "name"), *what = text_of(event, "event");
	size_t len;

	if (!who)
		who = text_of(event, "id");
	(void)snprintf(buf, size, "%s%s%s", who ? who : "", who ? ": " : "", what ? what : "");
	for (unsigned i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		const char *text = text_of(event, shown[i]);

		len = strlen(buf);
		if (text && len < size)
			(void)snprintf(buf + len, size - len, ", %s %s", shown[i], text);
	}
	return buf;
}

char *event_line(json_object *event)
{
	static const char *const large[] = { "options", "command", "cause" };
	const size_t n = sizeof(large) / sizeof(large[0]);
	const char *text = NULL;
	char *line;

	for (size_t i = 0; event; i++) {
		text = json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
		if (!text || strlen(text) < EVENT_LINE_MAX || i == n)
			break;
		json_object_object_del(event, large[i]);
		event_flag(event, "cut", true);
	}
	if (!text || strlen(text) >= EVENT_LINE_MAX)
		return NULL;
	line = strdup(text);
	if (line)
		text_harmless(line); /* options hold texts that were not looked at one by one */
	return line;
}
