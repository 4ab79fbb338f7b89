/* A key given twice, of which a JSON parser would keep the last and say nothing. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "lib/spec.h"
#include "lib/text.h"

/* The closing quote of the string that opens at `at`; len: there is none. */
static size_t string_end(const char *json, size_t len, size_t at)
{
	for (at++; at < len && json[at] != '"'; at++)
		at += json[at] == '\\';
	return at < len ? at : len;
}

static bool is_key(const char *json, size_t len, size_t after)
{
	while (after < len && strchr(" \t\r\n", json[after]))
		after++;
	return after < len && json[after] == ':';
}

/* The key between two quotes, as it reads once its escapes are resolved; -EEXIST: it is in `seen` already. */
static int add(json_object *seen, const char *quoted, size_t len, struct mvm_error *err)
{
	json_tokener *tokener = json_tokener_new();
	json_object *name = tokener ? json_tokener_parse_ex(tokener, quoted, (int)len) : NULL;
	const char *text = name ? json_object_get_string(name) : NULL;
	int r = 0;

	if (text && json_object_object_get_ex(seen, text, NULL))
		r = error_set(err, EEXIST, "%.80s: given twice: leave one out", text);
	else if (!text || json_object_object_add(seen, text, NULL) < 0)
		r = error_set(err, ENOMEM, "spec: out of memory");
	(void)json_object_put(name);
	if (tokener)
		json_tokener_free(tokener);
	return r;
}

int spec_json_unique(const char *json, size_t len, struct mvm_error *err)
{
	json_object *seen[SPEC_JSON_DEPTH] = { NULL }; /* the keys of each object that is open; NULL: an array */
	unsigned depth = 0;
	int r = 0;

	for (size_t at = 0, end; r == 0 && at < len; at++) {
		switch (json[at]) {
		case '{':
		case '[':
			if (depth == SPEC_JSON_DEPTH)
				r = error_set(err, EINVAL, "spec: nested too deeply: leave levels out");
			else
				seen[depth++] = json[at] == '{' ? json_object_new_object() : NULL;
			break;
		case '}':
		case ']':
			if (depth)
				(void)json_object_put(seen[--depth]);
			break;
		case '"':
			end = string_end(json, len, at);
			if (depth && seen[depth - 1] && is_key(json, len, end + 1))
				r = add(seen[depth - 1], json + at, end + 1 - at, err);
			at = end;
			break;
		default:
			break;
		}
	}
	while (depth)
		(void)json_object_put(seen[--depth]);
	return r;
}
