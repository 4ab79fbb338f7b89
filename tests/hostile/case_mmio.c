/* Register accesses that no driver makes: wrong widths, places, values; ports; interrupt controllers. */
#include "guest.h"

#define MAGIC    0x74726976U /* "virt" */
#define UNMAPPED (4ULL << 30) /* where the VMM's page tables map nothing */

/* The registers' values stay what they were; a driver finds everything in order. */
static void all_works(void)
{
	rng_works();
	blk_works(blk_writable());
}

static void mmio_width(void)
{
	uint64_t base = device_find(VIRTIO_ID_RNG, 0);

	expect("status", device_negotiate(base, F_VERSION_1) == (S_ACK | S_DRIVER | S_FEATURES_OK),
	       read32(base + R_STATUS));
	expect("8 bits", read8(base + R_MAGIC) == (MAGIC & 0xff), read8(base + R_MAGIC));
	expect("16 bits", read16(base + R_MAGIC) == (MAGIC & 0xffff), read16(base + R_MAGIC));
	expect("64 bits", read64(base + R_MAGIC) == (2ULL << 32 | MAGIC), read64(base + R_MAGIC));
	write8(base + R_STATUS, 0);
	write16(base + R_STATUS, 0);
	write64(base + R_STATUS, 0);
	write8(base + R_QUEUE_NOTIFY, 0);
	write64(base + R_QUEUE_NOTIFY, 0);
	expect("narrow writes counted", read32(base + R_STATUS) == (S_ACK | S_DRIVER | S_FEATURES_OK),
	       read32(base + R_STATUS));
	all_works();
}

static void mmio_unaligned(void)
{
	uint64_t base = device_find(VIRTIO_ID_RNG, 0);

	for (unsigned off = 0; off < R_CONFIG; off++)
		if (off % 4) {
			uint32_t was = read32(base + off);

			write32(base + off, any());
			expect("unaligned write", read32(base + off) == was, off);
		}
	all_works();
}

static void mmio_beyond(void)
{
	for (unsigned i = 0; i < 4; i++)
		for (unsigned off = R_CONFIG + 60; off < 0xffd; off += 36) {
			write32(SLOT(i) + off, any());
			write8(SLOT(i) + off + 1, (uint8_t)any());
			expect("beyond the configuration", read32(SLOT(i) + off) == 0, off);
		}
	all_works();
}

/* Across two devices' pages, and from the last one into nothing. */
static void mmio_straddle(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		for (unsigned back = 1; back < 8; back++) {
			(void)read64(SLOT(i + 1) - back);
			write64(SLOT(i + 1) - back, any());
			write32(SLOT(i + 1) - back, any());
		}
	write64(X86_SERIAL - 4, any());
	write64(X86_IOAPIC - 4, any());
	write32(X86_LAPIC - 2, any());
	all_works();
}

static void mmio_garbage(void)
{
	for (unsigned round = 0; round < 4; round++)
		for (unsigned i = 0; i < 6; i++)
			for (unsigned off = 0; off < 0x140; off += 4) {
				write32(SLOT(i) + off, round == 0 ? 0 : round == 1 ? UINT32_MAX : any());
				(void)read32(SLOT(i) + off);
			}
	all_works();
}

static void mmio_hole(void)
{
	static const uint64_t places[] = { RAM_LEAST,  X86_HOLE_START - 8, 0xc0003000, 0xc000f000,
					   0xd0000000, 0xfed00000,         0xfffffff8 };

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		expect("a hole that answers", read64(places[i]) == UINT64_MAX, places[i]);
		write64(places[i], any());
		write8(places[i] + 3, 1);
	}
	all_works();
}

/* String and locked instructions on registers: KVM takes them to pieces, and the pieces come here. */
static void mmio_strings(void)
{
	uint64_t base = device_find(VIRTIO_ID_RNG, 0);
	void *dst = (void *)base;
	const void *src = data;
	size_t n = 512;

	memset(data, 0xa5, 4096);
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
	dst = data;
	src = (const void *)(base - 0x800);
	n = 512;
	__asm__ volatile("rep movsl" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
	__asm__ volatile("lock orl $1, (%0)" : : "r"(base + R_STATUS) : "memory");
	__asm__ volatile("xchgl %1, (%0)" : : "r"(base + R_QUEUE_SEL), "r"(7) : "memory");
	all_works();
}

/* Redirection entries at random, but of no mode that resets or interrupts this CPU: those are cases of their own. */
static void mmio_ioapic(void)
{
	for (unsigned i = 0; i < 3000; i++) {
		uint32_t value = any() & ~0x700U;

		value |= (uint32_t[]){ 0, 0x100, 0x300, 0x600 }[i % 4];
		write32(X86_IOAPIC, i % 3 ? any() : 0x10 + any() % 64);
		(void)read32(X86_IOAPIC + 0x10);
		write32(X86_IOAPIC + 0x10, value);
		write8(X86_SERIAL + 1, i % 2 ? 2 : 0); /* an edge of the serial port's pin, whatever that is now */
		if (i % 16 == 0) {
			write64(X86_IOAPIC + 0x10, any());
			write8(X86_IOAPIC + any() % 0x1000, (uint8_t)any());
			write32(X86_IOAPIC + (any() % 0x1000 & ~3U), value & 0xff);
		}
	}
	all_works();
}

static void mmio_lapic(void)
{
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t off = (any() % 64) << 4;

		if (off == 0x300 || off == 0x310 || (off >= 0x320 && off <= 0x370)) /* IPIs and LVT: NMI, INIT, SMI */
			continue;
		write32(X86_LAPIC + off, any());
		write8(X86_LAPIC + off + 1, (uint8_t)any());
		(void)read64(X86_LAPIC + off + 2);
	}
	/* a timer that fires as often as it can */
	write32(X86_LAPIC + 0xf0, 0x1ff);
	write32(X86_LAPIC + 0x3e0, 0xb);
	write32(X86_LAPIC + 0x320, 0x20000 | 0x40);
	write32(X86_LAPIC + 0x380, 1);
	wait_ns(SECOND / 5);
	all_works();
}

