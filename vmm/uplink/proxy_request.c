#include "uplink/proxy_request.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define N(array)   (sizeof(array) / sizeof((array)[0]))
#define FIELDS_MAX 128U /* of a head: each is looked for in every Connection */

enum { SOCKS_VERSION = 5, SOCKS_CONNECT = 1, SOCKS_IP4 = 1, SOCKS_NAME = 3, SOCKS_IP6 = 4 };

/* A piece of the head. */
struct text {
	const char *at;
	size_t len;
};

static int refuse(enum proxy_result why, enum proxy_result *ret_why)
{
	*ret_why = why;
	return -1;
}

enum proxy_kind proxy_kind_of(uint8_t first)
{
	if (first == SOCKS_VERSION)
		return PROXY_SOCKS;
	return (first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z') ? PROXY_CONNECT : PROXY_NONE;
}

/* ---- where to ---- */

/* An address as it is written, or a name; what is neither is refused: no other way to write an address is known here. */
static bool set_host(struct proxy_request *ret, struct text host, bool brackets)
{
	char copy[DNS_NAME + 1];

	if (!host.len || host.len >= sizeof(copy) || memchr(host.at, '\0', host.len))
		return false;
	memcpy(copy, host.at, host.len);
	copy[host.len] = '\0';
	ret->name[0] = '\0';
	if (brackets) {
		ret->family = 6;
		return inet_pton(AF_INET6, copy, ret->address) == 1;
	}
	ret->family = inet_pton(AF_INET, copy, ret->address) == 1 ? 4 : 0;
	return ret->family || dns_name(copy, ret->name);
}

static bool set_port(struct proxy_request *ret, struct text digits)
{
	uint32_t port = 0;

	if (!digits.len || digits.len > 5)
		return false;
	for (size_t i = 0; i < digits.len; i++) {
		if (digits.at[i] < '0' || digits.at[i] > '9')
			return false;
		port = port * 10 + (uint32_t)(digits.at[i] - '0');
	}
	ret->port = (uint16_t)port;
	return port && port <= UINT16_MAX;
}

/* HOST[:PORT], [IPV6][:PORT]; `port`: the one that need not be written, 0: it must be. */
static bool set_authority(struct proxy_request *ret, struct text a, uint16_t port)
{
	bool brackets = a.len && *a.at == '[';
	const char *end = a.len ? memchr(a.at, brackets ? ']' : ':', a.len) : NULL;
	struct text host = { a.at + brackets, 0 }, rest;

	if (brackets && !end)
		return false;
	host.len = (size_t)((end ? end : a.at + a.len) - host.at);
	rest.at = host.at + host.len + brackets;
	rest.len = (size_t)(a.at + a.len - rest.at);
	if (!set_host(ret, host, brackets) || (rest.len && *rest.at != ':'))
		return false;
	if (rest.len > 1)
		return set_port(ret, (struct text){ rest.at + 1, rest.len - 1 });
	ret->port = port;
	return port;
}

/* ---- SOCKS ---- */

int proxy_socks_greeting(const uint8_t *bytes, size_t len, bool *ret_good)
{
	if (len < 2 || len < 2U + bytes[1])
		return 0;
	*ret_good = bytes[1] && memchr(bytes + 2, 0, bytes[1]);
	return 2 + bytes[1];
}

int proxy_socks_request(const uint8_t *bytes, size_t len, struct proxy_request *ret, enum proxy_result *ret_why)
{
	size_t size, at = 4;

	*ret = (struct proxy_request){ .kind = PROXY_SOCKS };
	if (len && bytes[0] != SOCKS_VERSION)
		return refuse(PROXY_BAD, ret_why);
	if (len < 5)
		return 0;
	if (bytes[1] != SOCKS_CONNECT)
		return refuse(PROXY_COMMAND, ret_why);
	if (bytes[3] != SOCKS_IP4 && bytes[3] != SOCKS_IP6 && bytes[3] != SOCKS_NAME)
		return refuse(PROXY_ADDRESS, ret_why);
	size = bytes[3] == SOCKS_IP4 ? 4 : bytes[3] == SOCKS_IP6 ? 16 : bytes[at++];
	if (len < at + size + 2)
		return 0;
	if (bytes[3] == SOCKS_NAME) {
		/* Addresses come as names, too (socks5h) … */
		struct text host = { (const char *)bytes + at, size };

		if (!set_host(ret, host, size && memchr(host.at, ':', size)))
			return refuse(PROXY_BAD, ret_why);
	} else {
		ret->family = bytes[3] == SOCKS_IP4 ? 4 : 6;
		memcpy(ret->address, bytes + at, size);
	}
	ret->port = (uint16_t)(bytes[at + size] << 8 | bytes[at + size + 1]);
	return ret->port ? (int)(at + size + 2) : refuse(PROXY_BAD, ret_why);
}

/* ---- HTTP ---- */

/* RFC 9110 §5.6.2 */
static bool is_token(struct text t)
{
	for (size_t i = 0; i < t.len; i++) {
		char c = t.at[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (c && strchr("!#$%&'*+-.^_`|~", c))))
			return false;
	}
	return t.len;
}

