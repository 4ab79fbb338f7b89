#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
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
#include "rtnl.h"

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

static bool given(const uint8_t *address, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (address[i])
			return true;
	return false;
}

/* The first device's is the default route; one that has it already is no error, as of a second device. */
static int add_gateway(int fd, int index, int family, const uint8_t *gateway, const uint8_t *route, uint8_t bits,
		       bool local)
{
	int r = bits ? rtnl_add_route(fd, index, family, route, bits, gateway) : 0;

	if (r < 0 || local)
		return r;
	r = rtnl_add_default(fd, index, family, gateway);
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
	r = rtnl_link_up(fd, index, 0);
	if (r == 0 && four)
		r = rtnl_add_address(fd, index, AF_INET, net->ip4, net->prefix4);
	if (r == 0 && six)
		r = rtnl_add_address(fd, index, AF_INET6, net->ip6, net->prefix6);
	if (r == 0 && given(net->gateway4, 4))
		r = add_gateway(fd, index, AF_INET, net->gateway4, net->route4, net->route_bits4,
				net->flags & PROTO_NET_LOCAL4);
	if (r == 0 && given(net->gateway6, 16))
		r = add_gateway(fd, index, AF_INET6, net->gateway6, net->route6, net->route_bits6,
				net->flags & PROTO_NET_LOCAL6);
	if (r < 0)
		return fail(f, -r, "network device %s", name);
	r = write_resolv(req->resolv);
	return r < 0 ? fail(f, -r, "resolv.conf") : 0;
}
