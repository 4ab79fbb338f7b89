/* mvm verify: whether a receipt is what was signed. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

#define STATUS_BAD 1 /* not what was signed, or not to be told */

int verb_verify(const struct cli *cli, int argc, char **argv)
{
	const char *key = NULL, *signature = NULL;
	const struct opt opts[] = {
		{ "key", 'k', NULL, &key, "FILE", "the public key, Ed25519 in PEM" },
		{ "sig", 0, NULL, &signature, "FILE", "the signature (RECEIPT.sig)" },
		{ 0 },
	};
	struct words words;
	int status;
	struct mvm_error err;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
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
