#include "lib/record.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mvm/cleanup.h"

static const char *const states[RECORD_STATES] = { "booting", "running", "paused", "restarting", "ended" };

const char *record_state_name(enum record_state state)
{
	return state < RECORD_STATES ? states[state] : "unknown";
}

/* ---- writing ---- */

static bool put(struct json_object *object, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(object, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

static bool put_text(struct json_object *object, const char *key, const char *text)
{
	return !text || put(object, key, json_object_new_string(text));
}

char *record_text(const struct record *record)
{
	struct json_object *object = json_object_new_object();
	char *copy = NULL;
	bool ok = object && put(object, "version", json_object_new_int(RECORD_VERSION)) &&
		  put_text(object, "id", record->id) && put_text(object, "name", record->name) &&
		  put_text(object, "rootfs", record->rootfs) && put_text(object, "command", record->command) &&
		  put_text(object, "ports", record->ports) &&
		  put_text(object, "state", record_state_name(record->state)) &&
		  put(object, "detached", json_object_new_boolean(record->detached)) &&
		  put(object, "remove", json_object_new_boolean(record->remove)) &&
		  put(object, "restarts", json_object_new_int64(record->restarts)) &&
		  put(object, "supervisor", json_object_new_int(record->supervisor)) &&
		  put(object, "vmm", json_object_new_int(record->vmm)) &&
		  put(object, "began_ns", json_object_new_uint64(record->began_ns)) &&
		  put(object, "ended_ns", json_object_new_uint64(record->ended_ns)) &&
		  put_text(object, "verdict", record->verdict) && put_text(object, "cause", record->cause) &&
		  put(object, "status", json_object_new_int(record->status));

	if (ok) {
		const char *text =
			json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

		copy = text ? strdup(text) : NULL;
	}
	json_object_put(object);
	return copy;
}

/* ---- reading ---- */

static int get_text(const struct json_object *object, const char *key, char **ret)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, json_type_string))
		return -EINVAL;
	*ret = strdup(json_object_get_string(value));
	return *ret ? 0 : -ENOMEM;
}

static int get_number(const struct json_object *object, const char *key, int64_t max, int64_t *ret)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_int))
		return -EINVAL;
	*ret = json_object_get_int64(value);
	return *ret < 0 || *ret > max ? -EINVAL : 0;
}

static int get_flag(const struct json_object *object, const char *key, bool *ret)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_boolean))
		return -EINVAL;
	*ret = json_object_get_boolean(value);
	return 0;
}

static int get_state(const struct json_object *object, enum record_state *ret)
{
	struct json_object *value;

	if (json_object_object_get_ex(object, "state", &value) && json_object_is_type(value, json_type_string))
		for (unsigned i = 0; i < RECORD_STATES; i++)
			if (!strcmp(json_object_get_string(value), states[i])) {
				*ret = (enum record_state)i;
				return 0;
			}
	return -EINVAL;
}

static int get_all(const struct json_object *object, struct record *record)
{
	int64_t version = 0, restarts = 0, supervisor = 0, vmm = 0, began = 0, ended = 0, status = 0;
	int r = get_number(object, "version", INT32_MAX, &version);

	if (r == 0 && version != RECORD_VERSION)
		return -EPROTONOSUPPORT;
	r = r < 0 ? r : get_text(object, "id", &record->id);
	r = r < 0 ? r : get_text(object, "name", &record->name);
	r = r < 0 ? r : get_text(object, "rootfs", &record->rootfs);
	r = r < 0 ? r : get_text(object, "command", &record->command);
	r = r < 0 ? r : get_text(object, "ports", &record->ports);
	r = r < 0 ? r : get_text(object, "verdict", &record->verdict);
	r = r < 0 ? r : get_text(object, "cause", &record->cause);
	r = r < 0 ? r : get_state(object, &record->state);
	r = r < 0 ? r : get_flag(object, "detached", &record->detached);
	r = r < 0 ? r : get_flag(object, "remove", &record->remove);
	r = r < 0 ? r : get_number(object, "restarts", UINT32_MAX, &restarts);
	r = r < 0 ? r : get_number(object, "supervisor", INT32_MAX, &supervisor);
	r = r < 0 ? r : get_number(object, "vmm", INT32_MAX, &vmm);
	r = r < 0 ? r : get_number(object, "began_ns", INT64_MAX, &began);
	r = r < 0 ? r : get_number(object, "ended_ns", INT64_MAX, &ended);
	r = r < 0 ? r : get_number(object, "status", 255, &status);
	if (r == 0 && (!record->id || !record->rootfs || !record->command ||
		       (record->state == RECORD_ENDED && (!record->verdict || !record->cause))))
		r = -EINVAL;
	record->restarts = (uint32_t)restarts;
	record->supervisor = (int)supervisor;
	record->vmm = (int)vmm;
	record->began_ns = (uint64_t)began;
	record->ended_ns = (uint64_t)ended;
	record->status = (int)status;
	return r;
}

int record_parse(const char *text, size_t len, struct record *ret_record)
{
	struct json_tokener *tokener = json_tokener_new_ex(4);
	struct json_object *object =
		tokener && len <= RECORD_MAX ? json_tokener_parse_ex(tokener, text, (int)len) : NULL;
	struct record record = { 0 };
	int r = object && json_object_is_type(object, json_type_object) ? get_all(object, &record) : -EINVAL;

	json_object_put(object);
	if (tokener)
		json_tokener_free(tokener);
	if (r < 0)
		record_free(&record);
	else
		*ret_record = record;
	return r;
}

int record_read(int folder_fd, struct record *ret_record)
{
	_cleanup_fd_ int fd = openat(folder_fd, RECORD_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[RECORD_MAX + 1];
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = read(fd, text, sizeof(text)); /* replaced whole, never written to: one read has all */
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return record_parse(text, (size_t)n, ret_record);
}

void record_free(struct record *record)
{
	free(record->id);
	free(record->name);
	free(record->rootfs);
	free(record->command);
	free(record->ports);
	free(record->verdict);
	free(record->cause);
	*record = (struct record){ 0 };
}
