/*
 * Where else events go: --events and `events =` in /etc/mvm.conf.
 *
 * Purpose: "file:PATH" (JSON lines), "syslog" (/dev/log, the JSON behind RFC 3164's head) or "journald" (its native
 *          protocol, a field for each key). No library of theirs: the supervisor is static.
 * Trust:   objects are event.h's, harmless already; whoever reads at the other end is the operator's.
 * Ownership: the value is borrowed; the socket is event_sink_close()'s.
 * Thread:  one. Nothing here waits: what a daemon does not take is counted, and told with the next that it takes.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_EVENT_SINK_H
#define LIB_EVENT_SINK_H

#include <json-c/json_types.h>
#include <stdint.h>

#include "mvm/mvm.h"

struct event_sink {
	enum { EVENT_SINK_NONE, EVENT_SINK_FILE, EVENT_SINK_SYSLOG, EVENT_SINK_JOURNALD } kind;
	const char *path; /* of the file or the socket */
	int socket; /* -1: none */
	uint64_t lost; /* since it was last told */
};

#define EVENT_SINK_CLOSED ((struct event_sink){ .socket = -1 })

/* Whether it is one of the three; `what`: the option or the line, for the message. */
int event_sink_check(const char *what, const char *value, struct mvm_error *err);

/* Opens it, and sees that somebody listens or that the file can be written. */
int event_sink_open(const char *what, const char *value, struct event_sink *ret_sink, struct mvm_error *err);
void event_sink_close(struct event_sink *sink);

void event_sink_send(struct event_sink *sink, struct json_object *event);

/* The journald datagram of an object; free() it. NULL: out of memory. */
char *event_journald(struct json_object *event, size_t *ret_len);

#endif
