#include "virtio/mmio.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAGIC     0x74726976U /* "virt", virtio 1.2 §4.2.2 */
#define VERSION   2U
#define VENDOR_ID 0x4d564d01U /* ours */

#define STATUS_DRIVER_BITS                                                                                             \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                          \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

#define INTERRUPTS ((uint32_t)(VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG))

#define SAVE_VERSION 1U

static _Atomic uint32_t *word(struct virtio_mmio *mmio, uint64_t offset)
{
	return (_Atomic uint32_t *)(mmio->page + offset);
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t offset)
{
	const struct virtio_dev *dev = mmio->dev;
	const struct virtqueue *vq = mmio->queue_sel < dev->ops->nqueues ? &dev->queues[mmio->queue_sel] : NULL;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		if (mmio->device_features_sel > 1)
			return 0;
		return (uint32_t)(dev->features >> (32 * mmio->device_features_sel));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return vq ? vq->size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return vq ? vq->ready : 0;
	case VIRTIO_MMIO_STATUS:
		return mmio->status | (dev->broken ? VIRTIO_CONFIG_S_NEEDS_RESET : 0);
	case VIRTIO_MMIO_SHM_LEN_LOW: /* no shared memory regions: length and base read as -1 (§4.2.2) */
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return mmio->config_generation;
	default:
		return 0; /* never asked for */
	}
}

/* Brings the page up to date: the configuration first, then what says that it changed. (L) */
static void show(struct virtio_mmio *mmio)
{
	static const uint8_t readable[] = {
		VIRTIO_MMIO_MAGIC_VALUE,       VIRTIO_MMIO_VERSION,      VIRTIO_MMIO_DEVICE_ID,
		VIRTIO_MMIO_VENDOR_ID,         VIRTIO_MMIO_STATUS,       VIRTIO_MMIO_DEVICE_FEATURES,
		VIRTIO_MMIO_QUEUE_NUM_MAX,     VIRTIO_MMIO_QUEUE_READY,  VIRTIO_MMIO_SHM_LEN_LOW,
		VIRTIO_MMIO_SHM_LEN_HIGH,      VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_BASE_HIGH,
		VIRTIO_MMIO_CONFIG_GENERATION,
	};
	struct virtio_dev *dev = mmio->dev;

	if (dev->ops->config_size)
		dev->ops->config_read(dev, 0, mmio->page + VIRTIO_MMIO_CONFIG, dev->ops->config_size);
	for (size_t i = 0; i < sizeof(readable) / sizeof(readable[0]); i++)
		atomic_store(word(mmio, readable[i]), htole32(read_register(mmio, readable[i])));
}

static void interrupt(struct virtio_mmio *mmio, uint32_t bit)
{
	/*
	 * The bit first, then an edge, and an edge even when the bit was set: the driver may have read
	 * the old status before this bit and acknowledge it after, and one edge too many costs nothing.
	 */
	(void)atomic_fetch_or(word(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), htole32(bit));
	mmio->irq.raise(mmio->irq.arg, mmio->irq.pin);
}

static void notify_used(struct virtio_dev *dev)
{
	counters_add(&dev->counted->interrupts, 1);
	interrupt(dev->transport, VIRTIO_MMIO_INT_VRING);
}

