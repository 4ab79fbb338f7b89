/* --detach-keys: what they may be, and finding them among what is typed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The CLI is a program, not an archive: this is compiled in here. */
#include "../../tools/mvm/keys.c"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *bytes; /* NULL: refused */
	} cases[] = {
		{ "", "" },
		{ KEYS_DEFAULT, "\020\021" },
		{ "ctrl-P,ctrl-Q", "\020\021" },
		{ "ctrl-a,d", "\001d" },
		{ "~,.", "~." },
		{ "ctrl-[,ctrl-],ctrl-\\,ctrl-^,ctrl-_", "\033\035\034\036\037" },
		{ "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", "abcdefghijklmnop" },
		{ "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", NULL },
		{ "ctrl-", NULL },
		{ "ctrl-1", NULL },
		{ "ctrl-pp", NULL },
		{ "ab", NULL },
		{ "a,", NULL },
		{ ",a", NULL },
		{ "a, b", NULL },
		{ "\033", NULL },
		{ "\303\244", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct keys keys = { .n = 99 };
		bool good = keys_parse(cases[i].text, &keys);

		if (good != !!cases[i].bytes ||
		    (good && (keys.n != strlen(cases[i].bytes) || memcmp(keys.v, cases[i].bytes, keys.n) != 0)))
			fail_msg("'%s'", cases[i].text);
	}
}

/* Typed in pieces of every size: the same comes out, and no byte is held back but those that may be the keys. */
static void type(const char *keys_text, const char *typed, const char *want, bool left)
{
	size_t len = strlen(typed);

	for (size_t piece = 1; piece <= len; piece++) {
		char out[256];
		size_t n = 0;
		struct keys keys;

		assert_true(keys_parse(keys_text, &keys));
		for (size_t at = 0; at < len; at += piece) {
			char room[KEYS_MAX + 64];
			size_t take = len - at < piece ? len - at : piece;

			/* As the channel does: in place, with room before it. */
			memcpy(room + KEYS_MAX, typed + at, take);
			take = keys_filter(&keys, room + KEYS_MAX, take, room);
			memcpy(out + n, room, take);
			n += take;
		}
		out[n] = '\0';
		if (strcmp(out, want) != 0 || keys.typed != left)
			fail_msg("keys %s, typed '%s' by %zu: got '%s', wanted '%s'", keys_text, typed, piece, out,
				 want);
	}
}

static void test_filter(void **state)
{
	(void)state;
	type("x,y", "plain", "plain", false);
	type("x,y", "abxy", "ab", true);
	type("x,y", "abxycd", "ab", true);
	type("x,y", "xaxbxy", "xaxb", true);
	type("x,y", "xxxxy", "xxx", true);
	type("x,y", "xxx", "xx", false); /* the last may be the first of them */
	type("x", "abxc", "ab", true);
	type("", "abxc", "abxc", false);
	type("a,b,a,c", "ababac", "ab", true); /* a beginning within the beginning */
	type("a,b,a,c", "ababababx", "ababababx", false);
	type("a,a,b", "aaaab", "aa", true);
	type("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", "abcdefghijklmnoabcdefghijklmnop", "abcdefghijklmno", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_filter) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
