#include "lib/net_user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/net_bridge.h"
#include "lib/net_join.h"
#include "lib/net_user_host.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PROGRAM       "mvm-net"
#define COUNT_WAIT_NS 1000000000ULL

void net_user_init(struct net_user *user)
{
	*user = (struct net_user){ .asked = false };
	net_holder_init(&user->holder);
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		user->links[i].fd = -1;
	net_proxy_init(&user->proxy);
}

/* ---- the request ---- */

int net_user_find(const char *program, char ret_path[UPLINK_PATH])
{
	static const char known[] = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/bin:/sbin";
	const char *own = getenv("PATH"), *lists[] = { own ? own : "", known };

	for (unsigned i = 0; i < 2; i++) {
		for (const char *at = lists[i]; *at;) {
			size_t len = strcspn(at, ":");
			struct stat st;

			if (*at == '/' && /* what is relative depends on where we are */
			    (size_t)snprintf(ret_path, UPLINK_PATH, "%.*s/%s", (int)len, at, program) < UPLINK_PATH &&
			    access(ret_path, X_OK) == 0 && stat(ret_path, &st) == 0 && S_ISREG(st.st_mode))
				return 0;
			at += len + (at[len] != '\0');
		}
	}
	return -ENOENT;
}

int net_user_programs(const char *flag, bool pasta, struct uplink_request *request, struct mvm_error *err)
{
	if (pasta && net_user_find("pasta", request->pasta) < 0)
		return error_set(err, ENOENT, "%s: pasta is not installed: apt install passt", flag);
	if (net_user_find("nft", request->nft) < 0)
		return error_set(err, ENOENT, "%s: nft is not installed: apt install nftables", flag);
	return 0;
}

int net_user_rules(const struct mvm_spec *spec, struct uplink_rule rules[UPLINK_RULES], uint32_t *ret_nrules,
		   struct uplink_name names[UPLINK_NAMES], uint32_t *ret_nnames, struct mvm_error *err)
{
	uint32_t nrules = 0, nnames = 0;

	for (size_t i = 0; i < spec->allow_egress.n && i < UPLINK_RULES; i++) {
		struct uplink_rule *rule;
		struct spec_egress parsed;
		int r = spec_egress_parse("--allow-egress", spec->allow_egress.v[i], &parsed, err);

		if (r < 0)
			return r;
		if (parsed.name[0]) {
			struct uplink_name *name = &names[nnames++];

			memcpy(name->name, parsed.name, sizeof(name->name));
			name->port = parsed.port;
			name->protocol = parsed.protocol;
			name->below = parsed.below;
			continue;
		}
		rule = &rules[nrules++];
		rule->family = parsed.to.family;
		rule->prefix = parsed.to.prefix;
		rule->port = parsed.port;
		rule->protocol = parsed.protocol;
		memcpy(rule->address, parsed.to.bytes, sizeof(rule->address));
	}
	*ret_nrules = nrules;
	*ret_nnames = nnames;
	return 0;
}

static void set_address(struct spec_net_address *a, unsigned family, const char *text, unsigned prefix)
{
	*a = (struct spec_net_address){ .family = (uint8_t)family, .prefix = (uint8_t)prefix };
	(void)inet_pton(family == 4 ? AF_INET : AF_INET6, text, a->bytes);
}

/* What the agent is to set up in the guest: addresses of its own, and the namespace as the way out. */
static void describe(struct net_host_end *end, const struct uplink_request *request)
{
	struct spec_net *net = &end->net;
	bool own_dns = !net->ndns, direct = !(request->flags & UPLINK_DENY);

	if (request->flags & UPLINK_IP4) {
		set_address(&net->ip, 4, UPLINK_GUEST4, UPLINK_BITS4);
		set_address(&net->gateway, 4, UPLINK_GATEWAY4, 0);
		if (own_dns && direct && request->flags & UPLINK_DNS4)
			set_address(&net->dns[net->ndns++], 4, UPLINK_PASTA4, 0);
		if (own_dns && request->nnames)
			set_address(&net->dns[net->ndns++], 4, UPLINK_GATEWAY4, 0);
	}
	if (request->flags & UPLINK_IP6) {
		set_address(&net->ip6, 6, UPLINK_GUEST6, UPLINK_BITS6);
		set_address(&net->gateway6, 6, UPLINK_GATEWAY6, 0);
		if (own_dns && direct && request->flags & UPLINK_DNS6)
			set_address(&net->dns[net->ndns++], 6, UPLINK_PASTA6, 0);
		if (own_dns && request->nnames)
			set_address(&net->dns[net->ndns++], 6, UPLINK_GATEWAY6, 0);
	}
}

