/*
 * The vsock device's own parts, shared by vmm/virtio/vsock*.c and nobody else.
 *
 * Purpose: vsock.c is the device (queues, activation, reset, state, the calls of devices.h);
 *          vsock_tx.c parses what the guest sends; vsock_rx.c builds what it receives;
 *          vsock_conn.c is the connection table and state machine; vsock_credit.c the credit of
 *          both sides; vsock_buf.c the buffer pool.
 * Trust:   packets and rings are the guest's, hostile. Bytes from host sockets are only moved.
 * Ownership: a connection owns its socket; slots live in one array until the device is freed, so
 *          a pointer to a released connection reads state VSOCK_FREE, never freed memory.
 * Thread:  all under dev->lock. All on the I/O thread, except activate, reset, save and restore,
 *          which vCPU threads call: they touch memory only (vs->no_io), because the filter of
 *          those threads allows no socket call.
 *
 * Directions: "up" is guest -> host socket, "down" is host socket -> guest.
 *
 * Credit (virtio 1.2 §5.10.6.3). We keep the right edge of what the guest may send: `granted`,
 * counted like from_guest. It never moves back: a guest that was told of room may use it, and
 * Linux computes buf_alloc - (tx_cnt - fwd_cnt) unsigned. A smaller grant takes effect as the
 * bytes of the larger one arrive. Room that was granted is reserved in the pool: what a guest
 * was allowed to send always fits.
 */
#ifndef VMM_VIRTIO_VSOCK_H
#define VMM_VIRTIO_VSOCK_H

#include <linux/virtio_vsock.h>
#include <stddef.h>
#include <sys/queue.h>

#include "mvm/control.h"
#include "mvm/endian.h"
#include "virtio/devices.h"

#define VSOCK_RX    0U /* queues, virtio 1.2 §5.10.2 */
#define VSOCK_TX    1U
#define VSOCK_EVENT 2U

#define VSOCK_CID_HOST    2U
#define VSOCK_CONNS_MAX   1023U
#define VSOCK_PACKET_MAX  (64U << 10) /* payload bytes; Linux's VIRTIO_VSOCK_MAX_PKT_BUF_SIZE */
#define VSOCK_CHUNK       1024U /* bytes */
#define VSOCK_CHUNKS      4096U /* 4 MiB for all connections of a VM together */
#define VSOCK_CREDIT_MIN  VSOCK_CHUNK /* every connection can always be granted this */
#define VSOCK_CREDIT_MAX  (256U << 10)
#define VSOCK_CHUNKS_BASE 2U /* that hold VSOCK_CREDIT_MIN bytes at any offset */
#define VSOCK_EXTRA       (VSOCK_CHUNKS - VSOCK_CHUNKS_BASE * VSOCK_CONNS_MAX)
#define VSOCK_BUCKETS     512U
#define VSOCK_RSTS_MAX    256U /* resets waiting for connections we do not know; more are dropped */
#define VSOCK_STASH       16U /* receive buffers held ready: one readv() fills up to as many packets */
#define VSOCK_RX_IOV      48U /* pieces of a receive buffer that we use: > 44, so a header always fits */
#define VSOCK_PORT_HOST   0x80000000U /* our side's ports of connections that the host opens */

/* virtio 1.2 §5.10.6 */
struct vsock_hdr {
	struct le64 src_cid;
	struct le64 dst_cid;
	struct le32 src_port;
	struct le32 dst_port;
	struct le32 len;
	struct le16 type;
	struct le16 op;
	struct le32 flags;
	struct le32 buf_alloc;
	struct le32 fwd_cnt;
} __attribute__((packed));

_Static_assert(sizeof(struct vsock_hdr) == 44 && sizeof(struct virtio_vsock_hdr) == 44, "virtio 1.2 §5.10.6");
_Static_assert(offsetof(struct vsock_hdr, len) == 24 && offsetof(struct vsock_hdr, fwd_cnt) == 40,
	       "virtio 1.2 §5.10.6");
_Static_assert(VSOCK_RX_IOV > sizeof(struct vsock_hdr), "a header in single bytes still fits");
_Static_assert(VSOCK_CHUNKS > VSOCK_CHUNKS_BASE * VSOCK_CONNS_MAX, "every connection has its least");
_Static_assert(VSOCK_CHUNKS < UINT16_MAX, "chunk numbers + 1 are uint16_t");

