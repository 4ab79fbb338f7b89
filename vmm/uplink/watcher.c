/*
 * Of a named network: the process that reads the headers of refused packets, which guests wrote. It can do no more than
 * say what it read: the steward bounds that.
 */
#include <errno.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/caps.h"
#include "uplink/holder.h"
#include "uplink/nfnl.h"

#define LOG_FD 0
#define TO_FD  1

static void lock(void)
{
#ifndef JAIL_OMIT_SECCOMP /* sanitizers: their run-time's own calls */
	static const int calls[] = { SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(exit_group),
				     SCMP_SYS(rt_sigreturn) };
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (r < 0 || seccomp_load(filter) < 0)
		_exit(1);
	seccomp_release(filter);
#endif
}

static void watch_refusals(int log, int to) __attribute__((noreturn));

static void watch_refusals(int log, int to)
{
	uint8_t packet[4096] __attribute__((aligned(8)));
	struct uplink_refused refused;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (dup2(log, LOG_FD) < 0 || dup2(to, TO_FD) < 0 || close_range(2, ~0U, 0) < 0 || caps_drop_all() < 0)
		_exit(1);
	lock();
	for (;;) {
		ssize_t n = recv(LOG_FD, packet, sizeof(packet), 0);

		if (n < 0 && errno != ENOBUFS && errno != EINTR) /* more than it holds: they are counted all the same */
			_exit(1);
		/* What finds no room is counted all the same, too. */
		if (n > 0 && nfnl_parse_refused(packet, (size_t)n, &refused) &&
		    send(TO_FD, &refused, sizeof(refused), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			_exit(1);
	}
}

void watcher_start(struct holder *h)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		holder_fail(errno, "watcher: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		holder_fail(errno, "no process can be made: %s", strerror(errno));
	if (pid == 0)
		watch_refusals(h->log, pair[1]);
	(void)close(pair[1]);
	(void)close(h->log);
	h->log = -1;
	h->refusals = pair[0];
}
