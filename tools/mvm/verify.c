/* mvm verify: whether a receipt is what was signed. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

#define STATUS_BAD 1 /* not what was signed, or not to be told */

int verb_verify(const struct cli *cli, int argc, char **argv)
{
	_cleanup_free_ const char **v = calloc((size_t)argc, sizeof(*v));
	const char *key = NULL, *signature = NULL;
	const struct opt opts[] = {
		{ "key", 'k', NULL, &key },
		{ "sig", 0, NULL, &signature },
		{ 0 },
	};
	struct words words = { .v = v };
	struct mvm_error err;

	switch (v ? opts_parse(argc, argv, opts, false, &words) : OPTS_WRONG) {
	case OPTS_HELP:
		return verb_help(cli, 2, (char *[]){ argv[0], argv[0], NULL });
	case OPTS_WRONG:
		return CLI_STATUS_FAILED;
	case OPTS_OK:
		break;
	}
	if (words.n != 1)
		return cli_unexpected(argv[0], words.n ? "one receipt at a time" : "which receipt? name its file");
	if (!key)
		return cli_unexpected(argv[0], "whose signature? name the public key's file: --key pub.pem");
	if (mvm_receipt_verify(words.v[0], signature, key, &err) < 0) {
		cli_say(err.text);
		return STATUS_BAD;
	}
	if (printf("%s: signed with this key, and unchanged\n", words.v[0]) < 0 || fflush(stdout) != 0)
		return cli_unexpected(argv[0], "its output cannot be written");
	return 0;
}
