/* What the supervisor writes down of the jail that it demanded, and its reading back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "jail/landlock.h"
#include "lib/inspect.h"

#define RECORD_VERSION 1

static const char *const kinds[JAIL_FILTERS] = { "start", "io", "vcpu", "disk" };

const char *inspect_filter_name(enum jail_filter kind)
{
	return (unsigned)kind < JAIL_FILTERS ? kinds[kind] : "kernel";
}

void inspect_add(json_object *o, const char *name, json_object *value)
{
	if (json_object_object_add(o, name, value) < 0) /* out of memory: the member is missing */
		(void)json_object_put(value);
}

static json_object *strings_of(unsigned layers)
{
	json_object *list = json_object_new_array();
	const char *name;

	for (unsigned bit = 0; (name = jail_layer_name(bit)); bit++)
		if (layers & (1U << bit))
			(void)json_object_array_add(list, json_object_new_string(name));
	return list;
}

json_object *inspect_isolation(const struct jail *jail)
{
	/* What a VMM cannot have been started without; seccomp it closes behind itself, or ends. */
	static const char *const always[] = { "namespaces",   "empty-root",   "limits",
					      "capabilities", "no-new-privs", "seccomp" };
	json_object *o = json_object_new_object(), *in_force = json_object_new_array();
	const char *name;

	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		(void)json_object_array_add(in_force, json_object_new_string(always[i]));
	for (unsigned bit = 0; (name = jail_layer_name(bit)); bit++)
		if (!(jail->missing & (1U << bit)))
			(void)json_object_array_add(in_force, json_object_new_string(name));
	inspect_add(o, "in_force", in_force);
	inspect_add(o, "missing", strings_of(jail->missing));
	inspect_add(o, "uid", json_object_new_int64(jail->ids.uid));
	inspect_add(o, "cgroup", json_object_new_boolean(jail->cgroup.n != 0));
	inspect_add(o, "seccomp_sha256", json_object_new_string(jail->filters.sha256));
	inspect_add(o, "landlock_abi", json_object_new_int(landlock_abi()));
	return o;
}

char *inspect_record_text(const struct jail *jail)
{
	json_object *root = json_object_new_object(), *programs = json_object_new_array();
	const char *text;
	char *copy;

	inspect_add(root, "version", json_object_new_int(RECORD_VERSION));
	inspect_add(root, "by_root", json_object_new_boolean(jail->by_root));
	inspect_add(root, "uid", json_object_new_int64(jail->ids.uid));
	inspect_add(root, "gid", json_object_new_int64(jail->ids.gid));
	inspect_add(root, "missing", json_object_new_int((int)jail->missing));
	inspect_add(root, "landlock_abi", json_object_new_int(landlock_abi()));
	inspect_add(root, "landlock_fs", json_object_new_boolean(!(jail->missing & JAIL_LAYER_LANDLOCK)));
	inspect_add(root, "landlock_net", json_object_new_boolean(!(jail->missing & JAIL_LAYER_LANDLOCK_NET)));
	inspect_add(root, "cgroup", json_object_new_boolean(jail->cgroup.n != 0));
	inspect_add(root, "memory", json_object_new_uint64(jail->options.config->mem_bytes));
	inspect_add(root, "open_files", json_object_new_uint64(jail->open_files));
	inspect_add(root, "address_space", json_object_new_uint64(jail->address_space));
	inspect_add(root, "file_size", json_object_new_uint64(jail->options.file_size_max));
	inspect_add(root, "processes", json_object_new_uint64(jail->threads + 2));
	inspect_add(root, "seccomp", json_object_new_string(jail->filters.sha256));
	for (unsigned i = 0; i < JAIL_FILTERS; i++) {
		json_object *one = json_object_new_object();

		inspect_add(one, "instructions", json_object_new_int((int)jail->filters.instructions[i]));
		inspect_add(one, "calls", json_object_new_int((int)jail->filters.calls[i]));
		inspect_add(one, "sha256", json_object_new_string(jail->filters.programs[i]));
		(void)json_object_array_add(programs, one);
	}
	inspect_add(root, "programs", programs);
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);
	copy = text ? strdup(text) : NULL;
	(void)json_object_put(root);
	return copy;
}

static uint64_t number(json_object *o, const char *name, bool *good)
{
	json_object *value;

	if (json_object_object_get_ex(o, name, &value) && json_object_is_type(value, json_type_int))
		return json_object_get_uint64(value);
	*good = false;
	return 0;
}

static bool flag(json_object *o, const char *name, bool *good)
{
	json_object *value;

	if (json_object_object_get_ex(o, name, &value) && json_object_is_type(value, json_type_boolean))
		return json_object_get_boolean(value);
	*good = false;
	return false;
}

static void digest(json_object *o, const char *name, char hex[65], bool *good)
{
	json_object *value;

	if (json_object_object_get_ex(o, name, &value) && json_object_is_type(value, json_type_string) &&
	    json_object_get_string_len(value) == 64)
		memcpy(hex, json_object_get_string(value), 65);
	else
		*good = false;
}

int inspect_record_parse(const char *text, size_t len, struct inspect_recorded *ret_recorded)
{
	json_tokener *tokener = len && len < INSPECT_FILE_MAX ? json_tokener_new_ex(4) : NULL;
	struct inspect_recorded rec = { 0 };
	json_object *root = NULL, *list = NULL;
	bool good = tokener != NULL;

	if (tokener)
		root = json_tokener_parse_ex(tokener, text, (int)len);
	good = good && json_object_is_type(root, json_type_object) && number(root, "version", &good) == RECORD_VERSION;
	if (good) {
		rec.by_root = flag(root, "by_root", &good);
		rec.uid = (uint32_t)number(root, "uid", &good);
		rec.gid = (uint32_t)number(root, "gid", &good);
		rec.missing = (unsigned)number(root, "missing", &good);
		rec.landlock_abi = (int)number(root, "landlock_abi", &good);
		rec.landlock_fs = flag(root, "landlock_fs", &good);
		rec.landlock_net = flag(root, "landlock_net", &good);
		rec.cgroup = flag(root, "cgroup", &good);
		rec.memory = number(root, "memory", &good);
		rec.open_files = number(root, "open_files", &good);
		rec.address_space = number(root, "address_space", &good);
		rec.file_size = number(root, "file_size", &good);
		rec.processes = number(root, "processes", &good);
		digest(root, "seccomp", rec.filters.sha256, &good);
		good = good && json_object_object_get_ex(root, "programs", &list) &&
		       json_object_is_type(list, json_type_array) && json_object_array_length(list) == JAIL_FILTERS;
	}
	for (size_t i = 0; good && i < JAIL_FILTERS; i++) {
		json_object *one = json_object_array_get_idx(list, i);

		good = json_object_is_type(one, json_type_object);
		rec.filters.instructions[i] = (unsigned)number(one, "instructions", &good);
		rec.filters.calls[i] = (unsigned)number(one, "calls", &good);
		digest(one, "sha256", rec.filters.programs[i], &good);
	}
	(void)json_object_put(root);
	if (tokener)
		json_tokener_free(tokener);
	if (good)
		*ret_recorded = rec;
	return good ? 0 : -EINVAL;
}
