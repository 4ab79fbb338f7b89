/*
 * --net bridge=: the namespace as a port of a bridge of the host's, where the guest is by its own addresses.
 *
 * The link to the bridge has the guest's own device address, and answers for the guest's addresses; between it and the
 * guest's link packets are routed, through the rules that every mode has (rules_bridge.c). So the bridge sees one
 * machine, the guest, and no frame of its making: no ARP or neighbour advertisement for somebody else, no router
 * advertisement, no DHCP, no tag of a VLAN.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "rtnl.h"
#include "uplink/holder.h"
#include "uplink/route.h"

#define LINK_WAIT_MS 60000 /* for the supervisor to have it made; the kernel may have modules to load */

/* The supervisor may say nothing else yet. */
static void await_link(void)
{
	struct uplink_message message = { .type = UPLINK_SPACE };
	struct pollfd supervisor = { .fd = UPLINK_FD, .events = POLLIN };
	_cleanup_fd_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (own < 0)
		holder_fail(errno, "/proc/self/ns/net: %s", strerror(errno));
	holder_send(UPLINK_FD, &message, own);
	if (poll(&supervisor, 1, LINK_WAIT_MS) <= 0 ||
	    recv(UPLINK_FD, &message, sizeof(message), MSG_DONTWAIT) != (ssize_t)sizeof(message) ||
	    message.type != UPLINK_LINKED)
		holder_fail(EPIPE, "nobody made its link");
}

/*
 * What an unreachable neighbour costs the host, whose table of neighbours is everybody's: a second, not three; and
 * what is asked for the guest is answered at once.
 */
static void set_neighbours(void)
{
	static const char *const settings[][2] = {
		{ "ipv4/conf/" UPLINK_OUT "/proxy_arp", "1" },
		{ "ipv4/neigh/" UPLINK_OUT "/proxy_delay", "0" },
		{ "ipv4/neigh/" UPLINK_OUT "/mcast_solicit", "2" },
		{ "ipv4/neigh/" UPLINK_OUT "/retrans_time_ms", "500" },
		{ "ipv6/conf/" UPLINK_OUT "/proxy_ndp", "1" },
		{ "ipv6/neigh/" UPLINK_OUT "/proxy_delay", "0" },
		{ "ipv6/neigh/" UPLINK_OUT "/mcast_solicit", "2" },
		{ "ipv6/neigh/" UPLINK_OUT "/retrans_time_ms", "500" },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (!space_set(settings[i][0], settings[i][1]) && errno != ENOENT) /* a kernel without IPv6 */
			holder_fail(errno, "/proc/sys/net/%s: %s", settings[i][0], strerror(errno));
}

static bool is_given(const uint8_t *address, size_t size)
{
	static const uint8_t none[16];

	return memcmp(address, none, size) != 0;
}

/* Towards the bridge its network and what is behind the gateway; towards the guest its address alone. */
static int add_routes(int fd, int out, int vm, int family, const uint8_t *own, uint8_t bits, const uint8_t *gateway)
{
	size_t size = family == AF_INET ? 4 : 16;
	uint8_t network[16];
	int r;

	memcpy(network, own, size);
	for (unsigned bit = bits; bit < size * 8; bit++)
		network[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
	r = rtnl_add_route(fd, vm, family, own, (uint8_t)(size * 8), NULL);
	if (r == 0)
		r = rtnl_add_route(fd, out, family, network, bits, NULL);
	if (r == 0 && is_given(gateway, size))
		r = rtnl_add_default(fd, out, family, gateway);
	return r;
}

void bridge_attach(struct holder *h)
{
	const struct uplink_place *place = &h->request.place;
	int vm = route_find(UPLINK_VM), out, r;

	await_link();
	out = route_find(UPLINK_OUT);
	if (out < 0 || vm < 0)
		holder_fail(ENODEV, "its link to the bridge is not there");
	set_neighbours();
	r = rtnl_link_up(h->route, out, 0);
	if (r == 0 && h->request.flags & UPLINK_IP4)
		r = add_routes(h->route, out, vm, AF_INET, place->ip4, place->bits4, place->gateway4);
	if (r == 0 && h->request.flags & UPLINK_IP6)
		r = add_routes(h->route, out, vm, AF_INET6, place->ip6, place->bits6, place->gateway6);
	if (r == 0 && h->request.flags & UPLINK_IP6)
		r = rtnl_add_proxy(h->route, out, AF_INET6, place->ip6);
	if (r < 0)
		holder_fail(-r, "its link to the bridge: %s", strerror(-r));
}
