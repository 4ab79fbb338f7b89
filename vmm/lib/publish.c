#include "lib/publish.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

#define FLAG "-p/--publish"

/* A client whose machine is gone is found out: seconds until it is asked, between that, and how often. */
#define ALIVE_IDLE_S     60
#define ALIVE_INTERVAL_S 15
#define ALIVE_PROBES     4

static socklen_t address_of(const struct spec_publish *spec, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (spec->family == 4) {
		in->sin_family = AF_INET;
		in->sin_port = htons(spec->host);
		memcpy(&in->sin_addr, spec->address, sizeof(in->sin_addr));
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(spec->host);
	memcpy(&in6->sin6_addr, spec->address, sizeof(in6->sin6_addr));
	return sizeof(*in6);
}

/* Options of a listening socket: first those of its address, then what accept(2)ed ones inherit from it (tcp(7)). */
enum { OPTIONS_ADDRESS, OPTIONS_INHERITED, OPTIONS_V6 = 6 };

static int set_options(int fd, size_t first, size_t end)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_REUSEADDR, 1 }, /* connections of an earlier run in TIME_WAIT are no hindrance */
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, ALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, ALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, ALIVE_PROBES },
		{ IPPROTO_TCP, TCP_NODELAY, 1 }, /* the guest cut its bytes into packets already */
		{ IPPROTO_IPV6, IPV6_V6ONLY, 1 }, /* [::] is not 0.0.0.0: that is another -p */
	};

	for (size_t i = first; i < end; i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) < 0)
			return -errno;
	return 0;
}

static int listen_on(const struct spec_publish *spec, int *ret_fd, uint16_t *ret_port)
{
	_cleanup_fd_ int fd = socket(spec->family == 4 ? AF_INET : AF_INET6,
				     (spec->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_storage address;
	socklen_t len = address_of(spec, &address);
	size_t end = OPTIONS_V6 + (spec->family == 6);
	/* Of UDP the last alone: two that share a port would not know whose a datagram is. */
	int r = fd < 0 ? -errno : set_options(fd, spec->udp ? OPTIONS_V6 : OPTIONS_ADDRESS, end);

	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&address, len) < 0 || (!spec->udp && listen(fd, PUBLISH_BACKLOG) < 0) ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	*ret_port = ntohs(spec->family == 4 ? ((struct sockaddr_in *)&address)->sin_port
					    : ((struct sockaddr_in6 *)&address)->sin6_port);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int explain(const struct spec_publish *spec, int r, struct mvm_error *err)
{
	char text[SPEC_PUBLISH_TEXT], holder[PUBLISH_HOLDER], self[32];

	(void)spec_publish_text(spec, text);
	if (r == -EADDRINUSE) {
		publish_holder("/proc", spec, holder);
		(void)snprintf(self, sizeof(self), "(process %d)", getpid());
		if (strstr(holder, self))
			return error_set(err, EADDRINUSE,
					 FLAG ": %s: another -p of this VM has that port: leave one out", text);
		return error_set(err, EADDRINUSE,
				 FLAG ": %s: the port is taken%s%s: give another, or 0 for any that is free", text,
				 *holder ? " by " : "", holder);
	}
	if (r == -EACCES)
		return error_set(err, EACCES,
				 FLAG ": %s: this user may not listen there: give a higher port, or change sysctl "
				      "net.ipv4.ip_unprivileged_port_start",
				 text);
	if (r == -EADDRNOTAVAIL)
		return error_set(err, EADDRNOTAVAIL, FLAG ": %s: no address of this host: ip address shows them", text);
	return error_set(err, -r, FLAG ": %s: cannot be listened on: %s", text, strerror(-r));
}

int publish_open(struct publish *publish, const struct spec_publish *specs, unsigned n, struct mvm_error *err)
{
	for (unsigned i = 0; i < n && i < SPEC_PUBLISH_MAX; i++) {
		struct publish_port *port = &publish->ports[publish->nports];
		int r = 0;

		port->host = specs[i].host;
		port->fd = publish_take_handed(publish, &specs[i]);
		if (port->fd < 0)
			r = listen_on(&specs[i], &port->fd, &port->host);
		else
			r = set_options(port->fd, OPTIONS_INHERITED, OPTIONS_V6);
		if (r < 0) {
			r = explain(&specs[i], r, err);
			publish_close(publish);
			publish->nports = 0;
			return r;
		}
		port->spec = specs[i];
		port->nconns = 0;
		publish->nports++;
	}
	return publish_check_handed(publish, err);
}

bool publish_full(const struct publish *publish, unsigned index)
{
	return publish->nconns == CONTROL_CONNS_MAX ||
	       publish->ports[index].nconns >= CONTROL_CONNS_MAX - PUBLISH_RESERVE * (publish->nports - 1);
}

bool publish_take(struct publish *publish, unsigned index, uint32_t *ret_id)
{
	if (publish_full(publish, index))
		return false;
	while (publish->open[publish->next % CONTROL_CONNS_MAX])
		publish->next++;
	*ret_id = publish->next++ % CONTROL_CONNS_MAX;
	publish->open[*ret_id] = (uint8_t)(index + 1);
	publish->ports[index].nconns++;
	publish->nconns++;
	publish->accepted++;
	return true;
}

int publish_accept(struct publish *publish, unsigned index, int *ret_fd, uint32_t *ret_id)
{
	int fd;

	if (publish_full(publish, index))
		return 0;
	fd = accept4(publish->ports[index].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) /* accept(2): what happened to that client is no error of ours */
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS ? -errno : 0;
	(void)publish_take(publish, index, ret_id);
	*ret_fd = fd;
	return 1;
}

int publish_closed(struct publish *publish, uint32_t id)
{
	if (id >= CONTROL_CONNS_MAX || !publish->open[id])
		return -EPROTO;
	publish->ports[publish->open[id] - 1].nconns--;
	publish->open[id] = 0;
	publish->nconns--;
	return 0;
}

void publish_forget(struct publish *publish)
{
	memset(publish->open, 0, sizeof(publish->open));
	publish->nconns = 0;
	for (unsigned i = 0; i < publish->nports; i++)
		publish->ports[i].nconns = 0;
}

void publish_close(struct publish *publish)
{
	for (unsigned i = 0; i < publish->nports; i++) {
		cleanup_fd(&publish->ports[i].fd);
		publish->ports[i].fd = -1;
	}
	while (publish->nhanded)
		(void)close(publish->handed[--publish->nhanded]);
}

char *publish_where(const struct publish *publish)
{
	char *text = calloc(publish->nports + 1, SPEC_PUBLISH_TEXT + 2), *at = text;

	for (unsigned i = 0; text && i < publish->nports; i++) {
		char one[SPEC_PUBLISH_TEXT];

		at += snprintf(at, SPEC_PUBLISH_TEXT + 2, "%s%s", i ? ", " : "",
			       spec_publish_where(&publish->ports[i].spec, publish->ports[i].host, one));
	}
	return text;
}
