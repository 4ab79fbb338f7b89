/* mvm top: what runs in a VM, by the guest's word: libmvm has made its text harmless, the numbers may be anything. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

enum field { PID, UID, STATE, RSS_KIB, CPU_MS, COMMAND, FIELDS };

/* Cuts a line of mvm_top()'s. False: it has not all of its fields. */
static bool cut(char *line, char *ret_field[FIELDS])
{
	for (int i = 0; i < FIELDS; i++)
		ret_field[i] = i < COMMAND ? strsep(&line, "\t") : line;
	return ret_field[COMMAND];
}

static void print_table(char *text)
{
	char *field[FIELDS];

	(void)printf("%7s %7s %s %10s %10s %s\n", "PID", "UID", "S", "RSS KiB", "CPU s", "COMMAND");
	for (char *line; (line = strsep(&text, "\n"));) {
		if (!strcmp(line, "..."))
			(void)puts("...");
		else if (cut(line, field))
			(void)printf("%7s %7s %s %10s %10.2f %s\n", field[PID], field[UID], field[STATE],
				     field[RSS_KIB], strtod(field[CPU_MS], NULL) / 1000, field[COMMAND]);
	}
}

static bool add(struct json_object *object, const char *key, struct json_object *value)
{
	return value && json_object_object_add(object, key, value) == 0;
}

static bool add_number(struct json_object *object, const char *key, const char *text)
{
	return add(object, key, json_object_new_uint64(strtoull(text, NULL, 10)));
}

static bool add_process(struct json_object *array, char *const field[FIELDS])
{
	struct json_object *o = json_object_new_object();

	return o && json_object_array_add(array, o) == 0 && add_number(o, "pid", field[PID]) &&
	       add_number(o, "uid", field[UID]) && add(o, "state", json_object_new_string(field[STATE])) &&
	       add_number(o, "rss_kib", field[RSS_KIB]) && add_number(o, "cpu_ms", field[CPU_MS]) &&
	       add(o, "command", json_object_new_string(field[COMMAND]));
}

static bool print_json(char *text)
{
	struct json_object *o = json_object_new_object(), *array = json_object_new_array();
	bool all = true, ok = o && array;
	char *field[FIELDS];

	for (char *line; ok && (line = strsep(&text, "\n"));) {
		if (!strcmp(line, "..."))
			all = false;
		else if (cut(line, field))
			ok = add_process(array, field);
	}
	ok = ok && add(o, "all", json_object_new_boolean(all)) &&
	     json_object_object_add(o, "processes", json_object_get(array)) == 0;
	if (ok)
		(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(array);
	json_object_put(o);
	return ok;
}

int verb_top(const struct cli *cli, int argc, char **argv)
{
	_cleanup_free_ char *text = NULL;
	struct words words;
	int status;
	const char *format = NULL;
	bool json;
	const struct opt opts[] = { { "format", 0, NULL, &format, "table|json", "how it is shown (table)" }, { 0 } };
	struct mvm_error err;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n != 1)
		return cli_unexpected(argv[0], "give one VM, by its name or id: mvm ps shows them");
	if (!opts_format(format, &json))
		return CLI_STATUS_FAILED;
	if (mvm_top(words.v[0], &text, &err) < 0)
		return cli_fail(&err);
	if (!json)
		print_table(text);
	else if (!print_json(text)) {
		cli_say("out of memory");
		return CLI_STATUS_FAILED;
	}
	return fflush(stdout) == 0 ? 0 : CLI_STATUS_FAILED;
}