/* One packet's header in native integers, seen from the device: guest_port is src of what comes, dst of what goes. */
struct vsock_packet {
	uint64_t src_cid, dst_cid;
	uint32_t guest_port, host_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

/* The pool: chunks linked by number. `fresh` and up were never used, so their pages do not exist yet. */
struct vsock_pool {
	uint8_t *bytes;
	uint16_t free_first; /* number + 1; 0: none */
	uint16_t fresh;
	uint16_t next[VSOCK_CHUNKS]; /* number + 1 of the one after; 0: last */
};

/* A first-in first-out run of bytes in the pool. */
struct vsock_buf {
	uint32_t len; /* bytes */
	uint16_t first, last; /* chunk number + 1 */
	uint16_t head; /* offset of the first byte in `first` */
	uint16_t tail; /* bytes used in `last` */
};

void vsock_buf_put(struct vsock_pool *pool, struct vsock_buf *buf, const struct iovec *iov, unsigned niov);
/* One writev(). Bytes written (0: buffer empty or the socket would block) or -errno. */
ssize_t vsock_buf_write(struct vsock_pool *pool, struct vsock_buf *buf, int fd);
void vsock_buf_drop(struct vsock_pool *pool, struct vsock_buf *buf);

enum vsock_state {
	VSOCK_FREE = 0,
	VSOCK_DIALLING, /* guest's REQUEST, broker asked */
	VSOCK_CONNECTING, /* our REQUEST, guest to answer */
	VSOCK_OPEN,
	VSOCK_CLOSED, /* over for the guest; lives on until its RST is sent and its bytes are written */
};

/* Packets a connection has to send, each at most once: the bound on what waits for receive buffers. */
enum vsock_want {
	VSOCK_WANT_RST = 1U << 0,
	VSOCK_WANT_REQUEST = 1U << 1,
	VSOCK_WANT_RESPONSE = 1U << 2,
	VSOCK_WANT_SHUTDOWN = 1U << 3,
	VSOCK_WANT_CREDIT_UPDATE = 1U << 4,
};

struct vsock;

struct vsock_conn {
	struct loop_source source; /* the host socket; fd -1 without one */
	struct vsock *vs;
	struct vsock_conn *hash_next; /* also links free slots */
	TAILQ_ENTRY(vsock_conn) ready_link;
	uint32_t guest_port, host_port;
	uint32_t id; /* the opener's, of one that is published */
	uint8_t state; /* enum vsock_state */
	uint8_t want; /* enum vsock_want bits */
	bool hashed, ready;
	bool readable; /* the socket may have bytes or its end (edge-triggered: true until EAGAIN) */
	bool hup; /* the socket's other end is gone */
	bool down_eof; /* the socket has nothing more to read: SHUTDOWN(SEND) is due or sent */
	bool down_deaf; /* guest: SHUTDOWN(RCV), it wants nothing more */
	bool up_last; /* guest: SHUTDOWN(SEND), nothing more will come */
	bool up_over; /* the socket takes no more: shut down after the last byte, or it failed */
	bool up_failed;
	bool up_used; /* the guest has sent data: it earns a larger credit */
	bool credit_asked;
	bool published; /* opened by virtio_vsock_connect() */
	uint16_t extra; /* chunks reserved beyond VSOCK_CHUNKS_BASE */
	/* down */
	uint32_t to_guest, peer_alloc, peer_fwd;
	/* up; all count bytes since the connection began, modulo 2^32 */
	uint32_t from_guest, forwarded, granted;
	uint32_t told; /* granted - forwarded when the guest last heard of it */
	struct vsock_buf buf;
};

TAILQ_HEAD(vsock_ready, vsock_conn);

struct vsock_rst {
	uint32_t guest_port, host_port;
	uint16_t type;
};

struct vsock_dial {
	bool busy; /* the broker has not answered yet */
	uint32_t id;
	struct vsock_conn *conn; /* NULL: the guest gave up meanwhile */
};

/* A popped receive buffer: kept until a packet fills it. Its head is what a snapshot records. */
struct vsock_rxbuf {
	uint16_t head;
	uint16_t niov;
	uint32_t len; /* bytes in iov */
	struct iovec iov[VSOCK_RX_IOV];
};

struct vsock {
	struct virtio_dev dev;
	uint64_t guest_cid;
	struct counters_vsock *counted, uncounted; /* as dev.counted */
	struct counters_publish *published, unpublished; /* the same */
	struct vsock_broker broker;
	struct loop_source work; /* an eventfd: what must wait for its turn, or for the I/O thread */
	bool no_io; /* on a vCPU thread: no call that its seccomp filter lacks */
	bool active; /* DRIVER_OK was seen, no reset since */
	bool reap; /* connections closed under no_io wait for the I/O thread */
	bool event_due; /* TRANSPORT_RESET not delivered yet */
	bool tx_more; /* the last run left packets in the queue */
	uint32_t next_dial;
	uint32_t next_port;
	struct vsock_dial dials[CONTROL_DIALS_MAX];

