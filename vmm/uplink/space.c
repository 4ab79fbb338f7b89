/*
 * The network namespace of a VM, or of a named network: taps, pasta's link, routes between them, rules. See rules.h for
 * what may pass.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"
#include "rtnl.h"
#include "uplink/holder.h"
#include "uplink/nfnl.h"
#include "uplink/route.h"
#include "uplink/rules.h"

#define HEADER_SIZE   12 /* struct virtio_net_hdr_v1, virtio 1.2 §5.1.6 */
#define TRACKED       65536U /* connections of a table, where nothing says how many */
#define PASTA_WAIT_MS 10000 /* for its link; the host may be busy */

static char *const environment[] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, NULL };

/* ---- pasta ---- */

static void add(char *argv[], unsigned *n, const char *const *list)
{
	while (*list)
		argv[(*n)++] = (char *)(uintptr_t)*list++;
}

static void pasta_arguments(const struct holder *h, char *namespace, size_t size, char *argv[40])
{
	static const char *const always[] = {
		"pasta",
		"--foreground",
		"--quiet",
		"--stderr",
		"--ns-ifname",
		UPLINK_OUT,
		"--no-map-gw",
		/* no port of the host's leads in, no port of the namespace's out by a short cut */
		"--tcp-ports",
		"none",
		"--udp-ports",
		"none",
		"--tcp-ns",
		"none",
		"--udp-ns",
		"none",
		"--no-dhcp",
		"--no-dhcpv6",
		"--no-ra",
		"--netns-only",
		NULL,
	};
	static const char *const four[] = { "--address", UPLINK_OWN4,   "--netmask", "29",
					    "--gateway", UPLINK_PASTA4, NULL };
	static const char *const six[] = { "--address", UPLINK_OWN6, "--gateway", UPLINK_PASTA6, NULL };
	static const char *const no_four[] = { "--ipv6-only", NULL }, *const no_six[] = { "--ipv4-only", NULL };
	static const char *const dns4[] = { "--dns-forward", UPLINK_PASTA4, NULL };
	static const char *const dns6[] = { "--dns-forward", UPLINK_PASTA6, NULL };
	static const char *const netns[] = { "--netns", NULL };
	uint32_t flags = h->request.flags;
	unsigned n = 0;

	add(argv, &n, always);
	add(argv, &n, flags & UPLINK_IP4 ? four : no_four);
	add(argv, &n, flags & UPLINK_IP6 ? six : no_six);
	if (flags & UPLINK_DNS4)
		add(argv, &n, dns4);
	if (flags & UPLINK_DNS6)
		add(argv, &n, dns6);
	add(argv, &n, netns);
	(void)snprintf(namespace, size, "/proc/%ld/ns/net", h->pid);
	argv[n++] = namespace;
	argv[n] = NULL;
}

/* The child, in the host's network namespace: pasta's sockets are of there. It begins once ours is made. */
static void run_pasta(const struct holder *h, int go, int says) __attribute__((noreturn));

static void run_pasta(const struct holder *h, int go, int says)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char namespace[48], *argv[40], byte;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	pasta_arguments(h, namespace, sizeof(namespace), argv);
	if (read(go, &byte, 1) != 1) /* nobody wants it any more */
		_exit(1);
	if (null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(says, 2) == 2) {
		(void)signal(SIGPIPE, SIG_DFL);
		(void)execve(h->request.pasta, argv, environment);
	}
	(void)dprintf(2, "%s: %s\n", h->request.pasta, strerror(errno));
	_exit(127);
}

