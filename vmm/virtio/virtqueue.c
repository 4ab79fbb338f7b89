#include "virtio/virtqueue.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "mvm/endian.h"

_Static_assert(sizeof(struct vring_desc) == 16, "virtio 1.2 §2.7.5");
_Static_assert(sizeof(struct vring_used_elem) == 8, "virtio 1.2 §2.7.8");

#define DESC_ALIGN  16 /* virtio 1.2 §2.7 */
#define AVAIL_ALIGN 2
#define USED_ALIGN  4

/* flags, idx and the event field that follows each ring: 6 bytes whether EVENT_IDX is negotiated or not (§2.7) */
#define AVAIL_BYTES(size) (6 + 2 * (size_t)(size))
#define USED_BYTES(size)  (6 + 8 * (size_t)(size))

/* The 16-bit fields of both rings, by index: 0 flags, 1 idx, then the entries, then the other side's event index. */
static uint16_t ring_load(const void *ring, size_t field)
{
	return le16toh(__atomic_load_n((const uint16_t *)ring + field, __ATOMIC_ACQUIRE));
}

static void ring_store(void *ring, size_t field, uint16_t value)
{
	__atomic_store_n((uint16_t *)ring + field, htole16(value), __ATOMIC_RELEASE);
}

#define RING_FLAGS           0U
#define RING_IDX             1U
#define AVAIL_ENTRY(slot)    (2U + (slot))
#define AVAIL_USED_EVENT(vq) (2U + (vq)->size)
#define USED_AVAIL_EVENT(vq) (2U + 4U * (vq)->size)

static int broken(struct virtqueue *vq, const char *why)
{
	vq->error = why;
	return -EPROTO;
}

static bool size_valid(const struct virtqueue *vq)
{
	return vq->size && vq->size <= vq->size_max && !(vq->size & (vq->size - 1));
}

int vq_start(struct virtqueue *vq, const struct guestmem *gm, bool event_idx, bool indirect)
{
	void *desc, *avail, *used;
	int err;

	if (!size_valid(vq) || vq->size > VQ_SIZE_MAX)
		return -EINVAL;
	if (vq->desc_gpa % DESC_ALIGN || vq->avail_gpa % AVAIL_ALIGN || vq->used_gpa % USED_ALIGN)
		return -EINVAL;
	err = guestmem_slice(gm, vq->desc_gpa, sizeof(struct vring_desc) * vq->size, &desc);
	if (!err)
		err = guestmem_slice(gm, vq->avail_gpa, AVAIL_BYTES(vq->size), &avail);
	if (!err)
		err = guestmem_slice(gm, vq->used_gpa, USED_BYTES(vq->size), &used);
	if (err)
		return err;
	vq->gm = gm;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->event_idx = event_idx;
	vq->indirect = indirect;
	return 0;
}

void vq_reset(struct virtqueue *vq)
{
	*vq = (struct virtqueue){ .size_max = vq->size_max };
}

/*
 * Copies one descriptor out of guest memory, once: the empty asm may have changed the copy as far as
 * the compiler knows, so it can never fetch a field from the table again. Indirect tables need no alignment.
 */
static struct vring_desc desc_copy(const void *table, uint32_t i)
{
	struct vring_desc desc;

	memcpy(&desc, (const uint8_t *)table + i * sizeof(desc), sizeof(desc));
	__asm__ volatile("" : "+m"(desc));
	desc.addr = le64toh(desc.addr);
	desc.len = le32toh(desc.len);
	desc.flags = le16toh(desc.flags);
	desc.next = le16toh(desc.next);
	return desc;
}

