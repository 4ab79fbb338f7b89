#include "lib/vm_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host_arch.h"
#include "jail/io_max.h"
#include "lib/cmdline.h"
#include "lib/host.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define GUEST_CID   3U /* vsock: the first that is not reserved; each VM has a bus of its own */
#define PAGE        4096U
#define CONSOLE_MAX (72ULL << 20) /* what a VMM appends to it at most (dev/serial.c), and a little */

static const struct image_file no_file = { .fd = -1 };

void vm_files_init(struct vm_files *files)
{
	*files = (struct vm_files){ .kvm = -1, .console = -1 };
	files->kernel = files->agent = files->initrd = files->rootfs = no_file;
	files->rootfs_direct = -1;
	for (unsigned i = 0; i < SPEC_USER_DISKS; i++) {
		files->disks[i] = no_file;
		files->disks_direct[i] = -1;
	}
}

void vm_files_close(struct vm_files *files)
{
	cleanup_fd(&files->kvm);
	cleanup_fd(&files->console);
	cleanup_fd(&files->kernel.fd);
	cleanup_fd(&files->agent.fd);
	cleanup_fd(&files->initrd.fd);
	cleanup_fd(&files->rootfs.fd);
	cleanup_fd(&files->rootfs_direct);
	for (unsigned i = 0; i < files->ndisks; i++) {
		cleanup_fd(&files->disks[i].fd);
		cleanup_fd(&files->disks_direct[i]);
	}
	net_host_close_fds(&files->nets);
	free(files->kernel_path);
	vm_files_init(files);
}

/* Two names of one file would meet as two VMs meet: at the lock. Said before, by its name. */
static int check_twice(const struct mvm_spec *spec, const struct vm_files *files, const struct image_file *file,
		       const char *path, bool rw, struct mvm_error *err)
{
	bool twice = files->rootfs.dev == file->dev && files->rootfs.ino == file->ino && (rw || spec->rw);

	for (unsigned i = 0; i < files->ndisks; i++)
		twice |= files->disks[i].dev == file->dev && files->disks[i].ino == file->ino &&
			 (rw || !spec->disks[i].ro);
	if (twice)
		return error_set(err, EBUSY, "--disk: %s: given twice, and written to: add ,ro to both, or give a copy",
				 path);
	return 0;
}

/*
 * A disk that is written to is one VM's alone, and the guest caches it: the host's page cache would
 * be a second copy, in the VM's own cgroup. Images that are only read stay in it, for all who share
 * them. -1 where the file system has no direct I/O: a matter of speed only.
 */
static int open_direct(const struct image_file *file)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd); /* this very file, whatever its name is now */
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

static int open_disks(const struct mvm_spec *spec, struct vm_files *files, struct mvm_error *err)
{
	for (size_t i = 0; i < spec->ndisks; i++) {
		const struct spec_disk *disk = &spec->disks[i];
		struct image_file seen = { 0 };
		struct stat st;
		int r;

		if (stat(disk->file, &st) == 0) {
			seen.dev = st.st_dev;
			seen.ino = st.st_ino;
			r = check_twice(spec, files, &seen, disk->file, !disk->ro, err);
			if (r < 0)
				return r;
		}
		r = image_open_disk("--disk", disk->file, !disk->ro, &files->disks[i], err);
		if (r < 0)
			return r;
		if (!disk->ro)
			files->disks_direct[i] = open_direct(&files->disks[i]);
		files->ndisks++;
	}
	return 0;
}

static int open_console(const char *path, int *ret_fd, struct mvm_error *err)
{
	/* O_NONBLOCK: a FIFO without a reader is an error, and a full one costs text, not the VM's time. */
	*ret_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
	if (*ret_fd < 0)
		return error_set(err, errno, "--console: %s: %s: name a file that can be written", path,
				 errno == ENXIO ? "a FIFO that nobody reads" : strerror(errno));
	return 0;
}

static int open_agent(struct vm_files *files, uint64_t *ret_needs, struct mvm_error *err)
{
	_cleanup_free_ char *path = NULL;
	int r = mvm_part_path("agent.cpio", &path, err);

	return r < 0 ? r : image_open_initrd(path, &files->agent, ret_needs, err);
}

static int open_kernel(const struct mvm_spec *spec, struct vm_files *files, uint64_t *ret_needs, struct mvm_error *err)
{
	int r = 0;

	if (!spec->kernel)
		r = mvm_part_path("vmlinux", &files->kernel_path, err);
	else if (!(files->kernel_path = strdup(spec->kernel)))
		r = error_set(err, ENOMEM, "--kernel: out of memory");
	return r < 0 ? r : image_open_kernel(files->kernel_path, &files->kernel, ret_needs, err);
}

static int check_fits(const struct mvm_spec *spec, uint64_t kernel, uint64_t agent, uint64_t initrd,
		      struct mvm_error *err)
{
	char memory[32];
	uint64_t sum;

