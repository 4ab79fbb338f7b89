/* System calls as an attacker makes them: past the C library, -errno as the kernel says it. */
#ifndef ESCAPE_CALL_H
#define ESCAPE_CALL_H

#include <stdint.h>

#define P(pointer) ((uintptr_t)(pointer))

/* Always inline: behind a vfork or a clone the child must find its own way to the exit, not our caller's. */
__attribute__((always_inline)) static inline long raw_call(long call, uintptr_t a, uintptr_t b, uintptr_t c,
							   uintptr_t d, uintptr_t e, uintptr_t f)
{
	register uintptr_t r10 __asm__("r10") = d;
	register uintptr_t r8 __asm__("r8") = e;
	register uintptr_t r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(call), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define RAW6(call, a, b, c, d, e, f, ...)                                                                              \
	raw_call(call, (uintptr_t)(a), (uintptr_t)(b), (uintptr_t)(c), (uintptr_t)(d), (uintptr_t)(e), (uintptr_t)(f))
#define RAW(call, ...) RAW6(call, __VA_ARGS__ __VA_OPT__(, ) 0, 0, 0, 0, 0, 0, 0)

#endif
