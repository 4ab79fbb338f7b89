/* The agent's dial.c for its own tests: host ports are abstract sockets named by MVM_TEST_TOKEN. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "dial.h"
#include "mvm/cleanup.h"

int dial(uint32_t port)
{
	struct sockaddr_un host = { .sun_family = AF_UNIX };
	const char *token = getenv("MVM_TEST_TOKEN");
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n;

	if (fd < 0)
		return -errno;
	n = snprintf(host.sun_path + 1, sizeof(host.sun_path) - 1, "mvm-agent-test/%s/%u", token ? token : "", port);
	if (connect(fd, (struct sockaddr *)&host, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) <
	    0)
		return -errno;
	return take_fd(&fd);
}
