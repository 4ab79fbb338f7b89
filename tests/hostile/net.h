/*
 * A network driver that could behave, and frames: for case_net.c (queues) and case_packet.c (what is in them).
 *
 * Purpose: one packet at a time, made in place behind its offload header. The runner has the other end: each frame that it
 *          gets must bear net_good()'s mark, in the number that the guest tells at the case's end, and come from OWN_MAC;
 *          those marked by net_echo() it sends back.
 * Units:   lengths of frames are without the offload header.
 */
#ifndef HOSTILE_NET_H
#define HOSTILE_NET_H

#include "guest.h"

#define NET_QUEUE    64U /* entries */
#define NET_RX       0U
#define NET_TX       1U
#define NET_CTRL     2U
#define NET_ETH      14U
#define NET_MTU      1500U
#define NET_RX_BYTES 4096UL

/* VIRTIO_NET_F_*, virtio 1.2 §5.1.3 */
#define NET_F_CSUM      (1ULL << 0)
#define NET_F_HOST_TSO4 (1ULL << 11)
#define NET_F_HOST_TSO6 (1ULL << 12)
#define NET_F_HOST_ECN  (1ULL << 13)
#define NET_F_MRG_RXBUF (1ULL << 15)
#define NET_F_CTRL      (1ULL << 17 | 1ULL << 18) /* the queue, and receive modes */

/* virtio 1.2 §5.1.6; little-endian, as this machine is */
struct net_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

/* The packet that is made, and sent. */
#define NET_HEADER ((struct net_header *)(data + DATA_BYTES / 2))
#define NET_FRAME  (data + DATA_BYTES / 2 + sizeof(struct net_header))

enum { ETH_IP4 = 0x0800, ETH_ARP = 0x0806, ETH_IP6 = 0x86dd };
enum { IP_ICMP = 1, IP_TCP = 6, IP_UDP = 17, IP_ROUTING = 43, IP_FRAGMENT = 44, IP_ICMP6 = 58, IP_DESTINATION = 60 };

/* What the runner gave the device, and what others have. */
extern const uint8_t own_mac[6], other_mac[6], own4[4], other4[4], own6[16], link6[16], other6[16];

extern uint64_t net_base;

/* Reset to DRIVER_OK; `receive` buffers of NET_RX_BYTES are given. */
void net_up(uint64_t features, unsigned receive);
void net_give(unsigned i, uint32_t len); /* the receive buffer `i`, without a kick */
uint8_t *net_buffer(unsigned i);

/* The frame as it is: a descriptor of the transmit queue; waits for it to be used. */
void net_send(size_t len);
void net_good(size_t len); /* with a mark behind it: must come out */
void net_evil(size_t len); /* with another: must not */
size_t net_mark(size_t len, const char *mark); /* puts four letters behind a frame; the length with them */
size_t net_mark_good(size_t len); /* for who sends it otherwise than by net_good() */

/* A good frame that comes back; waits until it did. */
void net_echo(void);
void net_ask_echo(void); /* and does not wait */

/* The device is of use again after a reset, and says how many frames must have come out. The end of each case. */
void net_works(void);

/* Frames, from the guest and correct; their lengths. Headers only: what is behind is zeroes, 8 bytes of it counted. */
size_t frame_ether(unsigned kind);
size_t frame_ip4(const uint8_t source[4], unsigned protocol);
size_t frame_ip6(const uint8_t source[16], unsigned next, unsigned payload);
size_t frame_arp(const uint8_t mac[6], const uint8_t ip[4]);
size_t frame_icmp6(unsigned type, const uint8_t target[16],
		   const uint8_t mac[6]); /* with one option, of the link layer */

#endif
