/* Other limits for the host's devices below the VM's disks: `mvm update --io-max`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/supervisor.h"
#include "lib/text.h"

static bool in_bounds(const uint64_t most[IO_MAX_KEYS])
{
	for (unsigned key = 0; key < IO_MAX_KEYS; key++) {
		bool bytes = key == IO_MAX_RBPS || key == IO_MAX_WBPS;

		if (most[key] && most[key] != MVM_KEEP &&
		    (most[key] > (bytes ? VMM_BPS_MAX : VMM_IOPS_MAX) || (bytes && most[key] < VMM_BPS_MIN)))
			return false;
	}
	return true;
}

static int explain(const struct supervisor *s, int r, char *ret_text, size_t size)
{
	const char *why = s->jail.cgroup.n == 0 ? "the VM has no cgroup of its own"
			  : r != -ENOENT        ? strerror(-r)
			  : s->jail.cgroup.v2   ? "the controller io is not there, or not delegated to this user"
					      : "with cgroup version 1 a VM that was started without a limit gets none";

	(void)snprintf(ret_text, size, "--io-max: %s: --blk-bps and --blk-iops bound each disk inside the VMM", why);
	return r;
}

int supervisor_update_io(struct supervisor *s, const uint64_t most[IO_MAX_KEYS], char *ret_text, size_t size)
{
	struct io_limits io = s->jail.options.io;
	uint64_t before[IO_MAX_KEYS];
	struct mvm_error err;
	char text[IO_MAX_TEXT];
	int r;

	if (!in_bounds(most))
		return -ERANGE;
	if (io.ndevices == 0) {
		r = vm_files_devices(&s->files, s->spec, "/sys", io.devices, &io.ndevices, &err);
		if (r < 0) {
			(void)snprintf(ret_text, size, "%s", err.text);
			return r;
		}
	}
	for (unsigned key = 0; key < IO_MAX_KEYS; key++) {
		before[key] = most[key] == MVM_KEEP ? MVM_KEEP : io.max.most[key];
		io.max.most[key] = most[key] == MVM_KEEP ? io.max.most[key] : most[key];
	}
	r = cgroup_change_io(&s->jail.cgroup, &io, most);
	if (r < 0) {
		(void)cgroup_change_io(&s->jail.cgroup, &io, before); /* those that were changed, back */
		return explain(s, r, ret_text, size);
	}
	s->jail.options.io = io; /* what has to be lifted at the end */
	s->spec->io_max = io.max;
	supervisor_log(s, MVM_LOG_INFO, "devices: limits changed: %s",
		       io_max_any(&io.max) ? io_max_text(&io.max, ' ', text) : "none");
	return 0;
}