int net_user_links(const char *flag, struct uplink_request *request, struct mvm_error *err)
{
	if (net_user_host_links("/proc/net", request->links, &request->nlinks) < 0)
		return error_set(err, E2BIG,
				 "%s: this host is on more than %u networks: start it in a network "
				 "namespace with fewer (ip netns exec)",
				 flag, UPLINK_LINKS);
	return 0;
}

int net_user_uplink(const char *flag, bool dns, struct uplink_request *request, struct mvm_error *err)
{
	bool four, six, dns4, dns6;
	int r;

	net_user_host_routes("/proc/net", &four, &six);
	if (!four && !six)
		return error_set(err, ENETUNREACH,
				 "%s: this host has no default route, by which pasta finds its way out", flag);
	r = net_user_links(flag, request, err);
	if (r < 0)
		return r;
	net_user_host_servers("/etc/resolv.conf", &dns4, &dns6);
	request->flags |= (four ? UPLINK_IP4 : 0U) | (six ? UPLINK_IP6 : 0U);
	if (dns)
		request->flags |= (four && dns4 ? UPLINK_DNS4 : 0U) | (six && dns6 ? UPLINK_DNS6 : 0U);
	return 0;
}

int net_user_check_names(uint32_t flags, uint32_t nnames, struct mvm_error *err)
{
	if (nnames && !(flags & (UPLINK_DNS4 | UPLINK_DNS6)))
		return error_set(
			err, ENETUNREACH,
			"--allow-egress: names: no name server of /etc/resolv.conf can be reached: this host has "
			"a default route by IPv%c alone",
			flags & UPLINK_IP4 ? '4' : '6');
	return 0;
}

int net_user_check_mtu(const char *flag, unsigned mtu, bool six, struct mvm_error *err)
{
	if (mtu && six && mtu < 1280)
		return error_set(err, EINVAL, "%s: mtu=%u: IPv6 wants 1280 or more (RFC 8200)", flag, mtu);
	return 0;
}

/* `end`: NULL with a proxy, of which nothing is in the guest but its port. */
static int make_request(const char *flag, const struct net_host_end *end, const struct mvm_spec *spec,
			struct uplink_request *request, struct mvm_error *err)
{
	bool deny = spec->egress && !strcmp(spec->egress, "deny");
	int r;

	*request = (struct uplink_request){ .version = UPLINK_VERSION, .uid = UINT32_MAX, .gid = UINT32_MAX };
	request->flags = (deny ? UPLINK_DENY : 0U) | (end ? 0U : UPLINK_PROXY);
	r = net_user_rules(spec, request->rules, &request->nrules, request->names, &request->nnames, err);
	/* Whoever may ask for any name may tell anything to anybody: under deny only mvm-net asks, for those that are named. */
	if (r == 0)
		r = net_user_uplink(flag, !deny || request->nnames, request, err);
	if (r == 0)
		r = net_user_check_names(request->flags, request->nnames, err);
	if (r == 0 && end)
		r = net_user_check_mtu(flag, end->net.mtu, request->flags & UPLINK_IP6, err);
	if (r < 0)
		return r;
	if (end) {
		request->mtu = end->net.mtu;
		memcpy(request->mac, end->net.mac, sizeof(request->mac));
	}
	return net_user_programs(flag, true, request, err);
}

/* --net user, or --proxy. */
static int open_own(struct net_user *user, struct net_host_end *end, const struct net_user_who *who,
		    struct mvm_error *err)
{
	const char *flag = end ? "--net: user" : "--proxy";
	int fds[UPLINK_FDS] = { -1, -1 }, r;
	struct uplink_request request;
	struct uplink_message ready;

	r = make_request(flag, end, who->spec, &request, err);
	if (r == 0)
		r = net_holder_take_uid(&user->holder, who->uid_first, who->uid_count, &request, err);
	if (r == 0 && !end && (r = net_proxy_open(&user->proxy, fds)) < 0)
		(void)error_set(err, -r, "%s: %s", flag, strerror(-r));
	if (r == 0)
		r = net_holder_start(&user->holder, flag, who->parts, &request, end ? NULL : fds, err);
	cleanup_fd(&fds[0]);
	cleanup_fd(&fds[1]);
	if (r == 0)
		r = net_holder_await(user->holder.fd, flag, end ? &end->fd : NULL, &ready, err);
	if (r == 0 && end)
		describe(end, &request);
	user->links[0].fd = take_fd(&user->holder.fd);
	return r;
}

