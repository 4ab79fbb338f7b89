#include "lib/net_user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/net_user_host.h"
#include "lib/spawn.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PROGRAM       "mvm-net"
#define START_WAIT_MS 60000 /* for the whole namespace; the kernel may have modules to load */
#define COUNT_WAIT_NS 1000000000ULL
#define END_WAIT_MS   1000

void net_user_init(struct net_user *user)
{
	*user = (struct net_user){ .fd = -1, .pidfd = -1, .ids = { .folder = -1, .lock = -1 } };
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

static int find_programs(const char *flag, struct uplink_request *request, struct mvm_error *err)
{
	if (net_user_find("pasta", request->pasta) < 0)
		return error_set(err, ENOENT, "%s: pasta is not installed: apt install passt", flag);
	if (net_user_find("nft", request->nft) < 0)
		return error_set(err, ENOENT, "%s: nft is not installed: apt install nftables", flag);
	return 0;
}

static int put_rules(const struct mvm_spec *spec, struct uplink_request *request, struct mvm_error *err)
{
	for (size_t i = 0; i < spec->allow_egress.n && i < UPLINK_RULES; i++) {
		struct uplink_rule *rule;
		struct spec_egress parsed;
		int r = spec_egress_parse("--allow-egress", spec->allow_egress.v[i], &parsed, err);

		if (r < 0)
			return r;
		if (parsed.name[0]) {
			struct uplink_name *name = &request->names[request->nnames++];

			memcpy(name->name, parsed.name, sizeof(name->name));
			name->port = parsed.port;
			name->protocol = parsed.protocol;
			name->below = parsed.below;
			continue;
		}
		rule = &request->rules[request->nrules++];
		rule->family = parsed.to.family;
		rule->prefix = parsed.to.prefix;
		rule->port = parsed.port;
		rule->protocol = parsed.protocol;
		memcpy(rule->address, parsed.to.bytes, sizeof(rule->address));
	}
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

/* `end`: NULL with a proxy, of which nothing is in the guest but its port. */
static int make_request(const struct net_user *user, const struct net_host_end *end, const struct mvm_spec *spec,
			struct uplink_request *request, struct mvm_error *err)
{
	bool deny = spec->egress && !strcmp(spec->egress, "deny"), four, six, dns4, dns6;
	int r;

	*request = (struct uplink_request){ .version = UPLINK_VERSION, .uid = UINT32_MAX, .gid = UINT32_MAX };
	net_user_host_routes("/proc/net", &four, &six);
	if (!four && !six)
		return error_set(err, ENETUNREACH,
				 "%s: this host has no default route, by which pasta finds its way out", user->flag);
	if (net_user_host_links("/proc/net", request->links, &request->nlinks) < 0)
		return error_set(err, E2BIG,
				 "%s: this host is on more than %u networks: start it in a network "
				 "namespace with fewer (ip netns exec)",
				 user->flag, UPLINK_LINKS);
	net_user_host_servers("/etc/resolv.conf", &dns4, &dns6);
	request->flags = (four ? UPLINK_IP4 : 0U) | (six ? UPLINK_IP6 : 0U) | (deny ? UPLINK_DENY : 0U);
	r = put_rules(spec, request, err);
	if (r < 0)
		return r;
	/* Whoever may ask for any name may tell anything to anybody: under deny only mvm-net asks, for those that are named. */
	if (!deny || request->nnames)
		request->flags |= (four && dns4 ? UPLINK_DNS4 : 0U) | (six && dns6 ? UPLINK_DNS6 : 0U);
	if (request->nnames && !(request->flags & (UPLINK_DNS4 | UPLINK_DNS6)))
		return error_set(
			err, ENETUNREACH,
			"--allow-egress: names: no name server of /etc/resolv.conf can be reached: this host has "
			"a default route by IPv%c alone",
			four ? '4' : '6');
	if (!end) {
		request->flags |= UPLINK_PROXY;
	} else {
		if (end->net.mtu && six && end->net.mtu < 1280)
			return error_set(err, EINVAL, "%s: mtu=%u: IPv6 wants 1280 or more (RFC 8200)", user->flag,
					 end->net.mtu);
		request->mtu = end->net.mtu;
		memcpy(request->mac, end->net.mac, sizeof(request->mac));
	}
	return find_programs(user->flag, request, err);
}

/* ---- the process ---- */

struct child {
	struct spawn spawn; /* the first member */
	const char *path;
	int socket;
};

static void run(struct spawn *spawn)
{
	const struct child *child = (const struct child *)spawn;
	static char name[] = PROGRAM;
	static char *const argv[] = { name, NULL }, *const environment[] = { NULL };
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(child->socket, UPLINK_FD) < 0)
		spawn_failed(spawn, "descriptors");
	if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		spawn_failed(spawn, "close_range");
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(child->path, argv, environment);
	spawn_failed(spawn, "exec");
}

static int start(struct net_user *user, struct mvm_error *err)
{
	struct child child = { .spawn.child = run };
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int theirs = -1;
	int pair[2], r = mvm_part_path(PROGRAM, &path, err);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, errno, "%s: socket: %s", user->flag, strerror(errno));
	user->fd = pair[0];
	theirs = pair[1];
	/* Above what run() makes its own. */
	if (theirs < 3) {
		int up = fcntl(theirs, F_DUPFD_CLOEXEC, 3);

		if (up < 0)
			return error_set(err, errno, "%s: socket: %s", user->flag, strerror(errno));
		(void)close(theirs);
		theirs = up;
	}
	child.path = path;
	child.socket = theirs;
	r = spawn_run(&child.spawn, &user->pid, &user->pidfd);
	return r < 0 ? error_set(err, -r, "%s: %s: %s: %s", user->flag, path,
				 child.spawn.failed ? child.spawn.failed : "start", strerror(-r))
		     : 0;
}

