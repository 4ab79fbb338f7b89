#include "uplink/nfnl.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "uplink/rules.h"

#define ATTRIBUTE 0x3fff /* of a type: without its flags (NLA_TYPE_MASK) */
#define HEADER    sizeof(struct nlattr)

#define TUPLES       1024U /* connections that are forgotten at once … */
#define TUPLE_ROUNDS 64U /* … and how often */

static size_t aligned(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

int nfnl_open(int *ret_fd)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	_cleanup_fd_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* ---- writing ---- */

struct out {
	uint8_t bytes[512] __attribute__((aligned(8)));
	size_t len;
	struct nlmsghdr *hdr; /* of the message being written */
};

static void begin(struct out *out, uint16_t type, uint16_t flags, uint8_t family, uint16_t resource)
{
	struct nfgenmsg of = { .nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource) };

	out->hdr = (struct nlmsghdr *)(void *)(out->bytes + out->len);
	*out->hdr = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(sizeof(of)),
				       .nlmsg_type = type,
				       .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };
	memcpy(NLMSG_DATA(out->hdr), &of, sizeof(of));
	out->len += NLMSG_ALIGN(out->hdr->nlmsg_len);
}

/* Returns where it lies: an attribute that holds others is closed with nest_end(). */
static struct nlattr *put(struct out *out, uint16_t type, const void *data, size_t len)
{
	struct nlattr *attr = (struct nlattr *)(void *)(out->bytes + out->len);

	attr->nla_type = type;
	attr->nla_len = (uint16_t)(HEADER + len);
	if (len)
		memcpy((uint8_t *)attr + HEADER, data, len);
	memset((uint8_t *)attr + attr->nla_len, 0, aligned(attr->nla_len) - attr->nla_len);
	out->len += aligned(attr->nla_len);
	out->hdr->nlmsg_len = (uint32_t)(out->bytes + out->len - (uint8_t *)out->hdr);
	return attr;
}

static void put_text(struct out *out, uint16_t type, const char *text)
{
	(void)put(out, type, text, strlen(text) + 1);
}

static struct nlattr *nest(struct out *out, uint16_t type)
{
	return put(out, type | NLA_F_NESTED, NULL, 0);
}

static void nest_end(struct out *out, struct nlattr *attr)
{
	attr->nla_len = (uint16_t)(out->bytes + out->len - (uint8_t *)attr);
}

/* ---- reading ---- */

static const struct nlattr *find(const uint8_t *at, size_t len, unsigned type)
{
	while (len >= HEADER) {
		const struct nlattr *attr = (const void *)at;
		size_t whole = aligned(attr->nla_len);

		if (attr->nla_len < HEADER || attr->nla_len > len)
			return NULL;
		if ((attr->nla_type & ATTRIBUTE) == type)
			return attr;
		if (whole >= len)
			return NULL;
		at += whole;
		len -= whole;
	}
	return NULL;
}

static const uint8_t *data_of(const struct nlattr *attr)
{
	return (const uint8_t *)attr + HEADER;
}

static size_t length_of(const struct nlattr *attr)
{
	return attr->nla_len - HEADER;
}

/* The attributes of a message of that kind; NULL: it is another one. */
static const uint8_t *attributes(const struct nlmsghdr *hdr, unsigned subsystem, unsigned type, size_t *ret_len)
{
	size_t skip = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));

	if (hdr->nlmsg_type != (subsystem << 8 | type) || hdr->nlmsg_len < skip)
		return NULL;
	*ret_len = hdr->nlmsg_len - skip;
	return (const uint8_t *)hdr + skip;
}

/* What an earlier batch left unread is not taken for the answer to this one. */
static int ask(int fd, const struct out *out)
{
	uint8_t old[256];

	while (recv(fd, old, sizeof(old), MSG_DONTWAIT) >= 0 || errno == ENOBUFS || errno == EINTR)
		;
	return send(fd, out->bytes, out->len, 0) < 0 ? -errno : 0;
}

static int64_t now_ms(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Reads answers until the last one, or until the acknowledgement comes: its error. From when `each` says no, or `end` is past,
 * they are read and not looked at, for the kernel goes on as far as the socket is read: -ETIMEDOUT.
 */
static int read_answers(int fd, bool (*each)(const struct nlmsghdr *hdr, void *arg), void *arg, int64_t end)
{
	union {
		struct nlmsghdr hdr;
		uint8_t bytes[32768];
	} in;
	bool wanted = true;

	for (;;) {
		ssize_t n = recv(fd, &in, sizeof(in), 0);
		size_t left = n < 0 ? 0 : (size_t)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (struct nlmsghdr *hdr = &in.hdr; NLMSG_OK(hdr, left); hdr = NLMSG_NEXT(hdr, left)) {
			if (hdr->nlmsg_type == NLMSG_DONE)
				return wanted ? 0 : -ETIMEDOUT;
			if (hdr->nlmsg_type == NLMSG_ERROR)
				return hdr->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr))
					       ? -EIO
					       : ((const struct nlmsgerr *)NLMSG_DATA(hdr))->error;
			wanted = wanted && each(hdr, arg) && now_ms() < end;
		}
	}
}

