/*
 * Kernel and initrd loading (Linux boot protocol, Documentation/arch/x86/boot.rst).
 *
 * Trust:   kernel and initrd files are the user's and may be damaged or hostile: every header field
 *          is range-checked; nothing of them runs in the VMM.
 * Returns: 0 or -errno; -ENOEXEC when the file is no kernel of this machine. Failures are logged.
 */
#ifndef VMM_X86_BOOT_H
#define VMM_X86_BOOT_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "guestmem.h"

struct boot_kernel {
	gpa_t entry; /* 64-bit entry point */
	gpa_t end; /* first byte after what the kernel needs before it manages memory itself */
	struct setup_header header; /* a bzImage's own; made up for an ELF image */
};

/*
 * `mapped`: what the kernel does not write of itself (the segments of an ELF file that are not PF_W) is mapped from the file:
 * nothing of it is copied, and all VMs of a host have it in memory once. Else everything is read.
 */
int boot_load_kernel(const struct guestmem *mem, int fd, uint64_t size, bool mapped, struct boot_kernel *ret_kernel);

#endif
