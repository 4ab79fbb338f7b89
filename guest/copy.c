#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/sched.h>

#include "copy.h"
#include "mvm/cleanup.h"
#include "unpack.h"

/* What the other side still writes behind the stream's end mark (tar(1) fills its last record) is taken, not kept. */
static void drain(int fd)
{
	char ignored[4096];

	while (read(fd, ignored, sizeof(ignored)) > 0)
		;
}

static int run(char *const *argv, struct pack_note *note, struct failure *f)
{
	const char *path = argv[1], *name = argv[2], *letters = argv[3];
	struct unpack_options options = {
		.dest = path,
		.top = *name ? name : NULL,
		.archive = strchr(letters, 'a'),
		.hard_links = true,
	};
	int r;

	if (!strcmp(argv[0], "out"))
		return pack(path, strchr(letters, 'L'), STDOUT_FILENO, note, f);
	if (strcmp(argv[0], "in") != 0)
		return fail(f, EINVAL, "%s", argv[0]);
	r = unpack(&options, STDIN_FILENO, note, f);
	if (r == 0)
		drain(STDIN_FILENO);
	return r;
}

/* Descriptors 0 to 2, and no others: what the agent holds is not for who might take this process over. */
static int take_streams(const int stdio[3])
{
	for (int i = 0; i < 3; i++) {
		int fd = stdio[i] < 0 ? openat(AT_FDCWD, "/", O_PATH) : stdio[i];

		if (fd < 0 || (fd != i && dup2(fd, i) < 0))
			return -errno;
	}
	return syscall(SYS_close_range, 3U, ~0U, 0U) < 0 ? -errno : 0;
}

_Noreturn static void run_child(const struct exec_launch *launch)
{
	struct pack_note note = { 0 };
	struct failure f = { 0 };
	int r = 0;

	/* Also makes the workload's root ours, and the working folder. */
	if (setns(launch->container->init_fd, CLONE_NEWNS) < 0)
		r = fail(&f, errno, "enter the workload's namespaces");
	if (take_streams(launch->stdio) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		_exit(1);
	(void)umask(0); /* modes are the stream's */
	if (r == 0)
		r = run(launch->req->argv, &note, &f);
	if (r < 0)
		(void)dprintf(STDERR_FILENO, "%s\n", f.text);
	else if (note.left_out)
		(void)dprintf(STDERR_FILENO, "note: %llu left out: devices, fifos and sockets are not copied: %s\n",
			      (unsigned long long)note.left_out, note.first);
	_exit(r < 0 ? 1 : 0);
}

/* In which pid namespace the agent's next children are born: its own, or the container's. */
static int born_in(int pidfd, struct failure *f)
{
	return setns(pidfd, CLONE_NEWPID) < 0 ? fail(f, errno, "change the pid namespace of children") : 0;
}

int copy_launch(const struct exec_launch *launch, pid_t *ret_pid, int *ret_pidfd, struct failure *f)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	_cleanup_fd_ int own = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct failure back;
	long pid;

	if (own < 0)
		return fail(f, errno, "pidfd");
	if (born_in(own, f) < 0)
		return -f->error;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		run_child(launch);
	if (pid < 0)
		(void)fail(f, errno, "clone");
	/* It fails when the container has just gone; then no command can be born in it any more either (exec.c). */
	if (born_in(launch->container->init_fd, &back) < 0)
		console_line("agent: %s", back.text);
	if (pid < 0)
		return -f->error;
	/* A group of its own, for session_signal(); here, so that it is one before the first signal. */
	(void)setpgid((pid_t)pid, (pid_t)pid);
	*ret_pid = (pid_t)pid;
	*ret_pidfd = pidfd;
	return 0;
}
