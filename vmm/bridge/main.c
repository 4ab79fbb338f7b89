/*
 * mvm-bridge: makes a network namespace of its caller's a port of a bridge of the host's, and ends.
 *
 * The one part of mvm that may have a capability on its file (setcap cap_net_admin+ep), for ordinary users; root's has it
 * anyway. So whoever may execute it is hostile: it takes no arguments, reads no environment, opens no file but the policy
 * and, for the names in there, passwd and group, and to write the port's settings alone; it executes nothing. What it does,
 * in order:
 *
 * 1. Every capability but CAP_NET_ADMIN goes, no_new_privs, a filter of system calls; then the request is read.
 * 2. The namespace must be the caller's: owned by a user namespace that this very uid made. There the caller may do
 *    with the link what he likes, which is why what guards the bridge is on its port (link_bind()).
 * 3. The policy, root's and nobody else's to write, must give him ports of that bridge.
 * 4. The pair, down. How many he may have is how many names there are for them (make_link()): the kernel's to decide, without a
 *    lock, which anybody who may read the policy could hold, or a count, which others of his could outrun. Whoever kills us
 *    here keeps a port that is down, and one of his.
 * 5. The port's settings, as a device of the host's (set_host) and of the bridge's (link_bind()), then up; the last capability
 *    goes, then the answer.
 *
 * What was made goes with the namespace: the kernel removes both ends when the inner one's namespace ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bridge/bridge.h"
#include "bridge/link.h"
#include "bridge/policy.h"
#include "lib/fdpass.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"
#include "rtnl.h"

MVM_VERSION_MARKED;

#define REQUEST_WAIT_S 10
#define LIFE_S         30 /* as long as a supervisor waits: WAIT_MS of lib/net_bridge.c */
#define IDS_MAX        (1U << 20) /* bytes of passwd, of group */

/* Where the settings of the host's devices are, by family: [1] of IPv6; -1: a kernel without it. */
static int settings[2];

static void answer(const struct bridge_answer *what)
{
	(void)send(BRIDGE_FD, what, sizeof(*what), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void fail(int code, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void fail(int code, const char *fmt, ...)
{
	struct bridge_answer failed = { .version = BRIDGE_VERSION, .code = code };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(failed.text, sizeof(failed.text), fmt, ap);
	va_end(ap);
	answer(&failed);
	_exit(1);
}

/* ---- 1: what we may do ---- */

/*
 * Our end, also where we were stopped until root had changed the policy. What a signal does and whether it is blocked are our
 * caller's to choose for us, as is an alarm that rings.
 */
static void bound_life(void)
{
	sigset_t ends;

	(void)signal(SIGALRM, SIG_DFL);
	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGALRM);
	(void)sigprocmask(SIG_UNBLOCK, &ends, NULL);
	(void)alarm(LIFE_S);
}

/* What is said goes to no socket of another kind, where words of ours would count as those of one with a capability. */
static bool is_spoken_to(void)
{
	int domain = 0, type = 0;
	socklen_t one = sizeof(domain), other = sizeof(type);

	return getsockopt(BRIDGE_FD, SOL_SOCKET, SO_DOMAIN, &domain, &one) == 0 && domain == AF_UNIX &&
	       getsockopt(BRIDGE_FD, SOL_SOCKET, SO_TYPE, &type, &other) == 0 && type == SOCK_SEQPACKET;
}

static void set_capabilities(const char *text)
{
	cap_t caps = cap_from_text(text);

	if (!caps || cap_set_proc(caps) < 0)
		fail(errno, "capabilities: %s", strerror(errno));
	(void)cap_free(caps);
}

static void restrict_self(void)
{
	const struct timeval patience = { .tv_sec = REQUEST_WAIT_S };
	const struct rlimit none = { 0, 0 };
	cap_flag_value_t may = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (getuid() != geteuid() || getgid() != getegid())
		fail(EPERM, "mvm-bridge is setuid or setgid, and was never meant to be: chmod ug-s it");
	if (!caps || cap_get_flag(caps, CAP_NET_ADMIN, CAP_PERMITTED, &may) < 0 || may != CAP_SET)
		fail(EPERM, "mvm-bridge has no right to it");
	(void)cap_free(caps);
	set_capabilities("cap_net_admin=ep");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0 ||
	    setsockopt(BRIDGE_FD, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		fail(errno, "limits: %s", strerror(errno));
}

#ifndef JAIL_OMIT_SECCOMP /* sanitizers: their run-time's own calls */
static int allow(scmp_filter_ctx filter)
{
	static const int calls[] = {
		SCMP_SYS(recvmsg),   SCMP_SYS(recvfrom),   SCMP_SYS(sendto), SCMP_SYS(close),
		SCMP_SYS(read),      SCMP_SYS(newfstatat), SCMP_SYS(getuid), SCMP_SYS(getgid),
		SCMP_SYS(getgroups), SCMP_SYS(getrandom),  SCMP_SYS(capget), SCMP_SYS(capset),
		SCMP_SYS(brk),       SCMP_SYS(exit_group), SCMP_SYS(write),  SCMP_SYS(fstatfs),
	};
	static const unsigned long requests[] = { NS_GET_NSTYPE, NS_GET_USERNS, NS_GET_OWNER_UID };
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	for (size_t i = 0; r == 0 && i < sizeof(requests) / sizeof(requests[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, requests[i]));
	if (r == 0) /* nothing is made, and nothing written to but the settings of devices */
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	for (unsigned six = 0; r == 0 && six < 2; six++)
		if (settings[six] >= 0)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 2,
					     SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)settings[six]),
					     SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_WRONLY));
	return r;
}
#endif

