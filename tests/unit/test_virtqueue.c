/* Split rings (vmm/virtio/virtqueue.c): what a sound driver may do, and everything a hostile one may try. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "guestmem.h"
#include "virtio/virtqueue.h"

#define MEM      (1U << 20)
#define SIZE     8
#define DESC     0x1000
#define AVAIL    0x2000
#define USED     0x3000
#define TABLE    0x4000
#define DATA     0x10000
#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

struct ring {
	struct guestmem *gm;
	struct virtqueue vq;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_desc *table;
};

static void *at(struct ring *r, gpa_t gpa)
{
	void *hva = NULL;

	assert_int_equal(guestmem_slice(r->gm, gpa, 1, &hva), 0);
	return hva;
}

static void ring_new(struct ring *r, uint16_t size, bool event_idx, bool indirect)
{
	memset(r, 0, sizeof(*r));
	assert_int_equal(guestmem_new(MEM, 0xc0000000, 0x100000000, &r->gm), 0);
	r->desc = at(r, DESC);
	r->avail = at(r, AVAIL);
	r->used = at(r, USED);
	r->table = at(r, TABLE);
	r->vq = (struct virtqueue){ .size = size,
				    .size_max = VQ_SIZE_MAX,
				    .ready = true,
				    .desc_gpa = DESC,
				    .avail_gpa = AVAIL,
				    .used_gpa = USED };
	assert_int_equal(vq_start(&r->vq, r->gm, event_idx, indirect), 0);
}

static void ring_free(struct ring *r)
{
	guestmem_free(r->gm);
}

static void put(struct vring_desc *desc, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	*desc = (struct vring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

static void offer(struct ring *r, uint16_t head)
{
	r->avail->ring[r->avail->idx & (r->vq.size - 1)] = head;
	r->avail->idx++;
}

/* ---- chains: one table, sound and broken ---- */

struct chain_case {
	const char *name;
	struct vring_desc desc[SIZE];
	struct vring_desc table[4]; /* at TABLE */
	uint16_t head;
	bool no_indirect; /* not negotiated */
	int expect; /* 1 or -EPROTO */
	uint16_t nread, nwrite;
	uint64_t read_len, write_len;
};

