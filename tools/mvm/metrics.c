/* mvm metrics: what VMs and their host do, for Prometheus. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"
#include "serve.h"

int verb_metrics(const struct cli *cli, int argc, char **argv)
{
	_cleanup_free_ char *text = NULL;
	struct words words;
	int status;
	const char *address = NULL;
	const struct opt opts[] = { { "listen", 0, NULL, &address, "ADDRESS",
				      "serve it over HTTP: unix:PATH, 127.0.0.1:PORT or [::1]:PORT" },
				    { 0 } };
	struct mvm_error err;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n)
		return cli_unexpected(words.v[0], "not expected: mvm help metrics shows how");
	if (address)
		return serve(address, "/metrics", mvm_metrics);
	if (mvm_metrics(&text, &err) < 0)
		return cli_fail(&err);
	(void)fputs(text, stdout);
	return fflush(stdout) == 0 ? 0 : CLI_STATUS_FAILED;
}
