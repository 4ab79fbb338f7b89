#include "jail/seccomp_table.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "jail_ioctls.h"

/* clang-format off */
#define CALL(name, threads, needs, why)         { SYS_##name, threads, needs, { { 0 } }, #name, why }
#define WHERE(name, threads, needs, c1, why)    { SYS_##name, threads, needs, { c1 }, #name, why }
#define BOTH(name, threads, needs, c1, c2, why) { SYS_##name, threads, needs, { c1, c2 }, #name, why }
/* fallocate: blocks beyond a file's end are no part of its size, which alone RLIMIT_FSIZE bounds. */
#define ALLOCATE(mode, why)                     { SYS_fallocate, ON_DISK, NEED_DISK_RW, { EQ32(1, mode), FILE_SIZE(2), FILE_SIZE(3) }, "fallocate " #mode, why }
#define FILE_SIZE(arg)                          { TEST_FILE_SIZE, arg, 0, 0 }
#define EQ32(arg, value)                        { TEST_MASKED, arg, 0xffffffffU, (uint32_t)(value) } /* what the kernel reads as int */
#define WITHOUT(arg, bits)                      { TEST_MASKED, arg, bits, 0 }
#define IOCTL(request, threads, needs, why)     { SYS_ioctl, threads, needs, { EQ32(1, request) }, "ioctl " #request, why }
#define FUTEX(op, threads, why)                 { SYS_futex, threads, 0, { EQ32(1, op) }, "futex " #op, why }
/* clang-format on */

/* glibc's pthread_create(): a thread of this process and nothing else; clone3 is answered ENOSYS (seccomp.c). */
#define THREAD_FLAGS                                                                                                   \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |             \
	 CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* What pthread_kill() sends: SIGRTMIN of glibc, whose own two come first. */
#define KICK 34

