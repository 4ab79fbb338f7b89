/* The buffer pool: bytes that a host socket did not take at once, in linked chunks. */
#include "virtio/vsock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define WRITE_IOV 64 /* chunks per writev() */

static uint8_t *chunk(struct vsock_pool *pool, uint16_t number_plus_1)
{
	return pool->bytes + (size_t)(number_plus_1 - 1) * VSOCK_CHUNK;
}

static uint16_t chunk_take(struct vsock_pool *pool)
{
	uint16_t c = pool->free_first;

	if (c) {
		pool->free_first = pool->next[c - 1];
	} else {
		assert(pool->fresh < VSOCK_CHUNKS); /* credit is granted for reserved chunks only */
		c = ++pool->fresh;
	}
	pool->next[c - 1] = 0;
	return c;
}

/* Last in, first out: a pool that is used a little stays a few pages. */
static uint16_t chunk_give(struct vsock_pool *pool, uint16_t c)
{
	uint16_t after = pool->next[c - 1];

	pool->next[c - 1] = pool->free_first;
	pool->free_first = c;
	return after;
}

void vsock_buf_put(struct vsock_pool *pool, struct vsock_buf *buf, const struct iovec *iov, unsigned niov)
{
	for (unsigned i = 0; i < niov; i++) {
		const uint8_t *src = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left) {
			size_t n;

			if (!buf->last) {
				buf->first = buf->last = chunk_take(pool);
				buf->head = buf->tail = 0;
			} else if (buf->tail == VSOCK_CHUNK) {
				uint16_t c = chunk_take(pool);

				pool->next[buf->last - 1] = c;
				buf->last = c;
				buf->tail = 0;
			}
			n = VSOCK_CHUNK - buf->tail;
			if (n > left)
				n = left;
			memcpy(chunk(pool, buf->last) + buf->tail, src, n);
			buf->tail = (uint16_t)(buf->tail + n);
			buf->len += (uint32_t)n;
			src += n;
			left -= n;
		}
	}
}

static void buf_consume(struct vsock_pool *pool, struct vsock_buf *buf, uint32_t n)
{
	buf->len -= n;
	while (n) {
		uint32_t in_first = (buf->first == buf->last ? buf->tail : VSOCK_CHUNK) - (uint32_t)buf->head;

		if (n < in_first) {
			buf->head = (uint16_t)(buf->head + n);
			return;
		}
		n -= in_first;
		buf->first = chunk_give(pool, buf->first);
		buf->head = 0;
	}
	if (!buf->len)
		*buf = (struct vsock_buf){ 0 };
}

ssize_t vsock_buf_write(struct vsock_pool *pool, struct vsock_buf *buf, int fd)
{
	struct iovec iov[WRITE_IOV];
	unsigned niov = 0;
	ssize_t n;

	for (uint16_t c = buf->first; c && niov < WRITE_IOV; c = pool->next[c - 1]) {
		size_t from = c == buf->first ? buf->head : 0;
		size_t to = c == buf->last ? buf->tail : VSOCK_CHUNK;

		iov[niov].iov_base = chunk(pool, c) + from;
		iov[niov++].iov_len = to - from;
	}
	if (!niov)
		return 0;
	n = writev(fd, iov, (int)niov);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	buf_consume(pool, buf, (uint32_t)n);
	return n;
}

void vsock_buf_drop(struct vsock_pool *pool, struct vsock_buf *buf)
{
	while (buf->first)
		buf->first = chunk_give(pool, buf->first);
	*buf = (struct vsock_buf){ 0 };
}
