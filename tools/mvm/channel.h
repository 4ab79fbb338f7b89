/*
 * One direction of bytes between a descriptor of the user's and a socket of libmvm's.
 *
 * Purpose: moves bytes without ever waiting for one side while the other has something to say,
 *          by splice() where one side is a pipe, by a buffer of 64 KiB elsewhere.
 * Trust:   bytes are passed on unseen.
 * Ownership: the socket belongs to the channel, the user's descriptor does not. The user's
 *          descriptors are shared with other processes: their flags (O_NONBLOCK) are never changed.
 * Thread:  one.
 */
#ifndef CLI_CHANNEL_H
#define CLI_CHANNEL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#include "keys.h"

#define CHANNEL_BUFFER 65536U

struct channel {
	int from, to; /* -1: closed */
	bool outward; /* from the socket to the user */
	bool no_splice, to_socket, known; /* how `to` and `from` can be used, once tried */
	bool write_turn; /* something is there to be written: `to` is waited for */
	bool moved; /* something went through since somebody set this to false */
	struct keys *keys; /* borrowed: looked for in what the user types; the channel ends with them. NULL: none */
	char *buffer;
	size_t pos, len;
	int error; /* errno of a write that failed for another reason than EPIPE */
};

/* One of the two is the user's; `socket` is taken over. socket -1: a channel that is closed from the start. */
void channel_init(struct channel *channel, int user, int socket, bool outward);

bool channel_open(const struct channel *channel);
bool channel_blocked(const struct channel *channel); /* it waits for its reader */

/* Fills two entries, which may be ignored by poll (fd -1). */
void channel_prepare(const struct channel *channel, struct pollfd fds[2]);

/* Moves what can be moved after a poll. Closes itself at the end of either side. */
void channel_run(struct channel *channel, const struct pollfd fds[2]);

void channel_close(struct channel *channel);

#endif
