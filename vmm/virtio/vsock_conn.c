/* Connections: table, states, and what happens on their sockets. */
#include "virtio/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Edge-triggered: an idle, full or half-dead socket costs no wake-up and no epoll_ctl(), however
 * long the guest leaves it. The price: reads and writes go on until EAGAIN, remembered in
 * `readable`; EPOLLOUT is asked for only while bytes wait.
 */
#define EVENTS_DOWN (EPOLLIN | EPOLLRDHUP | EPOLLET)

static struct vsock_conn **bucket(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	uint32_t h = guest_port * 0x9e3779b1U ^ host_port * 0x85ebca77U;

	return &vs->buckets[(h ^ h >> 15) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *conn = *bucket(vs, guest_port, host_port);

	/* A guest that makes all its ports collide walks at most VSOCK_CONNS_MAX of its own entries. */
	while (conn && (conn->guest_port != guest_port || conn->host_port != host_port))
		conn = conn->hash_next;
	return conn;
}

static void unhash(struct vsock_conn *conn)
{
	struct vsock_conn **p = bucket(conn->vs, conn->guest_port, conn->host_port);

	if (!conn->hashed)
		return;
	while (*p != conn)
		p = &(*p)->hash_next;
	*p = conn->hash_next;
	conn->hashed = false;
}

static bool down_over(const struct vsock_conn *conn)
{
	return conn->down_eof || conn->down_deaf;
}

static void make_ready(struct vsock_conn *conn)
{
	if (!conn->ready) {
		TAILQ_INSERT_TAIL(&conn->vs->ready, conn, ready_link);
		conn->ready = true;
	}
}

static void unready(struct vsock_conn *conn)
{
	if (conn->ready) {
		TAILQ_REMOVE(&conn->vs->ready, conn, ready_link);
		conn->ready = false;
	}
}

/* ---- life and death ---- */

static void release(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	unhash(conn);
	unready(conn);
	conn->state = VSOCK_FREE;
	conn->hash_next = vs->free_conns;
	vs->free_conns = conn;
	vs->nconns--;
	if (conn->published)
		vs->broker.closed(vs->broker.arg, conn->id);
}

static void close_socket(struct vsock_conn *conn)
{
	if (conn->source.fd < 0)
		return;
	loop_remove(conn->vs->dev.loop, &conn->source);
	(void)close(conn->source.fd); /* a socket has nothing to report that its peer could still use */
	conn->source.fd = -1;
}

static void drop_buffer(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	vs->buffered -= conn->buf.len;
	vsock_buf_drop(&vs->pool, &conn->buf);
	conn->forwarded = conn->from_guest;
	vsock_credit_reserve(conn);
}

/* The socket takes no more bytes: those that wait are lost, and the guest's writers hear of it at once. */
static void up_fail(struct vsock_conn *conn)
{
	drop_buffer(conn);
	conn->up_over = conn->up_failed = true;
	if (conn->state == VSOCK_OPEN)
		vsock_conn_want(conn, VSOCK_WANT_SHUTDOWN);
}

/* Moves a connection on after any change: half-closes, full closes, release of the slot. May free `conn`. */
static void settle(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	if (vs->no_io) {
		vs->reap = true;
		return;
	}
	if (conn->state == VSOCK_OPEN) {
		if (conn->up_last && !conn->up_over && !conn->buf.len) {
			(void)shutdown(conn->source.fd, SHUT_WR); /* ENOTCONN: the peer went first */
			conn->up_over = true;
		}
		if (conn->up_over && down_over(conn) && conn->source.fd >= 0) {
			close_socket(conn);
			vsock_conn_want(conn, VSOCK_WANT_SHUTDOWN); /* with both flags: nothing is left */
		}
	} else if (conn->state == VSOCK_CLOSED) {
		if (!conn->buf.len)
			close_socket(conn);
		if (!conn->buf.len && !conn->hashed)
			release(conn);
	}
}

/* Asks for EPOLLOUT exactly while bytes wait. */
static void watch(struct vsock_conn *conn)
{
	uint32_t events = conn->state == VSOCK_CLOSED ? EPOLLET : EVENTS_DOWN;

	if (conn->source.fd < 0 || conn->vs->no_io)
		return;
	if (conn->buf.len)
		events |= EPOLLOUT;
	if (loop_modify(conn->vs->dev.loop, &conn->source, events) < 0) {
		vsock_warn(conn->vs, "port %u: socket lost: epoll refused it", conn->host_port);
		up_fail(conn);
	}
}

/* Writes what waits, to the last byte or EAGAIN. */
static void flush(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	while (conn->buf.len && conn->source.fd >= 0) {
		ssize_t n = vsock_buf_write(&vs->pool, &conn->buf, conn->source.fd);

		if (n == 0)
			break;
		if (n < 0) {
			up_fail(conn);
			break;
		}
		vs->buffered -= (uint64_t)n;
		conn->forwarded += (uint32_t)n;
	}
	vsock_credit_reserve(conn);
	vsock_credit_tell(conn);
	watch(conn);
}

static void on_socket(struct loop_source *source, uint32_t events)
{
	struct vsock_conn *conn = source->arg;
	struct vsock *vs = conn->vs;

	(void)pthread_mutex_lock(&vs->dev.lock);
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn->readable = true;
	if (events & (EPOLLHUP | EPOLLERR))
		conn->hup = true;
	if (conn->buf.len && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		flush(conn);
	/* Nobody will find the dead end by reading it. */
	if (conn->state == VSOCK_OPEN && conn->hup && down_over(conn) && !conn->up_over)
		up_fail(conn);
	settle(conn);
	if (vsock_conn_can_read(conn))
		make_ready(conn);
	if (vs->dev.live)
		vsock_rx_run(vs);
	(void)pthread_mutex_unlock(&vs->dev.lock);
}

/* Makes room by giving up on a guest that leaves a request unanswered whose requester is gone. */
static void evict(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->fresh && !vs->free_conns; i++) {
		struct vsock_conn *conn = &vs->conns[i];

		if (conn->state == VSOCK_CONNECTING && conn->hup) {
			vsock_rx_reset_unknown(vs, conn->guest_port, conn->host_port, VIRTIO_VSOCK_TYPE_STREAM);
			vsock_conn_close(conn, false);
		}
	}
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, uint32_t guest_port, uint32_t host_port, enum vsock_state state)
{
	struct vsock_conn **p = bucket(vs, guest_port, host_port);
	struct vsock_conn *conn;

	if (!vs->free_conns && vs->fresh == VSOCK_CONNS_MAX)
		evict(vs);
	conn = vs->free_conns;
	if (conn)
		vs->free_conns = conn->hash_next;
	else if (vs->fresh < VSOCK_CONNS_MAX)
		conn = &vs->conns[vs->fresh++];
	else
		return NULL;
	*conn = (struct vsock_conn){
		.source = { .fd = -1, .on_event = on_socket, .arg = conn },
		.vs = vs,
		.guest_port = guest_port,
		.host_port = host_port,
		.state = (uint8_t)state,
		.hashed = true,
		.hash_next = *p,
	};
	*p = conn;
	vs->nconns++;
	return conn;
}

int vsock_conn_attach(struct vsock_conn *conn, int fd)
{
	int flags = fcntl(fd, F_GETFL);
	int err = -EINVAL;

	/* One blocking socket would stop every device of this VM. */
	if (flags >= 0 && (flags & O_NONBLOCK)) {
		conn->source.fd = fd;
		conn->source.events = EVENTS_DOWN;
		err = loop_add(conn->vs->dev.loop, &conn->source);
	}
	if (err) {
		conn->source.fd = -1;
		(void)close(fd);
	}
	return err;
}

void vsock_conn_open(struct vsock_conn *conn)
{
	conn->state = VSOCK_OPEN;
	counters_add(&conn->vs->counted->opened, 1);
	if (conn->published)
		counters_add(&conn->vs->published->opened, 1);
	conn->readable = true; /* the edge may have passed while the guest had not answered */
	make_ready(conn);
}

void vsock_conn_want(struct vsock_conn *conn, unsigned want)
{
	conn->want = (uint8_t)(conn->want | want);
	make_ready(conn);
}

static void cancel_dial(struct vsock_conn *conn)
{
	for (unsigned i = 0; i < CONTROL_DIALS_MAX; i++)
		if (conn->vs->dials[i].conn == conn)
			conn->vs->dials[i].conn = NULL;
}

void vsock_conn_close(struct vsock_conn *conn, bool rst)
{
	if (conn->state == VSOCK_DIALLING)
		cancel_dial(conn);
	if (conn->state != VSOCK_CLOSED) {
		conn->state = VSOCK_CLOSED;
		conn->readable = false;
		conn->want = 0;
		conn->granted = conn->from_guest;
		vsock_credit_reserve(conn);
		if (rst)
			vsock_conn_want(conn, VSOCK_WANT_RST);
	}
	if (!rst) {
		conn->want = 0;
		unready(conn);
		unhash(conn);
	}
	watch(conn);
	settle(conn);
}

void vsock_conn_rst_sent(struct vsock_conn *conn)
{
	unhash(conn);
	settle(conn);
}

/* ---- up: guest to socket ---- */

void vsock_conn_data(struct vsock_conn *conn, struct iovec *iov, unsigned niov, uint32_t len)
{
	struct vsock *vs = conn->vs;
	size_t done = 0;

	conn->up_used = true;
	conn->from_guest += len;
	counters_add(&vs->counted->from_guest_bytes, len);
	if (conn->published)
		counters_add(&vs->published->from_guest_bytes, len);
	if (conn->up_over) { /* sent before it heard; nobody is there to read it */
		conn->forwarded += len;
		vsock_credit_reserve(conn);
		return;
	}
	if (!conn->buf.len && !vs->no_io) {
		ssize_t n = writev(conn->source.fd, iov, (int)niov);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			up_fail(conn);
			settle(conn);
			return;
		}
		done = n > 0 ? (size_t)n : 0;
		conn->forwarded += (uint32_t)done;
	}
	if (done < len) {
		size_t skip = done;
		unsigned i = 0;

		while (skip >= iov[i].iov_len)
			skip -= iov[i++].iov_len;
		iov[i].iov_base = (uint8_t *)iov[i].iov_base + skip;
		iov[i].iov_len -= skip;
		vsock_buf_put(&vs->pool, &conn->buf, iov + i, niov - i);
		vs->buffered += len - done;
		watch(conn);
		if (vs->no_io)
			vs->reap = true;
	}
	vsock_credit_reserve(conn);
	vsock_credit_tell(conn);
	settle(conn);
}

