/* The agent's dial.c for its own tests: host ports are abstract sockets named by MVM_TEST_TOKEN. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "dial.h"
#include "mvm/cleanup.h"

static socklen_t name_of(uint32_t port, struct sockaddr_un *ret)
{
	const char *token = getenv("MVM_TEST_TOKEN");
	int n;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "mvm-agent-test/%s/%u", token ? token : "", port);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int dial(uint32_t port)
{
	struct sockaddr_un host;
	socklen_t len = name_of(port, &host);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&host, len) < 0)
		return -errno;
	return take_fd(&fd);
}

int dial_listen(uint32_t port)
{
	struct sockaddr_un here;
	socklen_t len = name_of(port, &here);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&here, len) < 0 || listen(fd, 256) < 0)
		return -errno;
	return take_fd(&fd);
}

int dial_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}
