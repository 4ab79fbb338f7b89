#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"
#include "mvm/cleanup.h"

#define FIRST_SOCKET 3 /* SD_LISTEN_FDS_START */
#define PER_INTERVAL 4U /* pings in the time after which a watchdog barks: one may be late, and one lost */

/* A path, or '@' and a name in the abstract namespace. */
static int connect_to(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	size_t len = strlen(name);

	if (fd < 0 || (*name != '/' && *name != '@') || len < 2 || len >= sizeof(addr.sun_path)) {
		errno = fd < 0 ? errno : EINVAL;
		return -1;
	}
	memcpy(addr.sun_path, name, len);
	if (*name == '@')
		addr.sun_path[0] = '\0';
	if (connect(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		return -1;
	return take_fd(&fd);
}

/* WATCHDOG_USEC, where it is meant for this process. 0: none. */
static uint64_t watchdog_us(void)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!us || !*us || strspn(us, "0123456789") != strlen(us) || (pid && strtoll(pid, NULL, 10) != getpid()))
		return 0;
	return strtoull(us, NULL, 10);
}

static int make_timer(uint64_t us)
{
	struct itimerspec often = { 0 };
	int fd = us >= PER_INTERVAL ? timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK) : -1;

	often.it_interval.tv_sec = (time_t)(us / PER_INTERVAL / 1000000);
	often.it_interval.tv_nsec = (long)(us / PER_INTERVAL % 1000000 * 1000);
	often.it_value = often.it_interval;
	if (fd >= 0 && timerfd_settime(fd, 0, &often, NULL) < 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

unsigned notify_sockets(int sockets[], unsigned max)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	unsigned n = 0;

	/* Another process's are not ours, and of ours no child is told. */
	if (fds && pid && strtoll(pid, NULL, 10) == getpid())
		for (; n < max && n < strtoul(fds, NULL, 10); n++) {
			sockets[n] = FIRST_SOCKET + (int)n;
			(void)fcntl(sockets[n], F_SETFD, FD_CLOEXEC); /* one that is not there libmvm tells of */
		}
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDNAMES");
	return n;
}

void notify_open(struct notify *notify)
{
	const char *name = getenv("NOTIFY_SOCKET");
	char text[256];

	*notify = (struct notify)NOTIFY_NONE;
	if (!name || !*name)
		return;
	notify->socket = connect_to(name);
	if (notify->socket < 0) {
		(void)snprintf(text, sizeof(text), "cannot be told how the run is doing: %s", strerror(errno));
		(void)cli_unexpected("NOTIFY_SOCKET", text);
	} else {
		notify->timer = make_timer(watchdog_us());
	}
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
}

void notify_close(struct notify *notify)
{
	cleanup_fd(&notify->socket);
	cleanup_fd(&notify->timer);
	*notify = (struct notify)NOTIFY_NONE;
}

void notify_say(const struct notify *notify, const char *state)
{
	/* A manager that takes nothing, or has gone, is no reason to end a run. */
	if (notify->socket >= 0)
		(void)send(notify->socket, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool notify_is_due(const struct notify *notify)
{
	uint64_t times;

	return read(notify->timer, &times, sizeof(times)) == (ssize_t)sizeof(times);
}
