#include "lib/session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mvm/version.h"

int session_send(int fd, enum session_type type, int32_t code, uint32_t kind, const char *text)
{
	struct session_msg msg = { .type = type, .code = code, .kind = kind };

	if (text) {
		msg.text_len = (uint32_t)strnlen(text, SESSION_TEXT_MAX);
		memcpy(msg.text, text, msg.text_len);
	}
	for (;;) {
		if (send(fd, &msg, SESSION_MSG_HEAD + msg.text_len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

int session_receive(int fd, struct session_msg *ret_msg)
{
	ssize_t n;

	do
		n = recv(fd, ret_msg, sizeof(*ret_msg), MSG_DONTWAIT);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	/* ECONNRESET: it ended with a message of ours unread. Told once, before what it had said itself. */
	if (n < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	if ((size_t)n < SESSION_MSG_HEAD || ret_msg->text_len > SESSION_TEXT_MAX ||
	    (size_t)n != SESSION_MSG_HEAD + ret_msg->text_len)
		return -EPROTO;
	ret_msg->text[ret_msg->text_len] = '\0';
	return 1;
}

union fd_control {
	char bytes[CMSG_SPACE((SESSION_FDS_MAX + SESSION_SOCKETS_MAX) * sizeof(int))];
	struct cmsghdr align;
};

int session_send_start(int fd, const struct session_start *start, const int *fds, unsigned nfds)
{
	union fd_control control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)start, .iov_len = sizeof(*start) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(nfds * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (nfds > SESSION_FDS_MAX + SESSION_SOCKETS_MAX)
		return -EINVAL;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
	return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int session_receive_start(int fd, struct session_start *ret_start, int fds[SESSION_FDS_MAX],
			  int sockets[SESSION_SOCKETS_MAX])
{
	union fd_control control;
	struct iovec iov = { .iov_base = ret_start, .iov_len = sizeof(*ret_start) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int received[SESSION_FDS_MAX + SESSION_SOCKETS_MAX + 1] = { 0 }; /* the buffer is padded: one more may come */
	struct cmsghdr *cmsg;
	size_t nfds = 0, next = 1;
	ssize_t n;

	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
		nfds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(received, CMSG_DATA(cmsg), nfds * sizeof(int)); /* the buffer bounds nfds */
	}
	if (n != (ssize_t)sizeof(*ret_start) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
	    ret_start->magic != SESSION_MAGIC || ret_start->version != SESSION_VERSION ||
	    strncmp(ret_start->program, MVM_VERSION, sizeof(ret_start->program)) != 0 ||
	    ret_start->sockets > SESSION_SOCKETS_MAX ||
	    nfds != 1U + (unsigned)__builtin_popcount(ret_start->fds & SESSION_HAS_ALL) + ret_start->sockets)
		return -EPROTO; /* the process ends on this: its descriptors with it */
	fds[0] = received[0];
	for (unsigned i = 0; i < SESSION_FDS_MAX - 1; i++)
		fds[i + 1] = ret_start->fds & (1U << i) ? received[next++] : -1;
	memcpy(sockets, received + next, ret_start->sockets * sizeof(int));
	return 0;
}
