/* mvm stats: what VMs use. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "opts.h"
#include "stats.h"

#define MIB (1U << 20)

/* "12.3M/64.0M" */
static const char *share(uint64_t used, uint64_t all, char text[48])
{
	if (all)
		(void)snprintf(text, 48, "%.1fM/%.1fM", (double)used / MIB, (double)all / MIB);
	else
		(void)snprintf(text, 48, "-");
	return text;
}

static void print_line(const char *id, const char *name, const struct mvm_stats *s)
{
	char host[48], guest[48], scratch[48], clients[48];
	uint64_t used = s->guest_memory_total > s->guest_memory_available
				? s->guest_memory_total - s->guest_memory_available
				: 0;

	(void)snprintf(clients, sizeof(clients), "%llu/%llu", (unsigned long long)s->publish_open,
		       (unsigned long long)s->publish_accepted);
	(void)printf("%-12s  %-16.16s  %6.1f  %10.2f  %-17s  %-17s  %5llu  %-17s  %s\n", id, name,
		     s->wall_ns ? 100.0 * (double)s->cpu_ns / (double)s->wall_ns : 0, (double)s->cpu_ns / 1e9,
		     share(s->memory, s->memory_max, host), share(used, s->guest_memory_total, guest),
		     (unsigned long long)s->guest_pids, share(s->scratch_used, s->scratch_size, scratch), clients);
}

static struct json_object *to_json(const char *id, const char *name, const struct mvm_stats *s)
{
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = {
		{ "wall_ns", s->wall_ns },
		{ "cpu_ns", s->cpu_ns },
		{ "memory", s->memory },
		{ "memory_peak", s->memory_peak },
		{ "memory_max", s->memory_max },
		{ "guest_memory_total", s->guest_memory_total },
		{ "guest_memory_available", s->guest_memory_available },
		{ "guest_pids", s->guest_pids },
		{ "guest_cpu_us", s->guest_cpu_us },
		{ "scratch_size", s->scratch_size },
		{ "scratch_used", s->scratch_used },
		{ "publish_open", s->publish_open },
		{ "publish_accepted", s->publish_accepted },
		{ "publish_refused", s->publish_refused },
		{ "publish_from_guest", s->publish_from_guest },
		{ "publish_to_guest", s->publish_to_guest },
		{ "proxy_opened", s->proxy_opened },
		{ "proxy_refused", s->proxy_refused },
		{ "proxy_failed", s->proxy_failed },
		{ "proxy_from_guest", s->proxy_from_guest },
		{ "proxy_to_guest", s->proxy_to_guest },
		{ "udp_from_clients", s->udp_from_clients },
		{ "udp_to_clients", s->udp_to_clients },
		{ "udp_dropped", s->udp_dropped },
		{ "net_flows", s->net_flows },
		{ "net_flows_begun", s->net_flows_begun },
		{ "net_out_packets", s->net_out_packets },
		{ "net_out_bytes", s->net_out_bytes },
		{ "net_in_packets", s->net_in_packets },
		{ "net_in_bytes", s->net_in_bytes },
		{ "net_refused", s->net_refused },
	};
	struct json_object *o = json_object_new_object();

	(void)json_object_object_add(o, "id", json_object_new_string(id));
	(void)json_object_object_add(o, "name", json_object_new_string(name));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)json_object_object_add(o, numbers[i].key, json_object_new_uint64(numbers[i].value));
	return o;
}

static bool wanted(const struct mvm_vm_entry *vm, const struct words *words)
{
	for (int i = 0; i < words->n; i++)
		if (!strncmp(vm->id, words->v[i], strlen(words->v[i])) || !strcmp(vm->name, words->v[i]))
			return true;
	return !words->n;
}

/* Every VM that is wanted, once. How many there were. */
static int round_of(const struct words *words, bool json, int *ret_status)
{
	struct json_object *array = json ? json_object_new_array() : NULL;
	const struct mvm_vm_entry *vm;
	struct mvm_list *list;
	struct mvm_error err;
	int n = 0;

	if (mvm_list_new(false, &list, &err) < 0) {
		*ret_status = cli_fail(&err);
		json_object_put(array);
		return 0;
	}
	if (!json)
		(void)printf("%-12s  %-16s  %6s  %10s  %-17s  %-17s  %5s  %-17s  %s\n", "ID", "NAME", "CPU%", "CPU s",
			     "HOST MEMORY", "GUEST MEMORY", "PIDS", "SCRATCH", "CLIENTS");
	for (size_t i = 0; (vm = mvm_list_at(list, i)); i++) {
		struct mvm_stats stats = MVM_STATS;

		if (!wanted(vm, words))
			continue;
		if (mvm_get_stats(vm->id, &stats, &err) < 0) {
			if (err.code != ESRCH && err.code != ENOENT && err.code != ECONNREFUSED && err.code != EPIPE)
				*ret_status = cli_fail(&err); /* the others ended meanwhile */
			continue;
		}
		n++;
		if (json)
			(void)json_object_array_add(array, to_json(vm->id, vm->name, &stats));
		else
			print_line(vm->id, vm->name, &stats);
	}
	if (json)
		(void)puts(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PRETTY));
	json_object_put(array);
	mvm_list_free(list);
	return n;
}

int verb_stats(const struct cli *cli, int argc, char **argv)
{
	struct words words;
	const char *format = NULL;
	bool follow = false, flows = false, json;
	const struct opt opts[] = { { "follow", 'f', &follow, NULL, NULL, "go on, once a second" },
				    { "flows", 0, &flows, NULL, NULL,
				      "the connections of one VM's network, the busiest first" },
				    { "format", 0, NULL, &format, "table|json", "how it is shown (table)" },
				    { 0 } };
	int status = 0, n;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (!opts_format(format, &json))
		return CLI_STATUS_FAILED;
	if (flows && (words.n != 1 || follow))
		return cli_unexpected("--flows", "give one VM, by its name or id, and no -f: mvm ps shows them");
	if (flows)
		return stats_flows(words.v[0], json);
	for (;;) {
		n = round_of(&words, json, &status);
		if (fflush(stdout) != 0)
			return CLI_STATUS_FAILED;
		if (!follow || status || (words.n && !n))
			break;
		(void)sleep(1);
	}
	if (!status && words.n && n < 1)
		return cli_unexpected(words.v[0], "no such VM runs: mvm ps shows them");
	return status;
}
