/* What is made ready for the jail before the child exists; see jail.h. */
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jail/landlock.h"
#include "jail/lsm.h"
#include "jail/scope.h"
#include "jail/seccomp_table.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

/*
 * What a VMM needs beside guest memory. In its cgroup: page tables and KVM's records (guest/128), the pool of
 * vsock's buffers, the program, its stacks and the kernel's per-VM objects.
 */
#define VSOCK_POOL      (8ULL << 20)
#define CGROUP_CONSTANT (48ULL << 20)
/* What serves its network: mvm-net with its children and pasta, nft while it makes rules, mvm-udp; sockets' buffers. */
#define PARTS_MEMORY (256ULL << 20)
#define PARTS_PIDS   64U
/* In its address space: guards of guest memory (6 MiB for each of two regions), the heap, images being read. */
#define AS_CONSTANT       (96ULL << 20)
#define AS_PER_THREAD     (320ULL << 10) /* the largest stack and its guard */
#define FILES_CONSTANT    64U
#define FILES_PER_DISK    8U
#define VSOCK_CONNECTIONS 1023U
#define DISK_THREADS      8U /* VIRTIO_BLK_THREADS */

void jail_init(struct jail *jail)
{
	memset(jail, 0, sizeof(*jail));
	jail->ids.folder = jail->ids.lock = jail->papers = -1;
	cgroup_init(&jail->cgroup);
}

static unsigned needs_of(const struct jail_options *options)
{
	const struct vmm_config *config = options->config;
	unsigned needs = config->ndisks ? NEED_DISK : 0;

	for (unsigned i = 0; i < config->ndisks; i++)
		if (!(config->disks[i].flags & VMM_DISK_RO))
			needs |= NEED_DISK_RW;
	for (unsigned i = 0; i < config->nnets; i++)
		needs |= NEED_NET | (config->nets[i].flags & VMM_NET_TAP ? NEED_TAP : 0U);
	if (config->flags & VMM_CONFIG_VSOCK)
		needs |= NEED_VSOCK;
	return needs;
}

/* A layer that this host lacks: refused, unless the operator has named it. */
static int lacks(struct jail *jail, enum jail_layer layer, const char *why, const char *remedy, struct mvm_error *err)
{
	unsigned bit = (unsigned)__builtin_ctz(layer);

	if (jail->options.may_lack & layer) {
		jail->missing |= layer;
		return 0;
	}
	return error_set(err, EPERM, "jail: %s: %s, or go without it: --allow-missing=%s", why, remedy,
			 jail_layer_name(bit));
}

static int prepare_landlock(struct jail *jail, uint32_t *ret_flags, struct mvm_error *err)
{
	int abi = landlock_abi(), r = 0;

	*ret_flags = (abi >= 1 ? JAIL_LANDLOCK_FS : 0) | (abi >= LANDLOCK_ABI_NET ? JAIL_LANDLOCK_NET : 0);
	if (abi < 1)
		r = lacks(jail, JAIL_LAYER_LANDLOCK, "landlock: this kernel has none, or it is off",
			  "boot with lsm=landlock,…", err);
	if (r == 0 && abi < LANDLOCK_ABI_NET)
		r = lacks(jail, JAIL_LAYER_LANDLOCK_NET, "landlock-net: this kernel's Landlock has no network rules",
			  "use Linux 6.7 or newer", err);
	return r;
}

static int prepare_lsm(struct jail *jail, struct mvm_error *err)
{
	switch (lsm_profile()) {
	case 0:
		return 0;
	case -ENOENT:
		return lacks(jail, JAIL_LAYER_LSM,
			     "lsm: AppArmor is on, but " LSM_PROFILE ", the profile of VMMs, is not loaded", LSM_LOAD,
			     err);
	case -EUCLEAN:
		return lacks(jail, JAIL_LAYER_LSM,
			     "lsm: AppArmor's profile " LSM_PROFILE " is loaded, but reports and forbids nothing",
			     LSM_ENFORCE, err);
	case -EOPNOTSUPP:
		return lacks(jail, JAIL_LAYER_LSM, "lsm: this kernel has no AppArmor, or it is off",
			     "boot with apparmor=1 security=apparmor", err);
	default:
		return lacks(jail, JAIL_LAYER_LSM,
			     "lsm: AppArmor lets nobody enter the profile " LSM_PROFILE " from here",
			     "allow it in the profile that confines mvm: change_profile -> " LSM_PROFILE ",", err);
	}
}

