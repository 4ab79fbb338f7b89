#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blk_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

/* ---- a host whose calls can be held, cut short and made to fail ---- */

struct host host;

static int host_enter(unsigned *count)
{
	int err = 0;

	(void)pthread_mutex_lock(&host.lock);
	(*count)++;
	host.held++;
	(void)pthread_cond_broadcast(&host.cond);
	while (host.hold)
		(void)pthread_cond_wait(&host.cond, &host.lock);
	host.held--;
	(void)pthread_cond_broadcast(&host.cond);
	if (host.eintr) {
		host.eintr--;
		err = -EINTR;
	}
	(void)pthread_mutex_unlock(&host.lock);
	return err;
}

void host_hold(bool hold)
{
	(void)pthread_mutex_lock(&host.lock);
	host.hold = hold;
	(void)pthread_cond_broadcast(&host.cond);
	(void)pthread_mutex_unlock(&host.lock);
}

void host_wait_held(unsigned n)
{
	(void)pthread_mutex_lock(&host.lock);
	while (host.held < n)
		(void)pthread_cond_wait(&host.cond, &host.lock);
	(void)pthread_mutex_unlock(&host.lock);
}

/* The first `max` bytes of iov. */
static int cut(const struct iovec *iov, int niov, size_t max, struct iovec *ret)
{
	int n = 0;

	for (; n < niov && max; n++) {
		ret[n] = iov[n];
		if (ret[n].iov_len > max)
			ret[n].iov_len = max;
		max -= ret[n].iov_len;
	}
	return n;
}

/* Counts transfers on the O_DIRECT descriptor; -errno when they shall fail. */
static int direct_enter(int fd)
{
	if (!host.with_direct || fd != host.direct_fd)
		return 0;
	(void)__atomic_add_fetch(&host.directs, 1, __ATOMIC_RELAXED);
	return host.direct_error;
}

static ssize_t fault_readv(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	struct iovec part[VQ_CHAIN_MAX];
	int err;

	if (flags & RWF_NOWAIT) {
		(void)__atomic_add_fetch(&host.nowaits, 1, __ATOMIC_RELAXED);
		if (host.nowait_error)
			return host.nowait_error;
		niov = cut(iov, niov, host.nowait_max, part);
		return blk_host_io.readv(arg, fd, part, niov, offset, 0);
	}
	err = direct_enter(fd);
	if (err)
		return err;
	err = host_enter(&host.reads);
	if (err || host.read_error)
		return err ? err : host.read_error;
	niov = cut(iov, niov, host.short_by ? host.short_by : SIZE_MAX, part);
	return blk_host_io.readv(arg, fd, part, niov, offset, flags);
}

static ssize_t fault_writev(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	struct iovec part[VQ_CHAIN_MAX];
	int err = direct_enter(fd);

	if (err)
		return err;
	err = host_enter(&host.writes);
	__atomic_store_n(&host.last_flags, flags, __ATOMIC_RELAXED);
	if (err || host.write_error)
		return err ? err : host.write_error;
	niov = cut(iov, niov, host.short_by ? host.short_by : SIZE_MAX, part);
	return blk_host_io.writev(arg, fd, part, niov, offset, flags);
}

static int fault_fallocate(void *arg, int fd, int mode, off_t offset, off_t len)
{
	int err = host_enter(&host.fallocates);

	if (!err)
		err = mode & FALLOC_FL_PUNCH_HOLE ? host.punch_error : host.zero_range_error;
	if (!err && mode & FALLOC_FL_ZERO_RANGE) /* memfd has none: the same effect, by a hole */
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	return err ? err : blk_host_io.fallocate(arg, fd, mode, offset, len);
}

static int fault_flush(void *arg, int fd)
{
	int err = host_enter(&host.flushes);

	(void)arg, (void)fd;
	return err ? err : host.flush_error;
}

const struct blk_io_ops fault_io = {
	.readv = fault_readv,
	.writev = fault_writev,
	.fallocate = fault_fallocate,
	.flush = fault_flush,
};

/* ---- a guest with one disk ---- */

