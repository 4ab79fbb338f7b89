#include "virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mvm/endian.h"

/* Longer reads go to a thread of their own rather than hold up the requests behind them. */
#define TRY_MAX     (256U << 10)
#define DIRECT_PAGE 4096U
#define DIRECT_MIN  (TRY_MAX + 1) /* bytes from which direct I/O is used, where it is */

struct wire_header { /* §5.2.6 */
	struct le32 type;
	struct le32 reserved;
	struct le64 sector;
};

struct wire_range { /* §5.2.6, discard and write zeroes */
	struct le64 sector;
	struct le32 num_sectors;
	struct le32 flags;
};

_Static_assert(sizeof(struct wire_header) == 16, "virtio 1.2 §5.2.6");
_Static_assert(sizeof(struct wire_range) == 16, "virtio 1.2 §5.2.6");

static ssize_t host_readv(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	ssize_t n = preadv2(fd, iov, niov, offset, flags);

	(void)arg;
	return n < 0 ? -errno : n;
}

static ssize_t host_writev(void *arg, int fd, const struct iovec *iov, int niov, off_t offset, int flags)
{
	ssize_t n = pwritev2(fd, iov, niov, offset, flags);

	(void)arg;
	return n < 0 ? -errno : n;
}

static int host_fallocate(void *arg, int fd, int mode, off_t offset, off_t len)
{
	(void)arg;
	return fallocate(fd, mode, offset, len) < 0 ? -errno : 0;
}

static int host_flush(void *arg, int fd)
{
	(void)arg;
	return fdatasync(fd) < 0 ? -errno : 0;
}

const struct blk_io_ops blk_host_io = {
	.readv = host_readv,
	.writev = host_writev,
	.fallocate = host_fallocate,
	.flush = host_flush,
};

/* Moves up to `len` bytes out of the front of iov[*n]; the iovecs shrink. Returns the bytes copied. */
static size_t iov_take(struct iovec **iov, unsigned *n, void *dst, size_t len)
{
	size_t done = 0;

	while (done < len && *n) {
		size_t step = (*iov)->iov_len < len - done ? (*iov)->iov_len : len - done;

		if (dst)
			memcpy((uint8_t *)dst + done, (*iov)->iov_base, step);
		done += step;
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + step;
		(*iov)->iov_len -= step;
		if (!(*iov)->iov_len) {
			(*iov)++;
			(*n)--;
		}
	}
	return done;
}

static void advance(struct blk_request *req, size_t n)
{
	(void)iov_take(&req->iov, &req->niov, NULL, n);
	req->done += n;
	req->len -= n;
}

/* §2.7.4.1: how a driver cuts the bytes into descriptors means nothing, so header and status are found by counting bytes. */
const char *blk_request_parse(struct blk_request *req)
{
	struct vq_chain *chain = &req->chain;
	struct iovec *readable = chain->iov;
	struct iovec *writable = chain->iov + chain->nread;
	unsigned nread = chain->nread, nwrite = chain->nwrite;
	struct wire_header header;
	struct iovec *last;

	if (chain->read_len < sizeof(header))
		return "a request without a whole header";
	if (!nwrite)
		return "a request without room for its status";
	(void)iov_take(&readable, &nread, &header, sizeof(header));
	__asm__ volatile("" : "+m"(header)); /* judged and used from this copy only */
	last = &writable[nwrite - 1];
	last->iov_len--;
	req->status_byte = (uint8_t *)last->iov_base + last->iov_len;
	if (!last->iov_len)
		nwrite--;
	req->type = le32_get(header.type);
	req->sector = le64_get(header.sector);
	if (req->type == VIRTIO_BLK_T_IN || req->type == VIRTIO_BLK_T_GET_ID) {
		req->iov = writable;
		req->niov = nwrite;
		req->len = chain->write_len - 1;
	} else {
		req->iov = readable;
		req->niov = nread;
		req->len = chain->read_len - sizeof(header);
	}
	req->done = 0;
	req->status = VIRTIO_BLK_S_OK;
	req->error = 0;
	req->written = 1;
	req->zeroed = req->discarded = 0;
	return NULL;
}

static bool range_valid(const struct blk_disk *disk, uint64_t sector, uint64_t count)
{
	return sector <= disk->sectors && count <= disk->sectors - sector;
}

