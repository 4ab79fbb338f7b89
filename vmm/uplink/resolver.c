/*
 * The process that answers guests' questions: of a VM with names in --allow-egress for those and no other; in a named
 * network for its VMs, then as the policy of the one that asks has it.
 *
 * It reads what guests and any name server send, and can do nothing but ask the server again and tell the holder. The
 * rules hold for its packets, too: a guest that took it over could ask the host's server for any name, and reach more of
 * the public internet; neither the host nor what is private (rules.h). In a network it could answer other members.
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

#include "uplink/bucket.h"
#include "uplink/dns.h"
#include "uplink/holder.h"
#include "uplink/rules.h"

#define PORT      53
#define WAITING   RESOLVER_WAITING /* questions that are with the server */
#define EACH      16U /* … a member's in a network */
#define WAIT_MS   5000
#define KNOWN     128U /* answers that are kept */
#define MEMBER_S  5U /* that a member's address counts: it may leave */
#define KNOWN_S   600U /* for so long at most: the addresses may be reached for twice as long (names.c) */
#define NOTHING_S 10U /* an answer without an address */
#define ASKERS    8U /* that wait for the same answer */
#define WRONG_MAX 8U /* answers that are none, from whomever: then the question is given up */
#define ASK_MS                                                                                                         \
	200U /* between questions for the server, after a burst: each has a port of the host's for three minutes */
#define ASK_BURST  128U
#define TELL_MS    200U /* between refused names that are told, after a burst */
#define TELL_BURST 20U
#define BATCH      16U

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

