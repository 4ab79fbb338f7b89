#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sched.h>

#include "container.h"
#include "mount.h"
#include "mvm/cleanup.h"
#include "procfs.h"

/* openat() throughout: musl's open() sets close-on-exec a second time, by a call of its own. */
#define CGROUP_ROOT "/cgroup"
#define CGROUP_PATH CGROUP_ROOT "/workload"

void container_zero(struct container *c)
{
	*c = (struct container){ .init_fd = -1, .ready_fd = -1, .cgroup_fd = -1 };
}

/* Hands controllers down, so that the workload's cgroup counts memory and can itself be divided. */
static void enable_controllers(void)
{
	static const char *const wanted[] = { "+memory +pids +cpu +cpuset +io", "+memory" };
	_cleanup_fd_ int fd = openat(AT_FDCWD, CGROUP_ROOT "/cgroup.subtree_control", O_WRONLY | O_CLOEXEC);

	/* The write is all or nothing; a kernel without these still runs workloads, unmeasured. */
	for (size_t i = 0; fd >= 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (write(fd, wanted[i], strlen(wanted[i])) >= 0)
			return;
}

int container_stage(struct container *c, struct failure *f)
{
	if (mkdir(CGROUP_ROOT, 0755) < 0 && errno != EEXIST)
		return fail(f, errno, "mkdir %s", CGROUP_ROOT);
	if (mount("cgroup2", CGROUP_ROOT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate") < 0) {
		if (errno == ENODEV)
			return 0;
		return fail(f, errno, "mount cgroup2");
	}
	enable_controllers();
	if (mkdir(CGROUP_PATH, 0755) < 0 && errno != EEXIST)
		return fail(f, errno, "mkdir %s", CGROUP_PATH);
	c->cgroup_fd = openat(AT_FDCWD, CGROUP_PATH, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return c->cgroup_fd < 0 ? fail(f, errno, "open %s", CGROUP_PATH) : 0;
}

int container_limit(struct container *c, uint32_t pids_max, struct failure *f)
{
	_cleanup_fd_ int fd = -1;
	char text[16];

	/* nsdelegate: the files of the group that is the root of the workload's namespace are not its to write. */
	(void)snprintf(text, sizeof(text), "%llu", pids_max + 1ULL);
	fd = c->cgroup_fd < 0 ? -1 : openat(c->cgroup_fd, "pids.max", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return fail(f, errno, "pids.max: this kernel cannot limit processes");
	return 0;
}

/* Only the kernel's reaping is wanted of pid 1; with SIGCHLD ignored not even zombies wake it. */
_Noreturn static void exist(void)
{
	for (;;)
		(void)pause();
}

_Noreturn static void run_init(const struct container *c, int ready)
{
	struct failure f = { 0 };

	if (dup2(ready, 0) < 0 || syscall(SYS_close_range, 1U, ~0U, 0U) < 0)
		_exit(1);
	if (signal(SIGCHLD, SIG_IGN) == SIG_ERR)
		(void)fail(&f, errno, "init: signal");
	else if (c->cgroup_fd >= 0 && unshare(CLONE_NEWCGROUP) < 0) /* its root is the cgroup that we were born in */
		(void)fail(&f, errno, "init: cgroup namespace");
	else
		(void)mount_enter(c->rw, c->cgroup_fd >= 0, &f);
	/* One write below PIPE_BUF: whole or not at all. */
	if (write(0, &f, f.error ? sizeof(f) : sizeof(f.error)) < 0 || f.error)
		_exit(1);
	(void)close(0);
	exist();
}

static void init_ended(struct watch *w, uint32_t events)
{
	struct container *c = watch_owner(w, struct container, watch);
	pid_t pid;

	(void)events;
	if (c->init_fd < 0)
		return;
	pid = wait4(c->init, NULL, WNOHANG, &c->usage);
	if (pid == 0)
		return;
	cleanup_fd(&c->init_fd);
	c->init_fd = -1;
}

int container_start(struct container *c, int epoll, bool rw, struct failure *f)
{
	_cleanup_fd_ int ready_w = -1;
	int ready[2], pidfd = -1, r;
	long pid;
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_PIDFD | (c->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = c->cgroup_fd >= 0 ? (unsigned)c->cgroup_fd : 0,
	};

	if (pipe2(ready, O_CLOEXEC) < 0)
		return fail(f, errno, "pipe");
	c->ready_fd = ready[0];
	ready_w = ready[1];
	c->rw = rw;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return fail(f, errno, "clone of the workload's init");
	if (pid == 0)
		run_init(c, ready_w);
	c->init = (pid_t)pid;
	c->init_fd = pidfd;
	c->watch.ready = init_ended;
	r = watch_add(epoll, pidfd, EPOLLIN, &c->watch);
	return r < 0 ? fail(f, -r, "epoll") : 0;
}

int container_ready(struct container *c, struct failure *f)
{
	struct failure theirs = { 0 };
	ssize_t n;

	if (c->ready_fd < 0)
		return 0;
	n = read(c->ready_fd, &theirs, sizeof(theirs));
	cleanup_fd(&c->ready_fd);
	c->ready_fd = -1;
	if (n < 0)
		return fail(f, errno, "report of the workload's init");
	if ((size_t)n == sizeof(theirs) && theirs.error) {
		theirs.text[sizeof(theirs.text) - 1] = 0;
		*f = theirs;
		return -theirs.error;
	}
	if ((size_t)n != sizeof(theirs.error))
		return fail_as(f, PROTO_FAIL_REFUSED, ECHILD, "the workload's init died before it was ready");
	/* Children of the agent are born into that pid namespace from now on; the agent itself stays outside. */
	if (setns(c->init_fd, CLONE_NEWPID) < 0)
		return fail(f, errno, "enter the workload's pid namespace");
	return 0;
}

void container_kill(struct container *c)
{
	if (c->dying || c->init_fd < 0)
		return;
	c->dying = true;
	if (kill(c->init, SIGKILL) < 0)
		console_line("agent: kill of the workload's init: %s", strerror(errno));
}

bool container_gone(const struct container *c)
{
	return c->init_fd < 0;
}

/* Reads a small file of the cgroup; "" when it is not there. */
static void cgroup_read(const struct container *c, const char *name, char *buf, size_t size)
{
	_cleanup_fd_ int fd = openat(c->cgroup_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[n < 0 ? 0 : n] = 0;
}

/* The number after `key` at the start of a line ("" = the text's own start); 0 when there is none. */
static uint64_t cgroup_value(const char *text, const char *key)
{
	const char *at = procfs_field(text, key);

	return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t container_number(const struct container *c, const char *file, const char *key)
{
	char text[1024];

	if (c->cgroup_fd < 0)
		return 0;
	cgroup_read(c, file, text, sizeof(text));
	return cgroup_value(text, key);
}

static uint64_t microseconds(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_usec;
}

void container_account(const struct container *c, struct container_usage *usage)
{
	char text[1024];

	usage->user_us += microseconds(c->usage.ru_utime);
	usage->sys_us += microseconds(c->usage.ru_stime);
	if (c->cgroup_fd < 0)
		return;
	cgroup_read(c, "cpu.stat", text, sizeof(text));
	if (cgroup_value(text, "usage_usec ")) {
		usage->user_us = cgroup_value(text, "user_usec ");
		usage->sys_us = cgroup_value(text, "system_usec ");
	}
	usage->peak_bytes = container_number(c, "memory.peak", "");
}

bool container_take_oom(struct container *c, uint64_t before)
{
	uint64_t kills = container_number(c, "memory.events", "oom_kill ");

	if (kills <= before || kills <= c->oom_told)
		return false;
	c->oom_told++;
	return true;
}

int container_leaf(const struct container *c)
{
	static const char name[] = "mvm-exec";
	int fd;

	if (mkdirat(c->cgroup_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(c->cgroup_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}
