/*
 * The proxy (--proxy): a process in the VM's network namespace that takes the guest's connections as descriptors and connects
 * each to where it asks for (proxy_conn.h).
 *
 * It reads what a hostile guest and any server say, and is worth nothing to who takes it over: no capability, no file
 * system, no descriptor but its sockets, seventeen system calls, and for every packet the namespace's rules.
 */
#include <errno.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "jail/caps.h"
#include "lib/fdpass.h"
#include "uplink/holder.h"
#include "uplink/proxy_conn.h"

#define CONNS_FD 0 /* where connections come from */

static struct proxy proxy;

static uint64_t now_ns(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * PROXY_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Connections, each with a byte. */
static void on_conns(uint64_t now)
{
	char byte;
	int fd;

	while (proxy.nconns < UPLINK_CONNS) {
		ssize_t n = fdpass_receive(CONNS_FD, &byte, sizeof(byte), &fd, 1, NULL, MSG_DONTWAIT);

		if (n < 0)
			return;
		if (n == 0) /* the supervisor is gone */
			_exit(0);
		if (fd < 0)
			continue;
		proxy_take(&proxy, fd, now);
	}
}

static int wait_time(uint64_t now)
{
	uint64_t next = proxy_deadline(&proxy);

	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now + 999999) / 1000000);
}

static void serve(void) __attribute__((noreturn));

static void serve(void)
{
	static struct pollfd fds[PROXY_FDS + 1];

	for (;;) {
		fds[PROXY_FDS] = (struct pollfd){ .fd = proxy.nconns < UPLINK_CONNS ? CONNS_FD : -1, .events = POLLIN };
		proxy_prepare(&proxy, fds);
		if (poll(fds, PROXY_FDS + 1, wait_time(now_ns())) < 0)
			continue;
		proxy_run(&proxy, fds, now_ns());
		if (fds[PROXY_FDS].revents)
			on_conns(now_ns());
	}
}

/* ---- its birth ---- */

#define IS(which, value)                                                                                               \
	{                                                                                                              \
		which, SCMP_CMP_EQ, (scmp_datum_t)(value), 0                                                           \
	}

static int allow(scmp_filter_ctx filter)
{
	/* Of a call's arguments those that are always the same: flags, levels, an address that is none. */
	const struct {
		int call;
		unsigned n;
		struct scmp_arg_cmp args[2];
	} calls[] = {
		{ SCMP_SYS(poll), 0, { { 0 } } }, /* and what a C library makes of it on other machines */
		{ SCMP_SYS(ppoll), 0, { { 0 } } },
		{ SCMP_SYS(recvmsg), 2, { IS(0, CONNS_FD), IS(2, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) } },
		{ SCMP_SYS(recvfrom), 2, { IS(3, MSG_DONTWAIT), IS(4, 0) } },
		{ SCMP_SYS(sendto), 2, { IS(3, MSG_DONTWAIT | MSG_NOSIGNAL), IS(4, 0) } },
		{ SCMP_SYS(connect), 0, { { 0 } } },
		{ SCMP_SYS(shutdown), 0, { { 0 } } },
		{ SCMP_SYS(close), 0, { { 0 } } },
		{ SCMP_SYS(clock_gettime), 0, { { 0 } } },
		{ SCMP_SYS(getrandom), 0, { { 0 } } },
		{ SCMP_SYS(exit_group), 0, { { 0 } } },
		{ SCMP_SYS(rt_sigreturn), 0, { { 0 } } },
		{ SCMP_SYS(restart_syscall), 0, { { 0 } } },
		{ SCMP_SYS(getsockopt), 2, { IS(1, SOL_SOCKET), IS(2, SO_ERROR) } },
		{ SCMP_SYS(setsockopt), 2, { IS(1, IPPROTO_TCP), IS(2, TCP_NODELAY) } },
		{ SCMP_SYS(madvise), 1, { IS(2, MADV_DONTNEED) } },
	};
	static const int families[] = { AF_INET, AF_INET6 }, kinds[] = { SOCK_STREAM, SOCK_DGRAM };
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i].call, calls[i].n, calls[i].args);
	for (unsigned i = 0; r == 0 && i < 4; i++) {
		const struct scmp_arg_cmp args[] = {
			{ 0, SCMP_CMP_EQ, (scmp_datum_t)families[i / 2], 0 },
			{ 1, SCMP_CMP_EQ, (scmp_datum_t)(kinds[i % 2] | SOCK_NONBLOCK | SOCK_CLOEXEC), 0 },
			{ 2, SCMP_CMP_EQ, 0, 0 },
		};

		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3, args);
	}
	return r;
}

static int lock(void)
{
#ifdef JAIL_OMIT_SECCOMP /* sanitizers: their run-time's own calls */
	(void)allow;
	return 0;
#else
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? allow(filter) : -ENOMEM;

	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
#endif
}

/* The child. What fails here ends it, which its parent sees. */
static void be_proxy(const struct holder *h) __attribute__((noreturn));

static void be_proxy(const struct holder *h)
{
	const struct rlimit files = { 2 * UPLINK_CONNS + 16, 2 * UPLINK_CONNS + 16 }, none = { 0, 0 };
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || dup2(h->fds[0], CONNS_FD) < 0 ||
	    syscall(SYS_close_range, 1, ~0U, 0) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0 ||
	    setrlimit(RLIMIT_NPROC, &none) < 0 || setrlimit(RLIMIT_FSIZE, &none) < 0)
		_exit(1);
	r = caps_drop_all();
	if (r == 0)
		r = lock();
	if (r < 0)
		_exit(1);
	serve();
}

void proxy_start(struct holder *h)
{
	void *arena, *counted;
	pid_t pid;

	counted = mmap(NULL, sizeof(struct uplink_proxied), PROT_READ | PROT_WRITE, MAP_SHARED, h->fds[1], 0);
	arena = mmap(NULL, PROXY_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (counted == MAP_FAILED || arena == MAP_FAILED)
		holder_fail(errno, "proxy: memory: %s", strerror(errno));
	proxy_init(&proxy, h->request.flags, counted, arena);
	pid = fork();
	if (pid < 0)
		holder_fail(errno, "no process can be made: %s", strerror(errno));
	if (pid == 0)
		be_proxy(h);
	h->proxy = (int)syscall(SYS_pidfd_open, pid, 0);
	if (h->proxy < 0)
		holder_fail(errno, "pidfd: %s", strerror(errno));
	(void)munmap(arena, PROXY_ARENA);
	(void)munmap(counted, sizeof(struct uplink_proxied));
	(void)close(h->fds[0]);
	(void)close(h->fds[1]);
	h->fds[0] = h->fds[1] = -1;
}