static bool transfer_valid(const struct blk_disk *disk, const struct blk_request *req)
{
	return !((req->done + req->len) % BLK_SECTOR) &&
	       range_valid(disk, req->sector, (req->done + req->len) / BLK_SECTOR);
}

static off_t position(const struct blk_request *req)
{
	return (off_t)(req->sector * BLK_SECTOR + req->done);
}

bool blk_request_try(struct blk_disk *disk, struct blk_request *req)
{
	ssize_t n;

	if (req->type != VIRTIO_BLK_T_IN || !req->len || req->len > TRY_MAX || !transfer_valid(disk, req) ||
	    !atomic_load_explicit(&disk->nowait, memory_order_relaxed))
		return false;
	n = disk->io->readv(disk->io_arg, disk->fd, req->iov, (int)req->niov, position(req), RWF_NOWAIT);
	if (n == -EOPNOTSUPP)
		atomic_store_explicit(&disk->nowait, false, memory_order_relaxed);
	if (n <= 0)
		return false;
	assert((uint64_t)n <= req->len);
	advance(req, (size_t)n);
	if (req->len)
		return false;
	req->written = (uint32_t)req->done + 1;
	return true;
}

/*
 * Long transfers go past the page cache where the file system can: one copy less, and no second
 * cache, in the VM's own cgroup, of what the guest caches anyway. Short ones stay in it: reads for
 * its hits, writes because allocating a sparse file's blocks one by one is slow. Nothing is tried in
 * the cache first: RWF_NOWAIT reads ahead what it misses, and everything would be read twice.
 * Both descriptors see one file: the kernel writes back and drops cached pages under direct I/O.
 */
static bool direct_possible(const struct blk_disk *disk, const struct blk_request *req)
{
	if (disk->direct_fd < 0 || req->done + req->len < DIRECT_MIN)
		return false;
	for (unsigned i = 0; i < req->niov; i++)
		if ((uintptr_t)req->iov[i].iov_base % BLK_SECTOR || req->iov[i].iov_len % BLK_SECTOR)
			return false;
	/* Whole pages: a page half written past the cache and half through it could come back stale. */
	return position(req) % DIRECT_PAGE == 0 && req->len % DIRECT_PAGE == 0;
}

static bool stopped(const struct blk_disk *disk)
{
	return atomic_load_explicit(&disk->stop, memory_order_relaxed);
}

/* One host call's share of the request. -ECANCELED: none any more. */
static ssize_t transfer(struct blk_disk *disk, const struct blk_request *req, bool writing, int flags)
{
	ssize_t (*move)(void *, int, const struct iovec *, int, off_t, int) =
		writing ? disk->io->writev : disk->io->readv;
	size_t left = BLK_CALL_MAX, whole = 0;
	struct iovec *last = NULL;
	ssize_t n = -EINVAL;
	unsigned niov = 0;

	if (stopped(disk))
		return -ECANCELED;
	while (niov < req->niov && left) {
		last = &req->iov[niov++];
		whole = last->iov_len;
		if (last->iov_len > left)
			last->iov_len = left;
		left -= last->iov_len;
	}
	if (direct_possible(disk, req))
		n = move(disk->io_arg, disk->direct_fd, req->iov, (int)niov, position(req), flags);
	/* EINVAL: a device with larger sectors wants more alignment than ours; the page cache takes anything */
	if (n == -EINVAL)
		n = move(disk->io_arg, disk->fd, req->iov, (int)niov, position(req), flags);
	if (last)
		last->iov_len = whole;
	return n;
}

static int run_read(struct blk_disk *disk, struct blk_request *req)
{
	while (req->len) {
		ssize_t n = transfer(disk, req, false, 0);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO; /* the file was cut short under us */
		advance(req, (size_t)n);
	}
	req->written = (uint32_t)req->done + 1;
	return 0;
}

static int run_write(struct blk_disk *disk, struct blk_request *req)
{
	int flags = disk->writethrough ? RWF_DSYNC : 0;

	while (req->len) {
		ssize_t n = transfer(disk, req, true, flags);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		advance(req, (size_t)n);
	}
	return 0;
}

/*
 * One at a time: the host tells a write-back error to one fdatasync only, and a second one running
 * beside it would report success for the same lost data.
 */
