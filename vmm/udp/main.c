/*
 * mvm-udp: serves the published UDP ports of one VM (-p HOST:GUEST/udp), for as long as its supervisor lives.
 *
 * It is started with a socket as descriptor 0, by which one request and the ports' sockets come (udp.h). It reads
 * datagrams of anybody's and the stream of a hostile guest, and is worth little to who takes it over: a uid of the
 * VM's own where root started it, namespaces without anything in them, no capability, no descriptor but its sockets,
 * twelve system calls. It can send datagrams from those ports, wherever the host's rules let them go; that remains.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "jail/caps.h"
#include "lib/fdpass.h"
#include "mvm/version.h"
#include "udp/flows.h"

MVM_VERSION_MARKED;

#define FDS_MAX   (1 + PROTO_PUBLISH_MAX) /* that come with the request */
#define FILES_MAX (4 + FDS_MAX + UDP_FLOWS_MAX)
#define BATCH     64U /* messages of the supervisor's per wake-up */

static struct udp udp;

static void fail(int code, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void fail(int code, const char *fmt, ...)
{
	struct udp_message message = { .type = UDP_FAILED, .code = code };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message.text, sizeof(message.text), fmt, ap);
	va_end(ap);
	(void)sendto(UDP_FD, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UDP_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- its work ---- */

static bool ask(void *arg, uint32_t number, unsigned port)
{
	struct udp_message message = { .type = UDP_ASK, .flow = number, .port = port };

	(void)arg;
	return sendto(UDP_FD, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) >= 0;
}

/* One message. False: none is there. */
static bool on_supervisor(void)
{
	struct udp_message message;
	int fd;
	ssize_t n = fdpass_receive(UDP_FD, &message, sizeof(message), &fd, 1, NULL, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && n != -EAGAIN && n != -EMSGSIZE)) /* the supervisor is gone */
		_exit(0);
	if (n != (ssize_t)sizeof(message)) {
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	udp_given(&udp, message.flow, message.type == UDP_GIVEN ? fd : -1, now_ns());
	return true;
}

static int wait_time(uint64_t now)
{
	uint64_t next = udp_deadline(&udp);

	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now + 999999) / 1000000);
}

static void serve(void) __attribute__((noreturn));

static void serve(void)
{
	static struct pollfd fds[UDP_FDS + 1];

	for (;;) {
		fds[UDP_FDS] = (struct pollfd){ .fd = UDP_FD, .events = POLLIN };
		udp_prepare(&udp, fds);
		if (poll(fds, UDP_FDS + 1, wait_time(now_ns())) < 0)
			continue;
		udp_run(&udp, fds, now_ns());
		for (unsigned i = 0; i < BATCH && fds[UDP_FDS].revents; i++)
			if (!on_supervisor())
				break;
	}
}

/* ---- its birth ---- */

#define IS(which, value)                                                                                               \
	{                                                                                                              \
		which, SCMP_CMP_EQ, (scmp_datum_t)(value), 0                                                           \
	}

static int allow(scmp_filter_ctx filter)
{
	/* Of a call's arguments those that are always the same. A datagram's address lies in memory, which no filter sees. */
	const struct {
		int call;
		unsigned n;
		struct scmp_arg_cmp args[2];
	} calls[] = {
		{ SCMP_SYS(poll), 0, { { 0 } } }, /* and what a C library makes of it on other machines */
		{ SCMP_SYS(ppoll), 0, { { 0 } } },
		{ SCMP_SYS(recvmsg), 2, { IS(0, UDP_FD), IS(2, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) } },
		{ SCMP_SYS(recvmsg), 1, { IS(2, MSG_DONTWAIT) } },
		{ SCMP_SYS(sendmsg), 1, { IS(2, MSG_DONTWAIT | MSG_NOSIGNAL) } },
		{ SCMP_SYS(recvfrom), 2, { IS(3, MSG_DONTWAIT), IS(4, 0) } },
		{ SCMP_SYS(sendto), 2, { IS(3, MSG_DONTWAIT | MSG_NOSIGNAL), IS(4, 0) } },
		{ SCMP_SYS(close), 0, { { 0 } } },
		{ SCMP_SYS(clock_gettime), 0, { { 0 } } },
		{ SCMP_SYS(madvise), 1, { IS(2, MADV_DONTNEED) } },
		{ SCMP_SYS(exit_group), 0, { { 0 } } },
		{ SCMP_SYS(rt_sigreturn), 0, { { 0 } } },
		{ SCMP_SYS(restart_syscall), 0, { { 0 } } },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i].call, calls[i].n, calls[i].args);
	return r;
}

