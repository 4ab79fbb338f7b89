/* mvm ps: the VMs that there are. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

static const char *age(uint64_t then_ns, uint64_t now_ns, char text[32])
{
	static const struct {
		const char *unit;
		unsigned seconds;
	} units[] = { { "d", 86400 }, { "h", 3600 }, { "m", 60 }, { "s", 1 } };
	uint64_t seconds = now_ns > then_ns ? (now_ns - then_ns) / 1000000000U : 0; /* a clock may be set back */
	size_t i = 0;

	while (units[i].seconds > 1 && seconds < 2ULL * units[i].seconds)
		i++;
	(void)snprintf(text, 32, "%llu%s", (unsigned long long)(seconds / units[i].seconds), units[i].unit);
	return text;
}

/* "running", "ended exited (3)", "restarting exited (1), restart 4". */
static const char *status_of(const struct mvm_vm_entry *vm, char text[128])
{
	char how[64] = "", restarts[32] = "";

	if (*vm->verdict)
		(void)snprintf(how, sizeof(how), " %.40s (%d)", vm->verdict, vm->status);
	if (vm->restarts)
		(void)snprintf(restarts, sizeof(restarts), ", restart %u", vm->restarts);
	(void)snprintf(text, 128, "%.20s%s%s", vm->state, how, restarts);
	return text;
}

static void print_table(const struct mvm_list *list)
{
	const struct mvm_vm_entry *vm;
	struct timespec now;
	uint64_t now_ns;
	int name = 4, status = 6, ports = 0;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	for (size_t i = 0; (vm = mvm_list_at(list, i)); i++) {
		char text[128];
		int len = (int)strlen(vm->name), words = (int)strlen(status_of(vm, text));

		name = len > name ? len : name;
		status = words > status ? words : status;
		len = (int)strlen(vm->ports);
		ports = len > ports ? len : ports;
	}
	ports = ports && ports < 5 ? 5 : ports;
	(void)printf("%-12s  %-*s  %-*s  %-5s  ", "ID", name, "NAME", status, "STATUS", "AGE");
	if (ports) /* a column for those who publish any */
		(void)printf("%-*s  ", ports, "PORTS");
	(void)puts("COMMAND");
	for (size_t i = 0; (vm = mvm_list_at(list, i)); i++) {
		char text[32], how[128];

		(void)printf("%-12s  %-*s  %-*s  %-5s  ", vm->id, name, vm->name, status, status_of(vm, how),
			     age(vm->ended_ns ? vm->ended_ns : vm->began_ns, now_ns, text));
		if (ports)
			(void)printf("%-*s  ", ports, vm->ports);
		(void)puts(vm->command);
	}
}

static bool add(struct json_object *object, const char *key, struct json_object *value)
{
	return value && json_object_object_add(object, key, value) == 0;
}

static bool print_json(const struct mvm_list *list)
{
	struct json_object *array = json_object_new_array();
	const struct mvm_vm_entry *vm;
	bool ok = array;

	for (size_t i = 0; ok && (vm = mvm_list_at(list, i)); i++) {
		struct json_object *o = json_object_new_object();

		ok = o && json_object_array_add(array, o) == 0 && add(o, "id", json_object_new_string(vm->id)) &&
		     add(o, "name", json_object_new_string(vm->name)) &&
		     add(o, "state", json_object_new_string(vm->state)) &&
		     add(o, "rootfs", json_object_new_string(vm->rootfs)) &&
		     add(o, "command", json_object_new_string(vm->command)) &&
		     add(o, "detached", json_object_new_boolean(vm->detached)) &&
		     add(o, "supervisor", json_object_new_int(vm->supervisor)) &&
		     add(o, "vmm", json_object_new_int(vm->vmm)) &&
		     add(o, "began_ns", json_object_new_uint64(vm->began_ns)) &&
		     add(o, "ended_ns", json_object_new_uint64(vm->ended_ns)) &&
		     add(o, "verdict", json_object_new_string(vm->verdict)) &&
		     add(o, "cause", json_object_new_string(vm->cause)) &&
		     add(o, "status", json_object_new_int(vm->status)) &&
		     add(o, "restarts", json_object_new_int64(vm->restarts)) &&
		     add(o, "ports", json_object_new_string(vm->ports));
	}
	if (ok)
		(void)puts(json_object_to_json_string_ext(array,
							  JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(array);
	return ok;
}

int verb_ps(const struct cli *cli, int argc, char **argv)
{
	struct words words;
	int status;
	const char *format = NULL;
	bool all = false, quiet = false, json;
	const struct opt opts[] = { { "all", 'a', &all, NULL, NULL, "those that have ended as well" },
				    { "quiet", 'q', &quiet, NULL, NULL, "ids alone" },
				    { "format", 0, NULL, &format, "table|json", "how it is shown (table)" },
				    { 0 } };
	const struct mvm_vm_entry *vm;
	struct mvm_list *list;
	struct mvm_error err;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n)
		return cli_unexpected(words.v[0], "not expected: mvm help ps shows how");
	if (!opts_format(format, &json))
		return CLI_STATUS_FAILED;
	if (mvm_list_new(all, &list, &err) < 0)
		return cli_fail(&err);
	if (quiet)
		for (size_t i = 0; (vm = mvm_list_at(list, i)); i++)
			(void)puts(vm->id);
	else if (!json)
		print_table(list);
	else if (!print_json(list))
		cli_say("out of memory");
	mvm_list_free(list);
	return fflush(stdout) == 0 ? 0 : CLI_STATUS_FAILED;
}
