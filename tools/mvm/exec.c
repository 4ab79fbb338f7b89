/* mvm exec: a further command in a VM that runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "relay.h"

/* The options that are a command's own; then the VM, then the command, with -- between them or not. */
static int parse(int argc, char **argv, struct mvm_spec *spec, const char **ret_id, bool *ret_help,
		 struct mvm_error *err)
{
	_cleanup_free_ char **options = calloc((size_t)argc + 2, sizeof(*options));
	struct args args;
	int n = 0, i = 1, r;

	*ret_id = NULL;
	*ret_help = false;
	if (!options)
		return mvm_spec_set(spec, "", "", err);
	options[n++] = argv[0];
	while (i < argc && argv[i][0] == '-' && argv[i][1] && strcmp(argv[i], "--") != 0) {
		bool value = args_takes_value(argv[i]);

		options[n++] = argv[i++];
		if (value && i < argc)
			options[n++] = argv[i++];
	}
	r = args_parse(n, options, spec, &args, err);
	*ret_help = r == 0 && args.help;
	if (r < 0 || args.help)
		return r;
	if (i < argc && strcmp(argv[i], "--") != 0)
		*ret_id = argv[i++];
	if (i < argc && !strcmp(argv[i], "--"))
		i++;
	return i < argc ? mvm_spec_set_args(spec, (const char *const *)argv + i, err) : 0;
}

static int show_help(const char *name)
{
	static const char *const names[] = { "interactive", "tty", "env", "env-file", "user", "workdir", NULL };

	help_usage(name);
	args_print_options(names);
	return 0;
}

int verb_exec(const struct cli *cli, int argc, char **argv)
{
	struct mvm_start_options options = MVM_START_OPTIONS;
	bool help, tty, interactive;
	struct mvm_spec *spec;
	struct mvm_error err;
	struct mvm_vm *vm;
	const char *id;
	int signals, r = mvm_spec_new(&spec);

	options.began_ns = cli->began_ns;
	if (r < 0) {
		cli_say("out of memory");
		return CLI_STATUS_FAILED;
	}
	r = parse(argc, argv, spec, &id, &help, &err);
	if (r < 0 || help || !id) {
		mvm_spec_free(spec);
		if (r < 0)
			return cli_fail(&err);
		return help ? show_help(argv[0])
			    : cli_unexpected(argv[0], "which VM? give its name or id: mvm ps shows them");
	}
	r = run_choose_terminal(spec, &options, &tty, &err);
	interactive = mvm_spec_has(spec, "interactive");
	signals = relay_signals(tty);
	r = r < 0 ? r : mvm_exec(id, spec, &options, &vm, &err);
	mvm_spec_free(spec);
	return r < 0 ? cli_fail(&err) : relay_run(vm, tty, interactive, signals, NULL);
}
