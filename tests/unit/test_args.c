/* The command line of `mvm run`. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/spec.h"

/* The CLI is a program, not an archive: its parser is compiled in here. */
#include "../../tools/mvm/args.c"

/* help.c's, of which no test here asks. */
void help_option(char letter, const char *name, const char *metavar, const char *help)
{
	(void)letter;
	(void)name;
	(void)metavar;
	(void)help;
}

#define ARGS_MAX 12

static int parse(const char *const *words, struct mvm_spec **ret_spec, struct args *args, struct mvm_error *err)
{
	char copies[ARGS_MAX][128], *argv[ARGS_MAX + 1];
	int argc = 1, r;

	argv[0] = strcpy(copies[0], "run");
	for (; words[argc - 1]; argc++)
		argv[argc] = strcpy(copies[argc], words[argc - 1]);
	argv[argc] = NULL;
	assert_int_equal(mvm_spec_new(ret_spec), 0);
	r = args_parse(argc, argv, *ret_spec, args, err);
	if (r < 0) {
		mvm_spec_free(*ret_spec);
		*ret_spec = NULL;
	}
	return r;
}

static void test_refused(void **state)
{
	static const struct {
		const char *words[ARGS_MAX];
		const char *says;
	} cases[] = {
		{ { "--rotfs", "x" }, "--rotfs: unknown: did you mean --rootfs" },
		{ { "--rotfs=x" }, "did you mean --rootfs" },
		{ { "--frobnicate" }, "--frobnicate: unknown" },
		{ { "-x" }, "-x: unknown" },
		{ { "-ix" }, "-x: unknown" },
		{ { "--rootfs" }, "needs a value" },
		{ { "-m" }, "-m/--memory: needs a value" },
		{ { "-im" }, "-m/--memory: needs a value" },
		{ { "--rw=maybe" }, "true or false" },
		{ { "ls", "-l" }, "after --" },
		{ { "-" }, "after --" },
		{ { "" }, "after --" },
		{ { "-v", "a:b" }, "-v/--volume: there are no volumes yet" },
		{ { "-va:b" }, "-v/--volume" },
		{ { "--volume", "a:b" }, "-v/--volume" },
		{ { "-p", "80:80/sctp" }, "-p/--publish: 80:80/sctp: 'sctp' is no protocol" },
		{ { "--publish=80:" }, "-p/--publish: 80:: '' is no port of the guest" },
		{ { "--net", "x/y" }, "--net: 'x/y' is no network" },
		{ { "--name", "a/b" }, "--name: 'a/b' is no name" },
		{ { "--cpus", "1,5" }, "--cpus: '1,5' is not a number of CPUs" },
		{ { "--cpus", "0.001" }, "--cpus: '0.001'" },
		{ { "--cpus", "0" }, "too little" },
		{ { "--io-max" }, "--io-max: needs a value: KEY=N" },
		{ { "--io-max=rbps=0" }, "--io-max: rbps: 0 a second: give 4k" },
		{ { "--io-max", "iops=5" }, "--io-max: 'iops' is no key of it" },
		{ { "--io-max", "rbps=1m", "--io-max=rbps=1m" }, "--io-max: rbps: given twice" },
		{ { "--allow-missing", "seccomp" }, "'seccomp' is no layer" },
		{ { "--allow-missing", "cgroup," }, "'' is no layer" },
		{ { "--idle-timeout", "999ms" }, "--idle-timeout: 999ms is too short to tell: give 1s" },
		{ { "--idle-timeout", "soon" }, "--idle-timeout: 'soon' is not a time" },
		{ { "--restart", "on-failure:0" }, "--restart: 'on-failure:0': give no, on-failure" },
		{ { "--restart=" }, "--restart: '': give no" },
		{ { "-e", "A" }, "-e/--env: 'A' is no NAME=VALUE" },
		{ { "--rot\033fs" }, "--rot?fs" },
		{ { "ls\033" }, "ls?" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mvm_error err = { 0 };
		struct mvm_spec *spec;
		struct args args;
		int r = parse(cases[i].words, &spec, &args, &err);

		if (r >= 0 || !strstr(err.text, cases[i].says))
			fail_msg("%s: %d, %s", cases[i].words[0], r, err.text);
	}
	(void)state;
}

static void test_forms(void **state)
{
	/* All say the same. */
	static const char *const forms[][ARGS_MAX] = {
		{ "-it", "-m64m", "-c", "2", "-eA=1", "--rootfs=x", "--", "sh", "-c", "--", NULL },
		{ "-i", "-t", "-m", "64m", "-c2", "-e", "A=1", "--rootfs", "x", "--", "sh", NULL },
		{ "--tty", "-ic2", "--memory", "64m", "--env=A=1", "--rootfs", "x", "--rm", "--", "sh", NULL },
		{ "--interactive=true", "-t", "-m=64m", "--vcpus=2", "-e", "A=1", "--rootfs", "x", "--", "sh", NULL },
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct mvm_error err;
		struct mvm_spec *spec;
		struct args args;

		if (parse(forms[i], &spec, &args, &err) < 0)
			fail_msg("form %zu: %s", i, err.text);
		assert_true(spec->tty && spec->interactive && !spec->rw && !args.help);
		assert_int_equal(spec->memory, 64 << 20);
		assert_int_equal(spec->vcpus, 2);
		assert_string_equal(spec->env.v[0], "A=1");
		assert_string_equal(spec->rootfs, "x");
		assert_int_equal(spec->args.n, i == 0 ? 3 : 1);
		assert_string_equal(spec->args.v[0], "sh");
		if (i == 0)
			assert_string_equal(spec->args.v[2], "--");
		mvm_spec_free(spec);
	}
	(void)state;
}

static void test_help_and_nothing(void **state)
{
	static const char *const asked[][ARGS_MAX] = { { "--help", NULL }, { "-h", NULL }, { "-ih", NULL } };
	static const char *const nothing[] = { NULL }, *const dashes[] = { "--", NULL };
	struct mvm_error err;
	struct mvm_spec *spec;
	struct args args;

	(void)state;
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		assert_int_equal(parse(asked[i], &spec, &args, &err), 0);
		assert_true(args.help);
		mvm_spec_free(spec);
	}
	assert_int_equal(parse(nothing, &spec, &args, &err), 0);
	assert_false(args.help || mvm_spec_has(spec, "args"));
	mvm_spec_free(spec);
	assert_int_equal(parse(dashes, &spec, &args, &err), 0);
	assert_false(mvm_spec_has(spec, "args"));
	mvm_spec_free(spec);
}

