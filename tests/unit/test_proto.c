/* The wire format's bounds, seen from both ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mvm/proto.h"

static struct proto_in whole(const void *p, size_t len)
{
	return (struct proto_in){ .pos = p, .end = (const uint8_t *)p + len };
}

static void put_header(uint8_t *buf, uint32_t length, uint16_t type, uint16_t zero)
{
	struct proto_hdr hdr = { .length = le32_of(length), .type = le16_of(type), .zero = le16_of(zero) };

	memcpy(buf, &hdr, sizeof(hdr));
}

/* name, header fields, bytes present, caller's bound, result */
static const struct next_case {
	const char *name;
	uint32_t length;
	uint16_t type, zero;
	size_t present, max;
	long want;
} next_cases[] = {
	{ "empty payload", 0, PROTO_BYE, 0, 8, PROTO_REPLY_MAX, 8 },
	{ "no byte at all", 0, PROTO_BYE, 0, 0, PROTO_REPLY_MAX, 0 },
	{ "header cut short", 0, PROTO_BYE, 0, 7, PROTO_REPLY_MAX, 0 },
	{ "payload cut short", 5, PROTO_BYE, 0, 12, PROTO_REPLY_MAX, 0 },
	{ "exactly whole", 5, PROTO_BYE, 0, 13, PROTO_REPLY_MAX, 13 },
	{ "more behind it", 5, PROTO_BYE, 0, 64, PROTO_REPLY_MAX, 13 },
	{ "at the bound", 16, PROTO_BYE, 0, 24, 16, 24 },
	{ "above the bound, before it is there", 17, PROTO_BYE, 0, 8, 16, -EPROTO },
	{ "above every bound", PROTO_PAYLOAD_MAX + 1, PROTO_BYE, 0, 8, SIZE_MAX, -EPROTO },
	{ "largest number", UINT32_MAX, PROTO_BYE, 0, 64, SIZE_MAX, -EPROTO },
	{ "zero is not zero", 0, PROTO_BYE, 1, 8, PROTO_REPLY_MAX, -EPROTO },
	{ "unknown types are the caller's", 0, 60000, 0, 8, PROTO_REPLY_MAX, 8 },
};

static void test_next(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(next_cases) / sizeof(next_cases[0]); i++) {
		const struct next_case *c = &next_cases[i];
		uint8_t buf[64] = { 0 };
		struct proto_in in = { 0 };
		uint16_t type = 0xaaaa;
		long got;

		put_header(buf, c->length, c->type, c->zero);
		got = proto_next(buf, c->present, c->max, &type, &in);
		if (got != c->want)
			fail_msg("%s: %ld, not %ld", c->name, got, c->want);
		if (got > 0 && (type != c->type || in.pos != buf + 8 || in.end != buf + got))
			fail_msg("%s: wrong type or payload", c->name);
		if (got <= 0 && (type != 0xaaaa || in.pos))
			fail_msg("%s: output written without success", c->name);
	}
}

static void test_round_trip(void **state)
{
	struct proto_signal sig = { .session = le32_of(7), .signo = le32_of(15) }, got;
	struct proto_out out = { 0 };
	struct proto_in in;
	const char *s;
	uint16_t type;
	long n, m;

	(void)state;
	proto_begin(&out, PROTO_SIGNAL);
	proto_put(&out, &sig, sizeof(sig));
	proto_end(&out);
	proto_begin(&out, PROTO_ERROR);
	proto_put_str(&out, "first");
	proto_put_str(&out, "");
	proto_end(&out);
	assert_false(out.failed);

	n = proto_next(out.data, out.len, PROTO_REPLY_MAX, &type, &in);
	assert_int_equal(n, 16);
	assert_int_equal(type, PROTO_SIGNAL);
	assert_int_equal(proto_get(&in, &got, sizeof(got)), 0);
	assert_memory_equal(&got, &sig, sizeof(sig));
	assert_int_equal(proto_get(&in, &got, 1), -EPROTO);

	m = proto_next(out.data + n, out.len - (size_t)n, PROTO_REPLY_MAX, &type, &in);
	assert_int_equal(m, 8 + 7);
	assert_int_equal(type, PROTO_ERROR);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "first");
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "");
	assert_int_equal(proto_get_str(&in, &s), -EPROTO);
	assert_int_equal((size_t)(n + m), out.len);
	free(out.data);
}

