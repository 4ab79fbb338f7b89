/* counters: each device adds up what it did, in a page of its maker's; which memfds are taken for such a page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blk_guest.h"
#include "config.h"
#include "dev/serial.h"
#include "mvm/counters.h"
#include "vsock_peer.h"

static struct counters page, copy;

static const struct counters *now(void)
{
	counters_copy(&page, &copy);
	return &copy;
}

static int blank(void **state)
{
	(void)state;
	memset(&page, 0, sizeof(page));
	return 0;
}

static int blk_blank(void **state)
{
	(void)blank(state);
	return blk_setup(state);
}

/* A discard or write zeroes of `count` sectors from `sector` on. */
static uint8_t range(uint32_t type, uint64_t sector, uint32_t count)
{
	struct virtio_blk_discard_write_zeroes *wire = fake_ptr(&drv, data);

	*wire = (struct virtio_blk_discard_write_zeroes){ .sector = sector, .num_sectors = count };
	return request(type, 0, sizeof(*wire), false, NULL);
}

/* Requests of a disk, of whatever length. */
static uint64_t timed(unsigned disk)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < COUNTERS_BUCKETS; i++)
		sum += copy.latencies[disk].buckets[i];
	return sum;
}

static void test_buckets(void **state)
{
	(void)state;
	assert_int_equal(counters_bucket(0), 0);
	assert_int_equal(counters_bucket(1000), 0);
	assert_int_equal(counters_bucket(1001), 1);
	assert_int_equal(counters_bucket(2000), 1);
	assert_int_equal(counters_bucket(2001), 2);
	assert_int_equal(counters_bucket(1024000), 10);
	assert_int_equal(counters_bucket(1024001), 11);
	for (unsigned i = 0; i < COUNTERS_BUCKETS - 1; i++) {
		assert_int_equal(counters_bucket((1000ULL << i)), i);
		assert_int_equal(counters_bucket((1000ULL << i) + 1), i + 1);
	}
	assert_int_equal(counters_bucket(UINT64_MAX - 1000), COUNTERS_BUCKETS - 1);
	assert_int_equal(counters_bucket(UINT64_MAX), COUNTERS_BUCKETS - 1);
}

