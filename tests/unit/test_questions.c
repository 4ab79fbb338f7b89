/* Guests' questions: who is answered what, what strangers answer, what is kept, and what one member can cost another. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "uplink/questions.h"

#define SERVERS 8192U /* ports of the host's: each member has 8 at once, and all together 1024 */
#define START   1000000
#define EACH    16U /* questions of a member's with the server */

/* What the state had done, beside the server's places. */
struct far {
	struct questions *q;
	struct uplink_request request;
	bool open[QUESTIONS_WAITING], broken, mute; /* no socket is to be had; none takes a message */
	struct dns_question asked[QUESTIONS_WAITING];
	unsigned opened, answers, tells, last; /* last: the place that was asked last */
	struct dns_answer answer; /* the last one, and to whom */
	struct dns_question of;
	struct questions_from to;
	uint8_t message[DNS_MESSAGE];
	size_t len;
	unsigned answers_before; /* the last that was told */
	struct resolved told;
	const struct names_member *leaves; /* while it is told something */
};

static void on_answer(void *arg, const struct questions_from *to, const uint8_t *msg, size_t len)
{
	struct far *f = arg;

	f->answers++;
	f->to = *to;
	f->len = len;
	memcpy(f->message, msg, len);
	f->of.id = (uint16_t)(msg[0] << 8 | msg[1]);
	memset(&f->answer, 0, sizeof(f->answer));
	f->answer.code = msg[3] & 0xf;
}

static bool on_open(void *arg, unsigned place, uint16_t *ret_id)
{
	struct far *f = arg;

	assert_true(place < QUESTIONS_WAITING && !f->open[place]);
	*ret_id = (uint16_t)(0x4000 + f->opened);
	f->open[place] = !f->broken;
	f->opened += !f->broken;
	return !f->broken;
}

static bool on_ask(void *arg, unsigned place, const uint8_t *msg, size_t len)
{
	struct far *f = arg;
	uint8_t code;

	assert_true(f->open[place]);
	assert_int_equal(dns_parse_question(msg, len, &f->asked[place], &code), 0);
	f->last = place;
	return !f->mute;
}

static void on_close(void *arg, unsigned place)
{
	struct far *f = arg;

	assert_true(f->open[place]);
	f->open[place] = false;
}

static void on_tell(void *arg, const struct resolved *said)
{
	struct far *f = arg;

	f->tells++;
	f->told = *said;
	f->answers_before = f->answers;
	if (f->leaves)
		questions_member(f->q, f->leaves);
}

static const struct questions_ops ops = { on_answer, on_open, on_ask, on_close, on_tell };

static int set_up(void **state)
{
	struct far *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->q = calloc(1, sizeof(*f->q));
	assert_non_null(f->q);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct far *f = *state;

	free(f->q);
	free(f);
	return 0;
}

static void name_it(struct uplink_name *name, const char *text)
{
	assert_true(dns_name(text, name->name));
}

static struct far *of_a_vm(void **state)
{
	struct far *f = *state;

	f->request.flags = UPLINK_IP4 | UPLINK_IP6 | UPLINK_DENY | UPLINK_DNS4;
	f->request.nnames = 2;
	name_it(&f->request.names[0], "example.org");
	name_it(&f->request.names[1], "example.net");
	f->request.names[1].below = 1;
	questions_init(f->q, &f->request, 0, &ops, f);
	return f;
}

static struct names_member member(unsigned slot, const char *name)
{
	struct names_member m = { .slot = slot, .used = 1 };

	m.ip4[0] = 10;
	m.ip4[3] = (uint8_t)(2 + slot);
	m.ip6[0] = 0xfd;
	m.ip6[15] = (uint8_t)(2 + slot);
	(void)snprintf(m.name, sizeof(m.name), "%s", name);
	return m;
}

static struct far *of_a_network(void **state, unsigned servers, unsigned members)
{
	struct far *f = *state;

