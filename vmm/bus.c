#include "bus.h"

#include <errno.h>
#include <string.h>

int bus_add(struct bus *bus, gpa_t base, uint64_t size, const struct bus_ops *ops, void *dev)
{
	unsigned at = 0;

	if (bus->nranges == BUS_RANGES_MAX)
		return -ENOSPC;
	while (at < bus->nranges && bus->ranges[at].base < base)
		at++;
	if (at > 0 && bus->ranges[at - 1].base + bus->ranges[at - 1].size > base)
		return -EEXIST;
	if (at < bus->nranges && base + size > bus->ranges[at].base)
		return -EEXIST;
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->nranges - at) * sizeof(bus->ranges[0]));
	bus->ranges[at] = (struct bus_range){ .base = base, .size = size, .ops = ops, .dev = dev };
	bus->nranges++;
	return 0;
}

/* The range that holds all of [gpa, gpa+len), or NULL. */
static const struct bus_range *find(const struct bus *bus, gpa_t gpa, unsigned len)
{
	unsigned lo = 0, hi = bus->nranges;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct bus_range *range = &bus->ranges[mid];

		if (gpa < range->base)
			hi = mid;
		else if (gpa - range->base >= range->size)
			lo = mid + 1;
		else
			return len <= range->size - (gpa - range->base) ? range : NULL;
	}
	return NULL;
}

void bus_read(const struct bus *bus, gpa_t gpa, void *data, unsigned len)
{
	const struct bus_range *range = find(bus, gpa, len);

	if (!range) {
		memset(data, 0xff, len);
		return;
	}
	memset(data, 0, len);
	range->ops->read(range->dev, gpa - range->base, data, len);
}

void bus_write(const struct bus *bus, gpa_t gpa, const void *data, unsigned len)
{
	const struct bus_range *range = find(bus, gpa, len);

	if (range)
		range->ops->write(range->dev, gpa - range->base, data, len);
}
