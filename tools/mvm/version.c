#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "opts.h"
#include "mvm/cleanup.h"
#include "mvm/control.h"
#include "mvm/proto.h"
#include "mvm/version.h"
#include "mvm/vmm_config.h"

int verb_version(const struct cli *cli, int argc, char **argv)
{
	static const char *const parts[] = { "mvm-supervisor", "mvm-net", "mvm-udp",
					     "mvm-bridge",     "mvm-vmm", "agent.cpio" };
	_cleanup_free_ char *kernel = NULL, *banner = NULL;
	struct mvm_error err;
	const struct opt opts[] = { { 0 } };
	struct words words;
	int status = 0;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n)
		return cli_unexpected(words.v[0], "not expected");
	printf("mvm %s\n", mvm_version());
	printf("protocols: agent %u, control %u, config %u\n", PROTO_VERSION, CONTROL_VERSION, VMM_CONFIG_VERSION);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		_cleanup_free_ char *path = NULL;

		/* They are one build's, and each compares versions with its peer: the path is what can differ. */
		if (mvm_part_path(parts[i], &path, &err) < 0)
			status = cli_fail(&err);
		else
			printf("%s %s: %s\n", parts[i], MVM_VERSION, path);
	}
	if (mvm_part_path("vmlinux", &kernel, &err) < 0 || mvm_kernel_version(kernel, &banner, &err) < 0)
		return cli_fail(&err);
	printf("kernel: %s: %s\n", banner, kernel);
	return status;
}
