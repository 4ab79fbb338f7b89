#include "keys.h"

#include <string.h>

/* One key's byte; NULL: none, else what stands behind it. */
static const char *parse_one(const char *text, char *ret)
{
	static const char ctrl[] = "ctrl-";
	char c;

	if (strncmp(text, ctrl, strlen(ctrl)) != 0) {
		*ret = *text;
		return *text > ' ' && *text < 0x7f ? text + 1 : NULL;
	}
	c = text[strlen(ctrl)];
	if (c >= 'a' && c <= 'z')
		*ret = (char)(c - 'a' + 1);
	else if (c >= '@' && c <= '_') /* "ctrl-P" is the same key */
		*ret = (char)(c - '@');
	else
		return NULL;
	return text + strlen(ctrl) + 1;
}

bool keys_parse(const char *text, struct keys *ret_keys)
{
	struct keys keys = { 0 };

	while (*text) {
		if (keys.n == KEYS_MAX)
			return false;
		text = parse_one(text, &keys.v[keys.n++]);
		if (!text || (*text && (*text != ',' || !text[1])))
			return false;
		text += *text == ',';
	}
	*ret_keys = keys;
	return true;
}

/* How many of the last bytes that were typed, those held back and `c`, may begin the sequence anew. */
static unsigned rematch(const struct keys *keys, char c)
{
	char held[KEYS_MAX + 1];

	memcpy(held, keys->v, keys->at);
	held[keys->at] = c;
	for (unsigned left = keys->at; left; left--)
		if (!memcmp(held + keys->at + 1 - left, keys->v, left))
			return left;
	return 0;
}

size_t keys_filter(struct keys *keys, const char *in, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len && !keys->typed; i++) {
		char c = in[i];
		unsigned left, go;

		if (keys->n && keys->v[keys->at] == c) {
			keys->typed = ++keys->at == keys->n;
			continue;
		}
		left = rematch(keys, c);
		go = keys->at + 1 - left;
		for (unsigned k = 0; k < go; k++)
			out[n++] = k < keys->at ? keys->v[k] : c;
		keys->at = left;
	}
	return n;
}
