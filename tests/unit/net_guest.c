#include "net_guest.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const uint8_t nic_guest_mac[6] = { 2, 0, 0, 0, 0, 1 };

struct fake_driver nic;
struct vmm_net nic_config;
int nic_host = -1;

/* A device with a socket of its own; `sndbuf`: bytes, 0: the system's. */
struct virtio_dev *nic_new(int sndbuf)
{
	struct virtio_dev *dev;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	if (sndbuf)
		assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)), 0);
	nic_config.fd = pair[0];
	memcpy(nic_config.mac, nic_guest_mac, sizeof(nic_config.mac));
	nic_config.mtu = 1500;
	assert_int_equal(virtio_net_new(&nic_config, "net0", nic.gm, nic.loop, &dev), 0);
	if (nic_host >= 0)
		(void)close(nic_host);
	nic_host = pair[1];
	return dev;
}

void nic_start(uint64_t features, int sndbuf)
{
	fake_init(&nic, MEM);
	fake_bind(&nic, nic_new(sndbuf));
	assert_int_equal(fake_probe(&nic, features, 0), 0);
}

int nic_teardown(void **state)
{
	(void)state;
	fake_fini(&nic);
	(void)close(nic_host);
	nic_host = -1;
	nic_config = (struct vmm_net){ 0 };
	return 0;
}

/* ---- the host's side ---- */

void nic_host_write(const void *p, size_t len)
{
	while (len) {
		struct pollfd fd = { .fd = nic_host, .events = POLLOUT };
		ssize_t n = send(nic_host, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			assert_int_equal(poll(&fd, 1, FAKE_WAIT_MS), 1);
			continue;
		}
		assert_true(n > 0);
		p = (const uint8_t *)p + n;
		len -= (size_t)n;
	}
}

static void host_read(void *p, size_t len)
{
	while (len) {
		struct pollfd fd = { .fd = nic_host, .events = POLLIN };
		ssize_t n;

		assert_int_equal(poll(&fd, 1, FAKE_WAIT_MS), 1);
		n = recv(nic_host, p, len, 0);
		assert_true(n > 0);
		p = (uint8_t *)p + n;
		len -= (size_t)n;
	}
}

/* A frame whose bytes depend on its number. */
void nic_fill(uint8_t *frame, size_t len, unsigned number)
{
	memset(frame, 0xff, 6);
	memcpy(frame + 6, nic_guest_mac, 6);
	frame[12] = 0x88;
	frame[13] = 0xcc;
	for (size_t i = NET_ETH; i < len; i++)
		frame[i] = (uint8_t)(number * 31UL + i * 7 + (i >> 8));
}

void nic_host_send(size_t len, unsigned number)
{
	uint8_t *bytes = malloc(4 + len);

	assert_non_null(bytes);
	bytes[0] = (uint8_t)(len >> 24);
	bytes[1] = (uint8_t)(len >> 16);
	bytes[2] = (uint8_t)(len >> 8);
	bytes[3] = (uint8_t)len;
	nic_fill(bytes + 4, len, number);
	nic_host_write(bytes, 4 + len);
	free(bytes);
}

void nic_host_expect(size_t len, unsigned number)
{
	uint8_t length[4], *got = malloc(len), *want = malloc(len);

	assert_non_null(got);
	assert_non_null(want);
	host_read(length, 4);
	assert_int_equal((size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3], len);
	host_read(got, len);
	nic_fill(want, len, number);
	assert_memory_equal(got, want, len);
	free(got);
	free(want);
}

void nic_host_expect_nothing(void)
{
	uint8_t byte;

	assert_int_equal(recv(nic_host, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* ---- the guest's side ---- */

/* A frame in guest memory, behind its header; `pieces` buffers. */
int nic_guest_add(size_t len, unsigned number, unsigned pieces, enum fake_add_flags flags)
{
	struct fake_buf bufs[8];
	gpa_t at = fake_alloc(&nic, HDR + len);
	uint32_t left = HDR + (uint32_t)len;

	nic_fill((uint8_t *)fake_ptr(&nic, at) + HDR, len, number);
	for (unsigned i = 0; i < pieces; i++) {
		uint32_t n = i + 1 == pieces ? left : left / (pieces - i);

		bufs[i] = (struct fake_buf){ at, n, false };
		at += n;
		left -= n;
	}
	return fake_add(&nic.queues[NET_TX], bufs, pieces, flags);
}

void nic_guest_send(size_t len, unsigned number, unsigned pieces, enum fake_add_flags flags)
{
	uint16_t head;
	uint32_t used;
	int added = nic_guest_add(len, number, pieces, flags);

	assert_true(added >= 0);
	(void)fake_kick(&nic.queues[NET_TX]);
	assert_true(fake_wait_used(&nic.queues[NET_TX], &head, &used));
	assert_int_equal(head, added);
	assert_int_equal(used, 0);
}

static struct {
	gpa_t at;
	uint32_t len;
} rx_bufs[VQ_SIZE_MAX]; /* by head */

void nic_give(unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		struct fake_buf buf = { fake_alloc(&nic, len), len, true };
		int head = fake_add(&nic.queues[NET_RX], &buf, 1, FAKE_DIRECT);

		assert_true(head >= 0);
		rx_bufs[head].at = buf.gpa;
		rx_bufs[head].len = len;
	}
	(void)fake_kick(&nic.queues[NET_RX]);
}

/* Waits for a packet, over as many buffers as its header says. */
void nic_guest_expect(size_t len, unsigned number)
{
	uint8_t *got = malloc(HDR + FRAME_MAX), *want = malloc(len);
	size_t have = 0;
	unsigned buffers = 1;

	assert_non_null(got);
	assert_non_null(want);
	for (unsigned i = 0; i < buffers; i++) {
		uint16_t head;
		uint32_t used;

		assert_true(fake_wait_used(&nic.queues[NET_RX], &head, &used));
		assert_true(used <= rx_bufs[head].len && have + used <= HDR + FRAME_MAX);
		memcpy(got + have, fake_ptr(&nic, rx_bufs[head].at), used);
		have += used;
		if (i == 0)
			buffers = le16_get(((struct net_hdr *)(void *)got)->num_buffers);
		assert_true(i + 1 == buffers || used == rx_bufs[head].len); /* only the last is not full, §5.1.6.4.1 */
	}
	assert_int_equal(have, HDR + len);
	assert_int_equal(got[0], 0);
	assert_int_equal(got[1], 0);
	nic_fill(want, len, number);
	assert_memory_equal(got + HDR, want, len);
	free(got);
	free(want);
}

void nic_no_more_packets(void)
{
	uint16_t head;
	uint32_t used;

	assert_false(fake_used(&nic.queues[NET_RX], &head, &used));
}

/* What the I/O thread has been told before is done when this returns. */
void nic_nothing(void *arg)
{
	(void)arg;
}
