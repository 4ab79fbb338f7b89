/* The JSON form of a spec: an object whose keys are the long flags, and "args". */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/spec.h"
#include "lib/text.h"

static json_object *list_to_json(const struct spec_list *list)
{
	json_object *array = json_object_new_array_ext((int)list->n);

	for (size_t i = 0; array && i < list->n; i++)
		(void)json_object_array_add(array, json_object_new_string(list->v[i]));
	return array;
}

static json_object *disks_to_json(const struct mvm_spec *spec)
{
	json_object *array = json_object_new_array();

	for (size_t i = 0; array && i < spec->ndisks; i++) {
		const struct spec_disk *disk = &spec->disks[i];
		json_object *o = json_object_new_object();

		(void)json_object_object_add(o, "file", json_object_new_string(disk->file));
		if (disk->ro)
			(void)json_object_object_add(o, "ro", json_object_new_boolean(true));
		if (disk->id)
			(void)json_object_object_add(o, "id", json_object_new_string(disk->id));
		(void)json_object_array_add(array, o);
	}
	return array;
}

static json_object *ports_to_json(const struct mvm_spec *spec)
{
	json_object *array = json_object_new_array();

	for (size_t i = 0; array && i < spec->nports; i++) {
		const struct spec_port *port = &spec->ports[i];
		char text[SPEC_PORT_TEXT_MAX];
		json_object *o;

		(void)snprintf(text, sizeof(text), "%u=%s", port->port, port->target);
		if (port->addresses) {
			o = json_object_new_object();
			(void)json_object_object_add(o, "allow", json_object_new_string(text));
			(void)json_object_object_add(o, "addresses", json_object_new_string(port->addresses));
		} else {
			o = json_object_new_string(text);
		}
		(void)json_object_array_add(array, o);
	}
	return array;
}

static json_object *nets_to_json(const struct mvm_spec *spec)
{
	json_object *array = json_object_new_array();
	char text[SPEC_NET_TEXT];

	for (size_t i = 0; array && i < spec->nnets; i++)
		(void)json_object_array_add(array, json_object_new_string(spec_net_text(&spec->nets[i], text)));
	return array;
}

static json_object *publish_to_json(const struct mvm_spec *spec)
{
	json_object *array = json_object_new_array();
	char text[SPEC_PUBLISH_TEXT];

	for (size_t i = 0; array && i < spec->npublish; i++)
		(void)json_object_array_add(array, json_object_new_string(spec_publish_text(&spec->publish[i], text)));
	return array;
}

/* NULL when the field is at "not set" and can be left out. */
static json_object *key_to_json(const struct mvm_spec *spec, const struct spec_key *key)
{
	const void *field = (const char *)spec + key->offset;
	char text[IO_MAX_TEXT]; /* the longest of all */

	if (key->type != SPEC_LEVEL && !mvm_spec_has(spec, key->option.name))
		return NULL;
	switch (key->type) {
	case SPEC_SWITCH:
		return json_object_new_boolean(true);
	case SPEC_SIZE:
	case SPEC_NUMBER:
		return json_object_new_uint64(*(const uint64_t *)field);
	case SPEC_TIME:
		(void)snprintf(text, sizeof(text), "%llums",
			       (unsigned long long)((*(const uint64_t *)field + 999999) / 1000000));
		return json_object_new_string(text);
	case SPEC_LAYERS:
		return json_object_new_string(spec_layers_text(*(const uint64_t *)field, text));
	case SPEC_PERCENT:
		(void)snprintf(text, sizeof(text), "%llu.%02llu", *(const unsigned long long *)field / 100,
			       *(const unsigned long long *)field % 100);
		return json_object_new_string(text);
	case SPEC_LEVEL:
		return json_object_new_string(spec_level_name(*(const uint64_t *)field));
	case SPEC_LIST:
		return list_to_json(field);
	case SPEC_DISK:
		return disks_to_json(spec);
	case SPEC_PORT:
		return ports_to_json(spec);
	case SPEC_NET:
		return nets_to_json(spec);
	case SPEC_PUBLISH:
		return publish_to_json(spec);
	case SPEC_IO_MAX:
		return json_object_new_string(io_max_text(field, ',', text));
	case SPEC_STRING:
	case SPEC_PATH:
		break;
	}
	return json_object_new_string(*(char *const *)field);
}

