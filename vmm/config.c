#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "mvm/capture.h"

#define SEALS_NEEDED (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int bad(const char *field)
{
	log_error("config: %s: out of bounds", field);
	return -EINVAL;
}

/* Descriptors start after the fixed ones; the upper bound only catches garbage. */
static bool fd_ok(int32_t fd)
{
	return fd >= VMM_FD_FIRST && fd < 1024;
}

static bool net_ok(const struct vmm_net *net)
{
	/* A group address is no source (IEEE 802.3 §3.2.3). */
	return fd_ok(net->fd) && !(net->flags & ~(uint32_t)VMM_NET_ALL) && !(net->mac[0] & 1) &&
	       net->mtu >= VMM_NET_MTU_MIN && net->mtu <= VMM_NET_MTU_MAX && net->pps <= VMM_PPS_MAX &&
	       (!net->bps || net->bps >= VMM_BPS_MIN) && net->bps <= VMM_BPS_MAX;
}

static bool capture_ok(const struct vmm_config *config)
{
	if (!config->capture_fd)
		return config->capture_snap == 0;
	return fd_ok(config->capture_fd) && config->nnets && config->capture_snap >= CAPTURE_SNAP_MIN &&
	       config->capture_snap <= CAPTURE_FRAME_MAX;
}

static int check_files(const struct vmm_config *config)
{
	if (!fd_ok(config->kvm_fd))
		return bad("kvm_fd");
	if (config->flags & VMM_CONFIG_CONSOLE ? !fd_ok(config->console_fd) : config->console_fd != -1)
		return bad("console_fd");
	if (config->console_rate > VMM_CONSOLE_RATE_MAX || (config->console_rate && config->console_fd < 0))
		return bad("console_rate");
	if (config->counters_fd && !fd_ok(config->counters_fd))
		return bad("counters_fd");
	if (!fd_ok(config->kernel_fd))
		return bad("kernel_fd");
	if (config->kernel_size == 0 || config->kernel_size > config->mem_bytes)
		return bad("kernel_size");
	if (config->ninitrds > VMM_INITRDS_MAX)
		return bad("ninitrds");
	for (unsigned i = 0; i < config->ninitrds; i++) {
		const struct vmm_initrd *initrd = &config->initrds[i];

		if (!fd_ok(initrd->fd) || initrd->reserved || initrd->size == 0 || initrd->size > config->mem_bytes)
			return bad("initrds");
	}
	if (config->nnets > VMM_NETS_MAX)
		return bad("nnets");
	for (unsigned i = 0; i < config->nnets; i++)
		if (!net_ok(&config->nets[i]))
			return bad("nets");
	if (!capture_ok(config))
		return bad("capture");
	if (config->ndisks > VMM_DISKS_MAX)
		return bad("ndisks");
	for (unsigned i = 0; i < config->ndisks; i++) {
		const struct vmm_disk *disk = &config->disks[i];

		if (!fd_ok(disk->fd) || (disk->direct_fd && !fd_ok(disk->direct_fd)) ||
		    disk->flags & ~(uint32_t)VMM_DISK_ALL || disk->size == 0 || disk->size % 512 ||
		    disk->size > INT64_MAX)
			return bad("disks");
		if (disk->iops > VMM_IOPS_MAX || (disk->bps && disk->bps < VMM_BPS_MIN) || disk->bps > VMM_BPS_MAX)
			return bad("disk limits");
	}
	return 0;
}

int config_check(const struct vmm_config *config)
{
	if (config->magic != VMM_CONFIG_MAGIC || config->version != VMM_CONFIG_VERSION ||
	    config->size != sizeof(*config)) {
		log_error("config: of another version: magic %08x version %u size %u", config->magic, config->version,
			  config->size);
		return -EINVAL;
	}
	if (config->flags & ~(uint32_t)VMM_CONFIG_ALL)
		return bad("flags");
	if (config->mem_bytes < VMM_MEM_MIN || config->mem_bytes > VMM_MEM_MAX || config->mem_bytes % 4096)
		return bad("mem_bytes");
	/* Reserved CIDs: 0 hypervisor, 1 local, 2 host, 0xffffffff any (virtio 1.2 §5.10.4). */
	if (config->guest_cid < 3 || config->guest_cid >= UINT32_MAX)
		return bad("guest_cid");
	if (config->vcpus == 0 || config->vcpus > VMM_VCPUS_MAX)
		return bad("vcpus");
	if (!memchr(config->cmdline, '\0', sizeof(config->cmdline)))
		return bad("cmdline");
	return check_files(config);
}

int config_read(int fd, const struct vmm_config **ret_config)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *map;

	if (seals < 0 || (seals & SEALS_NEEDED) != SEALS_NEEDED) {
		log_error("config: not a sealed memfd");
		return -EINVAL;
	}
	if (fstat(fd, &st) < 0 || st.st_size != (off_t)sizeof(struct vmm_config)) {
		log_error("config: of the wrong size");
		return -EINVAL;
	}
	map = mmap(NULL, sizeof(struct vmm_config), PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED) {
		log_error("config: mapping it: %s", strerror(errno));
		return -errno;
	}
	*ret_config = map;
	return config_check(map);
}

int config_counters(const struct vmm_config *config, struct counters **ret_counters)
{
	const int seals_needed = F_SEAL_SHRINK | F_SEAL_SEAL;
	int seals, err = 0;
	struct stat st;
	void *map;

	if (!config->counters_fd) {
		*ret_counters = NULL;
		return 0;
	}
	seals = fcntl(config->counters_fd, F_GET_SEALS);
	if (seals < 0 || (seals & seals_needed) != seals_needed || fstat(config->counters_fd, &st) < 0 ||
	    st.st_size != (off_t)sizeof(struct counters)) {
		log_error("counters: not a sealed memfd of their size");
		return -EINVAL;
	}
	map = mmap(NULL, sizeof(struct counters), PROT_READ | PROT_WRITE, MAP_SHARED, config->counters_fd, 0);
	if (map == MAP_FAILED) {
		err = -errno;
		log_error("counters: mapping them: %s", strerror(-err));
		return err;
	}
	(void)close(config->counters_fd); /* the mapping stays */
	*ret_counters = map;
	return 0;
}
