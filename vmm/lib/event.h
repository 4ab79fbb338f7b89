/*
 * Events: what happened to VMs and who asked for it, a JSON object each; mvm-events(1) documents them.
 *
 * Purpose: one table of kinds with their names, severities and message ids; building an object; keeping it in the
 *          journal of the user's state root. Where else it goes is event_sink.h's affair.
 * Form:    the keys of every event first (time, event, severity, id, name), then its own. Names and types stay.
 * Trust:   texts may be a guest's or a client's: event_text() makes them harmless and bounds them.
 * Ownership: an object belongs to who made it: json_object_put().
 * Thread:  any; no state. A NULL object (out of memory) is passed over by all.
 */
#ifndef LIB_EVENT_H
#define LIB_EVENT_H

#include <json-c/json_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define EVENT_FILE     "events" /* in the state root … */
#define EVENT_OLD      "events.1" /* … and what came before it */
#define EVENT_FILE_MAX (4ULL << 20) /* bytes of each */
#define EVENT_LINE_MAX 32768U /* bytes of a line */
#define EVENT_TEXT_MAX 1024U /* bytes of a text */

enum event_kind {
	EVENT_CREATED,
	EVENT_LAYER_MISSING,
	EVENT_BOOTED,
	EVENT_STARTED,
	EVENT_ATTACH,
	EVENT_EXEC,
	EVENT_EXEC_ENDED,
	EVENT_STOP,
	EVENT_KILL,
	EVENT_SIGNAL,
	EVENT_PAUSE,
	EVENT_RESUME,
	EVENT_UPDATE,
	EVENT_PORT_REFUSED,
	EVENT_PORT_FAILED,
	EVENT_EGRESS_REFUSED,
	EVENT_CLIENT_REFUSED,
	EVENT_VIOLATION,
	EVENT_LOG_DROPPED,
	EVENT_REFUSED,
	EVENT_ENDED,
	EVENT_REMOVED,
	EVENT_KINDS
};

const char *event_name(enum event_kind kind);

/* Who asked: as the kernel tells of a socket's other end. login_uid: UINT32_MAX, no login. */
struct event_actor {
	bool known; /* the rest is */
	pid_t pid; /* 0: of another pid namespace */
	uid_t uid;
	gid_t gid;
	uint32_t login_uid;
};

/* This process; the other end of a socket. */
void event_actor_self(struct event_actor *ret_actor);
void event_actor_peer(int fd, struct event_actor *ret_actor);

/* Time and kind are there; id and name where they are not NULL or "". */
struct json_object *event_new(enum event_kind kind, const char *id, const char *name);

/* The same with another severity than its kind's: LOG_ERR to LOG_INFO of syslog(3). */
void event_severity(struct json_object *event, int priority);
int event_priority(struct json_object *event);

void event_text(struct json_object *event, const char *key, const char *text); /* NULL: left out */
void event_number(struct json_object *event, const char *key, uint64_t value);
void event_flag(struct json_object *event, const char *key, bool value);
void event_object(struct json_object *event, const char *key, struct json_object *value); /* takes value over */
void event_by(struct json_object *event, const struct event_actor *actor);

/* The message id of its kind, 32 hex digits (systemd's MESSAGE_ID). */
const char *event_message_id(struct json_object *event);

/* "web: stop: by_uid 0, …": for people. Returns buf. */
const char *event_summary(struct json_object *event, char *buf, size_t size);

/*
 * The object as one line, without a feed; free() it. One that would be too long loses what is large (options,
 * command, cause), which "cut": true then says. NULL: out of memory.
 */
char *event_line(struct json_object *event);

/*
 * Appends a line to the journal in the state root `root_fd`, whoever else does. Never waits for long: a millisecond
 * for one who rotates. 0 or -errno: the line is not there, or not whole.
 */
int event_append(int root_fd, const char *line);

/* Appends an object, and frees it; for what happens outside of a supervisor. */
void event_append_object(int root_fd, struct json_object *event);

#endif
