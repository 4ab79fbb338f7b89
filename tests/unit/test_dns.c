/* DNS messages: what is read of a guest's and a server's, and what is written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "uplink/dns.h"

static void test_names(void **state)
{
	static const char *const right[][2] = {
		{ "example.org", "example.org" },
		{ "Example.ORG.", "example.org" },
		{ "a", "a" },
		{ "_dmarc.x-y.z1", "_dmarc.x-y.z1" },
	};
	static const char *const wrong[] = { "", ".", "..", "a..b", ".a", "a b", "a/b", "ä.org", "a.org..", "a\n" };
	char label[70] = "", name[DNS_NAME], long_name[300];

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		assert_true(dns_name(right[i][0], name));
		assert_string_equal(name, right[i][1]);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(dns_name(wrong[i], name));
	memset(label, 'a', 63);
	assert_true(dns_name(label, name));
	label[63] = 'a';
	assert_false(dns_name(label, name));
	for (size_t i = 0; i < sizeof(long_name); i++)
		long_name[i] = i % 10 == 9 ? '.' : 'a';
	long_name[254] = '\0';
	assert_false(dns_name(long_name, name));
	long_name[253] = '\0';
	assert_true(dns_name(long_name, name));
}

/* A message as a server or a guest writes it. */
struct message {
	uint8_t bytes[512];
	size_t len;
};

static void add(struct message *m, const void *bytes, size_t len)
{
	assert_true(m->len + len <= sizeof(m->bytes));
	memcpy(m->bytes + m->len, bytes, len);
	m->len += len;
}

#define ADD(m, literal) add(m, literal, sizeof(literal) - 1)

#define QUESTION "\1A\7exaMPLE\3org\0"

static void test_question(void **state)
{
	struct message m = { 0 };
	struct dns_question q;
	uint8_t code, again[DNS_MESSAGE];

	(void)state;
	ADD(&m, "\x12\x34\x01\x20\0\1\0\0\0\0\0\1" QUESTION "\0\x1c\0\1"
		"\0\0\x29\x04\xd0\0\0\0\0\0\0"); /* EDNS behind it */
	assert_int_equal(dns_parse_question(m.bytes, m.len, &q, &code), 0);
	assert_int_equal(q.id, 0x1234);
	assert_int_equal(q.type, DNS_AAAA);
	assert_true(q.recursion);
	assert_string_equal(q.name, "a.example.org");
	/* what we ask is read as the same */
	m.len = dns_put_question(again, &q);
	assert_int_equal(dns_parse_question(again, m.len, &q, &code), 0);
	assert_string_equal(q.name, "a.example.org");
	/* cut anywhere: no question, and never one that is answered with an address */
	for (size_t len = 0; len < m.len; len++) {
		uint8_t *cut = malloc(len + 1);

		memcpy(cut, again, len);
		assert_int_not_equal(dns_parse_question(cut, len, &q, &code), 0);
		free(cut);
	}
}

static void test_questions_that_are_none(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int r;
		uint8_t code;
	} cases[] = {
#define CASE(text, r, code) { text, sizeof(text) - 1, r, code }
		CASE("\0\1\x81\0\0\1\0\0\0\0\0\0" QUESTION "\0\1\0\1", -EBADMSG, DNS_FORMERR), /* an answer */
		CASE("\0\1\x29\0\0\1\0\0\0\0\0\0" QUESTION "\0\1\0\1", -EINVAL, DNS_NOTIMP), /* an update */
		CASE("\0\1\1\0\0\0\0\0\0\0\0\0", -EINVAL, DNS_FORMERR),
		CASE("\0\1\1\0\0\2\0\0\0\0\0\0" QUESTION "\0\1\0\1" QUESTION "\0\1\0\1", -EINVAL, DNS_FORMERR),
		CASE("\0\1\1\0\0\1\0\0\0\0\0\0" QUESTION "\0\1\0\3", -EINVAL, DNS_FORMERR), /* class CH */
		CASE("\0\1\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1", -EINVAL, DNS_FORMERR), /* the root */
		CASE("\0\1\1\0\0\1\0\0\0\0\0\0\3a b\0\0\1\0\1", -EINVAL, DNS_FORMERR),
		CASE("\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", -EINVAL, DNS_FORMERR), /* itself */
		CASE("\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x10\0\1\0\1", -EINVAL, DNS_FORMERR), /* forward */
		CASE("\0\1\1\0\0\1\0\0\0\0\0\0\x41"
		     "a\0\0\1\0\1",
		     -EINVAL, DNS_FORMERR),
#undef CASE
	};
	struct dns_question q;
	uint8_t code;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(dns_parse_question((const uint8_t *)cases[i].bytes, cases[i].len, &q, &code),
				 cases[i].r);
		assert_int_equal(code, cases[i].code);
		assert_string_equal(q.name, "");
	}
}

static const struct dns_question asked = { .id = 0x0102, .type = DNS_A, .name = "a.example.org" };

#define ANSWER(n)              "\1\2\x81\x80\0\1\0" n "\0\0\0\0" QUESTION "\0\1\0\1"
#define A(owner, ttl, address) owner "\0\1\0\1" ttl "\0\4" address

