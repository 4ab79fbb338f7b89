#include "lib/net_holder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/scope.h"
#include "lib/fdpass.h"
#include "lib/spawn.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PROGRAM       "mvm-net"
#define START_WAIT_MS 60000 /* for the whole namespace; the kernel may have modules to load */
#define END_WAIT_MS   1000

void net_holder_init(struct net_holder *holder)
{
	*holder = (struct net_holder){ .fd = -1, .pidfd = -1, .ids = { .folder = -1, .lock = -1 } };
}

int net_holder_take_uid(struct net_holder *holder, uint32_t first, uint32_t count, struct uplink_request *request,
			struct mvm_error *err)
{
	uint32_t spread = 0;
	int r;

	if (geteuid() != 0 || !ids_are_ours())
		return 0;
	(void)!getrandom(&spread, sizeof(spread), GRND_NONBLOCK); /* where the search begins */
	r = ids_take(IDS_FOLDER, first, count, spread, &holder->ids, err);
	request->uid = holder->ids.uid;
	request->gid = holder->ids.gid;
	return r;
}

ssize_t net_holder_receive(int fd, struct uplink_message *message, int *ret_fd)
{
	ssize_t n;

	do /* ECONNRESET: it ended with a message of ours unread. Told once, before what it had said itself. */
		n = fdpass_receive(fd, message, sizeof(*message), ret_fd, 1, NULL, MSG_DONTWAIT);
	while (n == -ECONNRESET);
	if (n < 0)
		return n == -EMSGSIZE ? -EPROTO : n;
	if (n && n != (ssize_t)sizeof(*message)) {
		cleanup_fd(ret_fd);
		*ret_fd = -1;
		return -EPROTO;
	}
	return n;
}

int net_holder_await(int fd, const char *flag, int *ret_tap, struct uplink_message *ret, struct mvm_error *err)
{
	uint64_t end = text_now_ns() + START_WAIT_MS * 1000000ULL;
	int tap;

	for (;;) {
		struct pollfd news = { .fd = fd, .events = POLLIN };
		uint64_t now = text_now_ns();
		ssize_t n;

		if (now >= end)
			return error_set(err, ETIMEDOUT, "%s: " PROGRAM " was not ready after %u s", flag,
					 START_WAIT_MS / 1000);
		if (poll(&news, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		n = net_holder_receive(fd, ret, &tap);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n < 0 ? (int)-n : EPIPE,
					 "%s: " PROGRAM " ended before its network was ready: dmesg may say why", flag);
		if ((ret->type == UPLINK_READY || ret->type == UPLINK_SPACE) && tap >= 0 && ret_tap) {
			*ret_tap = tap;
			return 0;
		}
		cleanup_fd(&tap);
		if (ret->type == UPLINK_READY && !ret_tap)
			return 0;
		ret->text[UPLINK_TEXT - 1] = '\0';
		if (ret->type == UPLINK_FAILED)
			return error_set(err, ret->code > 0 && ret->code != EPIPE ? ret->code : EIO, "%s: %s", flag,
					 ret->text);
	}
}

static int send_request(int fd, const char *flag, const struct uplink_request *request, const int *fds,
			struct mvm_error *err)
{
	int r = fdpass_send(fd, request, sizeof(*request), fds, fds ? UPLINK_FDS : 0, 0);

	if (r < 0)
		return error_set(err, -r, "%s: " PROGRAM ": %s", flag, strerror(-r));
	return 0;
}

/*
 * A network's holder outlives the VM that started it. So where there is a systemd, it goes into a scope of its own, before it
 * makes anything: else the end of that VM's unit or scope would be the end of the network of others. Where it cannot be, it
 * stays where it is (mvm-network(1)).
 */
static void set_apart(const struct net_holder *holder, const struct uplink_request *request)
{
	const char *runtime = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
	char name[UPLINK_ID + 40];

	(void)snprintf(name, sizeof(name), "mvm-net-%.63s-%ld.scope", request->network, (long)holder->pid);
	if (runtime)
		(void)scope_place(runtime, name, holder->pid);
}

int net_holder_start(struct net_holder *holder, const char *flag, const struct cgroup *group,
		     const struct uplink_request *request, const int *fds, struct mvm_error *err)
{
	int r = spawn_part(PROGRAM, flag, group, &holder->fd, &holder->pid, &holder->pidfd, err);

	if (r == 0 && request->flags & UPLINK_NETWORK)
		set_apart(holder, request);
	return r < 0 ? r : send_request(holder->fd, flag, request, fds, err);
}

void net_holder_close(struct net_holder *holder)
{
	struct pollfd process = { .fd = holder->pidfd, .events = POLLIN };

	cleanup_fd(&holder->fd); /* by which it ends in order, its children first */
	holder->fd = -1;
	if (holder->pidfd >= 0) {
		(void)poll(&process, 1, END_WAIT_MS);
		(void)syscall(SYS_pidfd_send_signal, holder->pidfd, SIGKILL, NULL, 0);
		while (waitpid(holder->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	cleanup_fd(&holder->pidfd);
	ids_release(&holder->ids);
	net_holder_init(holder);
}