static void test_out_is_bounded(void **state)
{
	static uint8_t chunk[1 << 20];
	struct proto_out out = { 0 };
	uint16_t type;
	struct proto_in in;

	(void)state;
	proto_begin(&out, PROTO_EXEC);
	for (int i = 0; i < 4; i++)
		proto_put(&out, chunk, sizeof(chunk));
	proto_end(&out);
	assert_false(out.failed);
	assert_int_equal(proto_next(out.data, out.len, PROTO_PAYLOAD_MAX, &type, &in), 8 + PROTO_PAYLOAD_MAX);
	/* A second frame has the whole bound again; its first byte too many is the end. */
	proto_begin(&out, PROTO_EXEC);
	for (int i = 0; i < 4; i++)
		proto_put(&out, chunk, sizeof(chunk));
	assert_false(out.failed);
	proto_put(&out, chunk, 1);
	assert_true(out.failed);
	proto_put(&out, chunk, 1);
	proto_begin(&out, PROTO_BYE);
	proto_end(&out);
	assert_true(out.failed);
	free(out.data);
}

static const struct strs_case {
	const char *name, *bytes;
	size_t len;
	uint32_t count;
	int want;
	size_t left;
} strs_cases[] = {
	{ "none of nothing", "", 0, 0, 0, 0 },
	{ "one of nothing", "", 0, 1, -EPROTO, 0 },
	{ "two", "a\0bc\0", 5, 2, 0, 0 },
	{ "two and a rest", "a\0bc\0d", 6, 2, 0, 1 },
	{ "empty ones", "\0\0\0", 3, 3, 0, 0 },
	{ "last one unterminated", "a\0bc", 4, 2, -EPROTO, 4 },
	{ "more than there are bytes", "a\0b\0", 4, 5, -EPROTO, 4 },
	{ "too many by number", "a\0b\0", 4, PROTO_STRINGS_MAX + 1, -EPROTO, 4 },
	{ "largest number", "a\0b\0", 4, UINT32_MAX, -EPROTO, 4 },
};

static void test_strs(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(strs_cases) / sizeof(strs_cases[0]); i++) {
		const struct strs_case *c = &strs_cases[i];
		struct proto_in in = whole(c->bytes, c->len);
		char **strs = NULL;
		int got = proto_get_strs(&in, c->count, &strs);

		if (got != c->want || (got < 0 && strs))
			fail_msg("%s: %d, not %d", c->name, got, c->want);
		if (got < 0)
			continue;
		if ((size_t)(in.end - in.pos) != c->left || strs[c->count])
			fail_msg("%s: wrong rest or no terminator", c->name);
		free(strs);
	}
}

static void test_strs_at_the_bound(void **state)
{
	size_t len = PROTO_STRINGS_MAX + 1;
	uint8_t *bytes = calloc(len, 1);
	struct proto_in in = whole(bytes, len);
	char **strs = NULL;

	(void)state;
	assert_non_null(bytes);
	assert_int_equal(proto_get_strs(&in, PROTO_STRINGS_MAX + 1, &strs), -EPROTO);
	assert_int_equal(proto_get_strs(&in, PROTO_STRINGS_MAX, &strs), 0);
	assert_int_equal(in.end - in.pos, 1);
	free(strs);
	free(bytes);
}

static const struct hello_case {
	const char *name;
	uint32_t magic;
	uint16_t version;
	const char *text;
	size_t text_len;
	int want;
} hello_cases[] = {
	{ "ours", PROTO_MAGIC, PROTO_VERSION, "0.1", 4, 0 },
	{ "no name", PROTO_MAGIC, PROTO_VERSION, "", 1, 0 },
	{ "name cut short", PROTO_MAGIC, PROTO_VERSION, "0.1", 3, -EPROTO },
	{ "name missing", PROTO_MAGIC, PROTO_VERSION, "", 0, -EPROTO },
	{ "other magic", PROTO_MAGIC ^ 1, PROTO_VERSION, "0.1", 4, -EPROTO },
	{ "newer", PROTO_MAGIC, PROTO_VERSION + 1, "9.9", 4, -EPROTONOSUPPORT },
	{ "older", PROTO_MAGIC, PROTO_VERSION - 1, "0.0", 4, -EPROTONOSUPPORT },
};

static void test_hello(void **state)
{
	struct proto_in in;

	(void)state;
	for (size_t i = 0; i < sizeof(hello_cases) / sizeof(hello_cases[0]); i++) {
		const struct hello_case *c = &hello_cases[i];
		struct proto_hello wire = { .magic = le32_of(c->magic), .version = le16_of(c->version) };
		uint8_t buf[sizeof(wire) + 8];
		const char *version = NULL;
		int got;

		memcpy(buf, &wire, sizeof(wire));
		memcpy(buf + sizeof(wire), c->text, c->text_len);
		in = whole(buf, sizeof(wire) + c->text_len);
		got = proto_check_hello(&in, &version);
		if (got != c->want || (got < 0 && version) || (got == 0 && strcmp(version, c->text) != 0))
			fail_msg("%s: %d, not %d", c->name, got, c->want);
	}
	in = whole("MVM", 3);
	assert_int_equal(proto_check_hello(&in, NULL), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_next),  cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_strs),  cmocka_unit_test(test_out_is_bounded),
		cmocka_unit_test(test_hello), cmocka_unit_test(test_strs_at_the_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