static int run_flush(struct blk_disk *disk)
{
	int err;

	if (disk->read_only)
		return 0; /* nothing was ever written through here */
	(void)pthread_mutex_lock(&disk->flush_lock);
	if (stopped(disk)) {
		err = -ECANCELED; /* of those that wait for their turn only the first goes on */
	} else {
		err = disk->flush_failed ? -EIO : disk->io->flush(disk->io_arg, disk->fd);
		if (err)
			disk->flush_failed = true;
	}
	(void)pthread_mutex_unlock(&disk->flush_lock);
	return err;
}

static int fallocate_retry(struct blk_disk *disk, int mode, off_t offset, off_t len)
{
	int err;

	do {
		err = disk->io->fallocate(disk->io_arg, disk->fd, mode | FALLOC_FL_KEEP_SIZE, offset, len);
	} while (err == -EINTR);
	return err;
}

static bool not_supported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENOTTY;
}

/* One kind of fallocate, remembered as missing when the file system does not have it. */
static int fallocate_if(struct blk_disk *disk, atomic_bool *can, int mode, off_t offset, off_t len)
{
	int err = -EOPNOTSUPP;

	if (atomic_load_explicit(can, memory_order_relaxed)) {
		err = fallocate_retry(disk, mode, offset, len);
		if (not_supported(err))
			atomic_store_explicit(can, false, memory_order_relaxed);
	}
	return err;
}

/* §5.2.6.2: a discard promises nothing about the sectors, so a host that cannot do it has done it. */
static int discard(struct blk_disk *disk, off_t offset, off_t len)
{
	int err = fallocate_if(disk, &disk->can_punch, FALLOC_FL_PUNCH_HOLE, offset, len);

	return not_supported(err) ? 0 : err;
}

/* Writes zeroes the long way; BLK_ZEROES_SECTORS bounds it. */
static int write_zeroes(struct blk_disk *disk, off_t offset, off_t len)
{
	static const uint8_t zeroes[4096]; /* small: it is part of the binary */
	int flags = disk->writethrough ? RWF_DSYNC : 0;

	while (len > 0) {
		struct iovec iov[64];
		unsigned niov = 0;
		off_t step = 0;
		ssize_t n;

		while (niov < 64 && step < len) {
			size_t part = len - step < (off_t)sizeof(zeroes) ? (size_t)(len - step) : sizeof(zeroes);

			iov[niov++] = (struct iovec){ (void *)(uintptr_t)zeroes, part };
			step += (off_t)part;
		}
		n = stopped(disk) ? -ECANCELED
				  : disk->io->writev(disk->io_arg, disk->fd, iov, (int)niov, offset, flags);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		offset += n;
		len -= n;
	}
	return 0;
}

static int zero(struct blk_disk *disk, bool unmap, off_t offset, off_t len)
{
	int err = -EOPNOTSUPP;

	/* Without UNMAP the space must stay allocated (§5.2.6.2): no hole then. */
	if (unmap)
		err = fallocate_if(disk, &disk->can_punch, FALLOC_FL_PUNCH_HOLE, offset, len);
	if (not_supported(err))
		err = fallocate_if(disk, &disk->can_zero_range, FALLOC_FL_ZERO_RANGE, offset, len);
	return not_supported(err) ? write_zeroes(disk, offset, len) : err;
}

/* The ranges of a discard or write zeroes, copied out of guest memory and all valid; their number, or 0 with req->status set. */
static unsigned copy_ranges(struct blk_disk *disk, struct blk_request *req, struct wire_range *ret_ranges)
{
	bool discarding = req->type == VIRTIO_BLK_T_DISCARD;
	unsigned max = discarding ? BLK_DISCARD_SEGS : BLK_ZEROES_SEGS;
	uint32_t flags_allowed = discarding ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	unsigned n = (unsigned)(req->len / sizeof(*ret_ranges));

	if (!req->len || req->len % sizeof(*ret_ranges) || req->len > max * sizeof(*ret_ranges)) {
		req->status = VIRTIO_BLK_S_IOERR;
		return 0;
	}
	(void)iov_take(&req->iov, &req->niov, ret_ranges, (size_t)req->len);
	__asm__ volatile("" : : "r"(ret_ranges) : "memory"); /* as in blk_request_parse() */
	for (unsigned i = 0; i < n; i++) {
		uint32_t count = le32_get(ret_ranges[i].num_sectors);

		if (le32_get(ret_ranges[i].flags) & ~flags_allowed) {
			req->status = VIRTIO_BLK_S_UNSUPP; /* §5.2.6.2 */
			return 0;
		}
		if (count > (discarding ? BLK_DISCARD_SECTORS : BLK_ZEROES_SECTORS) ||
		    !range_valid(disk, le64_get(ret_ranges[i].sector), count)) {
			req->status = VIRTIO_BLK_S_IOERR;
			return 0;
		}
		*(discarding ? &req->discarded : &req->zeroed) += (uint64_t)count * BLK_SECTOR;
	}
	return n;
}

