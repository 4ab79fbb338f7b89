#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "mvm/cleanup.h"
#include "vm.h"

#define MESSAGES_BATCH 16 /* per wake-up, so that the devices get their turn */

struct control {
	struct loop_source source;
	struct vm *vm;
};

/* 1: one message, with the descriptor that came along or -1; 0: none waiting; -EPIPE: the supervisor is gone. */
static int receive(struct control *control, struct control_msg *ret_msg, int *ret_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ancillary;
	struct iovec iov = { .iov_base = ret_msg, .iov_len = sizeof(*ret_msg) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ancillary.bytes,
		.msg_controllen = CMSG_LEN(sizeof(int)), /* room for one descriptor, not for two */
	};
	ssize_t n = recvmsg(control->source.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg;

	*ret_fd = -1;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
	    cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(cmsg), sizeof(int));
	if (n != (ssize_t)sizeof(*ret_msg) || msg.msg_flags & MSG_TRUNC) {
		log_error("control: a message of the wrong size");
		if (*ret_fd >= 0)
			(void)close(*ret_fd);
		*ret_fd = -1;
		ret_msg->type = 0;
	}
	return 1;
}

static int dial(void *arg, uint32_t dial_id, uint32_t port)
{
	return control_send(arg, CONTROL_DIAL, dial_id, port, 0, 0);
}

static void closed(void *arg, uint32_t id)
{
	(void)control_send(arg, CONTROL_CLOSED, id, 0, 0, 0); /* a supervisor that has gone shows at the socket */
}

/* All of it is right, or nothing is done. */
static void set_limits(struct vm *vm, const struct control_msg *msg)
{
	unsigned ndisks = vm->config->ndisks;
	uint64_t iops = msg->code & CONTROL_LIMITS_IOPS ? msg->id : BLK_LIMIT_KEEP;
	uint64_t bps = msg->code & CONTROL_LIMITS_BPS ? msg->arg : BLK_LIMIT_KEEP;

	if (!msg->code || msg->code & ~(uint32_t)CONTROL_LIMITS_ALL ||
	    (msg->port >= ndisks && msg->port != CONTROL_ALL_DISKS) ||
	    (msg->code & CONTROL_LIMITS_IOPS && iops > VMM_IOPS_MAX) ||
	    (msg->code & CONTROL_LIMITS_BPS && (bps > VMM_BPS_MAX || (bps && bps < VMM_BPS_MIN)))) {
		log_error("control: limits out of bounds");
		return;
	}
	for (unsigned i = 0; i < ndisks; i++)
		if (msg->port == i || msg->port == CONTROL_ALL_DISKS)
			virtio_blk_limit(vm->disks[i], iops, bps);
}

static void set_net_limits(struct vm *vm, const struct control_msg *msg)
{
	uint64_t pps = msg->code & CONTROL_LIMITS_IOPS ? msg->id : NET_LIMIT_KEEP;
	uint64_t bps = msg->code & CONTROL_LIMITS_BPS ? msg->arg : NET_LIMIT_KEEP;

	if (!msg->code || msg->code & ~(uint32_t)CONTROL_LIMITS_ALL ||
	    (msg->code & CONTROL_LIMITS_IOPS && pps > VMM_PPS_MAX) ||
	    (msg->code & CONTROL_LIMITS_BPS && (bps > VMM_BPS_MAX || (bps && bps < VMM_BPS_MIN)))) {
		log_error("control: limits out of bounds");
		return;
	}
	for (unsigned i = 0; i < vm->config->nnets; i++)
		virtio_net_limit(vm->nets[i], pps, bps);
}

static void handle(struct control *control, const struct control_msg *msg, int fd_arg)
{
	struct vm *vm = control->vm;
	_cleanup_fd_ int fd = fd_arg;

	switch (msg->type) {
	case CONTROL_DIALLED:
	case CONTROL_REFUSED:
		if (vm->vsock)
			virtio_vsock_dialled(vm->vsock, msg->id, msg->type == CONTROL_DIALLED ? take_fd(&fd) : -1);
		break;
	case CONTROL_CONNECT:
		/* Without a line: whoever reaches the published port could cause any number. Its client sees the end. */
		if (!vm->vsock || fd < 0 || virtio_vsock_connect(vm->vsock, msg->id, msg->port, take_fd(&fd)) < 0)
			closed(control, msg->id);
		break;
	case CONTROL_PING:
		(void)control_send(control, CONTROL_PONG, msg->id, 0, 0, 0); /* a supervisor that has gone shows here */
		break;
	case CONTROL_LIMITS:
		set_limits(vm, msg);
		break;
	case CONTROL_NET_LIMITS:
		set_net_limits(vm, msg);
		break;
	case CONTROL_STOP:
		vm_end(vm, VM_END_STOPPED, 0);
		break;
	default:
		log_error("control: unknown message %u", msg->type);
		break;
	}
}

static void on_event(struct loop_source *source, uint32_t events)
{
	struct control *control = (struct control *)source;
	struct control_msg msg;
	int fd;

	(void)events;
	for (unsigned i = 0; i < MESSAGES_BATCH; i++) {
		int got = receive(control, &msg, &fd);

		if (got == 0)
			return;
		if (got < 0) {
			/*
			 * End-of-file: no supervisor, no VM, and nobody to deliver to; this closes the race
			 * of the parent-death signal.
			 */
			loop_remove(control->vm->loop, source);
			vm_end(control->vm, VM_END_STOPPED, 0);
			loop_quit(control->vm->loop);
			return;
		}
		handle(control, &msg, fd);
	}
}

int control_send(struct control *control, enum control_type type, uint32_t id, uint32_t port, uint32_t code,
		 uint64_t arg)
{
	struct control_msg msg = { .type = type, .id = id, .port = port, .code = code, .arg = arg };
	ssize_t n;

	do
		n = write(control->source.fd, &msg, sizeof(msg));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

struct vsock_broker control_broker(struct control *control)
{
	return (struct vsock_broker){ .dial = dial, .arg = control, .closed = closed };
}

int control_new(int fd, struct vm *vm, struct control **ret_control)
{
	struct control *control = calloc(1, sizeof(*control));
	int err;

	if (!control)
		return -ENOMEM;
	control->source = (struct loop_source){ .fd = fd, .events = EPOLLIN, .on_event = on_event };
	control->vm = vm;
	err = loop_add(vm->loop, &control->source);
	if (err) {
		free(control);
		return err;
	}
	*ret_control = control;
	return 0;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	loop_remove(control->vm->loop, &control->source);
	free(control);
}
