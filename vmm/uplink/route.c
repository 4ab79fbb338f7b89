#include "uplink/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mvm/cleanup.h"

struct message {
	struct nlmsghdr hdr;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
	} of;
	uint8_t attributes[64]; /* two addresses and an index */
};

int route_open(uint32_t groups, int *ret_fd)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	_cleanup_fd_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int route_find(const char *name)
{
	unsigned index = if_nametoindex(name);

	return index ? (int)index : -ENODEV;
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int route_await(int fd, const char *name, int gone, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	uint8_t news[8192];

	for (;;) {
		struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = gone, .events = POLLIN } };
		int index = route_find(name);
		int64_t left = end - now_ms();

		if (index >= 0)
			return index;
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			return -EPIPE;
		while (recv(fd, news, sizeof(news), MSG_DONTWAIT) > 0)
			; /* that there is news is all that counts */
	}
}

static void put(struct message *m, unsigned short type, const void *data, size_t len)
{
	struct rtattr *attr = (struct rtattr *)(void *)((uint8_t *)m + NLMSG_ALIGN(m->hdr.nlmsg_len));

	attr->rta_type = type;
	attr->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(attr), data, len);
	m->hdr.nlmsg_len = NLMSG_ALIGN(m->hdr.nlmsg_len) + RTA_ALIGN(attr->rta_len);
}

static int ask(int fd, struct message *m, unsigned short type, unsigned short flags)
{
	struct {
		struct nlmsghdr hdr;
		struct nlmsgerr err;
		uint8_t rest[256];
	} answer;

	m->hdr.nlmsg_type = type;
	m->hdr.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags);
	if (send(fd, m, m->hdr.nlmsg_len, 0) < 0)
		return -errno;
	if (recv(fd, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.err)) ||
	    answer.hdr.nlmsg_type != NLMSG_ERROR)
		return -EIO;
	return answer.err.error;
}

int route_up(int fd, int index, uint32_t mtu)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.link)) };

	m.of.link = (struct ifinfomsg){ .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	put(&m, IFLA_MTU, &mtu, sizeof(mtu));
	return ask(fd, &m, RTM_NEWLINK, 0);
}

static int parse(const char *text, uint8_t bytes[16], size_t *ret_len)
{
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	*ret_len = family == AF_INET ? 4 : 16;
	return inet_pton(family, text, bytes) == 1 ? family : -EINVAL;
}

int route_add_address(int fd, int index, const char *address, uint8_t bits)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.addr)) };
	uint8_t bytes[16];
	size_t len;
	int family = parse(address, bytes, &len);

	if (family < 0)
		return family;
	m.of.addr = (struct ifaddrmsg){
		.ifa_family = (uint8_t)family,
		.ifa_prefixlen = bits,
		.ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
		.ifa_index = (unsigned)index,
	};
	put(&m, IFA_LOCAL, bytes, len);
	put(&m, IFA_ADDRESS, bytes, len);
	return ask(fd, &m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
}

int route_add_default(int fd, int index, const char *gateway)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.route)) };
	uint32_t out = (uint32_t)index;
	uint8_t bytes[16];
	size_t len;
	int family = parse(gateway, bytes, &len);

	if (family < 0)
		return family;
	m.of.route = (struct rtmsg){
		.rtm_family = (uint8_t)family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};
	put(&m, RTA_GATEWAY, bytes, len);
	put(&m, RTA_OIF, &out, sizeof(out));
	return ask(fd, &m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
}

/* ---- the host's addresses ---- */

int route_ask_addresses(int fd, unsigned family)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.addr)) };

	m.hdr.nlmsg_type = RTM_GETADDR;
	m.hdr.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	m.of.addr.ifa_family = (uint8_t)(family == 4 ? AF_INET : AF_INET6);
	return send(fd, &m, m.hdr.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* IFA_LOCAL where there is one: of a link from point to point IFA_ADDRESS is the other's. */
static bool read_address(struct nlmsghdr *hdr, struct route_address *ret)
{
	struct ifaddrmsg *of = NLMSG_DATA(hdr);
	struct rtattr *attr = IFA_RTA(of);
	size_t left = hdr->nlmsg_len - NLMSG_LENGTH(sizeof(*of)), len = of->ifa_family == AF_INET ? 4 : 16;
	const void *local = NULL, *address = NULL;

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*of)) || (of->ifa_family != AF_INET && of->ifa_family != AF_INET6))
		return false;
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (RTA_PAYLOAD(attr) < len)
			continue;
		if (attr->rta_type == IFA_LOCAL)
			local = RTA_DATA(attr);
		else if (attr->rta_type == IFA_ADDRESS)
			address = RTA_DATA(attr);
	}
	if (!local && !address)
		return false;
	*ret = (struct route_address){ .family = of->ifa_family == AF_INET ? 4 : 6 };
	memcpy(ret->bytes, local ? local : address, len);
	return true;
}

/* What an answer ends with, or what was not to be had; an interrupted one (NLM_F_DUMP_INTR) lacks something. */
static int read_end(struct nlmsghdr *hdr, bool *done, bool *lost)
{
	const struct nlmsgerr *error = NLMSG_DATA(hdr);

	*done |= hdr->nlmsg_type == NLMSG_DONE || hdr->nlmsg_type == NLMSG_ERROR;
	*lost |= hdr->nlmsg_flags & NLM_F_DUMP_INTR;
	if (hdr->nlmsg_type != NLMSG_ERROR || hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*error)))
		return 0;
	*lost |= error->error == -EBUSY; /* the answer before is not over */
	return error->error == -EBUSY || error->error == -EAFNOSUPPORT ? 0 : error->error;
}

int route_read_addresses(int fd, void (*tell)(const struct route_address *address, void *arg), void *arg)
{
	union {
		struct nlmsghdr hdr;
		uint8_t bytes[32768];
	} news;
	bool done = false, lost = false;
	int r;

	for (;;) {
		ssize_t n = recv(fd, &news, sizeof(news), MSG_DONTWAIT);
		size_t left = n < 0 ? 0 : (size_t)n;
		struct route_address found;

		lost |= n < 0 && errno == ENOBUFS;
		if (n < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (n < 0)
			return errno != EAGAIN ? -errno : lost ? -ENOBUFS : done;
		for (struct nlmsghdr *hdr = &news.hdr; NLMSG_OK(hdr, left); hdr = NLMSG_NEXT(hdr, left)) {
			r = read_end(hdr, &done, &lost);
			if (r < 0)
				return r;
			if (hdr->nlmsg_type == RTM_NEWADDR && read_address(hdr, &found))
				tell(&found, arg);
		}
	}
}
