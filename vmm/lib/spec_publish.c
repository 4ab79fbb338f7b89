#include "lib/spec_publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

#define FORM "write it as [IP:]HOST:GUEST[/udp], for example 8080:80 or 127.0.0.1:53:53/udp"

/* Cuts the protocol off. */
static int parse_protocol(const char *label, const char *value, char *text, bool *ret_udp, struct mvm_error *err)
{
	char *slash = strchr(text, '/');

	if (!slash)
		return 0;
	*slash++ = '\0';
	*ret_udp = !strcmp(slash, "udp");
	if (*ret_udp || !strcmp(slash, "tcp"))
		return 0;
	return error_set(err, EINVAL, "%s: %.60s: '%.20s' is no protocol: tcp and udp are published", label, value,
			 slash);
}

static int parse_port(const char *label, const char *value, const char *text, const char *whose, uint16_t least,
		      uint16_t *ret, struct mvm_error *err)
{
	uint64_t port = 0;

	if (strchr(text, '-'))
		return error_set(err, ENOTSUP, "%s: %.60s: ranges are not published: give each port a -p of its own",
				 label, value);
	if (text_parse_uint(text, UINT16_MAX, &port) < 0 || port < least)
		return error_set(err, EINVAL, "%s: %.60s: '%.20s' is no port of the %s, %u to 65535: " FORM, label,
				 value, text, whose, least);
	*ret = (uint16_t)port;
	return 0;
}

static int parse_address(const char *label, const char *value, const char *text, struct spec_publish *ret,
			 struct mvm_error *err)
{
	char inner[INET6_ADDRSTRLEN];
	size_t len = strlen(text);

	if (*text == '[' && len > 2 && len - 2 < sizeof(inner) && text[len - 1] == ']') {
		(void)snprintf(inner, sizeof(inner), "%.*s", (int)(len - 2), text + 1);
		ret->family = 6;
		if (inet_pton(AF_INET6, inner, ret->address) == 1)
			return 0;
	} else if (strchr(text, ':')) {
		return error_set(err, EINVAL, "%s: %.60s: an IPv6 address goes in brackets: [ADDRESS]:HOST:GUEST",
				 label, value);
	}
	ret->family = 4;
	if (inet_pton(AF_INET, text, ret->address) == 1)
		return 0;
	return error_set(err, EINVAL,
			 "%s: %.60s: '%.60s' is no address of the host: give a number, names are not looked up", label,
			 value, text);
}

int spec_publish_parse(const char *label, const char *value, struct spec_publish *ret, struct mvm_error *err)
{
	struct spec_publish publish = { .address = { 127, 0, 0, 1 }, .family = 4 };
	char text[SPEC_PUBLISH_TEXT], *guest, *host = NULL;
	int r;

	if (strlen(value) >= sizeof(text))
		return error_set(err, E2BIG, "%s: '%.60s…' is too long: " FORM, label, value);
	memcpy(text, value, strlen(value) + 1);
	r = parse_protocol(label, value, text, &publish.udp, err);
	if (r < 0)
		return r;
	guest = strrchr(text, ':');
	if (guest && !strchr(guest, ']')) { /* what is behind a bracket's is inside an address */
		*guest++ = '\0';
		host = strrchr(text, ':');
		if (host && !strchr(host, ']')) {
			*host++ = '\0';
			r = parse_address(label, value, text, &publish, err);
		} else {
			host = text;
		}
	} else {
		guest = text;
	}
	/* "IP::GUEST", as docker has it, is any port; ":GUEST" is a slip. */
	if (r == 0 && host && (*host || host == text))
		r = parse_port(label, value, host, "host", 0, &publish.host, err);
	if (r == 0)
		r = parse_port(label, value, guest, "guest", 1, &publish.guest, err);
	if (r == 0)
		*ret = publish;
	return r;
}

static const char *address_text(const struct spec_publish *publish, char buf[INET6_ADDRSTRLEN + 2])
{
	char text[INET6_ADDRSTRLEN];

	(void)inet_ntop(publish->family == 4 ? AF_INET : AF_INET6, publish->address, text, sizeof(text));
	(void)snprintf(buf, INET6_ADDRSTRLEN + 2, publish->family == 4 ? "%s" : "[%s]", text);
	return buf;
}

const char *spec_publish_text(const struct spec_publish *publish, char buf[SPEC_PUBLISH_TEXT])
{
	char address[INET6_ADDRSTRLEN + 2];

	(void)snprintf(buf, SPEC_PUBLISH_TEXT, "%s:%u:%u%s", address_text(publish, address), publish->host,
		       publish->guest, publish->udp ? "/udp" : "");
	return buf;
}

const char *spec_publish_where(const struct spec_publish *publish, uint16_t host, char buf[SPEC_PUBLISH_TEXT])
{
	char address[INET6_ADDRSTRLEN + 2];

	(void)snprintf(buf, SPEC_PUBLISH_TEXT, "%s:%u->%u/%s", address_text(publish, address), host, publish->guest,
		       publish->udp ? "udp" : "tcp");
	return buf;
}
