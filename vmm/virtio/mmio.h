/*
 * virtio-mmio version 2 transport (virtio 1.2 §4.2): registers, status machine, interrupts.
 *
 * A read is no exit: what registers and configuration read as stands in a page of the VMM's that the guest has as read-only
 * memory (KVM_MEM_READONLY), brought up to date by every write and every change. Only writes come here.
 *
 * Trust:   every register write is hostile: wrong widths ignored (a read may have any: it is memory), unoffered features masked (and
 *          FEATURES_OK refused), FAILED sticky until reset, queue registers ignored once DRIVER_OK.
 * Thread:  register access on vCPU threads under the device's lock, with the system calls of vcpu.h: so a
 *          device's config_read, config_write, activate and reset make no others.
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

struct virtio_mmio;

struct mmio_kick {
	struct loop_source source; /* first member */
	struct virtio_mmio *mmio;
	unsigned queue;
};

struct virtio_mmio {
	struct virtio_dev *dev;
	struct irq_line irq;
	uint32_t status; /* as the driver wrote it; DEVICE_NEEDS_RESET is added when it is read */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	uint32_t config_generation;
	bool resetting; /* a reset waits for requests in flight; everything written meanwhile is ignored */
	uint8_t *
		page; /* what the guest reads: written by show(), but for InterruptStatus, which is kept nowhere else */
	struct mmio_kick kicks[VIRTIO_QUEUES_MAX];
};

extern const struct bus_ops virtio_mmio_bus_ops; /* dev = struct virtio_mmio * */

/*
 * Binds dev; makes its kick eventfds (exposed in dev->kick_fds for ioeventfd) and, unless own_kicks, adds them to the loop (if dev
 * has one). `page`: VIRTIO_MMIO_SIZE bytes of zeroes, aligned for words, the caller's, there for longer than the transport. I/O thread,
 * or before it runs.
 */
int virtio_mmio_new(struct virtio_dev *dev, struct irq_line irq, void *page, struct virtio_mmio **ret_mmio);
void virtio_mmio_free(struct virtio_mmio *mmio); /* frees the device too */

/* Called when the pin is unmasked: an edge is sent again if InterruptStatus is not 0. */
void virtio_mmio_resend(struct virtio_mmio *mmio);

/*
 * Snapshots: pause, save, write guest memory, then resume or free. Between pause and resume the
 * device changes nothing in the rings, so that the state saved and the memory written agree. Not on vCPU threads,
 * and only once those were joined: one may be in the middle of a reset, waiting for a disk's requests.
 */
void virtio_mmio_pause(struct virtio_mmio *mmio);
void virtio_mmio_resume(struct virtio_mmio *mmio);
void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *w); /* paused */

/*
 * Into a device just made, before vCPUs run: re-activates it and kicks its queues. The caller raises
 * the interrupt again with virtio_mmio_resend() once interrupts work. 0, or -EINVAL for a state that
 * no sound device can have; free the device then.
 */
int virtio_mmio_restore(struct virtio_mmio *mmio, struct state_reader *r);

#endif
