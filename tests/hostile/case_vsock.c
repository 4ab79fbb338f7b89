/*
 * Packets that no stack sends (virtio 1.2 §5.10.6). The runner allows port PORT_SINK (a socket whose reader reads) and
 * PORT_DEAF (a socket whose reader does not), PORT_SOURCE (a socket that sends without end); all other ports are refused.
 */
#include "guest.h"

#define PORT_SINK    7U
#define PORT_DEAF    8U
#define PORT_SOURCE  9U
#define PORT_REFUSED 4000U
#define QUEUE        128U /* entries */
#define RX           0
#define TX           1
#define RX_BYTES     4096UL
#define CREDIT       (256U << 10) /* the most that the device ever grants */

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static uint64_t base;
static unsigned tx_sent;

static uint8_t *rx_buffer(unsigned i)
{
	return data + RX_BYTES * (i % QUEUE);
}

static void give_rx(unsigned i)
{
	desc_set(&rings[RX], i, address(rx_buffer(i)), RX_BYTES, D_WRITE, 0);
	offer(&rings[RX], (uint16_t)i);
}

static void up(unsigned receive)
{
	base = device_find(VIRTIO_ID_VSOCK, 0);
	device_up(base, 3, QUEUE, 0);
	for (unsigned i = 0; i < receive; i++)
		give_rx(i);
	kick(&rings[RX]);
}

static struct packet packet(uint16_t op, uint32_t src_port, uint32_t dst_port)
{
	return (struct packet){ .src_cid = read64(base + R_CONFIG),
				.dst_cid = 2,
				.src_port = src_port,
				.dst_port = dst_port,
				.type = 1,
				.op = op,
				.buf_alloc = 65536 };
}

/* Header and payload as they are said to be: `bytes` of payload are there, whatever p->len says. Waits for it to be used. */
static bool send(const struct packet *p, uint32_t bytes)
{
	unsigned slot = 2 * (tx_sent++ % (QUEUE / 2));
	uint8_t *header = data + DATA_BYTES / 2 + 64UL * slot;

	memcpy(header, p, sizeof(*p));
	desc_set(&rings[TX], slot, address(header), sizeof(*p), bytes ? D_NEXT : 0, slot + 1);
	desc_set(&rings[TX], slot + 1, address(data) + DATA_BYTES * 3 / 4, bytes, 0, 0);
	offer(&rings[TX], (uint16_t)slot);
	kick(&rings[TX]);
	return wait_used(&rings[TX], NULL);
}

static void send_op(uint16_t op, uint32_t src_port, uint32_t dst_port)
{
	struct packet p = packet(op, src_port, dst_port);

	expect("not taken", send(&p, 0), op);
}

/* The next packet for the guest; its buffer is given back. */
static bool receive(struct packet *ret, bool give_back)
{
	unsigned i = rings[RX].seen;

	if (!wait_used(&rings[RX], NULL))
		return false;
	i = rings[RX].used.entries[i % QUEUE].id;
	memcpy(ret, rx_buffer(i), sizeof(*ret));
	if (give_back) {
		give_rx(i);
		kick(&rings[RX]);
	}
	return true;
}

/* Whether what comes is `op`; what a connection may get at any time besides is skipped. */
static bool answer_is(uint16_t op, uint32_t port)
{
	struct packet p = { 0 };

	do
		expect("no answer", receive(&p, true), op);
	while (p.op != op && (p.op == CREDIT_UPDATE || p.op == CREDIT_REQUEST || p.op == SHUTDOWN));
	return p.op == op && p.dst_port == port;
}

static void answers(uint16_t op, uint32_t port)
{
	expect("another answer", answer_is(op, port), (uint64_t)op << 32 | port);
}

static bool silent(void)
{
	wait_ns(SECOND / 5);
	return rings[RX].used.idx == rings[RX].seen;
}

static void connect(uint32_t src_port, uint32_t dst_port)
{
	send_op(REQUEST, src_port, dst_port);
	answers(RESPONSE, src_port);
}

/* The device is still a device: a connection comes about, once the dials of before are over. */
static void works(void)
{
	uint64_t end = now() + PATIENCE;

	up(QUEUE);
	do
		send_op(REQUEST, 77, PORT_SINK);
	while (!answer_is(RESPONSE, 77) && now() < end);
	expect("no connection", now() < end, 0);
}

/* CVE-2019-18960: the header at the end of memory, its length beyond. */
static void vsock_past_ram(void)
{
	struct packet p;

	up(QUEUE);
	connect(1, PORT_SINK);
	p = packet(RW, 1, PORT_SINK);
	p.len = 4096;
	memcpy((void *)(RAM_LEAST - sizeof(p)), &p, sizeof(p));
	desc_set(&rings[TX], 100, RAM_LEAST - sizeof(p), sizeof(p), 0, 0);
	offer(&rings[TX], 100);
	kick(&rings[TX]);
	expect("not taken", wait_used(&rings[TX], NULL), 0);
	answers(RST, 1);
	desc_set(&rings[TX], 100, RAM_LEAST - sizeof(p), sizeof(p) + 1, 0, 0);
	offer(&rings[TX], 100);
	kick(&rings[TX]);
	expect("not broken", device_broken(base), 0);
	works();
}

