/* `mvm inspect`: what a VM that runs is, and what stands around it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "mvm/cleanup.h"

#define STATUS_MISSING 1 /* a required layer does not hold */

struct options {
	const char *id;
	bool security, json, config, help;
};

/* 0, or the exit status with the reason said. */
static int parse(int argc, char **argv, struct options *ret_options)
{
	static const char format[] = "--format";

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value = NULL;

		if (!strcmp(arg, "--security")) {
			ret_options->security = true;
			continue;
		}
		if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			ret_options->help = true;
			return 0;
		}
		if (*arg != '-') {
			if (ret_options->id)
				return cli_unexpected(arg, "one VM at a time: mvm help inspect shows how");
			ret_options->id = arg;
			continue;
		}
		if (!strcmp(arg, format) && i + 1 < argc)
			value = argv[++i];
		else if (!strncmp(arg, "--format=", sizeof(format)))
			value = arg + sizeof(format);
		else if (!strcmp(arg, format))
			return cli_unexpected(arg, "needs a value: table, json or config");
		else
			return cli_unexpected(arg, "unknown: mvm help inspect shows what there is");
		ret_options->json = !strcmp(value, "json");
		ret_options->config = !strcmp(value, "config");
		if (strcmp(value, "table") != 0 && !ret_options->json && !ret_options->config)
			return cli_unexpected(value, "unknown as --format: table, json or config");
	}
	if (ret_options->config && ret_options->security)
		return cli_unexpected("--security", "excludes --format config, which makes the VM again");
	return ret_options->id ? 0 : cli_unexpected("inspect", "which VM? give its id, or its beginning");
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
	int status = parse(argc, argv, &options);

	if (status)
		return status;
	if (options.help)
		return verb_help(cli, 2, (char *[]){ argv[0], argv[0], NULL });
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
