/*
 * clone3() of a child that shares the caller's memory and runs fn(arg) on a stack of its own.
 *
 * Purpose: vfork with CLONE_INTO_CGROUP. The C library's clone() cannot name a cgroup, and its
 *          syscall() cannot be used, since the child would return into the parent's frame.
 * Thread:  the caller is suspended until the child calls execve or ends (CLONE_VFORK), so the two
 *          never run at the same time on the memory that they share.
 * Returns: in the parent the child's pid or -errno; the child's exit status is what fn returns.
 */
#ifndef MVM_GUEST_CLONE3_VFORK_H
#define MVM_GUEST_CLONE3_VFORK_H

#include <linux/sched.h>
#include <sys/syscall.h>

#if defined(__x86_64__)

static inline long clone3_vfork(struct clone_args *args, int (*fn)(void *), void *arg)
{
	register int (*r8)(void *) __asm__("r8") = fn;
	register void *r9 __asm__("r9") = arg;
	long ret;

	/* The kernel keeps all registers but rax, rcx and r11; the child's frame chain ends at rbp 0. */
	__asm__ volatile("syscall\n\t"
			 "testq %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xorl %%ebp, %%ebp\n\t"
			 "movq %%r9, %%rdi\n\t"
			 "callq *%%r8\n\t"
			 "movl %%eax, %%edi\n\t"
			 "movl %[exit], %%eax\n\t"
			 "syscall\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(ret)
			 : "0"((long)SYS_clone3), "D"(args), "S"(sizeof(*args)), "r"(r8),
			   "r"(r9), [exit] "i"(SYS_exit_group)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}

#elif defined(__aarch64__)

static inline long clone3_vfork(struct clone_args *args, int (*fn)(void *), void *arg)
{
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);
	register int (*x2)(void *) __asm__("x2") = fn;
	register void *x3 __asm__("x3") = arg;
	register long x8 __asm__("x8") = SYS_clone3;

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "mov x0, x3\n\t"
			 "blr x2\n\t"
			 "mov x8, %[exit]\n\t"
			 "svc #0\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x1), "r"(x2), "r"(x3), "r"(x8), [exit] "i"(SYS_exit_group)
			 : "memory", "cc");
	return x0;
}

#else
#error "clone3_vfork: no code for this architecture"
#endif

#endif
