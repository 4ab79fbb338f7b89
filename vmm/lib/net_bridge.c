#include "lib/net_bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge/bridge.h"
#include "lib/fdpass.h"
#include "lib/net_holder.h"
#include "lib/net_user.h"
#include "lib/spawn.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PROGRAM "mvm-bridge"
#define WAIT_MS 30000 /* for the link; the kernel may have modules to load */

_Static_assert(sizeof(BRIDGE_INNER) == sizeof(UPLINK_OUT) && sizeof(UPLINK_OUT) <= BRIDGE_DEVICE, "names");

int net_bridge_check(struct spec_net *net, struct mvm_error *err)
{
	_cleanup_fd_ int any = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };
	unsigned mtu;

	memcpy(request.ifr_name, net->host, strnlen(net->host, IFNAMSIZ - 1));
	if (any < 0 || ioctl(any, SIOCGIFMTU, &request) < 0)
		return error_set(
			err, errno == ENODEV ? ENODEV : EIO,
			"--net: bridge=%s: there is no such device: have root make it: ip link add %s type bridge "
			"&& ip link set %s up",
			net->host, net->host, net->host);
	mtu = (unsigned)request.ifr_mtu > VMM_NET_MTU_MAX ? VMM_NET_MTU_MAX : (unsigned)request.ifr_mtu;
	if (net->mtu > mtu)
		return error_set(err, EINVAL, "--net: bridge=%s: mtu=%u: the bridge has %u: give no more", net->host,
				 net->mtu, mtu);
	if (mtu < VMM_NET_MTU_MIN)
		return error_set(err, EINVAL, "--net: bridge=%s: its MTU is %u: a VM wants %u or more", net->host, mtu,
				 VMM_NET_MTU_MIN);
	net->mtu = net->mtu ? net->mtu : (uint16_t)mtu;
	return 0;
}

static bool is_in(const struct spec_net_address *a, const uint8_t *network, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(a->bytes, network, whole) == 0 &&
	       (!rest || (a->bytes[whole] ^ network[whole]) >> (8 - rest) == 0);
}

/* A host's address, and neither the guest's own nor one of the namespace's. */
static bool can_be_asked(const struct spec_net_address *server, const struct spec_net_address *own)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }; /* IPv4 in IPv6: RFC 4291 §2.5.5.2 */
	bool six = server->family == 6;
	uint8_t namespace[16];

	(void)inet_pton(six ? AF_INET6 : AF_INET, six ? UPLINK_GATEWAY6 : UPLINK_GATEWAY4, namespace);
	return spec_net_is_host(server) && !is_in(server, namespace, six ? UPLINK_BITS6 : UPLINK_BITS4) &&
	       !(six && is_in(server, mapped, 96)) &&
	       !(own->family && memcmp(server->bytes, own->bytes, six ? 16 : 4) == 0);
}

int net_bridge_server(const struct spec_net *net, const struct spec_net_address **ret, struct mvm_error *err)
{
	*ret = NULL;
	for (unsigned i = 0; i < net->ndns; i++) {
		const struct spec_net_address *server = &net->dns[i];
		bool six = server->family == 6;
		const struct spec_net_address *own = six ? &net->ip6 : &net->ip;
		char text[INET6_ADDRSTRLEN];

		if (!can_be_asked(server, own))
			return error_set(
				err, EINVAL,
				"--net: bridge=%s: dns=%s: no name server on that network: give the address of "
				"one, as it is asked for the names of --allow-egress",
				net->host, inet_ntop(six ? AF_INET6 : AF_INET, server->bytes, text, sizeof(text)));
		if (!*ret && own->family &&
		    ((six ? net->gateway6.family : net->gateway.family) || is_in(server, own->bytes, own->prefix)))
			*ret = server;
	}
	if (!*ret)
		return error_set(err, EINVAL,
				 "--net: bridge=%s: names in --allow-egress: nobody is there to ask for them: give "
				 "dns=, an address on the VM's network or behind its gw= or gw6=",
				 net->host);
	return 0;
}

int net_bridge_request(const char *flag, const struct spec_net *net, const struct mvm_spec *spec,
		       struct uplink_request *ret, struct mvm_error *err)
{
	bool deny = spec->egress && !strcmp(spec->egress, "deny");
	const struct spec_net_address *server = NULL;
	struct uplink_place *place = &ret->place;
	int r;

	*ret = (struct uplink_request){ .version = UPLINK_VERSION, .uid = UINT32_MAX, .gid = UINT32_MAX };
	ret->flags = UPLINK_BRIDGE | (deny ? UPLINK_DENY : 0U) | (net->ip.family ? UPLINK_IP4 : 0U) |
		     (net->ip6.family ? UPLINK_IP6 : 0U);
	ret->mtu = net->mtu;
	memcpy(ret->mac, net->mac, sizeof(ret->mac));
	place->bits4 = net->ip.prefix;
	place->bits6 = net->ip6.prefix;
	memcpy(place->ip4, net->ip.bytes, sizeof(place->ip4));
	memcpy(place->ip6, net->ip6.bytes, sizeof(place->ip6));
	memcpy(place->gateway4, net->gateway.bytes, sizeof(place->gateway4));
	memcpy(place->gateway6, net->gateway6.bytes, sizeof(place->gateway6));
	r = net_user_check_mtu(flag, net->mtu, net->ip6.family != 0, err);
	if (r == 0)
		r = net_user_rules(spec, ret->rules, &ret->nrules, ret->names, &ret->nnames, err);
	if (r == 0 && ret->nnames)
		r = net_bridge_server(net, &server, err);
	if (r == 0 && server) {
		ret->flags |= server->family == 4 ? UPLINK_DNS4 : UPLINK_DNS6;
		memcpy(server->family == 4 ? place->server4 : place->server6, server->bytes,
		       server->family == 4 ? 4 : 16);
	}
	if (r == 0)
		r = net_user_links(flag, ret, err);
	return r < 0 ? r : net_user_programs(flag, false, ret, err);
}

