#include "lib/session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/fdpass.h"
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

int session_send_start(int fd, const struct session_start *start, const int *fds, unsigned nfds)
{
	if (nfds > SESSION_FDS_MAX + SESSION_SOCKETS_MAX)
		return -EINVAL;
	return fdpass_send(fd, start, sizeof(*start), fds, nfds, 0);
}

int session_receive_start(int fd, struct session_start *ret_start, int fds[SESSION_FDS_MAX],
			  int sockets[SESSION_SOCKETS_MAX])
{
	int received[SESSION_FDS_MAX + SESSION_SOCKETS_MAX];
	size_t nfds, next = 1;
	ssize_t n = fdpass_receive(fd, ret_start, sizeof(*ret_start), received, SESSION_FDS_MAX + SESSION_SOCKETS_MAX,
				   &nfds, 0);

	if (n < 0 && n != -EMSGSIZE)
		return (int)n;
	if (n != (ssize_t)sizeof(*ret_start) || ret_start->magic != SESSION_MAGIC ||
	    ret_start->version != SESSION_VERSION ||
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
