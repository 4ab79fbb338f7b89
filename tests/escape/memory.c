/* Attacks by memory, by other system call tables, and on large kernel interfaces. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "attack.h"
#include "call.h"
#include "tries.h"

#define X32_BIT 0x40000000L
#define MEMFDS  400

static uint8_t data[2 * 4096] __attribute__((aligned(4096)));
static const uint8_t text[4096] __attribute__((aligned(4096))) = { 0xc3 };

long try_exec_page(void)
{
	return RAW(SYS_mprotect, data, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

/* Pages of the program itself, for the attacker's own: these hold nothing that runs. */
long try_map_over_text(void)
{
	return RAW(SYS_mmap, text, sizeof(text), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0);
}

long try_mremap(void)
{
	return RAW(SYS_mremap, data + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, text);
}

long try_remap_pages(void)
{
	return RAW(SYS_remap_file_pages, data, 4096, 0, 1, 0);
}

long try_huge_map(void)
{
	return RAW(SYS_mmap, 0, 1ULL << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* It never fails: it answers where the heap still ends. */
long try_brk(void)
{
	long now = RAW(SYS_brk, 0);

	return RAW(SYS_brk, now + (1L << 30)) == now ? -ENOMEM : 0;
}

/* Not in the address space, so no limit of that stands before the cgroup's. */
long try_memfds(void)
{
	for (int i = 0; i < MEMFDS; i++) {
		long fd = RAW(SYS_memfd_create, "x", 0);
		long r = fd < 0 ? fd : RAW(SYS_fallocate, fd, 0, 0, 1 << 20);

		if (r < 0)
			return r;
	}
	return 0;
}

long try_ksm(void)
{
	return RAW(SYS_madvise, data, 4096, MADV_MERGEABLE);
}

long try_x32(void)
{
	return RAW(X32_BIT | SYS_openat, AT_FDCWD, "/", O_PATH);
}

static long int80(long call, long a, long b, long c)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(call), "b"(a), "c"(b), "d"(c)
			 : "r8", "r9", "r10", "r11", "memory");
	return (int)ret;
}

long try_int80(void)
{
	return int80(20 /* getpid */, 0, 0, 0);
}

long try_int80_socket(void)
{
	return int80(359 /* socket */, 1, 1, 0);
}

long try_bpf(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };

	return RAW(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
}

long try_perf(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr) };

	return RAW(SYS_perf_event_open, &attr, -1, 0, -1, 0); /* everybody on CPU 0 */
}

long try_io_uring(void)
{
	struct io_uring_params params = { 0 };

	return RAW(SYS_io_uring_setup, 1, &params);
}

long try_settimeofday(void)
{
	struct timeval now = { .tv_sec = 1 };

	return RAW(SYS_settimeofday, &now, 0);
}
