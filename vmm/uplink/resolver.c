/*
 * The process that answers a guest's questions, for names that it may reach and no other.
 *
 * It reads what the guest and any name server send, and can do nothing but ask the server again and tell the holder. The
 * rules hold for its packets, too: a guest that took it over could ask the host's server for any name, and reach more of
 * the public internet; neither the host nor what is private (rules.h).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "uplink/dns.h"
#include "uplink/holder.h"
#include "uplink/rules.h"

#define PORT      53
#define WAITING   32U /* questions that are with the server */
#define WAIT_MS   5000
#define KNOWN     128U /* answers that are kept */
#define KNOWN_S   600U /* for so long at most: the addresses may be reached for twice as long (names.c) */
#define NOTHING_S 10U /* an answer without an address */
#define ASKERS    8U /* that wait for the same answer */
#define WRONG_MAX 8U /* answers that are none, from whomever: then the question is given up */
#define ASK_RATE                                                                                                       \
	5U /* questions a second for the server, after a burst: each has a port of the host's for three minutes */
#define ASK_BURST  128U
#define TELL_RATE  5U /* refused names a second, after a burst of 20 */
#define TELL_BURST 20U
#define BATCH      16U

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

/* So many at once, and so many a second. */
struct bucket {
	unsigned rate, burst;
	int64_t full_ms; /* when it is, or was */
};

struct resolver {
	const struct uplink_request *request;
	int guest[2], holder; /* where the guest asks by IPv4, and by IPv6: -1: not */
	struct bucket ask, tell;
	uint64_t refused; /* names */
	struct waiting {
		int fd; /* -1: free */
		struct dns_question question; /* with the number that the server has */
		unsigned wrong, naskers;
		struct asker {
			unsigned from; /* of guest[] */
			union address who;
			uint16_t id;
			bool recursion;
		} askers[ASKERS];
		int64_t end_ms;
	} waiting[WAITING];
	struct known {
		char name[DNS_NAME]; /* "": free */
		uint16_t type;
		struct dns_answer answer;
		int64_t end_ms;
	} known[KNOWN];
};

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool take(struct bucket *b, int64_t now)
{
	int64_t each = 1000 / b->rate;

	if (b->full_ms < now)
		b->full_ms = now;
	if (b->full_ms - now > each * (b->burst - 1))
		return false;
	b->full_ms += each;
	return true;
}

/* ---- the holder ---- */

