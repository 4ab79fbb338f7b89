/*
 * What a guest or a client can put into an event's texts: whatever the bytes, the line is one line of JSON, and the
 * datagram for journald has no field but those meant, each in one line.
 */
#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/event.h"
#include "lib/event_sink.h"

static void check_line(json_object *event)
{
	char *line = event_line(event);
	json_object *back = line ? json_tokener_parse(line) : NULL, *cause;

	if (!back || strlen(line) >= EVENT_LINE_MAX)
		abort();
	for (const char *p = line; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			abort();
	if (!json_object_object_get_ex(back, "event", &cause) ||
	    strcmp(json_object_get_string(cause), "violation") != 0)
		abort();
	(void)json_object_put(back);
	free(line);
}

static void check_journald(json_object *event)
{
	size_t len, fields = 0;
	char *text = event_journald(event, &len);

	if (!text || len != strlen(text) || !len || text[len - 1] != '\n')
		abort();
	for (char *line = text, *feed; (feed = strchr(line, '\n')); line = feed + 1, fields++) {
		size_t name = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		if (!name || line[name] != '=')
			abort();
	}
	/* MESSAGE, MESSAGE_ID, PRIORITY, SYSLOG_IDENTIFIER, and one of each key */
	if (fields != 4 + (size_t)json_object_object_length(event))
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_object *event = event_new(EVENT_VIOLATION, "0123456789ab", "name"), *options = json_object_new_object();
	char *text = malloc(size + 1), summary[64];

	if (!event || !options || !text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	event_text(event, "cause", text);
	(void)json_object_object_add(options, "workdir", json_object_new_string(text)); /* as a spec has it */
	event_object(event, "options", options);
	if (strlen(event_summary(event, summary, sizeof(summary))) >= sizeof(summary))
		abort();
	check_journald(event);
	check_line(event);
	(void)json_object_put(event);
	free(text);
	return 0;
}
