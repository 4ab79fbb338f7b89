/*
 * The process that answers guests' questions: of a VM with names in --allow-egress for those and no other; in a named
 * network for its VMs, then as the policy of the one that asks has it. What it answers, questions.c decides.
 *
 * It reads what guests and any name server send, and can do nothing but ask the server again and tell the holder. The
 * rules hold for its packets, too: a guest that took it over could ask the host's server for any name, and reach more of
 * the public internet; neither the host nor what is private (rules.h). In a network it could answer other members.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "uplink/holder.h"
#include "uplink/questions.h"

#define PORT  53
#define BATCH 16U

struct resolver {
	const struct uplink_request *request;
	int guest[2], holder; /* where guests ask by IPv4, and by IPv6: -1: not */
	int servers[QUESTIONS_WAITING]; /* a socket each; -1: none */
	struct questions questions;
};

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the holder ---- */

/* One message of its: that it is done, or a member that comes or goes. False: there is none now. */
static bool hear(struct resolver *r, int flags, bool *ret_done)
{
	static struct names_member said;
	ssize_t n = recv(r->holder, &said, sizeof(said), flags);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	*ret_done = n == 1;
	if (n == 1)
		return true;
	if (n != (ssize_t)sizeof(said) || said.slot >= UPLINK_MEMBERS)
		_exit(n ? 1 : 0);
	questions_member(&r->questions, &said);
	return true;
}

/* Waits until it is done. */
static void tell(void *arg, const struct resolved *said)
{
	struct resolver *r = arg;
	bool done = false;

	if (send(r->holder, said, sizeof(*said), MSG_NOSIGNAL) < 0)
		_exit(1);
	while (!done)
		(void)hear(r, 0, &done);
}

/* ---- the server ---- */

static int connect_server(const struct resolver *r)
{
	bool four = r->request->flags & UPLINK_DNS4;
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} server = { .any.sa_family = four ? AF_INET : AF_INET6 };
	int fd = socket(four ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	if (four) {
		server.four.sin_port = htons(PORT);
		(void)inet_pton(AF_INET, UPLINK_PASTA4, &server.four.sin_addr);
		if (r->request->flags & UPLINK_BRIDGE)
			memcpy(&server.four.sin_addr, r->request->place.server4, 4);
	} else {
		server.six.sin6_port = htons(PORT);
		(void)inet_pton(AF_INET6, UPLINK_PASTA6, &server.six.sin6_addr);
		if (r->request->flags & UPLINK_BRIDGE)
			memcpy(&server.six.sin6_addr, r->request->place.server6, 16);
	}
	if (fd >= 0 && connect(fd, &server.any, four ? sizeof(server.four) : sizeof(server.six)) < 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static bool open_server(void *arg, unsigned place, uint16_t *ret_id)
{
	struct resolver *r = arg;

	/* The call itself: the C library's function may map memory of its own. */
	if (syscall(SYS_getrandom, ret_id, sizeof(*ret_id), 0) != sizeof(*ret_id))
		return false;
	r->servers[place] = connect_server(r);
	return r->servers[place] >= 0;
}

static bool ask_server(void *arg, unsigned place, const uint8_t *msg, size_t len)
{
	const struct resolver *r = arg;

	return send(r->servers[place], msg, len, MSG_DONTWAIT) == (ssize_t)len;
}

static void close_server(void *arg, unsigned place)
{
	struct resolver *r = arg;

	(void)close(r->servers[place]);
	r->servers[place] = -1;
}

static void on_server(struct resolver *r, unsigned place, int64_t now)
{
	uint8_t msg[DNS_MESSAGE];
	ssize_t n = recv(r->servers[place], msg, sizeof(msg), MSG_DONTWAIT);

	if (n >= 0)
		questions_answered(&r->questions, place, msg, (size_t)n, now);
	else if (errno != EAGAIN && errno != EINTR)
		questions_unserved(&r->questions, place);
}

/* ---- the guest ---- */

static void answer(void *arg, const struct questions_from *to, const uint8_t *msg, size_t len)
{
	const struct resolver *r = arg;

	(void)sendto(r->guest[to->six], msg, len, MSG_DONTWAIT, &to->address.any,
		     to->six ? sizeof(to->address.six) : sizeof(to->address.four));
}

static void on_guest(struct resolver *r, bool six)
{
	uint8_t msg[DNS_MESSAGE];

	for (unsigned i = 0; i < BATCH; i++) {
		struct questions_from from = { .six = six };
		socklen_t size = sizeof(from.address);
		ssize_t n = recvfrom(r->guest[six], msg, sizeof(msg), MSG_DONTWAIT, &from.address.any, &size);

		if (n < 0)
			return;
		questions_asked(&r->questions, &from, msg, (size_t)n, now_ms());
	}
}

/* ---- the process ---- */

static void lock(void)
{
#ifndef JAIL_OMIT_SECCOMP /* sanitizers: their run-time's own calls */
	static const int calls[] = {
		SCMP_SYS(poll),         SCMP_SYS(ppoll),           SCMP_SYS(recvfrom),   SCMP_SYS(sendto),
		SCMP_SYS(connect),      SCMP_SYS(close),           SCMP_SYS(getrandom),  SCMP_SYS(clock_gettime),
		SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(exit_group),
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	for (unsigned i = 0; r == 0 && i < 2; i++) {
		const struct scmp_arg_cmp args[] = {
			{ 0, SCMP_CMP_EQ, i ? AF_INET6 : AF_INET, 0 },
			{ 1, SCMP_CMP_EQ, SOCK_DGRAM | SOCK_NONBLOCK, 0 },
			{ 2, SCMP_CMP_EQ, 0, 0 },
		};

		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3, args);
	}
	if (r < 0 || seccomp_load(filter) < 0)
		_exit(1);
	seccomp_release(filter);
#endif
}

void resolver(const struct uplink_request *request, unsigned servers, int four, int six, int holder)
{
	static const struct questions_ops ops = { answer, open_server, ask_server, close_server, tell };
	static struct resolver r;

	r.request = request;
	r.guest[0] = four;
	r.guest[1] = six;
	r.holder = holder;
	for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
		r.servers[i] = -1;
	questions_init(&r.questions, request, servers, &ops, &r);
	lock();
	for (;;) {
		struct pollfd fds[3 + QUESTIONS_WAITING] = { { .fd = four, .events = POLLIN },
							     { .fd = six, .events = POLLIN },
							     { .fd = holder, .events = POLLIN } };
		int64_t now = now_ms(), next = questions_expire(&r.questions, now);
		bool done = false;

		for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
			fds[3 + i] = (struct pollfd){ .fd = r.servers[i], .events = POLLIN };
		if (poll(fds, 3 + QUESTIONS_WAITING, next == INT64_MAX ? -1 : (int)(next - now)) < 0)
			continue;
		now = now_ms();
		for (unsigned i = 0; fds[2].revents && i < BATCH && hear(&r, MSG_DONTWAIT, &done); i++)
			if (done) /* unasked: it is none of ours */
				_exit(1);
		for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
			if (fds[3 + i].revents && r.servers[i] >= 0) /* its member may just have left */
				on_server(&r, i, now);
		for (unsigned from = 0; from < 2; from++)
			if (fds[from].revents)
				on_guest(&r, from);
	}
}
