/*
 * Supervisor -> VMM: the configuration of one virtual machine.
 *
 * Purpose: one fixed-layout, versioned struct in a sealed memfd, the only configuration that
 *          mvm-vmm ever reads; JSON, YAML, tar and OCI never reach it.
 * Trust:   written by libmvm's supervisor; the VMM validates every field all the same
 *          (vmm/config.c), because the seal proves who wrote it only as long as nobody errs.
 * Ownership: file descriptors named here are inherited over exec and belong to the VMM.
 * Layout:  native integers (both ends are the same machine and the same build).
 */
#ifndef MVM_VMM_CONFIG_H
#define MVM_VMM_CONFIG_H

#include <stdint.h>

#define VMM_CONFIG_MAGIC   0x434d564dU /* "MVMC" */
#define VMM_CONFIG_VERSION 6U

/* The descriptors that every VMM starts with; all others are named in struct vmm_config. */
enum vmm_fd {
	VMM_FD_CONFIG = 0, /* sealed memfd holding struct vmm_config */
	VMM_FD_CONTROL = 1, /* SOCK_SEQPACKET to the supervisor, messages of mvm/control.h */
	VMM_FD_LOG = 2, /* write end of the log pipe, text lines */
	VMM_FD_JAIL = 3, /* sealed memfd of jail papers (vmm/jail/papers.h) */
	VMM_FD_FIRST = 4, /* first descriptor named by the config */
};

#define VMM_VCPUS_MAX   32U
#define VMM_DISKS_MAX   16U
#define VMM_INITRDS_MAX 2U /* the agent's archive, then the user's */
#define VMM_CMDLINE_MAX 2048U /* with the terminating NUL; x86 COMMAND_LINE_SIZE */
#define VMM_DISK_ID_MAX 20U /* VIRTIO_BLK_ID_BYTES; not NUL-terminated when full */
#define VMM_MEM_MIN     (32ULL << 20) /* the least that our kernel boots in: tests/e2e/cases/host.sh, smallest_memory */
#define VMM_MEM_MAX     (64ULL << 30)

#define VMM_IOPS_MAX 1000000000U /* the limits of a disk that can be asked for, besides 0: none */
#define VMM_BPS_MIN  4096U
#define VMM_BPS_MAX  (1ULL << 40)

#define VMM_NETS_MAX    4U
#define VMM_NET_MTU_MIN 68U /* RFC 791 §3.2; IPv6 wants 1280 */
#define VMM_NET_MTU_MAX 65520U
#define VMM_PPS_MAX     1000000000U /* the limits of a network device, besides 0: none */

#define VMM_CONSOLE_RATE     (4U << 20) /* bytes a second: more than a UART that exits for each byte brings */
#define VMM_CONSOLE_RATE_MAX (1U << 30)

enum vmm_config_flags {
	VMM_CONFIG_RNG = 1U << 0, /* attach virtio-rng */
	VMM_CONFIG_VSOCK = 1U << 1, /* attach virtio-vsock */
	VMM_CONFIG_CONSOLE = 1U << 2, /* console_fd is valid */
	VMM_CONFIG_KERNEL_MAPPED = 1U << 3, /* only root and the caller can write kernel_fd's file: map it */
	VMM_CONFIG_ALL = (1U << 4) - 1,
};

enum vmm_disk_flags {
	VMM_DISK_RO = 1U << 0,
	VMM_DISK_ALL = (1U << 1) - 1,
};

struct vmm_disk {
	int32_t fd;
	uint32_t flags; /* enum vmm_disk_flags */
	uint64_t size; /* bytes, a multiple of 512, as found when it was opened */
	char id[VMM_DISK_ID_MAX]; /* VIRTIO_BLK_T_GET_ID answer, NUL-padded */
	int32_t direct_fd; /* the same file opened again with O_DIRECT; 0: not there */
	uint64_t iops, bps; /* operations and bytes a second, 0: no limit; see vmm/virtio/ratelimit.h */
};

enum vmm_net_flags {
	VMM_NET_TAP =
		1U << 0, /* a tap with vnet headers; else a stream socket of frames behind their lengths, as passt's */
	VMM_NET_ALL = (1U << 1) - 1,
};

/* A network device. Frames from the guest with another source than these addresses are dropped. */
struct vmm_net {
	int32_t fd;
	uint32_t flags; /* enum vmm_net_flags */
	uint8_t mac[6]; /* the guest's */
	uint16_t mtu; /* bytes */
	uint8_t ip4[4], ip6[16]; /* the guest's; zeroes: whatever it says */
	uint32_t pps; /* packets a second in each direction, 0: no limit */
	uint64_t bps; /* bytes a second in each direction, 0: no limit */
};

struct vmm_initrd {
	int32_t fd;
	uint32_t reserved;
	uint64_t size; /* bytes */
};

struct vmm_config {
	uint32_t magic;
	uint32_t version;
	uint32_t size; /* sizeof(struct vmm_config) */
	uint32_t flags; /* enum vmm_config_flags */
	uint64_t mem_bytes; /* multiple of 4096 */
	uint64_t guest_cid; /* vsock context id, >= 3 */
	uint32_t vcpus; /* 1 .. VMM_VCPUS_MAX */
	int32_t kvm_fd;
	int32_t console_fd; /* where serial output goes; -1: only the log's last lines */
	int32_t kernel_fd;
	uint64_t kernel_size; /* bytes */
	uint32_t ninitrds;
	uint32_t ndisks;
	struct vmm_initrd initrds[VMM_INITRDS_MAX];
	struct vmm_disk disks[VMM_DISKS_MAX];
	struct vmm_net nets[VMM_NETS_MAX];
	uint64_t console_rate; /* bytes a second that reach console_fd; 0: VMM_CONSOLE_RATE */
	int32_t counters_fd; /* memfd of a struct counters (mvm/counters.h); 0: nobody counts */
	uint32_t nnets;
	int32_t capture_fd; /* where frames are copied to (mvm/capture.h); 0: nobody looks */
	uint32_t capture_snap; /* bytes of each at most, CAPTURE_SNAP_MIN to CAPTURE_FRAME_MAX; 0 without capture_fd */
	char cmdline[VMM_CMDLINE_MAX]; /* NUL-terminated */
};

_Static_assert(sizeof(struct vmm_disk) == 56, "layout");
_Static_assert(sizeof(struct vmm_net) == 48, "layout");
_Static_assert(sizeof(struct vmm_initrd) == 16, "layout");
_Static_assert(sizeof(struct vmm_config) == 88 + 2 * 16 + 16 * 56 + 4 * 48 + 2048, "layout");

#endif