/* One range, piece by piece; cut where BLK_CALL_MAX divides the disk, so that no cut leaves half a block allocated. */
static int run_range(struct blk_disk *disk, const struct blk_request *req, const struct wire_range *range)
{
	bool unmap = le32_get(range->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	off_t offset = (off_t)(le64_get(range->sector) * BLK_SECTOR);
	off_t len = (off_t)le32_get(range->num_sectors) * (off_t)BLK_SECTOR;
	int err = 0;

	while (len && !err) {
		off_t piece = (off_t)BLK_CALL_MAX - offset % (off_t)BLK_CALL_MAX;

		if (piece > len)
			piece = len;
		if (stopped(disk))
			err = -ECANCELED;
		else if (req->type == VIRTIO_BLK_T_DISCARD)
			err = discard(disk, offset, piece);
		else
			err = zero(disk, unmap, offset, piece);
		offset += piece;
		len -= piece;
	}
	return err;
}

static int run_ranges(struct blk_disk *disk, struct blk_request *req)
{
	struct wire_range ranges[BLK_DISCARD_SEGS > BLK_ZEROES_SEGS ? BLK_DISCARD_SEGS : BLK_ZEROES_SEGS] = { 0 };
	unsigned n = copy_ranges(disk, req, ranges);
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++)
		err = run_range(disk, req, &ranges[i]);
	if (n && !err && disk->writethrough && req->type == VIRTIO_BLK_T_WRITE_ZEROES)
		err = run_flush(disk);
	return err;
}

static void get_id(const struct blk_disk *disk, struct blk_request *req)
{
	size_t done = 0;

	for (unsigned i = 0; i < req->niov && done < sizeof(disk->id); i++) {
		size_t left = sizeof(disk->id) - done;
		size_t n = req->iov[i].iov_len < left ? req->iov[i].iov_len : left;

		memcpy(req->iov[i].iov_base, disk->id + done, n);
		done += n;
	}
	req->written = (uint32_t)done + 1;
}

/* §5.2.6.2: out of the disk, not whole sectors, or a change to a read-only disk. */
static bool refused(const struct blk_disk *disk, const struct blk_request *req)
{
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		return !transfer_valid(disk, req);
	case VIRTIO_BLK_T_OUT:
		return disk->read_only || !transfer_valid(disk, req);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return disk->read_only;
	default:
		return false;
	}
}

void blk_request_run(struct blk_disk *disk, struct blk_request *req)
{
	int err = 0;

	if (refused(disk, req)) {
		req->status = VIRTIO_BLK_S_IOERR;
		return;
	}
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		err = run_read(disk, req);
		break;
	case VIRTIO_BLK_T_OUT:
		err = run_write(disk, req);
		break;
	case VIRTIO_BLK_T_FLUSH:
		err = run_flush(disk);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(disk, req);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		err = run_ranges(disk, req);
		break;
	default:
		req->status = VIRTIO_BLK_S_UNSUPP;
		break;
	}
	if (err) {
		req->status = VIRTIO_BLK_S_IOERR;
		req->error = err == -ECANCELED ? 0 : -err; /* nothing failed, and nobody is told */
		req->written = 1;
	}
}

const char *blk_request_name(const struct blk_request *req)
{
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		return "read";
	case VIRTIO_BLK_T_OUT:
		return "write";
	case VIRTIO_BLK_T_FLUSH:
		return "flush";
	case VIRTIO_BLK_T_DISCARD:
		return "discard";
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return "write zeroes";
	default:
		return "request";
	}
}
