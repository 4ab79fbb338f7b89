#include "bridge/policy.h"

#include <stdio.h>
#include <string.h>

#define WORDS 8U
#define FORM  "write allow user|group NAME bridge DEVICE ports N [isolated]"

struct line {
	bool group, isolated;
	const char *who, *bridge;
	uint32_t ports;
};

bool policy_number(const char *word, uint32_t *ret)
{
	uint64_t value = 0;

	if (!*word || strlen(word) > 10 || word[strspn(word, "0123456789")] || (*word == '0' && word[1]))
		return false;
	for (; *word; word++)
		value = value * 10 + (uint64_t)(*word - '0');
	if (value >= UINT32_MAX)
		return false;
	*ret = (uint32_t)value;
	return true;
}

bool policy_id_of(const char *line, size_t len, const char *name, uint32_t *ret)
{
	size_t n = strlen(name);
	const char *at, *end;
	char digits[12];

	if (len <= n || memcmp(line, name, n) != 0 || line[n] != ':')
		return false;
	at = memchr(line + n + 1, ':', len - n - 1);
	if (!at)
		return false;
	at++;
	end = memchr(at, ':', len - (size_t)(at - line));
	if (!end || (size_t)(end - at) >= sizeof(digits))
		return false;
	memcpy(digits, at, (size_t)(end - at));
	digits[end - at] = '\0';
	return policy_number(digits, ret);
}

static unsigned split(char *text, const char *words[WORDS + 1])
{
	unsigned n = 0;

	for (char *rest = text, *word; n <= WORDS && (word = strsep(&rest, " \t"));)
		if (*word)
			words[n++] = word;
	return n;
}

/* NULL, or what is wrong. */
static const char *parse(const char *words[WORDS + 1], unsigned n, struct line *ret)
{
	struct line line = { .isolated = n == 8 };
	char device[BRIDGE_DEVICE] = "";

	if (n < 7 || n > 8 || strcmp(words[0], "allow") != 0 || strcmp(words[3], "bridge") != 0 ||
	    strcmp(words[5], "ports") != 0)
		return FORM;
	if (strcmp(words[1], "user") != 0 && strcmp(words[1], "group") != 0)
		return "it is neither user nor group: " FORM;
	if (n == 8 && strcmp(words[7], "isolated") != 0)
		return "the last word is unknown: " FORM;
	if (strlen(words[4]) < sizeof(device))
		memcpy(device, words[4], strlen(words[4]));
	if (!bridge_is_device(device))
		return "no name of a network device behind bridge";
	if (!policy_number(words[6], &line.ports) || !line.ports || line.ports > POLICY_PORTS_MAX)
		return "ports: give 1 to 1024";
	line.group = words[1][0] == 'g';
	line.who = words[2];
	line.bridge = words[4];
	*ret = line;
	return NULL;
}

static bool is_callers(const struct line *line, const struct policy_caller *caller, policy_lookup *lookup, void *arg)
{
	uint32_t id;

	if (!policy_number(line->who, &id) && !lookup(arg, line->group, line->who, &id))
		return false;
	if (!line->group)
		return id == caller->uid;
	for (unsigned i = 0; i < caller->ngids; i++)
		if (caller->gids[i] == id)
			return true;
	return false;
}

/* A line's bytes to text without a comment. NULL, or what is wrong. */
static const char *copy(const char *bytes, size_t len, char text[POLICY_LINE_MAX])
{
	const char *comment = memchr(bytes, '#', len);

	if (comment)
		len = (size_t)(comment - bytes);
	if (len >= POLICY_LINE_MAX)
		return "longer than 255 bytes";
	for (size_t i = 0; i < len; i++)
		if ((bytes[i] < ' ' || bytes[i] > '~') && bytes[i] != '\t')
			return "a byte that is no printable ASCII";
	memcpy(text, bytes, len);
	text[len] = '\0';
	return NULL;
}

unsigned policy_read(const char *policy, size_t size, const char *bridge, const struct policy_caller *caller,
		     policy_lookup *lookup, void *arg, struct policy_grant *ret, char text[POLICY_TEXT])
{
	struct policy_grant grant = { 0 };
	char copied[POLICY_LINE_MAX];
	const char *words[WORDS + 1], *wrong;
	unsigned number = 0, n;
	struct line line;

	for (const char *at = policy, *end = policy + size, *next; at < end; at = next) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		next = newline ? newline + 1 : end;
		number++;
		wrong = copy(at, (size_t)((newline ? newline : end) - at), copied);
		n = wrong ? 0 : split(copied, words);
		if (!wrong && !n)
			continue;
		wrong = wrong ? wrong : parse(words, n, &line);
		if (wrong) {
			(void)snprintf(text, POLICY_TEXT, "%s", wrong);
			return number;
		}
		if (!grant.ports && !strcmp(line.bridge, bridge) && is_callers(&line, caller, lookup, arg))
			grant = (struct policy_grant){ .ports = line.ports, .isolated = line.isolated };
	}
	*ret = grant;
	return 0;
}