/* ---- the link ---- */

static int send_request(int fd, const struct spec_net *net, int namespace)
{
	struct bridge_request request = { .version = BRIDGE_VERSION };

	memcpy(request.bridge, net->host, strnlen(net->host, BRIDGE_DEVICE - 1));
	memcpy(request.mac, net->mac, sizeof(request.mac));
	return fdpass_send(fd, &request, sizeof(request), &namespace, 1, 0);
}

/* "… has no right to it": the one command that gives it, where it is not root's any more. */
static int refused(const char *flag, const struct bridge_answer *answer, struct mvm_error *err)
{
	_cleanup_free_ char *path = NULL;
	const char *end = strstr(answer->text, "no right to it");

	if (!end || mvm_part_path(PROGRAM, &path, NULL) < 0)
		return error_set(err, answer->code > 0 ? answer->code : EIO, "%s: %s", flag, answer->text);
	if (geteuid() == 0)
		return error_set(err, EPERM, "%s: %s: root without CAP_NET_ADMIN, as in a container", flag,
				 answer->text);
	return error_set(err, EPERM,
			 "%s: %s: for ordinary users root may say once: setcap cap_net_admin+ep %s (of no use under "
			 "no_new_privs)",
			 flag, answer->text, path);
}

static int take_answer(int fd, const char *flag, struct bridge_answer *ret, struct mvm_error *err)
{
	struct pollfd news = { .fd = fd, .events = POLLIN };
	int r = poll(&news, 1, WAIT_MS);
	ssize_t n;

	if (r == 0)
		return error_set(err, ETIMEDOUT, "%s: " PROGRAM " did not answer within %u s", flag, WAIT_MS / 1000);
	do /* ECONNRESET: it ended with our request unread. Told once, before what it had said itself. */
		n = recv(fd, ret, sizeof(*ret), MSG_DONTWAIT);
	while (n < 0 && errno == ECONNRESET);
	if (n != (ssize_t)sizeof(*ret) || ret->version != BRIDGE_VERSION)
		return error_set(err, EPIPE, "%s: " PROGRAM " ended and did not say why: dmesg may", flag);
	ret->text[BRIDGE_TEXT - 1] = '\0';
	text_harmless(ret->text);
	return ret->code ? refused(flag, ret, err) : 0;
}

static int make_link(const char *flag, const struct spec_net *net, int namespace, struct mvm_error *err)
{
	_cleanup_fd_ int fd = -1, process = -1;
	struct bridge_answer answer;
	pid_t pid = -1;
	int r = spawn_part(PROGRAM, flag, NULL, &fd, &pid, &process, err);

	if (r < 0)
		return r;
	(void)send_request(fd, net, namespace); /* one that cannot take it has said why */
	r = take_answer(fd, flag, &answer, err);
	if (r == -ETIMEDOUT)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

/* ---- the guest's side ---- */

/* Nobody is on its link but the namespace, by which all others are reached: its network, and what its gateway leads to. */
static void describe(struct spec_net *net, bool names)
{
	struct spec_net_address *own[] = { &net->ip, &net->ip6 }, *gateways[] = { &net->gateway, &net->gateway6 },
				*routes[] = { &net->route, &net->route6 };
	static const char *const namespace[] = { UPLINK_GATEWAY4, UPLINK_GATEWAY6 };

	if (names) /* the namespace's resolver, and nobody else */
		net->ndns = 0;
	net->local = !net->gateway.family;
	net->local6 = !net->gateway6.family;
	for (unsigned six = 0; six < 2; six++) {
		unsigned size = six ? 16 : 4;

		if (!own[six]->family)
			continue;
		*routes[six] = *own[six];
		for (unsigned bit = own[six]->prefix; bit < size * 8; bit++)
			routes[six]->bytes[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
		own[six]->prefix = (uint8_t)(size * 8);
		*gateways[six] = (struct spec_net_address){ .family = six ? 6 : 4 };
		(void)inet_pton(six ? AF_INET6 : AF_INET, namespace[six], gateways[six] -> bytes);
		if (names)
			net->dns[net->ndns++] = *gateways[six];
	}
}

int net_bridge_open(int fd, const char *flag, bool names, struct net_host_end *end, struct mvm_error *err)
{
	struct uplink_message message = { .type = 0 };
	_cleanup_fd_ int namespace = -1;
	int r = net_holder_await(fd, flag, &namespace, &message, err);

	if (r == 0 && message.type != UPLINK_SPACE)
		r = error_set(err, EPROTO, "%s: mvm-net: install mvm again", flag);
	if (r == 0)
		r = make_link(flag, &end->net, namespace, err);
	if (r < 0)
		return r;
	message = (struct uplink_message){ .type = UPLINK_LINKED };
	if (send(fd, &message, sizeof(message), MSG_NOSIGNAL) < 0)
		return error_set(err, errno, "%s: mvm-net: %s", flag, strerror(errno));
	r = net_holder_await(fd, flag, &end->fd, &message, err);
	if (r == 0 && message.type != UPLINK_READY)
		r = error_set(err, EPROTO, "%s: mvm-net: install mvm again", flag);
	if (r == 0)
		describe(&end->net, names);
	return r;
}
