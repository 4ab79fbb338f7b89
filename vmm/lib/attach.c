#include "lib/attach.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define RETRY_MS 20

int attach_check(struct attach_msg *msg, size_t n)
{
	if (n < sizeof(msg->hdr) || msg->hdr.magic != ATTACH_MAGIC)
		return -EPROTO;
	if (msg->hdr.version != ATTACH_VERSION)
		return -EPROTONOSUPPORT;
	if (msg->hdr.len > ATTACH_PAYLOAD_MAX || n != sizeof(msg->hdr) + msg->hdr.len)
		return -EPROTO;
	msg->payload[msg->hdr.len] = '\0';
	return 0;
}

/* By way of the folder's descriptor: sun_path has 108 bytes, and a folder's path may have 4096. */
static struct sockaddr_un address(int folder_fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" ATTACH_NAME, folder_fd);
	return addr;
}

int attach_listen(int folder_fd, int *ret_fd)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = address(folder_fd);

	/* The folder is closed to all others before the socket is there, whatever its own mode. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, ATTACH_CLIENTS_MAX) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int attach_accept(int listener, int *ret_fd, struct attach_peer *ret_refused)
{
	_cleanup_fd_ int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED || errno == EPERM
			       ? 0
			       : -errno; /* EPERM: a firewall's, accept(2) */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return 0;
	if (peer.uid != geteuid() && peer.uid != 0) {
		*ret_refused = (struct attach_peer){ peer.pid, peer.uid };
		return -EPERM;
	}
	*ret_fd = take_fd(&fd);
	return 1;
}

int attach_receive_with(int fd, struct attach_msg *ret_msg, int ret_fds[ATTACH_FDS_MAX], unsigned *ret_n)
{
	size_t nfds;
	ssize_t n = fdpass_receive(fd, ret_msg, sizeof(*ret_msg), ret_fds, ATTACH_FDS_MAX, &nfds, MSG_DONTWAIT);
	int r;

	*ret_n = (unsigned)nfds;
	if (n < 0)
		return n == -EAGAIN ? 0 : n == -EMSGSIZE ? -EPROTO : -EPIPE;
	if (n == 0)
		return -EPIPE;
	r = attach_check(ret_msg, (size_t)n);
	return r < 0 ? r : 1;
}

int attach_send_with(int fd, enum attach_type type, const void *payload, size_t len, const int *fds, unsigned nfds)
{
	struct attach_hdr hdr = {
		.magic = ATTACH_MAGIC, .version = ATTACH_VERSION, .type = (uint16_t)type, .len = (uint32_t)len
	};
	struct iovec iov[] = { { &hdr, sizeof(hdr) }, { (void *)(uintptr_t)payload, len } };

	if (len > ATTACH_PAYLOAD_MAX || nfds > ATTACH_FDS_MAX || !nfds)
		return -E2BIG;
	return fdpass_sendv(fd, iov, 2, fds, nfds, MSG_DONTWAIT);
}

int attach_receive(int fd, struct attach_msg *ret_msg)
{
	ssize_t n = recv(fd, ret_msg, sizeof(*ret_msg), MSG_DONTWAIT);
	int r;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	r = attach_check(ret_msg, (size_t)n);
	return r < 0 ? r : 1;
}

int attach_send(int fd, enum attach_type type, int code, const void *payload, size_t len)
{
	struct attach_msg msg = {
		.hdr = { .magic = ATTACH_MAGIC,
			 .version = ATTACH_VERSION,
			 .type = (uint16_t)type,
			 .len = (uint32_t)len,
			 .code = code },
	};

	if (len > ATTACH_PAYLOAD_MAX)
		return -E2BIG;
	if (len)
		memcpy(msg.payload, payload, len);
	return send(fd, &msg, sizeof(msg.hdr) + len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int connect_to(int fd, int folder_fd, unsigned patience_ms)
{
	const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	struct sockaddr_un addr = address(folder_fd);

	for (unsigned waited = 0;; waited += RETRY_MS) {
		if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			return 0;
		if ((errno != EAGAIN && errno != EINTR) || waited >= patience_ms)
			return -errno;
		(void)nanosleep(&pause, NULL); /* its queue is full: there is nothing to poll for */
	}
}

int attach_open(int folder_fd, unsigned patience_ms, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = fd < 0 ? -errno : connect_to(fd, folder_fd, patience_ms);

	if (r == -EAGAIN)
		return error_set(err, EBUSY, "the VM's supervisor is busy with others: try again");
	if (r < 0)
		return error_set(err, -r, "the VM's supervisor cannot be reached: %s",
				 r == -ECONNREFUSED || r == -ENOENT ? "the VM has ended" : strerror(-r));
	*ret_fd = take_fd(&fd);
	return 0;
}

int attach_request(int fd, enum attach_type type, const void *payload, size_t len, int timeout_ms,
		   struct attach_msg *ret_answer, struct mvm_error *err)
{
	int r = attach_send(fd, type, 0, payload, len);

	if (r < 0)
		return error_set(err, -r, "the VM's supervisor cannot be asked: %s",
				 r == -EPIPE ? "the VM has ended" : strerror(-r));
	return attach_answer(fd, timeout_ms, ret_answer, err);
}

int attach_answer(int fd, int timeout_ms, struct attach_msg *ret_answer, struct mvm_error *err)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	int r;

	do
		r = poll(&ready, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	r = r > 0 ? attach_receive(fd, ret_answer) : -ETIMEDOUT;
	if (r == -EPROTONOSUPPORT)
		return error_set(err, EPROTONOSUPPORT,
				 "the VM runs under another version of mvm: end it, or use that one");
	if (r == 0 || (r > 0 && ret_answer->hdr.type != ATTACH_ANSWER))
		r = -EPROTO;
	if (r < 0)
		return error_set(err, -r, "the VM's supervisor gave no answer: %s",
				 r == -EPIPE ? "the VM has ended" : strerror(-r));
	if (ret_answer->hdr.code) {
		text_harmless((char *)ret_answer->payload);
		return error_set(err, ret_answer->hdr.code < 0 ? EPROTO : ret_answer->hdr.code, "%s",
				 (char *)ret_answer->payload);
	}
	return 0;
}

int attach_call(int folder_fd, enum attach_type type, const void *payload, size_t len, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	_cleanup_fd_ int fd = -1;
	int r = attach_open(folder_fd, ATTACH_PATIENCE_MS, &fd, err);

	return r < 0 ? r : attach_request(fd, type, payload, len, ATTACH_ANSWER_MS, &answer, err);
}

int attach_ask(int folder_fd, enum attach_type type, void *ret_payload, size_t len, struct attach_peer *ret_peer,
	       struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	_cleanup_fd_ int fd = -1;
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int r = attach_open(folder_fd, ATTACH_PATIENCE_MS, &fd, err);

	if (r == 0)
		r = attach_request(fd, type, NULL, 0, ATTACH_ANSWER_MS, &answer, err);
	if (r < 0)
		return r;
	if (answer.hdr.len != len || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return error_set(err, EPROTO, "the VM's supervisor gave no answer that can be read: end the VM");
	memcpy(ret_payload, answer.payload, len);
	*ret_peer = (struct attach_peer){ peer.pid, peer.uid };
	return 0;
}
