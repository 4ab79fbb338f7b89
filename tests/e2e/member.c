/*
 * A VM on a named network or a bridge without the VM: joins as a supervisor does, and gives the other end of the tap to a network
 * namespace, which is set up as the agent sets up a guest. For tests/e2e/cases/network.sh.
 *
 *   member NAMESPACE OPTION=VALUE…      options of mvm run: name, net, egress, allow-egress; NAMESPACE -: only there;
 *                                       as=UID: as that user, of the group of that number alone;
 *                                       proxy=true: a proxy alone, which has no address
 *
 * Says "ready IP IP6", then what was refused, until SIGTERM; then the counters.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jail/jail.h"
#include "lib/net_user.h"
#include "lib/spec.h"
#include "rtnl.h"

#define HEADER 12
#define FRAME  (HEADER + 14 + 65536)

static volatile sig_atomic_t over;

static void on_signal(int number)
{
	(void)number;
	over = 1;
}

static void die(const char *what)
{
	printf("failed %s\n", what);
	exit(1);
}

static void enter(const char *namespace)
{
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(path);
	(void)close(fd);
}

static void check(int r, const char *what)
{
	if (r < 0) {
		printf("failed %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

/* What guest/net.c does with what the supervisor says. */
static int make_device(unsigned n, const struct spec_net *net)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), size = HEADER, index;
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);

	(void)snprintf(request.ifr_name, IFNAMSIZ, "eth%u", n);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0 || ioctl(tap, TUNSETVNETHDRSZ, &size) < 0)
		die("tap");
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, net->mac, 6);
	if (ioctl(any, SIOCSIFHWADDR, &request) < 0)
		die("mac");
	index = (int)if_nametoindex(request.ifr_name);
	check(rtnl_link_up(route, index, net->mtu), "link");
	if (net->ip.family) {
		check(rtnl_add_address(route, index, AF_INET, net->ip.bytes, net->ip.prefix), "address");
		check(rtnl_add_route(route, index, AF_INET, net->route.bytes, net->route.prefix, net->gateway.bytes),
		      "route");
		if (!net->local)
			(void)rtnl_add_default(route, index, AF_INET, net->gateway.bytes);
	}
	if (net->ip6.family) {
		check(rtnl_add_address(route, index, AF_INET6, net->ip6.bytes, net->ip6.prefix), "address6");
		check(rtnl_add_route(route, index, AF_INET6, net->route6.bytes, net->route6.prefix,
				     net->gateway6.bytes),
		      "route6");
		if (!net->local6)
			(void)rtnl_add_default(route, index, AF_INET6, net->gateway6.bytes);
	}
	(void)close(any);
	(void)close(route);
	return tap;
}

static void write_resolv(const char *namespace, const struct spec_net *net)
{
	char path[256], address[INET6_ADDRSTRLEN];
	FILE *f;

	if (!net->ndns)
		return;
	(void)snprintf(path, sizeof(path), "/etc/netns/%s", namespace);
	(void)mkdir("/etc/netns", 0755);
	(void)mkdir(path, 0755);
	(void)snprintf(path, sizeof(path), "/etc/netns/%s/resolv.conf", namespace);
	f = fopen(path, "we");
	if (!f)
		die(path);
	for (unsigned i = 0; i < net->ndns; i++)
		fprintf(f, "nameserver %s\n",
			inet_ntop(net->dns[i].family == 4 ? AF_INET : AF_INET6, net->dns[i].bytes, address,
				  sizeof(address)));
	if (net->mode == SPEC_NET_NAMED)
		fprintf(f, "search %s\n", net->host);
	(void)fclose(f);
}

static void hear(struct net_user *user, unsigned link)
{
	const struct net_user_place *place = NULL;
	char text[UPLINK_TEXT], where[NET_USER_PLACE_TEXT];

	for (;;) {
		switch (net_user_read(user, link, &place, text)) {
		case NET_USER_NOTHING:
			return;
		case NET_USER_PLACE:
			printf("refused %s %s\n", net_user_place_text(&place->refused, where),
			       uplink_reason_name(place->refused.reason));
			break;
		case NET_USER_COUNTED:
		case NET_USER_FLOWS:
			break;
		case NET_USER_TEXT:
			printf("says %s\n", text);
			break;
		case NET_USER_OVER:
			printf("over %s\n", text);
			return;
		}
	}
}

static void pump(int from, int to)
{
	static char frame[FRAME];

	for (unsigned i = 0; i < 64; i++) {
		ssize_t n = read(from, frame, sizeof(frame));

		if (n <= 0)
			return;
		(void)!write(to, frame, (size_t)n);
	}
}