	f->request.flags = UPLINK_NETWORK | UPLINK_IP4 | UPLINK_IP6 | UPLINK_DNS4;
	f->request.subnet.bits6 = 64;
	(void)snprintf(f->request.network, sizeof(f->request.network), "back");
	questions_init(f->q, &f->request, servers, &ops, f);
	for (unsigned i = 0; i < members; i++) {
		char name[16];
		struct names_member m;

		(void)snprintf(name, sizeof(name), "vm%u", i);
		m = member(i, name);
		questions_member(f->q, &m);
	}
	return f;
}

static struct questions_from from_slot(unsigned slot, uint16_t port)
{
	struct questions_from from = { .address.four = { .sin_family = AF_INET,
							 .sin_port = htons(port),
							 .sin_addr.s_addr = htonl(0x0a000002 + slot) } };

	return from;
}

/* How many answers came of it. */
static unsigned ask_at(struct far *f, unsigned slot, uint16_t id, uint16_t type, const char *name, int64_t now)
{
	struct dns_question question = { .id = id, .type = type, .recursion = true };
	struct questions_from from = from_slot(slot, id);
	unsigned before = f->answers;
	uint8_t msg[DNS_MESSAGE];

	assert_true(dns_name(name, question.name));
	questions_asked(f->q, &from, msg, dns_put_question(msg, &question), now);
	return f->answers - before;
}

/* What a server says to what was asked at a place. */
static void serve(struct far *f, unsigned place, const struct dns_question *question, unsigned n, uint32_t ttl,
		  int64_t now)
{
	struct dns_answer answer = { .n = n, .ttl = ttl };
	uint8_t msg[DNS_MESSAGE];
	size_t len;

	for (unsigned i = 0; i < n; i++)
		answer.addresses[i].bytes[0] = (uint8_t)(203 + i);
	len = dns_put_answer(msg, question, &answer);
	questions_answered(f->q, place, msg, len, now);
}

/* The last answer that a guest got is one to that name, with so many addresses. Its ttl. */
static uint32_t has(struct far *f, uint16_t id, uint16_t type, const char *name, unsigned n)
{
	struct dns_question question = { .id = id, .type = type };
	struct dns_answer answer;

	assert_true(dns_name(name, question.name));
	assert_int_equal(dns_parse_answer(f->message, f->len, &question, &answer), 0);
	assert_int_equal(answer.code, DNS_NOERROR);
	assert_int_equal(answer.n, n);
	assert_int_equal(ntohs(f->to.address.four.sin_port), id);
	return answer.ttl;
}

static unsigned open_places(const struct far *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
		n += f->open[i];
	return n;
}

/* ---- of a VM ---- */

static void test_named(void **state)
{
	static const struct {
		const char *name;
		uint16_t type;
		int code; /* -1: the server is asked */
	} cases[] = {
		{ "example.org", DNS_A, -1 },
		{ "example.org", DNS_AAAA, -1 },
		{ "a.example.net", DNS_A, -1 },
		{ "example.net", DNS_A, DNS_REFUSED },
		{ "a.example.org", DNS_A, DNS_REFUSED },
		{ "notexample.org", DNS_A, DNS_REFUSED },
		{ "example.org", 15, DNS_NOERROR }, /* what an MX names is no address of its */
		{ "example.com", 15, DNS_REFUSED },
	};
	struct far *f = of_a_vm(state);

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned opened = f->opened, tells = f->tells;
		unsigned answers = ask_at(f, 0, (uint16_t)(100 + i), cases[i].type, cases[i].name, START);
		bool asked = cases[i].code < 0, refused = cases[i].code == DNS_REFUSED;

		if (f->opened - opened != asked || answers != !asked || f->tells - tells != refused ||
		    (!asked && f->answer.code != cases[i].code))
			fail_msg("%s: opened %u, answers %u, code %u", cases[i].name, f->opened - opened, answers,
				 f->answer.code);
		if (asked) {
			assert_string_equal(f->asked[f->last].name, cases[i].name);
			assert_int_equal(f->asked[f->last].type, cases[i].type);
			assert_int_not_equal(f->asked[f->last].id, 100 + i); /* a number of its own */
		} else if (refused) {
			assert_string_equal(f->told.name, cases[i].name);
			assert_int_equal(f->told.type, 0);
		}
	}
	assert_int_equal(f->told.refused, 4);
	/* without IPv6 there is nothing of that kind, and nobody is asked */
	f->request.flags &= ~(uint32_t)UPLINK_IP6;
	assert_int_equal(ask_at(f, 0, 1, DNS_AAAA, "b.example.net", START), 1);
	assert_int_equal(f->answer.code, DNS_NOERROR);
	assert_int_equal(open_places(f), 3);
}