/* Adds the bytes of one descriptor to the chain. */
static int chain_add(struct virtqueue *vq, const struct vring_desc *desc, struct vq_chain *chain)
{
	unsigned n = chain->nread + chain->nwrite;
	bool write = desc->flags & VRING_DESC_F_WRITE;
	void *hva;

	/* §2.7.4.2: device-readable buffers come first */
	if (!write && chain->write_len)
		return broken(vq, "a readable descriptor follows a writable one");
	/* §2.7.5.2 allows no chain above 2^32 bytes, and a used length has 32 bits. */
	if (chain->read_len + chain->write_len + desc->len > UINT32_MAX)
		return broken(vq, "a chain is longer than 4 GiB");
	/*
	 * The specification does not forbid empty descriptors. They carry no byte, so their address
	 * is never turned into a pointer and no device ever sees an empty iovec.
	 */
	if (!desc->len)
		return 0;
	if (guestmem_slice(vq->gm, desc->addr, desc->len, &hva))
		return broken(vq, "a descriptor points outside guest memory");
	chain->iov[n] = (struct iovec){ hva, desc->len };
	if (write) {
		chain->nwrite++;
		chain->write_len += desc->len;
	} else {
		chain->nread++;
		chain->read_len += desc->len;
	}
	return 0;
}

/*
 * Walks the chain at `head`. At most vq->size direct descriptors and VQ_CHAIN_MAX in all are looked
 * at, so a chain that loops ends here. (§2.7.5.3.1 wants chains with indirect tables no longer than the
 * queue either, but drivers size them by seg_max alone, and after they made the queue smaller too.)
 */
static int chain_walk(struct virtqueue *vq, uint16_t head, struct vq_chain *chain)
{
	const void *table = vq->desc;
	uint32_t entries = vq->size;
	uint32_t budget = vq->size;
	uint32_t total = 0;
	uint32_t i = head;
	bool inside = false; /* an indirect table; its address proves nothing, it may be the ring's own */
	int err;

	chain->head = head;
	chain->nread = chain->nwrite = 0;
	chain->read_len = chain->write_len = 0;
	for (;;) {
		struct vring_desc desc;

		if (i >= entries)
			return broken(vq, "a descriptor index lies outside its table");
		if (!budget--)
			return broken(vq, "a chain is longer than the queue");
		desc = desc_copy(table, i);
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			void *indirect;

			if (!vq->indirect)
				return broken(vq, "an indirect descriptor that was not negotiated");
			if (inside || (desc.flags & VRING_DESC_F_NEXT)) /* §2.7.5.3.1 */
				return broken(vq, "an indirect descriptor inside or before another");
			if (!desc.len || desc.len % sizeof(desc))
				return broken(vq, "an indirect table of a wrong length");
			if (guestmem_slice(vq->gm, desc.addr, desc.len, &indirect))
				return broken(vq, "an indirect table outside guest memory");
			inside = true;
			table = indirect;
			entries = desc.len / (uint32_t)sizeof(desc);
			budget = VQ_CHAIN_MAX - total;
			i = 0;
			continue; /* §2.7.5.3.2: WRITE is ignored here */
		}
		if (++total > VQ_CHAIN_MAX)
			return broken(vq, "a chain has too many descriptors");
		err = chain_add(vq, &desc, chain);
		if (err)
			return err;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		i = desc.next;
	}
}

int vq_pop(struct virtqueue *vq, struct vq_chain *ret_chain)
{
	uint16_t pending;
	int err;

	if (vq->error)
		return -EPROTO;
	if (!vq->avail)
		return 0;
	/* acquire: entries and descriptors written before the index are seen after it (§2.7.13.3) */
	pending = (uint16_t)(ring_load(vq->avail, RING_IDX) - vq->avail_next);
	if (!pending)
		return 0;
	if (pending > vq->size)
		return broken(vq, "the available index ran ahead");
	/* Every buffer in flight holds a descriptor, so a queue never has more of them: bounds what devices hold. */
	if ((uint16_t)(vq->avail_next - vq->used_next) >= vq->size)
		return broken(vq, "more buffers in flight than descriptors");
	err = chain_walk(vq, ring_load(vq->avail, AVAIL_ENTRY(vq->avail_next & (vq->size - 1U))), ret_chain);
	if (err)
		return err;
	vq->avail_next++;
	return 1;
}