static void lock(void)
{
#ifdef JAIL_OMIT_SECCOMP /* sanitizers: their run-time's own calls */
	(void)allow;
#else
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? allow(filter) : -ENOMEM;

	if (r == 0)
		r = seccomp_load(filter);
	if (r < 0)
		fail(-r, "seccomp: %s", strerror(-r));
	seccomp_release(filter);
#endif
}

/* Root becomes a uid that is this VM's alone. */
static void become(const struct udp_request *request)
{
	if (request->uid == UINT32_MAX)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(request->gid, request->gid, request->gid) < 0 ||
	    setresuid(request->uid, request->uid, request->uid) < 0)
		fail(errno, "uid %u: %s", request->uid, strerror(errno));
}

/* After the change of uid, which clears it. Should the parent be gone already, so is the socket's other end. */
static void die_with_parent(void)
{
	struct pollfd supervisor = { .fd = UDP_FD };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		fail(errno, "prctl: %s", strerror(errno));
	if (poll(&supervisor, 1, 0) > 0)
		_exit(1);
}

/* The sockets are of the host's network namespace, and stay so. */
static void confine(void)
{
	const struct rlimit files = { FILES_MAX, FILES_MAX }, none = { 0, 0 };
	int r;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0)
		fail(errno,
		     "no namespaces: %s: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone: mvm doctor "
		     "says more",
		     strerror(errno));
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_NPROC, &none) < 0 ||
	    setrlimit(RLIMIT_FSIZE, &none) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		fail(errno, "limits: %s", strerror(errno));
	r = caps_drop_all();
	if (r < 0)
		fail(-r, "capabilities: %s", strerror(-r));
}

/* The request, and what comes with it: the counters' memory, the ports' sockets. */
static bool receive(struct udp_request *request, int fds[FDS_MAX])
{
	size_t nfds;
	ssize_t n = fdpass_receive(UDP_FD, request, sizeof(*request), fds, FDS_MAX, &nfds, 0);

	return n == (ssize_t)sizeof(*request) && request->version == UDP_VERSION && request->nports &&
	       request->nports <= PROTO_PUBLISH_MAX && nfds == 1 + request->nports;
}

static void prepare(const struct udp_request *request, const int fds[FDS_MAX])
{
	void *arena, *counted;

	counted = mmap(NULL, sizeof(struct udp_counted), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	arena = mmap(NULL, UDP_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (counted == MAP_FAILED || arena == MAP_FAILED)
		fail(errno, "memory: %s", strerror(errno));
	(void)close(fds[0]);
	for (unsigned i = 0; i < request->nports; i++) {
		int r = udp_set_options(fds[1 + i], request->ports[i].family == 4 ? AF_INET : AF_INET6);

		if (r < 0)
			fail(-r, "port %u: %s", request->ports[i].port, strerror(-r));
	}
	udp_init(&udp, request, fds + 1, arena, counted, now_ns());
	udp.ask = ask;
}

int main(void)
{
	struct udp_message ready = { .type = UDP_READY };
	static struct udp_request request;
	int fds[FDS_MAX];

	if (!receive(&request, fds))
		fail(EPROTO, "mvm-udp: not of the same version as its supervisor: install mvm again");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(077);
	(void)setsid();
	(void)close_range(1, 2, 0); /* what was opened for it, in the places of stdout and stderr */
	become(&request);
	die_with_parent();
	prepare(&request, fds);
	confine();
	if (sendto(UDP_FD, &ready, sizeof(ready), MSG_NOSIGNAL, NULL, 0) < 0)
		_exit(1);
	lock();
	serve();
}
