/*
 * The VMM's birth, the only one.
 *
 * The child shares our memory until its exec (spawn.h) and so does nothing but system calls. The
 * jail's steps belong between the descriptors' arrangement and the exec, in vmm_enter().
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/spawn.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

struct vmm_child {
	struct spawn spawn;
	struct handover *handover;
	int exe;
};

/* Arranges the descriptors so that index and number agree, with nothing above. */
static void arrange(struct vmm_child *child)
{
	struct handover *handover = child->handover;

	/* A source below the target range could be overwritten before its turn: moved out of the way first. */
	for (unsigned i = 0; i < handover->n; i++)
		if ((unsigned)handover->fds[i] < handover->n) {
			handover->fds[i] = fcntl(handover->fds[i], F_DUPFD_CLOEXEC, (int)handover->n);
			if (handover->fds[i] < 0)
				spawn_failed(&child->spawn, "F_DUPFD");
		}
	if ((unsigned)child->exe < handover->n) {
		child->exe = fcntl(child->exe, F_DUPFD_CLOEXEC, (int)handover->n);
		if (child->exe < 0)
			spawn_failed(&child->spawn, "F_DUPFD");
	}
	for (unsigned i = 0; i < handover->n; i++)
		if (dup2(handover->fds[i], (int)i) < 0)
			spawn_failed(&child->spawn, "dup2");
	/* CLOEXEC, not closed: the program itself is among them. */
	if (syscall(SYS_close_range, handover->n, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		spawn_failed(&child->spawn, "close_range");
}

static void vmm_enter(struct spawn *spawn)
{
	static char name[] = "mvm-vmm";
	static char *const argv[] = { name, NULL };
	static char *const no_environment[] = { NULL };
	const struct rlimit no_core = { 0, 0 };
	struct vmm_child *child = (struct vmm_child *)spawn; /* its first member */
	sigset_t none;

	arrange(child);
	(void)umask(077);
	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		spawn_failed(spawn, "RLIMIT_CORE");
	(void)sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		spawn_failed(spawn, "sigprocmask");
	(void)syscall(SYS_execveat, child->exe, "", argv, no_environment, AT_EMPTY_PATH);
	spawn_failed(spawn, "execveat");
}

static int make_config(const struct vmm_config *config, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = memfd_create("mvm-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || write(fd, config, sizeof(*config)) != (ssize_t)sizeof(*config) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno ? errno : EIO, "config: the memfd cannot be made: %s", strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

static int start_process(struct supervisor *s, struct handover *handover, int exe, struct mvm_error *err)
{
	struct vmm_child child = { .spawn.child = vmm_enter, .handover = handover, .exe = exe };
	int r = spawn_run(&child.spawn, &s->vmm_pid, &s->vmm_pidfd);

	if (r < 0 && child.spawn.failed)
		return error_set(err, -r, "mvm-vmm: cannot be started: %s: %s: install mvm again", child.spawn.failed,
				 strerror(-r));
	if (r < 0)
		return error_set(err, -r,
				 "mvm-vmm: no process can be made: %s: raise the limit of processes (ulimit -u)",
				 strerror(-r));
	return 0;
}

int supervisor_spawn(struct supervisor *s, const struct vmm_config *config, struct handover *handover,
		     struct mvm_error *err)
{
	_cleanup_fd_ int config_fd = -1, exe = -1, control = -1, log_writer = -1;
	_cleanup_free_ char *path = NULL;
	int pair[2];
	int r = mvm_part_path("mvm-vmm", &path, err);

	if (r < 0)
		return r;
	exe = open(path, O_PATH | O_CLOEXEC);
	if (exe < 0)
		return error_set(err, errno, "%s: %s: install mvm again", path, strerror(errno));
	r = make_config(config, &config_fd, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, errno, "control socket: %s", strerror(errno));
	s->vmm_control = pair[0];
	control = pair[1];
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set(err, errno, "log pipe: %s", strerror(errno));
	s->vmm_log = pair[0];
	log_writer = pair[1];
	handover->fds[VMM_FD_CONFIG] = config_fd;
	handover->fds[VMM_FD_CONTROL] = control;
	handover->fds[VMM_FD_LOG] = log_writer;
	return start_process(s, handover, exe, err);
}
