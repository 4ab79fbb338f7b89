#include "lib/spawn.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_STACK (32U << 10)

#ifdef __SANITIZE_THREAD__
/* TSan's clone() takes every child for a copy of our memory, and would go on in ours as in the child's. */
int __clone(int (*enter)(void *), void *stack, int flags, void *arg, ...);
#define clone __clone
#endif

void spawn_failed(struct spawn *spawn, const char *step)
{
	spawn->code = errno;
	spawn->failed = step;
	for (;;) /* the bare call, as what a sanitizer does at a program's end is not for us to do */
		(void)syscall(SYS_exit_group, 127);
}

static int enter(void *arg)
{
	struct spawn *spawn = arg;

	spawn->child(spawn);
	spawn_failed(spawn, "exec");
}

int spawn_run(struct spawn *spawn, pid_t *ret_pid, int *ret_pidfd)
{
	char *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int pidfd = -1, code;
	sigset_t all, old;
	pid_t pid;

	if (stack == MAP_FAILED)
		return -ENOMEM;
	/* A handler of the caller's that ran in the child would run in the caller's own memory. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	pid = clone(enter, stack + CHILD_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD | (ret_pidfd ? CLONE_PIDFD : 0), spawn,
		    &pidfd);
	code = errno;
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)munmap(stack, CHILD_STACK);
	if (pid < 0)
		return -code;
	/* With CLONE_VFORK we are back only after the exec or after spawn_failed(), which wrote into our memory. */
	if (spawn->failed) {
		(void)waitpid(pid, NULL, 0);
		if (pidfd >= 0)
			(void)close(pidfd);
		return -spawn->code;
	}
	*ret_pid = pid;
	if (ret_pidfd)
		*ret_pidfd = pidfd;
	return 0;
}
