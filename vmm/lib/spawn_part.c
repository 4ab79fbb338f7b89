/* A part of mvm's as a process of its own, with a socket to it as its descriptor 0 and nothing else of ours. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/cgroup.h"
#include "lib/spawn.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

struct child {
	struct spawn spawn; /* the first member */
	const char *path, *program;
	int socket;
};

static void run(struct spawn *spawn)
{
	const struct child *child = (const struct child *)spawn;
	char *argv[] = { (char *)(uintptr_t)child->program, NULL };
	static char *const environment[] = { NULL };
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(child->socket, SPAWN_PART_FD) < 0)
		spawn_failed(spawn, "descriptors");
	if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		spawn_failed(spawn, "close_range");
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(child->path, argv, environment);
	spawn_failed(spawn, "exec");
}

int spawn_part(const char *program, const char *flag, const struct cgroup *group, int *ret_fd, pid_t *ret_pid,
	       int *ret_pidfd, struct mvm_error *err)
{
	struct child child = { .spawn.child = run, .program = program };
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int theirs = -1;
	int pair[2], r = mvm_part_path(program, &path, err);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, errno, "%s: socket: %s", flag, strerror(errno));
	*ret_fd = pair[0];
	theirs = pair[1];
	/* Above what run() makes its own. */
	if (theirs < 3) {
		int up = fcntl(theirs, F_DUPFD_CLOEXEC, 3);

		if (up < 0)
			return error_set(err, errno, "%s: socket: %s", flag, strerror(errno));
		(void)close(theirs);
		theirs = up;
	}
	child.path = path;
	child.socket = theirs;
	r = spawn_run(&child.spawn, ret_pid, ret_pidfd);
	if (r < 0)
		return error_set(err, -r, "%s: %s: %s: %s", flag, path,
				 child.spawn.failed ? child.spawn.failed : "start", strerror(-r));
	/* It waits for its request until then. */
	r = group ? cgroup_join(group, *ret_pid) : 0;
	if (r == -ESRCH) /* it has ended, and its socket says why */
		r = 0;
	return r < 0 ? error_set(err, -r, "%s: %s: it cannot be put into its cgroup: %s", flag, path, strerror(-r)) : 0;
}
