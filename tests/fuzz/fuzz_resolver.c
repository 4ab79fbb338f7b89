/*
 * Guests' questions, and what strangers answer: a program of questions and answers, right ones and any bytes, of members
 * that come and go, and of time. Each question comes from a port of its own: it is answered once, and at that port.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "uplink/questions.h"
#include "uplink/rules.h"

#define MEMBERS 8U
#define EACH    16U /* questions of a member's with the server */
#define STEPS   2000U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = { "example.org", "a.example.net", "b.example.net", "example.net", "example.com",
				     "vm1",         "vm1.back",      "vm9.back",      "back",        "" };

#define NAMES (sizeof(names) / sizeof(names[0]))

static struct questions q;
static struct uplink_request request;
static bool open_places[QUESTIONS_WAITING], broken, mute;
static struct dns_question with_server[QUESTIONS_WAITING];
static unsigned lives[MEMBERS]; /* how often it was another's */
static int64_t now;

/* By port: what was asked there. */
static struct asked {
	unsigned slot, life, answers;
	bool must; /* it is a question, of who was there */
	struct dns_question question;
} asked[STEPS];
static unsigned nasked;
static bool asking; /* one just now */
static unsigned said; /* answers, but for those that say that there is none */

/* What was let in. */
static struct told {
	unsigned slot, life;
	uint16_t type;
	char name[DNS_NAME];
} told[STEPS];
static unsigned ntold;

static struct names_member during_tell; /* used 2: none comes or goes while the holder is told */

static bool in_network(void)
{
	return request.flags & UPLINK_NETWORK;
}

static void on_answer(void *arg, const struct questions_from *to, const uint8_t *msg, size_t len)
{
	unsigned port = ntohs(to->six ? to->address.six.sin6_port : to->address.four.sin_port);
	struct dns_answer answer;
	struct asked *a = &asked[port];
	bool known = false;

	(void)arg;
	if (len < 12 || len > DNS_MESSAGE || port >= nasked || !a->must || a->answers++ ||
	    (msg[0] << 8 | msg[1]) != a->question.id)
		abort();
	said += (msg[3] & 0xf) != DNS_SERVFAIL;
	if (a->life != lives[a->slot] && !asking) /* that one's question is for nobody any more */
		abort();
	if (!q.members[a->slot].is.deny || dns_parse_answer(msg, len, &a->question, &answer) < 0 || !answer.n)
		return;
	for (unsigned i = 0; i < ntold && !known; i++)
		known = told[i].slot == a->slot && told[i].life == a->life && told[i].type == a->question.type &&
			!strcmp(told[i].name, a->question.name);
	/* a member's address is its own, and may be reached */
	if (answer.ttl > 600 || (!known && !(in_network() && answer.n == 1 && answer.ttl == 5)))
		abort();
}

static bool on_open(void *arg, unsigned place, uint16_t *ret_id)
{
	static uint16_t number;

	(void)arg;
	if (place >= QUESTIONS_WAITING || open_places[place])
		abort();
	*ret_id = ++number;
	open_places[place] = !broken;
	return !broken;
}

static bool on_ask(void *arg, unsigned place, const uint8_t *msg, size_t len)
{
	const struct asking *of = q.waiting[place].of;
	bool may = of && !of->is.deny;
	uint8_t code;

	(void)arg;
	if (!open_places[place] || !of || dns_parse_question(msg, len, &with_server[place], &code) < 0)
		abort();
	for (unsigned i = 0; !may && i < of->is.nnames; i++)
		may = rules_name_matches(&of->is.names[i], with_server[place].name);
	if (!may)
		abort();
	return !mute;
}

static void on_close(void *arg, unsigned place)
{
	(void)arg;
	if (place >= QUESTIONS_WAITING || !open_places[place])
		abort();
	open_places[place] = false;
}

static void change(const struct names_member *member)
{
	lives[member->slot]++;
	questions_member(&q, member);
}