/* All of them, however long it takes. */
static int answers(int fd, bool (*each)(const struct nlmsghdr *hdr, void *arg), void *arg)
{
	return read_answers(fd, each, arg, INT64_MAX);
}

static bool ignore(const struct nlmsghdr *hdr, void *arg)
{
	(void)hdr;
	(void)arg;
	return true;
}

/* ---- for others ---- */

const uint8_t *nfnl_find(const uint8_t *at, size_t len, unsigned type, size_t least, size_t *ret_len)
{
	const struct nlattr *attr = at ? find(at, len, type) : NULL;

	if (!attr || length_of(attr) < least)
		return NULL;
	if (ret_len)
		*ret_len = length_of(attr);
	return data_of(attr);
}

const uint8_t *nfnl_attributes(const struct nlmsghdr *hdr, unsigned subsystem, unsigned type, size_t *ret_len)
{
	return attributes(hdr, subsystem, type, ret_len);
}

static int request(int fd, unsigned kind, uint16_t flags, bool (*each)(const struct nlmsghdr *hdr, void *arg),
		   void *arg, int ms)
{
	struct out out = { .len = 0 };
	int r;

	begin(&out, (uint16_t)kind, flags, AF_UNSPEC, 0);
	r = ask(fd, &out);
	return r < 0 ? r : read_answers(fd, each, arg, now_ms() + ms);
}

int nfnl_dump(int fd, unsigned subsystem, unsigned type, bool (*each)(const struct nlmsghdr *hdr, void *arg), void *arg,
	      int ms)
{
	return request(fd, subsystem << 8 | type, NLM_F_DUMP, each, arg, ms);
}

int nfnl_ask(int fd, unsigned subsystem, unsigned type, bool (*each)(const struct nlmsghdr *hdr, void *arg), void *arg,
	     int ms)
{
	return request(fd, subsystem << 8 | type, NLM_F_ACK, each, arg, ms);
}

/* ---- counters ---- */

struct counters {
	struct uplink_counted *of;
	unsigned n;
};

static bool take_counter(const struct nlmsghdr *hdr, void *arg)
{
	const struct nlattr *name, *data;
	const uint8_t *packets, *bytes;
	const struct counters *counters = arg;
	struct uplink_counted *of;
	unsigned what, slot;
	uint64_t count, size;
	size_t len;
	const uint8_t *at = attributes(hdr, NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWOBJ, &len);

	name = at ? find(at, len, NFTA_OBJ_NAME) : NULL;
	data = at ? find(at, len, NFTA_OBJ_DATA) : NULL;
	if (!name || !data)
		return true;
	packets = nfnl_find(data_of(data), length_of(data), NFTA_COUNTER_PACKETS, sizeof(count), NULL);
	bytes = nfnl_find(data_of(data), length_of(data), NFTA_COUNTER_BYTES, sizeof(size), NULL);
	if (!packets || !bytes || !rules_parse_counter((const char *)data_of(name), length_of(name), &what, &slot) ||
	    slot >= counters->n)
		return true;
	memcpy(&count, packets, sizeof(count));
	memcpy(&size, bytes, sizeof(size));
	of = &counters->of[slot];
	if (what < UPLINK_REASONS)
		of->counters[what] = be64toh(count);
	if (what == RULES_COUNT_BEGUN)
		of->traffic.begun = be64toh(count);
	if (what == RULES_COUNT_OUT) {
		of->traffic.out_packets = be64toh(count);
		of->traffic.out_bytes = be64toh(size);
	}
	if (what == RULES_COUNT_IN) {
		of->traffic.in_packets = be64toh(count);
		of->traffic.in_bytes = be64toh(size);
	}
	return true;
}

int nfnl_counters(int fd, struct uplink_counted ret_counted[], unsigned n)
{
	struct counters counters = { ret_counted, n };
	uint32_t kind = htonl(NFT_OBJECT_COUNTER);
	struct out out = { .len = 0 };
	int r;

	begin(&out, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ, NLM_F_DUMP, AF_UNSPEC, 0);
	(void)put(&out, NFTA_OBJ_TYPE, &kind, sizeof(kind));
	r = ask(fd, &out);
	return r < 0 ? r : answers(fd, take_counter, &counters);
}

/* ---- sets ---- */

