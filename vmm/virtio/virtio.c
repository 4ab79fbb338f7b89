#include "virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <unistd.h>

int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, const char *name, const struct guestmem *gm,
		    struct loop *loop)
{
	if (!ops->name || !ops->activate || !ops->reset || !ops->kick || !ops->save || !ops->restore || !ops->free)
		return -EINVAL;
	if (ops->config_size && (!ops->config_read || ops->config_size > VIRTIO_CONFIG_MAX))
		return -EINVAL;
	if (ops->nqueues == 0 || ops->nqueues > VIRTIO_QUEUES_MAX)
		return -EINVAL;
	if (ops->queue_size == 0 || ops->queue_size > VQ_SIZE_MAX || (ops->queue_size & (ops->queue_size - 1)))
		return -EINVAL;
	*dev = (struct virtio_dev){ .ops = ops, .gm = gm, .loop = loop };
	dev->counted = &dev->uncounted;
	(void)snprintf(dev->name, sizeof(dev->name), "%s", name);
	dev->features =
		1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		dev->queues[q].size_max = q < ops->nqueues ? ops->queue_size : 0;
		dev->kick_fds[q] = -1;
	}
	return -pthread_mutex_init(&dev->lock, NULL);
}

void virtio_dev_fini(struct virtio_dev *dev)
{
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		if (dev->kick_fds[q] >= 0)
			(void)close(dev->kick_fds[q]);
	(void)pthread_mutex_destroy(&dev->lock);
}

void virtio_dev_used(struct virtio_dev *dev, unsigned q)
{
	if (vq_wants_interrupt(&dev->queues[q]) && dev->notify_used)
		dev->notify_used(dev);
}

static void report_broken(void *arg)
{
	struct virtio_dev *dev = arg;

	(void)pthread_mutex_lock(&dev->lock);
	dev->report_pending = false;
	if (log_allowed(&dev->log_limit, dev->name))
		log_warn("%s: stopped until the guest resets it: %s", dev->name, dev->broken_reason);
	(void)pthread_mutex_unlock(&dev->lock);
}

void virtio_dev_broken(struct virtio_dev *dev, const char *reason)
{
	if (dev->broken)
		return;
	dev->broken = true;
	dev->live = false;
	dev->broken_reason = reason;
	/* One line waiting per device, so that a guest cannot fill the loop's mailbox by resetting and breaking. */
	if (dev->loop && !dev->report_pending)
		dev->report_pending = loop_post(dev->loop, report_broken, dev) == 0;
	/* virtio 1.2 §2.1.2: DEVICE_NEEDS_RESET comes with a configuration change notification */
	if (dev->notify_config)
		dev->notify_config(dev);
}