static void notify_config(struct virtio_dev *dev)
{
	struct virtio_mmio *mmio = dev->transport;

	mmio->config_generation++;
	show(mmio);
	/* §2.1.2, §3.1.1: no notification before DRIVER_OK; the driver reads configuration and status then anyway */
	if (!(mmio->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	counters_add(&dev->counted->interrupts, 1);
	interrupt(mmio, VIRTIO_MMIO_INT_CONFIG);
}

/* InterruptStatus, by the bits that are its own. */
static uint32_t interrupts_due(struct virtio_mmio *mmio)
{
	return le32toh(atomic_load(word(mmio, VIRTIO_MMIO_INTERRUPT_STATUS))) & INTERRUPTS;
}

void virtio_mmio_resend(struct virtio_mmio *mmio)
{
	if (interrupts_due(mmio))
		mmio->irq.raise(mmio->irq.arg, mmio->irq.pin);
}

/* A kick that the I/O thread serves. */
static void on_kick(struct loop_source *source, uint32_t events)
{
	struct mmio_kick *kick = (struct mmio_kick *)source;
	struct virtio_dev *dev = kick->mmio->dev;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(source->fd, &count); /* EAGAIN: nothing lost, the queue is looked at all the same */
	(void)pthread_mutex_lock(&dev->lock);
	counters_add(&dev->counted->kicks, 1);
	if (dev->live)
		dev->ops->kick(dev, kick->queue);
	(void)pthread_mutex_unlock(&dev->lock);
}

static int kicks_new(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;

	for (unsigned q = 0; q < dev->ops->nqueues; q++) {
		struct mmio_kick *kick = &mmio->kicks[q];
		int err;

		if (dev->kick_fds[q] < 0) {
			dev->kick_fds[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			if (dev->kick_fds[q] < 0)
				return -errno;
		}
		if (dev->ops->own_kicks || !dev->loop)
			continue;
		*kick = (struct mmio_kick){
			.source = { .fd = dev->kick_fds[q], .events = EPOLLIN, .on_event = on_kick },
			.mmio = mmio,
			.queue = q
		};
		err = loop_add(dev->loop, &kick->source);
		if (err)
			return err;
	}
	return 0;
}

static void kicks_free(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;

	for (unsigned q = 0; q < dev->ops->nqueues; q++)
		if (mmio->kicks[q].source.registered)
			loop_remove(dev->loop, &mmio->kicks[q].source);
}

int virtio_mmio_new(struct virtio_dev *dev, struct irq_line irq, void *page, struct virtio_mmio **ret_mmio)
{
	struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));
	int err;

	if (!mmio)
		return -ENOMEM;
	mmio->dev = dev;
	mmio->irq = irq;
	mmio->page = page;
	err = kicks_new(mmio);
	if (err) {
		kicks_free(mmio);
		free(mmio);
		return err; /* the device stays its maker's */
	}
	dev->transport = mmio;
	dev->notify_used = notify_used;
	dev->notify_config = notify_config;
	show(mmio);
	*ret_mmio = mmio;
	return 0;
}

void virtio_mmio_free(struct virtio_mmio *mmio)
{
	if (!mmio)
		return;
	kicks_free(mmio);
	mmio->dev->ops->free(mmio->dev);
	free(mmio);
}

/* §2.4, §4.2.2.1: everything as at power-on. The driver sees Status 0 when no request is in flight any more. */
static void reset(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;

	dev->live = false;
	mmio->resetting = true;
	dev->ops->reset(dev);
	mmio->resetting = false;
	for (unsigned q = 0; q < dev->ops->nqueues; q++)
		vq_reset(&dev->queues[q]);
	dev->broken = false;
	dev->acked = 0;
	mmio->driver_features = 0;
	mmio->device_features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
	atomic_store(word(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	mmio->status = 0;
}

static bool features_acceptable(const struct virtio_mmio *mmio)
{
	/* §2.2.1: nothing that was not offered; §6.1: a driver without VERSION_1 is a legacy one */
	return !(mmio->driver_features & ~mmio->dev->features) && (mmio->driver_features & 1ULL << VIRTIO_F_VERSION_1);
}

static int start_queues(struct virtio_dev *dev)
{
	bool event_idx = dev->acked & 1ULL << VIRTIO_RING_F_EVENT_IDX;
	bool indirect = dev->acked & 1ULL << VIRTIO_RING_F_INDIRECT_DESC;

	for (unsigned q = 0; q < dev->ops->nqueues; q++) {
		int err;

		if (!dev->queues[q].ready)
			continue;
		err = vq_start(&dev->queues[q], dev->gm, event_idx, indirect);
		if (err)
			return err;
	}
	return 0;
}

/* DRIVER_OK: from here on the queues' configuration never changes until a reset. */
static void go_live(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;

	mmio->status |= VIRTIO_CONFIG_S_DRIVER_OK;
	if (start_queues(dev)) {
		virtio_dev_broken(dev, "the driver configured a queue outside the rules");
		return;
	}
	dev->live = true;
	if (dev->ops->activate(dev))
		virtio_dev_broken(dev, "it could not be started");
}

/*
 * The status machine (§3.1.1). A driver only ever adds bits (§2.1.1), each after its forerunner; what
 * breaks the order is ignored. After FAILED only a reset counts.
 */
static void write_status(struct virtio_mmio *mmio, uint32_t value)
{
	struct virtio_dev *dev = mmio->dev;
	uint32_t added = value & STATUS_DRIVER_BITS & ~mmio->status;

	if (value == 0) {
		reset(mmio);
		return;
	}
	if ((mmio->status & VIRTIO_CONFIG_S_FAILED) || (value & mmio->status) != mmio->status)
		return;
	if (added & VIRTIO_CONFIG_S_FAILED) {
		mmio->status |= VIRTIO_CONFIG_S_FAILED;
		dev->live = false;
		return;
	}
	if (added & VIRTIO_CONFIG_S_ACKNOWLEDGE)
		mmio->status |= VIRTIO_CONFIG_S_ACKNOWLEDGE;
	if ((added & VIRTIO_CONFIG_S_DRIVER) && (mmio->status & VIRTIO_CONFIG_S_ACKNOWLEDGE))
		mmio->status |= VIRTIO_CONFIG_S_DRIVER;
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && (mmio->status & VIRTIO_CONFIG_S_DRIVER) &&
	    features_acceptable(mmio)) {
		dev->acked = mmio->driver_features;
		mmio->status |= VIRTIO_CONFIG_S_FEATURES_OK;
	}
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) && (mmio->status & VIRTIO_CONFIG_S_FEATURES_OK))
		go_live(mmio);
}