/* No flag may be promised for later and be there as well; no letter may have two meanings. */
static void test_tables_agree(void **state)
{
	const struct mvm_option *a, *b;

	(void)state;
	for (size_t i = 0; (a = mvm_spec_option(i)); i++) {
		for (size_t j = 0; j < i && (b = mvm_spec_option(j)); j++) {
			assert_string_not_equal(a->name, b->name);
			assert_true(!a->letter || a->letter != b->letter);
		}
		for (size_t j = 0; j < sizeof(later) / sizeof(later[0]); j++) {
			assert_string_not_equal(a->name, later[j].name);
			assert_true(!a->letter || a->letter != later[j].letter);
		}
		assert_true(a->letter != 'h' && strcmp(a->name, "help") != 0);
	}
}

static void test_config(void **state)
{
	static const struct {
		const char *words[ARGS_MAX];
		const char *path, *says;
	} cases[] = {
		{ { "--config", "a.json" }, "a.json", NULL },
		{ { "-c", "2", "--config=-", "--rw" }, "-", NULL },
		{ { "--rw" }, NULL, NULL },
		{ { "--hostname", "--config", "-i" }, NULL, NULL }, /* another option's value */
		{ { "-im", "--config" }, NULL, NULL },
		{ { "--", "--config", "x" }, NULL, NULL },
		{ { "--config" }, NULL, "--config: needs a value" },
		{ { "--config=" }, NULL, "--config: needs a value" },
		{ { "--config=a", "--config", "b" }, NULL, "b: given twice" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char copies[ARGS_MAX][128], *argv[ARGS_MAX + 1] = { copies[0] };
		const char *path = "unset";
		struct mvm_error err;
		int argc = 1;

		(void)strcpy(copies[0], "run");
		for (; cases[i].words[argc - 1]; argc++)
			argv[argc] = strcpy(copies[argc], cases[i].words[argc - 1]);
		argv[argc] = NULL;
		assert_int_equal(args_config(argc, argv, &path, &err), cases[i].says ? -EINVAL : 0);
		if (cases[i].says)
			assert_non_null(strstr(err.text, cases[i].says));
		else if (cases[i].path)
			assert_string_equal(path, cases[i].path);
		else
			assert_null(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),          cmocka_unit_test(test_forms),
		cmocka_unit_test(test_help_and_nothing), cmocka_unit_test(test_tables_agree),
		cmocka_unit_test(test_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
