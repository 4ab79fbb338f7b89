#include "guestmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define GUARD_SIZE (2UL << 20) /* also aligns the region for transparent huge pages */

static int region_map(struct guestmem_region *region, gpa_t gpa, uint64_t size)
{
	uint64_t span;
	uint8_t *base, *aligned;

	if (__builtin_add_overflow(size, 3 * GUARD_SIZE, &span) || span > SIZE_MAX)
		return -ENOMEM;
	/* One reservation holds both guards, so nothing else can ever be mapped next to guest memory. */
	base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	aligned = (uint8_t *)(((uintptr_t)base + 2 * GUARD_SIZE - 1) & ~(GUARD_SIZE - 1));
	if (mmap(aligned, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		 0) == MAP_FAILED) {
		int err = -errno;

		(void)munmap(base, span);
		return err;
	}
	/* Guest memory is never part of a core dump, whatever the limits say. */
	if (madvise(aligned, size, MADV_DONTDUMP) < 0) {
		int err = -errno;

		(void)munmap(base, span);
		return err;
	}
	*region = (struct guestmem_region){ .gpa = gpa, .size = size, .hva = aligned, .map = base, .map_size = span };
	return 0;
}

int guestmem_new(uint64_t bytes, gpa_t hole_start, gpa_t hole_end, struct guestmem **ret_gm)
{
	uint64_t low = bytes < hole_start ? bytes : hole_start;
	struct guestmem *gm;
	int err;

	if (bytes == 0 || bytes % GUESTMEM_PAGE || hole_start % GUESTMEM_PAGE || hole_end < hole_start ||
	    hole_start == 0)
		return -EINVAL;
	gm = calloc(1, sizeof(*gm));
	if (!gm)
		return -ENOMEM;
	err = region_map(&gm->regions[0], 0, low);
	if (!err) {
		gm->nregions = 1;
		if (bytes > low) {
			err = region_map(&gm->regions[1], hole_end, bytes - low);
			if (!err)
				gm->nregions = 2;
		}
	}
	if (err) {
		guestmem_free(gm);
		return err;
	}
	*ret_gm = gm;
	return 0;
}

void guestmem_free(struct guestmem *gm)
{
	if (!gm)
		return;
	for (unsigned i = 0; i < gm->nregions; i++)
		(void)munmap(gm->regions[i].map, gm->regions[i].map_size);
	free(gm);
}

int guestmem_slice(const struct guestmem *gm, gpa_t gpa, size_t len, void **ret_hva)
{
	for (unsigned i = 0; i < gm->nregions; i++) {
		const struct guestmem_region *region = &gm->regions[i];

		/* Written so that nothing can wrap: offset < size, then len <= what is left. */
		if (gpa >= region->gpa && gpa - region->gpa < region->size &&
		    len <= region->size - (gpa - region->gpa)) {
			*ret_hva = region->hva + (gpa - region->gpa);
			return 0;
		}
	}
	return -EFAULT;
}

int guestmem_map(const struct guestmem *gm, gpa_t gpa, size_t len, int fd, uint64_t offset)
{
	struct stat st;
	void *hva;
	int err = guestmem_slice(gm, gpa, len, &hva);

	if (err || !len)
		return err;
	if ((gpa | len | offset) % GUESTMEM_PAGE || offset > INT64_MAX - len)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < offset + len)
		return -ENODATA;
	if (mmap(hva, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset) ==
		    MAP_FAILED ||
	    madvise(hva, len, MADV_DONTDUMP) < 0)
		return -errno;
	return 0;
}

int guestmem_read(const struct guestmem *gm, gpa_t gpa, void *dst, size_t len)
{
	void *hva;
	int err = guestmem_slice(gm, gpa, len, &hva);

	if (!err)
		memcpy(dst, hva, len);
	return err;
}

int guestmem_write(const struct guestmem *gm, gpa_t gpa, const void *src, size_t len)
{
	void *hva;
	int err = guestmem_slice(gm, gpa, len, &hva);

	if (!err)
		memcpy(hva, src, len);
	return err;
}