static void set_low(uint64_t *v, uint32_t low)
{
	*v = (*v & ~0xffffffffULL) | low;
}

static void set_high(uint64_t *v, uint32_t high)
{
	*v = (*v & 0xffffffffULL) | (uint64_t)high << 32;
}

/* Queue registers: writable between FEATURES_OK and DRIVER_OK, the addresses and the size only while the queue is not ready. */
static void write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtqueue *vq;

	if (mmio->queue_sel >= mmio->dev->ops->nqueues || mmio->dev->broken ||
	    (mmio->status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)) !=
		    VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	vq = &mmio->dev->queues[mmio->queue_sel];
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		vq->ready = (value & 1) && vq->size;
		return;
	}
	if (vq->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		/* §2.7: a power of two; 0 makes the queue one that cannot get ready */
		vq->size = value <= vq->size_max && !(value & (value - 1)) ? (uint16_t)value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		set_low(&vq->desc_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_high(&vq->desc_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		set_low(&vq->avail_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_high(&vq->avail_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		set_low(&vq->used_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_high(&vq->used_gpa, value);
		break;
	default:
		break; /* read-only and unknown registers: writes have no effect (§4.2.2.1) */
	}
}

static void write_features(struct virtio_mmio *mmio, uint32_t value)
{
	/* §3.1.1: between DRIVER and FEATURES_OK, and never after */
	if (!(mmio->status & VIRTIO_CONFIG_S_DRIVER) ||
	    (mmio->status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)))
		return;
	if (mmio->driver_features_sel == 0)
		set_low(&mmio->driver_features, value);
	else if (mmio->driver_features_sel == 1)
		set_high(&mmio->driver_features, value);
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_features(mmio, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		/* in the VMM KVM signals the eventfd and nobody gets here */
		if (value < mmio->dev->ops->nqueues && mmio->dev->live)
			(void)eventfd_write(mmio->dev->kick_fds[value], 1);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(mmio, value);
		break;
	default:
		write_queue(mmio, offset, value);
	}
}

/* Whether [offset, offset+len) lies in the device's configuration, whose first byte is at 0. */
static bool in_config(const struct virtio_dev *dev, uint64_t offset, unsigned len)
{
	return offset <= dev->ops->config_size && len <= dev->ops->config_size - offset;
}

/* What the guest's own eyes see, for a read that KVM does not serve itself; the bus lets none cross the page's end. */
static void mmio_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	struct virtio_mmio *mmio = opaque;
	uint32_t value;

	if (len != sizeof(value) || offset % sizeof(value)) {
		memcpy(data, mmio->page + offset, len);
		return;
	}
	value = atomic_load(word(mmio, offset));
	memcpy(data, &value, sizeof(value));
}

static void mmio_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct virtio_mmio *mmio = opaque;
	struct virtio_dev *dev = mmio->dev;
	uint32_t value;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		(void)pthread_mutex_lock(&dev->lock);
		if (dev->ops->config_write && !mmio->resetting && in_config(dev, offset - VIRTIO_MMIO_CONFIG, len)) {
			dev->ops->config_write(dev, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), data, len);
			show(mmio);
		}
		(void)pthread_mutex_unlock(&dev->lock);
		return;
	}
	if (len != 4 || offset % 4)
		return;
	memcpy(&value, data, sizeof(value));
	value = le32toh(value);
	if (offset == VIRTIO_MMIO_INTERRUPT_ACK) {
		(void)atomic_fetch_and(word(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), htole32(~value));
		return;
	}
	(void)pthread_mutex_lock(&dev->lock);
	/* A reset drops the lock while it waits for the device; another vCPU's writes must not build on what is being torn down. */
	if (!mmio->resetting) {
		write_register(mmio, offset, value);
		show(mmio);
	}
	(void)pthread_mutex_unlock(&dev->lock);
}

const struct bus_ops virtio_mmio_bus_ops = { .read = mmio_read, .write = mmio_write };

/* Looks at every queue again: buffers may have come while nobody was to touch them. */
static void kick_all(struct virtio_dev *dev)
{
	for (unsigned q = 0; q < dev->ops->nqueues; q++)
		if (dev->queues[q].avail)
			(void)eventfd_write(dev->kick_fds[q], 1);
}

void virtio_mmio_pause(struct virtio_mmio *mmio)
{
	(void)pthread_mutex_lock(&mmio->dev->lock);
	mmio->dev->live = false;
	mmio->dev->paused = true;
	(void)pthread_mutex_unlock(&mmio->dev->lock);
}