static void ports(void)
{
	for (uint32_t port = 0; port < 0x10000; port += port < 0x400 ? 1 : 61) {
		uint8_t b = 0;
		uint16_t w = 0;
		uint32_t l = 0;

		__asm__ volatile("inb %1, %0" : "=a"(b) : "Nd"((uint16_t)port));
		__asm__ volatile("inw %1, %0" : "=a"(w) : "Nd"((uint16_t)port));
		__asm__ volatile("inl %1, %0" : "=a"(l) : "Nd"((uint16_t)port));
		expect("a port that answers", port == 0x64 ? b == 0 : b == 0xff, port);
		__asm__ volatile("outb %0, %1" : : "a"((uint8_t)0xff), "Nd"((uint16_t)port));
		__asm__ volatile("outw %0, %1" : : "a"((uint16_t)any()), "Nd"((uint16_t)port));
		__asm__ volatile("outl %0, %1" : : "a"(any()), "Nd"((uint16_t)port));
	}
	for (unsigned i = 0; i < 8; i++) {
		const void *src = data;
		void *dst = data + 65536;
		size_t n = 4096, m = 4096;

		__asm__ volatile("rep outsl" : "+S"(src), "+c"(n) : "d"((uint16_t)any()) : "memory");
		__asm__ volatile("rep insb" : "+D"(dst), "+c"(m) : "d"((uint16_t)any()) : "memory");
	}
	all_works();
}

/*
 * A page table in registers, which are memory that nobody may write: a live device's Status is a present entry for the
 * page at 0, and the CPU wants to note there that it was used.
 */
static void mmio_walk(void)
{
	uint64_t base = device_find(VIRTIO_ID_RNG, 0), *pdpt = (uint64_t *)(X86_PML4 + 0x1000);
	uint64_t *directory = (uint64_t *)((address(data) + 4095) & ~4095ULL);
	uint64_t there = 0x20, through = UNMAPPED + R_STATUS / 8 * 4096ULL + there;
	const uint32_t live = S_ACK | S_DRIVER | S_DRIVER_OK | S_FEATURES_OK;

	device_up(base, 1, 8, F_VERSION_1);
	directory[0] = base | 3;
	pdpt[UNMAPPED >> 30] = address(directory) | 3;
	__asm__("" : "+r"(there)); /* an address like any other */
	write64(there, 0x5a5a);
	expect("a read by registers", read64(through) == 0x5a5a, read64(through));
	write64(through, 0xa5a5);
	expect("a write by registers", read64(there) == 0xa5a5, read64(there));
	expect("status", read32(base + R_STATUS) == live, read32(base + R_STATUS));
	all_works();
}

/* Instructions fetched from registers, and then from where there are none: KVM cannot go on, and that is said. */
static void mmio_execute(void)
{
	unsigned last = 0;

	while (last + 1 < SLOTS && read32(SLOT(last + 1) + R_MAGIC) == MAGIC)
		last++;
	__asm__ volatile("jmp *%0" : : "r"(SLOT(last) + 0x800), "a"(data) : "memory"); /* zeroes: add %al, (%rax) */
}

const struct hostile_case mmio_cases[] = {
	{ "mmio-width", mmio_width },
	{ "mmio-unaligned", mmio_unaligned },
	{ "mmio-beyond", mmio_beyond },
	{ "mmio-straddle", mmio_straddle },
	{ "mmio-garbage", mmio_garbage },
	{ "mmio-hole", mmio_hole },
	{ "mmio-strings", mmio_strings },
	{ "mmio-ioapic", mmio_ioapic },
	{ "mmio-lapic", mmio_lapic },
	{ "ports", ports },
	{ "mmio-walk", mmio_walk },
	{ "mmio-execute", mmio_execute },
	{ NULL, NULL },
};