	if (__builtin_add_overflow(kernel, agent, &sum) || sum > spec->memory)
		return error_set(err, ENOMEM,
				 "--memory: %s are too little for the kernel and the agent, which take %llum: ask for "
				 "more with -m",
				 text_size(spec->memory, memory), (unsigned long long)(sum >> 20));
	if (__builtin_add_overflow(sum, initrd, &sum) || sum > spec->memory)
		return error_set(err, ENOMEM,
				 "--initrd: %s: too large for %s of memory: with the kernel it takes %llum: ask for "
				 "more with -m",
				 spec->initrd, text_size(spec->memory, memory), (unsigned long long)(sum >> 20));
	return 0;
}

int vm_files_open(const struct mvm_spec *spec, bool share_kernel, struct vm_files *files, struct mvm_error *err)
{
	uint64_t kernel = 0, agent = 0, initrd = 0;
	int r = image_open_rootfs(spec->rootfs, spec->rw, &files->rootfs, &files->fs_type, err);

	if (r == 0 && spec->rw)
		files->rootfs_direct = open_direct(&files->rootfs);
	if (r == 0)
		r = open_disks(spec, files, err);
	if (r == 0)
		r = open_kernel(spec, files, &kernel, err);
	if (r == 0)
		r = open_agent(files, &agent, err);
	if (r == 0 && spec->initrd)
		r = image_open_initrd(spec->initrd, &files->initrd, &initrd, err);
	if (r == 0)
		r = check_fits(spec, kernel, agent, initrd, err);
	if (r == 0)
		r = host_check_memory(spec->memory, err);
	if (r == 0)
		r = host_open_kvm("/dev/kvm", &files->kvm, err);
	if (r == 0 && spec->console)
		r = open_console(spec->console, &files->console, err);
	if (r == 0)
		r = net_host_open(&files->nets, spec->nets, spec->nnets, err);
	files->kernel_shared = r == 0 && share_kernel && image_kernel_share(files->kernel.fd);
	files->emulated = !host_arch_has_virtualization();
	return r;
}

static int32_t hand_over(struct handover *handover, int fd)
{
	handover->fds[handover->n] = fd; /* HANDOVER_MAX holds all that a config can name */
	return (int32_t)handover->n++;
}

static void describe_disk(struct vmm_config *config, struct handover *handover, const struct image_file *file, bool ro,
			  int direct, const char *id)
{
	struct vmm_disk *disk = &config->disks[config->ndisks++];

	disk->fd = hand_over(handover, file->fd);
	disk->direct_fd = direct < 0 ? 0 : hand_over(handover, direct);
	disk->flags = ro ? VMM_DISK_RO : 0;
	disk->size = file->size;
	memcpy(disk->id, id, strnlen(id, VMM_DISK_ID_MAX));
}

static void describe_net(struct vmm_config *config, struct handover *handover, const struct mvm_spec *spec,
			 const struct net_host_end *end)
{
	struct vmm_net *net = &config->nets[config->nnets++];

	net->fd = hand_over(handover, end->fd);
	net->flags = end->net.mode == SPEC_NET_SOCKET ? 0 : VMM_NET_TAP;
	net->mtu = end->net.mtu;
	net->pps = (uint32_t)spec->net_pps;
	net->bps = spec->net_bps;
	memcpy(net->mac, end->net.mac, sizeof(net->mac));
	memcpy(net->ip4, end->net.ip.bytes, sizeof(net->ip4));
	memcpy(net->ip6, end->net.ip6.bytes, sizeof(net->ip6));
}

void vm_files_disk_id(const struct mvm_spec *spec, unsigned disk, char ret_id[VMM_DISK_ID_MAX + 1])
{
	if (disk == 0)
		(void)snprintf(ret_id, VMM_DISK_ID_MAX + 1, "rootfs");
	else if (spec->disks[disk - 1].id)
		(void)snprintf(ret_id, VMM_DISK_ID_MAX + 1, "%s", spec->disks[disk - 1].id);
	else
		(void)snprintf(ret_id, VMM_DISK_ID_MAX + 1, "disk%u", disk);
}

static void describe_initrd(struct vmm_config *config, struct handover *handover, const struct image_file *file)
{
	struct vmm_initrd *initrd = &config->initrds[config->ninitrds++];

	initrd->fd = hand_over(handover, file->fd);
	initrd->size = file->size;
}

int vm_files_describe(const struct mvm_spec *spec, const struct vm_files *files, struct vmm_config *config,
		      struct handover *handover, struct mvm_error *err)
{
	char id[VMM_DISK_ID_MAX + 1];