static bool is(struct text t, const char *word)
{
	return t.len == strlen(word) && !strncasecmp(t.at, word, t.len);
}

/* The line at `at`, without its end; the next one's place. False: it has no end. */
static bool next_line(const uint8_t *bytes, size_t len, size_t *at, struct text *ret)
{
	const uint8_t *end = *at < len ? memchr(bytes + *at, '\n', len - *at) : NULL;

	if (!end)
		return false;
	ret->at = (const char *)bytes + *at;
	ret->len = (size_t)(end - bytes) - *at;
	*at += ret->len + 1;
	if (ret->len && ret->at[ret->len - 1] == '\r')
		ret->len--;
	return true;
}

/* A field's name, of a line that is none whole: where it ends. */
static struct text name_of(struct text line)
{
	const char *colon = memchr(line.at, ':', line.len);

	return (struct text){ line.at, colon ? (size_t)(colon - line.at) : 0 };
}

/* No control byte, so none that one reader takes for an end of line and another does not (RFC 9112 §2.2). */
static bool is_clean(struct text line)
{
	for (size_t i = 0; i < line.len; i++)
		if ((uint8_t)line.at[i] < ' ' ? line.at[i] != '\t' : line.at[i] == 0x7f)
			return false;
	return true;
}

/* The head's end: the byte behind its empty line; 0: it is not there yet. -1: a field is none. */
static int check_fields(const uint8_t *bytes, size_t len, size_t at, enum proxy_result *ret_why)
{
	struct text line;

	for (unsigned n = 0; next_line(bytes, len, &at, &line); n++) {
		if (!line.len)
			return (int)at;
		if (n == FIELDS_MAX)
			return refuse(PROXY_LARGE, ret_why);
		/* A line that goes on with the last one's value begins with a blank: that is no name. */
		if (!is_clean(line) || !is_token(name_of(line)))
			return refuse(PROXY_BAD, ret_why);
	}
	return 0;
}

/* "http://HOST[:PORT][/PATH][?QUERY]" (RFC 9112 §3.2.2). */
static bool set_target(struct proxy_request *ret, const uint8_t *bytes, struct text target)
{
	static const char scheme[] = "http://";
	struct text authority = { target.at + strlen(scheme), 0 };

	if (target.len <= strlen(scheme) || strncasecmp(target.at, scheme, strlen(scheme)) != 0 ||
	    memchr(target.at, '#', target.len))
		return false;
	while (authority.at + authority.len < target.at + target.len && !strchr("/?", authority.at[authority.len]))
		authority.len++;
	ret->authority = (size_t)(authority.at - (const char *)bytes);
	ret->authority_len = authority.len;
	ret->path = ret->authority + authority.len;
	ret->path_len = (size_t)(target.at + target.len - authority.at) - authority.len;
	return set_authority(ret, authority, 80);
}

