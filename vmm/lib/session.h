/*
 * libmvm's caller <-> supervisor: messages on the session socket (SOCK_SEQPACKET).
 *
 * Purpose: one datagram is one struct session_start (the first, caller to supervisor, with
 *          descriptors attached) or one struct session_msg cut after its text.
 * Trust:   both ends are the same user's and the same build, which SESSION_VERSION proves; sizes
 *          are checked all the same.
 * Ownership: descriptors attached to session_start belong to the supervisor.
 * Layout:  native integers.
 */
#ifndef LIB_SESSION_H
#define LIB_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "mvm/proto.h"

#define SESSION_VERSION  4U
#define SESSION_MAGIC    0x534d564dU /* "MVMS" */
#define SESSION_FD       0 /* where the supervisor finds its end */
#define SESSION_TEXT_MAX 1024U

/* What is attached to session_start, in this order; the spec always. */
enum session_fds {
	SESSION_HAS_STDIN = 1U << 0,
	SESSION_HAS_STDOUT = 1U << 1,
	SESSION_HAS_STDERR = 1U << 2,
	SESSION_HAS_RECEIPT = 1U << 3,
	SESSION_HAS_ALL = (1U << 4) - 1,
	SESSION_FDS_MAX = 5, /* and behind them the sockets of published ports */
};

#define SESSION_SOCKETS_MAX PROTO_PUBLISH_MAX

struct session_start {
	uint32_t magic;
	uint32_t version;
	uint32_t fds; /* enum session_fds */
	uint16_t rows, cols;
	uint32_t sockets; /* that listen already: SESSION_SOCKETS_MAX at most */
	uint32_t reserved;
	uint64_t began_ns; /* CLOCK_MONOTONIC */
	uint64_t start_ns; /* when the supervisor was asked for */
	char program[16]; /* MVM_VERSION, NUL-padded */
	char again[16]; /* the id of a VM that has ended and is started again; "": a new one */
};

enum session_type {
	/* caller -> supervisor */
	SESSION_SIGNAL = 1, /* code = signal number */
	SESSION_RESIZE, /* code = rows << 16 | cols */
	SESSION_STOP,
	SESSION_KILL,
	SESSION_ACTIVE, /* bytes went through the streams: not idle */
	SESSION_BUSY, /* answer to SESSION_ASK_BUSY: code = 1 while output waits for its reader */
	SESSION_PING, /* of a run, not of a further command: SESSION_PONG when the VM's I/O loop has answered */

	/* supervisor -> caller */
	SESSION_STARTED = 16,
	SESSION_LOG, /* code = enum mvm_log_level, text */
	SESSION_ASK_BUSY,
	SESSION_ENDED, /* code = exit status, kind = enum verdict_kind, text = cause. Last message. */
	SESSION_PONG,
};

struct session_msg {
	uint32_t type; /* enum session_type */
	int32_t code;
	uint32_t kind;
	uint32_t text_len; /* without a NUL */
	char text[SESSION_TEXT_MAX + 1]; /* one more for the receiver's NUL; never sent */
	char pad[3];
};

#define SESSION_MSG_HEAD offsetof(struct session_msg, text)

_Static_assert(sizeof(struct session_start) == 72, "layout");
_Static_assert(offsetof(struct session_msg, text) == 16, "layout");
_Static_assert(sizeof(struct session_msg) == 16 + SESSION_TEXT_MAX + 4, "layout");

/* Sends one message without waiting; text may be NULL, is cut to fit. -EAGAIN: the reader is behind. */
int session_send(int fd, enum session_type type, int32_t code, uint32_t kind, const char *text);

/*
 * Receives one message without waiting and without a control buffer. 1, 0 none now, -EPIPE
 * end-of-file, -EPROTO not a message. The text is NUL-terminated.
 */
int session_receive(int fd, struct session_msg *ret_msg);

/* session_start with its descriptors; fds[0] is the spec. */
int session_send_start(int fd, const struct session_start *start, const int *fds, unsigned nfds);

/*
 * fds[] gets SESSION_FDS_MAX entries in the order spec, stdin, stdout, stderr, receipt; -1: none. sockets[]:
 * ret_start->sockets of them.
 */
int session_receive_start(int fd, struct session_start *ret_start, int fds[SESSION_FDS_MAX],
			  int sockets[SESSION_SOCKETS_MAX]);

#endif