static const struct chain_case chain_cases[] = {
	{ "one readable", { { DATA, 16, 0, 0 } }, .expect = 1, .nread = 1, .read_len = 16 },
	{ "one writable", { { DATA, 16, WRITE, 0 } }, .expect = 1, .nwrite = 1, .write_len = 16 },
	{ "read, read, write",
	  { { DATA, 16, NEXT, 3 }, { 0 }, { 0 }, { DATA + 64, 4, NEXT, 5 }, { 0 }, { DATA + 128, 8, WRITE, 0 } },
	  .expect = 1,
	  .nread = 2,
	  .nwrite = 1,
	  .read_len = 20,
	  .write_len = 8 },
	{ "last byte of memory", { { MEM - 1, 1, 0, 0 } }, .expect = 1, .nread = 1, .read_len = 1 },
	{ "all of memory", { { 0, MEM, WRITE, 0 } }, .expect = 1, .nwrite = 1, .write_len = MEM },
	{ "empty descriptors are left out, wherever they point",
	  { { ~0ULL, 0, NEXT, 1 }, { DATA, 4, NEXT, 2 }, { MEM * 9ULL, 0, NEXT | WRITE, 3 }, { DATA, 8, WRITE, 0 } },
	  .expect = 1,
	  .nread = 1,
	  .nwrite = 1,
	  .read_len = 4,
	  .write_len = 8 },
	{ "nothing but an empty descriptor", { { 0, 0, 0, 0 } }, .expect = 1 },
	{ "next of the last descriptor is not looked at",
	  { { DATA, 1, 0, 0xffff } },
	  .expect = 1,
	  .nread = 1,
	  .read_len = 1 },
	{ "eight direct",
	  { { DATA, 1, NEXT, 1 },
	    { DATA, 1, NEXT, 2 },
	    { DATA, 1, NEXT, 3 },
	    { DATA, 1, NEXT, 4 },
	    { DATA, 1, NEXT, 5 },
	    { DATA, 1, NEXT, 6 },
	    { DATA, 1, NEXT, 7 },
	    { DATA, 1, 0, 0 } },
	  .expect = 1,
	  .nread = 8,
	  .read_len = 8 },
	{ "indirect",
	  { { TABLE, 32, INDIRECT, 0 } },
	  { { DATA, 5, NEXT, 1 }, { DATA, 6, WRITE, 0 } },
	  .expect = 1,
	  .nread = 1,
	  .nwrite = 1,
	  .read_len = 5,
	  .write_len = 6 },
	{ "indirect table at an odd address", { { TABLE + 1, 16, INDIRECT, 0 } }, .expect = 1 },
	{ "WRITE beside INDIRECT is ignored",
	  { { TABLE, 16, INDIRECT | WRITE, 0 } },
	  { { DATA, 5, 0, 0 } },
	  .expect = 1,
	  .nread = 1,
	  .read_len = 5 },
	{ "direct, then indirect",
	  { { DATA, 3, NEXT, 1 }, { TABLE, 32, INDIRECT, 0 } },
	  { { DATA, 5, NEXT, 1 }, { DATA, 6, WRITE, 0 } },
	  .expect = 1,
	  .nread = 2,
	  .nwrite = 1,
	  .read_len = 8,
	  .write_len = 6 },

	{ "head out of the table", { { 0 } }, .head = SIZE, .expect = -EPROTO },
	{ "head far out", { { 0 } }, .head = 0xffff, .expect = -EPROTO },
	{ "next out of the table", { { DATA, 1, NEXT, SIZE } }, .expect = -EPROTO },
	{ "next far out", { { DATA, 1, NEXT, 0xffff } }, .expect = -EPROTO },
	{ "a loop of one", { { DATA, 1, NEXT, 0 } }, .expect = -EPROTO },
	{ "a loop of two", { { DATA, 1, NEXT, 1 }, { DATA, 1, NEXT, 0 } }, .expect = -EPROTO },
	{ "a loop of empty ones", { { DATA, 0, NEXT, 0 } }, .expect = -EPROTO },
	{ "readable after writable", { { DATA, 1, WRITE | NEXT, 1 }, { DATA, 1, 0, 0 } }, .expect = -EPROTO },
	{ "outside memory", { { MEM, 1, 0, 0 } }, .expect = -EPROTO },
	{ "over the end of memory", { { MEM - 1, 2, 0, 0 } }, .expect = -EPROTO },
	{ "address that wraps", { { ~0ULL - 7, 16, 0, 0 } }, .expect = -EPROTO },
	{ "address at the very end", { { ~0ULL, 1, 0, 0 } }, .expect = -EPROTO },
	{ "length of 4 GiB", { { 0, 0xffffffff, 0, 0 } }, .expect = -EPROTO },
	{ "indirect, not negotiated", { { TABLE, 16, INDIRECT, 0 } }, .no_indirect = true, .expect = -EPROTO },
	{ "INDIRECT with NEXT",
	  { { TABLE, 16, INDIRECT | NEXT, 1 }, { DATA, 1, 0, 0 } },
	  { { DATA, 1, 0, 0 } },
	  .expect = -EPROTO },
	{ "indirect in indirect",
	  { { TABLE, 16, INDIRECT, 0 } },
	  { { TABLE + 16, 16, INDIRECT, 0 }, { DATA, 1, 0, 0 } },
	  .expect = -EPROTO },
	{ "the ring itself as its indirect table", { { DESC, 16, INDIRECT, 0 } }, .expect = -EPROTO },
	{ "empty table", { { TABLE, 0, INDIRECT, 0 } }, .expect = -EPROTO },
	{ "table of 17 bytes", { { TABLE, 17, INDIRECT, 0 } }, .expect = -EPROTO },
	{ "table over the end of memory", { { MEM - 16, 32, INDIRECT, 0 } }, .expect = -EPROTO },
	{ "table address that wraps", { { ~0ULL - 15, 32, INDIRECT, 0 } }, .expect = -EPROTO },
	{ "next out of the indirect table",
	  { { TABLE, 32, INDIRECT, 0 } },
	  { { DATA, 1, NEXT, 2 } },
	  .expect = -EPROTO },
	{ "a loop in the indirect table", { { TABLE, 32, INDIRECT, 0 } }, { { DATA, 1, NEXT, 0 } }, .expect = -EPROTO },
	{ "writable direct, readable indirect",
	  { { DATA, 1, WRITE | NEXT, 1 }, { TABLE, 16, INDIRECT, 0 } },
	  { { DATA, 1, 0, 0 } },
	  .expect = -EPROTO },
};