	struct vsock_conn *conns; /* VSOCK_CONNS_MAX, touched from the bottom up */
	unsigned nconns, fresh;
	struct vsock_conn *free_conns;
	struct vsock_conn *buckets[VSOCK_BUCKETS];
	struct vsock_ready ready; /* connections with something for the guest, in turn */

	struct vsock_pool pool;
	unsigned extra_free; /* chunks neither reserved nor any connection's base */
	uint64_t buffered; /* bytes in the pool */

	unsigned nrsts, rst_first;
	struct vsock_rst rsts[VSOCK_RSTS_MAX];

	unsigned nstash;
	uint16_t restored[VSOCK_STASH]; /* heads of a snapshot, taken up again by activate */
	unsigned nrestored;
	struct vsock_rxbuf stash[VSOCK_STASH];
	struct vq_chain chain; /* the one being looked at */
};

static inline struct vsock *vsock_of(struct virtio_dev *dev)
{
	return (struct vsock *)dev; /* dev is the first member */
}

/* Rate-limited; silent on vCPU threads, which may not log. */
#define vsock_warn(vs, fmt, ...)                                                                                       \
	do {                                                                                                           \
		if (!(vs)->no_io && log_allowed(&(vs)->dev.log_limit, (vs)->dev.name))                                 \
			log_warn("%s: " fmt, (vs)->dev.name, ##__VA_ARGS__);                                           \
	} while (0)

/* vsock.c */
void vsock_schedule(struct vsock *vs); /* run again after the other devices had their turn; any thread */
void vsock_fail(struct vsock *vs, const char *reason); /* device broken; connections drain and close */

/* vsock_tx.c: takes packets off the transmit queue; true when it stopped early. `limit`: packets. */
bool vsock_tx_run(struct vsock *vs, unsigned limit);

/* vsock_rx.c */
void vsock_rx_run(struct vsock *vs); /* sends what waits, as far as buffers, credit and fairness allow */
void vsock_rx_reset_unknown(struct vsock *vs, uint32_t guest_port, uint32_t host_port, uint16_t type);
int vsock_rx_take_up(struct vsock *vs); /* after a restore: the snapshot's receive buffers; -EPROTO */

/* vsock_credit.c */
void vsock_credit_reserve(struct vsock_conn *conn); /* after any change of granted or forwarded */
uint32_t vsock_credit_grant(struct vsock_conn *conn); /* extends the grant; the buf_alloc to tell the guest */
void vsock_credit_tell(struct vsock_conn *conn); /* asks for a CREDIT_UPDATE if it is worth one */
bool vsock_credit_peer(struct vsock_conn *conn, uint32_t buf_alloc, uint32_t fwd_cnt); /* false: absurd */
uint32_t vsock_credit_left(const struct vsock_conn *conn); /* bytes that the guest has room for */

/* vsock_conn.c */
struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port);
struct vsock_conn *vsock_conn_new(struct vsock *vs, uint32_t guest_port, uint32_t host_port,
				  enum vsock_state state); /* NULL: table full */
int vsock_conn_attach(struct vsock_conn *conn, int fd); /* takes fd over always; -EINVAL: a blocking fd */
void vsock_conn_open(struct vsock_conn *conn); /* both sides agreed */
void vsock_conn_want(struct vsock_conn *conn, unsigned want);
void vsock_conn_ended(struct vsock_conn *conn); /* by the guest, both halves at once: counted if it gave no byte */
void vsock_conn_close(struct vsock_conn *conn, bool rst); /* over for the guest; bytes accepted are still written */
void vsock_conn_rst_sent(struct vsock_conn *conn);
void vsock_conn_data(struct vsock_conn *conn, struct iovec *iov, unsigned niov, uint32_t len); /* iov is used up */
void vsock_conn_shutdown(struct vsock_conn *conn, uint32_t flags);
void vsock_conn_eof(struct vsock_conn *conn, bool failed); /* the socket has nothing more to read */
bool vsock_conn_can_read(const struct vsock_conn *conn);
uint32_t vsock_conn_shutdown_flags(const struct vsock_conn *conn);
void vsock_conn_reap(struct vsock *vs); /* what reset left behind; I/O thread */
/* What waits for sockets of other host ports than these; I/O thread. */
void vsock_conn_give_up(struct vsock *vs, uint32_t first, uint32_t last);
void vsock_conn_discard_all(struct vsock *vs); /* frees sockets at once; I/O thread or no thread at all */

#endif