/* Content-Length or Transfer-Encoding (RFC 9112 §6.3); both, or two lengths, are what request smuggling is made of. */
static bool set_body(struct proxy_request *ret, const uint8_t *bytes, size_t len, size_t at)
{
	bool any = false;
	struct text line;

	while (next_line(bytes, len, &at, &line) && line.len) {
		struct text name = name_of(line), value = { line.at + name.len + 1, line.len - name.len - 1 };

		if (!is(name, "Content-Length") && !is(name, "Transfer-Encoding"))
			continue;
		if (any)
			return false;
		any = true;
		if (is(name, "Transfer-Encoding")) {
			ret->body = UINT64_MAX;
			continue;
		}
		while (value.len && strchr(" \t", *value.at)) {
			value.at++;
			value.len--;
		}
		while (value.len && strchr(" \t", value.at[value.len - 1]))
			value.len--;
		if (!value.len || value.len > 18) /* a number below 10^18 */
			return false;
		for (size_t i = 0; i < value.len; i++) {
			if (value.at[i] < '0' || value.at[i] > '9')
				return false;
			ret->body = ret->body * 10 + (uint64_t)(value.at[i] - '0');
		}
	}
	return true;
}

static int parse_line(const uint8_t *bytes, struct text line, struct proxy_request *ret, enum proxy_result *ret_why)
{
	const char *blank = memchr(line.at, ' ', line.len);
	const char *second = blank ? memchr(blank + 1, ' ', line.len - (size_t)(blank + 1 - line.at)) : NULL;
	struct text method, target, version;

	if (!second)
		return refuse(PROXY_BAD, ret_why);
	method = (struct text){ line.at, (size_t)(blank - line.at) };
	target = (struct text){ blank + 1, (size_t)(second - blank - 1) };
	version = (struct text){ second + 1, line.len - (size_t)(second + 1 - line.at) };
	if (!is_token(method) || !target.len || version.len != 8 || strncmp(version.at, "HTTP/", 5) != 0)
		return refuse(PROXY_BAD, ret_why);
	for (size_t i = 0; i < target.len; i++)
		if (target.at[i] <= ' ' || target.at[i] >= 0x7f)
			return refuse(PROXY_BAD, ret_why);
	if (strncmp(version.at + 5, "1.", 2) != 0 || version.at[7] < '0' || version.at[7] > '9')
		return refuse(PROXY_VERSION, ret_why);
	if (is(method, "CONNECT"))
		return set_authority(ret, target, 0) ? 0 : refuse(PROXY_BAD, ret_why);
	/* What it is for is to see the proxies between (RFC 9110 §9.3.8). */
	if (is(method, "TRACE"))
		return refuse(PROXY_METHOD, ret_why);
	ret->kind = PROXY_FORWARD;
	ret->method_len = method.len;
	return set_target(ret, bytes, target) ? 0 : refuse(PROXY_BAD, ret_why);
}

int proxy_http_request(const uint8_t *bytes, size_t len, struct proxy_request *ret, enum proxy_result *ret_why)
{
	struct text line;
	size_t at = 0;
	int r;

	*ret = (struct proxy_request){ .kind = PROXY_CONNECT };
	r = next_line(bytes, len, &at, &line) ? check_fields(bytes, len, at, ret_why) : 0;
	if (r == 0 && len >= PROXY_HEAD)
		return refuse(PROXY_LARGE, ret_why);
	if (r <= 0)
		return r;
	if (r > (int)PROXY_HEAD)
		return refuse(PROXY_LARGE, ret_why);
	if (!is_clean(line))
		return refuse(PROXY_BAD, ret_why);
	if (parse_line(bytes, line, ret, ret_why) < 0)
		return -1;
	if (ret->kind == PROXY_FORWARD && !set_body(ret, bytes, (size_t)r, at))
		return refuse(PROXY_BAD, ret_why);
	return r;
}