/* A row is a line; within one call the most frequent first. */
/* clang-format off */
static const struct jail_rule rules[] = {
	/* ---- running ---- */
	IOCTL(KVM_RUN, ON_VCPU, 0, "the guest"),
	IOCTL(KVM_SIGNAL_MSI, ON_IO | ON_VCPU | ON_DISK, 0, "interrupts, raised by whoever has something to say"),
	CALL(write, ON_IO | ON_VCPU | ON_DISK, 0, "eventfds; the log; control messages; streams; the console"),
	CALL(epoll_wait, ON_IO | ON_DISK, 0, "the event loop; a disk's kicks"),
	CALL(read, ON_IO, 0, "eventfds and timers; vsock's streams"),
	CALL(readv, ON_IO, NEED_VSOCK | NEED_TAP, "a stream's bytes, or a packet, straight into guest memory"),
	CALL(writev, ON_IO, NEED_VSOCK | NEED_NET, "a stream's bytes, or a packet, straight out of guest memory"),
	IOCTL(TUNSETOFFLOAD, ON_IO, NEED_TAP, "which packets the guest's driver takes"),
	CALL(preadv2, ON_DISK, NEED_DISK, "reading a disk"),
	CALL(pwritev2, ON_DISK, NEED_DISK_RW, "writing a disk"),
	CALL(fdatasync, ON_DISK, NEED_DISK_RW, "flush"),
	ALLOCATE(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "discard, write-zeroes that may unmap"),
	ALLOCATE(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "write-zeroes"),
	FUTEX(FUTEX_WAKE_PRIVATE, ON_IO | ON_VCPU | ON_DISK, "locks between the threads"),
	FUTEX(FUTEX_WAIT_PRIVATE, ON_IO | ON_VCPU | ON_DISK, "locks between the threads"),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, ON_VCPU, "a condition: a reset waits for a disk's requests"),
	FUTEX(FUTEX_WAIT_BITSET_PRIVATE, ON_DISK, "a condition with a time-out: a limited disk"),
	CALL(restart_syscall, ON_DISK, NEED_DISK, "the kernel's own call, by which that wait goes on after a stop of the process"),
	FUTEX(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, ON_IO, "joining a thread: the kernel's own wake-up is not private"),
	CALL(rt_sigreturn, ON_VCPU, 0, "back from the kick's handler"),
	CALL(recvmsg, ON_IO, 0, "the control socket, with the descriptors that the broker grants"),
	CALL(shutdown, ON_IO, NEED_VSOCK, "half-close of a stream"),
	CALL(close, ON_IO, 0, "a stream that is over"),
	WHERE(fcntl, ON_IO, 0, EQ32(1, F_GETFL), "a stream must be non-blocking; a disk's mode must be the config's"),
	CALL(epoll_ctl, ON_IO, 0, "streams come and go"),
	CALL(timerfd_settime, ON_IO, 0, "the panic's grace; limits"),
	WHERE(clock_gettime, ON_IO | ON_DISK, 0, EQ32(0, 1 /* CLOCK_MONOTONIC */), "where the host's clock source is not read in user space"),
	WHERE(getrandom, ON_IO | ON_START, 0, EQ32(2, 0), "virtio-rng; the boot seed"),

	/* ---- ending ---- */
	CALL(munmap, ON_IO, 0, "guest memory, stacks and pools given back"),
	CALL(getpid, ON_IO, 0, "pthread_kill()"),
	WHERE(tgkill, ON_IO, 0, EQ32(2, KICK), "a vCPU is kicked out of the guest"),
	WHERE(madvise, ON_DISK, 0, EQ32(2, MADV_DONTNEED), "the stack of a thread that ends"),
	WHERE(rt_sigprocmask, ON_IO | ON_DISK, 0, EQ32(3, 8), "a thread that is made, ends, or kicks another, blocks all signals"),
	CALL(exit, ON_VCPU | ON_DISK, 0, "a thread's end"),
	CALL(exit_group, ON_IO, 0, "the VMM's end"),

	/* ---- building the VM: gone once it runs ---- */
	CALL(brk, ON_START, 0, "the heap; there is none at run time: pools are made before"),
	WHERE(mmap, ON_START, 0, WITHOUT(2, PROT_EXEC), "guest memory, run pages, stacks, the config"),
	WHERE(mprotect, ON_START, 0, WITHOUT(2, PROT_EXEC), "guard pages of stacks"),
	WHERE(madvise, ON_START, 0, EQ32(2, MADV_DONTDUMP), "guest memory is never in a core"),
	CALL(pread64, ON_START, 0, "kernel and initramfs"),
	WHERE(fcntl, ON_START, 0, EQ32(1, F_GET_SEALS), "the config must be sealed"),
	WHERE(newfstatat, ON_START, 0, EQ32(3, AT_EMPTY_PATH), "what a descriptor is and how large (fstat)"),
	CALL(epoll_create1, ON_START, 0, "the event loop"),
	CALL(eventfd2, ON_START, 0, "kicks and wake-ups"),
	WHERE(timerfd_create, ON_START, 0, EQ32(0, 1 /* CLOCK_MONOTONIC */), "the panic's grace; limits"),
	WHERE(rt_sigaction, ON_START, 0, EQ32(0, KICK), "the kick's handler"),
	WHERE(rt_sigaction, ON_START, 0, EQ32(0, 33 /* glibc's SIGSETXID */), "the first pthread_create()"),
	WHERE(clone, ON_START, 0, EQ32(0, THREAD_FLAGS), "threads: clone3 is answered ENOSYS, its flags are out of a filter's sight"),
	CALL(set_robust_list, ON_START, 0, "a thread's start"),
	CALL(rseq, ON_START, 0, "a thread's start"),
	WHERE(prctl, ON_START, 0, EQ32(0, PR_SET_NAME), "a thread's name"),
	BOTH(seccomp, ON_START, 0, EQ32(0, SECCOMP_SET_MODE_FILTER), EQ32(1, 0), "the filters that come after this one"),
	IOCTL(TUNGETVNETHDRSZ, ON_START, NEED_TAP, "checks"),
	IOCTL(KVM_GET_API_VERSION, ON_START, 0, "checks"),
	IOCTL(KVM_CHECK_EXTENSION, ON_START, 0, "checks"),
	IOCTL(KVM_CREATE_VM, ON_START, 0, "the VM: tied to its creator's memory, so made here"),
	IOCTL(KVM_ENABLE_CAP, ON_START, 0, "split irqchip; no PMU"),
	IOCTL(KVM_SET_USER_MEMORY_REGION, ON_START, 0, "guest memory; what it reads of its devices' registers"),
	IOCTL(KVM_IOEVENTFD, ON_START, 0, "queue kicks"),
	IOCTL(KVM_GET_VCPU_MMAP_SIZE, ON_START, 0, "run pages"),
	IOCTL(KVM_CREATE_VCPU, ON_START, 0, "vCPUs"),
#define X(request, why) { SYS_ioctl, ON_START, 0, { EQ32(1, request) }, "ioctl " #request, why }, /* IOCTL() would name the value */
	ARCH_JAIL_IOCTLS(X)
#undef X
	IOCTL(KVM_GET_REGS, ON_IO, 0, "the registers of a guest that crashed"),
	IOCTL(KVM_GET_SREGS, ON_IO, 0, "the boot state of a vCPU; the registers of a guest that crashed"),
};
/* clang-format on */

const struct jail_rule *jail_rule_at(size_t index)
{
	return index < sizeof(rules) / sizeof(rules[0]) ? &rules[index] : NULL;
}
