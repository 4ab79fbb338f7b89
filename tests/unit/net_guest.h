/*
 * A guest and a host's end around a network device: frames whose bytes depend on their number, both ways through a stream socket.
 * For the tests of vmm/virtio/net*.c. A failure aborts the test.
 */
#ifndef TESTS_NET_GUEST_H
#define TESTS_NET_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/virtio_net.h>

#include "fake_driver.h"
#include "virtio/net.h"

#define MEM       (8U << 20)
#define HDR       ((uint32_t)sizeof(struct net_hdr))
#define MERGE     (1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_RING_F_EVENT_IDX)
#define FRAME_MAX 65549U

extern const uint8_t nic_guest_mac[6];
extern struct fake_driver nic;
extern struct vmm_net nic_config; /* what the next device is made by */
extern int nic_host; /* the other end of the device's socket; -1: none */

struct virtio_dev *nic_new(int sndbuf); /* with a socket of its own; sndbuf: bytes, 0: the system's */
void nic_start(uint64_t features, int sndbuf);
int nic_teardown(void **state);

void nic_fill(uint8_t *frame, size_t len, unsigned number);

/* The host's side. */
void nic_host_write(const void *p, size_t len);
void nic_host_send(size_t len, unsigned number);
void nic_host_expect(size_t len, unsigned number);
void nic_host_expect_nothing(void);

/* The guest's: nic_guest_add() makes a frame available in `pieces` buffers, its head; nic_guest_send() waits until it was taken. */
int nic_guest_add(size_t len, unsigned number, unsigned pieces, enum fake_add_flags flags);
void nic_guest_send(size_t len, unsigned number, unsigned pieces, enum fake_add_flags flags);
void nic_give(unsigned n, uint32_t len);
void nic_guest_expect(size_t len, unsigned number); /* over as many buffers as its header says */
void nic_no_more_packets(void);

/* For fake_on_io(): what the I/O thread has been told before is done when this returns. */
void nic_nothing(void *arg);

#endif
