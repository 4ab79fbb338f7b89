#include "lib/publish_udp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "lib/spawn.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define FLAG          "-p/--publish"
#define PROGRAM       "mvm-udp"
#define START_WAIT_MS 20000
#define END_WAIT_MS   1000

void publish_udp_init(struct publish_udp *udp)
{
	*udp = (struct publish_udp){ .fd = -1, .pidfd = -1, .ids = { .folder = -1, .lock = -1 } };
}

/* ---- the process ---- */

/* Of a fixed size: what its writer could cut off while we read it would end us. */
static int make_counters(struct publish_udp *udp, int *ret_fd)
{
	_cleanup_fd_ int fd = memfd_create("mvm-udp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map = MAP_FAILED;

	if (fd >= 0 && fchmod(fd, 0600) == 0 && ftruncate(fd, sizeof(struct udp_counted)) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		map = mmap(NULL, sizeof(struct udp_counted), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	udp->counted = map;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int send_request(struct publish_udp *udp, const struct publish *publish, struct udp_request *request)
{
	_cleanup_fd_ int counters = -1;
	int fds[1 + SPEC_PUBLISH_MAX];
	int r = make_counters(udp, &counters);

	if (r < 0)
		return r;
	fds[0] = counters;
	for (unsigned i = 0; i < udp->nports; i++) {
		const struct publish_port *port = &publish->ports[udp->places[i]];

		fds[1 + i] = port->fd;
		request->ports[i].port = port->host;
		request->ports[i].family = port->spec.family;
	}
	return fdpass_send(udp->fd, request, sizeof(*request), fds, 1 + udp->nports, 0);
}

/* One message, without a descriptor. 1, 0: none now, -errno. */
static int receive(const struct publish_udp *udp, struct udp_message *ret)
{
	ssize_t n = recv(udp->fd, ret, sizeof(*ret), MSG_DONTWAIT | MSG_TRUNC);

	/* ECONNRESET: it ended with a message of ours unread. Told once, before what it had said itself. */
	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNRESET ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	ret->text[UDP_TEXT - 1] = '\0';
	return n == (ssize_t)sizeof(*ret) ? 1 : -EPROTO;
}

static int await_ready(const struct publish_udp *udp, struct mvm_error *err)
{
	uint64_t end = text_now_ns() + START_WAIT_MS * 1000000ULL;
	struct udp_message message;

	for (uint64_t now = text_now_ns(); now < end; now = text_now_ns()) {
		struct pollfd news = { .fd = udp->fd, .events = POLLIN };
		int r = poll(&news, 1, (int)((end - now) / 1000000) + 1);

		r = r <= 0 ? 0 : receive(udp, &message);
		if (r < 0)
			return error_set(err, -r, FLAG ": " PROGRAM " ended before it was ready: dmesg may say why");
		if (r == 1 && message.type == UDP_READY)
			return 0;
		if (r == 1 && message.type == UDP_FAILED) {
			text_harmless(message.text);
			return error_set(err, message.code > 0 ? message.code : EIO, FLAG ": " PROGRAM ": %s",
					 message.text);
		}
	}
	return error_set(err, ETIMEDOUT, FLAG ": " PROGRAM " was not ready after %u s", START_WAIT_MS / 1000);
}

int publish_udp_open(struct publish_udp *udp, const struct publish *publish, const struct cgroup *parts,
		     uint32_t uid_first, uint32_t uid_count, struct mvm_error *err)
{
	struct udp_request request = { .version = UDP_VERSION, .uid = UINT32_MAX, .gid = UINT32_MAX };
	uint32_t spread = 0;
	int r = 0;

	for (unsigned i = 0; i < publish->nports; i++)
		if (publish->ports[i].spec.udp)
			udp->places[udp->nports++] = (uint8_t)i;
	if (!udp->nports)
		return 0;
	request.nports = udp->nports;
	if (geteuid() == 0 && ids_are_ours()) {
		(void)!getrandom(&spread, sizeof(spread), GRND_NONBLOCK); /* where the search begins */
		r = ids_take(IDS_FOLDER, uid_first, uid_count, spread, &udp->ids, err);
		request.uid = udp->ids.uid;
		request.gid = udp->ids.gid;
	}
	if (r == 0)
		r = spawn_part(PROGRAM, FLAG, parts, &udp->fd, &udp->pid, &udp->pidfd, err);
	if (r < 0)
		return r;
	r = send_request(udp, publish, &request);
	if (r < 0)
		return error_set(err, -r, FLAG ": " PROGRAM ": %s", strerror(-r));
	return await_ready(udp, err);
}

/* ---- while it runs ---- */

int publish_udp_asked(struct publish_udp *udp, unsigned *ret_index, uint32_t *ret_flow)
{
	struct udp_message message;
	int r = receive(udp, &message);

	if (r == 1 && (message.type != UDP_ASK || message.port >= udp->nports))
		r = -EPROTO;
	if (r < 0) {
		/* Who broke what was agreed keeps neither the ports nor its connections. */
		(void)syscall(SYS_pidfd_send_signal, udp->pidfd, SIGKILL, NULL, 0);
		cleanup_fd(&udp->fd);
		udp->fd = -1;
	}
	if (r <= 0)
		return r;
	*ret_index = udp->places[message.port];
	*ret_flow = message.flow;
	return 1;
}

void publish_udp_answer(const struct publish_udp *udp, uint32_t flow, int fd)
{
	struct udp_message message = { .type = fd < 0 ? UDP_REFUSED : UDP_GIVEN, .flow = flow };

	if (fdpass_send(udp->fd, &message, sizeof(message), &fd, fd >= 0, MSG_DONTWAIT) == 0 || fd < 0)
		return;
	/* Too many descriptors are on their way: lost, and said to be. */
	message.type = UDP_REFUSED;
	(void)send(udp->fd, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
}

int publish_udp_pair(int ret_pair[2])
{
	int size = UDP_SOCKET / 2; /* the kernel doubles it */

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_pair) < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++)
		(void)setsockopt(ret_pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* else the default */
	return 0;
}

void publish_udp_close(struct publish_udp *udp)
{
	struct pollfd process = { .fd = udp->pidfd, .events = POLLIN };

	cleanup_fd(&udp->fd); /* by which it ends */
	if (udp->pidfd >= 0) {
		(void)poll(&process, 1, END_WAIT_MS);
		(void)syscall(SYS_pidfd_send_signal, udp->pidfd, SIGKILL, NULL, 0);
		while (waitpid(udp->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	cleanup_fd(&udp->pidfd);
	ids_release(&udp->ids);
	if (udp->counted)
		(void)munmap((void *)(uintptr_t)udp->counted, sizeof(*udp->counted));
	publish_udp_init(udp);
}

void publish_udp_counted(const struct publish_udp *udp, struct udp_counted *ret)
{
	const uint64_t *from = (const uint64_t *)udp->counted;
	uint64_t *to = (uint64_t *)ret;

	*ret = (struct udp_counted){ 0 };
	for (size_t i = 0; from && i < sizeof(*ret) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
