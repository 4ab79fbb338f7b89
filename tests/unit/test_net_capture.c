/* virtio-net, --pcap: copies of what leaves and of what the guest gets, and of nothing else; a reader that is slow, or gone. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_guest.h"

static int reader = -1, writer = -1; /* the supervisor's end, and the device's */

/* Before the guest runs, as vm.c does it; `sndbuf`: bytes, 0: the system's. */
static void start_captured(uint64_t features, uint32_t snap, int sndbuf)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	reader = pair[0];
	writer = pair[1];
	if (sndbuf)
		assert_int_equal(setsockopt(writer, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)), 0);
	fake_init(&nic, MEM);
	fake_bind(&nic, nic_new(0));
	assert_int_equal(virtio_net_capture(nic.dev, writer, 3, snap), 0);
	assert_int_equal(fake_probe(&nic, features, 0), 0);
}

static int captured_teardown(void **state)
{
	(void)nic_teardown(state);
	(void)close(writer);
	if (reader >= 0)
		(void)close(reader);
	reader = writer = -1;
	return 0;
}

/* A record that waits, 0: none; the bytes behind it. */
static size_t take(struct capture_record *ret, uint8_t frame[FRAME_MAX])
{
	struct iovec iov[2] = { { ret, sizeof(*ret) }, { frame, FRAME_MAX } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = recvmsg(reader, &msg, 0);

	if (n < 0 && errno == EAGAIN)
		return 0;
	assert_true(n > (ssize_t)sizeof(*ret) && !(msg.msg_flags & MSG_TRUNC));
	assert_int_equal(ret->net, 3);
	assert_int_equal(ret->reserved, 0);
	assert_true(ret->time_ns <= net_now() && ret->time_ns + 60000000000U > net_now());
	return (size_t)n - sizeof(*ret);
}

static void expect_record(size_t len, size_t snap, unsigned number, bool to_guest)
{
	uint8_t got[FRAME_MAX], want[FRAME_MAX];
	struct capture_record record;
	struct pollfd fd = { .fd = reader, .events = POLLIN };
	size_t n;

	assert_int_equal(poll(&fd, 1, FAKE_WAIT_MS), 1);
	n = take(&record, got);
	assert_int_equal(n, len < snap ? len : snap);
	assert_int_equal(record.len, len);
	assert_int_equal(record.to_guest, to_guest);
	nic_fill(want, len, number);
	assert_memory_equal(got, want, n);
}

static void no_record(void)
{
	uint8_t frame[FRAME_MAX];
	struct capture_record record;

	assert_int_equal(take(&record, frame), 0);
}

static void both_ways(size_t snap)
{
	static const size_t sent[] = { 14, 15, 60, NET_HEAD - 1, NET_HEAD, NET_HEAD + 1, 1514 };
	static const size_t received[] = { 14, 60, 1514, 1515, 9000, FRAME_MAX };

	start_captured(1ULL << VIRTIO_RING_F_INDIRECT_DESC | MERGE, (uint32_t)snap, 0);
	for (unsigned i = 0; i < sizeof(sent) / sizeof(sent[0]); i++)
		for (unsigned pieces = 1; pieces <= 8; pieces++) {
			nic_guest_send(sent[i], i + pieces, pieces, pieces & 1 ? FAKE_DIRECT : FAKE_INDIRECT);
			nic_host_expect(sent[i], i + pieces);
			expect_record(sent[i], snap, i + pieces, false);
		}
	for (unsigned i = 0; i < sizeof(received) / sizeof(received[0]); i++) {
		nic_host_send(received[i], i);
		nic_give((unsigned)(HDR + received[i]) / 1536 + 1, 1536);
		nic_guest_expect(received[i], i);
		expect_record(received[i], snap, i, true);
	}
	no_record();
	assert_int_equal(net_of(nic.dev)->counted->capture_dropped, 0);
}

static void test_both_ways(void **state)
{
	(void)state;
	both_ways(CAPTURE_FRAME_MAX);
}

static void test_snap(void **state)
{
	(void)state;
	both_ways(CAPTURE_SNAP_MIN);
}

/* Neither what is refused, nor what finds no room. */
static void test_only_what_came_through(void **state)
{
	(void)state;
	start_captured(MERGE, CAPTURE_FRAME_MAX, 0);
	nic_guest_send(13, 0, 1, FAKE_DIRECT);
	nic_guest_send(1515, 0, 1, FAKE_DIRECT);
	nic_give(NET_STASH, 100);
	nic_host_send(NET_STASH * 100UL, 1);
	nic_host_send(500, 2);
	nic_guest_expect(500, 2);
	assert_int_equal(net_of(nic.dev)->counted->rx_dropped, 1);
	expect_record(500, FRAME_MAX, 2, true);
	no_record();
}

/* A frame that waits for buffers, or for its end of the host's, is shown once, when it goes. */
static void test_waiting_frames(void **state)
{
	(void)state;
	start_captured(MERGE, CAPTURE_FRAME_MAX, 0);
	nic_give(2, 600);
	nic_host_send(3000, 1);
	fake_on_io(&nic, nic_nothing, NULL);
	no_record();
	nic_give(4, 600);
	nic_guest_expect(3000, 1);
	expect_record(3000, FRAME_MAX, 1, true);
	no_record();
}

/* The reader reads late: the guest goes on, and what is missing was counted. */
static void test_slow_reader(void **state)
{
	unsigned seen = 0;
	uint8_t frame[FRAME_MAX];
	struct capture_record record;

	(void)state;
	start_captured(MERGE, CAPTURE_FRAME_MAX, 8192);
	for (unsigned i = 0; i < 200; i++) {
		nic_guest_send(1000, i, 1, FAKE_DIRECT);
		nic_host_expect(1000, i);
	}
	while (take(&record, frame))
		seen++;
	assert_true(seen > 0 && seen < 200);
	assert_int_equal(net_of(nic.dev)->counted->capture_dropped, 200 - seen);
	assert_int_equal(net_of(nic.dev)->counted->tx_packets, 200);
	nic_guest_send(1000, 1, 1, FAKE_DIRECT); /* there is room again */
	expect_record(1000, FRAME_MAX, 1, false);
}

/* Who looks no more is no error, and costs nothing. */
static void test_reader_gone(void **state)
{
	(void)state;
	start_captured(MERGE, CAPTURE_FRAME_MAX, 0);
	nic_give(8, 1536);
	nic_guest_send(100, 1, 1, FAKE_DIRECT);
	nic_host_expect(100, 1);
	(void)close(reader);
	reader = -1;
	for (unsigned i = 0; i < 4; i++) {
		nic_guest_send(100, i, 2, FAKE_DIRECT);
		nic_host_expect(100, i);
		nic_host_send(100, i);
		nic_guest_expect(100, i);
	}
	assert_false(net_of(nic.dev)->capture.on);
	assert_int_equal(net_of(nic.dev)->counted->capture_dropped, 0);
}

static struct {
	atomic_bool over;
	uint8_t *bytes;
	size_t len;
} scribbled;

static void *scribble(void *arg)
{
	(void)arg;
	for (uint8_t v = 0; !atomic_load(&scribbled.over); v++)
		memset(scribbled.bytes, v, scribbled.len);
	return NULL;
}

/* A guest that changes a frame while it is sent: what is shown is what left, whichever that was. */
static void test_changing_frames(void **state)
{
	uint8_t left[4 + 1514], shown[FRAME_MAX];
	struct capture_record record;
	pthread_t thread;

	(void)state;
	start_captured(MERGE, CAPTURE_FRAME_MAX, 0);
	for (unsigned i = 0; i < 200; i++) {
		int head = nic_guest_add(1514, i, 1, FAKE_DIRECT);
		struct pollfd fds[2] = { { .fd = nic_host, .events = POLLIN }, { .fd = reader, .events = POLLIN } };
		uint32_t used;
		uint16_t got;

		assert_true(head >= 0);
		scribbled.bytes = (uint8_t *)fake_ptr(&nic, nic.queues[NET_TX].desc[head].addr) + HDR + NET_ETH;
		scribbled.len = 1500;
		atomic_store(&scribbled.over, false);
		assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
		(void)fake_kick(&nic.queues[NET_TX]);
		assert_true(fake_wait_used(&nic.queues[NET_TX], &got, &used));
		atomic_store(&scribbled.over, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (net_of(nic.dev)->counted->tx_dropped) { /* it became one that may not leave: nothing is shown */
			no_record();
			net_of(nic.dev)->counted->tx_dropped = 0;
			continue;
		}
		assert_int_equal(poll(&fds[0], 1, FAKE_WAIT_MS), 1);
		assert_int_equal(recv(nic_host, left, sizeof(left), MSG_WAITALL), sizeof(left));
		assert_int_equal(poll(&fds[1], 1, FAKE_WAIT_MS), 1);
		assert_int_equal(take(&record, shown), 1514);
		assert_memory_equal(left + 4, shown, 1514);
	}
}

static void test_not_asked_for(void **state)
{
	struct virtio_dev *dev;

	(void)state;
	fake_init(&nic, MEM);
	dev = nic_new(0);
	assert_false(net_of(dev)->capture.on); /* unless it is asked for */
	fake_bind(&nic, dev);
	assert_int_equal(fake_probe(&nic, MERGE, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_both_ways, captured_teardown),
		cmocka_unit_test_teardown(test_snap, captured_teardown),
		cmocka_unit_test_teardown(test_only_what_came_through, captured_teardown),
		cmocka_unit_test_teardown(test_waiting_frames, captured_teardown),
		cmocka_unit_test_teardown(test_slow_reader, captured_teardown),
		cmocka_unit_test_teardown(test_reader_gone, captured_teardown),
		cmocka_unit_test_teardown(test_changing_frames, captured_teardown),
		cmocka_unit_test_teardown(test_not_asked_for, captured_teardown),
	};

	return cmocka_run_group_tests_name("net capture", tests, NULL, NULL);
}
