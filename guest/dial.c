#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <linux/vm_sockets.h>

#include "dial.h"
#include "mvm/cleanup.h"

/* The kernel's own patience is 2 s, which a busy host can exceed; the host has time-outs of its own. */
#define DIAL_PATIENCE_S 600
#define BACKLOG         256 /* as many connections as there may be */

int dial(uint32_t port)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	struct timeval patience = { .tv_sec = DIAL_PATIENCE_S };
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience)) < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(&fd);
}

int dial_listen(uint32_t port)
{
	struct sockaddr_vm here = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

int dial_accept(int listener)
{
	struct sockaddr_vm peer = { 0 };
	socklen_t len = sizeof(peer);
	_cleanup_fd_ int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return -errno;
	return peer.svm_cid == VMADDR_CID_HOST ? take_fd(&fd) : -EPERM;
}
