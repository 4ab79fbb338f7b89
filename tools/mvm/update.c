/* mvm update: other limits for a VM that runs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static int usage(const char *what, const char *why)
{
	char text[320];

	(void)snprintf(text, sizeof(text), "%.100s: %s: mvm help update shows how", what, why);
	cli_say(text);
	return CLI_STATUS_FAILED;
}

static int help(const char *name)
{
	static const char *const names[] = { "blk-iops", "blk-bps", "net-pps", "net-bps", "io-max", NULL };

	help_usage(name);
	args_print_options(names);
	return 0;
}

int verb_update(const struct cli *cli, int argc, char **argv)
{
	struct mvm_limits limits = MVM_LIMITS_KEEP;
	const char *id = NULL;
	struct mvm_error err;

	(void)cli;
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value;
		char name[64];
		size_t len;

		if (!strcmp(arg, "--help") || !strcmp(arg, "-h"))
			return help(argv[0]);
		if (strncmp(arg, "--", 2) != 0) {
			if (id || *arg == '-')
				return usage(arg, id ? "one VM at a time" : "unknown");
			id = arg;
			continue;
		}
		len = strcspn(arg + 2, "=");
		(void)snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : 0), arg + 2);
		value = arg[2 + len] ? arg + 3 + len : argv[i + 1];
		i += !arg[2 + len];
		if (!value || i >= argc)
			return usage(arg, "needs a value");
		if (mvm_limits_set(&limits, name, value, &err) < 0)
			return cli_fail(&err);
	}
	if (!id)
		return usage("update", "which VM? give its id, or its beginning");
	return mvm_update(id, &limits, &err) < 0 ? cli_fail(&err) : 0;
}
