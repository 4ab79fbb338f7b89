/*
 * One byte stream between the workload and the host.
 *
 * Purpose: moves bytes between a stream socket to the host and the agent's end of a pipe (splice,
 *          so that they are copied once) or of a terminal (read and write through a small buffer).
 *          Backpressure is the pipe's and vsock's own: nothing is held here beyond the terminal's
 *          two buffers. Ends of stream travel as half-closes; an end that goes away closes the other.
 * Trust:   both ends are hostile; neither's bytes are looked at.
 * Ownership: the stream owns its two descriptors (-1 when closed); the child's end is the caller's.
 * Thread:  the agent's only one; edge-triggered, bounded work per call.
 * Returns: 0 or -errno.
 */
#ifndef MVM_GUEST_STREAM_H
#define MVM_GUEST_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "watch.h"

#define STREAM_TTY_BUFFER 4096U

enum stream_kind {
	STREAM_NONE, /* /dev/null */
	STREAM_IN, /* host to workload */
	STREAM_OUT, /* workload to host */
	STREAM_TTY, /* both ways */
};

struct stream_buffer {
	uint16_t begin, end;
	uint8_t data[STREAM_TTY_BUFFER];
};

struct stream {
	struct watch sock_watch, local_watch;
	enum stream_kind kind;
	int epoll;
	int sock; /* to the host */
	int local; /* our end of the pipe, or the terminal's master */
	bool connected; /* the host has accepted */
	bool again; /* has more to do than one call may */
	bool host_ended; /* the host sends no more (terminal) */
	bool last; /* stream_finish(): only `left` bytes more go to the host */
	uint32_t left;
	struct stream_buffer *to_host, *to_guest; /* of a terminal */
};

void stream_init(struct stream *s, int epoll);
/* A stream is a way to the host and a pipe or a terminal here; they are made in any order. */
int stream_dial(struct stream *s, uint32_t port);
/* *ret_child is the workload's end. */
int stream_pipe(struct stream *s, enum stream_kind kind, int *ret_child);
/* *ret_number is N of /dev/pts/N. */
int stream_tty(struct stream *s, uint16_t rows, uint16_t cols, int *ret_number);
int stream_resize(struct stream *s, uint16_t rows, uint16_t cols);
/* Moves what can be moved now. */
void stream_pump(struct stream *s);
/*
 * The command has ended: what it has written is sent, then the stream is closed, whoever else holds its other
 * end. Input is closed at once.
 */
void stream_finish(struct stream *s);
/* Nothing that the workload wrote is left to send; behind stream_finish(): the stream is over. */
bool stream_drained(const struct stream *s);
void stream_close(struct stream *s);

#endif