/* Who is served and left without an answer sees its own half closed first: that is no refusal. */
void vsock_conn_ended(struct vsock_conn *conn)
{
	if (conn->published && conn->state != VSOCK_CLOSED && !conn->up_used && !conn->up_last)
		counters_add(&conn->vs->published->refused, 1);
}

void vsock_conn_shutdown(struct vsock_conn *conn, uint32_t flags)
{
	if ((flags & VIRTIO_VSOCK_SHUTDOWN_SEND) && (flags & VIRTIO_VSOCK_SHUTDOWN_RCV))
		vsock_conn_ended(conn);
	/* The bits stay set: virtio 1.2 §5.10.6.5. */
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		conn->up_last = true;
	if ((flags & VIRTIO_VSOCK_SHUTDOWN_RCV) && !conn->down_deaf) {
		conn->down_deaf = true;
		conn->readable = false;
		if (!conn->up_last && !conn->vs->no_io && conn->source.fd >= 0)
			(void)shutdown(conn->source.fd,
				       SHUT_RD); /* a host writer hears of it, where sockets can tell */
	}
	/*
	 * Both halves closed by the guest: it waits for our RST, up to 8 s on Linux, so it gets that
	 * at once; what it sent before is still written to the socket.
	 */
	if (conn->up_last && conn->down_deaf)
		vsock_conn_close(conn, true);
	else
		settle(conn);
}

