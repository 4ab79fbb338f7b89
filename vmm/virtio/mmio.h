/*
 * virtio-mmio version 2 transport (virtio 1.2 §4.2): registers, status machine, interrupts.
 *
 * Trust:   every register write is hostile: wrong widths ignored, unoffered features masked (and
 *          FEATURES_OK refused), FAILED sticky until reset, queue registers ignored once DRIVER_OK.
 * Thread:  register access on vCPU threads under the device's lock.
 */
#ifndef VMM_VIRTIO_MMIO_H
#define VMM_VIRTIO_MMIO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus.h"
#include "virtio/virtio.h"

#define VIRTIO_MMIO_SIZE 0x1000

/* How an interrupt reaches the guest: an edge on the device's pin. Callable from any thread. */
struct irq_line {
	void (*raise)(void *arg, unsigned pin);
	void *arg;
	unsigned pin;
};

struct virtio_mmio {
	struct virtio_dev *dev;
	struct irq_line irq;
	uint32_t status;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	uint32_t config_generation;
	atomic_uint interrupt_status;
	struct loop_source kick_sources[VIRTIO_QUEUES_MAX];
};

extern const struct bus_ops virtio_mmio_bus_ops; /* dev = struct virtio_mmio * */

/* Binds dev; makes its kick eventfds (exposed in dev->kick_fds for ioeventfd) and, unless own_kicks, adds them to the loop. */
int virtio_mmio_new(struct virtio_dev *dev, struct irq_line irq, struct virtio_mmio **ret_mmio);
void virtio_mmio_free(struct virtio_mmio *mmio); /* frees the device too */

/* Called when the pin is unmasked: an edge is sent again if InterruptStatus is not 0. */
void virtio_mmio_resend(struct virtio_mmio *mmio);

void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *w);
int virtio_mmio_restore(struct virtio_mmio *mmio, struct state_reader *r); /* re-activates; -EINVAL */

#endif
