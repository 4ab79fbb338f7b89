#include "uplink/flows.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "uplink/nfnl.h"

#define COUNT_MS 500

/* ---- a message ---- */

static uint64_t number(const uint8_t *at, size_t len, unsigned type)
{
	const uint8_t *data = nfnl_find(at, len, type, sizeof(uint64_t), NULL);
	uint64_t value = 0;

	if (data)
		memcpy(&value, data, sizeof(value));
	return be64toh(value);
}

static uint16_t port(const uint8_t *at, size_t len, unsigned type)
{
	const uint8_t *data = nfnl_find(at, len, type, sizeof(uint16_t), NULL);
	uint16_t value = 0;

	if (data)
		memcpy(&value, data, sizeof(value));
	return be16toh(value);
}

static bool parse_addresses(const uint8_t *ip, size_t len, struct uplink_flow *flow)
{
	const uint8_t *from = nfnl_find(ip, len, CTA_IP_V4_SRC, 4, NULL),
		      *to = nfnl_find(ip, len, CTA_IP_V4_DST, 4, NULL);
	size_t size = 4;

	flow->family = 4;
	if (!from || !to) {
		flow->family = 6;
		size = 16;
		from = nfnl_find(ip, len, CTA_IP_V6_SRC, 16, NULL);
		to = nfnl_find(ip, len, CTA_IP_V6_DST, 16, NULL);
	}
	if (!from || !to)
		return false;
	memcpy(flow->from, from, size);
	memcpy(flow->to, to, size);
	return true;
}

static bool parse_tuple(const uint8_t *tuple, size_t len, struct uplink_flow *flow)
{
	size_t nip = 0, nproto = 0;
	const uint8_t *ip = nfnl_find(tuple, len, CTA_TUPLE_IP, 0, &nip);
	const uint8_t *proto = nfnl_find(tuple, len, CTA_TUPLE_PROTO, 0, &nproto);
	const uint8_t *protocol = nfnl_find(proto, nproto, CTA_PROTO_NUM, 1, NULL);

	if (!ip || !protocol || !parse_addresses(ip, nip, flow))
		return false;
	flow->protocol = *protocol;
	if (*protocol == IPPROTO_TCP || *protocol == IPPROTO_UDP) {
		flow->from_port = port(proto, nproto, CTA_PROTO_SRC_PORT);
		flow->to_port = port(proto, nproto, CTA_PROTO_DST_PORT);
	}
	return true;
}

static void parse_counters(const uint8_t *at, size_t len, unsigned type, uint64_t *ret_packets, uint64_t *ret_bytes)
{
	size_t n = 0;
	const uint8_t *counters = nfnl_find(at, len, type, 0, &n);

	*ret_packets = number(counters, n, CTA_COUNTERS_PACKETS);
	*ret_bytes = number(counters, n, CTA_COUNTERS_BYTES);
}

static uint8_t parse_state(const uint8_t *at, size_t len)
{
	size_t ninfo = 0, ntcp = 0;
	const uint8_t *info = nfnl_find(at, len, CTA_PROTOINFO, 0, &ninfo);
	const uint8_t *tcp = nfnl_find(info, ninfo, CTA_PROTOINFO_TCP, 0, &ntcp);
	const uint8_t *state = nfnl_find(tcp, ntcp, CTA_PROTOINFO_TCP_STATE, 1, NULL);

	return state ? *state : 0;
}

/* The kernel's time-stamp is of the wall clock. */
static uint32_t parse_age(const uint8_t *at, size_t len)
{
	size_t n = 0;
	const uint8_t *stamp = nfnl_find(at, len, CTA_TIMESTAMP, 0, &n);
	uint64_t start = number(stamp, n, CTA_TIMESTAMP_START), wall;
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	wall = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	if (!start || start > wall || (wall - start) / 1000000000U >= UINT32_MAX)
		return UINT32_MAX;
	return (uint32_t)((wall - start) / 1000000000U);
}

bool flows_parse(const void *msg, size_t len, struct uplink_flow *ret)
{
	const struct nlmsghdr *hdr = msg;
	struct uplink_flow flow = { 0 };
	const uint8_t *at, *tuple, *status;
	size_t attrs = 0, ntuple = 0;
	uint32_t bits = 0;

	if (len < sizeof(*hdr) || hdr->nlmsg_len > len)
		return false;
	at = nfnl_attributes(hdr, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW, &attrs);
	tuple = nfnl_find(at, attrs, CTA_TUPLE_ORIG, 0, &ntuple);
	if (!tuple || !parse_tuple(tuple, ntuple, &flow))
		return false;
	parse_counters(at, attrs, CTA_COUNTERS_ORIG, &flow.out_packets, &flow.out_bytes);
	parse_counters(at, attrs, CTA_COUNTERS_REPLY, &flow.in_packets, &flow.in_bytes);
	status = nfnl_find(at, attrs, CTA_STATUS, sizeof(bits), NULL);
	if (status)
		memcpy(&bits, status, sizeof(bits));
	flow.flags = ntohl(bits) & IPS_SEEN_REPLY ? UPLINK_FLOW_ANSWERED : 0;
	flow.state = flow.protocol == IPPROTO_TCP ? parse_state(at, attrs) : 0;
	flow.age_s = parse_age(at, attrs);
	*ret = flow;
	return true;
}

