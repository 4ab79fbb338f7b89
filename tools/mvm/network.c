/* mvm network: networks that VMs join with --net NAME. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

#define WHAT "create, ls, inspect or rm: mvm help network shows how"

static const char *text_of(json_object *object, const char *key)
{
	json_object *value = NULL;

	return json_object_object_get_ex(object, key, &value) && value ? json_object_get_string(value) : "-";
}

static bool flag_of(json_object *object, const char *key)
{
	json_object *value = NULL;

	return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

static const char *kind_of(json_object *network)
{
	bool internal = flag_of(network, "internal"), isolated = flag_of(network, "isolated");

	return internal && isolated ? "internal,isolated" : internal ? "internal" : isolated ? "isolated" : "-";
}

static void print_all(json_object *networks)
{
	size_t n = json_object_array_length(networks);
	int width = 4;

	for (size_t i = 0; i < n; i++) {
		int len = (int)strlen(text_of(json_object_array_get_idx(networks, i), "name"));

		width = len > width ? len : width;
	}
	(void)printf("%-*s  %-18s  %-24s  %-17s  %s\n", width, "NAME", "SUBNET", "SUBNET6", "KIND", "VMS");
	for (size_t i = 0; i < n; i++) {
		json_object *network = json_object_array_get_idx(networks, i), *members = NULL;

		(void)json_object_object_get_ex(network, "members", &members);
		(void)printf("%-*s  %-18s  %-24s  %-17s  %zu\n", width, text_of(network, "name"),
			     text_of(network, "subnet"), text_of(network, "subnet6"), kind_of(network),
			     json_object_array_length(members));
	}
}

static void print_one(json_object *network)
{
	json_object *members = NULL;

	(void)printf("%-8s  %s\n%-8s  %s\n%-8s  %s\n%-8s  %s\n", "name", text_of(network, "name"), "subnet",
		     text_of(network, "subnet"), "subnet6", text_of(network, "subnet6"), "kind", kind_of(network));
	(void)json_object_object_get_ex(network, "members", &members);
	(void)printf("\n%-20s  %-15s  %-26s  %s\n", "VM", "IP", "IP6", "MAC");
	for (size_t i = 0; i < json_object_array_length(members); i++) {
		json_object *member = json_object_array_get_idx(members, i);
		const char *name = text_of(member, "name");

		(void)printf("%-20s  %-15s  %-26s  %s\n", strcmp(name, "-") != 0 ? name : text_of(member, "id"),
			     text_of(member, "ip"), text_of(member, "ip6"), text_of(member, "mac"));
	}
}

static int show(const char *name, bool json)
{
	_cleanup_free_ char *text = NULL;
	json_object *object;
	struct mvm_error err;

	if (mvm_networks_to_json(name, &text, &err) < 0)
		return cli_fail(&err);
	if (json) {
		(void)puts(text);
		return 0;
	}
	object = json_tokener_parse(text);
	if (name)
		print_one(object);
	else
		print_all(object);
	json_object_put(object);
	return 0;
}

static int create(const struct words *words, const struct mvm_network_options *options)
{
	struct mvm_error err;

	if (words->n != 2)
		return cli_unexpected("network create", "one name is wanted: mvm network create NAME");
	if (mvm_network_create(words->v[1], options, &err) < 0)
		return cli_fail(&err);
	(void)puts(words->v[1]);
	return 0;
}

static int remove_all(const struct words *words)
{
	struct mvm_error err;
	int status = 0;

	if (words->n < 2)
		return cli_unexpected("network rm", "which one? mvm network rm NAME");
	for (int i = 1; i < words->n; i++)
		if (mvm_network_remove(words->v[i], &err) < 0)
			status = cli_fail(&err);
	return status;
}

int verb_network(const struct cli *cli, int argc, char **argv)
{
	struct mvm_network_options options = MVM_NETWORK_OPTIONS;
	bool internal = false, isolated = false, json, created;
	const char *format = NULL, *what;
	const struct opt opts[] = { { "subnet", 0, NULL, &options.subnet, "NET",
				      "IPv4 addresses, as 10.1.2.0/24 (a free /24 of 10.209.0.0/16)" },
				    { "subnet6", 0, NULL, &options.subnet6, "NET",
				      "IPv6 addresses, as fd12:3456:789a::/64 (random)" },
				    { "internal", 0, &internal, NULL, NULL, "it leads nowhere" },
				    { "isolated", 0, &isolated, NULL, NULL, "its VMs do not reach each other" },
				    { "format", 0, NULL, &format, "table|json", "how ls and inspect show it (table)" },
				    { 0 } };
	struct words words;
	int status;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (!words.n)
		return cli_unexpected("network", "what? " WHAT);
	what = words.v[0];
	options.internal = internal;
	options.isolated = isolated;
	created = !strcmp(what, "create");
	if (!created && (options.subnet || options.subnet6 || internal || isolated))
		return cli_unexpected(what,
				      "--subnet, --subnet6, --internal and --isolated belong to mvm network create");
	if (!opts_format(format, &json))
		return CLI_STATUS_FAILED;
	if (created)
		status = create(&words, &options);
	else if (!strcmp(what, "rm"))
		status = remove_all(&words);
	else if (!strcmp(what, "ls") && words.n == 1)
		status = show(NULL, json);
	else if (!strcmp(what, "inspect") && words.n == 2)
		status = show(words.v[1], json);
	else if (!strcmp(what, "inspect"))
		return cli_unexpected("network inspect", "one name is wanted: mvm network inspect NAME");
	else
		return cli_unexpected(strcmp(what, "ls") ? what : words.v[1], "unknown: " WHAT);
	return fflush(stdout) == 0 ? status : CLI_STATUS_FAILED;
}