/* ---- down: socket to guest (vsock_rx.c reads) ---- */

bool vsock_conn_can_read(const struct vsock_conn *conn)
{
	return conn->state == VSOCK_OPEN && conn->readable && !down_over(conn);
}

void vsock_conn_eof(struct vsock_conn *conn, bool failed)
{
	conn->readable = false;
	conn->down_eof = true;
	vsock_conn_want(conn, VSOCK_WANT_SHUTDOWN);
	/* EPOLLHUP: the other end is closed for both directions, a write would fail too. */
	if ((failed || conn->hup) && !conn->up_over)
		up_fail(conn);
	settle(conn);
}

uint32_t vsock_conn_shutdown_flags(const struct vsock_conn *conn)
{
	uint32_t flags = 0;

	if (down_over(conn))
		flags |= VIRTIO_VSOCK_SHUTDOWN_SEND;
	/*
	 * Once nothing can move in either direction say so: Linux then answers with RST as soon as its
	 * reader has everything, instead of keeping the socket until it is closed.
	 */
	if (conn->up_failed || (conn->up_over && down_over(conn)))
		flags |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	return flags;
}

void vsock_conn_reap(struct vsock *vs)
{
	if (!vs->reap)
		return;
	vs->reap = false;
	for (unsigned i = 0; i < vs->fresh; i++) {
		struct vsock_conn *conn = &vs->conns[i];

		if (conn->state == VSOCK_FREE)
			continue;
		if (conn->buf.len)
			flush(conn);
		settle(conn);
	}
}

void vsock_conn_give_up(struct vsock *vs, uint32_t first, uint32_t last)
{
	for (unsigned i = 0; i < vs->fresh; i++) {
		struct vsock_conn *conn = &vs->conns[i];

		if (conn->state == VSOCK_FREE || !conn->buf.len ||
		    (conn->host_port >= first && conn->host_port <= last))
			continue;
		up_fail(conn);
		settle(conn);
	}
}

void vsock_conn_discard_all(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->fresh; i++)
		close_socket(&vs->conns[i]);
}