static void check_chain(const struct chain_case *c)
{
	struct vq_chain chain;
	struct ring r;
	int n;

	ring_new(&r, SIZE, false, !c->no_indirect);
	memcpy(r.desc, c->desc, sizeof(c->desc));
	memcpy(r.table, c->table, sizeof(c->table));
	offer(&r, c->head);
	n = vq_pop(&r.vq, &chain);
	if (n != c->expect)
		fail_msg("%s: vq_pop said %d (%s)", c->name, n, r.vq.error ? r.vq.error : "no error");
	if (n < 0) {
		assert_non_null(r.vq.error);
		/* broken for good: even a sound chain behind it is not looked at, until a reset */
		put(&r.desc[0], DATA, 1, 0, 0);
		offer(&r, 0);
		assert_int_equal(vq_pop(&r.vq, &chain), -EPROTO);
		assert_int_equal(vq_pop_head(&r.vq, 0, &chain), -EPROTO);
		assert_false(vq_enable_kicks(&r.vq));
		vq_reset(&r.vq);
		assert_null(r.vq.error);
		assert_int_equal(r.vq.size_max, VQ_SIZE_MAX);
		assert_int_equal(vq_pop(&r.vq, &chain), 0);
	} else if (chain.head != c->head || chain.nread != c->nread || chain.nwrite != c->nwrite ||
		   chain.read_len != c->read_len || chain.write_len != c->write_len) {
		fail_msg("%s: %u readable (%lu bytes), %u writable (%lu bytes)", c->name, chain.nread, chain.read_len,
			 chain.nwrite, chain.write_len);
	}
	ring_free(&r);
}

static void test_chains(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(chain_cases) / sizeof(chain_cases[0]); i++)
		check_chain(&chain_cases[i]);
}

static void test_iovecs_point_into_memory(void **state)
{
	struct vq_chain chain;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, false, true);
	put(&r.desc[4], DATA, 10, NEXT, 2);
	put(&r.desc[2], DATA + 4096, 20, WRITE, 0);
	offer(&r, 4);
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_int_equal(chain.head, 4);
	assert_ptr_equal(chain.iov[0].iov_base, at(&r, DATA));
	assert_int_equal(chain.iov[0].iov_len, 10);
	assert_ptr_equal(chain.iov[1].iov_base, at(&r, DATA + 4096));
	assert_int_equal(chain.iov[1].iov_len, 20);
	ring_free(&r);
}

/* Chains with indirect tables may be longer than the queue, but not than VQ_CHAIN_MAX. */
static void test_long_indirect_chains(void **state)
{
	static const struct {
		unsigned n;
		int expect;
	} cases[] = {
		{ SIZE + 1, 1 }, { 256, 1 }, { VQ_CHAIN_MAX, 1 }, { VQ_CHAIN_MAX + 1, -EPROTO }, { 1024, -EPROTO }
	};

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct vq_chain chain;
		struct ring r;

		ring_new(&r, SIZE, false, true);
		for (unsigned i = 0; i < cases[c].n; i++)
			put(&r.table[i], DATA + i, 1, i + 1 < cases[c].n ? NEXT : 0, (uint16_t)(i + 1));
		put(&r.desc[0], TABLE, cases[c].n * 16, INDIRECT, 0);
		offer(&r, 0);
		assert_int_equal(vq_pop(&r.vq, &chain), cases[c].expect);
		if (cases[c].expect == 1)
			assert_int_equal(chain.nread, cases[c].n);
		ring_free(&r);
	}
}

