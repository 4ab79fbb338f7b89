/* The kernel loader on hostile files: vmlinux and bzImage. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot.h"
#include "guestmem.h"
#include "layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guestmem *gm;
	static int fd = -1;
	struct boot_kernel kernel;

	if (!gm && guestmem_new(32U << 20, X86_HOLE_START, X86_HOLE_END, &gm) < 0)
		abort();
	if (fd < 0)
		fd = memfd_create("kernel", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	for (unsigned mapped = 0; mapped < 2; mapped++)
		if (boot_load_kernel(gm, fd, size, mapped, &kernel) == 0 && kernel.end < X86_HIMEM)
			abort(); /* a kernel below 1 MiB would overwrite the boot tables */
	return 0;
}