/*
 * What --env-file read is written among "env", before what --env gave: a reader of the JSON form
 * must not need the file again.
 */
static int env_to_json(const struct mvm_spec *spec, json_object *root)
{
	json_object *array = list_to_json(&spec->env_file);

	for (size_t i = 0; array && i < spec->env.n; i++)
		(void)json_object_array_add(array, json_object_new_string(spec->env.v[i]));
	return json_object_object_add(root, "env", array);
}

int mvm_spec_to_json(const struct mvm_spec *spec, char **ret_json, struct mvm_error *err)
{
	json_object *root = json_object_new_object();
	const struct spec_key *key;
	char *copy = NULL;
	int r = root ? 0 : -1;

	for (size_t i = 0; r == 0 && (key = spec_key_at(i)); i++) {
		json_object *value;

		if (!strcmp(key->option.name, "env") || !strcmp(key->option.name, "env-file"))
			continue; /* env_to_json() */
		value = key_to_json(spec, key);
		if (value)
			r = json_object_object_add(root, key->option.name, value);
	}
	if (r == 0 && (spec->env.n || spec->env_file.n))
		r = env_to_json(spec, root);
	if (r == 0)
		r = json_object_object_add(root, "args", list_to_json(&spec->args));
	if (r == 0) {
		const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);

		copy = text ? strdup(text) : NULL;
	}
	(void)json_object_put(root);
	if (!copy)
		return error_set(err, ENOMEM, "spec: out of memory");
	*ret_json = copy;
	return 0;
}

/* A string without NUL bytes inside: what follows one would be lost silently. */
static const char *plain_string(json_object *value)
{
	const char *s = json_object_get_string(value);

	if (s && json_object_is_type(value, json_type_string) && strlen(s) != (size_t)json_object_get_string_len(value))
		return NULL;
	return s;
}

static int scalar_from_json(struct mvm_spec *spec, const char *name, json_object *value, struct mvm_error *err)
{
	const char *s;

	switch (json_object_get_type(value)) {
	case json_type_string:
	case json_type_int:
	case json_type_double:
	case json_type_boolean:
		s = plain_string(value);
		if (s)
			return mvm_spec_set(spec, name, s, err);
		break;
	case json_type_null:
	case json_type_object:
	case json_type_array:
		break;
	}
	return error_set(err, EINVAL, "%s: not a plain value: give a string, a number, true or false", name);
}

static int disk_from_json(struct mvm_spec *spec, json_object *value, struct mvm_error *err)
{
	const char *file = NULL, *id = NULL;
	bool ro = false;

	if (!json_object_is_type(value, json_type_object))
		return scalar_from_json(spec, "disk", value, err);
	json_object_object_foreach(value, name, member)
	{
		if (!strcmp(name, "file") && json_object_is_type(member, json_type_string))
			file = plain_string(member);
		else if (!strcmp(name, "id") && json_object_is_type(member, json_type_string))
			id = plain_string(member);
		else if (!strcmp(name, "ro") && json_object_is_type(member, json_type_boolean))
			ro = json_object_get_boolean(member);
		else
			return error_set(err, EINVAL, "disk: '%.40s' is not known there: use file, ro and id", name);
	}
	return spec_disk_add(spec, file ? file : "", id, ro, err);
}

static int port_from_json(struct mvm_spec *spec, json_object *value, struct mvm_error *err)
{
	const char *text = NULL, *addresses = NULL;

	if (!json_object_is_type(value, json_type_object))
		return scalar_from_json(spec, "allow-port", value, err);
	json_object_object_foreach(value, name, member)
	{
		if (!strcmp(name, "allow") && json_object_is_type(member, json_type_string))
			text = plain_string(member);
		else if (!strcmp(name, "addresses") && json_object_is_type(member, json_type_string))
			addresses = plain_string(member);
		else
			return error_set(err, EINVAL, "allow-port: '%.40s' is not known there: use allow and addresses",
					 name);
	}
	return spec_port_add(spec, text ? text : "", addresses, err);
}

