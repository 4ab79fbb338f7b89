#include "lib/net_join.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/network.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define TRIES 5U /* whose last VM leaves just then is started again */

/* ---- the process ---- */

static int describe_network(const char *flag, const struct network *network, struct uplink_request *request,
			    struct mvm_error *err)
{
	char domain[DNS_NAME];
	int r = 0;

	*request = (struct uplink_request){ .version = UPLINK_VERSION, .uid = UINT32_MAX, .gid = UINT32_MAX };
	request->flags = UPLINK_NETWORK | (network->isolated ? UPLINK_ISOLATE : 0U);
	request->subnet = network->subnet;
	if (dns_name(network->name, domain))
		(void)snprintf(request->network, sizeof(request->network), "%.63s", domain);
	if (!network->internal)
		r = net_user_uplink(flag, true, request, err);
	/* Without addresses of that family nothing of it gets there. */
	if (r == 0 && !network->subnet.bits6)
		request->flags &= ~(uint32_t)(UPLINK_IP6 | UPLINK_DNS6);
	return r < 0 ? r : net_user_programs(flag, true, request, err);
}

/* It goes on when we are gone, and keeps root's uid for as long. Until `holder` is closed it waits for its first VM. */
static int start(const char *flag, int folder, const struct network *network, const struct net_user_who *who,
		 struct net_holder *holder, struct mvm_error *err)
{
	_cleanup_fd_ int listener = -1;
	struct uplink_request request;
	struct uplink_message ready;
	int fds[UPLINK_FDS], r;

	r = describe_network(flag, network, &request, err);
	if (r == 0 && (r = network_listen(folder, network->name, &listener)) < 0)
		(void)error_set(err, -r, "%s: no socket for it: %s", flag, strerror(-r));
	if (r == 0)
		r = net_holder_take_uid(holder, who->uid_first, who->uid_count, &request, err);
	fds[0] = listener;
	fds[1] = holder->ids.lock >= 0 ? holder->ids.lock : listener;
	if (r == 0)
		r = net_holder_start(holder, flag, NULL, &request, fds, err);
	if (r == 0)
		r = net_holder_await(holder->fd, flag, NULL, &ready, err);
	if (r == 0) {
		cleanup_fd(&holder->ids.lock);
		cleanup_fd(&holder->ids.folder);
		holder->ids.lock = holder->ids.folder = -1;
	}
	return r;
}

/* ---- the VM ---- */

static int make_join(const struct net_host_end *end, const struct net_user_who *who, struct uplink_join *join,
		     struct mvm_error *err)
{
	const struct mvm_spec *spec = who->spec;
	bool deny = spec->egress && !strcmp(spec->egress, "deny");

	*join = (struct uplink_join){ .version = UPLINK_VERSION, .kind = UPLINK_JOIN, .mtu = end->net.mtu };
	join->flags = deny ? UPLINK_DENY : 0;
	(void)snprintf(join->name, sizeof(join->name), "%s", spec->name ? spec->name : "");
	(void)snprintf(join->id, sizeof(join->id), "%s", who->id);
	memcpy(join->mac, end->net.mac, sizeof(join->mac));
	memcpy(join->ip4, end->net.ip.bytes, sizeof(join->ip4));
	memcpy(join->ip6, end->net.ip6.bytes, sizeof(join->ip6));
	return net_user_rules(spec, join->rules, &join->nrules, join->names, &join->nnames, err);
}

static struct spec_net_address address_of(unsigned family, const uint8_t *bytes, unsigned prefix)
{
	struct spec_net_address a = { .family = (uint8_t)family, .prefix = (uint8_t)prefix };

	memcpy(a.bytes, bytes, family == 4 ? 4 : 16);
	return a;
}

/* Nobody is on the VM's link but the gateway, by which all others are reached. */
static void describe(struct net_host_end *end, const struct uplink_subnet *subnet, const struct uplink_message *ready)
{
	struct spec_net *net = &end->net;
	uint8_t gateway[16];

	uplink_host4(subnet, UPLINK_GATEWAY_HOST, gateway);
	net->ip = address_of(4, ready->member.ip4, 32);
	net->gateway = address_of(4, gateway, 0);
	net->route = address_of(4, subnet->net4, subnet->bits4);
	net->local = !(ready->code & UPLINK_IP4);
	net->dns[net->ndns++] = net->gateway;
	if (!subnet->bits6)
		return;
	uplink_host6(subnet, UPLINK_GATEWAY_HOST, gateway);
	net->ip6 = address_of(6, ready->member.ip6, 128);
	net->gateway6 = address_of(6, gateway, 0);
	net->route6 = address_of(6, subnet->net6, subnet->bits6);
	net->local6 = !(ready->code & UPLINK_IP6);
}

/* -EPIPE: it ended before it took us. */
static int ask(const char *flag, int fd, const struct uplink_join *join, struct net_host_end *end,
	       struct uplink_message *ret, struct mvm_error *err)
{
	if (send(fd, join, sizeof(*join), MSG_NOSIGNAL) != (ssize_t)sizeof(*join))
		return error_set(err, EPIPE, "%s: mvm-net: %s", flag, strerror(errno));
	return net_holder_await(fd, flag, &end->fd, ret, err);
}

static int connect_or_start(const char *flag, int folder, const struct network *network, const struct net_user_who *who,
			    struct net_holder *holder, int *ret_fd, struct mvm_error *err)
{
	int r = network_connect(folder, network->name, ret_fd);

	if (r == -ECONNREFUSED || r == -ENOENT) {
		r = start(flag, folder, network, who, holder, err);
		if (r < 0)
			return r;
		r = network_connect(folder, network->name, ret_fd);
	}
	return r < 0 ? error_set(err, -r, "%s: mvm-net: %s", flag, strerror(-r)) : 0;
}

int net_join(struct net_user_link *link, struct net_host_end *end, const struct net_user_who *who, bool *ret_out,
	     struct mvm_error *err)
{
	_cleanup_fd_ int folder = -1, lock = -1;
	struct uplink_message ready = { .type = 0 };
	char flag[UPLINK_ID + 16];
	struct network network;
	struct uplink_join join = { .nnames = 0 };
	int r;

	(void)snprintf(flag, sizeof(flag), "--net: %.63s", end->net.host);
	r = network_open("--net: ", end->net.host, &folder, &lock, &network, err);
	if (r == 0)
		r = net_user_check_mtu(flag, end->net.mtu, network.subnet.bits6, err);
	if (r == 0)
		r = make_join(end, who, &join, err);
	if (r < 0)
		return r;
	r = -EPIPE;
	for (unsigned tries = 0; r == -EPIPE && tries < TRIES; tries++) {
		_cleanup_fd_ int fd = -1;
		struct net_holder holder;

		net_holder_init(&holder);
		r = connect_or_start(flag, folder, &network, who, &holder, &fd, err);
		if (r == 0)
			r = ask(flag, fd, &join, end, &ready, err);
		if (r == 0 && !network.internal)
			r = net_user_check_names((uint32_t)ready.code, join.nnames, err);
		if (r == 0)
			link->fd = take_fd(&fd);
		net_holder_close(&holder); /* of one that we started: its first process has ended */
	}
	if (r < 0)
		return r;
	memcpy(link->network, network.name, sizeof(link->network));
	describe(end, &network.subnet, &ready);
	*ret_out |= !network.internal;
	return 0;
}
