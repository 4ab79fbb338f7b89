#include <stdio.h>
#include <string.h>

#include "cli.h"

static void print_verb(const struct verb *verb)
{
	printf("usage: %s\n\n%s\n", verb->usage, verb->summary);
	if (!strcmp(verb->name, "run")) {
		printf("\noptions:\n");
		args_print_options();
	} else if (!strcmp(verb->name, "update")) {
		printf("\nID is a VM's id, or a beginning that no other has.\n\noptions:\n");
		args_print_option("blk-iops");
		args_print_option("blk-bps");
		args_print_option("io-max");
	}
	if (!strcmp(verb->name, "inspect")) {
		printf("\nID is a VM's id, or a beginning that no other has.\n\noptions:\n");
		printf("  --security           every layer around its process, read back from it\n");
		printf("  --format table|json|config  how it is shown (table); config: what mvm run --config reads\n");
	}
	if (!strcmp(verb->name, "verify")) {
		printf("\noptions:\n");
		printf("  -k, --key FILE  the public key, Ed25519 in PEM\n");
		printf("      --sig FILE  the signature (RECEIPT.sig)\n");
	}
	if (!strcmp(verb->name, "doctor")) {
		printf("\noptions:\n");
		printf("  --format table|json  how it is shown (table)\n");
		printf("  --strict             warnings fail as problems do\n");
	}
}

int verb_help(const struct cli *cli, int argc, char **argv)
{
	const struct verb *verb;

	(void)cli;
	for (size_t i = 0; argc > 1 && (verb = verb_at(i)); i++)
		if (!strcmp(verb->name, argv[1])) {
			print_verb(verb);
			return 0;
		}
	printf("mvm runs every workload in a virtual machine of its own.\n\n");
	for (size_t i = 0; (verb = verb_at(i)); i++)
		printf("  mvm %-10s %s\n", verb->name, verb->summary);
	printf("\nmvm help VERB says more, as does the manual: man mvm, man mvm-run, man mvm-inspect.\n");
	return 0;
}
