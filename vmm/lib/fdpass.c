#include "lib/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr hdr; /* aligns it */
	char space[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
};

int fdpass_sendv(int to, const struct iovec *iov, size_t niov, const int *fds, size_t nfds, int flags)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = niov };
	union control control = { 0 };

	if (nfds > FDPASS_MAX)
		return -EINVAL;
	if (nfds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		control.hdr.cmsg_level = SOL_SOCKET;
		control.hdr.cmsg_type = SCM_RIGHTS;
		control.hdr.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&control.hdr), fds, nfds * sizeof(int));
	}
	return sendmsg(to, &msg, flags | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int fdpass_send(int to, const void *bytes, size_t len, const int *fds, size_t nfds, int flags)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };

	return fdpass_sendv(to, &iov, 1, fds, nfds, flags);
}

ssize_t fdpass_receive(int from, void *bytes, size_t size, int *fds, size_t max, size_t *ret_n, int flags)
{
	struct iovec iov = { .iov_base = bytes, .iov_len = size };
	union control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(max * sizeof(int)), /* not CMSG_SPACE(): its padding has room for one more */
	};
	const struct cmsghdr *hdr;
	size_t nfds = 0;
	ssize_t n;

	if (ret_n)
		*ret_n = 0;
	else
		fds[0] = -1;
	if (max > FDPASS_MAX)
		return -EINVAL;
	do
		n = recvmsg(from, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	hdr = CMSG_FIRSTHDR(&msg);
	if (hdr && hdr->cmsg_level == SOL_SOCKET && hdr->cmsg_type == SCM_RIGHTS) {
		nfds = (hdr->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(hdr), nfds * sizeof(int)); /* the buffer bounds nfds */
	}
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		for (size_t i = 0; i < nfds; i++)
			(void)close(fds[i]);
		if (!ret_n)
			fds[0] = -1;
		return -EMSGSIZE;
	}
	if (ret_n)
		*ret_n = nfds;
	return n;
}
