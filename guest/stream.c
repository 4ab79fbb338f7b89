#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "dial.h"
#include "mvm/cleanup.h"
#include "stream.h"

#define ROUNDS     16 /* splices or reads per call: one busy stream does not starve the others */
#define SPLICE_MAX (1U << 20)
#define TTY_REST   (128U << 10) /* bytes; more than a terminal holds: 64 KiB on their way and a line buffer of 4 */

void stream_init(struct stream *s, int epoll)
{
	*s = (struct stream){ .epoll = epoll, .sock = -1, .local = -1 };
}

void stream_close(struct stream *s)
{
	watch_close(s->epoll, &s->sock);
	watch_close(s->epoll, &s->local);
	free(s->to_host);
	free(s->to_guest);
	s->to_host = s->to_guest = NULL;
	s->again = false;
}

bool stream_drained(const struct stream *s)
{
	return s->kind == STREAM_NONE || (s->kind == STREAM_IN && !s->last) || s->local < 0;
}

/* The workload's end is over: the host reads what is on its way, then end-of-file. */
static void finish_to_host(struct stream *s)
{
	watch_close(s->epoll, &s->local);
	if (s->sock >= 0 && shutdown(s->sock, SHUT_WR) < 0)
		watch_close(s->epoll, &s->sock); /* gone already */
}

/* Either end of a splice is gone for good. */
static void break_stream(struct stream *s)
{
	watch_close(s->epoll, &s->local);
	watch_close(s->epoll, &s->sock);
}

static void pump_splice(struct stream *s)
{
	bool in = s->kind == STREAM_IN;

	for (int i = 0; i < ROUNDS; i++) {
		size_t most = s->last && s->left < SPLICE_MAX ? s->left : SPLICE_MAX;
		ssize_t n = 0; /* nothing left is as good as end-of-file */

		if (most)
			n = splice(in ? s->sock : s->local, NULL, in ? s->local : s->sock, NULL, most,
				   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (n > 0 && s->last)
			s->left -= (uint32_t)n;
		if (n > 0)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 || in)
			break_stream(s); /* in: the host's end-of-file becomes the pipe's */
		else
			finish_to_host(s);
		return;
	}
	s->again = true;
}

enum move {
	MOVE_MORE, /* moved something */
	MOVE_WAIT, /* nothing to read, or no room to write */
	MOVE_END, /* the source is at its end and the buffer is empty */
	MOVE_BROKEN, /* nobody will ever read this */
};

/* One read (when the buffer is empty) and one write. */
static enum move move_buffered(int from, int to, struct stream_buffer *b)
{
	ssize_t n;

	if (b->begin == b->end) {
		n = read(from, b->data, sizeof(b->data));
		if (n < 0 && errno == EAGAIN)
			return MOVE_WAIT;
		if (n <= 0) /* a master whose slaves are all closed says EIO */
			return MOVE_END;
		b->begin = 0;
		b->end = (uint16_t)n;
	}
	n = write(to, b->data + b->begin, (size_t)(b->end - b->begin));
	if (n < 0)
		return errno == EAGAIN ? MOVE_WAIT : MOVE_BROKEN;
	b->begin = (uint16_t)(b->begin + n);
	return MOVE_MORE;
}

/* The host will send no more: what a terminal has for that is its end-of-file character. */
static void type_eof(struct stream *s)
{
	struct termios t;

	s->host_ended = true;
	if (tcgetattr(s->local, &t) == 0 && (t.c_lflag & ICANON) && write(s->local, &t.c_cc[VEOF], 1) < 0)
		return; /* its input is full: nobody reads it */
}

/*
 * What the terminal has, upwards. A read that finds nothing has waited for what was on its way (n_tty_read() flushes the port's
 * work first), but not for what that work put off at this moment, as the buffer was full when it looked (n_tty_receive_buf_common() queues
 * it anew): EAGAIN and EIO are believed the second time.
 */
static enum move move_up(struct stream *s)
{
	const struct stream_buffer *b = s->to_host;
	enum move out = move_buffered(s->local, s->sock, s->to_host);

	if (b->begin == b->end && (out == MOVE_END || (out == MOVE_WAIT && s->last)))
		out = move_buffered(s->local, s->sock, s->to_host);
	return out;
}

/*
 * Whether all is sent that was written before stream_finish(): nothing was found any more. The count bounds what others go on to
 * write.
 */