static int entry_from_json(struct mvm_spec *spec, const struct spec_key *key, json_object *value, struct mvm_error *err)
{
	if (key->type == SPEC_DISK)
		return disk_from_json(spec, value, err);
	if (key->type == SPEC_PORT)
		return port_from_json(spec, value, err);
	return scalar_from_json(spec, key->option.name, value, err);
}

static int value_from_json(struct mvm_spec *spec, const struct spec_key *key, json_object *value, struct mvm_error *err)
{
	int r = 0;

	if (!key->option.repeats || !json_object_is_type(value, json_type_array))
		return entry_from_json(spec, key, value, err);
	for (size_t i = 0; r == 0 && i < json_object_array_length(value); i++)
		r = entry_from_json(spec, key, json_object_array_get_idx(value, i), err);
	return r;
}

static int args_from_json(struct mvm_spec *spec, json_object *value, struct mvm_error *err)
{
	const char **args;
	size_t n;
	int r = 0;

	if (!json_object_is_type(value, json_type_array))
		return error_set(err, EINVAL, "args: not an array: give the command and its arguments as strings");
	n = json_object_array_length(value);
	args = calloc(n + 1, sizeof(*args));
	if (!args)
		return error_set(err, ENOMEM, "args: out of memory");
	for (size_t i = 0; r == 0 && i < n; i++) {
		json_object *entry = json_object_array_get_idx(value, i);

		args[i] = json_object_is_type(entry, json_type_string) ? plain_string(entry) : NULL;
		if (!args[i])
			r = error_set(err, EINVAL, "args: entry %zu is no string without NUL bytes", i);
	}
	if (r == 0)
		r = mvm_spec_set_args(spec, args, err);
	free(args);
	return r;
}

static int object_from_json(struct mvm_spec *spec, json_object *root, struct mvm_error *err)
{
	if (!json_object_is_type(root, json_type_object))
		return error_set(err, EINVAL, "spec: not a JSON object");
	json_object_object_foreach(root, name, value)
	{
		const char *nearest = NULL;
		const struct spec_key *key = spec_key_find(name, &nearest);
		int r;

		if (!strcmp(name, "args"))
			r = args_from_json(spec, value, err);
		else if (key)
			r = value_from_json(spec, key, value, err);
		else
			r = error_set(err, EINVAL, "%.80s: unknown key: %s%s%s", name,
				      nearest ? "did you mean " : "mvm run --help lists the options",
				      nearest ? nearest : "", nearest ? "?" : "");
		if (r < 0)
			return r;
	}
	return 0;
}

int mvm_spec_from_json(const char *json, size_t len, struct mvm_spec **ret_spec, struct mvm_error *err)
{
	json_tokener *tokener;
	json_object *root;
	struct mvm_spec *spec = NULL;
	int r;

	if (len > SPEC_JSON_MAX)
		return error_set(err, E2BIG, "spec: %zu bytes of JSON, and at most %u are possible", len,
				 SPEC_JSON_MAX);
	tokener = json_tokener_new_ex((int)SPEC_JSON_DEPTH);
	if (!tokener)
		return error_set(err, ENOMEM, "spec: out of memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT); /* names and arguments may be any bytes, not only UTF-8 */
	root = json_tokener_parse_ex(tokener, json, (int)len);
	if (!root && json_tokener_get_error(tokener) == json_tokener_continue)
		root = json_tokener_parse_ex(tokener, "", 1); /* a NUL ends what needs an end */
	if (!root) {
		r = error_set(err, EINVAL, "spec: not JSON: %s at byte %zu",
			      json_tokener_error_desc(json_tokener_get_error(tokener)),
			      json_tokener_get_parse_end(tokener));
	} else {
		r = spec_json_unique(json, len, err);
		if (r == 0 && mvm_spec_new(&spec) < 0)
			r = error_set(err, ENOMEM, "spec: out of memory");
		if (r == 0)
			r = object_from_json(spec, root, err);
	}
	(void)json_object_put(root);
	json_tokener_free(tokener);
	if (r < 0) {
		mvm_spec_free(spec);
		return r;
	}
	*ret_spec = spec;
	return 0;
}