/* Many descriptors over the same memory add up to more than 32 bits. */
static void test_total_length_is_bounded(void **state)
{
	struct vq_chain chain;
	struct virtqueue vq = { .size = 8, .size_max = 8, .desc_gpa = DESC, .avail_gpa = AVAIL, .used_gpa = USED };
	struct guestmem *gm;
	struct vring_desc desc[3];
	uint16_t idx = 1;

	(void)state;
	assert_int_equal(guestmem_new(0x90000000ULL, 0xc0000000, 0x100000000, &gm),
			 0); /* never touched: costs nothing */
	assert_int_equal(vq_start(&vq, gm, false, false), 0);
	put(&desc[0], 0, 0x80000000, NEXT, 1);
	put(&desc[1], 0, 0x7fffffff, NEXT, 2);
	put(&desc[2], 0, 0, 0, 0);
	assert_int_equal(guestmem_write(gm, DESC, desc, sizeof(desc)), 0);
	assert_int_equal(guestmem_write(gm, AVAIL + 2, &idx, 2), 0);
	assert_int_equal(vq_pop(&vq, &chain), 1);
	assert_int_equal(chain.read_len, 0xffffffff);
	desc[2].len = 1;
	assert_int_equal(guestmem_write(gm, DESC, desc, sizeof(desc)), 0);
	idx = 2;
	assert_int_equal(guestmem_write(gm, AVAIL + 2, &idx, 2), 0);
	assert_int_equal(vq_pop(&vq, &chain), -EPROTO);
	guestmem_free(gm);
}

/* ---- ring addresses ---- */

static void test_start(void **state)
{
	static const struct {
		const char *name;
		uint16_t size;
		gpa_t desc, avail, used;
		int expect;
	} cases[] = {
		{ "sound", 8, DESC, AVAIL, USED, 0 },
		{ "size 1", 1, DESC, AVAIL, USED, 0 },
		{ "largest", 256, DESC, AVAIL, USED, 0 },
		{ "rings up to the last byte", 8, MEM - 128, AVAIL, USED, 0 },
		{ "avail up to the last byte", 8, DESC, MEM - 22, USED, 0 },
		{ "used up to the last byte", 2, DESC, AVAIL, MEM - 24, 0 },
		{ "size 0", 0, DESC, AVAIL, USED, -EINVAL },
		{ "size 3", 3, DESC, AVAIL, USED, -EINVAL },
		{ "size above the maximum", 512, DESC, AVAIL, USED, -EINVAL },
		{ "desc unaligned", 8, DESC + 8, AVAIL, USED, -EINVAL },
		{ "avail unaligned", 8, DESC, AVAIL + 1, USED, -EINVAL },
		{ "used unaligned", 8, DESC, AVAIL, USED + 2, -EINVAL },
		{ "desc over the end", 8, MEM - 112, AVAIL, USED, -EFAULT },
		{ "avail over the end", 8, DESC, MEM - 20, USED, -EFAULT },
		{ "used over the end", 2, DESC, AVAIL, MEM - 20, -EFAULT },
		{ "desc outside", 8, MEM, AVAIL, USED, -EFAULT },
		{ "desc that wraps", 8, ~0ULL - 15, AVAIL, USED, -EFAULT },
	};
	struct guestmem *gm;

	(void)state;
	assert_int_equal(guestmem_new(MEM, 0xc0000000, 0x100000000, &gm), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct virtqueue vq = { .size = cases[i].size,
					.size_max = VQ_SIZE_MAX,
					.desc_gpa = cases[i].desc,
					.avail_gpa = cases[i].avail,
					.used_gpa = cases[i].used };
		int err = vq_start(&vq, gm, true, true);

		if (err != cases[i].expect)
			fail_msg("%s: %d", cases[i].name, err);
		assert_true(err ? !vq.desc && !vq.avail && !vq.used : vq.desc && vq.avail && vq.used);
	}
	guestmem_free(gm);
}

