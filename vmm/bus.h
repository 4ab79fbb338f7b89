/*
 * The MMIO bus: guest-physical ranges to device handlers.
 *
 * Trust:   address, width and data come from the guest. The bus guarantees that an access lies
 *          wholly inside one range; handlers check width and register.
 * Ownership: ranges are added before vCPUs run and never removed; dev pointers outlive the bus.
 * Thread:  bus_read/bus_write on vCPU threads, concurrently: handlers lock for themselves.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stddef.h>
#include <stdint.h>

#include "guestmem.h"

#define BUS_RANGES_MAX 64

struct bus_ops {
	void (*read)(void *dev, uint64_t offset, void *data, unsigned len); /* data is zeroed */
	void (*write)(void *dev, uint64_t offset, const void *data, unsigned len); /* len 1, 2, 4, 8 */
};

struct bus_range {
	gpa_t base;
	uint64_t size;
	const struct bus_ops *ops;
	void *dev;
};

struct bus {
	unsigned nranges;
	struct bus_range ranges[BUS_RANGES_MAX]; /* sorted by base */
};

int bus_add(struct bus *bus, gpa_t base, uint64_t size, const struct bus_ops *ops,
	    void *dev); /* -EEXIST overlap, -ENOSPC */
void bus_read(const struct bus *bus, gpa_t gpa, void *data, unsigned len); /* unclaimed: all ones */
void bus_write(const struct bus *bus, gpa_t gpa, const void *data, unsigned len);

#endif
