#include "uplink/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "rtnl.h"

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

static int parse(const char *text, uint8_t ret_bytes[16])
{
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	return inet_pton(family, text, ret_bytes) == 1 ? family : -EINVAL;
}

int route_add_address(int fd, int index, const char *address, uint8_t bits)
{
	uint8_t bytes[16];
	int family = parse(address, bytes);

	return family < 0 ? family : rtnl_add_address(fd, index, family, bytes, bits);
}

int route_add_default(int fd, int index, const char *gateway)
{
	uint8_t bytes[16];
	int family = parse(gateway, bytes);

	return family < 0 ? family : rtnl_add_default(fd, index, family, bytes);
}

/* ---- the host's addresses ---- */

int route_ask_addresses(int fd, unsigned family)
{
	struct {
		struct nlmsghdr hdr;
		struct ifaddrmsg of;
	} m = {
		.hdr = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.of)),
			 .nlmsg_type = RTM_GETADDR,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.of.ifa_family = (uint8_t)(family == 4 ? AF_INET : AF_INET6),
	};

	return send(fd, &m, m.hdr.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* IFA_LOCAL where there is one: of a link from point to point IFA_ADDRESS is the other's. */
static bool read_address(struct nlmsghdr *hdr, struct route_address *ret)
{
	struct ifaddrmsg *of = NLMSG_DATA(hdr);
	struct rtattr *attr = IFA_RTA(of);
	size_t left = hdr->nlmsg_len - NLMSG_LENGTH(sizeof(*of)), len = of->ifa_family == AF_INET ? 4 : 16;
	const void *local = NULL, *address = NULL, *broadcast = NULL;

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*of)) || (of->ifa_family != AF_INET && of->ifa_family != AF_INET6))
		return false;
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (RTA_PAYLOAD(attr) < len)
			continue;
		if (attr->rta_type == IFA_LOCAL)
			local = RTA_DATA(attr);
		else if (attr->rta_type == IFA_ADDRESS)
			address = RTA_DATA(attr);
		else if (attr->rta_type == IFA_BROADCAST)
			broadcast = RTA_DATA(attr);
	}
	if (!local && !address)
		return false;
	*ret = (struct route_address){ .family = of->ifa_family == AF_INET ? 4 : 6 };
	memcpy(ret->bytes, local ? local : address, len);
	memcpy(ret->also, len == 4 && broadcast ? broadcast : ret->bytes, len);
	/* RFC 6164: of two addresses both are hosts'. */
	for (unsigned bit = of->ifa_prefixlen; len == 16 && of->ifa_prefixlen < 127 && bit < 128; bit++)
		ret->also[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
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
