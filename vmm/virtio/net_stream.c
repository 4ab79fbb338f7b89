/*
 * A stream socket as the host's end, as passt and QEMU's -netdev stream speak it: each frame behind its length, 32 bits,
 * most significant byte first. No offloads: the guest makes whole packets, and sums them up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "virtio/net.h"

#define READS_MAX 4U /* for one frame: who sends it in bits lets others have their turn in between */
#define LENGTH    4U
#define IN_BYTES  (2UL * (LENGTH + NET_FRAME_MAX)) /* a read takes many small frames at once */

struct net_stream {
	uint8_t in[IN_BYTES];
	size_t begin, end; /* of what was read and not handed on */
	uint8_t out[LENGTH + NET_FRAME_MAX]; /* the rest of a frame that the socket took in part */
	size_t out_begin, out_end;
};

static int stream_open(struct net *net)
{
	net->stream = malloc(sizeof(*net->stream)); /* untouched pages stay unmade */
	if (!net->stream)
		return -ENOMEM;
	net->stream->begin = net->stream->end = net->stream->out_begin = net->stream->out_end = 0;
	return 0;
}

static void stream_negotiated(struct net *net)
{
	(void)net;
}

/* Keeps what the socket did not take: all that lies behind the first `done` bytes. */
static void keep_rest(struct net_stream *s, const struct iovec *iov, unsigned niov, size_t done)
{
	s->out_begin = s->out_end = 0;
	for (unsigned i = 0; i < niov; i++) {
		size_t skip = done < iov[i].iov_len ? done : iov[i].iov_len, n = iov[i].iov_len - skip;

		done -= skip;
		if (n) {
			memcpy(s->out + s->out_end, (const uint8_t *)iov[i].iov_base + skip, n);
			s->out_end += n;
		}
	}
}

static int stream_send(struct net *net, struct iovec *iov, unsigned niov, size_t len)
{
	struct net_stream *s = net->stream;
	const uint8_t length[LENGTH] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
					 (uint8_t)len };
	ssize_t n;

	if (s->out_end)
		return -EAGAIN;
	iov[0] = (struct iovec){ (void *)(uintptr_t)length, LENGTH };
	do
		n = writev(net->host.fd, iov, (int)niov);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n < 0)
		return -errno;
	if ((size_t)n < LENGTH + len)
		keep_rest(s, iov, niov, (size_t)n);
	return 0;
}

static void stream_writable(struct net *net)
{
	struct net_stream *s = net->stream;

	while (s->out_begin < s->out_end) {
		ssize_t n = write(net->host.fd, s->out + s->out_begin, s->out_end - s->out_begin);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				net_link_down(net, "its socket is closed");
			return;
		}
		s->out_begin += (size_t)n;
	}
	s->out_begin = s->out_end = 0;
}

static size_t frame_length(const uint8_t *p)
{
	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static void scatter(struct iovec *iov, unsigned niov, const uint8_t *p, size_t len)
{
	for (unsigned i = 0; i < niov && len; i++) {
		size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;

		memcpy(iov[i].iov_base, p, n);
		p += n;
		len -= n;
	}
}

/* Reads more, behind what is there; 1: something came, 0: nothing now, -errno. */
static int read_more(struct net *net)
{
	struct net_stream *s = net->stream;
	ssize_t n;

	if (s->begin) {
		memmove(s->in, s->in + s->begin, s->end - s->begin);
		s->end -= s->begin;
		s->begin = 0;
	}
	do
		n = read(net->host.fd, s->in + s->end, IN_BYTES - s->end);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	s->end += (size_t)n;
	return n > 0 ? 1 : -EPIPE;
}

static ssize_t stream_receive(struct net *net, struct iovec *iov, unsigned niov)
{
	struct net_stream *s = net->stream;
	size_t len;

	for (unsigned reads = 0;; reads++) {
		size_t have = s->end - s->begin;
		int r;

		if (have >= LENGTH) {
			len = frame_length(s->in + s->begin);
			if (len < NET_ETH || len > NET_FRAME_MAX)
				return -EPROTO;
			if (have >= LENGTH + len)
				break;
		}
		if (reads == READS_MAX)
			return -EAGAIN;
		r = read_more(net);
		if (r <= 0)
			return r;
	}
	memset(iov[0].iov_base, 0, iov[0].iov_len); /* no offloads */
	scatter(iov + 1, niov - 1, s->in + s->begin + LENGTH, len);
	s->begin += LENGTH + len;
	return (ssize_t)len;
}

static void stream_close(struct net *net)
{
	free(net->stream);
}

const struct net_end net_end_stream = {
	.open = stream_open,
	.negotiated = stream_negotiated,
	.send = stream_send,
	.receive = stream_receive,
	.on_writable = stream_writable,
	.close = stream_close,
};
