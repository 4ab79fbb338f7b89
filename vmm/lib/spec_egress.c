#include "lib/spec_egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

#define FORM                                                                                                           \
	"write ADDRESS[/BITS] or NAME, and [:PORT[/tcp|/udp]] behind it, IPv6 with a port in brackets: "               \
	"[2001:db8::/32]:443"

/* Cuts "ADDRESS[/BITS]" from what follows it; *ret_rest: behind the ':', NULL: nothing. -EINVAL: brackets that do not match. */
static int cut(char *text, char **ret_where, char **ret_rest)
{
	char *colon = strchr(text, ':'), *end;

	*ret_where = text;
	*ret_rest = NULL;
	if (*text == '[') {
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		*ret_where = text + 1;
		*ret_rest = end[1] ? end + 2 : NULL;
		*end = '\0';
	} else if (colon && !strchr(colon + 1, ':')) { /* with a second one it is IPv6 */
		*ret_rest = colon + 1;
		*colon = '\0';
	}
	return 0;
}

static bool only_zeroes_behind(const struct spec_net_address *a, unsigned len)
{
	for (unsigned bit = a->prefix; bit < len * 8; bit++)
		if (a->bytes[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

/* The network that the user may have meant. */
static void clear_behind(struct spec_net_address *a, unsigned len)
{
	for (unsigned bit = a->prefix; bit < len * 8; bit++)
		a->bytes[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
}

/* "example.org" and "*.example.org"; what ends in digits is an address that went wrong. */
static bool parse_name(const char *where, struct spec_egress *ret)
{
	bool below = where[0] == '*' && where[1] == '.';
	char name[DNS_NAME] = "";
	const char *last;

	if (!dns_name(where + (below ? 2 : 0), name))
		return false;
	last = strrchr(name, '.');
	last = last ? last + 1 : name;
	if (!last[strspn(last, "0123456789")])
		return false;
	memcpy(ret->name, name, sizeof(name));
	ret->below = below;
	return true;
}

static int parse_where(const char *label, const char *value, char *where, struct spec_net_address *ret,
		       struct mvm_error *err)
{
	struct spec_net_address a = { 0 };
	char *slash = strchr(where, '/'), text[INET6_ADDRSTRLEN];
	unsigned len;
	uint64_t bits;

	if (slash)
		*slash++ = '\0';
	if (inet_pton(AF_INET, where, a.bytes) == 1)
		a.family = 4;
	else if (inet_pton(AF_INET6, where, a.bytes) == 1)
		a.family = 6;
	else
		return error_set(err, EINVAL, "%s: '%.80s': neither an address nor a name: " FORM, label, value);
	len = a.family == 4 ? 4 : 16;
	bits = len * 8UL;
	if (slash && text_parse_uint(slash, len * 8UL, &bits) < 0)
		return error_set(err, EINVAL, "%s: '%.80s': a network has 0 to %u bits: " FORM, label, value, len * 8);
	a.prefix = (uint8_t)bits;
	if (!only_zeroes_behind(&a, len)) {
		clear_behind(&a, len);
		(void)inet_ntop(a.family == 4 ? AF_INET : AF_INET6, a.bytes, text, sizeof(text));
		return error_set(err, EINVAL, "%s: '%.80s': more address than /%u: write %s/%u, or the address alone",
				 label, value, a.prefix, text, a.prefix);
	}
	*ret = a;
	return 0;
}

static int parse_port(const char *label, const char *value, char *rest, struct spec_egress *rule, struct mvm_error *err)
{
	char *slash = strchr(rest, '/');
	uint64_t port = 0;

	if (slash)
		*slash++ = '\0';
	if (text_parse_uint(rest, 65535, &port) < 0 || !port)
		return error_set(err, EINVAL, "%s: '%.80s': no port: give 1 to 65535: " FORM, label, value);
	rule->port = (uint16_t)port;
	if (slash && !strcmp(slash, "tcp"))
		rule->protocol = IPPROTO_TCP;
	else if (slash && !strcmp(slash, "udp"))
		rule->protocol = IPPROTO_UDP;
	else if (slash)
		return error_set(err, EINVAL, "%s: '%.80s': '%.20s' has no ports here: give tcp or udp", label, value,
				 slash);
	return 0;
}

int spec_egress_parse(const char *label, const char *value, struct spec_egress *ret_rule, struct mvm_error *err)
{
	struct spec_egress rule = { 0 };
	char text[300], *where, *rest;
	int r;

	if (strlen(value) >= sizeof(text))
		return error_set(err, E2BIG, "%s: '%.60s…' is too long: " FORM, label, value);
	memcpy(text, value, strlen(value) + 1);
	if (cut(text, &where, &rest) < 0)
		return error_set(err, EINVAL, "%s: '%.80s': the brackets do not match: " FORM, label, value);
	r = parse_name(where, &rule) ? 0 : parse_where(label, value, where, &rule.to, err);
	if (r == 0 && rest)
		r = parse_port(label, value, rest, &rule, err);
	if (r == 0)
		*ret_rule = rule;
	return r;
}
