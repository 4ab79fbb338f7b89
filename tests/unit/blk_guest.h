/*
 * A guest with one virtio-blk disk, and a host below it whose calls can be held, cut short and made
 * to fail: what the tests of blk.c and blk_request.c share.
 *
 * Ownership: blk_setup() makes image, memory and loop, blk_teardown() frees them: cmocka's fixtures.
 * Thread:  the test's; host.* may be set while no request runs, or under host.lock.
 */
#ifndef TESTS_UNIT_BLK_GUEST_H
#define TESTS_UNIT_BLK_GUEST_H

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "fake_driver.h"
#include "virtio/blk.h"

#define MEM     (8U << 20)
#define SECTORS 2048U
#define BYTES   (SECTORS * 512U)
#define NONE    0xff /* status byte not written yet */

#define FLUSH_F (1ULL << VIRTIO_BLK_F_FLUSH)
#define EVENT_F (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIR_F (1ULL << VIRTIO_RING_F_INDIRECT_DESC)

struct host {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool hold; /* blocking calls wait while this is set */
	unsigned held; /* that many do */
	unsigned reads, writes, flushes, fallocates, discards, nowaits; /* calls made */
	unsigned eintr; /* that many calls fail with EINTR first */
	size_t short_by; /* transfers move at most this many bytes; 0: no limit */
	int read_error, write_error, flush_error, punch_error, zero_range_error, discard_error; /* -errno, 0 */
	int nowait_error; /* for cached reads; 0: they succeed, cut to nowait_max */
	size_t nowait_max;
	int last_flags; /* of the last write */
	int direct_fd; /* the second descriptor that disk_new() gives a disk, if with_direct */
	bool with_direct;
	unsigned directs; /* transfers tried on it */
	int direct_error;
};

extern struct host host;
extern const struct blk_io_ops fault_io; /* blk_host_io with the faults of `host` */
extern struct fake_driver drv;
extern int image; /* the test's own descriptor of the disk's file */
extern int log_pipe[2];
extern gpa_t header, data, status; /* buffers in guest memory */

/* Blocking host calls wait from now on, or go on. */
void host_hold(bool hold);
void host_wait_held(unsigned n); /* until n of them wait */
struct virtio_dev *disk_new(uint32_t flags, const struct blk_io_ops *io); /* on `image`, BYTES long */
void bring_up(uint32_t flags, const struct blk_io_ops *io, uint64_t features,
	      uint16_t size); /* such a disk, bound and probed */
void pattern(uint8_t *p, size_t len, unsigned seed);
int blk_setup(void **state);
int blk_teardown(void **state);

void set_header(gpa_t gpa, uint32_t type, uint64_t sector);
/* One request in the usual three descriptors, waited for; its status byte. */
uint8_t request(uint32_t type, uint64_t sector, uint32_t len, bool to_guest, uint32_t *ret_used);
uint8_t read_disk(uint64_t sector, uint32_t len);
uint8_t write_disk(uint64_t sector, uint32_t len);
uint8_t flush_disk(void);

/* Whether guest memory at gpa equals the image at `sector`; whether sectors of the image are zero. */
bool same(gpa_t gpa, uint64_t sector, uint32_t len);
bool image_zero(uint64_t sector, uint32_t count);

const char *logged(void); /* what was logged since the last call */

#endif