struct fake_driver drv;
int image = -1; /* the test's own descriptor of the disk's file */
int log_pipe[2] = { -1, -1 };
gpa_t header, data, status; /* buffers in guest memory */

struct virtio_dev *disk_new(uint32_t flags, const struct blk_io_ops *io)
{
	struct vmm_disk disk = { .fd = dup(image), .flags = flags, .size = BYTES, .id = "twenty-bytes-of-name" };
	struct virtio_dev *dev;

	if (host.with_direct)
		disk.direct_fd = host.direct_fd = dup(image);
	assert_int_equal(virtio_blk_new_io(&disk, io, NULL, "blk0", drv.gm, drv.loop, &dev), 0);
	return dev;
}

void bring_up(uint32_t flags, const struct blk_io_ops *io, uint64_t features, uint16_t size)
{
	fake_bind(&drv, disk_new(flags, io));
	assert_int_equal(fake_probe(&drv, features, size), 0);
	header = fake_alloc(&drv, 16);
	data = fake_alloc(&drv, 1U << 20);
	status = fake_alloc(&drv, 1);
}

void pattern(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8) * 13);
}

int blk_setup(void **state)
{
	static uint8_t bytes[BYTES];

	(void)state;
	host = (struct host){ .lock = PTHREAD_MUTEX_INITIALIZER,
			      .cond = PTHREAD_COND_INITIALIZER,
			      .nowait_error = -EAGAIN };
	image = memfd_create("disk", MFD_CLOEXEC);
	assert_true(image >= 0);
	pattern(bytes, BYTES, 1);
	assert_int_equal(pwrite(image, bytes, BYTES, 0), BYTES);
	assert_int_equal(pipe2(log_pipe, O_NONBLOCK | O_CLOEXEC), 0);
	log_init(log_pipe[1], LOG_WARN);
	fake_init(&drv, MEM);
	return 0;
}

int blk_teardown(void **state)
{
	(void)state;
	fake_fini(&drv);
	log_init(-1, LOG_WARN);
	(void)close(log_pipe[0]);
	(void)close(log_pipe[1]);
	(void)close(image);
	return 0;
}

void set_header(gpa_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr hdr = { .type = type, .sector = sector };

	memcpy(fake_ptr(&drv, gpa), &hdr, sizeof(hdr));
}

/* One request in the usual three descriptors; returns the status byte. */
uint8_t request(uint32_t type, uint64_t sector, uint32_t len, bool to_guest, uint32_t *ret_used)
{
	struct fake_buf bufs[] = { { header, 16, false }, { data, len, to_guest }, { status, 1, true } };
	uint8_t *byte = fake_ptr(&drv, status);
	uint32_t used;

	set_header(header, type, sector);
	*byte = NONE;
	used = fake_do(&drv.queues[0], bufs, 3, FAKE_DIRECT);
	if (ret_used)
		*ret_used = used;
	return *byte;
}

uint8_t read_disk(uint64_t sector, uint32_t len)
{
	return request(VIRTIO_BLK_T_IN, sector, len, true, NULL);
}

uint8_t write_disk(uint64_t sector, uint32_t len)
{
	return request(VIRTIO_BLK_T_OUT, sector, len, false, NULL);
}

uint8_t flush_disk(void)
{
	return request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL);
}

/* Whether guest memory at gpa equals the image at `sector`. */
bool same(gpa_t gpa, uint64_t sector, uint32_t len)
{
	uint8_t *bytes = malloc(len);
	bool equal;

	assert_non_null(bytes);
	assert_int_equal(pread(image, bytes, len, (off_t)sector * 512), len);
	equal = memcmp(bytes, fake_ptr(&drv, gpa), len) == 0;
	free(bytes);
	return equal;
}

const char *logged(void)
{
	static char text[4096];
	ssize_t n = read(log_pipe[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

bool image_zero(uint64_t sector, uint32_t count)
{
	uint8_t bytes[512];

	for (uint64_t s = sector; s < sector + count; s++) {
		assert_int_equal(pread(image, bytes, 512, (off_t)s * 512), 512);
		for (unsigned i = 0; i < 512; i++)
			if (bytes[i])
				return false;
	}
	return true;
}
