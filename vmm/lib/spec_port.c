/* --allow-port: its text, and the addresses behind it; see spec.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/spec.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/proto.h"

#define FLAG "--allow-port"

static int port_number(const char *value, size_t len, uint32_t *ret_port, struct mvm_error *err)
{
	char text[24];
	uint64_t n = 0;

	(void)snprintf(text, sizeof(text), "%.*s", len < sizeof(text) ? (int)len : 0, value);
	/* 2^32 - 1 is VMADDR_PORT_ANY. */
	if (text_parse_uint(text, UINT32_MAX - 1, &n) < 0 || !n)
		return error_set(err, EINVAL, FLAG ": '%.40s': not a vsock port before the =: give 2 to %u", value,
				 PROTO_PORT_STREAM - 1);
	if (n == PROTO_PORT || n >= PROTO_PORT_STREAM)
		return error_set(err, EINVAL,
				 FLAG ": %.40s: port %llu is mvm's own, to speak with its agent: give 2 to %u", value,
				 (unsigned long long)n, PROTO_PORT_STREAM - 1);
	*ret_port = (uint32_t)n;
	return 0;
}

/* The absolute form of what follows "unix:". */
static int unix_target(const char *value, const char *path, char **ret_target, struct mvm_error *err)
{
	_cleanup_free_ char *cwd = NULL;
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	char *target;

	if (!*path)
		return error_set(err, EINVAL, FLAG ": %.80s: no path: write N=unix:PATH", value);
	if (*path == '@')
		return error_set(err, EINVAL, FLAG ": %.80s: abstract sockets belong to no file system: give a path",
				 value);
	if (*path != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return error_set(err, errno, FLAG ": %.80s: no working directory: %s: give an absolute path",
					 value, strerror(errno));
	}
	if (asprintf(&target, "unix:%s%s%s", cwd ? cwd : "", cwd ? "/" : "", path) < 0)
		return error_set(err, ENOMEM, FLAG ": out of memory");
	if (strlen(target + 5) > max) {
		(void)error_set(err, ENAMETOOLONG,
				FLAG ": %.120s: a socket's path has at most %zu bytes: use a shorter one", target + 5,
				max);
		free(target);
		return -ENAMETOOLONG;
	}
	*ret_target = target;
	return 0;
}

/* Cuts "HOST:PORT" or "[HOST]:PORT"; host[] has room for SPEC_HOST_MAX + 1. */
static int cut_tcp(const char *text, char *host, uint16_t *ret_port)
{
	const char *colon = strrchr(text, ':');
	uint64_t port = 0;
	size_t len;

	if (!colon || text_parse_uint(colon + 1, 65535, &port) < 0 || !port)
		return -EDESTADDRREQ;
	len = (size_t)(colon - text);
	if (*text == '[') {
		if (len < 3 || text[len - 1] != ']')
			return -EINVAL;
		text++;
		len -= 2;
		if (!memchr(text, ':', len))
			return -EINVAL;
	} else if (memchr(text, ':', len)) {
		return -EAFNOSUPPORT; /* IPv6 without brackets: where the port begins is a guess */
	}
	if (!len || len > SPEC_HOST_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f || strchr("[]/,=@", text[i]))
			return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	*ret_port = (uint16_t)port;
	return 0;
}

/* A number, no name. */
static int parse_address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	const char *scope = strchr(text, '%');
	char number[INET6_ADDRSTRLEN];
	uint64_t index = 0;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		return 0;
	}
	if ((size_t)snprintf(number, sizeof(number), "%.*s", scope ? (int)(scope - text) : (int)strlen(text), text) >=
		    sizeof(number) ||
	    inet_pton(AF_INET6, number, &in6->sin6_addr) != 1)
		return -EINVAL;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	if (scope && text_parse_uint(scope + 1, UINT32_MAX, &index) < 0)
		index = if_nametoindex(scope + 1);
	if (scope && !index)
		return -ENODEV;
	in6->sin6_scope_id = (uint32_t)index;
	return 0;
}

