/* Attacks on other processes, by new ones, and on what the process itself may not do. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "attack.h"
#include "call.h"
#include "tries.h"

#define PIDS 4096 /* numbers tried: a namespace of our own has 1 alone */
#define MANY 96 /* processes; a VM with one disk may have a dozen threads */

/* In the child nothing else may happen. */
#define REAP(birth)                                                                                                    \
	({                                                                                                             \
		long child = (birth);                                                                                  \
		if (child == 0)                                                                                        \
			(void)RAW(SYS_exit_group, 0);                                                                  \
		if (child > 0)                                                                                         \
			(void)RAW(SYS_wait4, child, 0, 0x40000000 /* __WALL */);                                       \
		child;                                                                                                 \
	})

long try_fork(void)
{
	return REAP(RAW(SYS_fork));
}

long try_vfork(void)
{
	return REAP(RAW(SYS_vfork));
}

long try_clone(void)
{
	return REAP(RAW(SYS_clone, SIGCHLD));
}

long try_clone3(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	return REAP(RAW(SYS_clone3, &args, sizeof(args)));
}

/* All capabilities over all that is new: half the kernel's history of holes begins so. */
long try_clone_userns(void)
{
	return REAP(RAW(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | SIGCHLD));
}

/* A sibling rather than a child: its parent would be the supervisor. The first process of a namespace may not. */
long try_clone_parent(void)
{
	return REAP(RAW(SYS_clone, CLONE_PARENT | SIGCHLD));
}

static long exec_fd(int fd)
{
	static const char *const empty[] = { NULL };
	long r = RAW(SYS_execveat, fd, "", empty, empty, AT_EMPTY_PATH);

	return r == -ENOEXEC ? 0 : r; /* allowed, had it been a program */
}

long try_execveat_fds(void)
{
	long last = -EBADF;

	for (int fd = 0; fd < 64 && last < 0; fd++) {
		long r = exec_fd(fd);

		if (r != -EBADF)
			last = r;
	}
	return last;
}

long try_execveat_memfd(void)
{
	long fd = RAW(SYS_memfd_create, "x", 0), r;

	if (fd < 0)
		return fd;
	(void)RAW(SYS_write, fd, "none", 4);
	r = exec_fd((int)fd);
	(void)RAW(SYS_close, fd);
	return r;
}

#define ON_EACH_PID(expression)                                                                                        \
	({                                                                                                             \
		long answer = -ESRCH;                                                                                  \
		for (int pid = 2; pid < PIDS && answer == -ESRCH; pid++)                                               \
			answer = (expression);                                                                         \
		answer;                                                                                                \
	})

/* The disk workers and vCPUs are numbers of this namespace, too: a thread's number is no process, but kill takes it.
 * An AppArmor profile denies to ask: whoever is not there is not there all the same. */
static bool own_thread(int pid)
{
	return RAW(SYS_tgkill, 1, pid, 0) != -ESRCH;
}

long try_kill_each(void)
{
	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_kill, pid, SIGKILL));
}

/* Zero: our process group, and the pid of a parent that is outside our namespace. Nobody outside may feel it. */
long try_kill_parent(void)
{
	return RAW(SYS_kill, RAW(SYS_getppid), SIGURG);
}

long try_tgkill_each(void)
{
	return ON_EACH_PID(RAW(SYS_tgkill, pid, pid, 34));
}

long try_pidfd(void)
{
	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_pidfd_open, pid, 0));
}

long try_sigqueue_each(void)
{
	siginfo_t info = { .si_signo = SIGKILL, .si_code = SI_QUEUE };

	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_rt_sigqueueinfo, pid, SIGKILL, &info));
}

long try_read_each(void)
{
	uint64_t word;
	struct iovec here = { &word, sizeof(word) }, there = { (void *)0x400000, sizeof(word) };

	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0));
}

long try_write_each(void)
{
	uint64_t word = 0;
	struct iovec here = { &word, sizeof(word) }, there = { (void *)0x400000, sizeof(word) };

	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_process_vm_writev, pid, &here, 1, &there, 1, 0));
}

long try_ptrace_each(void)
{
	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0));
}

long try_prlimit_each(void)
{
	struct rlimit limit;

	return ON_EACH_PID(own_thread(pid) ? -ESRCH : RAW(SYS_prlimit64, pid, RLIMIT_NOFILE, 0, &limit));
}

long try_capset(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct all[2] = { { ~0U, ~0U, ~0U }, { 0x1ff, 0x1ff, 0x1ff } };

	return RAW(SYS_capset, &header, all);
}

long try_ambient(void)
{
	return RAW(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0);
}

long try_seccomp_allow(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };

	return RAW(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

long try_raise_limit(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	return RAW(SYS_setrlimit, RLIMIT_FSIZE, &limit);
}

long try_realtime(void)
{
	struct sched_param param = { .sched_priority = 50 };

	return RAW(SYS_sched_setscheduler, 0, SCHED_FIFO, &param);
}

/* More processes than the VM was granted, all alive at once. */
long try_many(void)
{
	long children[MANY], r = 0;
	unsigned n = 0;
	int alive[2];
	char byte;

	/* They end with this pipe, whoever may not kill them (AppArmor's profile knows one signal). */
	if (RAW(SYS_pipe2, alive, 0) < 0)
		return 0;
	while (n < MANY) {
		r = RAW(SYS_fork);
		if (r == 0) {
			(void)RAW(SYS_close, alive[1]);
			(void)RAW(SYS_read, alive[0], &byte, sizeof(byte));
			(void)RAW(SYS_exit_group, 0);
		}
		if (r < 0)
			break;
		children[n++] = r;
	}
	(void)RAW(SYS_close, alive[1]);
	for (unsigned i = 0; i < n; i++)
		(void)RAW(SYS_wait4, children[i], 0, 0);
	(void)RAW(SYS_close, alive[0]);
	return r;
}

long try_spin(void)
{
	static atomic_uint turns;

	for (;;)
		(void)atomic_fetch_add(&turns, 1);
}