/* --net bridge=: the namespace first, then its link by the one part that may make it, then the tap. */
static int open_bridge(struct net_user *user, struct net_host_end *end, const struct net_user_who *who,
		       struct mvm_error *err)
{
	const struct spec_net net = end->net; /* as the user has it */
	struct uplink_request request;
	char flag[40];
	int r;

	(void)snprintf(flag, sizeof(flag), "--net: bridge=%.15s", net.host);
	r = net_bridge_request(flag, &net, who->spec, &request, err);
	if (r == 0)
		r = net_holder_take_uid(&user->holder, who->uid_first, who->uid_count, &request, err);
	if (r == 0)
		r = net_holder_start(&user->holder, flag, who->parts, &request, NULL, err);
	if (r == 0)
		r = net_bridge_open(user->holder.fd, flag, request.nnames > 0, end, err);
	user->links[0].fd = take_fd(&user->holder.fd);
	return r;
}

int net_user_open(struct net_user *user, struct net_host *host, const struct net_user_who *who, struct mvm_error *err)
{
	struct net_host_end *own = NULL, *bridge = NULL;
	bool out = false;
	unsigned links = 1;
	int r = 0;

	for (unsigned i = 0; i < host->n; i++)
		if (host->ends[i].net.mode == SPEC_NET_USER)
			own = &host->ends[i];
		else if (host->ends[i].net.mode == SPEC_NET_BRIDGE)
			bridge = &host->ends[i];
	out = user->asked = own || bridge || who->spec->proxy;
	if (bridge)
		r = open_bridge(user, bridge, who, err);
	else if (out)
		r = open_own(user, own, who, err);
	for (unsigned i = 0; r == 0 && i < host->n; i++) {
		if (host->ends[i].net.mode != SPEC_NET_NAMED)
			continue;
		user->asked = true;
		r = net_join(&user->links[links++], &host->ends[i], who, &out, err);
	}
	if (r == 0 && !out && (who->spec->egress || who->spec->allow_egress.n))
		r = error_set(err, EINVAL, "--%s: its networks are --internal, nothing leads out of them: leave it out",
			      who->spec->egress ? "egress" : "allow-egress");
	return r;
}

/* ---- while it runs ---- */

static bool is_power_of_two(uint64_t n)
{
	return (n & (n - 1)) == 0;
}

static bool is_a_name(const char *text)
{
	char name[DNS_NAME];

	return dns_name(text, name);
}

/* The place of such a packet, counted; NULL: told already, or there are too many. */
static const struct net_user_place *note(struct net_user *user, const struct uplink_refused *refused)
{
	struct net_user_place *place = NULL;

	if (refused->reason >= UPLINK_REASONS || refused->name[DNS_NAME - 1] ||
	    (refused->reason == UPLINK_NAME ? !is_a_name(refused->name) : refused->family != 4 && refused->family != 6))
		return NULL;
	for (unsigned i = 0; i < user->nplaces && !place; i++)
		if (memcmp(&user->places[i].refused, refused, sizeof(*refused)) == 0)
			place = &user->places[i];
	if (!place && user->nplaces == NET_USER_PLACES)
		return NULL;
	if (!place) {
		place = &user->places[user->nplaces++];
		*place = (struct net_user_place){ .refused = *refused };
	}
	place->told++;
	return is_power_of_two(place->told) ? place : NULL;
}

/* They never fall; of all links they are added up. */
static void rise(uint64_t *sum, uint64_t *known, uint64_t told)
{
	if (told <= *known)
		return;
	*sum += told - *known;
	*known = told;
}

static void take_counters(struct net_user *user, struct net_user_link *link, const struct uplink_counted *told)
{
	struct uplink_traffic *all = &user->traffic, *known = &link->traffic;

	for (unsigned i = 0; i < UPLINK_REASONS; i++)
		rise(&user->counters[i], &link->counters[i], told->counters[i]);
	rise(&all->begun, &known->begun, told->traffic.begun);
	rise(&all->out_packets, &known->out_packets, told->traffic.out_packets);
	rise(&all->out_bytes, &known->out_bytes, told->traffic.out_bytes);
	rise(&all->in_packets, &known->in_packets, told->traffic.in_packets);
	rise(&all->in_bytes, &known->in_bytes, told->traffic.in_bytes);
	known->flows = told->traffic.flows;
	all->flows = 0;
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		all->flows += user->links[i].traffic.flows;
	link->counted = true;
}

