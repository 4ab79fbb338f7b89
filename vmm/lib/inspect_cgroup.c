/* The layer cgroup: which group the VMM is in, and what bounds it there. */
#include <stdio.h>
#include <string.h>

#include "lib/inspect.h"
#include "lib/text.h"

#define IO_SHOWN 224 /* characters of the devices' limits in a row; JSON has all */

/* The path of the VMM in the hierarchy of a controller ("" for version 2); false: in none. */
static bool cgroup_path(const char *text, const char *controller, char ret_path[PATH_MAX])
{
	size_t len = strlen(controller);

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		bool is = false;

		if (!path)
			return false;
		if (!len)
			is = line[0] == '0' && names == line + 1 && path == names + 1;
		for (const char *at = names + 1; len && at < path; at += strcspn(at, ",:") + 1)
			is = is || (strcspn(at, ",:") == len && !strncmp(at, controller, len));
		if (is) {
			size_t n = strcspn(path + 1, "\n");

			if (n >= PATH_MAX)
				return false;
			memcpy(ret_path, path + 1, n);
			ret_path[n] = '\0';
			return true;
		}
	}
	return false;
}

/* One value, into the JSON; "" where the file is not there. */
static void cgroup_value(const struct inspect *in, json_object *all, const char *folder, const char *file,
			 char value[64])
{
	if (inspect_read(in, value, 64, "/sys/fs/cgroup%s/%s", folder, file) < 0)
		value[0] = '\0';
	value[strcspn(value, "\n")] = '\0';
	inspect_add(all, file, *value ? json_object_new_string(value) : NULL);
}

/*
 * A file of a line a device: a list into the JSON, null where there is none; added to `text` with blanks and ';' between,
 * each line after `name`.
 */
static void cgroup_devices(const struct inspect *in, json_object *all, const char *folder, const char *file,
			   const char *name, char *text, size_t size)
{
	json_object *list = NULL;
	char lines[4096];

	if (inspect_read(in, lines, sizeof(lines), "/sys/fs/cgroup%s/%s", folder, file) < 0)
		lines[0] = '\0';
	for (char *line = lines, *next; *line; line = next) {
		size_t len = strcspn(line, "\n"), at = strlen(text);

		next = line + len + (line[len] == '\n');
		line[len] = '\0';
		list = list ? list : json_object_new_array();
		(void)json_object_array_add(list, json_object_new_string(line));
		(void)snprintf(text + at, size - at, "%s%s%s", at ? "; " : "", name, line);
	}
	inspect_add(all, file, list);
}

/* A number that is a limit: v1 writes its "none" as nearly 2^63. */
static bool is_bound(const char *value)
{
	uint64_t n;

	return text_parse_uint(value, UINT64_MAX, &n) == 0 && n < INT64_MAX / 4096 * 4096 - 65536;
}

static void cgroup_v2(const struct inspect *in, json_object *all, const char *path, struct inspect_row *row)
{
	char memory[64], swap[64], pids[64], cpu[64], other[64], io[IO_SHOWN] = "";

	cgroup_value(in, all, path, "memory.max", memory);
	cgroup_value(in, all, path, "memory.current", other);
	cgroup_value(in, all, path, "memory.swap.max", swap);
	cgroup_value(in, all, path, "pids.max", pids);
	cgroup_value(in, all, path, "pids.current", other);
	cgroup_value(in, all, path, "cpu.max", cpu);
	cgroup_devices(in, all, path, "io.max", "", io, sizeof(io));
	if (!is_bound(memory) || !is_bound(pids) || (*swap && strcmp(swap, "0") != 0))
		inspect_found(row, MVM_LAYER_MISSING, "%.200s: memory.max %s, swap %s, pids %s", path, memory, swap,
			      pids);
	else
		inspect_found(row, MVM_LAYER_OK, "%.200s: memory %s, %s, pids %s, cpu %s, io %s", path, memory,
			      *swap ? "no swap" : "a kernel without swap", pids, *cpu ? cpu : "without a limit",
			      *io ? io : "without a limit");
}

