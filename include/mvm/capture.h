/*
 * VMM -> supervisor: frames of a VM's network devices, for --pcap.
 *
 * Purpose: one SOCK_SEQPACKET datagram is one struct capture_record with the first bytes of a frame behind it: all, or as
 *          many as the config's capture_snap. The VMM never waits: what the socket does not take is lost to the capture
 *          and counted (counters.h). It ends when the supervisor closes its end.
 * Trust:   the supervisor treats every byte as hostile (a guest may own the VMM); it receives without a control buffer,
 *          so a VMM can pass it no descriptor.
 * Layout:  native integers (both ends are the same machine and the same build).
 */
#ifndef MVM_CAPTURE_H
#define MVM_CAPTURE_H

#include <stdint.h>

#define CAPTURE_FRAME_MIN 14U /* bytes: an Ethernet header */
#define CAPTURE_FRAME_MAX 65549U /* vmm/virtio/net.h, NET_FRAME_MAX */
#define CAPTURE_SNAP_MIN  64U

struct capture_record {
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint32_t len; /* bytes of the frame, CAPTURE_FRAME_MIN to CAPTURE_FRAME_MAX */
	uint8_t net; /* the device, by its place in the configuration */
	uint8_t to_guest; /* 1: received by the guest, 0: sent */
	uint16_t reserved; /* 0 */
};

_Static_assert(sizeof(struct capture_record) == 16, "layout");

#endif
