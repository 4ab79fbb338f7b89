#include "lib/net_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bridge/bridge.h"
#include "lib/net_bridge.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "uplink/uplink.h"

#define HEADER_SIZE 12 /* struct virtio_net_hdr_v1, virtio 1.2 §5.1.6 */
#define MTU         1500U

static int tap_error(const char *tap, int code, struct mvm_error *err)
{
	switch (code) {
	case EPERM:
		return error_set(
			err, code,
			"--net: tap=%s: not yours to open: have root make it anew for you: ip tuntap del dev %s "
			"mode tap && ip tuntap add dev %s mode tap user %u && ip link set %s up",
			tap, tap, tap, geteuid(), tap);
	case EBUSY:
		return error_set(err, code, "--net: tap=%s: in use by another program or VM: give this one its own",
				 tap);
	case EINVAL:
		return error_set(
			err, code,
			"--net: tap=%s: no tap, or one of several queues: make one: ip tuntap add dev NAME mode "
			"tap user %u",
			tap, geteuid());
	case ENOTTY:
		return error_set(err, code, "--net: " UPLINK_TUN ": %s: %s", strerror(code), uplink_tun_remedy(code));
	default:
		return error_set(err, code, "--net: tap=%s: %s", tap, strerror(code));
	}
}

/* What the host's side has: it takes nothing larger. */
static uint16_t tap_mtu(const char *tap)
{
	_cleanup_fd_ int any = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };

	memcpy(request.ifr_name, tap, strlen(tap) + 1);
	if (any < 0 || ioctl(any, SIOCGIFMTU, &request) < 0 || request.ifr_mtu < (int)VMM_NET_MTU_MIN)
		return MTU;
	return request.ifr_mtu > (int)VMM_NET_MTU_MAX ? VMM_NET_MTU_MAX : (uint16_t)request.ifr_mtu;
}

static int check_own(const struct spec_net *net, const struct sockaddr *own, const char *device, struct mvm_error *err)
{
	const struct sockaddr_in *four = (const void *)own;
	const struct sockaddr_in6 *six = (const void *)own;
	char text[INET6_ADDRSTRLEN];

	if (own->sa_family == AF_INET && net->ip.family && !memcmp(net->ip.bytes, &four->sin_addr, 4))
		(void)inet_ntop(AF_INET, &four->sin_addr, text, sizeof(text));
	else if (own->sa_family == AF_INET6 && net->ip6.family && !memcmp(net->ip6.bytes, &six->sin6_addr, 16))
		(void)inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
	else
		return 0;
	return error_set(err, EADDRINUSE, "--net: tap=%s: %s is this host's own address (%s): give the VM another one",
			 net->host, text, device);
}

/* The guest and this host would be the same to whoever asks for that address. */
static int check_addresses(const struct spec_net *net, struct mvm_error *err)
{
	struct ifaddrs *all = NULL;
	int r = 0;

	if (getifaddrs(&all) < 0)
		return 0; /* the kernel does not say, and the device has its own rules */
	for (const struct ifaddrs *one = all; r == 0 && one; one = one->ifa_next)
		if (one->ifa_addr)
			r = check_own(net, one->ifa_addr, one->ifa_name, err);
	freeifaddrs(all);
	return r;
}

static int open_tap(struct net_host_end *end, struct mvm_error *err)
{
	const char *tap = end->net.host;
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int size = HEADER_SIZE;
	_cleanup_fd_ int fd = -1;

	/* Root that asks for a name that is not there is given a new device. */
	if (!if_nametoindex(tap))
		return error_set(
			err, ENODEV,
			"--net: tap=%s: there is no such device: make it: ip tuntap add dev %s mode tap user %u "
			"&& ip link set %s up",
			tap, tap, geteuid(), tap);
	fd = open(UPLINK_TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, errno, "--net: " UPLINK_TUN ": %s: %s", strerror(errno),
				 uplink_tun_remedy(errno));
	memcpy(request.ifr_name, tap, strlen(tap) + 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return tap_error(tap, errno, err);
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return error_set(err, errno, "--net: tap=%s: takes no offload headers: %s", tap, strerror(errno));
	if (!end->net.mtu)
		end->net.mtu = tap_mtu(tap);
	end->fd = take_fd(&fd);
	return check_addresses(&end->net, err);
}

static int open_socket(struct net_host_end *end, struct mvm_error *err)
{
	const char *path = end->net.host;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path) + 1); /* spec_net_parse() bounds it */
	if (fd < 0)
		return error_set(err, errno, "--net: socket=%s: %s", path, strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set(
			err, errno,
			"--net: socket=%s: %s: start what serves it first, for example: passt --no-map-gw --socket %s",
			path, strerror(errno), path);
	end->fd = take_fd(&fd);
	return 0;
}

static int make_mac(enum spec_net_mode mode, uint8_t mac[6])
{
	static const uint8_t none[6], bridge[] = BRIDGE_MAC;

	if (memcmp(mac, none, sizeof(none)) != 0)
		return 0;
	if (getrandom(mac, 6, 0) != 6)
		return -EIO;
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2); /* of local meaning, one device's: IEEE 802 §8.4 */
	if (mode == SPEC_NET_BRIDGE)
		memcpy(mac, bridge, sizeof(bridge));
	return 0;
}

int net_host_open(struct net_host *host, const struct spec_net *nets, size_t n, struct mvm_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n && nets[i].mode != SPEC_NET_NONE; i++) {
		struct net_host_end *end = &host->ends[host->n++];

		end->net = nets[i];
		end->fd = -1;
		if (make_mac(end->net.mode, end->net.mac) < 0)
			return error_set(err, EIO, "--net: no random bytes for a MAC address");
		if (end->net.mode == SPEC_NET_BRIDGE) { /* net_user_open() makes it, and these */
			r = net_bridge_check(&end->net, err);
			continue;
		}
		if (end->net.mode == SPEC_NET_USER || end->net.mode == SPEC_NET_NAMED) {
			end->net.mtu = end->net.mtu ? end->net.mtu : UPLINK_MTU;
			continue;
		}
		r = end->net.mode == SPEC_NET_TAP ? open_tap(end, err) : open_socket(end, err);
		if (!end->net.mtu)
			end->net.mtu = MTU;
	}
	return r;
}

void net_host_close_fds(struct net_host *host)
{
	for (unsigned i = 0; i < host->n; i++) {
		cleanup_fd(&host->ends[i].fd);
		host->ends[i].fd = -1;
	}
}
