#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mvm/cleanup.h"

#define SPLICE_MAX  (1U << 20)
#define WRITE_SMALL 4096U /* to a terminal: signals are heard between two of them */

void channel_init(struct channel *channel, int user, int socket, bool outward)
{
	*channel = (struct channel){
		.from = outward || socket < 0 ? socket : user,
		.to = !outward || socket < 0 ? socket : user,
		.outward = outward,
	};
}

bool channel_open(const struct channel *channel)
{
	return channel->from >= 0;
}

bool channel_blocked(const struct channel *channel)
{
	return channel_open(channel) && channel->write_turn;
}

void channel_close(struct channel *channel)
{
	if (channel->outward)
		cleanup_fd(&channel->from);
	else if (channel->to >= 0)
		(void)shutdown(channel->to, SHUT_WR); /* a terminal's socket is read by the other direction still */
	if (!channel->outward)
		cleanup_fd(&channel->to);
	channel->from = channel->to = -1;
	free(channel->buffer);
	channel->buffer = NULL;
}

void channel_prepare(const struct channel *channel, struct pollfd fds[2])
{
	fds[0] = (struct pollfd){ .fd = channel->write_turn ? -1 : channel->from, .events = POLLIN };
	/* Without events it is still told when the reader has gone, or the socket's other end. */
	fds[1] = (struct pollfd){ .fd = channel->to, .events = channel->write_turn ? POLLOUT : 0 };
}

/* After a short or impossible write: an end of the channel, or a turn of waiting. */
static void write_failed(struct channel *channel, int code)
{
	if (code == EAGAIN || code == EINTR) {
		channel->write_turn = true;
		return;
	}
	/* EPIPE is the reader's choice; ENOSPC and its like are the user's to hear of. */
	if (channel->outward && code != EPIPE && code != ECONNRESET)
		channel->error = code;
	channel_close(channel);
}

/* True when splice is possible here. EAGAIN does not say which side made it: asked in turn. */
static bool run_splice(struct channel *channel)
{
	ssize_t n = splice(channel->from, NULL, channel->to, NULL, SPLICE_MAX, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (n < 0 && errno == EINVAL) {
		channel->no_splice = true;
		return false;
	}
	if (n == 0)
		channel_close(channel);
	else if (n < 0 && errno == EAGAIN)
		channel->write_turn = !channel->write_turn;
	else if (n < 0)
		write_failed(channel, errno);
	else
		channel->write_turn = false;
	channel->moved |= n > 0;
	return true;
}

static void learn(struct channel *channel)
{
	struct stat st;

	channel->known = true;
	channel->to_socket = fstat(channel->to, &st) == 0 && S_ISSOCK(st.st_mode);
	channel->buffer = malloc(CHANNEL_BUFFER + KEYS_MAX);
	if (!channel->buffer)
		write_failed(channel, ENOMEM);
}

static void write_buffer(struct channel *channel)
{
	const char *at = channel->buffer + channel->pos;
	size_t len = channel->len - channel->pos;
	ssize_t n;

	if (channel->to_socket) {
		n = send(channel->to, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		if (len > WRITE_SMALL && isatty(channel->to))
			len = WRITE_SMALL;
		n = write(channel->to, at, len);
	}
	if (n < 0) {
		write_failed(channel, errno);
		return;
	}
	channel->moved = true;
	channel->pos += (size_t)n;
	channel->write_turn = channel->pos < channel->len;
}

/* Fills the buffer. 0: nothing to pass on now, -1: the end. */
static ssize_t fill(struct channel *channel)
{
	char *at = channel->buffer + (channel->keys ? KEYS_MAX : 0);
	ssize_t n = read(channel->from, at, CHANNEL_BUFFER);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) /* EIO of a terminal that hung up is its end, too */
		return -1;
	if (!channel->keys)
		return n;
	return (ssize_t)keys_filter(channel->keys, at, (size_t)n, channel->buffer);
}

static void run_copy(struct channel *channel)
{
	ssize_t n;

	if (!channel->known)
		learn(channel);
	if (!channel_open(channel))
		return;
	if (!channel->write_turn) {
		n = fill(channel);
		if (n < 0)
			channel_close(channel);
		if (n <= 0)
			return;
		channel->pos = 0;
		channel->len = (size_t)n;
	}
	write_buffer(channel);
}

void channel_run(struct channel *channel, const struct pollfd fds[2])
{
	bool ready = channel->write_turn ? fds[1].revents : fds[0].revents;

	if (!channel_open(channel))
		return;
	/* The reader has gone while nothing was written: the workload hears of it by closing our side. */
	if (fds[1].revents & (POLLERR | POLLNVAL) || (!channel->outward && fds[1].revents & POLLHUP)) {
		channel_close(channel);
		return;
	}
	if (!ready)
		return;
	if (channel->no_splice || channel->keys || !run_splice(channel))
		run_copy(channel);
}