static bool ask(struct net_user_link *link, enum uplink_type what)
{
	struct uplink_message message = { .type = what };

	return link->fd >= 0 && send(link->fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

bool net_user_ask_count(struct net_user *user)
{
	bool any = false;

	for (unsigned i = 0; i < NET_USER_LINKS; i++) {
		user->links[i].counted = !ask(&user->links[i], UPLINK_COUNT);
		any |= !user->links[i].counted;
	}
	return any;
}

bool net_user_counted(const struct net_user *user)
{
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		if (user->links[i].fd >= 0 && !user->links[i].counted)
			return false;
	return true;
}

bool net_user_ask_flows(struct net_user *user)
{
	unsigned i = 0;

	if (user->flows.asked) /* whoever asked before is answered by the same */
		return true;
	while (i < NET_USER_LINKS && !ask(&user->links[i], UPLINK_TELL_FLOWS))
		i++;
	if (i == NET_USER_LINKS)
		return false;
	net_flows_ask(&user->flows);
	return true;
}

static enum net_user_news over(struct net_user_link *link)
{
	cleanup_fd(&link->fd);
	link->fd = -1;
	return NET_USER_OVER;
}

enum net_user_news net_user_read(struct net_user *user, unsigned of, const struct net_user_place **ret_place,
				 char text[UPLINK_TEXT])
{
	struct net_user_link *link = &user->links[of];
	struct uplink_message message;
	int fd;
	ssize_t n;

	if (link->fd < 0)
		return NET_USER_NOTHING;
	n = net_holder_receive(link->fd, &message, &fd);
	cleanup_fd(&fd);
	if (n == -EAGAIN || n == -EINTR)
		return NET_USER_NOTHING;
	(void)snprintf(text, UPLINK_TEXT, PROGRAM " ended");
	if (n <= 0)
		return over(link);
	switch (message.type) {
	case UPLINK_REFUSED:
		*ret_place = note(user, &message.refused);
		return *ret_place ? NET_USER_PLACE : NET_USER_COUNTED;
	case UPLINK_COUNTED:
		take_counters(user, link, &message.counted);
		return NET_USER_COUNTED;
	case UPLINK_LISTED:
	case UPLINK_LIST:
		return net_flows_take(&user->flows, &message) ? NET_USER_FLOWS : NET_USER_COUNTED;
	case UPLINK_LOG:
	case UPLINK_FAILED:
		message.text[UPLINK_TEXT - 1] = '\0';
		memcpy(text, message.text, UPLINK_TEXT);
		text_harmless(text);
		return message.type == UPLINK_LOG ? NET_USER_TEXT : over(link);
	default:
		return NET_USER_COUNTED;
	}
}

static void count(struct net_user *user, struct net_user_link *link, uint64_t end)
{
	struct uplink_message message = { .type = UPLINK_COUNT };

	if (link->fd < 0 || send(link->fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
	for (uint64_t now = text_now_ns(); now < end; now = text_now_ns()) {
		struct pollfd news = { .fd = link->fd, .events = POLLIN };
		int fd;
		ssize_t n;

		if (poll(&news, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		n = net_holder_receive(link->fd, &message, &fd);
		cleanup_fd(&fd);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n <= 0)
			return;
		if (message.type == UPLINK_REFUSED)
			(void)note(user, &message.refused);
		if (message.type != UPLINK_COUNTED)
			continue;
		take_counters(user, link, &message.counted);
		return;
	}
}

void net_user_count(struct net_user *user)
{
	uint64_t end = text_now_ns() + COUNT_WAIT_NS;

	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		count(user, &user->links[i], end);
}

void net_user_close(struct net_user *user)
{
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		cleanup_fd(&user->links[i].fd);
	net_holder_close(&user->holder);
	net_proxy_close(&user->proxy);
	net_user_init(user);
}

const char *net_user_place_text(const struct uplink_refused *refused, char buf[NET_USER_PLACE_TEXT])
{
	char address[INET6_ADDRSTRLEN], protocol[16];
	bool four = refused->family == 4;

	if (refused->reason == UPLINK_NAME) {
		(void)snprintf(buf, NET_USER_PLACE_TEXT, "name %s", refused->name);
		return buf;
	}
	(void)inet_ntop(four ? AF_INET : AF_INET6, refused->to, address, sizeof(address));
	switch (refused->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		(void)snprintf(buf, NET_USER_PLACE_TEXT, four ? "%s %s:%u" : "%s [%s]:%u",
			       refused->protocol == IPPROTO_TCP ? "tcp" : "udp", address, refused->port);
		return buf;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		(void)snprintf(protocol, sizeof(protocol), "icmp");
		break;
	default:
		(void)snprintf(protocol, sizeof(protocol), "protocol %u", refused->protocol);
	}
	(void)snprintf(buf, NET_USER_PLACE_TEXT, "%s %s", protocol, address);
	return buf;
}