/* A queue that nobody started is empty and silent. */
static void test_not_started(void **state)
{
	struct virtqueue vq = { .size_max = 8 };
	struct vq_chain chain;

	(void)state;
	assert_int_equal(vq_pop(&vq, &chain), 0);
	assert_int_equal(vq_pop_head(&vq, 0, &chain), -EPROTO);
	assert_false(vq_wants_interrupt(&vq));
	assert_false(vq_enable_kicks(&vq));
	vq_disable_kicks(&vq);
}

/* ---- indices ---- */

static void test_avail_index(void **state)
{
	static const struct {
		const char *name;
		uint16_t next, idx;
		int expect;
	} cases[] = {
		{ "empty", 0, 0, 0 },
		{ "one", 0, 1, 1 },
		{ "full", 0, SIZE, 1 },
		{ "over the wrap", 0xfffe, 2, 1 },
		{ "full over the wrap", 0xfffe, (uint16_t)(0xfffe + SIZE), 1 },
		{ "one too many", 0, SIZE + 1, -EPROTO },
		{ "backwards", 5, 4, -EPROTO },
		{ "far", 0, 0x8000, -EPROTO },
		{ "too many over the wrap", 0xfffe, (uint16_t)(0xffff + SIZE), -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vq_chain chain;
		struct ring r;
		int n;

		ring_new(&r, SIZE, false, false);
		put(&r.desc[0], DATA, 1, 0, 0);
		r.vq.avail_next = r.vq.used_next = cases[i].next;
		r.avail->idx = cases[i].idx;
		n = vq_pop(&r.vq, &chain);
		if (n != cases[i].expect)
			fail_msg("%s: %d", cases[i].name, n);
		ring_free(&r);
	}
}

/* A driver that offers the same buffer again and again never gets more in flight than the queue has descriptors. */
static void test_in_flight_is_bounded(void **state)
{
	struct vq_chain chain;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, false, false);
	put(&r.desc[0], DATA, 1, 0, 0);
	for (unsigned i = 0; i < SIZE; i++) {
		offer(&r, 0);
		assert_int_equal(vq_pop(&r.vq, &chain), 1);
	}
	offer(&r, 0);
	assert_int_equal(vq_pop(&r.vq, &chain), -EPROTO);
	ring_free(&r);
}

static void test_push_and_wrap(void **state)
{
	struct vq_chain chain;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, false, false);
	put(&r.desc[3], DATA, 1, WRITE, 0);
	for (unsigned i = 0; i < 0x10000 + 5; i++) {
		offer(&r, 3);
		assert_int_equal(vq_pop(&r.vq, &chain), 1);
		vq_push(&r.vq, chain.head, i);
		assert_int_equal(r.used->idx, (uint16_t)(i + 1));
		assert_int_equal(r.used->ring[i % SIZE].id, 3);
		assert_int_equal(r.used->ring[i % SIZE].len, i);
	}
	assert_int_equal(vq_pop(&r.vq, &chain), 0);
	ring_free(&r);
}

static void test_unpop_and_pop_head(void **state)
{
	struct vq_chain chain;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, false, false);
	put(&r.desc[1], DATA, 11, 0, 0);
	put(&r.desc[2], DATA, 22, 0, 0);
	offer(&r, 1);
	offer(&r, 2);
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_int_equal(chain.head, 1);
	vq_unpop(&r.vq);
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_int_equal(chain.head, 1);
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_int_equal(chain.head, 2);
	assert_int_equal(vq_pop_head(&r.vq, 1, &chain), 1);
	assert_int_equal(chain.read_len, 11);
	assert_int_equal(r.vq.avail_next, 2);
	assert_int_equal(vq_pop_head(&r.vq, SIZE, &chain), -EPROTO);
	ring_free(&r);
}

