/* mvm_flows_*(): the connections of a VM, as its supervisor tells them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/attach.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

struct mvm_flows {
	size_t n;
	uint64_t all;
	struct one {
		struct mvm_flow flow;
		char protocol[8], from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
	} list[];
};

/* enum tcp_conntrack (linux/netfilter/nf_conntrack_tcp.h). */
static const char *state_name(unsigned state)
{
	static const char *const names[] = { "",           "syn-sent", "syn-recv",  "established", "fin-wait",
					     "close-wait", "last-ack", "time-wait", "close",       "syn-sent" };

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "";
}

static void describe(struct one *one, const struct uplink_flow *told)
{
	int family = told->family == 4 ? AF_INET : AF_INET6;

	switch (told->protocol) {
	case IPPROTO_TCP:
		(void)snprintf(one->protocol, sizeof(one->protocol), "tcp");
		break;
	case IPPROTO_UDP:
		(void)snprintf(one->protocol, sizeof(one->protocol), "udp");
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		(void)snprintf(one->protocol, sizeof(one->protocol), "icmp");
		break;
	default:
		(void)snprintf(one->protocol, sizeof(one->protocol), "%u", told->protocol);
	}
	(void)inet_ntop(family, told->from, one->from, sizeof(one->from));
	(void)inet_ntop(family, told->to, one->to, sizeof(one->to));
	one->flow = (struct mvm_flow){
		.protocol = one->protocol,
		.from = one->from,
		.to = one->to,
		.from_port = told->from_port,
		.to_port = told->to_port,
		.state = told->protocol == IPPROTO_TCP ? state_name(told->state) : "",
		.answered = told->flags & UPLINK_FLOW_ANSWERED,
		.age_s = told->age_s == UINT32_MAX ? UINT64_MAX : told->age_s,
		.out_packets = told->out_packets,
		.out_bytes = told->out_bytes,
		.in_packets = told->in_packets,
		.in_bytes = told->in_bytes,
	};
}

int mvm_flows_new(const char *id, struct mvm_flows **ret_flows, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	struct attach_flows told;
	struct mvm_flows *flows;
	int r = attach_vm(id, ATTACH_FLOWS, &answer, err);

	if (r < 0)
		return r;
	memset(&told, 0, sizeof(told));
	if (answer.hdr.len <= sizeof(told))
		memcpy(&told, answer.payload, answer.hdr.len);
	if (answer.hdr.len < offsetof(struct attach_flows, flows) || told.told > UPLINK_FLOWS_MAX ||
	    answer.hdr.len != offsetof(struct attach_flows, flows) + told.told * sizeof(told.flows[0]))
		return error_set(err, EPROTO, "%.63s: its supervisor's answer cannot be read", id);
	flows = calloc(1, sizeof(*flows) + told.told * sizeof(flows->list[0]));
	if (!flows)
		return error_set(err, ENOMEM, "%.63s: out of memory", id);
	for (; flows->n < told.told; flows->n++)
		describe(&flows->list[flows->n], &told.flows[flows->n]);
	flows->all = told.cut ? UINT64_MAX : told.all;
	*ret_flows = flows;
	return 0;
}

void mvm_flows_free(struct mvm_flows *flows)
{
	free(flows);
}

const struct mvm_flow *mvm_flows_at(const struct mvm_flows *flows, size_t index)
{
	return index < flows->n ? &flows->list[index].flow : NULL;
}

uint64_t mvm_flows_all(const struct mvm_flows *flows)
{
	return flows->all;
}