/* Refused names are told at a rate; all are counted. */
static void test_refused_rate(void **state)
{
	struct far *f = of_a_vm(state);

	for (uint16_t i = 0; i < 1000; i++)
		assert_int_equal(ask_at(f, 0, i, DNS_A, "example.com", START), 1);
	assert_int_equal(f->tells, 20);
	assert_int_equal(ask_at(f, 0, 1, DNS_A, "example.com", START + 200), 1);
	assert_int_equal(f->tells, 21);
	assert_int_equal(f->told.refused, 1001);
	assert_int_equal(f->opened, 0);
}

/* An address may be reached before the guest hears of it. */
static void test_told_first(void **state)
{
	struct far *f = of_a_vm(state);

	(void)ask_at(f, 0, 7, DNS_A, "example.org", START);
	serve(f, f->last, &f->asked[f->last], 2, 60, START);
	assert_int_equal(f->tells, 1);
	assert_int_equal(f->answers_before, 0);
	assert_int_equal(f->told.type, DNS_A);
	assert_int_equal(f->told.answer.n, 2);
	assert_int_equal(f->told.answer.addresses[1].bytes[0], 204);
	assert_string_equal(f->told.name, "example.org");
	assert_int_equal(has(f, 7, DNS_A, "example.org", 2), 60);
	assert_int_equal(open_places(f), 0);
}

/* What is not the answer to that question, by its number, its name, its type, at its port, is none. */
static void test_strangers(void **state)
{
	struct far *f = of_a_vm(state);
	struct dns_question right, wrong;
	uint8_t msg[DNS_MESSAGE];
	unsigned place;

	(void)ask_at(f, 0, 7, DNS_A, "example.org", START);
	place = f->last;
	right = f->asked[place];
	(void)ask_at(f, 0, 8, DNS_A, "b.example.net", START);
	serve(f, f->last, &right, 1, 60, START); /* where another was asked */
	for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
		if (!f->open[i])
			serve(f, i, &right, 1, 60, START); /* where none was */
	wrong = right;
	wrong.id ^= 1;
	serve(f, place, &wrong, 1, 60, START);
	wrong = right;
	assert_true(dns_name("example.com", wrong.name));
	serve(f, place, &wrong, 1, 60, START);
	wrong = right;
	wrong.type = DNS_AAAA;
	serve(f, place, &wrong, 1, 60, START);
	questions_answered(f->q, place, msg, dns_put_question(msg, &right), START); /* our own words */
	questions_answered(f->q, place, msg, 0, START);
	assert_int_equal(f->answers + f->tells, 0);
	assert_int_equal(open_places(f), 2);
	serve(f, place, &right, 1, 60, START);
	(void)has(f, 7, DNS_A, "example.org", 1);
	assert_int_equal(f->answers, 1);
	/* and the same again has no effect */
	serve(f, place, &right, 2, 60, START);
	assert_int_equal(f->answers, 1);
	assert_int_equal(ask_at(f, 0, 9, DNS_A, "example.org", START), 1);
	(void)has(f, 9, DNS_A, "example.org", 1);
}

