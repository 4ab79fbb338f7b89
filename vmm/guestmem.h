/*
 * Guest physical memory.
 *
 * Purpose: the only place that turns guest addresses into pointers.
 * Trust:   every gpa and length comes from the guest and is hostile: each call checks the whole
 *          [gpa, gpa+len) for overflow and for lying in ONE region; -EFAULT otherwise.
 *          Bytes behind a slice change under the reader's eyes: copy, then validate, then use.
 * Ownership: guestmem_new() maps; regions live until guestmem_free(), after all threads that use it.
 * Thread:  any, once made.
 */
#ifndef VMM_GUESTMEM_H
#define VMM_GUESTMEM_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t;

#define GUESTMEM_REGIONS_MAX 2
#define GUESTMEM_PAGE        4096ULL

struct guestmem_region {
	gpa_t gpa;
	uint64_t size; /* bytes */
	uint8_t *hva;
	void *map; /* the reservation with both guards */
	size_t map_size;
};

struct guestmem {
	unsigned nregions;
	struct guestmem_region regions[GUESTMEM_REGIONS_MAX];
};

/*
 * Maps `bytes` of zeroed memory: [0, hole_start) and, for what exceeds it, from hole_end on.
 * PROT_NONE guard pages surround each region; MADV_DONTDUMP. Returns 0, -EINVAL, -ENOMEM.
 */
int guestmem_new(uint64_t bytes, gpa_t hole_start, gpa_t hole_end, struct guestmem **ret_gm);
void guestmem_free(struct guestmem *gm);

int guestmem_read(const struct guestmem *gm, gpa_t gpa, void *dst, size_t len);
int guestmem_write(const struct guestmem *gm, gpa_t gpa, const void *src, size_t len);
int guestmem_slice(const struct guestmem *gm, gpa_t gpa, size_t len, void **ret_hva);

/*
 * Puts a file's bytes where memory was, both from a page's start: pages that the page cache has, until the guest writes to one and
 * gets a copy of its own; the file never changes. For a file of pages of that size, which nobody cuts or writes into: what is
 * beyond its end later is SIGBUS. Before the guest runs. Returns 0, -EFAULT, -EINVAL, -ENODATA (cut short) or what mmap(2) returns.
 */
int guestmem_map(const struct guestmem *gm, gpa_t gpa, size_t len, int fd, uint64_t offset);

#endif
