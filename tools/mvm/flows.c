/* mvm stats --flows VM: its connections, by the word of who holds its network. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "stats.h"

/* "10.0.0.1:80", "[fd00::1]:80", without the port where there is none. */
static const char *place(const char *address, unsigned port, char buf[64])
{
	bool six = strchr(address, ':');

	if (port)
		(void)snprintf(buf, 64, six ? "[%s]:%u" : "%s:%u", address, port);
	else
		(void)snprintf(buf, 64, "%s", address);
	return buf;
}

static void print_flow(const struct mvm_flow *flow)
{
	char from[64], to[64], age[24] = "-";

	if (flow->age_s != UINT64_MAX)
		(void)snprintf(age, sizeof(age), "%" PRIu64 "s", flow->age_s);
	(void)printf("%-5s  %-27s  %-27s  %-12s  %7s  %10" PRIu64 "  %12" PRIu64 "  %10" PRIu64 "  %12" PRIu64 "\n",
		     flow->protocol, place(flow->from, flow->from_port, from), place(flow->to, flow->to_port, to),
		     *flow->state     ? flow->state
		     : flow->answered ? "answered"
				      : "unanswered",
		     age, flow->out_packets, flow->out_bytes, flow->in_packets, flow->in_bytes);
}

static void add_number(struct json_object *o, const char *key, uint64_t value, bool known)
{
	(void)json_object_object_add(o, key, known ? json_object_new_uint64(value) : NULL);
}

static struct json_object *to_json(const struct mvm_flow *flow)
{
	struct json_object *o = json_object_new_object();

	(void)json_object_object_add(o, "protocol", json_object_new_string(flow->protocol));
	(void)json_object_object_add(o, "from", json_object_new_string(flow->from));
	add_number(o, "from_port", flow->from_port, flow->from_port);
	(void)json_object_object_add(o, "to", json_object_new_string(flow->to));
	add_number(o, "to_port", flow->to_port, flow->to_port);
	(void)json_object_object_add(o, "state", *flow->state ? json_object_new_string(flow->state) : NULL);
	(void)json_object_object_add(o, "answered", json_object_new_boolean(flow->answered));
	add_number(o, "age_s", flow->age_s, flow->age_s != UINT64_MAX);
	add_number(o, "out_packets", flow->out_packets, true);
	add_number(o, "out_bytes", flow->out_bytes, true);
	add_number(o, "in_packets", flow->in_packets, true);
	add_number(o, "in_bytes", flow->in_bytes, true);
	return o;
}

static void print_json(const struct mvm_flows *flows)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	const struct mvm_flow *flow;

	for (size_t i = 0; (flow = mvm_flows_at(flows, i)); i++)
		(void)json_object_array_add(list, to_json(flow));
	add_number(o, "all", mvm_flows_all(flows), mvm_flows_all(flows) != UINT64_MAX);
	(void)json_object_object_add(o, "flows", list);
	(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void print_table(const struct mvm_flows *flows)
{
	const struct mvm_flow *flow;
	size_t n = 0;

	(void)printf("%-5s  %-27s  %-27s  %-12s  %7s  %10s  %12s  %10s  %12s\n", "PROTO", "FROM", "TO", "STATE", "AGE",
		     "PACKETS", "BYTES OUT", "PACKETS", "BYTES IN");
	for (; (flow = mvm_flows_at(flows, n)); n++)
		print_flow(flow);
	if (mvm_flows_all(flows) == UINT64_MAX)
		(void)puts("... and more than could be looked at");
	else if (mvm_flows_all(flows) > n)
		(void)printf("... and %" PRIu64 " more\n", mvm_flows_all(flows) - n);
}

int stats_flows(const char *id, bool json)
{
	struct mvm_flows *flows;
	struct mvm_error err;

	if (mvm_flows_new(id, &flows, &err) < 0)
		return cli_fail(&err);
	if (json)
		print_json(flows);
	else
		print_table(flows);
	mvm_flows_free(flows);
	return fflush(stdout) == 0 ? 0 : CLI_STATUS_FAILED;
}