/* Who goes on guessing ends the question: it is asked again from another port. */
static void test_guesses(void **state)
{
	struct far *f = of_a_vm(state);
	struct dns_question wrong, right;

	(void)ask_at(f, 0, 7, DNS_A, "example.org", START);
	wrong = right = f->asked[f->last];
	for (unsigned i = 1; i <= 8; i++) {
		assert_int_equal(f->answers, 0);
		wrong.id = (uint16_t)(right.id + i);
		serve(f, f->last, &wrong, 1, 60, START);
	}
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	assert_int_equal(f->of.id, 7);
	assert_int_equal(open_places(f), 0);
	serve(f, f->last, &right, 1, 60, START);
	assert_int_equal(f->answers, 1);
	assert_int_equal(ask_at(f, 0, 8, DNS_A, "example.org", START), 0); /* nothing is known of it */
	assert_int_equal(f->opened, 2);
}

static void test_kept(void **state)
{
	struct far *f = of_a_vm(state);

	(void)ask_at(f, 0, 7, DNS_A, "example.org", START);
	serve(f, f->last, &f->asked[f->last], 1, 60, START);
	assert_int_equal(ask_at(f, 0, 8, DNS_A, "Example.ORG", START + 5500), 1);
	assert_int_equal(has(f, 8, DNS_A, "example.org", 1), 54);
	assert_int_equal(ask_at(f, 0, 9, DNS_AAAA, "example.org", START), 0); /* of that type it is not known */
	serve(f, f->last, &f->asked[f->last], 0, 0, START);
	/* that there is nothing, for ten seconds */
	assert_int_equal(ask_at(f, 0, 14, DNS_AAAA, "example.org", START + 9999), 1);
	assert_int_equal(has(f, 14, DNS_AAAA, "example.org", 0), 0);
	assert_int_equal(ask_at(f, 0, 15, DNS_AAAA, "example.org", START + 10000), 0);
	assert_int_equal(ask_at(f, 0, 10, DNS_A, "example.org", START + 59999), 1);
	assert_int_equal(f->opened, 3);
	assert_int_equal(ask_at(f, 0, 11, DNS_A, "example.org", START + 60000), 0);
	assert_int_equal(f->opened, 4);
	/* for ten minutes at most, whatever the server says: it may be reached for twenty */
	serve(f, f->last, &f->asked[f->last], 1, 86400, START);
	assert_int_equal(has(f, 11, DNS_A, "example.org", 1), 600);
	assert_int_equal(ask_at(f, 0, 12, DNS_A, "example.org", START + 599999), 1);
	assert_int_equal(ask_at(f, 0, 13, DNS_A, "example.org", START + 600000), 0);
}

/* More answers than are kept: the one that ends first makes room. */
static void test_kept_bounded(void **state)
{
	struct far *f = of_a_vm(state);
	char name[32];

	for (unsigned i = 0; i <= QUESTIONS_KNOWN; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.net", i);
		assert_int_equal(ask_at(f, 0, 7, DNS_A, name, START + i * 200), 0);
		serve(f, f->last, &f->asked[f->last], 1, i == 5 ? 100 : 200, START);
	}
	for (unsigned i = 0; i <= QUESTIONS_KNOWN; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.net", i);
		if (ask_at(f, 0, 8, DNS_A, name, START + 30000) != (i != 5))
			fail_msg("%s", name);
	}
}

/* Who asks the same while it is with the server waits for that answer, each under its own number: so many, and no more. */
static void test_askers(void **state)
{
	struct far *f = of_a_vm(state);

	for (uint16_t i = 0; i < QUESTIONS_ASKERS; i++)
		assert_int_equal(ask_at(f, 0, (uint16_t)(10 + i), DNS_A, "example.org", START), 0);
	assert_int_equal(f->opened, 1);
	assert_int_equal(ask_at(f, 0, 99, DNS_A, "example.org", START), 1);
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	serve(f, f->last, &f->asked[f->last], 1, 60, START);
	assert_int_equal(f->answers, 1 + QUESTIONS_ASKERS);
	(void)has(f, 10 + QUESTIONS_ASKERS - 1, DNS_A, "example.org", 1);
}

