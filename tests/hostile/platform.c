/* Console, clock, second CPU, and main: see guest.h. */
#include <asm/bootparam.h>

#include "guest.h"

#define MSR_KVM_SYSTEM_TIME 0x4b564d01U
#define ICR_LOW             (X86_LAPIC + 0x300)
#define ICR_HIGH            (X86_LAPIC + 0x310)
#define ICR_INIT            0x4500U
#define ICR_STARTUP         0x4600U

extern const uint8_t ap_code[];
extern const uint32_t ap_code_bytes;
void guest_main(const struct boot_params *params);
void ap_main(void);

/* KVM's clock page (Linux: asm/pvclock-abi.h) */
static volatile struct {
	uint32_t version, pad;
	uint64_t tsc, ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
} clock_page __attribute__((aligned(32)));

static const char *line;
static void (*volatile ap_fn)(void);

void *memset(void *dst, int byte, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(byte) : "memory");
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void put_byte(uint8_t byte)
{
	write8(X86_SERIAL, byte);
}

void print(const char *text)
{
	while (*text)
		put_byte((uint8_t)*text++);
}

void print_hex(uint64_t value)
{
	print("0x");
	for (int shift = 60; shift >= 0; shift -= 4)
		if (value >> shift || !shift)
			put_byte((uint8_t) "0123456789abcdef"[(value >> shift) & 15]);
}

void wrong(const char *what, uint64_t value)
{
	print("wrong: ");
	print(what);
	print(": ");
	print_hex(value);
	print("\n");
}

static bool equal(const char *a, const char *b, char end)
{
	while (*a && *a == *b)
		a++, b++;
	return !*a && (!*b || *b == end);
}

bool word(const char *name, const char **ret_value)
{
	for (const char *p = line; *p; p++) {
		if ((p == line || p[-1] == ' ') && equal(name, p, '=')) {
			while (*p && *p != '=')
				p++;
			*ret_value = *p ? p + 1 : p;
			return true;
		}
	}
	return false;
}

static uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

uint64_t now(void)
{
	uint64_t delta, ns;
	uint32_t version;

	do {
		version = clock_page.version;
		delta = rdtsc() - clock_page.tsc;
		delta = clock_page.shift < 0 ? delta >> -clock_page.shift : delta << clock_page.shift;
		ns = clock_page.ns + (uint64_t)((unsigned __int128)delta * clock_page.mul >> 32);
	} while ((version & 1) || version != clock_page.version);
	return ns;
}

void wait_ns(uint64_t ns)
{
	uint64_t end = now() + ns;

	while (now() < end)
		__asm__ volatile("pause");
}

uint32_t any(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

void ap_main(void)
{
	ap_fn();
	halt();
}

void ap_start(void (*fn)(void))
{
	ap_fn = fn;
	memcpy((void *)AP_CODE, ap_code, ap_code_bytes);
	write32(X86_LAPIC + 0xf0, 0x1ff);
	write32(ICR_HIGH, 1U << 24);
	write32(ICR_LOW, ICR_INIT);
	wait_ns(SECOND / 100);
	write32(ICR_HIGH, 1U << 24);
	write32(ICR_LOW, ICR_STARTUP | AP_CODE >> 12);
}

void power_off(void)
{
	write32(X86_POWEROFF, POWEROFF);
	halt();
}

void halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void run(const struct hostile_case *c)
{
	print("case ");
	print(c->name);
	print(": begun\n");
	c->run();
	print("case ");
	print(c->name);
	print(": done\n");
}

void guest_main(const struct boot_params *params)
{
	static const struct hostile_case *const tables[] = { mmio_cases,  status_cases, ring_cases,   blk_cases,
							     vsock_cases, net_cases,    packet_cases, machine_cases };
	uint64_t clock = address(&clock_page) | 1;
	const char *name;

	line = (const char *)(uint64_t)params->hdr.cmd_line_ptr;
	__asm__ volatile("wrmsr" : : "c"(MSR_KVM_SYSTEM_TIME), "a"((uint32_t)clock), "d"((uint32_t)(clock >> 32)));
	if (!word("case", &name))
		name = "";
	for (unsigned t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct hostile_case *c = tables[t]; c->name; c++)
			if (equal(c->name, name, ' ')) {
				run(c);
				power_off();
			}
	print("wrong: no such case\n");
	power_off();
}