/* Waits until it is done: an address must be reachable before the guest hears of it. */
static void tell(const struct resolver *r, const struct resolved *said)
{
	uint8_t done;
	ssize_t n;

	if (send(r->holder, said, sizeof(*said), MSG_NOSIGNAL) < 0)
		_exit(1);
	while ((n = recv(r->holder, &done, 1, 0)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(1);
}

/* ---- answers ---- */

static void answer(const struct resolver *r, unsigned from, const union address *who,
		   const struct dns_question *question, const struct dns_answer *what)
{
	uint8_t msg[DNS_MESSAGE];
	size_t len = dns_put_answer(msg, question, what);

	/* A guest that does not read is not waited for: it asks again. */
	(void)sendto(r->guest[from], msg, len, MSG_DONTWAIT, &who->any, from ? sizeof(who->six) : sizeof(who->four));
}

static void answer_code(const struct resolver *r, unsigned from, const union address *who,
			const struct dns_question *question, uint8_t code)
{
	const struct dns_answer none = { .code = code };

	answer(r, from, who, question, &none);
}

/* In the place of the one that ends first. */
static void know(struct resolver *r, const struct dns_question *question, const struct dns_answer *what, int64_t now)
{
	struct known *place = &r->known[0];

	for (unsigned i = 0; i < KNOWN; i++) {
		struct known *k = &r->known[i];

		if (k->type == question->type && !strcmp(k->name, question->name)) {
			place = k;
			break;
		}
		if (k->end_ms < place->end_ms)
			place = k;
	}
	*place = (struct known){ .type = question->type, .answer = *what };
	memcpy(place->name, question->name, sizeof(place->name));
	place->end_ms = now + what->ttl * 1000LL;
}

/* True: it was known, and the guest has it. */
static bool answer_known(struct resolver *r, unsigned from, const union address *who,
			 const struct dns_question *question, int64_t now)
{
	for (unsigned i = 0; i < KNOWN; i++) {
		struct known *k = &r->known[i];
		struct dns_answer what;

		if (k->end_ms <= now || k->type != question->type || strcmp(k->name, question->name) != 0)
			continue;
		what = k->answer;
		what.ttl = what.n ? (uint32_t)((k->end_ms - now) / 1000) : 0;
		answer(r, from, who, question, &what);
		return true;
	}
	return false;
}

/* ---- the server ---- */

/* Another port for each question, and another number: who did not see the question does not guess its answer. */
static int connect_server(const struct resolver *r)
{
	bool four = r->request->flags & UPLINK_DNS4;
	union address server = { .any.sa_family = four ? AF_INET : AF_INET6 };
	int fd = socket(four ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	if (four) {
		server.four.sin_port = htons(PORT);
		(void)inet_pton(AF_INET, UPLINK_PASTA4, &server.four.sin_addr);
	} else {
		server.six.sin6_port = htons(PORT);
		(void)inet_pton(AF_INET6, UPLINK_PASTA6, &server.six.sin6_addr);
	}
	if (fd >= 0 && connect(fd, &server.any, four ? sizeof(server.four) : sizeof(server.six)) < 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* To all who asked; it waits no more. */
static void settle(struct resolver *r, struct waiting *w, const struct dns_answer *what)
{
	for (unsigned i = 0; i < w->naskers; i++) {
		struct dns_question theirs = w->question;

		theirs.id = w->askers[i].id;
		theirs.recursion = w->askers[i].recursion;
		answer(r, w->askers[i].from, &w->askers[i].who, &theirs, what);
	}
	(void)close(w->fd);
	w->fd = -1;
}

static void give_up(struct resolver *r, struct waiting *w)
{
	const struct dns_answer failed = { .code = DNS_SERVFAIL };

	settle(r, w, &failed);
}

/* False: it has as many as it takes. */
static bool join(struct waiting *w, unsigned from, const union address *who, const struct dns_question *question)
{
	if (w->naskers == ASKERS)
		return false;
	w->askers[w->naskers++] =
		(struct asker){ .from = from, .who = *who, .id = question->id, .recursion = question->recursion };
	return true;
}

/* The guest asks again after some seconds, or two of its programs the same: the server is asked once. False: not now. */
static bool ask(struct resolver *r, unsigned from, const union address *who, const struct dns_question *question,
		int64_t now)
{
	struct waiting *free = NULL;
	uint8_t msg[DNS_MESSAGE];
	uint16_t id;
	size_t len;

	for (unsigned i = 0; i < WAITING; i++) {
		struct waiting *w = &r->waiting[i];

		if (w->fd < 0)
			free = w;
		else if (w->question.type == question->type && !strcmp(w->question.name, question->name))
			return join(w, from, who, question);
	}
	/* The call itself: the C library's function may map memory of its own. */
	if (!free || !take(&r->ask, now) || syscall(SYS_getrandom, &id, sizeof(id), 0) != sizeof(id))
		return false;
	*free = (struct waiting){ .fd = connect_server(r), .question = *question, .end_ms = now + WAIT_MS };
	free->question.id = id;
	if (free->fd < 0)
		return false;
	(void)join(free, from, who, question);
	len = dns_put_question(msg, &free->question);
	if (send(free->fd, msg, len, MSG_DONTWAIT) != (ssize_t)len)
		give_up(r, free);
	return true;
}

static void on_server(struct resolver *r, struct waiting *w, int64_t now)
{
	struct resolved said = { .type = w->question.type };
	uint8_t msg[DNS_MESSAGE];
	ssize_t n = recv(w->fd, msg, sizeof(msg), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* nobody serves there */
		give_up(r, w);
		return;
	}
	if (dns_parse_answer(msg, (size_t)n, &w->question, &said.answer) < 0) {
		if (++w->wrong == WRONG_MAX) /* somebody guesses */
			give_up(r, w);
		return;
	}
	if (said.answer.n) {
		memcpy(said.name, w->question.name, sizeof(said.name));
		tell(r, &said);
	}
	if (!said.answer.n)
		said.answer.ttl = NOTHING_S;
	else if (said.answer.ttl > KNOWN_S)
		said.answer.ttl = KNOWN_S;
	know(r, &w->question, &said.answer, now);
	settle(r, w, &said.answer);
}

/* ---- the guest ---- */

static bool may_ask(const struct resolver *r, const char *name)
{
	for (unsigned i = 0; i < r->request->nnames; i++)
		if (rules_name_matches(&r->request->names[i], name))
			return true;
	return false;
}

static void on_question(struct resolver *r, unsigned from, const union address *who, const uint8_t *msg, size_t len)
{
	struct dns_question question;
	int64_t now = now_ms();
	uint8_t code;
	int e = dns_parse_question(msg, len, &question, &code);
	struct resolved refused = { .type = 0, .refused = r->refused + 1 };
	bool has = question.type == DNS_A || (question.type == DNS_AAAA && r->request->flags & UPLINK_IP6);

	if (e == -EBADMSG)
		return;
	if (e < 0) {
		answer_code(r, from, who, &question, code);
	} else if (!may_ask(r, question.name)) {
		r->refused++;
		memcpy(refused.name, question.name, sizeof(refused.name));
		if (take(&r->tell, now))
			tell(r, &refused);
		answer_code(r, from, who, &question, DNS_REFUSED);
	} else if (!has) { /* it is there, and has nothing of that kind */
		answer_code(r, from, who, &question, DNS_NOERROR);
	} else if (!answer_known(r, from, who, &question, now) && !ask(r, from, who, &question, now)) {
		answer_code(r, from, who, &question, DNS_SERVFAIL);
	}
}

static void on_guest(struct resolver *r, unsigned from)
{
	uint8_t msg[DNS_MESSAGE];

	for (unsigned i = 0; i < BATCH; i++) {
		union address who = { 0 };
		socklen_t size = sizeof(who);
		ssize_t n = recvfrom(r->guest[from], msg, sizeof(msg), MSG_DONTWAIT, &who.any, &size);

		if (n < 0)
			return;
		on_question(r, from, &who, msg, (size_t)n);
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

/* Until when nothing is to be done but what comes; those whose time is over are answered. */
static int64_t expire(struct resolver *r, int64_t now)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < WAITING; i++) {
		struct waiting *w = &r->waiting[i];

		if (w->fd < 0)
			continue;
		if (w->end_ms <= now) {
			give_up(r, w);
		} else if (w->end_ms < next) {
			next = w->end_ms;
		}
	}
	return next;
}

void resolver(const struct uplink_request *request, int four, int six, int holder)
{
	static struct resolver r;

	r = (struct resolver){ .request = request,
			       .guest = { four, six },
			       .holder = holder,
			       .ask = { .rate = ASK_RATE, .burst = ASK_BURST },
			       .tell = { .rate = TELL_RATE, .burst = TELL_BURST } };
	for (unsigned i = 0; i < WAITING; i++)
		r.waiting[i].fd = -1;
	lock();
	for (;;) {
		struct pollfd fds[3 + WAITING] = { { .fd = four, .events = POLLIN },
						   { .fd = six, .events = POLLIN },
						   { .fd = holder, .events = POLLIN } };
		int64_t now = now_ms(), next = expire(&r, now);

		for (unsigned i = 0; i < WAITING; i++)
			fds[3 + i] = (struct pollfd){ .fd = r.waiting[i].fd, .events = POLLIN };
		if (poll(fds, 3 + WAITING, next == INT64_MAX ? -1 : (int)(next - now)) < 0)
			continue;
		now = now_ms();
		if (fds[2].revents) /* it says nothing unasked: it is gone */
			_exit(0);
		for (unsigned i = 0; i < WAITING; i++)
			if (fds[3 + i].revents)
				on_server(&r, &r.waiting[i], now);
		for (unsigned from = 0; from < 2; from++)
			if (fds[from].revents)
				on_guest(&r, from);
	}
}
