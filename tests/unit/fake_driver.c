#include "fake_driver.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mvm/endian.h"

#define HEAP_START 0x10000 /* address 0 stays a mistake */

/* What a test cannot go on without. */
static void need(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "fake driver: %s failed\n", what);
	abort();
}

static void *io_main(void *arg)
{
	need(loop_run(arg) == 0, "loop_run");
	return NULL;
}

void fake_init(struct fake_driver *drv, uint64_t mem_bytes)
{
	*drv = (struct fake_driver){ .mem_bytes = mem_bytes, .heap = HEAP_START };
	need(guestmem_new(mem_bytes, 0xc0000000, 0x100000000, &drv->gm) == 0, "guestmem_new");
	need(loop_new(&drv->loop) == 0, "loop_new");
	need(pthread_mutex_init(&drv->lock, NULL) == 0, "pthread_mutex_init");
	need(pthread_cond_init(&drv->irq_cond, NULL) == 0, "pthread_cond_init");
	need(pthread_create(&drv->io_thread, NULL, io_main, drv->loop) == 0, "pthread_create");
}

/* A call made on the I/O thread for somebody who waits. */
struct call {
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_call(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	(void)pthread_mutex_lock(&call->lock);
	call->done = true;
	(void)pthread_cond_signal(&call->cond);
	(void)pthread_mutex_unlock(&call->lock);
}

void fake_on_io(struct fake_driver *drv, void (*fn)(void *arg), void *arg)
{
	struct call call = {
		.fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER
	};

	need(loop_post(drv->loop, run_call, &call) == 0, "loop_post");
	(void)pthread_mutex_lock(&call.lock);
	while (!call.done)
		(void)pthread_cond_wait(&call.cond, &call.lock);
	(void)pthread_mutex_unlock(&call.lock);
	(void)pthread_cond_destroy(&call.cond);
	(void)pthread_mutex_destroy(&call.lock);
}

static void raise_irq(void *arg, unsigned pin)
{
	struct fake_driver *drv = arg;

	(void)pin;
	(void)pthread_mutex_lock(&drv->lock);
	drv->irqs++;
	(void)pthread_cond_broadcast(&drv->irq_cond);
	(void)pthread_mutex_unlock(&drv->lock);
}

static void do_bind(void *arg)
{
	struct fake_driver *drv = arg;

	memset(drv->page, 0, sizeof(drv->page));
	need(virtio_mmio_new(drv->dev, (struct irq_line){ .raise = raise_irq, .arg = drv, .pin = 5 }, drv->page,
			     &drv->mmio) == 0,
	     "virtio_mmio_new");
}

void fake_bind(struct fake_driver *drv, struct virtio_dev *dev)
{
	drv->dev = dev;
	fake_on_io(drv, do_bind, drv);
}

static void do_unbind(void *arg)
{
	struct fake_driver *drv = arg;

	virtio_mmio_free(drv->mmio);
	drv->mmio = NULL;
	drv->dev = NULL;
}

static void do_quit(void *arg)
{
	loop_quit(((struct fake_driver *)arg)->loop);
}

void fake_fini(struct fake_driver *drv)
{
	/* The loop ends first, as in the VMM: a line that a device still wants to log is then forgotten, not late. */
	fake_on_io(drv, do_quit, drv);
	(void)pthread_join(drv->io_thread, NULL);
	if (drv->mmio)
		do_unbind(drv);
	loop_free(drv->loop);
	guestmem_free(drv->gm);
	(void)pthread_cond_destroy(&drv->irq_cond);
	(void)pthread_mutex_destroy(&drv->lock);
}

uint32_t fake_get(struct fake_driver *drv, uint32_t offset)
{
	uint32_t value = 0;

	virtio_mmio_bus_ops.read(drv->mmio, offset, &value, sizeof(value));
	return le32toh(value);
}

void fake_set(struct fake_driver *drv, uint32_t offset, uint32_t value)
{
	value = htole32(value);
	virtio_mmio_bus_ops.write(drv->mmio, offset, &value, sizeof(value));
}

void fake_config(struct fake_driver *drv, uint32_t offset, void *data, unsigned len)
{
	memset(data, 0, len);
	for (unsigned i = 0; i < len; i++)
		virtio_mmio_bus_ops.read(drv->mmio, VIRTIO_MMIO_CONFIG + offset + i, (uint8_t *)data + i, 1);
}

gpa_t fake_alloc(struct fake_driver *drv, uint64_t len)
{
	gpa_t gpa = drv->heap;

	need(len <= drv->mem_bytes && gpa <= drv->mem_bytes - len, "fake_alloc");
	drv->heap = (gpa + len + 15) & ~15ULL;
	memset(fake_ptr(drv, gpa), 0, len);
	return gpa;
}

void *fake_ptr(struct fake_driver *drv, gpa_t gpa)
{
	void *hva = NULL;

	need(guestmem_slice(drv->gm, gpa, 1, &hva) == 0, "guestmem_slice");
	return hva;
}

int fake_negotiate(struct fake_driver *drv, uint64_t features)
{
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
	uint64_t offered;

	fake_set(drv, VIRTIO_MMIO_STATUS, 0);
	if (fake_get(drv, VIRTIO_MMIO_STATUS) != 0)
		return -EPROTO;
	fake_set(drv, VIRTIO_MMIO_STATUS, status);
	fake_set(drv, VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_DRIVER);
	fake_set(drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	offered = fake_get(drv, VIRTIO_MMIO_DEVICE_FEATURES);
	fake_set(drv, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	offered |= (uint64_t)fake_get(drv, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	drv->features = offered & (features | 1ULL << VIRTIO_F_VERSION_1);
	fake_set(drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	fake_set(drv, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)drv->features);
	fake_set(drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	fake_set(drv, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(drv->features >> 32));
	fake_set(drv, VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	return fake_get(drv, VIRTIO_MMIO_STATUS) == status ? 0 : -EPROTO;
}

static void queue_setup(struct fake_driver *drv, unsigned index, uint16_t queue_size)
{
	struct fake_queue *q = &drv->queues[index];
	uint32_t max;

	*q = (struct fake_queue){ .drv = drv, .index = index };
	fake_set(drv, VIRTIO_MMIO_QUEUE_SEL, index);
	max = fake_get(drv, VIRTIO_MMIO_QUEUE_NUM_MAX);
	need(max <= VQ_SIZE_MAX, "QueueNumMax");
	if (!max)
		return;
	q->size = queue_size && queue_size < max ? queue_size : (uint16_t)max;
	q->desc_gpa = fake_alloc(drv, sizeof(struct vring_desc) * q->size);
	q->avail_gpa = fake_alloc(drv, 6U + 2U * q->size);
	q->used_gpa = fake_alloc(drv, 6U + 8U * q->size);
	q->desc = fake_ptr(drv, q->desc_gpa);
	q->avail = fake_ptr(drv, q->avail_gpa);
	q->used = fake_ptr(drv, q->used_gpa);
	for (uint16_t i = 0; i < q->size; i++)
		q->free[q->nfree++] = (uint16_t)(q->size - 1 - i);
	fake_set(drv, VIRTIO_MMIO_QUEUE_NUM, q->size);
	fake_set(drv, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q->desc_gpa);
	fake_set(drv, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(q->desc_gpa >> 32));
	fake_set(drv, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q->avail_gpa);
	fake_set(drv, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(q->avail_gpa >> 32));
	fake_set(drv, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q->used_gpa);
	fake_set(drv, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(q->used_gpa >> 32));
	fake_set(drv, VIRTIO_MMIO_QUEUE_READY, 1);
}

int fake_probe(struct fake_driver *drv, uint64_t features, uint16_t queue_size)
{
	uint32_t status;
	int err = fake_negotiate(drv, features);

	if (err)
		return err;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		queue_setup(drv, i, queue_size);
	status = fake_get(drv, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK;
	fake_set(drv, VIRTIO_MMIO_STATUS, status);
	return fake_get(drv, VIRTIO_MMIO_STATUS) == status ? 0 : -EPROTO;
}

static void desc_set(struct vring_desc *desc, const struct fake_buf *buf, unsigned flags, unsigned next)
{
	desc->addr = htole64(buf->gpa);
	desc->len = htole32(buf->len);
	desc->flags = htole16((uint16_t)(flags | (buf->write ? VRING_DESC_F_WRITE : 0)));
	desc->next = htole16((uint16_t)next);
}

/* An indirect table in fresh guest memory for bufs, as the buffer that an INDIRECT descriptor describes. */
static struct fake_buf table_new(struct fake_driver *drv, const struct fake_buf *bufs, unsigned n)
{
	uint32_t len = n * (uint32_t)sizeof(struct vring_desc);
	gpa_t gpa = fake_alloc(drv, len);
	struct vring_desc *table = fake_ptr(drv, gpa);

	for (unsigned i = 0; i < n; i++)
		desc_set(&table[i], &bufs[i], i + 1 < n ? VRING_DESC_F_NEXT : 0, i + 1);
	return (struct fake_buf){ .gpa = gpa, .len = len };
}

int fake_add(struct fake_queue *q, const struct fake_buf *bufs, unsigned n, enum fake_add_flags flags)
{
	unsigned direct = flags == FAKE_DIRECT ? n : flags == FAKE_MIXED && n > 1 ? 2 : 1;
	uint16_t head, at;

	if (direct > q->nfree)
		return -1;
	head = at = q->free[--q->nfree];
	q->chain_len[head] = (uint16_t)direct;
	for (unsigned i = 0; i < direct; i++) {
		bool last = i + 1 == direct;
		uint16_t next = last ? 0 : q->free[--q->nfree];

		if (last && flags != FAKE_DIRECT) {
			struct fake_buf table = table_new(q->drv, bufs + i, n - i);

			desc_set(&q->desc[at], &table, VRING_DESC_F_INDIRECT, 0);
		} else {
			desc_set(&q->desc[at], &bufs[i], last ? 0 : VRING_DESC_F_NEXT, next);
		}
		q->chain_next[at] = next;
		at = next;
	}
	fake_make_available(q, head);
	return head;
}

void fake_make_available(struct fake_queue *q, uint16_t head)
{
	__atomic_store_n(&q->avail->ring[q->avail_idx & (q->size - 1U)], htole16(head), __ATOMIC_RELAXED);
	q->avail_idx++;
	__atomic_store_n(&q->avail->idx, htole16(q->avail_idx), __ATOMIC_RELEASE);
}

bool fake_kick(struct fake_queue *q)
{
	const uint16_t *avail_event = (const uint16_t *)(const void *)&q->used->ring[q->size];
	uint16_t old = q->kicked_idx;
	bool wanted;

	q->kicked_idx = q->avail_idx;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->drv->features & 1ULL << VIRTIO_RING_F_EVENT_IDX)
		wanted = vring_need_event(le16toh(__atomic_load_n(avail_event, __ATOMIC_ACQUIRE)), q->avail_idx, old);
	else
		wanted = !(le16toh(__atomic_load_n(&q->used->flags, __ATOMIC_ACQUIRE)) & VRING_USED_F_NO_NOTIFY);
	if (wanted)
		fake_set(q->drv, VIRTIO_MMIO_QUEUE_NOTIFY, q->index);
	return wanted;
}

static void give_back(struct fake_queue *q, uint16_t head)
{
	uint16_t at = head;

	if (head >= q->size)
		return; /* the test looks at heads itself */
	for (unsigned n = q->chain_len[head]; n > 0; n--) {
		q->free[q->nfree++] = at;
		at = q->chain_next[at];
	}
	q->chain_len[head] = 0;
}

bool fake_used(struct fake_queue *q, uint16_t *ret_head, uint32_t *ret_len)
{
	const struct vring_used_elem *elem;

	if (le16toh(__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE)) == q->used_seen)
		return false;
	elem = &q->used->ring[q->used_seen & (q->size - 1U)];
	*ret_head = (uint16_t)le32toh(elem->id);
	*ret_len = le32toh(elem->len);
	q->used_seen++;
	give_back(q, *ret_head);
	return true;
}

unsigned fake_irqs(struct fake_driver *drv)
{
	unsigned irqs;

	(void)pthread_mutex_lock(&drv->lock);
	irqs = drv->irqs;
	(void)pthread_mutex_unlock(&drv->lock);
	return irqs;
}

bool fake_wait_irqs(struct fake_driver *drv, unsigned seen)
{
	struct timespec until;
	bool more;
	int err = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += FAKE_WAIT_MS / 1000;
	(void)pthread_mutex_lock(&drv->lock);
	while (drv->irqs == seen && !err)
		err = pthread_cond_timedwait(&drv->irq_cond, &drv->lock, &until);
	more = drv->irqs != seen;
	(void)pthread_mutex_unlock(&drv->lock);
	return more;
}

bool fake_wait_used(struct fake_queue *q, uint16_t *ret_head, uint32_t *ret_len)
{
	struct fake_driver *drv = q->drv;

	for (;;) {
		unsigned seen = fake_irqs(drv);

		/* as a driver does: acknowledge, ask for the next interrupt, look again, only then sleep */
		fake_set(drv, VIRTIO_MMIO_INTERRUPT_ACK, fake_get(drv, VIRTIO_MMIO_INTERRUPT_STATUS));
		__atomic_store_n(&q->avail->ring[q->size], htole16(q->used_seen), __ATOMIC_RELEASE);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (fake_used(q, ret_head, ret_len))
			return true;
		if (!fake_wait_irqs(drv, seen))
			return false;
	}
}

uint32_t fake_do(struct fake_queue *q, const struct fake_buf *bufs, unsigned n, enum fake_add_flags flags)
{
	int head = fake_add(q, bufs, n, flags);
	uint16_t used_head;
	uint32_t len;

	need(head >= 0, "fake_add");
	(void)fake_kick(q);
	need(fake_wait_used(q, &used_head, &len) && used_head == head, "waiting for a used buffer");
	return len;
}

bool fake_needs_reset(struct fake_driver *drv)
{
	return fake_get(drv, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

struct replace {
	struct fake_driver *drv;
	struct virtio_dev *dev;
	const struct state_writer *state;
	int err;
};

void fake_save(struct fake_driver *drv, struct state_writer *ret_state)
{
	*ret_state = (struct state_writer){ 0 };
	virtio_mmio_pause(drv->mmio);
	virtio_mmio_save(drv->mmio, ret_state);
	need(!ret_state->failed, "virtio_mmio_save");
}

static void do_restore(void *arg)
{
	struct replace *rep = arg;
	struct state_reader reader = { .pos = rep->state->data, .end = rep->state->data + rep->state->len };

	do_unbind(rep->drv);
	rep->drv->dev = rep->dev;
	do_bind(rep->drv);
	rep->err = virtio_mmio_restore(rep->drv->mmio, &reader);
	if (!rep->err && reader.pos != reader.end)
		rep->err = -E2BIG;
	virtio_mmio_resend(rep->drv->mmio);
}

int fake_restore(struct fake_driver *drv, struct virtio_dev *dev, const struct state_writer *state)
{
	struct replace rep = { .drv = drv, .dev = dev, .state = state };

	fake_on_io(drv, do_restore, &rep);
	return rep.err;
}

int fake_replace(struct fake_driver *drv, struct virtio_dev *dev)
{
	struct state_writer state;
	int err;

	fake_save(drv, &state);
	err = fake_restore(drv, dev, &state);
	state_writer_free(&state);
	return err;
}