/* ---- the busiest ---- */

static uint64_t busy(const struct uplink_flow *flow)
{
	return flow->out_bytes + flow->in_bytes;
}

static void swap(struct uplink_flow *a, struct uplink_flow *b)
{
	struct uplink_flow kept = *a;

	*a = *b;
	*b = kept;
}

/* The first, which is new there, to its place. */
static void sift(struct flows *flows)
{
	unsigned at = 0;

	for (;;) {
		unsigned least = at;

		for (unsigned i = 2 * at + 1; i <= 2 * at + 2 && i < flows->n; i++)
			if (busy(&flows->busiest[i]) < busy(&flows->busiest[least]))
				least = i;
		if (least == at)
			return;
		swap(&flows->busiest[at], &flows->busiest[least]);
		at = least;
	}
}

void flows_add(struct flows *flows, const struct uplink_flow *flow)
{
	unsigned at = flows->n;

	flows->seen++;
	if (at == UPLINK_FLOWS_MAX) {
		if (busy(flow) <= busy(&flows->busiest[0]))
			return;
		flows->busiest[0] = *flow;
		sift(flows);
		return;
	}
	flows->n++;
	flows->busiest[at] = *flow;
	for (; at && busy(&flows->busiest[at]) < busy(&flows->busiest[(at - 1) / 2]); at = (at - 1) / 2)
		swap(&flows->busiest[at], &flows->busiest[(at - 1) / 2]);
}

/* By the heap that is there already: the C library's own may ask for memory, which a filter forbids. */
void flows_sort(struct flows *flows)
{
	unsigned n = flows->n;

	while (flows->n > 1) {
		flows->n--;
		swap(&flows->busiest[0], &flows->busiest[flows->n]);
		sift(flows);
	}
	flows->n = n;
}

/* ---- the kernel ---- */

struct dump {
	const struct uplink_member *of;
	struct flows *flows;
};

static bool is_of(const struct uplink_flow *flow, const struct uplink_member *of)
{
	size_t len = flow->family == 4 ? 4 : 16;
	const uint8_t *own = flow->family == 4 ? of->ip4 : of->ip6;

	return !memcmp(flow->from, own, len) || !memcmp(flow->to, own, len);
}

static bool take_flow(const struct nlmsghdr *hdr, void *arg)
{
	const struct dump *dump = arg;
	struct uplink_flow flow;

	if (flows_parse(hdr, hdr->nlmsg_len, &flow) && (!dump->of || is_of(&flow, dump->of)))
		flows_add(dump->flows, &flow);
	return dump->flows->seen < FLOWS_SEEN_MAX;
}

int flows_dump(int fd, const struct uplink_member *of, struct flows *ret)
{
	struct dump dump = { of, ret };
	int r;

	memset(ret, 0, sizeof(*ret));
	r = nfnl_dump(fd, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, take_flow, &dump, FLOWS_DUMP_MS);
	ret->cut = r == -ETIMEDOUT;
	flows_sort(ret);
	return ret->cut ? 0 : r;
}

struct dump_each {
	const struct uplink_member *const *of;
	uint64_t *now;
};

static bool take_each(const struct nlmsghdr *hdr, void *arg)
{
	const struct dump_each *dump = arg;
	struct uplink_flow flow;

	if (!flows_parse(hdr, hdr->nlmsg_len, &flow))
		return true;
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		dump->now[i] += dump->of[i] && is_of(&flow, dump->of[i]);
	return true;
}

static int64_t clock_ms(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int flows_count_each(struct flows_each *each, int fd, const struct uplink_member *const of[UPLINK_MEMBERS],
		     int64_t now_ms)
{
	struct dump_each dump = { of, each->now };
	int64_t began = clock_ms(), took;
	int r;

	if (now_ms < each->next_ms)
		return 0;
	memset(each->now, 0, sizeof(each->now));
	r = nfnl_dump(fd, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, take_each, &dump, FLOWS_DUMP_MS);
	took = clock_ms() - began;
	each->next_ms = now_ms + (10 * took > FLOWS_EACH_MS ? 10 * took : FLOWS_EACH_MS);
	return r == -ETIMEDOUT ? 0 : r;
}

static bool take_count(const struct nlmsghdr *hdr, void *arg)
{
	size_t len = 0;
	const uint8_t *at = nfnl_attributes(hdr, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS, &len);
	const uint8_t *entries = nfnl_find(at, len, CTA_STATS_GLOBAL_ENTRIES, sizeof(uint32_t), NULL);
	uint32_t value;

	if (entries) {
		memcpy(&value, entries, sizeof(value));
		*(uint64_t *)arg = ntohl(value);
	}
	return true;
}

int flows_count(int fd, uint64_t *ret_now)
{
	return nfnl_ask(fd, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS, take_count, ret_now, COUNT_MS);
}