/* ---- a request passed on ---- */

/* Whether `name` is among the comma-separated words of a value. */
static bool names(struct text list, struct text name)
{
	const char *end = list.at + list.len;

	while (list.at < end) {
		const char *comma = memchr(list.at, ',', (size_t)(end - list.at));
		struct text word = { list.at, (size_t)((comma ? comma : end) - list.at) };

		while (word.len && strchr(" \t", *word.at)) {
			word.at++;
			word.len--;
		}
		while (word.len && strchr(" \t", word.at[word.len - 1]))
			word.len--;
		if (word.len == name.len && !strncasecmp(word.at, name.at, name.len))
			return true;
		list.at = comma ? comma + 1 : end;
	}
	return false;
}

/* Fields that are between a client and its proxy, by their names or by Connection's (RFC 9110 §7.6.1); and Host. */
static bool is_dropped(const uint8_t *head, size_t len, size_t fields, struct text name)
{
	static const char *const known[] = {
		"Host", "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Authenticate",
		"TE",   "Upgrade"
	};
	struct text line;

	for (size_t i = 0; i < N(known); i++)
		if (is(name, known[i]))
			return true;
	/* Without these the rest would be read as something else. */
	if (is(name, "Content-Length") || is(name, "Transfer-Encoding"))
		return false;
	for (size_t at = fields; next_line(head, len, &at, &line) && line.len;)
		if (is(name_of(line), "Connection") &&
		    names((struct text){ line.at + 11, line.len - 11 }, name)) /* behind the colon */
			return true;
	return false;
}

struct out {
	uint8_t *bytes;
	size_t len;
};

static void put(struct out *out, const void *bytes, size_t len)
{
	if (len > PROXY_REWRITE - out->len) /* never: of the head nothing is written more than twice */
		len = PROXY_REWRITE - out->len;
	memcpy(out->bytes + out->len, bytes, len);
	out->len += len;
}

static void put_text(struct out *out, const char *text)
{
	put(out, text, strlen(text));
}

size_t proxy_rewrite(const uint8_t *head, size_t len, const struct proxy_request *request,
		     uint8_t out_bytes[PROXY_REWRITE])
{
	struct out out = { .bytes = out_bytes };
	struct text line;
	size_t at = 0, fields;

	if (!next_line(head, len, &at, &line)) /* never: it was read before */
		return 0;
	fields = at;
	put(&out, head, request->method_len);
	put_text(&out, " ");
	/* RFC 9112 §3.2.1, §3.2.4 */
	if (!request->path_len && is((struct text){ line.at, request->method_len }, "OPTIONS"))
		put_text(&out, "*");
	else if (!request->path_len || head[request->path] != '/')
		put_text(&out, "/");
	put(&out, head + request->path, request->path_len);
	put_text(&out, " ");
	put(&out, line.at + line.len - 8, 8);
	put_text(&out, "\r\nHost: "); /* the target's, whatever the field said (RFC 9112 §3.2.2) */
	put(&out, head + request->authority, request->authority_len);
	put_text(&out, "\r\n");
	while (next_line(head, len, &at, &line) && line.len) {
		if (is_dropped(head, len, fields, name_of(line)))
			continue;
		put(&out, line.at, line.len);
		put_text(&out, "\r\n");
	}
	put_text(&out, "Connection: close\r\nVia: 1.1 mvm\r\n\r\n");
	return out.len;
}

/* ---- answers ---- */