int vq_pop_head(struct virtqueue *vq, uint16_t head, struct vq_chain *ret_chain)
{
	int err;

	if (vq->error || !vq->avail)
		return -EPROTO;
	err = chain_walk(vq, head, ret_chain);
	return err ? err : 1;
}

void vq_unpop(struct virtqueue *vq)
{
	vq->avail_next--;
}

void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	struct vring_used_elem elem = { .id = htole32(head), .len = htole32(written) };
	size_t slot = vq->used_next & (vq->size - 1U);

	assert(vq->used);
	memcpy((uint8_t *)vq->used + 4 + slot * sizeof(elem), &elem, sizeof(elem));
	vq->used_next++;
	/* release: the entry, and the buffer's bytes, are visible before the index (§2.7.8.2) */
	ring_store(vq->used, RING_IDX, vq->used_next);
}

bool vq_wants_interrupt(struct virtqueue *vq)
{
	uint16_t before = vq->used_signalled;
	uint16_t now = vq->used_next;

	if (!vq->used)
		return false;
	/*
	 * Full barrier between our used index and the driver's wish: it writes its wish, then looks at
	 * the index again (§2.7.7.2). Without it both could miss the other and the guest would wait for ever.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vq->used_signalled = now;
	if (!vq->event_idx)
		return now != before && !(ring_load(vq->avail, RING_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(ring_load(vq->avail, AVAIL_USED_EVENT(vq)), now, before);
}

void vq_disable_kicks(struct virtqueue *vq)
{
	/* With EVENT_IDX an avail_event left behind keeps the driver quiet; it ignores the flag then (§2.7.10.1). */
	if (vq->used && !vq->event_idx)
		ring_store(vq->used, RING_FLAGS, VRING_USED_F_NO_NOTIFY);
}

bool vq_enable_kicks(struct virtqueue *vq)
{
	if (!vq->used || vq->error)
		return false;
	if (vq->event_idx)
		ring_store(vq->used, USED_AVAIL_EVENT(vq), vq->avail_next);
	else
		ring_store(vq->used, RING_FLAGS, 0);
	/* The mirror image of the barrier above: our wish, then the driver's index (§2.7.13.4.1). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ring_load(vq->avail, RING_IDX) != vq->avail_next;
}

#define QUEUE_READY  1U
#define QUEUE_BROKEN 2U

void vq_save(const struct virtqueue *vq, struct state_writer *w)
{
	state_put_u16(w, vq->size);
	state_put_u16(w, (uint16_t)((vq->ready ? QUEUE_READY : 0) | (vq->error ? QUEUE_BROKEN : 0)));
	state_put_u64(w, vq->desc_gpa);
	state_put_u64(w, vq->avail_gpa);
	state_put_u64(w, vq->used_gpa);
	state_put_u16(w, vq->avail_next);
	state_put_u16(w, vq->used_next);
	state_put_u16(w, vq->used_signalled);
}

int vq_restore(struct virtqueue *vq, struct state_reader *r)
{
	struct virtqueue new = { .size_max = vq->size_max };
	uint16_t flags;

	new.size = state_get_u16(r);
	flags = state_get_u16(r);
	new.desc_gpa = state_get_u64(r);
	new.avail_gpa = state_get_u64(r);
	new.used_gpa = state_get_u64(r);
	new.avail_next = state_get_u16(r);
	new.used_next = state_get_u16(r);
	new.used_signalled = state_get_u16(r);
	if (!state_ok(r) || (flags & ~(QUEUE_READY | QUEUE_BROKEN)))
		return -EINVAL;
	if (new.size && !size_valid(&new))
		return -EINVAL;
	new.ready = flags &QUEUE_READY;
	if (new.ready && !new.size)
		return -EINVAL;
	if ((uint16_t)(new.avail_next - new.used_next) > new.size)
		return -EINVAL;
	new.error = flags &QUEUE_BROKEN ? "the ring was broken before the snapshot" : NULL;
	*vq = new;
	return 0;
}