	memset(config, 0, sizeof(*config));
	handover->n = VMM_FD_FIRST;
	config->magic = VMM_CONFIG_MAGIC;
	config->version = VMM_CONFIG_VERSION;
	config->size = sizeof(*config);
	config->flags = VMM_CONFIG_RNG | VMM_CONFIG_VSOCK;
	config->mem_bytes = (spec->memory + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	config->guest_cid = GUEST_CID;
	config->vcpus = (uint32_t)spec->vcpus;
	config->kvm_fd = hand_over(handover, files->kvm);
	config->kernel_fd = hand_over(handover, files->kernel.fd);
	config->kernel_size = files->kernel.size;
	if (files->kernel_shared)
		config->flags |= VMM_CONFIG_KERNEL_MAPPED;
	config->console_fd = -1;
	if (files->console >= 0) {
		config->console_fd = hand_over(handover, files->console);
		config->flags |= VMM_CONFIG_CONSOLE;
		config->console_rate = spec->console_rate;
	}
	describe_initrd(config, handover, &files->agent);
	if (files->initrd.fd >= 0)
		describe_initrd(config, handover, &files->initrd);
	vm_files_disk_id(spec, 0, id);
	describe_disk(config, handover, &files->rootfs, !spec->rw, files->rootfs_direct, id);
	for (unsigned i = 0; i < files->ndisks; i++) {
		vm_files_disk_id(spec, i + 1, id);
		describe_disk(config, handover, &files->disks[i], spec->disks[i].ro, files->disks_direct[i], id);
	}
	for (unsigned i = 0; i < config->ndisks; i++) {
		config->disks[i].iops = spec->blk_iops;
		config->disks[i].bps = spec->blk_bps;
	}
	for (unsigned i = 0; i < files->nets.n; i++)
		describe_net(config, handover, spec, &files->nets.ends[i]);
	return cmdline_build(files->console >= 0, files->emulated, spec->cmdline, config->cmdline, err);
}

bool vm_files_hold(const struct vm_files *files, int fd)
{
	const struct image_file *const all[] = { &files->kernel, &files->agent, &files->initrd, &files->rootfs };
	struct stat st, console;
	bool held = false;

	if (fstat(fd, &st) < 0)
		return true;
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		held |= all[i]->fd >= 0 && all[i]->dev == st.st_dev && all[i]->ino == st.st_ino;
	for (unsigned i = 0; i < files->ndisks; i++)
		held |= files->disks[i].dev == st.st_dev && files->disks[i].ino == st.st_ino;
	if (files->console >= 0 && fstat(files->console, &console) == 0)
		held |= console.st_dev == st.st_dev && console.st_ino == st.st_ino;
	return held;
}

uint64_t vm_files_written_max(const struct vm_files *files, const struct mvm_spec *spec)
{
	uint64_t most = spec->rw ? files->rootfs.size : 0;
	struct stat st;

	for (unsigned i = 0; i < files->ndisks; i++)
		if (!spec->disks[i].ro && files->disks[i].size > most)
			most = files->disks[i].size;
	if (files->console >= 0 && fstat(files->console, &st) == 0 && st.st_size >= 0 &&
	    (uint64_t)st.st_size + CONSOLE_MAX > most)
		most = (uint64_t)st.st_size + CONSOLE_MAX;
	return most;
}

static int add_device(const char *path, dev_t device, const char *sys, dev_t devices[VMM_DISKS_MAX], unsigned *n,
		      struct mvm_error *err)
{
	dev_t disk = 0;
	int r = io_max_disk(sys, device, &disk);

	if (r == -ENOTBLK)
		return error_set(err, ENOTBLK,
				 "--io-max: %s: its file system (as tmpfs, overlay, btrfs, 9p) has no block device of "
				 "its own: put it on ext4 or XFS, or use --blk-bps and --blk-iops, which bound each "
				 "disk inside the VMM",
				 path);
	if (r < 0)
		return error_set(err, -r, "--io-max: %s: its block device %u:%u is not to be found in %s/dev/block: %s",
				 path, major(device), minor(device), sys, strerror(-r));
	for (unsigned i = 0; i < *n; i++)
		if (devices[i] == disk)
			return 0;
	devices[(*n)++] = disk;
	return 0;
}

int vm_files_devices(const struct vm_files *files, const struct mvm_spec *spec, const char *sys,
		     dev_t ret_devices[VMM_DISKS_MAX], unsigned *ret_n, struct mvm_error *err)
{
	dev_t devices[VMM_DISKS_MAX];
	unsigned n = 0;
	int r = add_device(spec->rootfs, files->rootfs.dev, sys, devices, &n, err);

	for (unsigned i = 0; r == 0 && i < files->ndisks; i++)
		r = add_device(spec->disks[i].file, files->disks[i].dev, sys, devices, &n, err);
	if (r < 0)
		return r;
	memcpy(ret_devices, devices, n * sizeof(devices[0]));
	*ret_n = n;
	return 0;
}