static void test_late(void **state)
{
	struct far *f = of_a_vm(state);
	struct dns_question right;

	assert_true(questions_expire(f->q, START) == INT64_MAX);
	(void)ask_at(f, 0, 7, DNS_A, "example.org", START);
	right = f->asked[f->last];
	(void)ask_at(f, 0, 8, DNS_A, "b.example.net", START + 1000);
	assert_true(questions_expire(f->q, START + 4999) == START + 5000);
	assert_int_equal(f->answers, 0);
	assert_true(questions_expire(f->q, START + 5000) == START + 6000);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->of.id, 7);
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	for (unsigned i = 0; i < QUESTIONS_WAITING; i++)
		serve(f, i, &right, 1, 60, START + 5000);
	assert_int_equal(f->answers + f->tells, 1);
	assert_int_equal(ask_at(f, 0, 9, DNS_A, "example.org", START + 5000), 0);
}

/* Without a socket, a server, room in either: the guest is told so, and nothing stays taken. */
static void test_unserved(void **state)
{
	struct far *f = of_a_vm(state);

	f->broken = true;
	assert_int_equal(ask_at(f, 0, 7, DNS_A, "example.org", START), 1);
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	f->broken = false;
	f->mute = true;
	assert_int_equal(ask_at(f, 0, 8, DNS_A, "example.org", START), 1);
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	f->mute = false;
	assert_int_equal(ask_at(f, 0, 9, DNS_A, "example.org", START), 0);
	questions_unserved(f->q, f->last);
	assert_int_equal(f->of.id, 9);
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	questions_unserved(f->q, f->last);
	assert_int_equal(f->answers, 3);
	assert_int_equal(open_places(f), 0);
	for (unsigned i = 0; i < 200; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "n%u.example.net", i);
		assert_int_equal(ask_at(f, 0, 7, DNS_A, name, START), i >= QUESTIONS_WAITING);
	}
	assert_int_equal(open_places(f), QUESTIONS_WAITING);
}

/* Each takes a port of the host's for a while: so many at once, then one in 200 ms. */
static void test_rate(void **state)
{
	struct far *f = of_a_vm(state);

	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(ask_at(f, 0, 7, DNS_A, "example.org", START), i >= 128);
		if (i < 128)
			questions_unserved(f->q, f->last);
	}
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	assert_int_equal(ask_at(f, 0, 7, DNS_A, "example.org", START + 199), 1);
	assert_int_equal(ask_at(f, 0, 7, DNS_A, "example.org", START + 200), 0);
}

/* ---- of a network ---- */

