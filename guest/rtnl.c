#include "rtnl.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

struct message {
	struct nlmsghdr hdr;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
		struct ndmsg neighbour;
	} of;
	uint8_t attributes[64]; /* two addresses and an index: 48 */
};

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

static size_t size_of(int family)
{
	return family == AF_INET ? 4 : 16;
}

int rtnl_link_up(int fd, int index, uint32_t mtu)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.link)) };

	m.of.link = (struct ifinfomsg){ .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	if (mtu)
		put(&m, IFLA_MTU, &mtu, sizeof(mtu));
	return ask(fd, &m, RTM_NEWLINK, 0);
}

int rtnl_add_address(int fd, int index, int family, const uint8_t *address, uint8_t prefix)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.addr)) };

	m.of.addr = (struct ifaddrmsg){
		.ifa_family = (uint8_t)family,
		.ifa_prefixlen = prefix,
		.ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
		.ifa_index = (unsigned)index,
	};
	put(&m, IFA_LOCAL, address, size_of(family));
	put(&m, IFA_ADDRESS, address, size_of(family));
	return ask(fd, &m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
}

/* index 0: of no link. */
static int add_route(int fd, int index, int family, uint8_t type, const uint8_t *address, uint8_t bits,
		     const uint8_t *gateway)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.route)) };
	uint32_t out = (uint32_t)index;

	m.of.route = (struct rtmsg){
		.rtm_family = (uint8_t)family,
		.rtm_dst_len = bits,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = gateway || !index || family == AF_INET6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
		.rtm_type = type,
		.rtm_flags = gateway ? RTNH_F_ONLINK : 0,
	};
	if (bits)
		put(&m, RTA_DST, address, size_of(family));
	if (gateway)
		put(&m, RTA_GATEWAY, gateway, size_of(family));
	if (index)
		put(&m, RTA_OIF, &out, sizeof(out));
	return ask(fd, &m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
}

int rtnl_add_default(int fd, int index, int family, const uint8_t *gateway)
{
	return add_route(fd, index, family, RTN_UNICAST, NULL, 0, gateway);
}

int rtnl_add_route(int fd, int index, int family, const uint8_t *address, uint8_t bits, const uint8_t *gateway)
{
	return add_route(fd, index, family, RTN_UNICAST, address, bits, gateway);
}

int rtnl_add_unreachable(int fd, int family, const uint8_t *address, uint8_t bits)
{
	return add_route(fd, 0, family, RTN_UNREACHABLE, address, bits, NULL);
}

int rtnl_add_proxy(int fd, int index, int family, const uint8_t *address)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.neighbour)) };

	m.of.neighbour = (struct ndmsg){ .ndm_family = (uint8_t)family, .ndm_ifindex = index, .ndm_flags = NTF_PROXY };
	put(&m, NDA_DST, address, size_of(family));
	return ask(fd, &m, RTM_NEWNEIGH, NLM_F_CREATE);
}

int rtnl_link_delete(int fd, int index)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.link)) };

	m.of.link = (struct ifinfomsg){ .ifi_index = index };
	return ask(fd, &m, RTM_DELLINK, 0);
}
