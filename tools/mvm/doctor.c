/* `mvm doctor`: what this host offers, what it lacks, and what to do about it. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "mvm/version.h"

#define STATUS_PROBLEM 1

struct options {
	bool json, strict, help;
};

/* 0, or the exit status with the reason said. */
static int parse(int argc, char **argv, struct options *ret_options)
{
	static const char format[] = "--format";

	for (int i = 1; i < argc; i++) {
		const char *value = NULL;

		if (!strcmp(argv[i], "--strict")) {
			ret_options->strict = true;
			continue;
		}
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			ret_options->help = true;
			continue;
		}
		if (!strcmp(argv[i], format) && i + 1 < argc)
			value = argv[++i];
		else if (!strncmp(argv[i], "--format=", sizeof(format)))
			value = argv[i] + sizeof(format);
		else if (!strcmp(argv[i], format))
			return cli_unexpected(argv[i], "needs a value: table or json");
		else
			return cli_unexpected(argv[i], "unknown: mvm help doctor shows what there is");
		if (strcmp(value, "table") != 0 && strcmp(value, "json") != 0)
			return cli_unexpected(value, "unknown as --format: table or json");
		ret_options->json = !strcmp(value, "json");
	}
	return 0;
}

static void print_table(const struct mvm_doctor *doctor)
{
	const struct mvm_check *check;

	for (size_t i = 0; (check = mvm_doctor_check(doctor, i)); i++)
		printf("%-16s %-12s %s%s%s\n", check->name, mvm_check_state_name(check->state), check->found,
		       check->remedy[0] ? "; remedy: " : "", check->remedy);
}

static int add(struct json_object *to, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(to, key, value) == 0)
		return 0;
	(void)json_object_put(value);
	return -1;
}

static int add_check(struct json_object *list, const struct mvm_check *check)
{
	struct json_object *one = json_object_new_object();

	if (!one || add(one, "name", json_object_new_string(check->name)) < 0 ||
	    add(one, "state", json_object_new_string(mvm_check_state_name(check->state))) < 0 ||
	    add(one, "found", json_object_new_string(check->found)) < 0 ||
	    (check->remedy[0] && add(one, "remedy", json_object_new_string(check->remedy)) < 0) ||
	    json_object_array_add(list, one) < 0) {
		(void)json_object_put(one);
		return -1;
	}
	return 0;
}

static int print_json(const struct mvm_doctor *doctor, int problems, int warnings)
{
	struct json_object *root = json_object_new_object(), *list = json_object_new_array();
	const struct mvm_check *check;
	const char *text = NULL;
	int r = root && list ? 0 : -1;

	for (size_t i = 0; r == 0 && (check = mvm_doctor_check(doctor, i)); i++)
		r = add_check(list, check);
	if (r == 0 && add(root, "mvm", json_object_new_string(MVM_VERSION)) == 0 &&
	    add(root, "problems", json_object_new_int(problems)) == 0 &&
	    add(root, "warnings", json_object_new_int(warnings)) == 0 &&
	    add(root, "checks", json_object_get(list)) == 0)
		text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text)
		printf("%s\n", text);
	(void)json_object_put(list);
	(void)json_object_put(root);
	return text ? 0 : -1;
}

int verb_doctor(const struct cli *cli, int argc, char **argv)
{
	struct options options = { 0 };
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	int problems = 0, warnings = 0, status = parse(argc, argv, &options);
	struct mvm_error err;

	if (status)
		return status;
	if (options.help) {
		char *help[] = { argv[0], argv[0], NULL };

		return verb_help(cli, 2, help);
	}
	if (mvm_doctor_new(&doctor, &err) < 0)
		return cli_fail(&err);
	for (size_t i = 0; (check = mvm_doctor_check(doctor, i)); i++) {
		problems += check->state == MVM_CHECK_PROBLEM;
		warnings += check->state == MVM_CHECK_WARNING;
	}
	if (!options.json)
		print_table(doctor);
	else if (print_json(doctor, problems, warnings) < 0)
		status = cli_unexpected("doctor", "out of memory");
	mvm_doctor_free(doctor);
	if (!status && (fflush(stdout) != 0 || ferror(stdout)))
		status = cli_unexpected("doctor", "its output cannot be written");
	if (!status && (problems || (options.strict && warnings)))
		status = STATUS_PROBLEM;
	return status;
}