/* ---- notifications ---- */

static void serve(struct ring *r, unsigned n)
{
	struct vq_chain chain;

	for (unsigned i = 0; i < n; i++) {
		offer(r, 0);
		assert_int_equal(vq_pop(&r->vq, &chain), 1);
		vq_push(&r->vq, chain.head, 0);
	}
}

static void test_interrupts_by_flag(void **state)
{
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, false, false);
	put(&r.desc[0], DATA, 1, 0, 0);
	assert_false(vq_wants_interrupt(&r.vq)); /* nothing was pushed */
	serve(&r, 1);
	assert_true(vq_wants_interrupt(&r.vq));
	assert_false(vq_wants_interrupt(&r.vq));
	r.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	serve(&r, 1);
	assert_false(vq_wants_interrupt(&r.vq));
	ring_free(&r);
}

static void test_interrupts_by_event_index(void **state)
{
	uint16_t *used_event;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, true, false);
	put(&r.desc[0], DATA, 1, 0, 0);
	used_event = &r.avail->ring[SIZE];
	r.avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing now */
	*used_event = 0;
	serve(&r, 1); /* entry 0 */
	assert_true(vq_wants_interrupt(&r.vq));
	serve(&r, 1); /* entry 1: the driver still waits for 0 */
	assert_false(vq_wants_interrupt(&r.vq));
	*used_event = 4;
	serve(&r, 2); /* 2, 3 */
	assert_false(vq_wants_interrupt(&r.vq));
	serve(&r, 2); /* 4, 5: passed over in one go */
	assert_true(vq_wants_interrupt(&r.vq));
	assert_false(vq_wants_interrupt(&r.vq));
	/* over the wrap */
	for (unsigned i = r.used->idx; i < 0xfffe; i++) {
		serve(&r, 1);
		(void)vq_wants_interrupt(&r.vq);
	}
	*used_event = 1;
	serve(&r, 3); /* 0xfffe, 0xffff, 0 */
	assert_false(vq_wants_interrupt(&r.vq));
	serve(&r, 1);
	assert_true(vq_wants_interrupt(&r.vq));
	ring_free(&r);
}

static void test_kicks_by_flag(void **state)
{
	struct vq_chain chain;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, false, false);
	put(&r.desc[0], DATA, 1, 0, 0);
	vq_disable_kicks(&r.vq);
	assert_int_equal(r.used->flags, VRING_USED_F_NO_NOTIFY);
	offer(&r, 0);
	assert_true(vq_enable_kicks(&r.vq)); /* came meanwhile */
	assert_int_equal(r.used->flags, 0);
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_false(vq_enable_kicks(&r.vq));
	ring_free(&r);
}

static void test_kicks_by_event_index(void **state)
{
	const uint16_t *avail_event;
	struct vq_chain chain;
	struct ring r;

	(void)state;
	ring_new(&r, SIZE, true, false);
	put(&r.desc[0], DATA, 1, 0, 0);
	avail_event = (const uint16_t *)(const void *)&r.used->ring[SIZE];
	offer(&r, 0);
	offer(&r, 0);
	vq_disable_kicks(&r.vq);
	assert_int_equal(r.used->flags, 0); /* the flag means nothing with EVENT_IDX */
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_int_equal(*avail_event, 0); /* still the old wish: no kick for the second */
	assert_true(vq_enable_kicks(&r.vq));
	assert_int_equal(*avail_event, 1);
	assert_int_equal(vq_pop(&r.vq, &chain), 1);
	assert_false(vq_enable_kicks(&r.vq));
	assert_int_equal(*avail_event, 2);
	ring_free(&r);
}

/* ---- state ---- */

