/*
 * A small I/O APIC (Intel 82093AA register model), edge-triggered lines only.
 *
 * Purpose: with KVM_CAP_SPLIT_IRQCHIP the local APICs stay in KVM and this stays here: an edge on
 *          a pin becomes one KVM_SIGNAL_MSI. Measured against irqfd: a routing change costs KVM
 *          an SRCU grace period for each of the dozen redirection writes of a boot; this none.
 * Trust:   registers are written by a hostile guest; any value is storable, none harmful: the MSI
 *          that results reaches this VM's own local APICs alone.
 * Thread:  registers on vCPU threads; ioapic_raise() on any. Entries are single atomics.
 */
#ifndef VMM_X86_IOAPIC_H
#define VMM_X86_IOAPIC_H

#include "bus.h"

struct ioapic;

extern const struct bus_ops ioapic_bus_ops;

/* unmasked(arg, pin) is called on the vCPU thread that unmasked a pin: an edge may have been lost before. */
int ioapic_new(int vm_fd, unsigned pins, void (*unmasked)(void *arg, unsigned pin), void *arg,
	       struct ioapic **ret_ioapic);
void ioapic_free(struct ioapic *ioapic);
void ioapic_raise(struct ioapic *ioapic, unsigned pin);

#endif