static int parse(const void *bytes, size_t len, struct dns_answer *answer)
{
	uint8_t *copy = malloc(len);
	int r;

	memcpy(copy, bytes, len);
	r = dns_parse_answer(copy, len, &asked, answer);
	free(copy);
	return r;
}

#define PARSE(text, answer) parse(text, sizeof(text) - 1, answer)

static void test_answer(void **state)
{
	struct dns_answer a;

	(void)state;
	assert_int_equal(
		PARSE(ANSWER("\2") A("\xc0\x0c", "\0\0\1\0", "\1\2\3\4") A("\xc0\x0c", "\0\0\0\x20", "\5\6\7\x8"), &a),
		0);
	assert_int_equal(a.code, DNS_NOERROR);
	assert_int_equal(a.n, 2);
	assert_int_equal(a.ttl, 0x20);
	assert_memory_equal(a.addresses[0].bytes, "\1\2\3\4", 4);
	assert_memory_equal(a.addresses[1].bytes, "\5\6\7\x8", 4);
	/* through an alias; what belongs to another name does not count */
	assert_int_equal(PARSE(ANSWER("\3") "\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1b\xc0\x0e" A(
				       "\1b\xc0\x0e", "\0\0\0\1", "\1\1\1\1") A("\1c\xc0\x0e", "\0\0\0\1", "\2\2\2\2"),
			       &a),
			 0);
	assert_int_equal(a.n, 1);
	assert_memory_equal(a.addresses[0].bytes, "\1\1\1\1", 4);
	/* the name itself has none, once it is an alias */
	assert_int_equal(
		PARSE(ANSWER("\2") "\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1b\xc0\x0e" A("\xc0\x0c", "\0\0\0\1", "\1\1\1\1"), &a),
		0);
	assert_int_equal(a.n, 0);
	assert_int_equal(PARSE("\1\2\x81\x83\0\1\0\0\0\0\0\0" QUESTION "\0\1\0\1", &a), 0);
	assert_int_equal(a.code, DNS_NXDOMAIN);
	/* a time to live of the upper half is 0 */
	assert_int_equal(PARSE(ANSWER("\1") A("\xc0\x0c", "\x80\0\0\1", "\1\2\3\4"), &a), 0);
	assert_int_equal(a.ttl, 0);
	/* an address of the wrong length, and a record that goes over the end */
	assert_int_equal(PARSE(ANSWER("\1") "\xc0\x0c\0\1\0\1\0\0\0\1\0\5\1\2\3\4\5", &a), 0);
	assert_int_equal(a.n, 0);
	assert_int_equal(PARSE(ANSWER("\1") "\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3", &a), 0);
	assert_int_equal(a.n, 0);
}

static void test_answers_that_are_none(void **state)
{
	struct dns_answer a;

	(void)state;
	assert_int_equal(PARSE("\1\3\x81\x80\0\1\0\0\0\0\0\0" QUESTION "\0\1\0\1", &a), -EBADMSG); /* another's id */
	assert_int_equal(PARSE("\1\2\x01\x80\0\1\0\0\0\0\0\0" QUESTION "\0\1\0\1", &a), -EBADMSG); /* a question */
	assert_int_equal(PARSE("\1\2\x81\x80\0\1\0\0\0\0\0\0\1B\xc0\x0c\0\1\0\1", &a), -EBADMSG);
	assert_int_equal(PARSE("\1\2\x81\x80\0\1\0\0\0\0\0\0\1B\0\0\1\0\1", &a), -EBADMSG); /* another name */
	assert_int_equal(PARSE("\1\2\x81\x80\0\1\0\0\0\0\0\0" QUESTION "\0\x1c\0\1", &a), -EBADMSG); /* another type */
	assert_int_equal(PARSE("\1\2\x81\x80\0\0\0\0\0\0\0\0", &a), -EBADMSG);
	assert_int_equal(PARSE("\1\2\x81", &a), -EBADMSG);
}

/* What the guest gets is read by the same rules. */
static void test_written(void **state)
{
	struct dns_answer a = { .n = 2, .ttl = 77 }, read;
	struct dns_question none = { .id = 7 };
	uint8_t buf[DNS_MESSAGE];
	size_t len;

	(void)state;
	memcpy(a.addresses[0].bytes, "\1\2\3\4", 4);
	memcpy(a.addresses[1].bytes, "\5\6\7\x8", 4);
	len = dns_put_answer(buf, &asked, &a);
	assert_int_equal(parse(buf, len, &read), 0);
	assert_int_equal(read.n, 2);
	assert_int_equal(read.ttl, 77);
	assert_memory_equal(read.addresses[1].bytes, "\5\6\7\x8", 4);
	a.code = DNS_FORMERR;
	a.n = 0;
	assert_int_equal(dns_put_answer(buf, &none, &a), 12);
	assert_memory_equal(buf, "\0\7\x80\x81\0\0\0\0\0\0\0\0", 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_question),
		cmocka_unit_test(test_questions_that_are_none),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_answers_that_are_none),
		cmocka_unit_test(test_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
