/* The VMM's birth, the only one: into its jail (jail/enter.c). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

static int make_config(const struct vmm_config *config, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = memfd_create("mvm-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* A memfd is born executable, and no Landlock rule covers it. */
	if (fd < 0 || fchmod(fd, 0400) < 0 || write(fd, config, sizeof(*config)) != (ssize_t)sizeof(*config) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno ? errno : EIO, "config: the memfd cannot be made: %s", strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

/* What the VMM adds up in, and we read as long as we live. */
static int make_counters(struct supervisor *s, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = memfd_create("mvm-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map = MAP_FAILED;

	/* Of a fixed size: what its writer could cut off while we read it would end us. Not executable, as above. */
	if (fd >= 0 && fchmod(fd, 0600) == 0 && ftruncate(fd, sizeof(struct counters)) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		map = mmap(NULL, sizeof(struct counters), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return error_set(err, errno, "counters: their memfd cannot be made: %s", strerror(errno));
	s->counters = map;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Should we be killed, whoever removes our folder removes them. */
static struct cgroup_list cgroups_of(const struct supervisor *s)
{
	return (struct cgroup_list){ .dir_fd = s->state.fd, .name = STATE_CGROUPS };
}

static bool has_parts(const struct mvm_spec *spec)
{
	bool has = spec->proxy;

	for (size_t i = 0; i < spec->nnets; i++)
		has |= spec->nets[i].mode == SPEC_NET_USER || spec->nets[i].mode == SPEC_NET_BRIDGE;
	for (size_t i = 0; i < spec->npublish; i++)
		has |= spec->publish[i].udp;
	return has;
}

void supervisor_make_parts(struct supervisor *s)
{
	const struct cgroup_list list = cgroups_of(s);

	if (has_parts(s->spec))
		jail_parts(s->state.id, s->spec->cpu_percent, &list, &s->parts);
}

/* What the jail is to allow of this VM. */
static int make_jail(struct supervisor *s, const struct vmm_config *config, struct mvm_error *err)
{
	struct jail_options options = {
		.config = config,
		.id = s->state.id,
		.may_lack = (unsigned)s->spec->may_lack,
		.cpu_percent = s->spec->cpu_percent,
		.io.max = s->spec->io_max,
		.list = cgroups_of(s),
	};
	int r = 0;

	if (io_max_any(&options.io.max))
		r = vm_files_devices(&s->files, s->spec, "/sys", options.io.devices, &options.io.ndevices, err);
	if (r < 0)
		return r;
	options.may_lack |= s->conf.may_lack;
	options.uid_first = s->conf.uid_first;
	options.uid_count = s->conf.uid_count;
	options.file_size_max = vm_files_written_max(&s->files, s->spec);
	return jail_prepare(&options, &s->jail, err);
}

int supervisor_spawn(struct supervisor *s, struct vmm_config *config, struct handover *handover, struct mvm_error *err)
{
	_cleanup_fd_ int config_fd = -1, exe = -1, control = -1, log_writer = -1, counters = -1;
	_cleanup_free_ char *path = NULL;
	int pair[2];
	int r = mvm_part_path("mvm-vmm", &path, err);

	if (r < 0)
		return r;
	exe = open(path, O_PATH | O_CLOEXEC);
	if (exe < 0)
		return error_set(err, errno, "%s: %s: install mvm again", path, strerror(errno));
	r = make_counters(s, &counters, err);
	if (r < 0)
		return r;
	config->counters_fd = (int32_t)handover->n;
	handover->fds[handover->n++] = counters; /* HANDOVER_MAX has room for it */
	r = supervisor_capture_open(s, config, handover, err);
	if (r == 0)
		r = make_config(config, &config_fd, err);
	if (r == 0)
		r = make_jail(s, config, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, errno, "control socket: %s", strerror(errno));
	s->vmm_control = pair[0];
	control = pair[1];
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set(err, errno, "log pipe: %s", strerror(errno));
	s->vmm_log = pair[0];
	log_writer = pair[1];
	handover->fds[VMM_FD_CONFIG] = config_fd;
	handover->fds[VMM_FD_CONTROL] = control;
	handover->fds[VMM_FD_LOG] = log_writer;
	handover->fds[VMM_FD_JAIL] = s->jail.papers;
	s->stages[STAGE_JAIL_MADE] = text_now_ns();
	hooks_stage("jail-made");
	r = supervisor_capture_begin(s, err); /* what the file held is gone: nothing else is left to fail but this */
	if (r == 0)
		r = jail_spawn(&s->jail, handover, exe, &s->vmm_pid, &s->vmm_pidfd, err);
	net_host_close_fds(&s->files.nets);
	if (s->capture)
		capture_handed_over(s->capture);
	return r;
}