static void test_members(void **state)
{
	struct far *f = of_a_network(state, SERVERS, 3);
	struct questions_from six = { .six = true };
	struct dns_question question = { .id = 9, .type = DNS_A, .name = "vm0" };
	struct names_member gone = member(2, "vm2");
	uint8_t msg[DNS_MESSAGE];

	assert_int_equal(ask_at(f, 0, 7, DNS_A, "vm2", START), 1);
	assert_int_equal(has(f, 7, DNS_A, "vm2", 1), 5);
	assert_int_equal(f->message[f->len - 1], 4);
	assert_int_equal(ask_at(f, 0, 7, DNS_AAAA, "vm2.back", START), 1);
	(void)has(f, 7, DNS_AAAA, "vm2.back", 1);
	assert_int_equal(ask_at(f, 0, 7, 15, "vm2.back", START), 1);
	assert_int_equal(f->answer.code, DNS_NOERROR);
	assert_int_equal(ask_at(f, 0, 7, DNS_A, "vm3.back", START), 1); /* below its name there is nothing else */
	assert_int_equal(f->answer.code, DNS_NXDOMAIN);
	assert_true(f->message[2] & 4); /* AA: it is ours to know */
	assert_int_equal(f->opened, 0);
	/* by the other family, and by who is not there */
	six.address.six.sin6_addr.s6_addr[0] = 0xfd;
	six.address.six.sin6_addr.s6_addr[15] = 3;
	questions_asked(f->q, &six, msg, dns_put_question(msg, &question), START);
	assert_int_equal(f->answers, 5);
	assert_true(f->to.six);
	six.address.six.sin6_addr.s6_addr[15] = 5;
	questions_asked(f->q, &six, msg, dns_put_question(msg, &question), START);
	assert_int_equal(ask_at(f, 3, 7, DNS_A, "vm2", START), 0);
	assert_int_equal(ask_at(f, 3, 7, DNS_A, "example.com", START), 0);
	assert_int_equal(f->answers + f->opened, 5);
	/* one that has left */
	gone.used = 0;
	questions_member(f->q, &gone);
	assert_int_equal(ask_at(f, 2, 7, DNS_A, "vm0", START), 0);
	assert_int_equal(ask_at(f, 0, 7, DNS_A, "vm2.back", START), 1);
	assert_int_equal(f->answer.code, DNS_NXDOMAIN);
	/* --internal: nobody else has a name */
	f->request.flags &= ~(uint32_t)(UPLINK_IP4 | UPLINK_IP6);
	assert_int_equal(ask_at(f, 0, 7, DNS_A, "example.com", START), 1);
	assert_int_equal(f->answer.code, DNS_NXDOMAIN);
	assert_int_equal(f->opened, 0);
}

/* What no one here reads goes to the asker as it came, but for the number. */
static void test_passed_on(void **state)
{
	struct far *f = of_a_network(state, SERVERS, 1);

	assert_int_equal(ask_at(f, 0, 7, 15, "example.com", START), 0);
	serve(f, f->last, &f->asked[f->last], 0, 0, START);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->of.id, 7);
	assert_int_equal(f->tells, 0);
	assert_int_equal(ask_at(f, 0, 8, 15, "example.com", START), 0); /* and is not kept */
}

/* What one member was answered is not another's: its own rules are to have the addresses. */
static void test_kept_apart(void **state)
{
	struct far *f = of_a_network(state, SERVERS, 2);
	struct names_member m = member(1, "vm1");

	assert_int_equal(ask_at(f, 0, 7, DNS_A, "example.com", START), 0);
	serve(f, f->last, &f->asked[f->last], 1, 60, START);
	assert_int_equal(f->tells, 0); /* it may go anywhere */
	assert_int_equal(ask_at(f, 1, 8, DNS_A, "example.com", START), 0);
	assert_int_equal(f->opened, 2);
	/* under its own policy, too */
	m.deny = 1;
	questions_member(f->q, &m);
	assert_int_equal(open_places(f), 0);
	assert_int_equal(ask_at(f, 1, 9, DNS_A, "example.com", START), 1);
	assert_int_equal(f->answer.code, DNS_REFUSED);
	assert_int_equal(f->told.slot, 1);
	assert_int_equal(ask_at(f, 0, 9, DNS_A, "example.com", START), 1);
	(void)has(f, 9, DNS_A, "example.com", 1);
}