static void test_disk(void **state)
{
	const struct counters_disk *disk = &copy.disks[3];

	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	virtio_blk_count(drv.dev, &page.disks[3], &page.latencies[3]);
	assert_int_equal(read_disk(0, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(read_disk(8, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(write_disk(0, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(flush_disk(), VIRTIO_BLK_S_OK);
	assert_int_equal(range(VIRTIO_BLK_T_DISCARD, 8, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(range(VIRTIO_BLK_T_WRITE_ZEROES, 32, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, 20, true, NULL), VIRTIO_BLK_S_OK);
	(void)now();
	assert_int_equal(disk->reads, 2);
	assert_int_equal(disk->read_bytes, 4096 + 512);
	assert_int_equal(disk->writes, 1);
	assert_int_equal(disk->written_bytes, 1024);
	assert_int_equal(disk->flushes, 1);
	assert_int_equal(disk->discards, 1);
	assert_int_equal(disk->discarded_bytes, 16 * 512);
	assert_int_equal(disk->zeroes, 1);
	assert_int_equal(disk->zeroed_bytes, 8 * 512);
	assert_int_equal(disk->others, 1);
	assert_int_equal(disk->errors, 0);
	assert_int_equal(disk->throttled, 0);
	assert_true(disk->queues.kicks >= 1);
	assert_true(disk->queues.interrupts >= 1);
	assert_int_equal(copy.disks[2].reads + copy.disks[4].reads, 0);
	assert_int_equal(timed(3), 7);
	assert_true(copy.latencies[3].sum_ns > 0);
	assert_int_equal(timed(2) + timed(4), 0);
}

/* What moves nothing counts as a request and as an error, not as bytes. */
static void test_disk_errors(void **state)
{
	(void)state;
	bring_up(0, &fault_io, FLUSH_F, 0);
	virtio_blk_count(drv.dev, &page.disks[0], &page.latencies[0]);
	assert_int_equal(read_disk(SECTORS, 512), VIRTIO_BLK_S_IOERR);
	host.write_error = -ENOSPC;
	assert_int_equal(write_disk(0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range(VIRTIO_BLK_T_DISCARD, SECTORS, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(4711, 0, 512, false, NULL), VIRTIO_BLK_S_UNSUPP);
	(void)now();
	assert_int_equal(copy.disks[0].errors, 4);
	assert_int_equal(copy.disks[0].no_space, 1);
	assert_int_equal(copy.disks[0].reads, 1);
	assert_int_equal(copy.disks[0].writes, 1);
	assert_int_equal(copy.disks[0].discards, 1);
	assert_int_equal(copy.disks[0].others, 1);
	assert_int_equal(copy.disks[0].read_bytes + copy.disks[0].written_bytes + copy.disks[0].discarded_bytes, 0);
}

static void test_disk_throttled(void **state)
{
	(void)state;
	bring_up(0, &fault_io, 0, 0);
	virtio_blk_count(drv.dev, &page.disks[0], &page.latencies[0]);
	virtio_blk_limit(drv.dev, 2, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(read_disk(0, 512), VIRTIO_BLK_S_OK);
	(void)now();
	assert_true(copy.disks[0].throttled >= 1);
	assert_true(copy.disks[0].throttled_ns > 0);
	assert_int_equal(copy.disks[0].reads, 3);
}

static void test_vsock(void **state)
{
	struct peer p;
	struct peer_conn c;
	struct peer_packet got;
	char text[16];

	(void)state;
	peer_init(&p);
	virtio_vsock_count(p.drv.dev, &page.vsock, &page.publish);
	c = peer_open(&p, 5000, 77);
	peer_send(&p, &c, VIRTIO_VSOCK_OP_RW, 0, "hello", 5);
	peer_host_read(c.fd, text, 5);
	peer_host_write(c.fd, "answer!", 7);
	peer_expect(&p, &c, VIRTIO_VSOCK_OP_RW, &got);
	p.dial_error = -EACCES;
	(void)peer_request(&p, 5001, 78); /* refused at once */
	p.dial_error = 0;
	(void)peer_request(&p, 5002, 79);
	(void)peer_answer(&p, p.ndials - 1, false); /* and later */
	peer_settle(&p);
	(void)now();
	assert_int_equal(copy.vsock.opened, 1);
	assert_int_equal(copy.vsock.refused, 2);
	assert_int_equal(copy.vsock.from_guest_bytes, 5);
	assert_int_equal(copy.vsock.to_guest_bytes, 7);
	assert_true(copy.vsock.queues.kicks >= 1);
	assert_true(copy.vsock.queues.interrupts >= 1);
	(void)close(c.fd);
	peer_fini(&p);
}

/* Who opens is the host; refused is what the guest ends without a word of its own. */
static void test_publish(void **state)
{
	struct peer p;
	struct peer_conn c[4];
	struct peer_packet got;
	char text[16];

	(void)state;
	peer_init(&p);
	virtio_vsock_count(p.drv.dev, &page.vsock, &page.publish);
	for (unsigned i = 0; i < 4; i++) {
		int end;

		c[i] = (struct peer_conn){ .guest_port = 80, .alloc = 65536, .fd = peer_pair(&end) };
		assert_int_equal(peer_connect(&p, 80, end), 0);
		assert_true(peer_recv(&p, &got));
		c[i].host_port = got.h.host_port;
		c[i].dev_alloc = got.h.buf_alloc;
	}
	peer_send(&p, &c[0], VIRTIO_VSOCK_OP_RST, 0, NULL, 0); /* never taken */
	for (unsigned i = 1; i < 4; i++)
		peer_send(&p, &c[i], VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
	peer_host_write(c[1].fd, "question", 8);
	peer_expect(&p, &c[1], VIRTIO_VSOCK_OP_RW, &got);
	peer_send(&p, &c[1], VIRTIO_VSOCK_OP_RW, 0, "answer", 6);
	peer_host_read(c[1].fd, text, 6);
	for (unsigned i = 1; i < 3; i++) /* the second after an answer, the third without one */
		peer_send(&p, &c[i], VIRTIO_VSOCK_OP_SHUTDOWN, 3, NULL, 0);
	peer_send(&p, &c[3], VIRTIO_VSOCK_OP_SHUTDOWN, 2, NULL, 0); /* served, and nothing to say */
	peer_send(&p, &c[3], VIRTIO_VSOCK_OP_SHUTDOWN, 1, NULL, 0);
	peer_settle(&p);
	(void)now();
	assert_int_equal(copy.publish.opened, 3);
	assert_int_equal(copy.publish.refused, 2);
	assert_int_equal(copy.publish.to_guest_bytes, 8);
	assert_int_equal(copy.publish.from_guest_bytes, 6);
	assert_int_equal(copy.vsock.to_guest_bytes, 8);
	for (unsigned i = 0; i < 4; i++)
		(void)close(c[i].fd);
	peer_fini(&p);
}

static void test_rng(void **state)
{
	struct fake_driver d;
	struct virtio_dev *dev;
	struct fake_buf buf = { 0, 100, true };

	(void)state;
	fake_init(&d, MEM);
	assert_int_equal(virtio_rng_new(d.gm, d.loop, &dev), 0);
	fake_bind(&d, dev);
	virtio_rng_count(dev, &page.rng);
	assert_int_equal(fake_probe(&d, 0, 0), 0);
	buf.gpa = fake_alloc(&d, buf.len);
	(void)fake_do(&d.queues[0], &buf, 1, FAKE_DIRECT);
	(void)fake_do(&d.queues[0], &buf, 1, FAKE_DIRECT);
	(void)now();
	assert_int_equal(copy.rng.requests, 2);
	assert_int_equal(copy.rng.bytes, 200);
	assert_true(copy.rng.queues.kicks >= 2);
	fake_fini(&d);
}

static void no_irq(void *arg, unsigned pin)
{
	(void)arg;
	(void)pin;
}

static void test_console(void **state)
{
	struct irq_line irq = { .raise = no_irq };
	struct serial *serial;
	struct loop *loop;
	int fd = memfd_create("console", MFD_CLOEXEC);
	uint8_t enable = UART_IER_THRI;

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(serial_new(fd, 4096, irq, loop, &serial), 0);
	serial_count(serial, &page.console);
	serial_bus_ops.write(serial, UART_IER, &enable, 1);
	for (unsigned i = 0; i < 5000; i++)
		serial_bus_ops.write(serial, UART_TX, "x", 1);
	serial_drain(serial);
	(void)now();
	assert_int_equal(copy.console.bytes, 5000);
	assert_int_equal(copy.console.written_bytes + copy.console.dropped_bytes, 5000);
	assert_true(copy.console.written_bytes >= 4096); /* what the bucket held */
	assert_int_equal(copy.console.interrupts, 5001);
	serial_free(serial);
	loop_free(loop);
	(void)close(fd);
}

static int memfd_of(off_t size, int seals)
{
	int fd = memfd_create("counters", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_which_memfd(void **state)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
	const struct {
		off_t size;
		int seals, result;
	} cases[] = {
		{ sizeof(struct counters), seals, 0 },
		{ sizeof(struct counters) - 8, seals, -EINVAL },
		{ sizeof(struct counters), F_SEAL_GROW, -EINVAL },
		{ sizeof(struct counters), F_SEAL_SHRINK, -EINVAL },
		{ sizeof(struct counters), seals | F_SEAL_WRITE, -EPERM },
	};
	struct vmm_config config = { 0 };
	struct counters *mapped = &page;

	(void)state;
	assert_int_equal(config_counters(&config, &mapped), 0);
	assert_null(mapped);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = memfd_of(cases[i].size, cases[i].seals), reader = dup(fd);
		uint64_t value = 0;

		config.counters_fd = fd;
		assert_int_equal(config_counters(&config, &mapped), cases[i].result);
		if (cases[i].result == 0) {
			assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed: the mapping is enough */
			counters_add(&mapped->rng.bytes, 7);
			assert_int_equal(pread(reader, &value, 8, offsetof(struct counters, rng.bytes)), 8);
			assert_int_equal(value, 7);
			(void)munmap(mapped, sizeof(*mapped));
		} else {
			(void)close(fd);
		}
		(void)close(reader);
	}
}

#define T(fn) cmocka_unit_test_setup(fn, blank)
#define B(fn) cmocka_unit_test_setup_teardown(fn, blk_blank, blk_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		B(test_disk), B(test_disk_errors), B(test_disk_throttled), T(test_vsock),       T(test_publish),
		T(test_rng),  T(test_buckets),     T(test_console),        T(test_which_memfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
