/* The serial port, power and panic registers, CPUs that end or never do, and storms. */
#include "guest.h"

static volatile bool ap_runs;

static void serial_flood(void)
{
	static const char text[] = "flood flood flood flood flood flood flood flood flood flood flood\n";

	for (unsigned i = 0; i < 1500; i++)
		for (unsigned k = 0; k < sizeof(text) - 1; k++)
			put_byte((uint8_t)text[k]);
}

/* Sequences that move cursors, set titles, ask for answers; then a panic, for which the console's end is logged. */
static void serial_escapes(void)
{
	print("\n\033[2J\033[H\033]0;owned\007\033[6n\033P$qm\033\\\033c\x9b"
	      "31m\x90\xff\x80\r\b\b\x7f\x0e\x1b%G\n");
	for (unsigned i = 0; i < 256; i++)
		put_byte((uint8_t)i);
	print("\nerror forged: line\nwarning forged: line\n");
	write8(X86_PVPANIC, 1);
	halt();
}

static void serial_garbage(void)
{
	for (unsigned i = 0; i < 4000; i++) {
		uint64_t reg = X86_SERIAL + any() % 16;

		if (reg != X86_SERIAL)
			write8(reg, (uint8_t)any());
		(void)read8(X86_SERIAL + any() % 64);
		if (i % 8 == 0) {
			write32(X86_SERIAL + any() % 0x1000, any());
			(void)read64(X86_SERIAL + any() % 0xff0);
		}
	}
	write8(X86_SERIAL + 1, 0);
	write8(X86_SERIAL + 3, 3);
	write8(X86_SERIAL + 4, 0); /* no loop */
	print("\n");
}

static void power_garbage(void)
{
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t value = any();

		write32(X86_POWEROFF, value == POWEROFF ? 0 : value);
		write8(X86_POWEROFF, POWEROFF);
		write64(X86_POWEROFF, POWEROFF);
		write32(X86_POWEROFF + 4 + (any() % 0xff8 & ~3U), POWEROFF);
		write8(X86_PVPANIC, (uint8_t)(any() & ~1U));
		write32(X86_PVPANIC, 1);
		write8(X86_PVPANIC + 1 + any() % 0xffe, 1);
		(void)read64(X86_POWEROFF + any() % 0xff8);
		(void)read64(X86_PVPANIC + any() % 0xff8);
	}
}

static void panic_storm(void)
{
	for (;;)
		write8(X86_PVPANIC, 1);
}

static void reset_line(void)
{
	out8(0x64, 0xfe);
	halt();
}

static void triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
}

static void spin(void)
{
	ap_runs = true;
	for (;;)
		__asm__ volatile("");
}

static void wait_for_ap(void)
{
	uint64_t end = now() + PATIENCE;

	while (!ap_runs && now() < end)
		__asm__ volatile("pause");
	expect("no second CPU", ap_runs, 0);
}

/* Power-off by one CPU while the other never leaves its loop. */
static void spin_and_off(void)
{
	ap_start(spin);
	wait_for_ap();
}

static void triple_faults(void)
{
	ap_start(triple_fault);
	triple_fault();
}

static void sleep_forever(void)
{
	halt();
}

static void spin_forever(void)
{
	print("ready\n");
	ap_start(spin);
	spin();
}

/* INIT, start-up and CPUs that are not there: the other one begins again and again. */
static void ipi_others(void)
{
	for (unsigned i = 0; i < 3000; i++) {
		write32(X86_LAPIC + 0x310, i % 8 ? 1U << 24 : (any() | 2U) << 24);
		write32(X86_LAPIC + 0x300, i % 2 ? 0x4500 : 0x4600 | AP_CODE >> 12);
		if (i % 16 == 0)
			write32(X86_LAPIC + 0x300, 0xc0000 | (any() & 0xff)); /* all but this one, any vector */
	}
}

static void ipi_madness(void)
{
	ap_start(spin);
	wait_for_ap();
	ipi_others();
}

static void init_self(void)
{
	write32(X86_LAPIC + 0x310, 0);
	write32(X86_LAPIC + 0x300, 0x4500);
	wait_ns(SECOND);
	write32(X86_LAPIC + 0x300, 0x84500); /* all, this one included */
	for (;;)
		__asm__ volatile("pause");
}