void virtio_mmio_resume(struct virtio_mmio *mmio)
{
	struct virtio_dev *dev = mmio->dev;
	uint32_t running = VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED;

	(void)pthread_mutex_lock(&dev->lock);
	dev->paused = false;
	dev->live = (mmio->status & running) == VIRTIO_CONFIG_S_DRIVER_OK && !dev->broken;
	if (dev->live)
		for (unsigned q = 0; q < dev->ops->nqueues; q++)
			dev->ops->kick(dev, q);
	(void)pthread_mutex_unlock(&dev->lock);
}

void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *w)
{
	struct virtio_dev *dev = mmio->dev;

	(void)pthread_mutex_lock(&dev->lock);
	state_put_u16(w, SAVE_VERSION);
	state_put_u16(w, dev->ops->nqueues);
	state_put_u32(w, dev->ops->device_id);
	state_put_u32(w, mmio->status);
	state_put_u32(w, dev->broken);
	state_put_u32(w, mmio->device_features_sel);
	state_put_u32(w, mmio->driver_features_sel);
	state_put_u32(w, mmio->queue_sel);
	state_put_u32(w, mmio->config_generation);
	state_put_u32(w, interrupts_due(mmio));
	state_put_u64(w, mmio->driver_features);
	for (unsigned q = 0; q < dev->ops->nqueues; q++)
		vq_save(&dev->queues[q], w);
	dev->ops->save(dev, w);
	(void)pthread_mutex_unlock(&dev->lock);
}

/* Whether a status could have been reached by write_status(). */
static bool status_sound(uint32_t status)
{
	uint32_t steps = status & ~(uint32_t)VIRTIO_CONFIG_S_FAILED;

	return steps == 0 || steps == VIRTIO_CONFIG_S_ACKNOWLEDGE ||
	       steps == (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER) ||
	       steps == (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK) ||
	       steps == (STATUS_DRIVER_BITS & ~(uint32_t)VIRTIO_CONFIG_S_FAILED);
}

static int restore_registers(struct virtio_mmio *mmio, struct state_reader *r)
{
	struct virtio_dev *dev = mmio->dev;
	uint16_t version = state_get_u16(r);
	uint16_t nqueues = state_get_u16(r);
	uint32_t device_id = state_get_u32(r);
	uint32_t broken, interrupts;

	if (!state_ok(r) || version != SAVE_VERSION || nqueues != dev->ops->nqueues || device_id != dev->ops->device_id)
		return -EINVAL;
	mmio->status = state_get_u32(r);
	broken = state_get_u32(r);
	mmio->device_features_sel = state_get_u32(r);
	mmio->driver_features_sel = state_get_u32(r);
	mmio->queue_sel = state_get_u32(r);
	mmio->config_generation = state_get_u32(r);
	interrupts = state_get_u32(r);
	mmio->driver_features = state_get_u64(r);
	if (!state_ok(r) || !status_sound(mmio->status) || broken > 1 || (interrupts & ~INTERRUPTS))
		return -EINVAL;
	atomic_store(word(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), htole32(interrupts));
	dev->broken = broken;
	if (broken)
		dev->broken_reason = "it was broken before the snapshot";
	if (mmio->status & VIRTIO_CONFIG_S_FEATURES_OK) {
		/* a clone may offer more than its original did, never less than the driver uses */
		if (!features_acceptable(mmio))
			return -EINVAL;
		dev->acked = mmio->driver_features;
	}
	return 0;
}

static int restore_device(struct virtio_mmio *mmio, struct state_reader *r)
{
	struct virtio_dev *dev = mmio->dev;
	uint32_t running = VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED;
	bool live = (mmio->status & running) == VIRTIO_CONFIG_S_DRIVER_OK && !dev->broken;
	int err;

	for (unsigned q = 0; q < dev->ops->nqueues; q++) {
		err = vq_restore(&dev->queues[q], r);
		if (err)
			return err;
		if (dev->queues[q].ready && !(mmio->status & VIRTIO_CONFIG_S_FEATURES_OK))
			return -EINVAL;
	}
	if (live && start_queues(dev))
		return -EINVAL;
	err = dev->ops->restore(dev, r);
	if (err || !state_ok(r))
		return -EINVAL;
	if (!live)
		return 0;
	dev->live = true;
	if (dev->ops->activate(dev)) {
		dev->live = false;
		return -EINVAL;
	}
	kick_all(dev);
	return 0;
}

int virtio_mmio_restore(struct virtio_mmio *mmio, struct state_reader *r)
{
	int err;

	(void)pthread_mutex_lock(&mmio->dev->lock);
	err = restore_registers(mmio, r);
	if (!err)
		err = restore_device(mmio, r);
	show(mmio);
	(void)pthread_mutex_unlock(&mmio->dev->lock);
	return err;
}