static void on_tell(void *arg, const struct resolved *what)
{
	(void)arg;
	if (what->slot >= MEMBERS || !memchr(what->name, '\0', sizeof(what->name)) || ntold == STEPS ||
	    (what->type && (what->type != DNS_A && what->type != DNS_AAAA)) || !what->type != !what->answer.n ||
	    !q.members[what->slot].is.deny)
		abort();
	if (what->type) {
		told[ntold] = (struct told){ .slot = what->slot, .life = lives[what->slot], .type = what->type };
		memcpy(told[ntold++].name, what->name, sizeof(what->name));
	}
	if (in_network() && during_tell.used < 2)
		change(&during_tell);
	during_tell.used = 2;
}

static const struct questions_ops ops = { on_answer, on_open, on_ask, on_close, on_tell };

/* ---- the program ---- */

static const uint8_t *at, *end;

static unsigned next(void)
{
	return at < end ? *at++ : 0;
}

/* So many bytes, with an end that ASan knows. */
static uint8_t *take(size_t most, size_t *ret_len)
{
	size_t len = next() % (most + 1), left = (size_t)(end - at);
	uint8_t *copy;

	len = len < left ? len : left;
	copy = malloc(len ? len : 1);
	if (!copy)
		abort();
	memcpy(copy, at, len);
	at += len;
	*ret_len = len;
	return copy;
}

static struct names_member member(void)
{
	unsigned what = next();
	struct names_member m = { .slot = what % MEMBERS, .used = what & 0x10 ? 1 : 0, .deny = what >> 5 & 1 };

	m.name[0] = 'v';
	m.name[1] = 'm';
	m.name[2] = (char)('0' + m.slot);
	m.ip4[0] = 10;
	m.ip4[3] = (uint8_t)(2 + m.slot);
	m.ip6[0] = 0xfd;
	m.ip6[15] = m.ip4[3];
	m.nnames = 2;
	memcpy(m.names[0].name, names[0], strlen(names[0]));
	memcpy(m.names[1].name, names[3], strlen(names[3]));
	m.names[1].below = 1;
	return m;
}

static void set_up(unsigned kind)
{
	memset(q.members, 0, MEMBERS * sizeof(q.members[0]));
	memset(q.waiting, 0, sizeof(q.waiting));
	memset(q.known, 0, sizeof(q.known));
	memset(open_places, 0, sizeof(open_places));
	memset(lives, 0, sizeof(lives));
	nasked = ntold = 0;
	now = 1000000;
	broken = mute = false;
	during_tell.used = 2;
	request = (struct uplink_request){ .network = "back", .nnames = 2, .subnet.bits6 = kind & 4 ? 64 : 0 };
	request.flags = UPLINK_DNS4 | (kind & 1 ? UPLINK_NETWORK : UPLINK_DENY) | (kind & 2 ? UPLINK_IP4 : 0) |
			(kind & 4 ? UPLINK_IP6 : 0);
	memcpy(request.names[0].name, names[0], strlen(names[0]));
	memcpy(request.names[1].name, names[3], strlen(names[3]));
	request.names[1].below = 1;
	questions_init(&q, &request, kind & 8 ? 8192 : 2032, &ops, NULL);
}

static void ask(unsigned who, const uint8_t *msg, size_t len)
{
	struct questions_from from = { .six = who & 0x80 };
	struct asked *a = &asked[nasked];
	uint8_t code;

	*a = (struct asked){ .slot = in_network() ? who % MEMBERS : 0 };
	a->life = lives[a->slot];
	a->must = dns_parse_question(msg, len, &a->question, &code) != -EBADMSG &&
		  (!in_network() || q.members[a->slot].is.used);
	if (from.six) {
		from.address.six.sin6_port = htons((uint16_t)nasked);
		from.address.six.sin6_addr.s6_addr[0] = 0xfd;
		from.address.six.sin6_addr.s6_addr[15] = (uint8_t)(2 + who % MEMBERS);
	} else {
		from.address.four.sin_port = htons((uint16_t)nasked);
		from.address.four.sin_addr.s_addr = htonl(0x0a000002 + who % MEMBERS);
	}
	nasked++;
	asking = true;
	questions_asked(&q, &from, msg, len, now);
	asking = false;
}