static bool tty_is_done(struct stream *s, enum move out)
{
	const struct stream_buffer *b = s->to_host;

	if (!s->last || b->begin != b->end)
		return false;
	if (out == MOVE_WAIT)
		return true;
	s->left -= s->left < b->end ? s->left : b->end;
	return !s->left;
}

static void pump_tty(struct stream *s)
{
	enum move out = MOVE_WAIT, in = MOVE_WAIT;

	for (int i = 0; i < ROUNDS; i++) {
		out = move_up(s);
		if (out == MOVE_END || tty_is_done(s, out)) {
			finish_to_host(s);
			return;
		}
		if (out == MOVE_BROKEN) {
			break_stream(s); /* closing the master hangs the session up */
			return;
		}
		in = s->host_ended || s->last ? MOVE_WAIT : move_buffered(s->sock, s->local, s->to_guest);
		if (in == MOVE_END)
			type_eof(s);
		if (out == MOVE_WAIT && in != MOVE_MORE)
			return;
	}
	s->again = true;
}

void stream_pump(struct stream *s)
{
	s->again = false;
	if (s->local < 0 || s->sock < 0 || !s->connected)
		return;
	if (s->kind == STREAM_TTY)
		pump_tty(s);
	else if (s->kind == STREAM_IN && s->last)
		break_stream(s);
	else
		pump_splice(s);
}

void stream_finish(struct stream *s)
{
	int held = 0;

	s->last = true;
	if (s->kind == STREAM_TTY)
		s->left = TTY_REST;
	else if (s->local >= 0 && ioctl(s->local, FIONREAD, &held) == 0)
		s->left = (uint32_t)held;
	stream_pump(s);
}

static void sock_ready(struct watch *w, uint32_t events)
{
	struct stream *s = watch_owner(w, struct stream, sock_watch);

	if (s->sock < 0 || s->local < 0)
		return;
	if (events & EPOLLOUT)
		s->connected = true;
	/*
	 * The host is gone, or never came. For input, what it sent before it went is still to be read:
	 * the pump finds the end by itself.
	 */
	if (events & (EPOLLERR | EPOLLHUP) && (s->kind != STREAM_IN || !s->connected)) {
		break_stream(s);
		return;
	}
	stream_pump(s);
}

static void local_ready(struct watch *w, uint32_t events)
{
	struct stream *s = watch_owner(w, struct stream, local_watch);

	if (s->local < 0)
		return;
	if (s->kind == STREAM_IN && events & EPOLLERR) { /* no reader is left */
		break_stream(s);
		return;
	}
	stream_pump(s);
}

int stream_dial(struct stream *s, uint32_t port)
{
	int r = dial(port);

	if (r < 0)
		return r;
	s->sock = r;
	s->sock_watch.ready = sock_ready;
	return watch_add(s->epoll, s->sock, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &s->sock_watch);
}

int stream_pipe(struct stream *s, enum stream_kind kind, int *ret_child)
{
	bool in = kind == STREAM_IN;
	int ends[2];

	s->kind = kind;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	s->local = ends[in ? 1 : 0];
	*ret_child = ends[in ? 0 : 1];
	s->local_watch.ready = local_ready;
	return watch_add(s->epoll, s->local, in ? EPOLLOUT : EPOLLIN, &s->local_watch);
}

int stream_tty(struct stream *s, uint16_t rows, uint16_t cols, int *ret_number)
{
	int unlocked = 0, r;

	s->kind = STREAM_TTY;
	s->to_host = calloc(1, sizeof(*s->to_host));
	s->to_guest = calloc(1, sizeof(*s->to_guest));
	if (!s->to_host || !s->to_guest)
		return -ENOMEM;
	s->local = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	/* TIOCGPTN has its top bit set: the C libraries disagree on the type of a request. */
	if (s->local < 0 || ioctl(s->local, TIOCSPTLCK, &unlocked) < 0 ||
	    syscall(SYS_ioctl, s->local, TIOCGPTN, ret_number) < 0)
		return -errno;
	r = stream_resize(s, rows, cols);
	if (r < 0)
		return r;
	s->local_watch.ready = local_ready;
	return watch_add(s->epoll, s->local, EPOLLIN | EPOLLOUT, &s->local_watch);
}

int stream_resize(struct stream *s, uint16_t rows, uint16_t cols)
{
	struct winsize size = { .ws_row = rows, .ws_col = cols };

	if (s->kind != STREAM_TTY || s->local < 0)
		return 0;
	return ioctl(s->local, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}
