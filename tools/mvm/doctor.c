/* `mvm doctor`: what this host offers, what it lacks, and what to do about it. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "opts.h"
#include "mvm/version.h"

#define STATUS_PROBLEM 1

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
	const char *format = NULL;
	bool json, strict = false;
	const struct opt opts[] = { { "format", 0, NULL, &format, "table|json", "how it is shown (table)" },
				    { "strict", 0, &strict, NULL, NULL, "warnings fail as problems do" },
				    { 0 } };
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	int problems = 0, warnings = 0, status;
	struct mvm_error err;
	struct words words;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n)
		return cli_unexpected(words.v[0], "not expected: mvm help doctor shows how");
	if (!opts_format(format, &json))
		return CLI_STATUS_FAILED;
	if (mvm_doctor_new(&doctor, &err) < 0)
		return cli_fail(&err);
	for (size_t i = 0; (check = mvm_doctor_check(doctor, i)); i++) {
		problems += check->state == MVM_CHECK_PROBLEM;
		warnings += check->state == MVM_CHECK_WARNING;
	}
	status = 0;
	if (!json)
		print_table(doctor);
	else if (print_json(doctor, problems, warnings) < 0)
		status = cli_unexpected("doctor", "out of memory");
	mvm_doctor_free(doctor);
	if (!status && (fflush(stdout) != 0 || ferror(stdout)))
		status = cli_unexpected("doctor", "its output cannot be written");
	if (!status && (problems || (strict && warnings)))
		status = STATUS_PROBLEM;
	return status;
}
