/* The caller's journal of events, read back; see mvm.h and event.h. */
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/event.h"
#include "lib/rotated.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define WAIT_MS 1000
#define DEPTH   8 /* of a line's JSON: an object, its options, their arrays and objects */

struct mvm_events {
	struct rotated file;
	int root;
	json_object *object; /* of the last event: its texts belong to it */
	char *json, *details;
	struct mvm_event_entry entry;
};

int mvm_events_open(struct mvm_events **ret_events, struct mvm_error *err)
{
	struct mvm_events *events = calloc(1, sizeof(*events));
	char parent[PATH_MAX];
	int r;

	if (!events)
		return error_set(err, ENOMEM, "out of memory");
	events->root = -1;
	rotated_init(&events->file, -1, EVENT_FILE, EVENT_OLD);
	r = state_dir_parent(parent, err);
	if (r == 0) /* whose supervisors died are told of, too */
		(void)state_dir_reclaim(parent, "");
	if (r == 0)
		r = state_dir_open_parent(parent, &events->root, err);
	if (r == 0) {
		events->file.folder = events->root;
		r = rotated_open(&events->file);
		if (r == -ENOENT)
			r = 0; /* nothing has happened yet */
		if (r < 0)
			(void)error_set(err, -r, "%s/" EVENT_FILE ": cannot be read: %s: remove it", parent,
					strerror(-r));
	}
	if (r < 0) {
		mvm_events_free(events);
		return r;
	}
	*ret_events = events;
	return 0;
}

static void forget(struct mvm_events *events)
{
	(void)json_object_put(events->object);
	free(events->json);
	free(events->details);
	events->object = NULL;
	events->json = events->details = NULL;
}

void mvm_events_free(struct mvm_events *events)
{
	if (!events)
		return;
	forget(events);
	rotated_close(&events->file);
	cleanup_fd(&events->root);
	free(events);
}

static const char *text_of(json_object *object, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(object, key, &value) && json_object_is_type(value, json_type_string)
		       ? json_object_get_string(value)
		       : "";
}

/* What has no place of its own in the entry. */
static char *details_of(json_object *object)
{
	static const char *const known[] = {
		"time", "event", "severity", "id", "name", "uid", "supervisor", "options"
	};
	size_t size;
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	json_object_object_foreach(object, key, value)
	{
		bool skip = false;

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			skip |= !strcmp(known[i], key);
		if (!skip)
			(void)fprintf(out, "%s%s=%s", ftell(out) > 0 ? " " : "", key,
				      json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
										    JSON_C_TO_STRING_NOSLASHESCAPE));
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	text_harmless(text);
	return text;
}

/* A line that is no event was cut off by a full disk, or is nobody's of ours: passed over. 1, 0, -ENOMEM. */
static int parse(struct mvm_events *events, char *line, size_t len)
{
	json_tokener *tokener = json_tokener_new_ex(DEPTH);
	json_object *object;

	forget(events);
	if (!tokener)
		return -ENOMEM;
	line[len] = '\0'; /* where its feed was */
	text_harmless(line);
	object = json_tokener_parse_ex(tokener, line, (int)len);
	if (json_tokener_get_parse_end(tokener) != len) /* something stands behind the object */
		object = (json_object_put(object), NULL);
	json_tokener_free(tokener);
	if (!json_object_is_type(object, json_type_object) || !*text_of(object, "event") || !*text_of(object, "time")) {
		(void)json_object_put(object);
		return 0;
	}
	events->object = object;
	events->json = strdup(line);
	events->details = details_of(object);
	if (!events->json || !events->details)
		return -ENOMEM;
	events->entry = (struct mvm_event_entry){
		.time = text_of(object, "time"),
		.kind = text_of(object, "event"),
		.severity = text_of(object, "severity"),
		.id = text_of(object, "id"),
		.name = text_of(object, "name"),
		.details = events->details,
		.json = events->json,
	};
	return 1;
}

int mvm_events_next(struct mvm_events *events, const struct mvm_event_entry **ret_event)
{
	size_t len;
	char *line;
	int r;

	while ((r = rotated_next(&events->file, &line, &len)) > 0) {
		r = len < EVENT_LINE_MAX ? parse(events, line, len) : 0;
		if (r)
			break;
	}
	if (r > 0)
		*ret_event = &events->entry;
	return r;
}

void mvm_events_wait(struct mvm_events *events)
{
	rotated_wait(&events->file, WAIT_MS);
}