static void ask_well(void)
{
	unsigned who = next(), what = next();
	static const uint16_t types[] = { DNS_A, DNS_AAAA, 15, DNS_A };
	struct dns_question question = { .id = (uint16_t)(what * 257),
					 .type = types[what >> 6],
					 .recursion = what & 1 };
	uint8_t msg[DNS_MESSAGE];

	if (what % 16 < NAMES) {
		memcpy(question.name, names[what % 16], strlen(names[what % 16]));
	} else { /* one of many */
		memcpy(question.name, "x00.example.net", 15);
		question.name[1] = (char)('a' + next() % 26);
		question.name[2] = (char)('a' + now % 26);
	}
	ask(who, msg, dns_put_question(msg, &question));
}

static void answer_well(void)
{
	unsigned place = next() % QUESTIONS_WAITING, what = next();
	struct dns_answer answer = { .n = what % 4, .ttl = what >> 2 & 1 ? 5000 : 30 };
	struct dns_question question = with_server[place];
	uint8_t msg[DNS_MESSAGE];
	bool wrong = false;
	unsigned before = said;

	switch (what >> 4) {
	case 0:
		question.id ^= (uint16_t)(1 + next());
		wrong = true;
		break;
	case 1:
		question.type = question.type == DNS_A ? DNS_AAAA : DNS_A;
		wrong = true;
		break;
	case 2:
		question.name[0] ^= 1;
		wrong = question.name[0] != 1;
		break;
	case 3:
		answer.code = DNS_NXDOMAIN;
		answer.n = 0;
		break;
	default:
		break;
	}
	questions_answered(&q, place, msg, dns_put_answer(msg, &question, &answer), now);
	if (wrong && said != before)
		abort();
}

static void answer_badly(void)
{
	unsigned place = next() % QUESTIONS_WAITING;
	size_t len;
	uint8_t *msg = take(255, &len);

	if (len > 2 && msg[0] & 1) { /* right, as far as its number */
		msg[0] = (uint8_t)(with_server[place].id >> 8);
		msg[1] = (uint8_t)with_server[place].id;
	}
	questions_answered(&q, place, msg, len, now);
	free(msg);
}

static void ask_badly(void)
{
	unsigned who = next();
	size_t len;
	uint8_t *msg = take(255, &len);

	ask(who, msg, len);
	free(msg);
}

static void step(void)
{
	unsigned op = next();
	struct names_member m;

	switch (op % 10) {
	case 0:
		ask_badly();
		break;
	case 1:
	case 2:
		ask_well();
		break;
	case 3:
	case 4:
		answer_well();
		break;
	case 5:
		answer_badly();
		break;
	case 6:
		questions_unserved(&q, next() % QUESTIONS_WAITING);
		break;
	case 7:
		now += (int64_t)next() << op / 16 % 12;
		(void)questions_expire(&q, now);
		break;
	case 8:
		m = member();
		if (in_network() && op & 0x80)
			during_tell = m;
		else if (in_network())
			change(&m);
		break;
	default:
		broken = op & 0x10;
		mute = op & 0x20;
		break;
	}
}

static void check(void)
{
	unsigned of[MEMBERS] = { 0 };

	for (unsigned i = 0; i < QUESTIONS_WAITING; i++) {
		const struct waiting *w = &q.waiting[i];

		if (!w->of != !open_places[i])
			abort();
		if (w->of && (w->naskers == 0 || w->naskers > QUESTIONS_ASKERS || ++of[w->of - q.members] > 64))
			abort();
	}
	for (unsigned i = 0; in_network() && i < MEMBERS; i++)
		if (of[i] > EACH)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	at = data;
	end = data + size;
	set_up(next());
	for (unsigned i = 0; at < end && i < STEPS; i++) {
		step();
		check();
	}
	now += 5000;
	if (questions_expire(&q, now) != INT64_MAX)
		abort();
	check();
	/* nobody is left without an answer who is still there */
	for (unsigned i = 0; i < nasked; i++)
		if (asked[i].must && asked[i].life == lives[asked[i].slot] && !asked[i].answers)
			abort();
	return 0;
}