/* A message, with a descriptor where one came: bytes, 0: the other side is gone, -errno. */
static ssize_t receive(int fd, struct uplink_message *message, int *ret_fd)
{
	struct iovec iov = { .iov_base = message, .iov_len = sizeof(*message) };
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))
	};
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *hdr = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	*ret_fd = -1;
	if (n < 0)
		return -errno;
	if (hdr && hdr->cmsg_level == SOL_SOCKET && hdr->cmsg_type == SCM_RIGHTS &&
	    hdr->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(hdr), sizeof(int));
	if (n && n != (ssize_t)sizeof(*message)) {
		cleanup_fd(ret_fd);
		*ret_fd = -1;
		return -EPROTO;
	}
	return n;
}

/* ret_tap: NULL with a proxy. */
static int await_ready(struct net_user *user, int *ret_tap, struct mvm_error *err)
{
	uint64_t end = text_now_ns() + START_WAIT_MS * 1000000ULL;
	struct uplink_message message;
	int tap;

	for (;;) {
		struct pollfd news = { .fd = user->fd, .events = POLLIN };
		uint64_t now = text_now_ns();
		ssize_t n;

		if (now >= end)
			return error_set(err, ETIMEDOUT, "%s: " PROGRAM " was not ready after %u s", user->flag,
					 START_WAIT_MS / 1000);
		if (poll(&news, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		n = receive(user->fd, &message, &tap);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n < 0 ? (int)-n : EPIPE,
					 "%s: " PROGRAM " ended before its network was ready: dmesg may say why",
					 user->flag);
		if (message.type == UPLINK_READY && tap >= 0 && ret_tap) {
			*ret_tap = tap;
			return 0;
		}
		cleanup_fd(&tap);
		if (message.type == UPLINK_READY && !ret_tap)
			return 0;
		message.text[UPLINK_TEXT - 1] = '\0';
		if (message.type == UPLINK_FAILED)
			return error_set(err, message.code > 0 ? message.code : EIO, "%s: %s", user->flag,
					 message.text);
	}
}

/* With what a proxy needs, which is mvm-net's then. */
static int send_request(struct net_user *user, const struct uplink_request *request, struct mvm_error *err)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)request, .iov_len = sizeof(*request) };
	int fds[UPLINK_PROXY_FDS] = { -1, -1 }, r = 0;
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (request->flags & UPLINK_PROXY) {
		r = net_proxy_open(&user->proxy, fds);
		if (r < 0)
			return error_set(err, -r, "%s: %s", user->flag, strerror(-r));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.hdr.cmsg_level = SOL_SOCKET;
		control.hdr.cmsg_type = SCM_RIGHTS;
		control.hdr.cmsg_len = CMSG_LEN(sizeof(fds));
		memcpy(CMSG_DATA(&control.hdr), fds, sizeof(fds));
	}
	if (sendmsg(user->fd, &msg, MSG_NOSIGNAL) != (ssize_t)sizeof(*request))
		r = error_set(err, errno, "%s: " PROGRAM ": %s", user->flag, strerror(errno));
	cleanup_fd(&fds[0]);
	cleanup_fd(&fds[1]);
	return r;
}

