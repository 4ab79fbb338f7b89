/* mvm attach: the streams of a detached VM's own command, here until it ends or is left. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "keys.h"
#include "mvm/cleanup.h"
#include "opts.h"
#include "relay.h"

int verb_attach(const struct cli *cli, int argc, char **argv)
{
	struct words words;
	int status;
	const char *keys_text = KEYS_DEFAULT;
	bool no_stdin = false;
	const struct opt opts[] = { { "no-stdin", 0, &no_stdin, NULL, NULL, "leave its input alone" },
				    { "detach-keys", 0, NULL, &keys_text, "KEYS",
				      "what ends this command and not the VM (ctrl-p,ctrl-q)" },
				    { 0 } };
	struct keys keys;
	struct mvm_error err;
	struct mvm_vm *vm;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n != 1)
		return cli_unexpected(argv[0], "give one VM, by its name or id: mvm ps shows them");
	if (!keys_parse(keys_text, &keys))
		return cli_unexpected(keys_text, KEYS_WRONG);
	if (mvm_attach(words.v[0], &vm, &err) < 0)
		return cli_fail(&err);
	return relay_attached(vm, !no_stdin, &keys, relay_signals(mvm_has_terminal(vm)));
}
