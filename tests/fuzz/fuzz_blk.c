/*
 * virtio-blk requests out of rings that hold arbitrary bytes, on a disk that checks what is asked of
 * it: no access beyond its end, no change of a read-only one, no answer longer than its room.
 *
 * Input: flags, faults, then guest memory from address 0 with the rings at fixed places.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guestmem.h"
#include "virtio/blk.h"

#define MEM   (64U << 10)
#define DISK  (16U << 10)
#define HEAD  4
#define DESC  0x000
#define AVAIL 0x400
#define USED  0x500
#define SIZE  64

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct guestmem *gm;
static uint8_t disk_bytes[DISK];
static struct blk_disk disk;
static const uint8_t *faults; /* two bytes of the input: bits of what goes wrong */

static void need(int ok)
{
	if (!ok)
		abort();
}

static size_t length(const struct iovec *iov, int niov)
{
	size_t len = 0;

	need(niov > 0);
	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	return len;
}

static void check_range(off_t offset, size_t len)
{
	need(offset >= 0 && (size_t)offset <= DISK && len <= DISK - (size_t)offset && len > 0);
}

static ssize_t move(const struct iovec *iov, int niov, off_t offset, int to_disk)
{
	size_t done = 0, limit = faults[0] & 1 ? 700 : SIZE_MAX;

	for (int i = 0; i < niov && done < limit; i++) {
		uint8_t *at = disk_bytes + offset + done;

		if (to_disk)
			memcpy(at, iov[i].iov_base, iov[i].iov_len);
		else
			memcpy(iov[i].iov_base, at, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return (ssize_t)done;
}

static ssize_t fuzz_readv(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	(void)arg, (void)fd;
	check_range(offset, length(iov, niov));
	if (flags & RWF_NOWAIT && faults[0] & 2)
		return faults[0] & 4 ? -EAGAIN : -EOPNOTSUPP;
	if (!(flags & RWF_NOWAIT) && faults[0] & 8)
		return faults[0] & 16 ? -EIO : 0;
	return move(iov, niov, offset, 0);
}

static ssize_t fuzz_writev(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	(void)arg, (void)fd, (void)flags;
	need(!disk.read_only);
	check_range(offset, length(iov, niov));
	return faults[0] & 32 ? -ENOSPC : move(iov, niov, offset, 1);
}

static int fuzz_fallocate(void *arg, int fd, int mode, off_t offset, off_t len)
{
	(void)arg, (void)fd;
	need(!disk.read_only && mode & FALLOC_FL_KEEP_SIZE && len > 0);
	check_range(offset, (size_t)len);
	return faults[1] & (mode & FALLOC_FL_PUNCH_HOLE ? 1 : 2) ? -EOPNOTSUPP : 0;
}

static int fuzz_flush(void *arg, int fd)
{
	(void)arg, (void)fd;
	return faults[1] & 8 ? -EIO : 0;
}

static const struct blk_io_ops fuzz_io = {
	.readv = fuzz_readv,
	.writev = fuzz_writev,
	.fallocate = fuzz_fallocate,
	.flush = fuzz_flush,
};

static void disk_set_up(uint8_t flags)
{
	disk = (struct blk_disk){ .io = &fuzz_io,
				  .fd = -1,
				  .direct_fd = flags & 16 ? 3 : -1,
				  .read_only = flags & 1,
				  .writethrough = flags & 4,
				  .sectors = DISK / BLK_SECTOR,
				  .id = "fuzz",
				  .flush_lock = PTHREAD_MUTEX_INITIALIZER };
	disk.nowait = disk.can_punch = disk.can_zero_range = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct virtqueue vq = {
		.size = SIZE, .size_max = VQ_SIZE_MAX, .desc_gpa = DESC, .avail_gpa = AVAIL, .used_gpa = USED
	};
	static struct blk_request req;

	if (!gm)
		need(guestmem_new(MEM, 0xc0000000, 0x100000000, &gm) == 0);
	if (len < HEAD || len - HEAD > MEM)
		return 0;
	memset(gm->regions[0].hva, 0, MEM);
	memcpy(gm->regions[0].hva, bytes + HEAD, len - HEAD);
	faults = bytes + 1;
	disk_set_up(bytes[0]);
	need(vq_start(&vq, gm, bytes[0] & 8, true) == 0);
	for (unsigned i = 0; i < SIZE && vq_pop(&vq, &req.chain) > 0; i++) {
		uint64_t room = req.chain.write_len;

		if (blk_request_parse(&req))
			break;
		if (!blk_request_try(&disk, &req))
			blk_request_run(&disk, &req);
		need(req.written <= room && req.status <= VIRTIO_BLK_S_UNSUPP && blk_request_name(&req));
		need(!req.error || req.status == VIRTIO_BLK_S_IOERR);
		*req.status_byte = req.status;
		vq_push(&vq, req.chain.head, req.written);
	}
	return 0;
}
