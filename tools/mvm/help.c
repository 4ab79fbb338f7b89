#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct verb *find(const char *name)
{
	const struct verb *verb = NULL;

	for (size_t i = 0; (verb = verb_at(i)) && strcmp(verb->name, name) != 0; i++)
		;
	return verb;
}

void help_usage(const char *name)
{
	const struct verb *verb = find(name);

	printf("usage: %s\n\n%s\n", verb->usage, verb->summary);
	if (verb->note)
		printf("\n%s\n", verb->note);
}

void help_option(char letter, const char *name, const char *metavar, const char *help)
{
	char left[64], short_form[] = { '-', letter, ',', '\0' };

	(void)snprintf(left, sizeof(left), "%s --%s%s%s", letter ? short_form : "   ", name, metavar ? " " : "",
		       metavar ? metavar : "");
	printf("  %-36s %s\n", left, help);
}

int verb_help(const struct cli *cli, int argc, char **argv)
{
	const struct verb *verb = argc > 1 ? find(argv[1]) : NULL;

	if (verb && verb->run == verb_help)
		help_usage(verb->name);
	else if (verb) /* it knows its options */
		return verb->run(cli, 2, (char *[]){ argv[1], (char[]){ "--help" }, NULL });
	if (verb)
		return 0;
	printf("mvm runs every workload in a virtual machine of its own.\n\n");
	for (size_t i = 0; (verb = verb_at(i)); i++)
		printf("  mvm %-10s %s\n", verb->name, verb->summary);
	printf("\nmvm help VERB says more, as does the manual: man mvm, man mvm-run, man mvm-inspect.\n");
	return 0;
}
