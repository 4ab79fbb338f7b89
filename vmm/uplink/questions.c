/* Guests' questions for names: what is with the name server, what is known, and who is answered what. */
#include "uplink/questions.h"

#include <errno.h>
#include <string.h>

#include "uplink/rules.h"

#define EACH      16U /* questions with the server, of a member's in a network */
#define WAIT_MS   5000
#define MEMBER_S  5U /* that a member's address counts: it may leave */
#define KNOWN_S   600U /* for so long at most: the addresses may be reached for twice as long (names.c) */
#define NOTHING_S 10U /* an answer without an address */
#define WRONG_MAX 8U /* answers that are none, from whomever: then the question is given up */
#define ASK_MS                                                                                                         \
	200U /* between questions for the server, after a burst: each has a port of the host's for three minutes */
#define ASK_BURST  128U
#define TELL_MS    200U /* between refused names that are told, after a burst */
#define TELL_BURST 20U

/* ---- answers ---- */

static void answer(const struct questions *q, const struct questions_from *from, const struct dns_question *question,
		   const struct dns_answer *what)
{
	uint8_t msg[DNS_MESSAGE];
	size_t len = dns_put_answer(msg, question, what);

	q->ops->answer(q->arg, from, msg, len);
}

static void answer_code(const struct questions *q, const struct questions_from *from,
			const struct dns_question *question, uint8_t code)
{
	const struct dns_answer none = { .code = code, .authoritative = q->network && code == DNS_NXDOMAIN };

	answer(q, from, question, &none);
}

