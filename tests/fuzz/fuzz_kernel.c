/* The kernel loader on hostile files: vmlinux and bzImage. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot.h"
#include "guestmem.h"
#include "layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC), results[2];
	struct boot_kernel kernels[2];
	struct guestmem *gm[2];
	void *text[2];
	size_t len;

	if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	for (unsigned mapped = 0; mapped < 2; mapped++) {
		if (guestmem_new(32U << 20, X86_HOLE_START, X86_HOLE_END, &gm[mapped]) < 0)
			abort();
		results[mapped] = boot_load_kernel(gm[mapped], fd, size, mapped, &kernels[mapped]);
	}
	/* Mapped or copied, it is the same kernel; one below 1 MiB would overwrite the boot tables. */
	if (results[0] != results[1])
		abort();
	if (results[0] == 0) {
		if (kernels[0].end < X86_HIMEM || kernels[0].end != kernels[1].end)
			abort();
		len = kernels[0].end - X86_HIMEM < (1U << 20) ? kernels[0].end - X86_HIMEM : 1U << 20;
		if (guestmem_slice(gm[0], kernels[0].entry, 1, &text[0]) == 0 &&
		    guestmem_slice(gm[1], kernels[0].entry, 1, &text[1]) == 0 &&
		    *(uint8_t *)text[0] != *(uint8_t *)text[1])
			abort();
		if (guestmem_slice(gm[0], X86_HIMEM, len, &text[0]) == 0 &&
		    guestmem_slice(gm[1], X86_HIMEM, len, &text[1]) == 0 && memcmp(text[0], text[1], len) != 0)
			abort();
	}
	guestmem_free(gm[0]);
	guestmem_free(gm[1]);
	(void)close(fd);
	return 0;
}