/* A group of that name; asks the user's systemd for a scope where there is nowhere else. */
static int make_group(const char *id, const char *of, const struct cgroup_limits *limits,
		      const struct cgroup_list *list, struct cgroup *ret_cgroup, struct mvm_error *why)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	bool by_root = ids_are_ours();
	char name[40], scope[40];
	int r;

	(void)snprintf(name, sizeof(name), "mvm-%.16s%s", id, of);
	(void)snprintf(scope, sizeof(scope), "mvm-%.16s.scope", id);
	r = cgroup_make("/sys/fs/cgroup", "/proc/self/cgroup", name, limits, list, ret_cgroup, why);
	if (r < 0 && !by_root && scope_step_aside() == 0)
		r = cgroup_make("/sys/fs/cgroup", "/proc/self/cgroup", name, limits, list, ret_cgroup, why);
	if (r < 0 && !by_root && runtime && scope_enter(runtime, scope) == 0)
		r = cgroup_make("/sys/fs/cgroup", "/proc/self/cgroup", name, limits, list, ret_cgroup, why);
	return r;
}

void jail_parts(const char *id, uint64_t cpu_percent, const struct cgroup_list *list, struct cgroup *ret_cgroup)
{
	const struct cgroup_limits limits = { .memory = PARTS_MEMORY, .pids = PARTS_PIDS, .cpu_percent = cpu_percent };
	struct mvm_error why;

	cgroup_init(ret_cgroup);
	/* By root in a unit that is not delegated to it: they stay, as groups beside the unit are without its limits. */
	if (ids_are_ours() && scope_is_service() && scope_step_aside() < 0)
		return;
	(void)make_group(id, "-net", &limits, list, ret_cgroup,
			 &why); /* that of the VM has the same reason, and says it */
}

static int prepare_cgroup(struct jail *jail, struct mvm_error *err)
{
	const struct vmm_config *config = jail->options.config;
	struct cgroup_limits limits = {
		.memory = config->mem_bytes + config->mem_bytes / 128 + VSOCK_POOL + CGROUP_CONSTANT,
		.pids = jail->threads + 2,
		.cpu_percent = jail->options.cpu_percent,
		.io = jail->options.io,
	};
	struct mvm_error why;
	int r = make_group(jail->options.id, "", &limits, &jail->options.list, &jail->cgroup, &why);

	if (r == 0)
		return 0;
	/* What was asked for by name is not left out because a layer may be. */
	if (io_max_any(&limits.io.max))
		return error_set(err, EPERM,
				 "--io-max: %s: have it delegated (mvm doctor says how), or use --blk-bps and "
				 "--blk-iops, which bound each disk inside the VMM",
				 why.text);
	if (jail->options.cpu_percent)
		return error_set(err, EPERM, "--cpus: %s", why.text);
	return lacks(jail, JAIL_LAYER_CGROUP, why.text,
		     "have one delegated (systemd-run --user --scope -p Delegate=yes mvm run …)", err);
}

int jail_prepare(const struct jail_options *options, struct jail *ret_jail, struct mvm_error *err)
{
	const struct vmm_config *config = options->config;
	struct jail_papers_options papers = { 0 };
	struct jail jail;
	unsigned spread = 0;
	int r;

	jail_init(&jail);
	jail.options = *options;
	jail.by_root = ids_are_ours();
	jail.ids.uid = geteuid(); /* unless it gets one of its own */
	jail.ids.gid = getegid();
	jail.threads = 1 + config->vcpus + DISK_THREADS * config->ndisks;
	jail.address_space = config->mem_bytes + AS_CONSTANT + AS_PER_THREAD * jail.threads;
	jail.open_files = FILES_CONSTANT + VSOCK_CONNECTIONS + FILES_PER_DISK * config->ndisks + 2ULL * config->vcpus;
	r = prepare_landlock(&jail, &papers.flags, err);
	if (r == 0)
		r = prepare_lsm(&jail, err);
	if (r == 0) {
		papers.needs = needs_of(options);
		papers.file_size_max = options->file_size_max;
		r = seccomp_make_papers(&papers, &jail.papers, &jail.filters, err);
	}
	if (r == 0 && jail.by_root) {
		for (const char *c = options->id; *c; c++)
			spread = spread * 31 + (unsigned char)*c;
		r = ids_take(IDS_FOLDER, options->uid_first, options->uid_count, spread, &jail.ids, err);
	}
	if (r == 0)
		r = prepare_cgroup(&jail, err);
	if (r < 0) {
		jail_free(&jail);
		return r;
	}
	*ret_jail = jail;
	return 0;
}

void jail_free(struct jail *jail)
{
	cgroup_free(&jail->cgroup);
	ids_release(&jail->ids);
	cleanup_fd(&jail->papers);
	jail_init(jail);
}