static void vsock_length(void)
{
	static const uint32_t lengths[] = { 101, 65536, 65537, 0x7fffffff, UINT32_MAX, UINT32_MAX - 43 };

	up(QUEUE);
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct packet p;

		connect(10 + i, PORT_SINK);
		p = packet(RW, 10 + i, PORT_SINK);
		p.len = lengths[i];
		expect("not taken", send(&p, 100), i);
		answers(RST, 10 + i);
	}
	works();
}

static void vsock_cids(void)
{
	static const uint64_t cids[] = { 0, 1, 2, 4, UINT32_MAX, 1ULL << 32, UINT64_MAX };

	up(QUEUE);
	for (unsigned i = 0; i < 2000; i++) {
		struct packet p = packet(i % 5 ? REQUEST : RW, i, PORT_SINK);

		if (i % 2)
			p.src_cid = cids[i % 7] == p.src_cid ? 99 : cids[i % 7];
		else
			p.dst_cid = cids[i % 7] == 2 ? 3 : cids[i % 7];
		expect("not taken", send(&p, 0), i);
	}
	expect("an answer to somebody else", silent(), 0);
	works();
}

static void vsock_operations(void)
{
	up(QUEUE);
	for (unsigned op = 0; op < 20; op++) {
		uint16_t what = (uint16_t)(op < 8 ? op : any());

		if (what >= 1 && what <= 7)
			continue;
		connect(op + 1, PORT_SINK);
		send_op(what, op + 1, PORT_SINK);
		answers(RST, op + 1);
		send_op(what, op + 1, PORT_REFUSED);
		answers(RST, op + 1);
	}
	works();
}

static void vsock_types(void)
{
	up(QUEUE);
	for (unsigned i = 0; i < 20; i++) {
		struct packet p = packet(i % 2 ? REQUEST : RW, i, PORT_SINK);

		p.type = (uint16_t)(i == 1 ? 0 : any() | 2);
		expect("not taken", send(&p, 0), i);
		answers(RST, i);
		p.op = RST;
		expect("not taken", send(&p, 0), i);
	}
	works();
}

static void vsock_rst_storm(void)
{
	up(QUEUE);
	for (unsigned i = 0; i < 4000; i++)
		send_op(RST, any(), i % 2 ? PORT_SINK : any());
	expect("an answer to a reset", silent(), 0);
	works();
}

/* More connections than the table and more dials at once than the broker takes; nobody reads the answers. */
static void vsock_requests(void)
{
	struct packet p;

	up(QUEUE);
	for (unsigned i = 0; i < 2000; i++)
		send_op(REQUEST, 1000 + i, i % 2 ? PORT_SINK : PORT_DEAF);
	for (unsigned i = 0; i < 50; i++)
		expect("no answer", receive(&p, true), i);
	works();
}

/* Connections that are all let in, up to the device's most, and one more. */
static void vsock_full_table(void)
{
	unsigned open = 0;

	up(QUEUE);
	for (unsigned i = 0; i < 1100; i++) {
		struct packet p = { 0 };

		send_op(REQUEST, 1000 + i, PORT_DEAF);
		if (!receive(&p, true))
			break;
		open += p.op == RESPONSE;
	}
	expect("more than the table holds", open <= 1023, open);
	expect("too few", open > 100, open);
	works();
}

static void vsock_stray(void)
{
	up(QUEUE);
	for (unsigned op = RESPONSE; op <= CREDIT_REQUEST; op++) {
		struct packet p = packet((uint16_t)op, 5, PORT_SINK);

		if (op == RST)
			continue;
		p.len = op == RW ? 64 : 0;
		expect("not taken", send(&p, p.len), op);
		answers(RST, 5);
	}
	works();
}

static void vsock_twice(void)
{
	struct packet p;

	up(QUEUE);
	connect(1, PORT_SINK);
	send_op(REQUEST, 1, PORT_SINK);
	answers(RST, 1);
	connect(2, PORT_SINK);
	p = packet(SHUTDOWN, 2, PORT_SINK);
	p.flags = UINT32_MAX;
	expect("not taken", send(&p, 0), 0);
	answers(RST, 2);
	expect("not taken", send(&p, 0), 0);
	answers(RST, 2);
	connect(3, PORT_SINK);
	p = packet(SHUTDOWN, 3, PORT_SINK);
	p.flags = 2;
	expect("not taken", send(&p, 0), 0);
	expect("not taken", send(&p, 0), 0);
	p = packet(RW, 3, PORT_SINK);
	p.len = 1;
	expect("not taken", send(&p, 1), 0);
	answers(RST, 3);
	works();
}

static void vsock_refused(void)
{
	up(QUEUE);
	for (unsigned i = 0; i < 1000; i++) {
		send_op(REQUEST, 1 + i, PORT_REFUSED + i % 40);
		answers(RST, 1 + i);
	}
	works();
}

