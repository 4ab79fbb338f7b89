/*
 * Split rings under a guest that wrote arbitrary bytes: every chain that vq_pop() lets through must
 * lie in guest memory, in order and within its bounds; nothing may run for ever.
 *
 * Input: flags, log2 of the size, three ring addresses and the first index (16 bits each), then
 * guest memory from address 0.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guestmem.h"
#include "virtio/virtqueue.h"

#define MEM  (64U << 10)
#define HEAD 12

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct guestmem *gm;

static void need(int ok)
{
	if (!ok)
		abort();
}

static void check_chain(const struct vq_chain *chain)
{
	const uint8_t *base = gm->regions[0].hva;
	uint64_t total[2] = { 0, 0 };

	need(chain->nread + chain->nwrite <= VQ_CHAIN_MAX);
	for (unsigned i = 0; i < chain->nread + (unsigned)chain->nwrite; i++) {
		const uint8_t *p = chain->iov[i].iov_base;

		need(chain->iov[i].iov_len > 0 && chain->iov[i].iov_len <= MEM);
		need(p >= base && p + chain->iov[i].iov_len <= base + MEM);
		total[i >= chain->nread] += chain->iov[i].iov_len;
	}
	need(total[0] == chain->read_len && total[1] == chain->write_len);
}

/* Saves the queue and goes on with its restored copy. */
static void clone(struct virtqueue *vq)
{
	struct virtqueue copy = { .size_max = vq->size_max };
	struct state_writer w = { 0 };
	struct state_reader r;

	vq_save(vq, &w);
	r = (struct state_reader){ w.data, w.data + w.len, false };
	need(vq_restore(&copy, &r) == 0 && !copy.error == !vq->error);
	need(vq_start(&copy, gm, vq->event_idx, vq->indirect) == 0);
	state_writer_free(&w);
	*vq = copy;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct virtqueue vq = { .size_max = VQ_SIZE_MAX };
	static struct vq_chain chain;

	if (!gm)
		need(guestmem_new(MEM, 0xc0000000, 0x100000000, &gm) == 0);
	if (len < HEAD || len - HEAD > MEM)
		return 0;
	memset(gm->regions[0].hva, 0, MEM);
	memcpy(gm->regions[0].hva, bytes + HEAD, len - HEAD);
	vq.size = (uint16_t)(1U << (bytes[1] % 12));
	vq.ready = true;
	vq.desc_gpa = get16(bytes + 2);
	vq.avail_gpa = get16(bytes + 4);
	vq.used_gpa = get16(bytes + 6);
	if (vq_start(&vq, gm, bytes[0] & 1, bytes[0] & 2))
		return 0;
	vq.avail_next = vq.used_next = get16(bytes + 8);
	for (unsigned i = 0; i < 40; i++) {
		int n = vq_pop(&vq, &chain);

		if (n < 0) {
			need(vq.error != NULL);
			break;
		}
		if (n == 0 && !vq_enable_kicks(&vq))
			break;
		if (n == 0)
			continue;
		check_chain(&chain);
		vq_disable_kicks(&vq);
		if (bytes[10] & 1 && i % 8 == 3) {
			vq_unpop(&vq);
			continue;
		}
		if (bytes[10] & 2 && i % 8 == 5) {
			clone(&vq);
			if (vq_pop_head(&vq, chain.head, &chain) > 0)
				check_chain(&chain);
		}
		if (bytes[10] & 4 && i % 8 == 7)
			continue; /* kept in flight */
		vq_push(&vq, chain.head, (uint32_t)chain.write_len);
		(void)vq_wants_interrupt(&vq);
	}
	clone(&vq);
	return 0;
}
