/* Attacks by sockets of its own, and by the one it was handed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "attack.h"
#include "call.h"
#include "mvm/control.h"
#include "mvm/vmm_config.h"
#include "tries.h"

/* Opens, connects or binds, closes. */
static long reach(int family, int type, long call, const void *addr, size_t len)
{
	long fd = RAW(SYS_socket, family, type | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return fd;
	r = RAW(call, fd, addr, len);
	(void)RAW(SYS_close, fd);
	return r;
}

static long reach_abstract(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	memcpy(addr.sun_path + 1, NEIGHBOUR_ABSTRACT, strlen(NEIGHBOUR_ABSTRACT));
	return reach(AF_UNIX, SOCK_STREAM, SYS_connect, &addr,
		     offsetof(struct sockaddr_un, sun_path) + 1 + strlen(NEIGHBOUR_ABSTRACT));
}

long try_abstract(void)
{
	return reach_abstract();
}

long try_unix_path(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/dev-log" };

	return reach(AF_UNIX, SOCK_DGRAM, SYS_connect, &addr, sizeof(addr));
}

static struct sockaddr_in loopback(void)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(NEIGHBOUR_PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

long try_tcp(void)
{
	struct sockaddr_in addr = loopback();

	return reach(AF_INET, SOCK_STREAM, SYS_connect, &addr, sizeof(addr));
}

long try_tcp6(void)
{
	struct sockaddr_in6 addr = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(NEIGHBOUR_PORT),
		.sin6_addr.s6_addr = { [15] = 1 },
	};

	return reach(AF_INET6, SOCK_STREAM, SYS_connect, &addr, sizeof(addr));
}

long try_udp(void)
{
	struct sockaddr_in addr = loopback();

	return reach(AF_INET, SOCK_DGRAM, SYS_connect, &addr, sizeof(addr));
}

/* Harmless where it is allowed (the namespace is empty); Landlock forbids it where it can. */
long try_bind(void)
{
	struct sockaddr_in addr = loopback();

	return reach(AF_INET, SOCK_STREAM, SYS_bind, &addr, sizeof(addr));
}

long try_vsock(void)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1 };

	return reach(AF_VSOCK, SOCK_STREAM, SYS_connect, &addr, sizeof(addr));
}

/* The loopback up: the kernel's answer to the request counts. */
long try_link_up(void)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
	} ask = {
		.head = { .nlmsg_len = sizeof(ask),
			  .nlmsg_type = RTM_NEWLINK,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.link = { .ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP },
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr err;
		uint8_t more[64];
	} answer = { .err.error = 0 };
	long fd = RAW(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return fd;
	r = RAW(SYS_sendto, fd, &ask, sizeof(ask));
	if (r >= 0)
		r = RAW(SYS_recvfrom, fd, &answer, sizeof(answer), MSG_DONTWAIT);
	(void)RAW(SYS_close, fd);
	return r < 0 ? r : answer.err.error;
}

/* Each would load its module for whoever asks. A few: a lab loads them slowly. */
long try_families(void)
{
	static const int families[] = { AF_KEY, AF_CAN, AF_TIPC };
	long best = -EAFNOSUPPORT;

	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		long fd = RAW(SYS_socket, families[i], SOCK_RAW, families[i] == AF_KEY ? 2 : 1);

		if (fd >= 0 || (best < 0 && fd != -EAFNOSUPPORT))
			best = fd;
	}
	return best;
}

/* A descriptor for the supervisor, with a message that it expects. */
long try_pass_fds(void)
{
	struct control_msg msg = { .type = CONTROL_DIAL, .id = 1, .port = 4 };
	struct iovec piece = { &msg, sizeof(msg) };
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = {
			      .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr head = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	return RAW(SYS_sendmsg, VMM_FD_CONTROL, &head, 0);
}

long try_garbage(void)
{
	struct control_msg msg = { .type = 0xffffffff, .id = 1, .port = ~0U, .code = ~0U, .arg = ~0ULL };

	return RAW(SYS_write, VMM_FD_CONTROL, &msg, sizeof(msg));
}

long try_too_long(void)
{
	static const uint8_t much[60000];

	return RAW(SYS_write, VMM_FD_CONTROL, much, sizeof(much));
}

/* "The guest powered off": an end may be claimed, a success of the command's cannot. */
long try_false_end(void)
{
	struct control_msg msg = { .type = CONTROL_ENDED, .code = VM_END_POWEROFF };

	return RAW(SYS_write, VMM_FD_CONTROL, &msg, sizeof(msg));
}
