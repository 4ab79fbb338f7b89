/*
 * mvm-net: holds the network namespace of one VM with --net user, --net bridge= or --proxy, for as long as its supervisor lives; or that
 * of a named network, for as long as VMs are on it.
 *
 * It is started by the supervisor with a socket as descriptor 0, reads one request (uplink.h), gives up whatever uid root
 * had, and makes a user namespace and a pid namespace. The process in there, number 1, makes the network namespace;
 * pasta is its child and stays outside of that one. With number 1 all of them die, and it dies with its supervisor:
 * by the parent-death signals of both processes, and by end-of-file on the socket. A network's outlives the supervisor
 * that started it: number 1 is nobody's child then, and ends with its last member (steward.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/caps.h"
#include "lib/fdpass.h"
#include "mvm/version.h"
#include "uplink/holder.h"
#include "uplink/route.h"

MVM_VERSION_MARKED;

#define FILES_MAX         8704U /* of a VM's connections (rules.c) pasta has two each, and a few of its own */
#define FILES_MAX_NETWORK 65536U

void holder_send(int to, const struct uplink_message *message, int fd)
{
	/* A supervisor that does not read is not waited for: counters stand in the kernel. */
	(void)fdpass_send(to, message, sizeof(*message), &fd, fd >= 0, MSG_DONTWAIT);
}

static void say(int to, uint32_t type, int code, const char *fmt, va_list ap) __attribute__((format(printf, 4, 0)));

static void say(int to, uint32_t type, int code, const char *fmt, va_list ap)
{
	struct uplink_message message = { .type = type, .code = code };

	(void)vsnprintf(message.text, sizeof(message.text), fmt, ap);
	holder_send(to, &message, -1);
}

void holder_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(UPLINK_FD, UPLINK_FAILED, code, fmt, ap);
	va_end(ap);
	_exit(1);
}

void holder_warn(int to, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(to, UPLINK_LOG, 0, fmt, ap);
	va_end(ap);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		holder_fail(errno, "%s: %s", path, strerror(errno));
	(void)close(fd);
}

/* Root becomes a uid that is this VM's alone, and no other process's. */
static void become(const struct uplink_request *request)
{
	if (request->uid == UINT32_MAX)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(request->gid, request->gid, request->gid) < 0 ||
	    setresuid(request->uid, request->uid, request->uid) < 0)
		holder_fail(errno, "uid %u: %s", request->uid, strerror(errno));
	/* The change made us undumpable, and so /proc/self root's. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		holder_fail(errno, "prctl: %s", strerror(errno));
}

/* After the change of uid, which clears it. Should the parent be gone already, so is the socket's other end. */
static void die_with_parent(void)
{
	struct pollfd supervisor = { .fd = UPLINK_FD };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		holder_fail(errno, "prctl: %s", strerror(errno));
	if (poll(&supervisor, 1, 0) > 0)
		_exit(1);
}

/* pasta raises its limit of descriptors to the most it may: to what bounds a VM's connections. */
static void limit(struct holder *h, bool network)
{
	const rlim_t most = network ? FILES_MAX_NETWORK : FILES_MAX;
	const struct rlimit none = { 0, 0 };
	struct rlimit files = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max > most) {
		files.rlim_cur = files.rlim_max = most;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	h->limits.files = (unsigned)(files.rlim_max < most ? files.rlim_max : most);
}

static void enter_namespaces(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char text[32];
	int r;

	r = unshare(CLONE_NEWUSER) < 0 ? errno : 0;
	if (r == ENOSPC || r == EUSERS)
		holder_fail(r, "no user namespace: their limit is reached: have root say sysctl -w "
			       "user.max_user_namespaces=65536");
	if (r)
		holder_fail(
			r,
			"no user namespace: %s: sysctl user.max_user_namespaces, "
			"kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns: mvm doctor "
			"says more",
			strerror(r));
	put("/proc/self/setgroups", "deny");
	(void)snprintf(text, sizeof(text), "0 %u 1", gid);
	put("/proc/self/gid_map", text);
	(void)snprintf(text, sizeof(text), "0 %u 1", uid);
	put("/proc/self/uid_map", text);
	if (unshare(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		holder_fail(errno, "namespaces: %s", strerror(errno));
}

/* The process outside: only there to be the supervisor's child, and to say how the one inside ended. */
static void wait_outside(pid_t inside) __attribute__((noreturn));

static void wait_outside(pid_t inside)
{
	int status = 0;

	(void)close_range(0, ~0U, 0);
	(void)caps_drop_all(); /* those of the new user namespace */
	while (waitpid(inside, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* The request, with the descriptors that a proxy or a network needs. */
static bool receive(struct holder *h)
{
	struct uplink_request *request = &h->request;
	size_t nfds;
	ssize_t n = fdpass_receive(UPLINK_FD, request, sizeof(*request), h->fds, UPLINK_FDS, &nfds, 0);

	request->network[UPLINK_ID - 1] = '\0';
	return n == (ssize_t)sizeof(*request) && request->version == UPLINK_VERSION &&
	       request->nrules <= UPLINK_RULES && request->nlinks <= UPLINK_LINKS && request->nnames <= UPLINK_NAMES &&
	       nfds == (request->flags & (UPLINK_PROXY | UPLINK_NETWORK) ? UPLINK_FDS : 0);
}

int main(void)
{
	struct holder h = { .host = -1,
			    .route = -1,
			    .nft = -1,
			    .log = -1,
			    .tap = -1,
			    .pasta = -1,
			    .pasta_says = -1,
			    .pasta_go = -1,
			    .fds = { -1, -1 },
			    .proxy = -1,
			    .names = -1,
			    .raw = { -1, -1 },
			    .refusals = -1 };
	bool network;
	pid_t inside;

	if (!receive(&h))
		holder_fail(EPROTO, "mvm-net: not of the same version as its supervisor: install mvm again");
	network = h.request.flags & UPLINK_NETWORK;
	(void)fcntl(UPLINK_FD, F_SETFD, FD_CLOEXEC);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(077);
	(void)setsid();
	become(&h.request);
	if (!network)
		die_with_parent();
	limit(&h, network);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		holder_fail(errno, "prctl: %s", strerror(errno));
	if (route_open(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, &h.host) < 0)
		holder_fail(errno, "the host's addresses cannot be asked for: %s", strerror(errno));
	enter_namespaces();
	inside = fork();
	if (inside < 0)
		holder_fail(errno, "no process can be made: %s: raise the limit of processes (ulimit -u)",
			    strerror(errno));
	if (inside > 0 && network)
		_exit(0);
	if (inside > 0)
		wait_outside(inside);
	if (!network)
		die_with_parent();
	space_make(&h);
	if (network)
		steward(&h);
	watch(&h);
}
