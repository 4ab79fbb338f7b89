/* `mvm inspect`: what a VM that runs is, and what stands around it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "opts.h"
#include "mvm/cleanup.h"

#define STATUS_MISSING 1 /* a required layer does not hold */

struct options {
	const char *id;
	bool security, json, config;
};

/* False: *ret_status is the verb's, and what there is to say was said. */
static bool parse(int argc, char **argv, struct options *options, int *ret_status)
{
	const char *format = NULL;
	const struct opt opts[] = { { "security", 0, &options->security, NULL, NULL,
				      "every layer around its process, read back from it" },
				    { "format", 0, NULL, &format, "table|json|config",
				      "how it is shown (table); config: what mvm run --config reads" },
				    { 0 } };
	struct words words;

	if (!opts_parse(argc, argv, opts, &words, ret_status))
		return false;
	*ret_status = 0;
	options->config = format && !strcmp(format, "config");
	options->json = format && !strcmp(format, "json");
	if (words.n > 1)
		*ret_status = cli_unexpected(words.v[1], "one VM at a time: mvm help inspect shows how");
	else if (!words.n)
		*ret_status = cli_unexpected("inspect", "which VM? give its id, or its beginning");
	else if (options->config && options->security)
		*ret_status = cli_unexpected("--security", "excludes --format config, which makes the VM again");
	else if (format && !options->config && !options->json && strcmp(format, "table") != 0)
		*ret_status = cli_unexpected(format, "no format: give table, json or config");
	options->id = words.v[0];
	return !*ret_status;
}

static void print_table(const struct mvm_inspection *inspection, bool security)
{
	const struct mvm_vm_info *info = mvm_inspect_info(inspection);
	time_t began = (time_t)(info->began_ns / 1000000000U);
	const struct mvm_layer *layer;
	struct tm local;
	char since[64] = "";

	if (localtime_r(&began, &local))
		(void)strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S %z", &local);
	printf("%-16s %s\n", "id", info->id);
	printf("%-16s %s\n", "state", info->state);
	printf("%-16s %s\n", "since", since);
	printf("%-16s supervisor %d, VMM %d\n", "processes", info->supervisor, info->vmm);
	if (info->restarts)
		printf("%-16s %u\n", "restarts", info->restarts);
	if (*info->ports)
		printf("%-16s %s\n", "ports", info->ports);
	printf("%-16s %s\n", "folder", info->folder);
	printf("%-16s %s\n", "spec", info->spec);
	if (!security)
		return;
	printf("\n%-16s %-10s %-4s %s\n", "LAYER", "STATE", "FOR", "FOUND");
	for (size_t i = 0; (layer = mvm_inspect_layer(inspection, i)); i++)
		printf("%-16s %-10s %-4s %s%s\n", layer->name, mvm_layer_state_name(layer->state), layer->measure,
		       layer->found, layer->required ? "" : " (not required)");
	printf("\n%s\n",
	       mvm_inspect_holds(inspection) ? "no required layer is missing" : "A REQUIRED LAYER IS MISSING");
}

int verb_inspect(const struct cli *cli, int argc, char **argv)
{
	struct mvm_inspection *inspection;
	_cleanup_free_ char *json = NULL;
	struct options options = { 0 };
	struct mvm_error err;
	int status;

	(void)cli;
	if (!parse(argc, argv, &options, &status))
		return status;
	if (mvm_inspect(options.id, options.security, &inspection, &err) < 0)
		return cli_fail(&err);
	if (options.config)
		printf("%s\n", mvm_inspect_info(inspection)->spec);
	else if (!options.json)
		print_table(inspection, options.security);
	else if (mvm_inspect_to_json(inspection, &json, &err) < 0)
		status = cli_fail(&err);
	else
		printf("%s\n", json);
	if (!status && !mvm_inspect_holds(inspection))
		status = STATUS_MISSING;
	mvm_inspect_free(inspection);
	if (fflush(stdout) != 0 || ferror(stdout))
		status = cli_unexpected("inspect", "its output cannot be written");
	return status;
}
