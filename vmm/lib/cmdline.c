#include "lib/cmdline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host_arch.h"
#include "lib/text.h"

/*
 * quiet: each line on a serial port costs the boot exits; what a panic says is printed all the same.
 * panic=-1 reboot=k: a kernel that panicked has told pvpanic; it then resets by the i8042 at once.
 * no_timer_check, tsc=reliable: there is no PIT to check the timer against, and no other clock to
 * doubt the TSC with. nokaslr is not here: the guest's own defences are the guest's.
 */
static const char base[] = "console=ttyS0 quiet panic=-1 reboot=k no_timer_check tsc=reliable";
static const char base_console[] = "console=ttyS0 " HOST_ARCH_EARLYCON " panic=-1 reboot=k no_timer_check tsc=reliable";

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
