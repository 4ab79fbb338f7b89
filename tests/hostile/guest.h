/*
 * The hostile guest: a kernel of its own that owns the devices of one microVM and breaks their rules.
 *
 * Purpose: what its cases share: registers, rings, the console, a second CPU. No Linux, no library, no interrupt:
 *          everything is polled. Each boot runs the one case that `case=NAME` on the command line names.
 * Result:  "wrong: …" for each expectation that failed and "case NAME: done" on the serial port, then power-off.
 * Memory:  identity-mapped by the VMM; all of it is this program's, so addresses are pointers and the other way round.
 * Thread:  the boot CPU; a case may start one more (ap_start).
 */
#ifndef HOSTILE_GUEST_H
#define HOSTILE_GUEST_H

#include <linux/virtio_ids.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define AP_CODE      0x8000ULL
#define POWEROFF     0x34U
#define SLOTS        24U
#define SLOT(i)      (X86_VIRTIO + 0x1000ULL * (i))
#define SECOND       1000000000ULL /* ns */
#define PATIENCE     (20 * SECOND) /* what an answer may take at most, emulated CPUs included */
#define RAM_LEAST    (32ULL << 20) /* the suite's runs have this much, and no more */
#define RINGS        3U
#define RING_ENTRIES 256U
#define RING_BYTES                                                                                                     \
	(2U * 4096 + 1024) /* of struct ring, in whole sectors: descriptors, available and most of the used ring */
#define DATA_BYTES (1U << 20)

/* virtio-mmio registers, virtio 1.2 §4.2.2 */
enum reg {
	R_MAGIC = 0x000,
	R_VERSION = 0x004,
	R_DEVICE_ID = 0x008,
	R_DEVICE_FEATURES = 0x010,
	R_DEVICE_FEATURES_SEL = 0x014,
	R_DRIVER_FEATURES = 0x020,
	R_DRIVER_FEATURES_SEL = 0x024,
	R_QUEUE_SEL = 0x030,
	R_QUEUE_NUM_MAX = 0x034,
	R_QUEUE_NUM = 0x038,
	R_QUEUE_READY = 0x044,
	R_QUEUE_NOTIFY = 0x050,
	R_INTERRUPT_STATUS = 0x060,
	R_INTERRUPT_ACK = 0x064,
	R_STATUS = 0x070,
	R_QUEUE_DESC = 0x080, /* low, then high */
	R_QUEUE_AVAIL = 0x090,
	R_QUEUE_USED = 0x0a0,
	R_CONFIG = 0x100,
};

enum { S_ACK = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 64, S_FAILED = 128 };
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };
#define F_INDIRECT  (1ULL << 28)
#define F_EVENT_IDX (1ULL << 29)
#define F_VERSION_1 (1ULL << 32)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct avail {
	volatile uint16_t flags, idx;
	volatile uint16_t entries[RING_ENTRIES];
	volatile uint16_t used_event;
};

struct used {
	volatile uint16_t flags, idx;
	struct {
		volatile uint32_t id, len;
	} entries[RING_ENTRIES];
	volatile uint16_t avail_event;
};

struct ring {
	struct desc desc[RING_ENTRIES] __attribute__((aligned(4096)));
	struct avail avail __attribute__((aligned(4096)));
	struct used used __attribute__((aligned(4096)));
	uint64_t base; /* its device's registers */
	uint16_t queue, size;
	uint16_t seen; /* used entries that were looked at */
};

extern struct ring rings[RINGS];
extern uint8_t data[DATA_BYTES];

/* platform.c */
void put_byte(uint8_t byte);
void print(const char *text);
void print_hex(uint64_t value);
void wrong(const char *what, uint64_t value);
#define expect(what, condition, value)                                                                                 \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			wrong(what, (uint64_t)(value));                                                                \
	} while (0)
bool word(const char *name, const char **ret_value); /* of the command line: NAME=VALUE, up to a space */
uint64_t now(void); /* ns */
void wait_ns(uint64_t ns);
uint32_t any(void); /* a number from a fixed sequence: a failing run can be repeated */
void ap_start(void (*fn)(void)); /* the second CPU runs fn, once */
void power_off(void);
__attribute__((noreturn)) void halt(void);
void *memset(void *dst, int byte, size_t n);
void *memcpy(void *dst, const void *src, size_t n);

#define MMIO(bits, type)                                                                                               \
	static inline type read##bits(uint64_t gpa)                                                                    \
	{                                                                                                              \
		return *(volatile type *)gpa;                                                                          \
	}                                                                                                              \
	static inline void write##bits(uint64_t gpa, type value)                                                       \
	{                                                                                                              \
		*(volatile type *)gpa = value;                                                                         \
	}
MMIO(8, uint8_t)
MMIO(16, uint16_t)
MMIO(32, uint32_t)
MMIO(64, uint64_t)

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint64_t address(const volatile void *p)
{
	return (uint64_t)p;
}

/* virtio.c */
uint64_t device_find(uint32_t id, unsigned nth); /* its registers; says so and powers off if there is none */
uint64_t device_features(uint64_t base);
uint32_t device_negotiate(uint64_t base, uint64_t features); /* from reset to FEATURES_OK; the status then */
void queue_addresses(uint64_t base, unsigned queue, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used);
void ring_init(struct ring *ring, uint64_t base, unsigned queue, uint16_t size); /* empty, told to the device, ready */
void device_up(uint64_t base, unsigned queues, uint16_t size, uint64_t features); /* reset to DRIVER_OK with rings[] */
bool device_broken(uint64_t base); /* waits for DEVICE_NEEDS_RESET */
void desc_set(struct ring *ring, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, unsigned next);
void offer(struct ring *ring, uint16_t head); /* without a kick */
void kick(const struct ring *ring);
bool wait_used(struct ring *ring, uint32_t *ret_len); /* the next used entry */

/* A device is of use again: after whatever a case did to it. */
void rng_works(void);
void blk_works(uint64_t base);
void rng_up(uint64_t features); /* rings[0], 64 entries */

#define BLK_HEADER (data + DATA_BYTES - 64)
#define BLK_STATUS (data + DATA_BYTES - 32)
enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_ZEROES = 13 };
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPP = 2, BLK_SILENT = 0xff };
uint64_t blk_writable(void); /* the disk that is not the root */
void blk_header(uint32_t type, uint64_t sector);
/* One request by three descriptors on rings[0]; its status. */
uint8_t blk_request(uint32_t type, uint64_t sector, const void *buffer, uint32_t len);

/* The cases. */
struct hostile_case {
	const char *name;
	void (*run)(void);
};
extern const struct hostile_case mmio_cases[], status_cases[], ring_cases[], blk_cases[], vsock_cases[], net_cases[],
	packet_cases[], machine_cases[];

#endif
