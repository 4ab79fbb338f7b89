#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount.h"
#include "mvm/cleanup.h"
#include "net.h"

#define DEVICES_MAX 16 /* eth0 and on that are looked at; a VM has fewer */

int net_loopback_up(int any_socket)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	_cleanup_fd_ int inet = -1;

	/* Families that do not know a request hand it to the device layer: one call instead of three. */
	if (any_socket >= 0 && ioctl(any_socket, SIOCSIFFLAGS, &lo) == 0)
		return 0;
	inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (inet < 0)
		return -errno;
	return ioctl(inet, SIOCSIFFLAGS, &lo) < 0 ? -errno : 0;
}

/* ---- rtnetlink(7): one request, one answer ---- */

struct message {
	struct nlmsghdr hdr;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
	} of;
	uint8_t attributes[64]; /* two addresses and an index */
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

static bool given(const uint8_t *address, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (address[i])
			return true;
	return false;
}

static int link_up(int fd, int index)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.link)) };

	m.of.link = (struct ifinfomsg){ .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	return ask(fd, &m, RTM_NEWLINK, 0);
}

static int add_address(int fd, int index, int family, const uint8_t *address, uint8_t prefix)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.addr)) };
	size_t len = family == AF_INET ? 4 : 16;

	m.of.addr = (struct ifaddrmsg){
		.ifa_family = (uint8_t)family,
		.ifa_prefixlen = prefix,
		.ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0, /* of use at once: whose it is was decided outside */
		.ifa_index = (unsigned)index,
	};
	put(&m, IFA_LOCAL, address, len);
	put(&m, IFA_ADDRESS, address, len);
	return ask(fd, &m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
}

/* The first device's is the default route; one that has it already is no error, as of a second device. */
static int add_default_route(int fd, int index, int family, const uint8_t *gateway)
{
	struct message m = { .hdr.nlmsg_len = NLMSG_LENGTH(sizeof(m.of.route)) };
	uint32_t out = (uint32_t)index;
	int r;

	m.of.route = (struct rtmsg){
		.rtm_family = (uint8_t)family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
		.rtm_flags = RTNH_F_ONLINK, /* also where the gateway lies outside of the address's network */
	};
	put(&m, RTA_GATEWAY, gateway, family == AF_INET ? 4 : 16);
	put(&m, RTA_OIF, &out, sizeof(out));
	r = ask(fd, &m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
	return r == -EEXIST ? 0 : r;
}

/* ---- a device ---- */

static int find(int fd, const uint8_t mac[6], char ret_name[IFNAMSIZ])
{
	struct ifreq request = { 0 };

	for (int i = 0; i < DEVICES_MAX; i++) {
		(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "eth%d", i);
		if (ioctl(fd, SIOCGIFHWADDR, &request) < 0 || memcmp(request.ifr_hwaddr.sa_data, mac, 6) != 0)
			continue;
		(void)snprintf(ret_name, IFNAMSIZ, "eth%d", i);
		return ioctl(fd, SIOCGIFINDEX, &request) < 0 ? -errno : request.ifr_ifindex;
	}
	return -ENODEV;
}

/* Of a device whose addresses are given no router is asked, and none that speaks up is believed. */
static void refuse_routers(const char *name)
{
	char path[96];
	_cleanup_fd_ int fd = -1;

	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, "0", 1);
	cleanup_fd(&fd);
	fd = -1;
	(void)umount2("/proc", MNT_DETACH);
}

static int write_resolv(const char *text)
{
	_cleanup_fd_ int fd = -1;
	size_t len = strlen(text);

	if (!len)
		return 0;
	fd = open(MOUNT_RESOLV, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	return write(fd, text, len) == (ssize_t)len ? 0 : -EIO;
}

int net_device_up(const struct net_request *req, struct failure *f)
{
	const struct proto_net *net = &req->net;
	_cleanup_fd_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	bool four = given(net->ip4, 4), six = given(net->ip6, 16);
	char name[IFNAMSIZ] = "";
	int index = fd < 0 ? -errno : find(fd, net->mac, name);
	int r;

	if (index < 0)
		return fail(f, -index, "network device %02x:%02x:%02x:%02x:%02x:%02x", net->mac[0], net->mac[1],
			    net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
	if (six)
		refuse_routers(name);
	r = link_up(fd, index);
	if (r == 0 && four)
		r = add_address(fd, index, AF_INET, net->ip4, net->prefix4);
	if (r == 0 && six)
		r = add_address(fd, index, AF_INET6, net->ip6, net->prefix6);
	if (r == 0 && given(net->gateway4, 4))
		r = add_default_route(fd, index, AF_INET, net->gateway4);
	if (r == 0 && given(net->gateway6, 16))
		r = add_default_route(fd, index, AF_INET6, net->gateway6);
	if (r < 0)
		return fail(f, -r, "network device %s", name);
	r = write_resolv(req->resolv);
	return r < 0 ? fail(f, -r, "resolv.conf") : 0;
}