/* In the place of the one that ends first. */
static void know(struct questions *q, const struct asking *of, const struct dns_question *question,
		 const struct dns_answer *what, int64_t now)
{
	struct known *place = &q->known[0];

	for (unsigned i = 0; i < QUESTIONS_KNOWN; i++) {
		struct known *k = &q->known[i];

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
static bool answer_known(struct questions *q, const struct asking *of, const struct questions_from *from,
			 const struct dns_question *question, int64_t now)
{
	for (unsigned i = 0; i < QUESTIONS_KNOWN; i++) {
		struct known *k = &q->known[i];
		struct dns_answer what;

		if (k->end_ms <= now || k->of != of || k->type != question->type ||
		    strcmp(k->name, question->name) != 0)
			continue;
		what = k->answer;
		what.ttl = what.n ? (uint32_t)((k->end_ms - now) / 1000) : 0;
		answer(q, from, question, &what);
		return true;
	}
	return false;
}

/* ---- the server ---- */

static void free_place(struct questions *q, struct waiting *w)
{
	w->of = NULL;
	q->ops->close(q->arg, (unsigned)(w - q->waiting));
}

/* To all who asked; it waits no more. */
static void settle(struct questions *q, struct waiting *w, const struct dns_answer *what)
{
	for (unsigned i = 0; i < w->naskers; i++) {
		struct dns_question theirs = w->question;

		theirs.id = w->askers[i].id;
		theirs.recursion = w->askers[i].recursion;
		answer(q, &w->askers[i].from, &theirs, what);
	}
	free_place(q, w);
}

static void give_up(struct questions *q, struct waiting *w)
{
	const struct dns_answer failed = { .code = DNS_SERVFAIL };

	settle(q, w, &failed);
}

/* The server's message, under the number of each who asked. */
static void pass_on(struct questions *q, struct waiting *w, uint8_t *msg, size_t len)
{
	for (unsigned i = 0; i < w->naskers; i++) {
		const struct asker *a = &w->askers[i];

		msg[0] = (uint8_t)(a->id >> 8);
		msg[1] = (uint8_t)a->id;
		q->ops->answer(q->arg, &a->from, msg, len);
	}
	free_place(q, w);
}

/* A member that has gone: what it asked and what it knew. */
static void forget(struct questions *q, const struct asking *of)
{
	for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
		if (q->waiting[i].of == of)
			free_place(q, &q->waiting[i]);
	for (unsigned i = 0; i < QUESTIONS_KNOWN; i++)
		if (q->known[i].of == of)
			q->known[i] = (struct known){ .end_ms = 0 };
}

/* False: it has as many as it takes. */
static bool join(struct waiting *w, const struct questions_from *from, const struct dns_question *question)
{
	if (w->naskers == QUESTIONS_ASKERS)
		return false;
	w->askers[w->naskers++] = (struct asker){ .from = *from, .id = question->id, .recursion = question->recursion };
	return true;
}

static unsigned count_of(const struct questions *q, const struct asking *of)
{
	unsigned n = 0;

	for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
		n += q->waiting[i].of == of;
	return n;
}

/* Where no place is free: that of the oldest question of the member with most, if those are more than the asker's would be. */
static struct waiting *make_room(struct questions *q, unsigned theirs)
{
	struct waiting *found = NULL;
	unsigned most = theirs + 2;

	for (unsigned i = 0; i < QUESTIONS_WAITING; i++) {
		struct waiting *w = &q->waiting[i];
		unsigned n = count_of(q, w->of);

		if (n < most || (found && n == most && w->end_ms >= found->end_ms))
			continue;
		found = w;
		most = n;
	}
	if (found)
		give_up(q, found);
	return found;
}

static bool may_take_port(struct questions *q, struct asking *of, int64_t now)
{
	return bucket_take(&of->ask, now) && (!q->network || bucket_take(&of->own, now) || bucket_take(&q->crowd, now));
}

/* The guest asks again after some seconds, or two of its programs the same: the server is asked once. False: not now. */
static bool ask(struct questions *q, struct asking *of, const struct questions_from *from,
		const struct dns_question *question, int64_t now)
{
	struct waiting *free = NULL;
	uint8_t msg[DNS_MESSAGE];
	unsigned theirs = 0;
	uint16_t id;
	size_t len;

	for (unsigned i = 0; i < QUESTIONS_WAITING; i++) {
		struct waiting *w = &q->waiting[i];

		theirs += w->of == of;
		if (!w->of)
			free = w;
		else if (w->of == of && w->question.type == question->type && !strcmp(w->question.name, question->name))
			return join(w, from, question);
	}
	if ((q->network && theirs >= EACH) || !may_take_port(q, of, now))
		return false;
	if (!free && q->network)
		free = make_room(q, theirs);
	if (!free || !q->ops->open(q->arg, (unsigned)(free - q->waiting), &id))
		return false;
	*free = (struct waiting){ .of = of, .question = *question, .end_ms = now + WAIT_MS };
	free->whole = question->type != DNS_A && question->type != DNS_AAAA;
	free->question.id = id;
	(void)join(free, from, question);
	len = dns_put_question(msg, &free->question);
	if (!q->ops->ask(q->arg, (unsigned)(free - q->waiting), msg, len))
		give_up(q, free);
	return true;
}

void questions_unserved(struct questions *q, unsigned place)
{
	if (q->waiting[place].of)
		give_up(q, &q->waiting[place]);
}

void questions_answered(struct questions *q, unsigned place, uint8_t *msg, size_t len, int64_t now)
{
	struct waiting *w = &q->waiting[place];
	const struct asking *of = w->of;
	struct resolved said = { .type = w->question.type };

	if (!of)
		return;
	said.slot = of->is.slot;
	if (dns_parse_answer(msg, len, &w->question, &said.answer) < 0) {
		if (++w->wrong == WRONG_MAX) /* somebody guesses */
			give_up(q, w);
		return;
	}
	if (w->whole) {
		pass_on(q, w, msg, len);
		return;
	}
	if (said.answer.n && of->is.deny) {
		memcpy(said.name, w->question.name, sizeof(said.name));
		q->ops->tell(q->arg, &said);
		if (!w->of) /* it left meanwhile */
			return;
	}
	if (!said.answer.n)
		said.answer.ttl = NOTHING_S;
	else if (said.answer.ttl > KNOWN_S)
		said.answer.ttl = KNOWN_S;
	know(q, of, &w->question, &said.answer, now);
	settle(q, w, &said.answer);
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
static struct asking *asking_of(struct questions *q, const struct questions_from *from)
{
	for (unsigned i = 0; q->network && i < UPLINK_MEMBERS; i++) {
		const struct names_member *m = &q->members[i].is;

		if (m->used && !(from->six ? memcmp(&from->address.six.sin6_addr, m->ip6, 16)
					   : memcmp(&from->address.four.sin_addr, m->ip4, 4)))
			return &q->members[i];
	}
	return q->network ? NULL : &q->members[0];
}

/* What the network knows by itself: its members, and that below its own name there is nothing else. True: answered. */
static bool answer_member(const struct questions *q, const struct questions_from *from,
			  const struct dns_question *question)
{
	const char *network = q->request->network, *name = question->name, *dot = strrchr(name, '.');
	struct dns_answer what = { .code = DNS_NOERROR, .authoritative = true };
	size_t len = strlen(name), tail = strlen(network);
	bool below = len > tail + 1 && name[len - tail - 1] == '.' && !strcmp(name + len - tail, network);

	if (below)
		len -= tail + 1;
	for (unsigned i = 0; (below || !dot) && i < UPLINK_MEMBERS; i++) {
		const struct names_member *m = &q->members[i].is;

		if (!m->used || strlen(m->name) != len || memcmp(m->name, name, len) != 0)
			continue;
		what.n = question->type == DNS_A || (question->type == DNS_AAAA && q->request->subnet.bits6);
		what.ttl = what.n ? MEMBER_S : 0;
		memcpy(what.addresses[0].bytes, question->type == DNS_A ? m->ip4 : m->ip6,
		       question->type == DNS_A ? 4 : 16);
		answer(q, from, question, &what);
		return true;
	}
	if (below || !(q->request->flags & (UPLINK_IP4 | UPLINK_IP6)))
		answer_code(q, from, question, DNS_NXDOMAIN);
	return below || !(q->request->flags & (UPLINK_IP4 | UPLINK_IP6));
}

static void refuse(struct questions *q, struct asking *of, const struct dns_question *question, int64_t now)
{
	struct resolved refused = { .type = 0, .slot = of->is.slot, .refused = ++of->refused };

	memcpy(refused.name, question->name, sizeof(refused.name));
	if (bucket_take(&of->tell, now))
		q->ops->tell(q->arg, &refused);
}

void questions_asked(struct questions *q, const struct questions_from *from, const uint8_t *msg, size_t len,
		     int64_t now)
{
	struct asking *of = asking_of(q, from);
	struct dns_question question;
	uint8_t code;
	int e = dns_parse_question(msg, len, &question, &code);
	bool other = question.type != DNS_A && question.type != DNS_AAAA;

	if (e == -EBADMSG || !of)
		return;
	if (e < 0) {
		answer_code(q, from, &question, code);
	} else if (q->network && answer_member(q, from, &question)) {
		return;
	} else if (!may_ask(of, question.name)) {
		refuse(q, of, &question, now);
		answer_code(q, from, &question, DNS_REFUSED);
	} else if (of->is.deny && (other || (question.type == DNS_AAAA && !(q->request->flags & UPLINK_IP6)))) {
		/* it is there, and has nothing of that kind */
		answer_code(q, from, &question, DNS_NOERROR);
	} else if (!answer_known(q, of, from, &question, now) && !ask(q, of, from, &question, now)) {
		answer_code(q, from, &question, DNS_SERVFAIL);
	}
}

/* ---- members, and time ---- */

static struct asking asking_as(const struct questions *q, const struct names_member *member)
{
	return (struct asking){ .is = *member,
				.ask = { .each_ms = ASK_MS, .burst = ASK_BURST },
				.tell = { .each_ms = TELL_MS, .burst = TELL_BURST },
				.own = bucket_own(q->servers) };
}

void questions_init(struct questions *q, const struct uplink_request *request, unsigned servers,
		    const struct questions_ops *ops, void *arg)
{
	struct names_member vm = { .deny = true, .nnames = request->nnames };

	q->request = request;
	q->ops = ops;
	q->arg = arg;
	q->network = request->flags & UPLINK_NETWORK;
	q->servers = servers;
	q->crowd = bucket_crowd(servers);
	memcpy(vm.names, request->names, sizeof(vm.names));
	if (!q->network)
		q->members[0] = asking_as(q, &vm);
}

void questions_member(struct questions *q, const struct names_member *member)
{
	struct asking *of = &q->members[member->slot];

	forget(q, of);
	*of = asking_as(q, member);
}

int64_t questions_expire(struct questions *q, int64_t now)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < QUESTIONS_WAITING; i++) {
		struct waiting *w = &q->waiting[i];

		if (!w->of)
			continue;
		if (w->end_ms <= now) {
			give_up(q, w);
		} else if (w->end_ms < next) {
			next = w->end_ms;
		}
	}
	return next;
}
