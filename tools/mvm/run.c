/* mvm run: one command in one VM, its streams here; mvm start: one that was left, again. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "keys.h"
#include "mvm/cleanup.h"
#include "notify.h"
#include "opts.h"
#include "relay.h"
#include "tty.h"

#define SOCKETS_MAX 64 /* that a service manager hands over; libmvm says which are too many */

/* Of the terminal in the VM, as of the user's where there is one. */
static void choose_size(struct mvm_start_options *options)
{
	if (!tty_size(&options->rows, &options->cols)) {
		options->rows = 24;
		options->cols = 80;
	}
}

/* A terminal is used when both ends are one, and the user said nothing else. */
int run_choose_terminal(struct mvm_spec *spec, struct mvm_start_options *options, bool *ret_tty, struct mvm_error *err)
{
	bool both = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !mvm_spec_has(spec, "detach");
	int r = 0;

	if (both && !mvm_spec_has(spec, "interactive") && !mvm_spec_has(spec, "tty")) {
		r = mvm_spec_set(spec, "interactive", NULL, err);
		r = r ? r : mvm_spec_set(spec, "tty", NULL, err);
		/* Of a raw image only this is known to be there to talk with. */
		if (r == 0 && !mvm_spec_has(spec, "args"))
			r = mvm_spec_set_args(spec, (const char *const[]){ "/bin/sh", NULL }, err);
	}
	*ret_tty = mvm_spec_has(spec, "tty");
	if (*ret_tty)
		choose_size(options);
	return r;
}

/* Until a detached VM runs, or will not: its id on stdout. */
static int leave(struct mvm_vm *vm)
{
	int status = CLI_STATUS_FAILED, r = 0;
	const struct mvm_event *event;
	bool told = false;

	while (r >= 0) {
		struct pollfd ready = { .fd = mvm_fd(vm), .events = POLLIN };

		(void)poll(&ready, 1, -1);
		while ((r = mvm_next(vm, &event)) > 0) {
			told |= event->type != MVM_EVENT_LOG;
			if (event->type == MVM_EVENT_STARTED) {
				status = printf("%s\n", event->text) > 0 && fflush(stdout) == 0 ? 0 : CLI_STATUS_FAILED;
				r = -EPIPE; /* the rest is in its log */
				break;
			}
			if (event->type == MVM_EVENT_LOG)
				cli_say(event->text);
			if (event->type == MVM_EVENT_ENDED) {
				cli_say(event->text);
				status = event->status ? event->status : CLI_STATUS_FAILED;
				r = -EPIPE;
				break;
			}
		}
	}
	if (!told)
		cli_say("the supervisor died: the VM was ended with it");
	mvm_release(vm);
	return status;
}

/* One VM again, its streams here from the first byte on. */
static int start_attached(const char *id, struct mvm_start_options *options, bool input, const char *keys_text)
{
	struct keys keys;
	struct mvm_error err;
	struct mvm_vm *vm;
	int signals;

	if (!keys_parse(keys_text, &keys))
		return cli_unexpected(keys_text, KEYS_WRONG);
	options->attach = 1;
	signals = relay_signals(true);
	if (mvm_start_again(id, options, &vm, &err) < 0)
		return cli_fail(&err);
	return relay_attached(vm, input, &keys, signals);
}

int verb_start(const struct cli *cli, int argc, char **argv)
{
	struct mvm_start_options options = MVM_START_OPTIONS;
	const char *keys = KEYS_DEFAULT;
	bool attach = false, input = false;
	const struct opt opts[] = { { "attach", 'a', &attach, NULL, NULL, "stay with it, as mvm attach does" },
				    { "interactive", 'i', &input, NULL, NULL, "stay with it, and give it this input" },
				    { "detach-keys", 0, NULL, &keys, "KEYS",
				      "what ends this command and not the VM (ctrl-p,ctrl-q)" },
				    { 0 } };
	struct words words;
	struct mvm_error err;
	struct mvm_vm *vm;
	int status = 0;

	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (!words.n)
		return cli_unexpected(argv[0], "which VM? give its name or id: mvm ps -a shows them");
	options.began_ns = cli->began_ns;
	choose_size(&options);
	if (attach || input)
		return words.n == 1 ? start_attached(words.v[0], &options, input, keys)
				    : cli_unexpected(words.v[1], "--attach: one VM at a time");
	for (int i = 0; i < words.n; i++) {
		int r = mvm_start_again(words.v[i], &options, &vm, &err) < 0 ? cli_fail(&err) : leave(vm);

		status = r ? r : status;
	}
	return status;
}

/* A run that this program stays with. */
static int attached(struct mvm_start_options *options, struct mvm_spec *spec, struct mvm_error *err)
{
	bool tty, interactive;
	struct notify notify;
	struct mvm_vm *vm;
	int signals, r = run_choose_terminal(spec, options, &tty, err);

	if (r < 0)
		return cli_fail(err);
	interactive = mvm_spec_has(spec, "interactive");
	signals = relay_signals(tty);
	notify_open(&notify);
	r = mvm_start(spec, options, &vm, err);
	mvm_spec_free(spec);
	r = r < 0 ? cli_fail(err) : relay_run(vm, tty, interactive, signals, &notify);
	notify_close(&notify);
	return r;
}

static int detached(struct mvm_start_options *options, struct mvm_spec *spec, struct mvm_error *err)
{
	struct mvm_vm *vm;
	int r;

	choose_size(options);
	r = mvm_start(spec, options, &vm, err);
	mvm_spec_free(spec);
	return r < 0 ? cli_fail(err) : leave(vm);
}

/* What --config says, or nothing yet; the flags come on top. */
static int first_spec(int argc, char **argv, const char **ret_config, struct mvm_spec **ret_spec, struct mvm_error *err)
{
	int r = args_config(argc, argv, ret_config, err);

	if (r < 0)
		return r;
	if (*ret_config)
		return config_read(*ret_config, ret_spec, err);
	r = mvm_spec_new(ret_spec);
	if (r < 0) {
		err->code = -r;
		(void)snprintf(err->text, sizeof(err->text), "out of memory");
	}
	return r;
}

/* Standard input is read once: by --config - or by the command. */
static int check_input(const char *config, const struct mvm_spec *spec, struct mvm_error *err)
{
	if (!config || strcmp(config, "-") != 0 || !mvm_spec_has(spec, "interactive"))
		return 0;
	err->code = EINVAL;
	(void)snprintf(err->text, sizeof(err->text),
		       "--config: -: excludes --interactive, as standard input is read for it: name a file");
	return -EINVAL;
}

static int help(const char *name)
{
	help_usage(name);
	args_print_options(NULL);
	return 0;
}

int verb_run(const struct cli *cli, int argc, char **argv)
{
	struct mvm_spec *spec = NULL;
	const char *config;
	struct mvm_error err;
	struct args args = { 0 };
	struct mvm_start_options options = MVM_START_OPTIONS;
	int sockets[SOCKETS_MAX], r;

	options.began_ns = cli->began_ns;
	options.sockets = sockets;
	options.nsockets = notify_sockets(sockets, SOCKETS_MAX);
	r = first_spec(argc, argv, &config, &spec, &err);

	if (r == 0)
		r = args_parse(argc, argv, spec, &args, &err);
	if (r == 0 && !args.help)
		r = check_input(config, spec, &err);
	if (r == 0 && !args.help)
		return mvm_spec_has(spec, "detach") ? detached(&options, spec, &err) : attached(&options, spec, &err);
	mvm_spec_free(spec);
	return r < 0 ? cli_fail(&err) : help(argv[0]);
}