/* status: of HTTP, socks: the reply's code (RFC 1928 §6), text: with the destination before it. */
static const struct {
	unsigned status;
	uint8_t socks;
	bool place; /* the text is about the destination */
	const char *text;
} results[] = {
	[PROXY_OPENED] = { 200, 0, false, "Connection established" },
	[PROXY_POLICY] = { 403, 2, true, "is refused" },
	[PROXY_OWN] = { 403, 2, true, "the loopback and mvm's own addresses lead nowhere: see no_proxy" },
	[PROXY_UNNAMED] = { 403, 2, true,
			    "with --egress deny names are not resolved but those that --allow-egress gives" },
	[PROXY_NO_NAME] = { 502, 4, true, "there is no such name, or it has no address" },
	[PROXY_NO_ANSWER] = { 504, 4, true, "the name server does not answer: see the host's /etc/resolv.conf" },
	[PROXY_REFUSED] = { 502, 5, true, "nobody listens there" },
	[PROXY_UNREACHABLE] = { 502, 3, true, "the host has no way there" },
	[PROXY_TIMEOUT] = { 504, 4, true, "no answer in time" },
	[PROXY_LATE] = { 408, 1, false, "the request came too slowly" },
	[PROXY_BAD] = { 400, 1, false, "no request to a proxy: CONNECT HOST:PORT, or a method with http://HOST/" },
	[PROXY_LARGE] = { 431, 1, false, "the request's head is larger than 16 KiB" },
	[PROXY_METHOD] = { 405, 1, false, "that method is not passed on" },
	[PROXY_VERSION] = { 505, 1, false, "HTTP/1.0 and HTTP/1.1 alone are spoken here" },
	[PROXY_COMMAND] = { 405, 7, false, "CONNECT alone is known here" },
	[PROXY_ADDRESS] = { 400, 8, false, "that kind of address is not known" },
	[PROXY_FAILED] = { 503, 1, false, "the proxy is short of something: try again" },
};

static size_t answer_socks(enum proxy_result result, uint8_t out[PROXY_ANSWER])
{
	static const uint8_t address[] = { 0, SOCKS_IP4, 0, 0, 0, 0, 0, 0 }; /* ours is nobody's business */

	out[0] = SOCKS_VERSION;
	out[1] = results[result].socks;
	memcpy(out + 2, address, sizeof(address));
	return 2 + sizeof(address);
}

static void text_of(const struct proxy_request *request, enum proxy_result result, const char *where, const char *why,
		    char text[600])
{
	const char *name = request->name;

	if (!results[result].place)
		(void)snprintf(text, 600, "%s", results[result].text);
	else if (result == PROXY_POLICY)
		(void)snprintf(text, 600, "%s%s%s%s is refused: %s: see mvm run --allow-egress %s", name,
			       *name ? " (" : "", where, *name ? ")" : "", why, where);
	else if (*name)
		(void)snprintf(text, 600, "%s:%u: %s", name, request->port, results[result].text);
	else
		(void)snprintf(text, 600, "%s: %s", where, results[result].text);
}

size_t proxy_answer(const struct proxy_request *request, enum proxy_result result, const char *where, const char *why,
		    uint8_t out[PROXY_ANSWER])
{
	char text[600];
	int n;

	if (request->kind == PROXY_SOCKS)
		return answer_socks(result, out);
	if (result == PROXY_OPENED && request->kind == PROXY_FORWARD)
		return 0;
	text_of(request, result, where, why, text);
	/* What a client shows of a CONNECT that failed is the first line alone. */
	if (result == PROXY_OPENED)
		n = snprintf((char *)out, PROXY_ANSWER, "HTTP/1.1 %u %s\r\n\r\n", results[result].status, text);
	else
		n = snprintf((char *)out, PROXY_ANSWER,
			     "HTTP/1.1 %u mvm: %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s"
			     "Connection: close\r\n\r\nmvm: %s\n",
			     results[result].status, text, strlen(text) + 6,
			     result == PROXY_METHOD ? "Allow: CONNECT, GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n"
						    : "",
			     text);
	return n < 0 ? 0 : (size_t)n;
}