/* Nothing that it asked or knew is there for whoever has its place next. */
static void test_leaves(void **state)
{
	struct far *f = of_a_network(state, SERVERS, 2);
	struct names_member gone = { .slot = 1 }, m = member(1, "vm1");
	struct dns_question late;

	m.deny = 1;
	m.nnames = 1;
	name_it(&m.names[0], "example.org");
	questions_member(f->q, &m);
	(void)ask_at(f, 1, 7, DNS_A, "example.org", START);
	serve(f, f->last, &f->asked[f->last], 1, 60, START);
	(void)ask_at(f, 1, 8, DNS_AAAA, "example.org", START);
	late = f->asked[f->last];
	questions_member(f->q, &gone);
	questions_member(f->q, &m);
	assert_int_equal(f->answers, 1);
	assert_int_equal(open_places(f), 0);
	serve(f, f->last, &late, 1, 60, START);
	questions_unserved(f->q, f->last); /* what the kernel had to say of its port */
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->tells, 1);
	assert_int_equal(ask_at(f, 1, 9, DNS_A, "example.org", START), 0);
	/* while its addresses are let in */
	f->leaves = &gone;
	serve(f, f->last, &f->asked[f->last], 1, 60, START);
	assert_int_equal(f->tells, 2);
	assert_int_equal(f->answers, 1);
	f->leaves = NULL;
	questions_member(f->q, &m);
	assert_int_equal(ask_at(f, 1, 10, DNS_A, "example.org", START), 0);
}

/* Of one's flood so many are with the server; when all places are taken, who has most gives one up for who has fewer. */
static void test_flood(void **state)
{
	struct far *f = of_a_network(state, SERVERS, 6);
	char name[32];

	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.com", i);
		assert_int_equal(ask_at(f, 0, (uint16_t)(1000 + i), DNS_A, name, START + i), i >= EACH);
	}
	assert_int_equal(open_places(f), EACH);
	for (unsigned slot = 1; slot < 4; slot++)
		for (unsigned i = 0; i < EACH; i++) {
			(void)snprintf(name, sizeof(name), "n%u.example.com", i);
			assert_int_equal(ask_at(f, slot, (uint16_t)(1000 * slot + 1000 + i), DNS_A, name, START + 100),
					 0);
		}
	assert_int_equal(open_places(f), QUESTIONS_WAITING);
	f->answers = 0;
	assert_int_equal(ask_at(f, 4, 7, DNS_A, "example.com", START + 200), 1);
	assert_int_equal(f->of.id, 1000); /* the oldest of the first's had to go */
	assert_int_equal(f->answer.code, DNS_SERVFAIL);
	assert_int_equal(open_places(f), QUESTIONS_WAITING);
	serve(f, f->last, &f->asked[f->last], 1, 60, START);
	(void)has(f, 7, DNS_A, "example.com", 1);
	/* the place that is free now is the first's again; it has no more then */
	assert_int_equal(ask_at(f, 0, 1200, DNS_A, "m0.example.com", START + 300), 0);
	assert_int_equal(ask_at(f, 0, 1201, DNS_A, "m1.example.com", START + 300), 1);
	assert_int_equal(f->of.id, 1201);
	for (unsigned i = 0; i < EACH; i++) {
		(void)snprintf(name, sizeof(name), "m%u.example.com", i);
		(void)ask_at(f, 4, (uint16_t)(i + 1), DNS_A, name, START + 400);
		/* 13 of each of the others' are then there, and nobody gives up one for who would have as many */
		assert_int_equal(f->of.id == i + 1, i >= 12);
	}
	assert_int_equal(open_places(f), QUESTIONS_WAITING);
	assert_int_equal(ask_at(f, 5, 7, DNS_A, "example.com", START + 500), 1);
	assert_int_not_equal(f->of.id, 7);
}

/* Of the host's ports each has its own: others' questions, settled or not, take none of these. */
static void test_ports(void **state)
{
	/* of its own 4 in three minutes, 2 at once; of what is for all 254 at once */
	struct far *f = of_a_network(state, 2032, 4);
	unsigned got = 0;
	char name[32];

	for (unsigned i = 0; i < 3 * 128; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.com", i);
		if (ask_at(f, i / 128, 7, DNS_A, name, START) == 0) {
			got++;
			questions_unserved(f->q, f->last);
		}
	}
	assert_int_equal(got, 254 + 3 * 2);
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.com", i);
		assert_int_equal(ask_at(f, 3, 7, DNS_A, name, START), i == 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused_rate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_told_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_strangers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_guesses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kept_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_askers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_late, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unserved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_members, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_passed_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kept_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_leaves, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flood, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ports, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
