/*
 * The guest's end of a vsock device, and the host programs behind it, for tests.
 *
 * Purpose: a test says which packets the guest sends and what it expects; buffers, rings, the
 *          broker and its sockets are here. Speaks packets only: a test that wants a hostile
 *          guest fills in any field it likes.
 * Ownership: peer_init() makes the device and its fake driver; peer_fini() frees both. Host-side
 *          sockets (peer_conn.fd) belong to the test.
 * Thread:  the test's thread is vCPU and host program in one; the device runs on the I/O thread.
 * Errors:  what must not fail fails the running test (cmocka).
 */
#ifndef TESTS_UNIT_VSOCK_PEER_H
#define TESTS_UNIT_VSOCK_PEER_H

#include "fake_driver.h"
#include "virtio/vsock.h"

#define PEER_CID         3U
#define PEER_RX_BUFS     256U
#define PEER_DIALS       2048U
#define PEER_PAYLOADS    64U /* transmit buffers */
#define PEER_PAYLOAD_MAX (VSOCK_PACKET_MAX + 16) /* a little more than a packet may hold */

struct peer {
	struct fake_driver drv;
	uint32_t rx_size; /* bytes of a receive buffer, header included */
	bool rx_split; /* header in a descriptor of its own, as Linux before 6.2 */
	bool rx_hold; /* do not give received buffers back */
	gpa_t rx_gpa[PEER_RX_BUFS];
	uint16_t rx_of_head[VQ_SIZE_MAX]; /* which buffer a head names */
	gpa_t tx_hdr[PEER_PAYLOADS], tx_payload[PEER_PAYLOADS];
	unsigned tx_next;
	gpa_t event_gpa;
	/* what the broker was asked */
	int dial_error; /* answer dials with this at once */
	unsigned ndials;
	struct {
		uint32_t id, port;
	} dials[PEER_DIALS];
	/* what the host opened, numbered from 0, and what of it is over */
	uint32_t nconnects, nclosed;
	bool closed[PEER_DIALS];
};

/* A connection as the guest sees it. */
struct peer_conn {
	uint32_t guest_port, host_port;
	int fd; /* the host program's end */
	uint32_t sent; /* bytes to the device */
	uint32_t dev_alloc, dev_fwd; /* its newest credit */
	uint32_t received; /* bytes from the device; all taken at once unless `hold` */
	uint32_t alloc; /* the guest's buffer */
};

struct peer_packet {
	struct vsock_packet h;
	uint8_t data[VSOCK_PACKET_MAX];
	uint32_t used_len;
};

void peer_init(struct peer *p); /* driver started, receive and event buffers given */
void peer_init_quiet(struct peer *p); /* device bound, driver not started */
int peer_start(struct peer *p, unsigned rx_buffers, bool event_buffer); /* fake_probe() and buffers */
void peer_fini(struct peer *p);
struct virtio_dev *peer_device(struct peer *p); /* another instance, unbound */

void peer_rx_add(struct peer *p, unsigned index); /* gives receive buffer `index` to the device; no kick */
void peer_settle(struct peer *p); /* until the I/O thread has done what was asked of it */

/* Sends any packet; its header and payload in descriptors of their own. Waits until the device took it. */
void peer_send_raw(struct peer *p, const struct vsock_packet *h, const void *payload, uint32_t len);
int peer_queue_raw(struct peer *p, const struct vsock_packet *h, const void *payload,
		   uint32_t len); /* no kick, no wait */
/* A packet of a connection, with honest credit fields. */
void peer_send(struct peer *p, struct peer_conn *c, enum virtio_vsock_op op, uint32_t flags, const void *payload,
	       uint32_t len);

bool peer_recv(struct peer *p, struct peer_packet *ret); /* waits; false: nothing came */
bool peer_try_recv(struct peer *p, struct peer_packet *ret); /* what is there after peer_settle() */
/* Receives one packet, which must be this. Takes credit over into c. */
void peer_expect(struct peer *p, struct peer_conn *c, enum virtio_vsock_op op, struct peer_packet *ret);
void peer_expect_nothing(struct peer *p);
/* Credit updates of c that wait are taken in; any other packet fails the test. */
void peer_take_updates(struct peer *p, struct peer_conn *c);

uint32_t peer_credit(const struct peer_conn *c); /* bytes the guest may send */

/* Byte `i` of a stream that differs from its neighbours a packet, a page and a chunk away. */
void peer_pattern(uint8_t *p, uint64_t from, size_t len);
/* Sends the pattern until the device gives no more credit; bytes sent. Where it goes on: c->sent. */
uint32_t peer_spend_credit(struct peer *p, struct peer_conn *c);

struct peer_conn peer_open(struct peer *p, uint32_t guest_port, uint32_t host_port); /* dial, answer, RESPONSE */
struct peer_conn peer_request(struct peer *p, uint32_t guest_port, uint32_t host_port); /* REQUEST alone */
int peer_answer(struct peer *p, unsigned dial, bool accept); /* the host program's fd, -1 if refused */
int peer_connect(struct peer *p, uint32_t guest_port, int fd); /* virtio_vsock_connect() on the I/O thread */
uint64_t peer_pending(struct peer *p);
void peer_give_up(struct peer *p, uint32_t first, uint32_t last); /* virtio_vsock_give_up() there */
int peer_pair(int *ret_device_end); /* a socket pair: non-blocking both */

/* Host programs. */
void peer_read_back(int fd, uint64_t from, uint32_t len); /* bytes [from, from+len) of the pattern, and nothing else */
void peer_host_write(int fd, const void *data, size_t len);
void peer_host_read(int fd, void *data, size_t len); /* waits for all of it */
bool peer_host_eof(int fd); /* waits for end of file (or reset), discarding nothing */

#endif
