#include "lib/cmdline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host_arch.h"
#include "lib/text.h"

/*
 * loglevel=1: each byte on the serial port costs the boot two exits; an oops and a panic raise the
 *   level themselves and are printed. No console=: the UART becomes the console when it is found.
 * panic=-1 reboot=k: a kernel that panicked has told pvpanic; it then resets by the i8042 at once.
 * no_timer_check, tsc=reliable: there is no PIT to check the timer against, and no other clock to
 *   doubt the TSC with.
 * swiotlb=noforce: no device needs the 64 MiB of bounce buffer that a guest above 3 GiB would get.
 * nokaslr is not here: the guest's own defences are the guest's.
 */
#define BASE "panic=-1 reboot=k no_timer_check tsc=reliable swiotlb=noforce"
static const char base[] = "loglevel=1 " BASE;
static const char base_console[] = "console=ttyS0 " HOST_ARCH_EARLYCON " " BASE;

int cmdline_build(bool console, bool emulated, const char *extra, char ret_line[VMM_CMDLINE_MAX], struct mvm_error *err)
{
	const char *first = console ? base_console : base;
	const char *second = emulated ? " " HOST_ARCH_EMULATED_CMDLINE : "";
	size_t own = strlen(first) + strlen(second) + 1, room = VMM_CMDLINE_MAX - 1 - own;

	if (!extra)
		extra = "";
	if (strlen(extra) > room)
		return error_set(err, E2BIG, "--cmdline: %zu bytes, and %zu are left of the kernel's %u: shorten it",
				 strlen(extra), room, VMM_CMDLINE_MAX - 1);
	for (const char *p = extra; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return error_set(err, EINVAL, "--cmdline: a control character at byte %td: leave it out",
					 p - extra);
	(void)snprintf(ret_line, VMM_CMDLINE_MAX, "%s%s%s%s", first, second, *extra ? " " : "", extra);
	return 0;
}
