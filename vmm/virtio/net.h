/*
 * The network device's own parts, shared by vmm/virtio/net*.c and nobody else.
 *
 * Purpose: net.c is the device (queues, activation, reset, limits, state); net_tx.c takes packets from the
 *          guest, net_rx.c brings them; net_frame.c judges what a guest may send; net_capture.c copies frames out
 *          (--pcap); net_ctrl.c does what the guest commands; net_tap.c and net_stream.c are the two kinds of host ends.
 * Trust:   packets and rings are the guest's, hostile: what is judged of a packet (its offload header, the first
 *          NET_HEAD bytes) is copied once, and the copy is sent. What comes from the host's end is checked for
 *          its size and its offloads, so that no guest gets what its driver did not ask for.
 * Ownership: the device owns its end's descriptor, its timer and its eventfd.
 * Thread:  all under dev->lock. All on the I/O thread, except activate, reset, save and restore, which vCPU
 *          threads call: they touch memory, and write one eventfd.
 *
 * Directions, as the guest has them: "tx" guest -> host, "rx" host -> guest.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include <stddef.h>

#include "mvm/capture.h"
#include "mvm/endian.h"
#include "virtio/devices.h"
#include "virtio/ratelimit.h"

/* Linux 6.2; the headers are older. */
#define NET_F_GUEST_USO4 54U
#define NET_F_GUEST_USO6 55U
#define NET_F_HOST_USO   56U
#define NET_GSO_UDP_L4   5U

#define NET_RX   0U /* queues, virtio 1.2 §5.1.2 */
#define NET_TX   1U
#define NET_CTRL 2U

#define NET_ETH       14U /* bytes of an Ethernet header */
#define NET_FRAME_MAX (NET_ETH + 65535U) /* an IP packet of the largest size; larger than any MTU's frame */
#define NET_HEAD      128U /* bytes of a frame that are looked at, and so copied */
#define NET_STASH     128U /* receive buffers held ready */
#define NET_RX_IOV    20U /* pieces of a receive buffer that we use; Linux makes 19 at most */
#define NET_IOV       (NET_STASH + 64U) /* pieces of one read */
#define NET_RUN       128U /* packets in one direction, then other devices have their turn */
#define NET_RUN_BYTES (1U << 20)
#define NET_COMMANDS  64U /* of the control queue, then other devices have their turn */
#define NET_MACS      64U /* addresses in the table of those that the guest receives besides its own */
#define NET_SEGMENTS  1024U /* of one packet */
#define NET_HEADERS   54U /* bytes of Ethernet, IP and TCP headers that each segment has again */

/* virtio 1.2 §5.1.6, with num_buffers always, as VERSION_1 has it */
struct net_hdr {
	uint8_t flags;
	uint8_t gso_type;
	struct le16 hdr_len;
	struct le16 gso_size;
	struct le16 csum_start;
	struct le16 csum_offset;
	struct le16 num_buffers;
};

_Static_assert(sizeof(struct net_hdr) == 12, "virtio 1.2 §5.1.6");

/* Why a packet of the guest's goes nowhere. */
enum net_drop {
	NET_PASSED = 0,
	NET_DROP_SIZE, /* runt or giant */
	NET_DROP_OFFLOAD, /* an offload header that was not negotiated or makes no sense */
	NET_DROP_MAC, /* not from the guest's own address */
	NET_DROP_ADDRESS, /* IP, ARP or neighbour discovery with an address that is not the guest's */
	NET_DROP_ROUTE, /* source-routed */
	NET_DROP_ROUTER, /* what only a router says: router advertisements, redirects */
	NET_DROP_KIND, /* VLAN tags, malformed headers and, where addresses are given, what is neither IP nor ARP */
	NET_DROP_HOST, /* the host's end did not take it */
	NET_DROPS,
};

const char *net_drop_name(enum net_drop drop);

/* Whose frames may leave. */
struct net_rules {
	uint8_t mac[6];
	uint8_t ip4[4], ip6[16]; /* zeroes: any */
	uint32_t mtu;
};

/* TCP or UDP in a frame that passed, whole; at 0: it carries something else, or a fragment. */
struct net_transport {
	size_t at; /* where its header begins */
	uint8_t gso; /* the one gso_type that may be said of it */
};

/* Judges a frame of `len` bytes by its first `nhead`: min(len, NET_HEAD). */
enum net_drop net_frame_check(const struct net_rules *rules, const uint8_t *head, size_t nhead, size_t len,
			      struct net_transport *ret_transport);

/*
 * Judges an offload header against the features of the driver and the frame behind it. A checksum is stored by the host
 * after the frame was judged: nowhere but in the checksum's own place behind `transport`. *ret_segments: what it becomes.
 */
enum net_drop net_offload_check(const struct net_hdr *hdr, uint64_t acked, size_t len,
				const struct net_transport *transport, uint32_t mtu, unsigned *ret_segments);

/* Whether the driver asked to receive packets such as this one. */
bool net_offload_wanted(const struct net_hdr *hdr, uint64_t acked);

struct net;