static void cgroup_v1(const struct inspect *in, json_object *all, const char *text, struct inspect_row *row)
{
	static const struct {
		const char *file, *name;
	} throttles[] = {
		{ "blkio.throttle.read_bps_device", "rbps " },
		{ "blkio.throttle.write_bps_device", "wbps " },
		{ "blkio.throttle.read_iops_device", "riops " },
		{ "blkio.throttle.write_iops_device", "wiops " },
	};
	char path[PATH_MAX], folder[PATH_MAX + 16], memory[64], pids[64], value[64], io[IO_SHOWN] = "";

	if (!cgroup_path(text, "memory", path)) {
		inspect_found(row, MVM_LAYER_MISSING, "in no group of the controller memory");
		return;
	}
	inspect_add(all, "memory", json_object_new_string(path));
	(void)snprintf(folder, sizeof(folder), "/memory%s", path);
	cgroup_value(in, all, folder, "memory.limit_in_bytes", memory);
	cgroup_value(in, all, folder, "memory.usage_in_bytes", value);
	cgroup_value(in, all, folder, "memory.memsw.limit_in_bytes", value);
	if (!cgroup_path(text, "pids", path)) {
		inspect_found(row, MVM_LAYER_MISSING, "in no group of the controller pids");
		return;
	}
	inspect_add(all, "pids", json_object_new_string(path));
	(void)snprintf(folder, sizeof(folder), "/pids%s", path);
	cgroup_value(in, all, folder, "pids.max", pids);
	cgroup_value(in, all, folder, "pids.current", value);
	if (cgroup_path(text, "cpu", path)) {
		(void)snprintf(folder, sizeof(folder), "/cpu%s", path);
		cgroup_value(in, all, folder, "cpu.cfs_quota_us", value);
	}
	if (cgroup_path(text, "blkio", path)) {
		inspect_add(all, "blkio", json_object_new_string(path));
		(void)snprintf(folder, sizeof(folder), "/blkio%s", path);
		for (size_t i = 0; i < sizeof(throttles) / sizeof(throttles[0]); i++)
			cgroup_devices(in, all, folder, throttles[i].file, throttles[i].name, io, sizeof(io));
	}
	inspect_found(row, !is_bound(memory) || !is_bound(pids) ? MVM_LAYER_MISSING : MVM_LAYER_WEAK,
		      "version 1: memory %s, pids %s, io %s", memory, pids, *io ? io : "without a limit");
}

void inspect_cgroup(struct inspect *in, struct inspect_row *row)
{
	json_object *all = json_object_new_object();
	char text[8192], path[PATH_MAX] = "", expected[32], v2[256];
	ssize_t n = inspect_read(in, text, sizeof(text), "/proc/%d/cgroup", in->vmm);
	const char *last;

	inspect_add(in->read, "cgroup", all);
	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	(void)snprintf(expected, sizeof(expected), "/mvm-%s", in->id);
	if (inspect_read(in, v2, sizeof(v2), "/sys/fs/cgroup/cgroup.controllers") >= 0) {
		(void)cgroup_path(text, "", path);
		inspect_add(all, "version", json_object_new_int(2));
		inspect_add(all, "path", json_object_new_string(path));
	} else {
		(void)cgroup_path(text, "memory", path);
		inspect_add(all, "version", json_object_new_int(1));
	}
	last = strrchr(path, '/');
	if (!last || strcmp(last, expected) != 0)
		inspect_found(row, MVM_LAYER_MISSING, "in no group of its own: %.200s", path);
	else if (inspect_read(in, v2, sizeof(v2), "/sys/fs/cgroup/cgroup.controllers") >= 0)
		cgroup_v2(in, all, path, row);
	else
		cgroup_v1(in, all, text, row);
}