/* INIT as the redirection of an interrupt: an edge of the serial port resets the boot CPU. */
static void init_by_pin(void)
{
	write32(X86_IOAPIC, 0x12 + 1);
	write32(X86_IOAPIC + 0x10, 0);
	write32(X86_IOAPIC, 0x12);
	write32(X86_IOAPIC + 0x10, 0x500);
	write8(X86_SERIAL + 1, 0);
	write8(X86_SERIAL + 1, 2);
	wait_ns(SECOND);
}

static void all_live(void)
{
	for (unsigned i = 0; i < 4; i++) {
		device_negotiate(SLOT(i), F_VERSION_1);
		write32(SLOT(i) + R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	}
}

static void kick_all(unsigned times)
{
	for (unsigned n = 0; n < times; n++)
		for (unsigned i = 0; i < 4; i++)
			for (unsigned q = 0; q < 4; q++)
				write32(SLOT(i) + R_QUEUE_NOTIFY, q);
}

static void kick_storm(void)
{
	uint64_t end;

	all_live();
	end = now() + SECOND;
	while (now() < end)
		kick_all(10);
	rng_works();
	blk_works(blk_writable());
}

static void kick_forever(void)
{
	ap_runs = true;
	for (;;)
		kick_all(10);
}

/* The runner stops these while they are at it. */
static void kick_storm_forever(void)
{
	all_live();
	print("ready\n");
	ap_start(kick_forever);
	kick_forever();
}

static void serial_flood_forever(void)
{
	print("ready\n");
	for (;;)
		serial_flood();
}

static void interrupt_storm(void)
{
	uint64_t end = now() + SECOND;

	write32(X86_IOAPIC, 0x12);
	write32(X86_IOAPIC + 0x10, 0x40);
	while (now() < end)
		for (unsigned i = 0; i < 20; i++) {
			write8(X86_SERIAL + 1, 2);
			write8(X86_SERIAL + 1, 0);
			write32(X86_IOAPIC + 0x10, 0x10040);
			write32(X86_IOAPIC + 0x10, 0x40);
		}
	rng_works();
}

/* As many random bytes as it can get, for ever. */
static void rng_storm_forever(void)
{
	rng_up(0);
	for (unsigned i = 0; i < 64; i++) {
		desc_set(&rings[0], i, address(data), DATA_BYTES, D_WRITE, 0);
		offer(&rings[0], (uint16_t)i);
	}
	print("ready\n");
	for (;;) {
		kick(&rings[0]);
		while (rings[0].seen != rings[0].used.idx) {
			offer(&rings[0], (uint16_t)rings[0].used.entries[rings[0].seen % 64].id);
			rings[0].seen++;
		}
	}
}

static void cpuid_all(void)
{
	for (uint32_t i = 0; i < 600; i++) {
		uint32_t a = i < 64    ? i
			     : i < 128 ? 0x40000000 + i - 64
			     : i < 192 ? 0x80000000 + i - 128
				       : any(),
			 b, c = any(), d;

		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	}
	rng_works();
}

const struct hostile_case machine_cases[] = {
	{ "serial-flood", serial_flood },
	{ "serial-escapes", serial_escapes },
	{ "serial-garbage", serial_garbage },
	{ "serial-flood-forever", serial_flood_forever },
	{ "power-garbage", power_garbage },
	{ "panic-storm", panic_storm },
	{ "reset-line", reset_line },
	{ "triple-fault", triple_fault },
	{ "triple-faults", triple_faults },
	{ "spin-and-off", spin_and_off },
	{ "spin-forever", spin_forever },
	{ "sleep-forever", sleep_forever },
	{ "ipi-madness", ipi_madness },
	{ "init-self", init_self },
	{ "init-by-pin", init_by_pin },
	{ "kick-storm", kick_storm },
	{ "kick-storm-forever", kick_storm_forever },
	{ "interrupt-storm", interrupt_storm },
	{ "rng-storm-forever", rng_storm_forever },
	{ "cpuid", cpuid_all },
	{ NULL, NULL },
};
