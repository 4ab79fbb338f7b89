/*
 * VMM -> supervisor: what a VM's devices and vCPUs have done, as numbers that only grow.
 *
 * Purpose: one struct counters in a memfd that both map. The VMM adds with plain stores and makes no call for it; the
 *          supervisor reads at any time, also after the VMM was killed (receipt, metrics).
 * Trust:   the reader treats every number as hostile: a guest that owns its VMM may write any. It copies them
 *          (counters_copy()), indexes nothing by them, and says in its output that they are the VMM's word. The memfd's
 *          size is sealed, so that no writer can take it from under a reader.
 * Ownership: the supervisor makes the memfd and keeps a read-only mapping until its own end; the VMM maps it while it
 *          starts, then closes the descriptor.
 * Thread:  each number has one writer at a time (its thread, or the lock of its device), any number of readers.
 * Layout:  native integers (both ends are the same machine and the same build), all of them uint64_t.
 */
#ifndef MVM_COUNTERS_H
#define MVM_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#include "mvm/vmm_config.h"

/* What a queue's two ends cost. */
struct counters_queues {
	uint64_t kicks; /* wake-ups for its queues; of a disk those of its threads, which wake each other, too */
	uint64_t interrupts; /* raised for the driver, whether or not it had them masked */
};

/* Requests count when they are answered; those that fail count as errors besides. Bytes: as moved. */
struct counters_disk {
	struct counters_queues queues;
	uint64_t reads, read_bytes;
	uint64_t writes, written_bytes;
	uint64_t flushes;
	uint64_t discards, discarded_bytes; /* bytes: as asked for */
	uint64_t zeroes, zeroed_bytes; /* write zeroes; bytes: as asked for */
	uint64_t others; /* the disk's id, and types that there are none of */
	uint64_t errors; /* answered with IOERR or UNSUPP: the guest's mistakes and the host's */
	uint64_t throttled, throttled_ns; /* requests that had to wait for --blk-iops, --blk-bps; how long in all */
	uint64_t no_space; /* of the errors those for which the host had no room (ENOSPC, EDQUOT) */
};

#define COUNTERS_BUCKETS 24

/*
 * How long a disk's requests took, from the thread that took one to its answer, waiting for limits included. Bucket i:
 * those of at most 2^i microseconds that are in no bucket before it; the last: all longer ones.
 */
struct counters_latency {
	uint64_t buckets[COUNTERS_BUCKETS];
	uint64_t sum_ns;
};

struct counters_vsock {
	struct counters_queues queues;
	uint64_t opened; /* connections established, streams of commands among them */
	uint64_t refused; /* dials that were refused, by the supervisor or for want of room */
	uint64_t from_guest_bytes, to_guest_bytes; /* payload */
	uint64_t reserved[2];
};

/* Connections that hosts opened to the guest (--publish); in the numbers of the vsock device, too. */
struct counters_publish {
	uint64_t opened; /* that the guest's kernel took */
	uint64_t refused; /* by the guest: it ended them without a byte, or never took them */
	uint64_t from_guest_bytes, to_guest_bytes; /* payload */
};

#define COUNTERS_NET_DROPS 8 /* vmm/virtio/net.h, enum net_drop less one */

/* Bytes: of frames. Dropped packets are in nothing else. */
struct counters_net {
	struct counters_queues queues;
	uint64_t tx_packets, tx_bytes, tx_dropped; /* from the guest */
	uint64_t rx_packets, rx_bytes, rx_dropped; /* to it */
	uint64_t drops[COUNTERS_NET_DROPS]; /* why those of the guest's were dropped */
	uint64_t rx_filtered; /* to it, but not to an address that it listens to: in nothing else */
	uint64_t capture_dropped; /* frames, both ways, that --pcap had no room for */
};

struct counters_rng {
	struct counters_queues queues;
	uint64_t requests, bytes;
};

struct counters_console {
	uint64_t interrupts;
	uint64_t bytes; /* that the guest wrote */
	uint64_t written_bytes; /* that reached the file of --console */
	uint64_t dropped_bytes; /* that should have */
};

/* Why a vCPU left the guest for the VMM. What KVM settles in the kernel (most of it) is not among them. */
enum counters_exit {
	COUNTERS_EXIT_MMIO_READ, /* a device's register */
	COUNTERS_EXIT_MMIO_WRITE,
	COUNTERS_EXIT_PORT, /* port I/O */
	COUNTERS_EXIT_KICKED, /* a signal: the end, or a stopped process that goes on */
	COUNTERS_EXIT_FATAL, /* a triple fault, an error of KVM's, a reason that we do not know */
	COUNTERS_EXITS,
};

struct counters_vcpu {
	uint64_t exits[8]; /* index: enum counters_exit; a cache line, as each has one thread */
};

struct counters {
	struct counters_disk disks[VMM_DISKS_MAX]; /* as the config has them: rootfs first */
	struct counters_vcpu vcpus[VMM_VCPUS_MAX];
	struct counters_latency latencies[VMM_DISKS_MAX]; /* of the disks */
	struct counters_net nets[VMM_NETS_MAX];
	struct counters_vsock vsock;
	struct counters_rng rng;
	struct counters_console console;
	struct counters_publish publish;
};

_Static_assert(sizeof(struct counters_disk) == 128 && sizeof(struct counters_vcpu) == 64, "whole cache lines");
_Static_assert(COUNTERS_EXITS <= 8, "room for each");
_Static_assert(sizeof(struct counters) % sizeof(uint64_t) == 0 && sizeof(struct counters) <= 8192, "two pages");

/* The writer's; one at a time. No locked instruction: a load and a store that no reader sees half of. */
static inline void counters_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* The reader's: each number whole; numbers of one moment they are not. */
static inline void counters_copy(const struct counters *from, struct counters *ret_copy)
{
	const uint64_t *src = (const uint64_t *)from;
	uint64_t *dst = (uint64_t *)ret_copy;

	for (size_t i = 0; i < sizeof(*from) / sizeof(*src); i++)
		dst[i] = __atomic_load_n(&src[i], __ATOMIC_RELAXED);
}

/* The bucket of a latency. */
static inline unsigned counters_bucket(uint64_t ns)
{
	uint64_t us = ns / 1000 + (ns % 1000 != 0);
	unsigned bucket = us > 1 ? 64U - (unsigned)__builtin_clzll(us - 1) : 0;

	return bucket < COUNTERS_BUCKETS ? bucket : COUNTERS_BUCKETS - 1;
}

/* A vCPU's exits of all kinds. */
static inline uint64_t counters_exits(const struct counters_vcpu *vcpu)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < COUNTERS_EXITS; i++)
		sum += vcpu->exits[i];
	return sum;
}

#endif