static void put_element(struct out *out, uint16_t type, uint16_t flags, const char *set, const uint8_t *address,
			size_t len, uint32_t timeout_s)
{
	uint64_t timeout_ms = htobe64(timeout_s * 1000ULL);
	struct nlattr *list, *element, *key;

	begin(out, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);
	put_text(out, NFTA_SET_ELEM_LIST_TABLE, RULES_TABLE);
	put_text(out, NFTA_SET_ELEM_LIST_SET, set);
	list = nest(out, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = nest(out, NFTA_LIST_ELEM);
	key = nest(out, NFTA_SET_ELEM_KEY);
	(void)put(out, NFTA_DATA_VALUE, address, len);
	nest_end(out, key);
	if (timeout_s)
		(void)put(out, NFTA_SET_ELEM_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	nest_end(out, element);
	nest_end(out, list);
}

/* `again`: in the place of the one that is there; -ENOENT: there is none. */
static int add(int fd, const char *set, const uint8_t *address, size_t len, uint32_t timeout_s, bool again)
{
	struct out out = { .len = 0 };
	int r;

	begin(&out, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	if (again)
		put_element(&out, NFT_MSG_DELSETELEM, 0, set, address, len, 0);
	put_element(&out, NFT_MSG_NEWSETELEM, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, set, address, len, timeout_s);
	begin(&out, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	r = ask(fd, &out);
	return r < 0 ? r : answers(fd, ignore, NULL);
}

int nfnl_add_address(int fd, const char *set, const uint8_t *address, size_t len, uint32_t timeout_s)
{
	int r = add(fd, set, address, len, timeout_s, false);

	if (r == -EEXIST && timeout_s) /* a kernel before 6.12 leaves an element's time-out as it was */
		r = add(fd, set, address, len, timeout_s, true);
	if (r == -ENOENT) /* its time was over just then */
		r = add(fd, set, address, len, timeout_s, false);
	return r == -EEXIST ? 0 : r;
}

/* ---- connections ---- */

struct tuples {
	const uint8_t *address;
	size_t len; /* of the address */
	unsigned n;
	struct tuple {
		size_t len;
		uint8_t bytes[128];
		struct reset_ends back; /* to whom answers come */
	} of[TUPLES];
};

static bool has_address(const struct nlattr *tuple, const struct tuples *tuples)
{
	const struct nlattr *ip = tuple ? find(data_of(tuple), length_of(tuple), CTA_TUPLE_IP) : NULL;
	unsigned type = tuples->len == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC; /* behind it the destination */

	for (unsigned i = 0; ip && i < 2; i++) {
		const struct nlattr *address = find(data_of(ip), length_of(ip), type + i);

		if (address && length_of(address) == tuples->len &&
		    !memcmp(data_of(address), tuples->address, tuples->len))
			return true;
	}
	return false;
}

/* A value of the tuple's part; zeroes where there is none. */
static void copy_value(const struct nlattr *part, unsigned type, void *ret, size_t len)
{
	const uint8_t *value = part ? nfnl_find(data_of(part), length_of(part), type, len, NULL) : NULL;

	if (value)
		memcpy(ret, value, len);
}

static void read_ends(const struct nlattr *tuple, size_t len, struct reset_ends *ret)
{
	const struct nlattr *ip = tuple ? find(data_of(tuple), length_of(tuple), CTA_TUPLE_IP) : NULL;
	const struct nlattr *proto = tuple ? find(data_of(tuple), length_of(tuple), CTA_TUPLE_PROTO) : NULL;
	unsigned type = len == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC; /* behind it the destination */

	*ret = (struct reset_ends){ .protocol = 0 };
	copy_value(ip, type, ret->from, len);
	copy_value(ip, type + 1, ret->to, len);
	copy_value(proto, CTA_PROTO_NUM, &ret->protocol, 1);
	copy_value(proto, CTA_PROTO_SRC_PORT, &ret->from_port, sizeof(ret->from_port));
	copy_value(proto, CTA_PROTO_DST_PORT, &ret->to_port, sizeof(ret->to_port));
}

static bool take_tuple(const struct nlmsghdr *hdr, void *arg)
{
	struct tuples *tuples = arg;
	const struct nlattr *original, *reply;
	size_t len;
	const uint8_t *at = attributes(hdr, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW, &len);
	struct tuple *tuple;

	original = at ? find(at, len, CTA_TUPLE_ORIG) : NULL;
	reply = at ? find(at, len, CTA_TUPLE_REPLY) : NULL;
	if (!original || tuples->n == TUPLES || length_of(original) > sizeof(tuple->bytes) ||
	    !(has_address(original, tuples) || has_address(reply, tuples)))
		return true;
	tuple = &tuples->of[tuples->n++];
	tuple->len = length_of(original);
	memcpy(tuple->bytes, data_of(original), tuple->len);
	read_ends(reply, tuples->len, &tuple->back);
	return true;
}

static int forget(int fd, const struct tuple *tuple, uint8_t family)
{
	struct out out = { .len = 0 };
	int r;

	begin(&out, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, 0);
	(void)put(&out, CTA_TUPLE_ORIG | NLA_F_NESTED, tuple->bytes, tuple->len);
	r = ask(fd, &out);
	if (r == 0)
		r = answers(fd, ignore, NULL);
	return r == -ENOENT ? 0 : r; /* it has just ended */
}

int nfnl_forget(int fd, const uint8_t *address, size_t len,
		void (*each)(void *arg, const struct reset_ends *back, size_t len), void *arg)
{
	uint8_t family = len == 4 ? AF_INET : AF_INET6;
	struct tuples *tuples = calloc(1, sizeof(*tuples));
	int r = tuples ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < TUPLE_ROUNDS && (i == 0 || tuples->n == TUPLES); i++) {
		struct out out = { .len = 0 };

		tuples->address = address;
		tuples->len = len;
		tuples->n = 0;
		begin(&out, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, 0);
		r = ask(fd, &out);
		if (r == 0)
			r = answers(fd, take_tuple, tuples);
		for (unsigned k = 0; r == 0 && k < tuples->n; k++) {
			if (each)
				each(arg, &tuples->of[k].back, len);
			r = forget(fd, &tuples->of[k], family);
		}
	}
	free(tuples);
	return r;
}

/* ---- what is logged ---- */

static int configure_log(int fd, uint16_t type, const void *data, size_t len)
{
	struct out out = { .len = 0 };
	int r;

	begin(&out, NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, NLM_F_ACK, AF_UNSPEC, RULES_LOG_GROUP);
	(void)put(&out, type, data, len);
	r = ask(fd, &out);
	return r < 0 ? r : answers(fd, ignore, NULL);
}

int nfnl_listen(int fd)
{
	struct nfulnl_msg_config_cmd bind_group = { .command = NFULNL_CFG_CMD_BIND };
	struct nfulnl_msg_config_mode mode = { .copy_range = htonl(RULES_LOG_SNAP), .copy_mode = NFULNL_COPY_PACKET };
	uint32_t at_once = htonl(1);
	int r = configure_log(fd, NFULA_CFG_CMD, &bind_group, sizeof(bind_group));

	if (r == 0)
		r = configure_log(fd, NFULA_CFG_MODE, &mode, sizeof(mode));
	if (r == 0)
		r = configure_log(fd, NFULA_CFG_QTHRESH, &at_once, sizeof(at_once));
	return r;
}

static bool has_ports(unsigned protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* The kernel has looked at the IP header; at what is behind it nobody has. */
static bool parse_packet(const uint8_t *p, size_t len, struct uplink_refused *ret)
{
	size_t header = 0;

	if (len >= 20 && p[0] >> 4 == 4) {
		header = (p[0] & 15UL) * 4;
		ret->family = 4;
		ret->protocol = p[9];
		memcpy(ret->to, p + 16, 4);
		if ((p[6] & 0x1f) | p[7]) /* a later fragment */
			return true;
	} else if (len >= 40 && p[0] >> 4 == 6) { /* behind extension headers the port remains untold */
		header = 40;
		ret->family = 6;
		ret->protocol = p[6];
		memcpy(ret->to, p + 24, 16);
	} else {
		return false;
	}
	if (has_ports(ret->protocol) && header + 4 <= len)
		ret->port = (uint16_t)(p[header + 2] << 8 | p[header + 3]);
	return true;
}

bool nfnl_parse_refused(const void *msg, size_t len, struct uplink_refused *ret_refused)
{
	const struct nlmsghdr *hdr = msg;
	struct uplink_refused refused = { 0 };
	const struct nlattr *prefix, *payload;
	const size_t skip = strlen(RULES_LOG_PREFIX);
	unsigned reason, slot;
	const uint8_t *at;
	size_t attrs;

	if (len < sizeof(*hdr) || hdr->nlmsg_len > len)
		return false;
	at = attributes(hdr, NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET, &attrs);
	prefix = at ? find(at, attrs, NFULA_PREFIX) : NULL;
	payload = at ? find(at, attrs, NFULA_PAYLOAD) : NULL;
	if (!prefix || !payload || length_of(prefix) <= skip || memcmp(data_of(prefix), RULES_LOG_PREFIX, skip) != 0)
		return false;
	if (!rules_parse_reason((const char *)data_of(prefix) + skip, length_of(prefix) - skip, &reason, &slot))
		return false;
	refused.reason = (uint8_t)reason;
	refused.slot = (uint16_t)slot;
	if (!parse_packet(data_of(payload), length_of(payload), &refused))
		return false;
	*ret_refused = refused;
	return true;
}
