/*
 * Everything that a VM is handed: opened, checked, and described in its struct vmm_config.
 *
 * Trust:   the spec was checked by its setters; files are looked at by image.h.
 * Ownership: a struct vm_files owns its descriptors (and with them the locks).
 * Thread:  one at a time per object.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_VM_FILES_H
#define LIB_VM_FILES_H

#include "lib/image.h"
#include "lib/net_host.h"
#include "lib/spec.h"
#include "mvm/vmm_config.h"

struct vm_files {
	int kvm, console; /* -1: none */
	struct image_file kernel, agent, initrd, rootfs, disks[SPEC_USER_DISKS]; /* fd -1: none */
	unsigned ndisks;
	int rootfs_direct, disks_direct[SPEC_USER_DISKS]; /* those written to, again with O_DIRECT; -1: not there */
	struct net_host nets;
	char *kernel_path;
	bool kernel_shared; /* its text is mapped, not copied */
	const char *fs_type; /* static */
	bool emulated; /* the host's KVM emulates the guest kernel: no VMX, no SVM */
};

/* The descriptors of a VMM, in the order of their numbers from VMM_FD_FIRST on. Borrowed. */
#define HANDOVER_MAX                                                                                                   \
	(VMM_FD_FIRST + 2 * VMM_DISKS_MAX + VMM_INITRDS_MAX + VMM_NETS_MAX +                                           \
	 5) /* kvm, console, kernel, counters, capture */
struct handover {
	int fds[HANDOVER_MAX]; /* index: the number in the VMM */
	unsigned n;
};

void vm_files_init(struct vm_files *files);

/* share_kernel: the kernel's text may be mapped, if its file allows that. */
int vm_files_open(const struct mvm_spec *spec, bool share_kernel, struct vm_files *files, struct mvm_error *err);
void vm_files_close(struct vm_files *files);

/* How large the largest file that is written to may become, bytes. */
uint64_t vm_files_written_max(const struct vm_files *files, const struct mvm_spec *spec);

/*
 * The whole disks of the host that hold the VM's disks, each once, for --io-max; `sys`: where sysfs is mounted.
 * -ENOTBLK: a file of them is on no such disk.
 */
int vm_files_devices(const struct vm_files *files, const struct mvm_spec *spec, const char *sys,
		     dev_t ret_devices[VMM_DISKS_MAX], unsigned *ret_n, struct mvm_error *err);

/* Whether `fd` is one of them, which it must not be to be written to. */
bool vm_files_hold(const struct vm_files *files, int fd);

/* The id that the guest sees of a disk; 0: the rootfs, 1 on: those of --disk. */
void vm_files_disk_id(const struct mvm_spec *spec, unsigned disk, char ret_id[VMM_DISK_ID_MAX + 1]);

/*
 * Fills config and the hand-over list from VMM_FD_FIRST on; the caller sets the fixed ones.
 * *config need not be zeroed.
 */
int vm_files_describe(const struct mvm_spec *spec, const struct vm_files *files, struct vmm_config *config,
		      struct handover *handover, struct mvm_error *err);

#endif