static void open_settings(void)
{
	static const char *const paths[] = { "/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf" };

	for (unsigned six = 0; six < 2; six++) {
		settings[six] = open(paths[six], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (settings[six] < 0 && (!six || errno != ENOENT))
			fail(errno, "%s: %s", paths[six], strerror(errno));
	}
}

static void lock(void)
{
#ifndef JAIL_OMIT_SECCOMP
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? allow(filter) : -ENOMEM;

	if (r == 0)
		r = seccomp_load(filter);
	if (r < 0)
		fail(-r, "seccomp: %s", strerror(-r));
	seccomp_release(filter);
#endif
}

/* ---- 2: what is asked ---- */

static int receive(struct bridge_request *ret)
{
	uint8_t bytes[sizeof(*ret) + 1];
	size_t nfds;
	int fds[2];
	ssize_t n = fdpass_receive(BRIDGE_FD, bytes, sizeof(bytes), fds, 2, &nfds, 0);
	const char *wrong = bridge_request_read(bytes, n < 0 ? 0 : (size_t)n, getuid() == 0, ret);

	if (wrong)
		fail(EPROTO, "%s", wrong);
	if (nfds != 1)
		fail(EPROTO, "a request without its one descriptor");
	return fds[0];
}

/* `own`: ours, where the bridges are. */
static void check_namespace(int namespace, int own)
{
	struct stat theirs, ours;
	struct statfs where;
	uid_t owner = 0;
	int user;

	/* a device's driver, or another file system, could take these requests for others */
	if (fstatfs(namespace, &where) < 0 || where.f_type != NSFS_MAGIC ||
	    ioctl(namespace, NS_GET_NSTYPE) != CLONE_NEWNET)
		fail(EINVAL, "the descriptor is no network namespace");
	if (fstat(namespace, &theirs) < 0 || fstat(own, &ours) < 0)
		fail(errno, "namespaces: %s", strerror(errno));
	if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
		fail(EINVAL, "the namespace is the host's own");
	if (getuid() == 0)
		return;
	user = ioctl(namespace, NS_GET_USERNS);
	if (user < 0 || ioctl(user, NS_GET_OWNER_UID, &owner) < 0 || owner != getuid())
		fail(EPERM, "the namespace is not the caller's");
	(void)close(user);
}

/* ---- 3: who may ---- */

/* All of a file that is root's and nobody else's to write; its length. `at`: AT_FDCWD, or a folder. */
static size_t read_file(int at, const char *name, const char *shown, char *text, size_t size)
{
	_cleanup_fd_ int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t len = 0;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		fail(errno, "%s: %s", shown, errno == ELOOP ? "a symbolic link: put a file there" : strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
		fail(EPERM, "%s: not a file that is root's, and for root alone to write: chown root: %s, chmod 644 %s",
		     shown, shown, shown);
	while (len < size && (n = read(fd, text + len, size - len)) != 0) {
		if (n < 0 && errno != EINTR)
			fail(errno, "%s: %s", shown, strerror(errno));
		len += n > 0 ? (size_t)n : 0;
	}
	if (len == size)
		fail(EFBIG, "%s: more than %zu bytes", shown, size - 1);
	return len;
}

/* Without the C library's name service, which would load libraries and ask the network with our capability. */
static bool look_up(void *arg, bool group, const char *name, uint32_t *ret_id)
{
	static const char *const paths[] = { "/etc/passwd", "/etc/group" };
	static char texts[2][IDS_MAX];
	static size_t sizes[2];
	char *text = texts[group];

	(void)arg;
	if (!sizes[group])
		sizes[group] = read_file(AT_FDCWD, paths[group], paths[group], text, IDS_MAX);
	for (size_t at = 0; at < sizes[group];) {
		const char *end = memchr(text + at, '\n', sizes[group] - at);
		size_t len = end ? (size_t)(end - text) - at : sizes[group] - at;

		if (policy_id_of(text + at, len, name, ret_id))
			return true;
		at += len + 1;
	}
	return false;
}

static void find_caller(struct policy_caller *caller)
{
	gid_t gids[POLICY_GROUPS - 1];
	int n = getgroups(POLICY_GROUPS - 1, gids);

	*caller = (struct policy_caller){ .uid = getuid() };
	caller->gids[caller->ngids++] = getgid();
	for (int i = 0; i < n; i++) /* of one who is in more groups the first one alone counts */
		caller->gids[caller->ngids++] = gids[i];
}

/* What the policy grants; root needs none. */
static struct policy_grant find_grant(const char *bridge)
{
	static char text[POLICY_MAX + 1];
	struct policy_grant grant = { 0 };
	struct policy_caller caller;
	char wrong[POLICY_TEXT];
	struct stat st;
	unsigned line;
	_cleanup_fd_ int folder = openat(AT_FDCWD, BRIDGE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	find_caller(&caller);
	if (folder >= 0 && fstatat(folder, BRIDGE_POLICY, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (fstat(folder, &st) < 0 || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
			fail(EPERM, "%s: not a folder that is root's, and for root alone to write", BRIDGE_FOLDER);
		line = policy_read(
			text, read_file(folder, BRIDGE_POLICY, BRIDGE_FOLDER "/" BRIDGE_POLICY, text, sizeof(text)),
			bridge, &caller, look_up, NULL, &grant, wrong);
		if (line)
			fail(EINVAL, "%s/%s, line %u: %s", BRIDGE_FOLDER, BRIDGE_POLICY, line, wrong);
	} else if (caller.uid != 0) {
		fail(EPERM, "there is no %s/%s, where root says who may have how many ports: mvm-bridge.conf(5)",
		     BRIDGE_FOLDER, BRIDGE_POLICY);
	}
	if (!grant.ports && caller.uid == 0)
		grant.ports = POLICY_PORTS_MAX;
	if (!grant.ports)
		fail(EPERM, "%s/%s grants uid %u no ports of it: root may add: allow user %u bridge %s ports 1",
		     BRIDGE_FOLDER, BRIDGE_POLICY, caller.uid, caller.uid, bridge);
	return grant;
}

/* ---- 4, 5: the port ---- */

static void find_bridge(int route, const char *name, struct link_bridge *ret)
{
	int r = link_find_bridge(route, name, ret);

	if (r == -ENODEV)
		fail(ENODEV, "there is no such device");
	if (r == -EMEDIUMTYPE)
		fail(EINVAL, "that device is no bridge");
	if (r < 0)
		fail(-r, "the bridge: %s", strerror(-r));
}

/*
 * A device's name can be had once in the host's namespace, where the caller can give none: a port has its own from when it is
 * made until it is gone, so those that there are for his ports are all that he has, whoever is stopped or killed meanwhile.
 * Root's, too, where no line says how many: as many as a bridge has.
 */
static int make_link(int route, const struct link_bridge *bridge, uint32_t most, const struct bridge_request *request,
		     int namespace, char ret_name[BRIDGE_DEVICE])
{
	bool again = false; /* where that name was free: the one who had it may have gone just then */
	int index = 0, r = -EEXIST;

	for (uint32_t slot = 0; slot < most;) {
		(void)bridge_port_name(getuid(), bridge->index, slot, ret_name);
		r = link_make(route, bridge, ret_name, request->mac, namespace, &index);
		if (r != -EEXIST && (r != -ENOTUNIQ || again))
			break;
		again = r == -ENOTUNIQ;
		slot += !again;
	}
	if (r == -EEXIST)
		fail(EDQUOT, "uid %u has %u ports of it already, and %s/%s allows no more: end one of those VMs",
		     getuid(), most, BRIDGE_FOLDER, BRIDGE_POLICY);
	if (r == -ENOTUNIQ)
		fail(EEXIST, "the namespace has a link " BRIDGE_INNER " already");
	if (r < 0)
		fail(-r, "no link can be made: %s%s", strerror(-r),
		     r == -EOPNOTSUPP ? ": the kernel needs veth (modprobe veth)"
		     : r == -EPERM    ? ": mvm-bridge has no right to it"
				      : "");
	return index;
}

static int set(int folder, const char *port, const char *name, const char *value)
{
	char path[BRIDGE_DEVICE + 40];
	_cleanup_fd_ int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/%s", port, name);
	fd = openat(folder, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno; /* a kernel that has no such setting */
	return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/*
 * What is sent to the groups of IEEE 802.1D's, 01:80:c2:00:00:0x, a bridge gives to the host as the port's, from whomever it
 * is: `locked` is asked later. So the port's device is nothing to the host's IP. With IPv6 it would have an address, and
 * believe routers. IPv4 takes nothing from a source that it would not reach by this device, which is any; nor unicast by
 * such a frame; nor answers ARP. (rp_filter leaves 0.0.0.0 to broadcasts.)
 */
static void set_host(int route, int index, const char *port)
{
	static const struct {
		bool six;
		const char *name, *value;
	} wanted[] = {
		{ true, "disable_ipv6", "1" },
		{ false, "drop_unicast_in_l2_multicast", "1" },
		{ false, "rp_filter", "1" },
		{ false, "arp_ignore", "8" },
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		int folder = settings[wanted[i].six];
		int r = folder < 0 ? 0 : set(folder, port, wanted[i].name, wanted[i].value);

		if (r == 0)
			continue;
		(void)rtnl_link_delete(route, index);
		fail(-r, "its port: /proc/sys/net/ipv%c/conf/%s/%s: %s", wanted[i].six ? '6' : '4', port,
		     wanted[i].name, strerror(-r));
	}
}

static void make_port(int route, const struct bridge_request *request, int namespace)
{
	struct bridge_answer made = { .version = BRIDGE_VERSION };
	struct policy_grant grant = find_grant(request->bridge);
	struct link_bridge bridge;
	int index, r;

	find_bridge(route, request->bridge, &bridge);
	index = make_link(route, &bridge, grant.ports, request, namespace, made.port);
	set_host(route, index, made.port);
	r = link_bind(route, index, request->mac, grant.isolated);
	if (r == 0)
		r = rtnl_link_up(route, index, 0);
	if (r < 0) {
		(void)rtnl_link_delete(route, index);
		fail(-r, "its port: %s",
		     r == -EEXIST ? "the bridge knows that mac= from another port: give another one" : strerror(-r));
	}
	made.mtu = bridge.mtu;
	set_capabilities("=");
	answer(&made);
}

int main(void)
{
	struct bridge_request request;
	int route, own, namespace;

	bound_life();
	if (!is_spoken_to())
		return 2;
	(void)close_range(1, ~0U, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	restrict_self();
	route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	own = route < 0 ? -1 : ioctl(route, SIOCGSKNS);
	if (own < 0)
		fail(errno, "the host's network: %s",
		     errno == EPERM ? "mvm-bridge has no right to it" : strerror(errno));
	open_settings();
	lock();
	namespace = receive(&request);
	check_namespace(namespace, own);
	make_port(route, &request, namespace);
	return 0;
}
