/* What a cgroup's processes may do to block devices: v2's io.max, v1's blkio.throttle. */
#include <errno.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "jail/cgroup.h"

/* A line a device: "MAJ:MIN KEY=N …". */
static int change_v2(int folder, const struct io_limits *io, const uint64_t most[IO_MAX_KEYS])
{
	char text[32 + 2 * IO_MAX_TEXT], values[IO_MAX_TEXT];
	int r = 0;

	(void)io_max_change_text(most, values);
	for (unsigned i = 0; r == 0 && i < io->ndevices; i++) {
		(void)snprintf(text, sizeof(text), "%u:%u %s", major(io->devices[i]), minor(io->devices[i]), values);
		r = cgroup_put(folder, "io.max", text);
	}
	return r;
}

/* A file a key, a line a device: "MAJ:MIN N", 0 for no limit. */
static int change_v1(int folder, const struct io_limits *io, const uint64_t most[IO_MAX_KEYS])
{
	static const char *const files[IO_MAX_KEYS] = {
		[IO_MAX_RBPS] = "blkio.throttle.read_bps_device",
		[IO_MAX_WBPS] = "blkio.throttle.write_bps_device",
		[IO_MAX_RIOPS] = "blkio.throttle.read_iops_device",
		[IO_MAX_WIOPS] = "blkio.throttle.write_iops_device",
	};
	char text[64];
	int r = 0;

	for (unsigned key = 0; key < IO_MAX_KEYS; key++)
		for (unsigned i = 0; r == 0 && most[key] != MVM_KEEP && i < io->ndevices; i++) {
			(void)snprintf(text, sizeof(text), "%u:%u %llu", major(io->devices[i]), minor(io->devices[i]),
				       (unsigned long long)most[key]);
			r = cgroup_put(folder, files[key], text);
		}
	return r;
}

int cgroup_change_io(const struct cgroup *cgroup, const struct io_limits *io, const uint64_t most[IO_MAX_KEYS])
{
	int folder, r;

	if (cgroup->n == 0)
		return -ENOTSUP;
	/* v1: the controller's own hierarchy is the last, if the VM was started with a limit; else there is no such file. */
	folder = cgroup->folders[cgroup->n - 1];
	if (!cgroup->v2)
		return change_v1(folder, io, most);
	r = change_v2(folder, io, most);
	/* Not on for it yet, as nobody had asked for a limit. */
	if (r == -ENOENT && cgroup_put(folder, "../cgroup.subtree_control", "+io") == 0)
		r = change_v2(folder, io, most);
	return r;
}

int cgroup_limit_io(const struct cgroup *cgroup, const struct io_limits *io)
{
	uint64_t most[IO_MAX_KEYS];

	for (unsigned key = 0; key < IO_MAX_KEYS; key++)
		most[key] = io->max.most[key] ? io->max.most[key] : MVM_KEEP;
	return io_max_any(&io->max) ? cgroup_change_io(cgroup, io, most) : 0;
}

void cgroup_lift_io(const struct cgroup *cgroup, const struct io_limits *io)
{
	uint64_t most[IO_MAX_KEYS];

	for (unsigned key = 0; key < IO_MAX_KEYS; key++)
		most[key] = io->max.most[key] ? 0 : MVM_KEEP;
	/* A device that is gone meanwhile holds nobody up. */
	if (io_max_any(&io->max))
		(void)cgroup_change_io(cgroup, io, most);
}