struct resolver {
	const struct uplink_request *request;
	bool network;
	unsigned servers; /* ports, of a network, for all members */
	struct bucket crowd; /* … for those who have used up their own */
	int guest[2], holder; /* where guests ask by IPv4, and by IPv6: -1: not */
	struct asking {
		struct names_member is;
		struct bucket ask, tell, own; /* own: of the ports, in a network */
		uint64_t refused; /* names */
	} members[UPLINK_MEMBERS]; /* without a network the first is the VM */
	struct waiting {
		int fd; /* -1: free */
		const struct asking *of;
		bool whole; /* the server's message goes to who asked, for it is of a type that nobody here reads */
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
		const struct asking *of; /* whose sets have the addresses */
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

/* ---- the holder ---- */

static void forget(struct resolver *r, const struct asking *of);

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
	forget(r, &r->members[said.slot]);
	r->members[said.slot] = (struct asking){ .is = said,
						 .ask = { .each_ms = ASK_MS, .burst = ASK_BURST },
						 .tell = { .each_ms = TELL_MS, .burst = TELL_BURST },
						 .own = bucket_own(r->servers) };
	return true;
}

/* Waits until it is done: an address must be reachable before the guest hears of it. */
static void tell(struct resolver *r, const struct resolved *said)
{
	bool done = false;

	if (send(r->holder, said, sizeof(*said), MSG_NOSIGNAL) < 0)
		_exit(1);
	while (!done)
		(void)hear(r, 0, &done);
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
	const struct dns_answer none = { .code = code, .authoritative = r->network && code == DNS_NXDOMAIN };

	answer(r, from, who, question, &none);
}

/* In the place of the one that ends first. */
static void know(struct resolver *r, const struct asking *of, const struct dns_question *question,
		 const struct dns_answer *what, int64_t now)
{
	struct known *place = &r->known[0];

	for (unsigned i = 0; i < KNOWN; i++) {
		struct known *k = &r->known[i];

		if (k->of == of && k->type == question->type && !strcmp(k->name, question->name)) {
			place = k;
			break;
		}
		if (k->end_ms < place->end_ms)
			place = k;
	}
	*place = (struct known){ .of = of, .type = question->type, .answer = *what };
	memcpy(place->name, question->name, sizeof(place->name));
	place->end_ms = now + what->ttl * 1000LL;
}

/* True: it was known, and the guest has it. */
static bool answer_known(struct resolver *r, const struct asking *of, unsigned from, const union address *who,
			 const struct dns_question *question, int64_t now)
{
	for (unsigned i = 0; i < KNOWN; i++) {
		struct known *k = &r->known[i];
		struct dns_answer what;

		if (k->end_ms <= now || k->of != of || k->type != question->type ||
		    strcmp(k->name, question->name) != 0)
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

/* The server's message, under the number of each who asked. */
static void pass_on(struct resolver *r, struct waiting *w, uint8_t *msg, size_t len)
{
	for (unsigned i = 0; i < w->naskers; i++) {
		const struct asker *a = &w->askers[i];

		msg[0] = (uint8_t)(a->id >> 8);
		msg[1] = (uint8_t)a->id;
		(void)sendto(r->guest[a->from], msg, len, MSG_DONTWAIT, &a->who.any,
			     a->from ? sizeof(a->who.six) : sizeof(a->who.four));
	}
	(void)close(w->fd);
	w->fd = -1;
}

/* A member that has gone: what it asked and what it knew. */
static void forget(struct resolver *r, const struct asking *of)
{
	for (unsigned i = 0; i < WAITING; i++) {
		struct waiting *w = &r->waiting[i];

		if (w->fd < 0 || w->of != of)
			continue;
		(void)close(w->fd);
		w->fd = -1;
	}
	for (unsigned i = 0; i < KNOWN; i++)
		if (r->known[i].of == of)
			r->known[i] = (struct known){ .end_ms = 0 };
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

static unsigned count_of(const struct resolver *r, const struct asking *of)
{
	unsigned n = 0;

	for (unsigned i = 0; i < WAITING; i++)
		n += r->waiting[i].fd >= 0 && r->waiting[i].of == of;
	return n;
}

/* Where no place is free: that of the oldest question of the member with most, if those are more than the asker's would be. */
static struct waiting *make_room(struct resolver *r, unsigned theirs)
{
	struct waiting *found = NULL;
	unsigned most = theirs + 2;

	for (unsigned i = 0; i < WAITING; i++) {
		struct waiting *w = &r->waiting[i];
		unsigned n = count_of(r, w->of);

		if (n < most || (found && n == most && w->end_ms >= found->end_ms))
			continue;
		found = w;
		most = n;
	}
	if (found)
		give_up(r, found);
	return found;
}

static bool may_take_port(struct resolver *r, struct asking *of, int64_t now)
{
	return bucket_take(&of->ask, now) && (!r->network || bucket_take(&of->own, now) || bucket_take(&r->crowd, now));
}

/* The guest asks again after some seconds, or two of its programs the same: the server is asked once. False: not now. */
static bool ask(struct resolver *r, struct asking *of, unsigned from, const union address *who,
		const struct dns_question *question, int64_t now)
{
	struct waiting *free = NULL;
	uint8_t msg[DNS_MESSAGE];
	unsigned theirs = 0;
	uint16_t id;
	size_t len;

	for (unsigned i = 0; i < WAITING; i++) {
		struct waiting *w = &r->waiting[i];

		theirs += w->fd >= 0 && w->of == of;
		if (w->fd < 0)
			free = w;
		else if (w->of == of && w->question.type == question->type && !strcmp(w->question.name, question->name))
			return join(w, from, who, question);
	}
	if ((r->network && theirs >= EACH) || !may_take_port(r, of, now))
		return false;
	if (!free && r->network)
		free = make_room(r, theirs);
	/* The call itself: the C library's function may map memory of its own. */
	if (!free || syscall(SYS_getrandom, &id, sizeof(id), 0) != sizeof(id))
		return false;
	*free = (struct waiting){ .fd = connect_server(r), .of = of, .question = *question, .end_ms = now + WAIT_MS };
	free->whole = question->type != DNS_A && question->type != DNS_AAAA;
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
	struct resolved said = { .type = w->question.type, .slot = w->of->is.slot };
	const struct asking *of = w->of;
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
	if (w->whole) {
		pass_on(r, w, msg, (size_t)n);
		return;
	}
	if (said.answer.n && of->is.deny) {
		memcpy(said.name, w->question.name, sizeof(said.name));
		tell(r, &said);
		if (w->fd < 0) /* it left meanwhile */
			return;
	}
	if (!said.answer.n)
		said.answer.ttl = NOTHING_S;
	else if (said.answer.ttl > KNOWN_S)
		said.answer.ttl = KNOWN_S;
	know(r, of, &w->question, &said.answer, now);
	settle(r, w, &said.answer);
}

/* ---- the guest ---- */

static bool may_ask(const struct asking *of, const char *name)
{
	bool may = !of->is.deny;

	for (unsigned i = 0; !may && i < of->is.nnames && i < UPLINK_NAMES; i++)
		may = rules_name_matches(&of->is.names[i], name);
	return may;
}

/* Who that is, by an address that the rules let no other member have. NULL: one that has just left. */
static struct asking *asking_of(struct resolver *r, unsigned from, const union address *who)
{
	for (unsigned i = 0; r->network && i < UPLINK_MEMBERS; i++) {
		const struct names_member *m = &r->members[i].is;

		if (m->used &&
		    !(from ? memcmp(&who->six.sin6_addr, m->ip6, 16) : memcmp(&who->four.sin_addr, m->ip4, 4)))
			return &r->members[i];
	}
	return r->network ? NULL : &r->members[0];
}

/* What the network knows by itself: its members, and that below its own name there is nothing else. True: answered. */
static bool answer_member(const struct resolver *r, unsigned from, const union address *who,
			  const struct dns_question *question)
{
	const char *network = r->request->network, *name = question->name, *dot = strrchr(name, '.');
	struct dns_answer what = { .code = DNS_NOERROR, .authoritative = true };
	size_t len = strlen(name), tail = strlen(network);
	bool below = len > tail + 1 && name[len - tail - 1] == '.' && !strcmp(name + len - tail, network);

	if (below)
		len -= tail + 1;
	for (unsigned i = 0; (below || !dot) && i < UPLINK_MEMBERS; i++) {
		const struct names_member *m = &r->members[i].is;

		if (!m->used || strlen(m->name) != len || memcmp(m->name, name, len) != 0)
			continue;
		what.n = question->type == DNS_A || (question->type == DNS_AAAA && r->request->subnet.bits6);
		what.ttl = what.n ? MEMBER_S : 0;
		memcpy(what.addresses[0].bytes, question->type == DNS_A ? m->ip4 : m->ip6,
		       question->type == DNS_A ? 4 : 16);
		answer(r, from, who, question, &what);
		return true;
	}
	if (below || !(r->request->flags & (UPLINK_IP4 | UPLINK_IP6)))
		answer_code(r, from, who, question, DNS_NXDOMAIN);
	return below || !(r->request->flags & (UPLINK_IP4 | UPLINK_IP6));
}

static void refuse(struct resolver *r, struct asking *of, const struct dns_question *question, int64_t now)
{
	struct resolved refused = { .type = 0, .slot = of->is.slot, .refused = ++of->refused };

	memcpy(refused.name, question->name, sizeof(refused.name));
	if (bucket_take(&of->tell, now))
		tell(r, &refused);
}

static void on_question(struct resolver *r, unsigned from, const union address *who, const uint8_t *msg, size_t len)
{
	struct asking *of = asking_of(r, from, who);
	struct dns_question question;
	int64_t now = now_ms();
	uint8_t code;
	int e = dns_parse_question(msg, len, &question, &code);
	bool other = question.type != DNS_A && question.type != DNS_AAAA;

	if (e == -EBADMSG || !of)
		return;
	if (e < 0) {
		answer_code(r, from, who, &question, code);
	} else if (r->network && answer_member(r, from, who, &question)) {
		return;
	} else if (!may_ask(of, question.name)) {
		refuse(r, of, &question, now);
		answer_code(r, from, who, &question, DNS_REFUSED);
	} else if (of->is.deny && (other || (question.type == DNS_AAAA && !(r->request->flags & UPLINK_IP6)))) {
		/* it is there, and has nothing of that kind */
		answer_code(r, from, who, &question, DNS_NOERROR);
	} else if (!answer_known(r, of, from, who, &question, now) && !ask(r, of, from, who, &question, now)) {
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

void resolver(const struct uplink_request *request, unsigned servers, int four, int six, int holder)
{
	static struct resolver r;

	r.request = request;
	r.network = request->flags & UPLINK_NETWORK;
	r.guest[0] = four;
	r.guest[1] = six;
	r.holder = holder;
	r.servers = servers;
	r.crowd = bucket_crowd(servers);
	if (!r.network) {
		r.members[0].ask = (struct bucket){ .each_ms = ASK_MS, .burst = ASK_BURST };
		r.members[0].tell = (struct bucket){ .each_ms = TELL_MS, .burst = TELL_BURST };
		r.members[0].is = (struct names_member){ .deny = true, .nnames = request->nnames };
		memcpy(r.members[0].is.names, request->names, sizeof(request->names));
	}
	for (unsigned i = 0; i < WAITING; i++)
		r.waiting[i].fd = -1;
	lock();
	for (;;) {
		struct pollfd fds[3 + WAITING] = { { .fd = four, .events = POLLIN },
						   { .fd = six, .events = POLLIN },
						   { .fd = holder, .events = POLLIN } };
		int64_t now = now_ms(), next = expire(&r, now);
		bool done = false;

		for (unsigned i = 0; i < WAITING; i++)
			fds[3 + i] = (struct pollfd){ .fd = r.waiting[i].fd, .events = POLLIN };
		if (poll(fds, 3 + WAITING, next == INT64_MAX ? -1 : (int)(next - now)) < 0)
			continue;
		now = now_ms();
		for (unsigned i = 0; fds[2].revents && i < BATCH && hear(&r, MSG_DONTWAIT, &done); i++)
			if (done) /* unasked: it is none of ours */
				_exit(1);
		for (unsigned i = 0; i < WAITING; i++)
			if (fds[3 + i].revents)
				on_server(&r, &r.waiting[i], now);
		for (unsigned from = 0; from < 2; from++)
			if (fds[from].revents)
				on_guest(&r, from);
	}
}
