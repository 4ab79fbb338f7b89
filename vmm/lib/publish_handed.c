/* Published ports whose sockets a service manager bound: sd_listen_fds(3) of whoever started the VM. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/publish.h"
#include "lib/text.h"

#define FLAG "-p/--publish"

/* Where a socket listens; its `guest` is 0. */
static int where(int fd, struct spec_publish *ret)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} address = { 0 };
	socklen_t len = sizeof(address);

	*ret = (struct spec_publish){ 0 };
	if (getsockname(fd, &address.any, &len) < 0)
		return -errno;
	if (address.any.sa_family == AF_INET) {
		ret->family = 4;
		ret->host = ntohs(address.in.sin_port);
		memcpy(ret->address, &address.in.sin_addr, 4);
	} else if (address.any.sa_family == AF_INET6) {
		ret->family = 6;
		ret->host = ntohs(address.in6.sin6_port);
		memcpy(ret->address, &address.in6.sin6_addr, 16);
	} else {
		return -EAFNOSUPPORT;
	}
	return 0;
}

static bool listens(int fd)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &len) < 0 || value != IPPROTO_TCP)
		return false;
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 && value;
}

int publish_hand(struct publish *publish, int fd, struct mvm_error *err)
{
	struct spec_publish spec;
	int r = where(fd, &spec), flags = fcntl(fd, F_GETFL);

	if (r < 0 || !listens(fd))
		return error_set(err, EINVAL,
				 FLAG ": a socket that was handed over is no listening TCP socket: give its unit "
				      "ListenStream=ADDRESS:PORT and Accept=no");
	if (publish->nhanded == SPEC_PUBLISH_MAX)
		return error_set(err, E2BIG, FLAG ": more than %u sockets were handed over", SPEC_PUBLISH_MAX);
	/* A client that has gone by the time it is taken is not waited for. */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_set(err, errno, FLAG ": a socket that was handed over: %s", strerror(errno));
	publish->handed[publish->nhanded++] = fd;
	return 0;
}

int publish_take_handed(struct publish *publish, const struct spec_publish *spec)
{
	for (unsigned i = 0; i < publish->nhanded; i++) {
		struct spec_publish have;
		int fd = publish->handed[i];

		if (where(fd, &have) < 0 || have.family != spec->family || have.host != spec->host || spec->udp ||
		    memcmp(have.address, spec->address, sizeof(have.address)) != 0)
			continue;
		publish->handed[i] = publish->handed[--publish->nhanded];
		return fd;
	}
	return -1;
}

int publish_check_handed(const struct publish *publish, struct mvm_error *err)
{
	char text[SPEC_PUBLISH_TEXT];
	struct spec_publish spec;

	if (!publish->nhanded)
		return 0;
	(void)where(publish->handed[0], &spec);
	(void)spec_publish_text(&spec, text);
	text[strlen(text) - strlen(":0")] = '\0'; /* the guest's port */
	return error_set(err, EINVAL,
			 FLAG
			 ": a socket that listens on %s was handed over, and is published to no port of the guest's: "
			 "add -p %s:PORT",
			 text, text);
}