static void run(struct net_user *user, const struct net_host *host, const int guests[VMM_NETS_MAX])
{
	struct pollfd fds[NET_USER_LINKS + 2 * VMM_NETS_MAX];

	while (!over) {
		for (unsigned i = 0; i < NET_USER_LINKS; i++)
			fds[i] = (struct pollfd){ .fd = user->links[i].fd, .events = POLLIN };
		for (unsigned i = 0; i < VMM_NETS_MAX; i++) {
			int tap = i < host->n ? host->ends[i].fd : -1;

			fds[NET_USER_LINKS + 2 * i] = (struct pollfd){ .fd = tap, .events = POLLIN };
			fds[NET_USER_LINKS + 2 * i + 1] =
				(struct pollfd){ .fd = tap < 0 ? -1 : guests[i], .events = POLLIN };
		}
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0)
			continue;
		for (unsigned i = 0; i < NET_USER_LINKS; i++)
			if (fds[i].revents)
				hear(user, i);
		for (unsigned i = 0; i < host->n; i++) {
			pump(host->ends[i].fd, guests[i]);
			pump(guests[i], host->ends[i].fd);
		}
	}
}

/* An ordinary user for as long as programs are started; of what is made then root takes over. */
static void become(uid_t id)
{
	gid_t gid = id;

	if (id ? setgroups(1, &gid) < 0 || setresgid(id, id, 0) < 0 || setresuid(id, id, 0) < 0
	       : setresuid(0, 0, 0) < 0 || setresgid(0, 0, 0) < 0)
		die("as");
}

int main(int argc, char **argv)
{
	struct net_host host = { .n = 0 };
	const struct cgroup_list no_list = { 0 };
	struct cgroup parts;
	char id[16];
	struct net_user_who who = { .id = id, .uid_first = 1900000000, .uid_count = 1000, .parts = &parts };
	int guests[VMM_NETS_MAX];
	struct mvm_spec *spec;
	struct net_user user;
	struct mvm_error err;
	uid_t as = 0;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)signal(SIGTERM, on_signal);
	if (argc < 3 || mvm_spec_new(&spec) < 0)
		return 2;
	for (int i = 2; i < argc; i++) {
		char *equals = strchr(argv[i], '=');

		*equals = '\0';
		if (!strcmp(argv[i], "as"))
			as = (uid_t)strtoul(equals + 1, NULL, 10);
		else if (mvm_spec_set(spec, argv[i], equals + 1, &err) < 0)
			die(err.text);
	}
	who.spec = spec;
	(void)snprintf(id, sizeof(id), "%012x", (unsigned)getpid());
	cgroup_init(&parts);
	if (!as && spec->nnets && spec->nets[0].mode == SPEC_NET_USER)
		jail_parts(id, 0, &no_list, &parts);
	net_user_init(&user);
	become(as);
	if (net_host_open(&host, spec->nets, spec->nnets, &err) < 0 || net_user_open(&user, &host, &who, &err) < 0)
		die(err.text);
	become(0);
	if (strcmp(argv[1], "-") != 0)
		enter(argv[1]);
	for (unsigned i = 0; i < host.n; i++)
		guests[i] = strcmp(argv[1], "-") != 0 ? make_device(i, &host.ends[i].net) : -1;
	if (strcmp(argv[1], "-") != 0 && host.n)
		write_resolv(argv[1], &host.ends[0].net);
	if (!host.n)
		printf("ready - -\n");
	for (unsigned i = 0; i < host.n; i++) {
		char four[INET_ADDRSTRLEN], six[INET6_ADDRSTRLEN];

		printf("%s %s %s\n", i ? "and" : "ready",
		       inet_ntop(AF_INET, host.ends[i].net.ip.bytes, four, sizeof(four)),
		       inet_ntop(AF_INET6, host.ends[i].net.ip6.bytes, six, sizeof(six)));
	}
	run(&user, &host, guests);
	net_user_count(&user);
	for (unsigned i = 0; i < UPLINK_REASONS; i++)
		if (user.counters[i])
			printf("count %s %llu\n", uplink_reason_name(i), (unsigned long long)user.counters[i]);
	printf("traffic %llu out, %llu in, %llu flows, %llu begun\n", (unsigned long long)user.traffic.out_packets,
	       (unsigned long long)user.traffic.in_packets, (unsigned long long)user.traffic.flows,
	       (unsigned long long)user.traffic.begun);
	net_user_close(&user);
	cgroup_free(&parts);
	mvm_spec_free(spec);
	return 0;
}
