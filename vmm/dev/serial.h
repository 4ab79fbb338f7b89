/*
 * A 16550A serial port, output only: the guest's console.
 *
 * Purpose: bytes go to a bounded ring that the I/O thread drains into the console descriptor; the
 *          last few KiB are kept for the report of a panic.
 * Trust:   registers are written by a hostile guest. A flood is bounded twice: by the ring and by a
 *          rate; what exceeds them is dropped and counted, never waited for.
 * Thread:  registers on vCPU threads, draining on the I/O thread; it locks for itself.
 */
#ifndef VMM_DEV_SERIAL_H
#define VMM_DEV_SERIAL_H

#include "bus.h"
#include "loop.h"
#include "mvm/counters.h"
#include "virtio/mmio.h"

struct serial;

extern const struct bus_ops serial_bus_ops;

/* out_fd -1: nothing but the last lines is kept. rate: bytes a second that reach it, 0: VMM_CONSOLE_RATE. */
int serial_new(int out_fd, uint64_t rate, struct irq_line irq, struct loop *loop, struct serial **ret_serial);
void serial_free(struct serial *serial);
void serial_count(struct serial *serial, struct counters_console *counters); /* from here on; borrowed */

void serial_resend(struct serial *serial); /* its pin was unmasked */
void serial_drain(struct serial *serial); /* I/O thread, at the end: what the ring still holds */
void serial_log_tail(struct serial *serial, unsigned lines); /* the console's last lines, as log lines */

#endif