static void start_pasta(struct holder *h)
{
	int go[2], says[2];
	pid_t pid;

	if (pipe2(go, O_CLOEXEC) < 0 || pipe2(says, O_CLOEXEC | O_NONBLOCK) < 0)
		holder_fail(errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		holder_fail(errno, "no process can be made: %s", strerror(errno));
	if (pid == 0) {
		(void)close(go[1]);
		run_pasta(h, go[0], says[1]);
	}
	(void)close(go[0]);
	(void)close(says[1]);
	h->pasta_go = go[1];
	h->pasta_says = says[0];
	h->pasta = (int)syscall(SYS_pidfd_open, pid, 0);
	if (h->pasta < 0)
		holder_fail(errno, "pidfd: %s", strerror(errno));
}

/* Of what a program wrote to a pipe the last line that says something. */
static const char *last_line(char *text)
{
	const char *last = "";
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n")))
		if (*line && strncmp(line, "Failed to send ", 15) != 0) /* pasta, where there is no syslog */
			last = line;
	return last;
}

const char *space_pasta_says(struct holder *h, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size - 1 && (n = read(h->pasta_says, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	return last_line(buf);
}

static void await_pasta(struct holder *h)
{
	char text[2048];
	int news = -1, index, r;

	r = route_open(RTMGRP_LINK, &news);
	if (r < 0 || write(h->pasta_go, "g", 1) != 1)
		holder_fail(-r, "pasta: %s", strerror(errno));
	index = route_await(news, UPLINK_OUT, h->pasta, PASTA_WAIT_MS);
	(void)close(news);
	cleanup_fd(&h->pasta_go);
	h->pasta_go = -1;
	if (index < 0) {
		const char *said = space_pasta_says(h, text, sizeof(text));

		if (!*said)
			said = index == -EPIPE ? "it ended and did not say why" : strerror(-index);
		holder_fail(-index, "pasta (%s): %.300s", h->request.pasta, said);
	}
	r = rtnl_link_up(h->route, index, UPLINK_MTU);
	if (r == 0 && h->request.flags & UPLINK_IP4)
		r = route_add_address(h->route, index, UPLINK_OWN4, UPLINK_BITS4);
	if (r == 0 && h->request.flags & UPLINK_IP4)
		r = route_add_default(h->route, index, UPLINK_PASTA4);
	if (r == 0 && h->request.flags & UPLINK_IP6)
		r = route_add_address(h->route, index, UPLINK_OWN6, UPLINK_BITS6);
	if (r == 0 && h->request.flags & UPLINK_IP6)
		r = route_add_default(h->route, index, UPLINK_PASTA6);
	if (r < 0)
		holder_fail(-r, "its way out: %s", strerror(-r));
}

/* ---- the VM's link ---- */

void space_gateway(const struct uplink_request *request, struct space_gateway *ret)
{
	uint8_t ip4[4], ip6[16];

	*ret = (struct space_gateway){ .four = "" };
	if (!(request->flags & UPLINK_NETWORK)) {
		if (request->flags & UPLINK_IP4)
			memcpy(ret->four, UPLINK_GATEWAY4, sizeof(UPLINK_GATEWAY4));
		if (request->flags & UPLINK_IP6)
			memcpy(ret->six, UPLINK_GATEWAY6, sizeof(UPLINK_GATEWAY6));
		return;
	}
	uplink_host4(&request->subnet, UPLINK_GATEWAY_HOST, ip4);
	uplink_host6(&request->subnet, UPLINK_GATEWAY_HOST, ip6);
	(void)inet_ntop(AF_INET, ip4, ret->four, sizeof(ret->four));
	if (request->subnet.bits6)
		(void)inet_ntop(AF_INET6, ip6, ret->six, sizeof(ret->six));
}

/* In a network, and of a guest on a bridge, nobody is on the same link as the gateway: each is routed to. */
static int add_gateway(const struct holder *h, int index, bool alone)
{
	bool network = h->request.flags & (UPLINK_NETWORK | UPLINK_BRIDGE);
	struct space_gateway gateway;
	int r = 0;

	space_gateway(&h->request, &gateway);
	if (*gateway.four)
		r = route_add_address(h->route, index, gateway.four, network || alone ? 32 : UPLINK_BITS4);
	if (r == 0 && *gateway.six)
		r = route_add_address(h->route, index, gateway.six, network || alone ? 128 : UPLINK_BITS6);
	return r;
}

int space_tap(const struct holder *h, const char *name, unsigned mtu, int *ret_tap, int *ret_index,
	      struct mvm_error *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	_cleanup_fd_ int tap = open(UPLINK_TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int size = HEADER_SIZE, index, r;

	if (tap < 0)
		return error_set(err, errno, UPLINK_TUN ": %s: %s", strerror(errno), uplink_tun_remedy(errno));
	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(tap, TUNSETIFF, &request) < 0 || ioctl(tap, TUNSETVNETHDRSZ, &size) < 0)
		return error_set(err, errno, UPLINK_TUN ": no tap: %s%s%s", strerror(errno),
				 errno == ENOTTY ? ": " : "", errno == ENOTTY ? uplink_tun_remedy(errno) : "");
	index = route_find(name);
	r = index < 0 ? index : rtnl_link_up(h->route, index, mtu);
	if (r == 0)
		r = add_gateway(h, index, false);
	if (r < 0)
		return error_set(err, -r, "its tap: %s", strerror(-r));
	*ret_tap = take_fd(&tap);
	*ret_index = index;
	return 0;
}

static void make_tap(struct holder *h)
{
	struct mvm_error err;
	int index;

	if (space_tap(h, UPLINK_VM, h->request.mtu, &h->tap, &index, &err) < 0)
		holder_fail(err.code, "%s", err.text);
}

/*
 * Of a proxy: what the rules refuse is told to its sockets by way of the loopback, where it finds the resolver, too. Of a
 * network: the resolver is there before the first tap.
 */
static void raise_loopback(const struct holder *h)
{
	int index = route_find("lo");
	int r = index < 0 ? index : rtnl_link_up(h->route, index, 0);

	if (r == 0 && (h->request.nnames || h->request.flags & UPLINK_NETWORK))
		r = add_gateway(h, index, true);
	if (r < 0)
		holder_fail(-r, "its loopback: %s", strerror(-r));
}

/* What is in the network's range and nobody's goes nowhere, above all not out. */
static void close_range_of(const struct holder *h)
{
	const struct uplink_subnet *subnet = &h->request.subnet;
	int r = rtnl_add_unreachable(h->route, AF_INET, subnet->net4, subnet->bits4);

	if (r == 0 && subnet->bits6)
		r = rtnl_add_unreachable(h->route, AF_INET6, subnet->net6, subnet->bits6);
	if (r < 0)
		holder_fail(-r, "its routes: %s", strerror(-r));
}

/* ---- settings and rules ---- */

bool space_set(const char *name, const char *value)
{
	_cleanup_fd_ int fd = -1;
	char path[96];

	(void)snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, value, strlen(value)) >= 0;
}

static void set_forwarding(const struct holder *h)
{
	bool network = h->request.flags & UPLINK_NETWORK;

	if ((network || h->request.flags & UPLINK_IP4) && !space_set("ipv4/ip_forward", "1"))
		holder_fail(errno, "/proc/sys/net/ipv4/ip_forward: %s: in a container, have /proc/sys writable",
			    strerror(errno));
	if ((network ? h->request.subnet.bits6 != 0 : h->request.flags & UPLINK_IP6) &&
	    !space_set("ipv6/conf/all/forwarding", "1"))
		holder_fail(errno, "/proc/sys/net/ipv6/conf/all/forwarding: %s", strerror(errno));
}

/* Before there is a link: `default` is what each begins with. */
static void set_all(const struct holder *h)
{
	static const char *const of_links[][2] = {
		{ "ipv4/conf/%s/accept_redirects", "0" },
		{ "ipv4/conf/%s/send_redirects", "0" },
		{ "ipv4/conf/%s/accept_source_route", "0" },
		{ "ipv4/conf/%s/rp_filter", "1" },
		{ "ipv4/conf/%s/log_martians", "0" },
		{ "ipv4/conf/%s/arp_ignore", "1" },
		{ "ipv4/conf/%s/arp_announce", "2" },
		{ "ipv6/conf/%s/accept_ra", "0" },
		{ "ipv6/conf/%s/accept_redirects", "0" },
		{ "ipv6/conf/%s/accept_source_route", "-1" },
		{ "ipv6/conf/%s/autoconf", "0" },
		{ "ipv6/conf/%s/accept_dad", "0" },
		{ "ipv6/conf/%s/router_solicitations", "0" },
	};
	char name[64];

	if (!(h->request.flags & UPLINK_PROXY)) /* else nobody is on a link whose packets would go on */
		set_forwarding(h);
	if (h->request.flags & UPLINK_PROXY) /* its sockets' memory is everybody's */
		(void)(space_set("ipv4/tcp_rmem", "4096 131072 1048576") &&
		       space_set("ipv4/tcp_wmem", "4096 131072 1048576"));
	for (size_t i = 0; i < sizeof(of_links) / sizeof(of_links[0]); i++) {
		for (unsigned all = 0; all < 2; all++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(name, sizeof(name), of_links[i][0], all ? "all" : "default");
#pragma GCC diagnostic pop
			if (!space_set(name, of_links[i][1]) && errno != ENOENT) /* a kernel without IPv6 */
				holder_fail(errno, "/proc/sys/net/%s: %s", name, strerror(errno));
		}
	}
}

/* Once there are rules that track: an idle connection is forgotten after a day, not five; none begins in its middle. */
static void set_tracking(const struct holder *h)
{
	/* As long as pasta keeps a socket for them, so that what is counted is what is taken (its ACT_TIMEOUT and the like). */
	static const char *const as_pasta[][2] = {
		{ "netfilter/nf_conntrack_tcp_timeout_close_wait", "7260" },
		{ "netfilter/nf_conntrack_tcp_timeout_fin_wait", "7260" },
		{ "netfilter/nf_conntrack_tcp_timeout_max_retrans", "7260" },
		{ "netfilter/nf_conntrack_tcp_timeout_unacknowledged", "7260" },
		{ "netfilter/nf_conntrack_tcp_timeout_last_ack", "90" },
		{ "netfilter/nf_conntrack_tcp_timeout_syn_sent", "130" },
		{ "netfilter/nf_conntrack_icmp_timeout", "60" },
		{ "netfilter/nf_conntrack_icmpv6_timeout", "60" },
	};

	(void)space_set("netfilter/nf_conntrack_tcp_timeout_established", "86400");
	(void)space_set("netfilter/nf_conntrack_tcp_loose", "0");
	/* What `mvm stats --flows` tells; a kernel without one of them tells the rest. */
	(void)space_set("netfilter/nf_conntrack_acct", "1");
	(void)space_set("netfilter/nf_conntrack_timestamp", "1");
	/* As long as pasta keeps a port of the host's for them: what rules.c counts is what is taken. */
	(void)space_set("netfilter/nf_conntrack_udp_timeout", "180");
	(void)space_set("netfilter/nf_conntrack_udp_timeout_stream", "180");
	/* These are not among the connections that rules.c counts. */
	(void)space_set("netfilter/nf_conntrack_tcp_timeout_time_wait", "10");
	(void)space_set("netfilter/nf_conntrack_tcp_timeout_close", "10");
	if (!(h->request.flags & UPLINK_BRIDGE))
		for (size_t i = 0; i < sizeof(as_pasta) / sizeof(as_pasta[0]); i++)
			(void)space_set(as_pasta[i][0], as_pasta[i][1]);
}

/* How many connections the namespace may have: the host's setting, which is there once a rule tracked anything. */
static unsigned read_tracked(void)
{
	_cleanup_fd_ int fd = open("/proc/sys/net/netfilter/nf_conntrack_max", O_RDONLY | O_CLOEXEC);
	char text[16] = "";
	unsigned long n;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return TRACKED;
	n = strtoul(text, NULL, 10);
	return n && n < UINT32_MAX ? (unsigned)n : TRACKED;
}

static void run_nft(const struct holder *h, int in, int says) __attribute__((noreturn));

static void run_nft(const struct holder *h, int in, int says)
{
	char *argv[] = { (char[]){ "nft" }, (char[]){ "-f" }, (char[]){ "-" }, NULL };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (dup2(in, 0) == 0 && dup2(says, 1) == 1 && dup2(says, 2) == 2)
		(void)execve(h->request.nft, argv, environment);
	(void)dprintf(says, "%s: %s\n", h->request.nft, strerror(errno));
	_exit(127);
}

int space_nft(const struct holder *h, const char *text, struct mvm_error *err)
{
	_cleanup_fd_ int in = memfd_create("rules", MFD_CLOEXEC);
	int says[2], status = 0;
	char said[2048];
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (in < 0 || write(in, text, strlen(text)) != (ssize_t)strlen(text) || lseek(in, 0, SEEK_SET) < 0 ||
	    pipe2(says, O_CLOEXEC) < 0)
		return error_set(err, errno, "rules: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		run_nft(h, in, says[1]);
	(void)close(says[1]);
	if (pid < 0) {
		(void)close(says[0]);
		return error_set(err, errno, "no process can be made: %s", strerror(errno));
	}
	while (len < sizeof(said) - 1 &&
	       ((n = read(says[0], said + len, sizeof(said) - 1 - len)) > 0 || (n < 0 && errno == EINTR)))
		len += n > 0 ? (size_t)n : 0;
	said[len] = '\0';
	(void)close(says[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	said[strcspn(said, "\n")] = '\0'; /* the first line says what, the others where */
	if (status)
		return error_set(
			err, EINVAL,
			"nftables (%s): %.250s: the kernel needs nf_tables with conntrack, NAT, limits and logging",
			h->request.nft, *said ? said : "it failed and did not say why");
	return 0;
}

static void load_rules(const struct holder *h)
{
	_cleanup_free_ char *rules = h->request.flags & UPLINK_NETWORK  ? rules_network_text(&h->request, &h->limits)
				     : h->request.flags & UPLINK_BRIDGE ? rules_bridge_text(&h->request)
									: rules_text(&h->request);
	struct mvm_error err;

	if (!rules)
		holder_fail(ENOMEM, "rules: out of memory");
	if (space_nft(h, rules, &err) < 0)
		holder_fail(err.code, "%s", err.text);
}

/* What begins with CAP_NET_RAW, which is then given up. A kernel without IPv6 lacks that one. */
static void open_raw(struct holder *h)
{
	h->raw[0] = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	h->raw[1] = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (h->raw[0] < 0)
		holder_fail(errno, "raw socket: %s", strerror(errno));
}

/*
 * Of what the namespace's root may do, links and nftables are left. Before pasta begins: it gives up more than that, and
 * who has less than another cannot look into its /proc/PID/ns (ptrace(2), PTRACE_MODE_READ).
 */
static void drop_capabilities(void)
{
	cap_t caps = cap_from_text("cap_net_admin=ep");

	if (!caps || cap_set_proc(caps) < 0)
		holder_fail(errno, "capabilities: %s", strerror(errno));
	(void)cap_free(caps);
}

void space_make(struct holder *h)
{
	bool network = h->request.flags & UPLINK_NETWORK, out = h->request.flags & (UPLINK_IP4 | UPLINK_IP6);
	bool bridge = h->request.flags & UPLINK_BRIDGE;
	char link[32];
	ssize_t n = readlink("/proc/self", link, sizeof(link) - 1);
	int r;

	link[n < 0 ? 0 : n] = '\0';
	h->pid = strtol(link, NULL, 10);
	if (h->pid <= 0)
		holder_fail(ENOENT, "/proc: not mounted");
	if (out && !bridge)
		start_pasta(h);
	if (unshare(CLONE_NEWNET) < 0)
		holder_fail(errno, "no network namespace: %s: sysctl user.max_net_namespaces", strerror(errno));
	r = route_open(0, &h->route);
	if (r == 0)
		r = nfnl_open(&h->nft);
	if (r == 0)
		r = nfnl_open(&h->log);
	if (r < 0)
		holder_fail(-r, "netlink: %s", strerror(-r));
	set_all(h);
	if (h->request.flags & UPLINK_PROXY || network)
		raise_loopback(h);
	else
		make_tap(h);
	if (network)
		close_range_of(h);
	h->limits.tracked = read_tracked();
	load_rules(h);
	set_tracking(h);
	r = nfnl_listen(h->log);
	if (r < 0)
		holder_fail(-r, "refused packets cannot be logged: %s: the kernel needs nfnetlink_log", strerror(-r));
	if (out)
		watch_host(h);
	names_start(h);
	if (h->request.flags & UPLINK_PROXY)
		proxy_start(h);
	if (network)
		watcher_start(h);
	if (network && out)
		open_raw(h);
	drop_capabilities();
	if (bridge)
		bridge_attach(h);
	else if (out)
		await_pasta(h);
}
