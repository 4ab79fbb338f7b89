/*
 * A message with descriptors (SCM_RIGHTS, unix(7)), over a socket that keeps messages apart or one byte at a time.
 *
 * Ownership: what was sent is still the sender's; what came is the receiver's, close-on-exec.
 */
#ifndef LIB_FDPASS_H
#define LIB_FDPASS_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FDPASS_MAX 64U /* descriptors of a message; the kernel takes 253 */

/* `flags` of sendmsg(2), beside MSG_NOSIGNAL. 0, or -errno: nothing was sent. */
int fdpass_sendv(int to, const struct iovec *iov, size_t niov, const int *fds, size_t nfds, int flags);
int fdpass_send(int to, const void *bytes, size_t len, const int *fds, size_t nfds, int flags);

/*
 * One message of at most `size` bytes with at most `max` descriptors; `flags` of recvmsg(2). Returns its bytes, 0 for the
 * peer's end, or -errno; -EMSGSIZE for a message with more of either, which is lost. *ret_n may be NULL where max is 1:
 * fds[0] is then -1 where none came.
 */
ssize_t fdpass_receive(int from, void *bytes, size_t size, int *fds, size_t max, size_t *ret_n, int flags);

#endif
