/*
 * The names behind --allow-port, asked for once, when a VM starts: who answers for the name later
 * cannot move the port elsewhere. In a file of its own: the resolver is no part of the supervisor,
 * which is linked statically and could not load what nsswitch.conf names.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/spec.h"
#include "lib/text.h"

/* HOST of "tcp:HOST:PORT". */
static void host_of(const char *target, char host[SPEC_HOST_MAX + 1])
{
	const char *end = strrchr(target, ':');

	(void)snprintf(host, SPEC_HOST_MAX + 1, "%.*s", (int)(end - target - 4), target + 4);
}

static int resolve(struct spec_port *port, struct mvm_error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *found = NULL;
	char host[SPEC_HOST_MAX + 1], text[SPEC_PORT_ADDRS * 64] = "", one[64];
	struct sockaddr_storage known[SPEC_PORT_ADDRS];
	size_t len = 0;
	unsigned n = 0;
	int r;

	if (port->addresses || spec_port_addresses(port, known, SPEC_PORT_ADDRS, NULL) > 0)
		return 0; /* a path, a number, or known already */
	host_of(port->target, host);
	r = getaddrinfo(host, NULL, &hints, &found);
	if (r)
		return error_set(err, EADDRNOTAVAIL, "--allow-port: %u=%s: the name cannot be resolved: %s", port->port,
				 port->target, r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
	for (const struct addrinfo *a = found; a && n < SPEC_PORT_ADDRS; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, one, sizeof(one), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", n++ ? "," : "", one);
	}
	freeaddrinfo(found);
	if (!n)
		return error_set(err, EADDRNOTAVAIL, "--allow-port: %u=%s: the name has no address", port->port,
				 port->target);
	port->addresses = strdup(text);
	return port->addresses ? 0 : error_set(err, ENOMEM, "--allow-port: out of memory");
}

int spec_ports_resolve(struct mvm_spec *spec, struct mvm_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->nports; i++)
		r = resolve(&spec->ports[i], err);
	return r;
}