static int tcp_target(const char *value, const char *text, char **ret_target, struct mvm_error *err)
{
	char host[SPEC_HOST_MAX + 1];
	struct sockaddr_storage address;
	uint16_t port;
	int r = cut_tcp(text, host, &port);

	if (r == -EDESTADDRREQ)
		return error_set(err, EINVAL,
				 FLAG ": %.80s: no TCP port, 1 to 65535, at its end: write N=tcp:HOST:PORT", value);
	if (r == -EAFNOSUPPORT)
		return error_set(err, EINVAL,
				 FLAG ": %.80s: an IPv6 address goes in brackets: write N=tcp:[ADDRESS]:PORT", value);
	if (r < 0 || (*text == '[' && parse_address(host, port, &address) == -EINVAL))
		return error_set(err, EINVAL, FLAG ": %.80s: not a host: give a name, an IPv4 address or [IPv6]",
				 value);
	if (asprintf(ret_target, "tcp:%s", text) < 0)
		return error_set(err, ENOMEM, FLAG ": out of memory");
	return 0;
}

int spec_port_add(struct mvm_spec *spec, const char *value, const char *addresses, struct mvm_error *err)
{
	const char *equals = strchr(value, '=');
	_cleanup_free_ char *target = NULL, *copy = NULL;
	uint32_t port = 0;
	int r;

	if (!equals)
		return error_set(err, EINVAL, FLAG ": '%.80s': write N=unix:PATH or N=tcp:HOST:PORT", value);
	if (strlen(value) >= SPEC_PORT_TEXT_MAX - 16)
		return error_set(err, ENAMETOOLONG, FLAG ": %.80s…: too long", value);
	r = port_number(value, (size_t)(equals - value), &port, err);
	if (r < 0)
		return r;
	if (!strncmp(equals + 1, "unix:", 5))
		r = unix_target(value, equals + 6, &target, err);
	else if (!strncmp(equals + 1, "tcp:", 4))
		r = tcp_target(value, equals + 5, &target, err);
	else
		r = error_set(err, EINVAL, FLAG ": %.80s: leads nowhere known: write N=unix:PATH or N=tcp:HOST:PORT",
			      value);
	if (r < 0)
		return r;
	for (size_t i = 0; i < spec->nports; i++)
		if (spec->ports[i].port == port)
			return error_set(err, EEXIST, FLAG ": port %u is given twice: leave one out", port);
	if (spec->nports == SPEC_PORTS_MAX)
		return error_set(err, E2BIG, FLAG ": at most %u ports are possible: leave some out", SPEC_PORTS_MAX);
	copy = addresses ? strdup(addresses) : NULL;
	if (addresses && !copy)
		return error_set(err, ENOMEM, FLAG ": out of memory");
	spec->ports[spec->nports++] =
		(struct spec_port){ .port = port, .target = take_ptr(&target), .addresses = take_ptr(&copy) };
	return 0;
}

int spec_port_addresses(const struct spec_port *port, struct sockaddr_storage *ret_addresses, unsigned max,
			struct mvm_error *err)
{
	char host[SPEC_HOST_MAX + 1], list[SPEC_PORT_ADDRS * (INET6_ADDRSTRLEN + IF_NAMESIZE + 2)];
	struct sockaddr_un *un = (struct sockaddr_un *)ret_addresses;
	char *rest = list, *one;
	unsigned n = 0;
	uint16_t number;

	if (!strncmp(port->target, "unix:", 5)) {
		memset(un, 0, sizeof(*ret_addresses));
		un->sun_family = AF_UNIX;
		(void)snprintf(un->sun_path, sizeof(un->sun_path), "%s", port->target + 5); /* its length was checked */
		return 1;
	}
	if (cut_tcp(port->target + 4, host, &number) < 0)
		return error_set(err, EINVAL, FLAG ": %s: not a host", port->target);
	(void)snprintf(list, sizeof(list), "%s", port->addresses ? port->addresses : host);
	while (n < max && (one = strsep(&rest, ",")))
		if (parse_address(one, number, &ret_addresses[n++]) < 0)
			return error_set(err, EADDRNOTAVAIL,
					 FLAG ": %s: '%.60s' is no address of this host's: give another", port->target,
					 one);
	return (int)n;
}