/* A kind of host end. */
struct net_end {
	/* Adds the offloads that it understands to the device's features. 0, or -errno for an end that cannot be used. */
	int (*open)(struct net *net);
	/* Tells the end which packets the driver takes; I/O thread. */
	void (*negotiated)(struct net *net);
	/*
	 * One packet: iov[0] is the offload header, then the frame of `len` bytes. 0 when it is on its way, -EAGAIN when the end
	 * is full and keeps nothing (on_writable will come), else it is lost. May change iov.
	 */
	int (*send)(struct net *net, struct iovec *iov, unsigned niov, size_t len);
	/*
	 * One packet into iov, whose first piece is the offload header: bytes of the frame, 0: none, -EAGAIN: ask again, another
	 * -errno: the end is over.
	 */
	ssize_t (*receive)(struct net *net, struct iovec *iov, unsigned niov);
	void (*on_writable)(struct net *net);
	void (*close)(struct net *net);
};

extern const struct net_end net_end_tap, net_end_stream;

struct net_stream; /* net_stream.c */

/* A popped receive buffer: kept until a packet fills it. Its head is what a snapshot records. */
struct net_rxbuf {
	uint16_t head;
	uint16_t niov;
	uint32_t len; /* bytes in iov */
	struct iovec iov[NET_RX_IOV];
};

/* Which frames the guest wants, virtio 1.2 §5.1.6.5: all, until it says otherwise. */
struct net_filter {
	bool on; /* not promiscuous */
	bool allmulti;
	bool all_unicast, all_multicast; /* it gave more addresses than the table holds */
	uint8_t nunicast, nmulticast; /* in the table, in this order */
	uint8_t macs[NET_MACS][6];
};

/* Where copies of the frames go that came through: --pcap. */
struct net_capture {
	bool on; /* somebody looks */
	uint8_t number; /* of this device */
	int fd; /* borrowed */
	uint32_t snap; /* bytes */
	uint8_t *
		frame; /* NET_FRAME_MAX bytes: what the guest sends is copied first, so that what is shown is what left */
};

struct net {
	struct virtio_dev dev;
	const struct net_end *end;
	struct net_stream *stream; /* of the stream end */
	struct loop_source host; /* the end's descriptor */
	struct loop_source work; /* an eventfd: what must wait for its turn, or for the I/O thread */
	struct loop_source timer; /* a limit allows the next packet */
	struct net_rules rules;
	struct ratelimit tx_limit, rx_limit;
	uint64_t timer_ns; /* when it goes off; 0: it is not set */
	bool active; /* DRIVER_OK was seen, no reset since */
	bool ready; /* and the end knows of it */
	bool link; /* the end is there; the driver reads it in the configuration's status */
	bool readable; /* the end may have packets (edge-triggered: true until it has none) */
	bool full; /* the end takes nothing until on_writable */
	struct counters_net *counted, uncounted; /* as dev.counted */

	struct net_capture capture;
	struct net_filter filter;

	/* rx: what is being received */
	unsigned nstash, first; /* a ring: net_rx.c */
	size_t stash_bytes; /* in all of them */
	uint16_t restored[NET_STASH]; /* heads of a snapshot, taken up again by activate */
	unsigned nrestored;
	struct net_rxbuf stash[NET_STASH];
	struct net_hdr rx_hdr;
	size_t held; /* bytes of a frame that has no room yet, 0: none */
	size_t held_at; /* its bytes from here on are in `tail`, those before in the stash */
	uint8_t *tail; /* NET_FRAME_MAX bytes */

	/* scratch */
	struct vq_chain chain;
	struct iovec iov[VQ_CHAIN_MAX + 4];
	struct {
		struct net_hdr hdr;
		uint8_t frame[NET_HEAD];
	} head;
};

_Static_assert(NET_IOV <= VQ_CHAIN_MAX + 2, "one scratch serves both directions");

_Static_assert(NET_FRAME_MAX == CAPTURE_FRAME_MAX && NET_ETH == CAPTURE_FRAME_MIN, "any frame is shown");

_Static_assert(NET_DROPS - 1 == COUNTERS_NET_DROPS, "each has its place");

static inline struct net *net_of(struct virtio_dev *dev)
{
	return (struct net *)dev; /* dev is the first member */
}

/* Rate-limited. I/O thread only. */
#define net_warn(net, fmt, ...)                                                                                        \
	do {                                                                                                           \
		if (log_allowed(&(net)->dev.log_limit, (net)->dev.name))                                               \
			log_warn("%s: " fmt, (net)->dev.name, ##__VA_ARGS__);                                          \
	} while (0)

/* net.c */
void net_schedule(struct net *net); /* run again after the other devices had their turn; any thread */
void net_link_down(struct net *net, const char *reason); /* the host's end is over */
uint64_t net_now(void); /* CLOCK_MONOTONIC, ns */
void net_wait_until(struct net *net, uint64_t at_ns); /* run again then */

/* net_ctrl.c */
void net_ctrl_run(struct net *net);
bool net_filter_wants(const struct net *net); /* the frame just read into net->iov, by a filter that is on */
void net_filter_save(const struct net *net, struct state_writer *w);
int net_filter_restore(struct net *net, struct state_reader *r); /* -EINVAL */

/* net_capture.c: the packet in net->chain, whose first bytes are in net->head, as one copy; the number of net->iov's pieces. */
unsigned net_capture_gather(struct net *net, size_t copied);
void net_capture_frame(struct net *net, const uint8_t *frame, size_t len, bool to_guest);

void net_tx_run(struct net *net);
void net_rx_run(struct net *net);
int net_rx_take_up(struct net *net); /* after a restore: the snapshot's receive buffers; -EPROTO */

#endif