static void test_save_restore(void **state)
{
	struct state_writer w = { 0 };
	struct state_reader r;
	struct virtqueue clone = { .size_max = VQ_SIZE_MAX };
	struct vq_chain chain;
	struct ring ring;

	(void)state;
	ring_new(&ring, SIZE, true, true);
	put(&ring.desc[0], DATA, 7, 0, 0);
	serve(&ring, 5);
	(void)vq_wants_interrupt(&ring.vq);
	offer(&ring, 0);
	assert_int_equal(vq_pop(&ring.vq, &chain), 1); /* in flight */
	offer(&ring, 0); /* not seen yet */
	vq_save(&ring.vq, &w);
	r = (struct state_reader){ w.data, w.data + w.len, false };
	assert_int_equal(vq_restore(&clone, &r), 0);
	assert_true(r.pos == r.end);
	assert_int_equal(vq_start(&clone, ring.gm, true, true), 0);
	assert_int_equal(clone.used_signalled, 5);
	assert_int_equal(vq_pop_head(&clone, 0, &chain), 1);
	assert_int_equal(chain.read_len, 7);
	vq_push(&clone, 0, 1);
	assert_int_equal(ring.used->idx, 6);
	assert_int_equal(vq_pop(&clone, &chain), 1);
	assert_int_equal(vq_pop(&clone, &chain), 0);
	state_writer_free(&w);
	ring_free(&ring);
}

static void test_restore_refuses(void **state)
{
	static const struct {
		const char *name;
		uint16_t size, flags, avail, used;
		int expect;
	} cases[] = {
		{ "sound", 8, 1, 8, 0, 0 },
		{ "never set up", 0, 0, 0, 0, 0 },
		{ "broken", 8, 3, 0, 0, 0 },
		{ "ready without a size", 0, 1, 0, 0, -EINVAL },
		{ "size not a power of two", 6, 1, 0, 0, -EINVAL },
		{ "size above the maximum", 512, 1, 0, 0, -EINVAL },
		{ "unknown flag", 8, 4, 0, 0, -EINVAL },
		{ "more in flight than descriptors", 8, 1, 9, 0, -EINVAL },
		{ "used ahead of available", 8, 1, 0, 1, -EINVAL },
		{ "in flight without a queue", 0, 0, 1, 0, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct virtqueue vq = { .size_max = VQ_SIZE_MAX };
		struct state_writer w = { 0 };
		struct state_reader r;
		int err;

		state_put_u16(&w, cases[i].size);
		state_put_u16(&w, cases[i].flags);
		for (unsigned n = 0; n < 3; n++)
			state_put_u64(&w, 0);
		state_put_u16(&w, cases[i].avail);
		state_put_u16(&w, cases[i].used);
		state_put_u16(&w, cases[i].used);
		r = (struct state_reader){ w.data, w.data + w.len, false };
		err = vq_restore(&vq, &r);
		if (err != cases[i].expect)
			fail_msg("%s: %d", cases[i].name, err);
		assert_true(!vq.error == !(cases[i].expect == 0 && cases[i].flags & 2));
		/* and cut short at every byte */
		for (size_t len = 0; len < w.len; len++) {
			r = (struct state_reader){ w.data, w.data + len, false };
			assert_int_equal(vq_restore(&vq, &r), -EINVAL);
		}
		state_writer_free(&w);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_iovecs_point_into_memory),
		cmocka_unit_test(test_long_indirect_chains),
		cmocka_unit_test(test_total_length_is_bounded),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_not_started),
		cmocka_unit_test(test_avail_index),
		cmocka_unit_test(test_in_flight_is_bounded),
		cmocka_unit_test(test_push_and_wrap),
		cmocka_unit_test(test_unpop_and_pop_head),
		cmocka_unit_test(test_interrupts_by_flag),
		cmocka_unit_test(test_interrupts_by_event_index),
		cmocka_unit_test(test_kicks_by_flag),
		cmocka_unit_test(test_kicks_by_event_index),
		cmocka_unit_test(test_save_restore),
		cmocka_unit_test(test_restore_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