int net_user_open(struct net_user *user, struct net_host *host, const struct mvm_spec *spec, uint32_t uid_first,
		  uint32_t uid_count, struct mvm_error *err)
{
	struct uplink_request request;
	struct net_host_end *end = NULL;
	uint32_t spread = 0;
	int r;

	for (unsigned i = 0; i < host->n; i++)
		if (host->ends[i].net.mode == SPEC_NET_USER)
			end = &host->ends[i];
	if (!end && !spec->proxy)
		return 0;
	user->asked = true;
	user->flag = end ? "--net: user" : "--proxy";
	r = make_request(user, end, spec, &request, err);
	if (r == 0 && geteuid() == 0 && ids_are_ours()) {
		(void)!getrandom(&spread, sizeof(spread), GRND_NONBLOCK); /* where the search begins */
		r = ids_take(IDS_FOLDER, uid_first, uid_count, spread, &user->ids, err);
		request.uid = user->ids.uid;
		request.gid = user->ids.gid;
	}
	if (r == 0)
		r = start(user, err);
	if (r == 0)
		r = send_request(user, &request, err);
	if (r == 0)
		r = await_ready(user, end ? &end->fd : NULL, err);
	if (r == 0 && end)
		describe(end, &request);
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

static void take_counters(struct net_user *user, const uint64_t counters[UPLINK_REASONS])
{
	for (unsigned i = 0; i < UPLINK_REASONS; i++)
		if (counters[i] > user->counters[i]) /* they never fall */
			user->counters[i] = counters[i];
}

static enum net_user_news over(struct net_user *user)
{
	cleanup_fd(&user->fd);
	user->fd = -1;
	return NET_USER_OVER;
}

enum net_user_news net_user_read(struct net_user *user, const struct net_user_place **ret_place, char text[UPLINK_TEXT])
{
	struct uplink_message message;
	int fd;
	ssize_t n;

	if (user->fd < 0)
		return NET_USER_NOTHING;
	n = receive(user->fd, &message, &fd);
	cleanup_fd(&fd);
	if (n == -EAGAIN || n == -EINTR)
		return NET_USER_NOTHING;
	(void)snprintf(text, UPLINK_TEXT, PROGRAM " ended");
	if (n <= 0)
		return over(user);
	switch (message.type) {
	case UPLINK_REFUSED:
		*ret_place = note(user, &message.refused);
		return *ret_place ? NET_USER_PLACE : NET_USER_COUNTED;
	case UPLINK_COUNTED:
		take_counters(user, message.counters);
		return NET_USER_COUNTED;
	case UPLINK_LOG:
	case UPLINK_FAILED:
		message.text[UPLINK_TEXT - 1] = '\0';
		memcpy(text, message.text, UPLINK_TEXT);
		text_harmless(text);
		return message.type == UPLINK_LOG ? NET_USER_TEXT : over(user);
	default:
		return NET_USER_COUNTED;
	}
}

void net_user_count(struct net_user *user)
{
	struct uplink_message message = { .type = UPLINK_COUNT };
	uint64_t end = text_now_ns() + COUNT_WAIT_NS;

	if (user->fd < 0 || send(user->fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
	for (uint64_t now = text_now_ns(); now < end; now = text_now_ns()) {
		struct pollfd news = { .fd = user->fd, .events = POLLIN };
		int fd;
		ssize_t n;

		if (poll(&news, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		n = receive(user->fd, &message, &fd);
		cleanup_fd(&fd);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n <= 0)
			return;
		if (message.type == UPLINK_REFUSED)
			(void)note(user, &message.refused);
		if (message.type != UPLINK_COUNTED)
			continue;
		take_counters(user, message.counters);
		return;
	}
}

void net_user_close(struct net_user *user)
{
	struct pollfd process = { .fd = user->pidfd, .events = POLLIN };

	cleanup_fd(&user->fd); /* by which it ends in order, its children first */
	user->fd = -1;
	if (user->pidfd >= 0) {
		(void)poll(&process, 1, END_WAIT_MS);
		(void)syscall(SYS_pidfd_send_signal, user->pidfd, SIGKILL, NULL, 0);
		while (waitpid(user->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	cleanup_fd(&user->pidfd);
	ids_release(&user->ids);
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