static void vsock_no_buffers(void)
{
	up(0);
	for (unsigned i = 0; i < 3000; i++)
		send_op(i % 3 ? REQUEST : RW, i, PORT_REFUSED + i % 3);
	works();
}

/* All the credit there is, at a reader that does not read, and then one byte more. */
static void vsock_credit(void)
{
	struct packet got = { 0 }, p = packet(RW, 1, PORT_DEAF);
	uint32_t sent = 0;

	up(QUEUE);
	p = packet(RW, 1, PORT_DEAF);
	send_op(REQUEST, 1, PORT_DEAF);
	expect("no answer", receive(&got, true) && got.op == RESPONSE, got.op);
	do {
		uint32_t credit = got.buf_alloc - (sent - got.fwd_cnt);

		expect("more credit than there is", credit <= CREDIT, credit);
		p.len = credit < 65536 ? credit : 65536;
		expect("not taken", !credit || send(&p, p.len), sent);
		sent += p.len;
		if (credit > 65536)
			continue;
		while (rings[RX].used.idx != rings[RX].seen || !silent())
			expect("reset for what it had credit for", receive(&got, true) && got.op == CREDIT_UPDATE,
			       got.op);
	} while (got.buf_alloc != sent - got.fwd_cnt);
	p.len = 1;
	expect("not taken", send(&p, 1), sent);
	answers(RST, 1);
	works();
}

/* The guest's own credit, absurd: it wants all, then says that it took what was never sent. */
static void vsock_absurd_credit(void)
{
	struct packet p;

	up(QUEUE);
	for (unsigned i = 0; i < 8; i++) {
		p = packet(REQUEST, 20 + i, PORT_SOURCE);
		p.buf_alloc = UINT32_MAX;
		p.fwd_cnt = i % 2 ? UINT32_MAX - i : 0;
		expect("not taken", send(&p, 0), i);
		expect("no answer", receive(&p, true), i);
		for (unsigned k = 0; k < 4; k++) {
			p = packet(CREDIT_UPDATE, 20 + i, PORT_SOURCE);
			p.buf_alloc = any();
			p.fwd_cnt = any();
			expect("not taken", send(&p, 0), i);
			(void)receive(&p, true);
		}
		send_op(RST, 20 + i, PORT_SOURCE);
	}
	works();
}

/*
 * The source sends without end to a guest that never gives a buffer back. As many dials as may wait for an answer: further
 * ones are refused, with a line, if the answers take long.
 */
static void vsock_hoard(void)
{
	struct packet p;

	up(QUEUE);
	for (unsigned i = 0; i < 16; i++) {
		p = packet(REQUEST, 30 + i, PORT_SOURCE);
		p.buf_alloc = UINT32_MAX;
		expect("not taken", send(&p, 0), i);
	}
	for (unsigned i = 0; i < QUEUE; i++)
		expect("no packet", receive(&p, false), i);
	expect("a packet without a buffer", silent(), 0);
	works();
}

static void vsock_buffers(void)
{
	for (unsigned i = 0; i < 4; i++) {
		unsigned q = i < 2 ? RX : TX;

		up(0);
		desc_set(&rings[q], 0, address(data), i % 2 ? 44 : 4096, i == 1 || i == 2 ? D_WRITE : 0, 0);
		if (i == 3)
			rings[q].desc[0].len = 43;
		offer(&rings[q], 0);
		kick(&rings[q]);
		if (q == RX) /* a buffer is looked at when there is something for it */
			send_op(RW, 1, 1);
		expect("not broken", device_broken(base), i);
	}
	works();
}

/* Requests, resets and strays as fast as they are taken: what a neighbour has to live beside. */
static void vsock_storm_forever(void)
{
	struct packet p;

	up(QUEUE);
	print("ready\n");
	for (unsigned i = 0;; i++) {
		send_op(i % 3 ? REQUEST : RW, i, PORT_REFUSED + i % 3);
		while (rings[RX].used.idx != rings[RX].seen)
			(void)receive(&p, true);
	}
}

const struct hostile_case vsock_cases[] = {
	{ "vsock-past-ram", vsock_past_ram },
	{ "vsock-length", vsock_length },
	{ "vsock-cids", vsock_cids },
	{ "vsock-operations", vsock_operations },
	{ "vsock-types", vsock_types },
	{ "vsock-rst-storm", vsock_rst_storm },
	{ "vsock-requests", vsock_requests },
	{ "vsock-full-table", vsock_full_table },
	{ "vsock-stray", vsock_stray },
	{ "vsock-twice", vsock_twice },
	{ "vsock-refused", vsock_refused },
	{ "vsock-no-buffers", vsock_no_buffers },
	{ "vsock-credit", vsock_credit },
	{ "vsock-absurd-credit", vsock_absurd_credit },
	{ "vsock-hoard", vsock_hoard },
	{ "vsock-buffers", vsock_buffers },
	{ "vsock-storm-forever", vsock_storm_forever },
	{ NULL, NULL },
};
