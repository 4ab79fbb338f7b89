/*
 * The jail, in order. The child walks this list between its birth and the exec of the VMM; a step that
 * fails ends it, named. Steps 9 and 10 are the VMM's own first lines (self.c): a process alone can make
 * itself undumpable, and Landlock before the exec would forbid the exec.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/caps.h"
#include "jail/hooks.h"
#include "jail/jail.h"
#include "jail/lsm.h"
#include "jail/rootfs.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define OOM_SCORE "500" /* of 1000: a VM goes before what runs it */

/* How far the child came: in memory that both see. */
struct report {
	const char *step; /* NULL: the exec */
	int code; /* errno of it; 0: none failed */
};

struct walk {
	const struct jail *jail;
	struct handover *handover;
	struct report *report;
	int exe;
	int proc; /* our own folder below /proc, for what is written after it went out of sight */
};

static int put(int folder, const char *file, const char *text)
{
	int fd = openat(folder, file, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		r = -errno;
	if (fd >= 0)
		(void)close(fd);
	return r;
}

/* A source below the target range could be overwritten before its turn: moved out of the way first. */
static int move_up(int *fd, unsigned n)
{
	if ((unsigned)*fd >= n)
		return 0;
	*fd = fcntl(*fd, F_DUPFD_CLOEXEC, (int)n);
	return *fd < 0 ? -errno : 0;
}

/*
 * 1. Exactly the hand-over list, index and number alike; everything above closes at the exec, as the program
 *    itself and the folders of the steps below are among it. Files made (there should be none) are nobody else's.
 */
static int step_descriptors(struct walk *w)
{
	struct handover *handover = w->handover;
	int r = move_up(&w->exe, handover->n);

	for (unsigned i = 0; r == 0 && i < handover->n; i++)
		r = move_up(&handover->fds[i], handover->n);
	for (unsigned i = 0; r == 0 && i < handover->n; i++)
		if (dup2(handover->fds[i], (int)i) < 0)
			r = -errno;
	if (r < 0)
		return r;
	/* What lies open here are copies: the supervisor's own are elsewhere, in its memory and table. */
	if (syscall(SYS_close_range, handover->n, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	(void)umask(077);
	return 0;
}

/* 2. Into the cgroups (v2: born there); first to go when the host runs out of memory. */
static int step_cgroup(struct walk *w)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < w->jail->cgroup.n; i++)
		if (w->jail->cgroup.procs[i] >= 0 && write(w->jail->cgroup.procs[i], "0", 1) < 0)
			r = -errno;
	w->proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w->proc < 0)
		return -errno;
	return r < 0 ? r : put(w->proc, "oom_score_adj", OOM_SCORE);
}

/*
 * Still 2, as it is written below /proc: the profile that the kernel is to put on at the exec (step 8), and not before,
 * as the steps between do what it forbids. No_new_privs does not stand in its way: it takes rights and gives none.
 */
static int step_profile(struct walk *w)
{
	if (w->jail->missing & JAIL_LAYER_LSM)
		return 0;
	return put(w->proc, "attr/apparmor/exec", "exec " LSM_PROFILE);
}

/* The one id that there is inside: 0, which holds no capability and is nobody outside but who we are. */
static int map_ids(struct walk *w)
{
	const struct jail_ids *ids = &w->jail->ids;
	char text[32];
	int r = put(w->proc, "setgroups", "deny");

	(void)snprintf(text, sizeof(text), "0 %u 1", ids->gid);
	r = r < 0 ? r : put(w->proc, "gid_map", text);
	(void)snprintf(text, sizeof(text), "0 %u 1", ids->uid);
	r = r < 0 ? r : put(w->proc, "uid_map", text);
	/*
	 * And no user namespace below it, in which every capability would be there again. A /proc/sys that is read-only
	 * (containers) leaves that to the filter, which lets nothing make one.
	 */
	if (r == 0)
		(void)put(w->proc, "../sys/user/max_user_namespaces", "0");
	return r;
}

/*
 * 3. Namespaces. Most came with the birth; the cgroup one here, so that its root is the VMM's own group.
 *    Not root: the user namespace came too, and our uid is mapped alone. Root's comes with step 7.
 *    What no namespace divides: a signal to the process group reaches whoever is in it, outside, too; and the
 *    keys of the caller's session would be the VMM's. Both get new ones. (Keys: a kernel may have none, or a quota.)
 */
static int step_namespaces(struct walk *w)
{
	if (setsid() < 0)
		return -errno;
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	if (!w->jail->by_root) {
		int r = map_ids(w);

		if (r < 0)
			return r;
	}
	return unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

/* 4. Mounts private, an empty read-only root, the old one detached. */
static int step_root(struct walk *w)
{
	(void)w;
#ifdef JAIL_OMIT_ROOT
	return 0; /* sanitizers: the program is not static there, and finds its libraries by name */
#else
	return rootfs_empty();
#endif
}

static int limit(int resource, uint64_t value)
{
	const struct rlimit limit = { value, value };

	return setrlimit((__rlimit_resource_t)resource, &limit) < 0 ? -errno : 0;
}

/*
 * 5. The network namespace is empty, and its loopback is down: there is nothing to do.
 * 6. What may be used up. Where the kernel schedules by cookie, no sibling hyper-thread runs another VM.
 */
static int step_limits(struct walk *w)
{
	const struct {
		int resource;
		uint64_t value;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_NOFILE, w->jail->open_files },
		{ RLIMIT_FSIZE, w->jail->options.file_size_max },
		{ RLIMIT_NPROC, w->jail->threads + 2 },
		{ RLIMIT_MEMLOCK, 0 },
		{ RLIMIT_MSGQUEUE, 0 },
		{ RLIMIT_RTPRIO, 0 },
		{ RLIMIT_NICE, 0 },
#ifndef JAIL_OMIT_ADDRESS_SPACE /* sanitizers reserve terabytes of shadow */
		{ RLIMIT_AS, w->jail->address_space },
#endif
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(limits) / sizeof(limits[0]); i++)
		r = limit(limits[i].resource, limits[i].value);
	/* ENODEV, EINVAL: no SMT, or a kernel without it; `mvm doctor` tells which. */
	(void)prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, 1 /* the whole thread group */, 0);
	return r;
}

/*
 * 7. Who we are. Root becomes a uid that is this VM's alone, then (as anybody may) root of a user namespace
 *    in which nothing is. Then every capability goes, of that namespace too, and cannot come back.
 */
static int step_privileges(struct walk *w)
{
	const struct jail_ids *ids = &w->jail->ids;
	int r;

	if (w->jail->by_root) {
		if (setgroups(0, NULL) < 0 || setresgid(ids->gid, ids->gid, ids->gid) < 0 ||
		    setresuid(ids->uid, ids->uid, ids->uid) < 0)
			return -errno;
		/* The change of uid made us undumpable, and so /proc/self root's. Nobody else has this uid. */
		if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || unshare(CLONE_NEWUSER) < 0)
			return -errno;
		r = map_ids(w);
		if (r < 0)
			return r;
	}
	r = caps_drop_all();
	if (r < 0)
		return r;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* 8. The VMM: a static program, from its descriptor; no arguments but its name, no environment. */
static int step_exec(struct walk *w)
{
	static char name[] = "mvm-vmm";
	static char *const argv[] = { name, NULL };
#ifdef JAIL_OMIT_ROOT
	static char options[] = "ASAN_OPTIONS=abort_on_error=1:detect_leaks=0";
	static char *const environment[] = { options, NULL };
#else
	static char *const environment[] = { NULL };
#endif
	sigset_t none;

	(void)sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -errno;
	(void)syscall(SYS_execveat, w->exe, "", argv, environment, AT_EMPTY_PATH);
	return -errno;
}

static const struct {
	const char *name;
	int (*step)(struct walk *w);
} steps[] = {
	{ "descriptors", step_descriptors }, { "cgroup", step_cgroup },   { "AppArmor profile", step_profile },
	{ "namespaces", step_namespaces },   { "empty root", step_root }, { "limits", step_limits },
	{ "privileges", step_privileges },   { "exec", step_exec },
};

static void walk(struct walk *w) __attribute__((noreturn));

static void walk(struct walk *w)
{
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r;

		hooks_stage(steps[i].name);
		r = steps[i].step(w);
		if (r < 0) {
			w->report->step = steps[i].name;
			w->report->code = -r;
			break;
		}
	}
	_exit(127);
}

static int explain(const struct jail *jail, const char *step, int code, struct mvm_error *err)
{
	if (!step && jail->cgroup.v2 && jail->cgroup.n && (code == EACCES || code == EBUSY || code == EOPNOTSUPP))
		return error_set(err, code,
				 "jail: cgroup: no process may be born in %s: %s: run mvm in a delegated group, as in: "
				 "systemd-run --user --scope -p Delegate=yes mvm run …",
				 jail->cgroup.paths[0], strerror(code));
	/* ENOSYS: containers' filters say so of clone3, whose flags they cannot see. */
	if ((!step || !strcmp(step, "privileges") || !strcmp(step, "namespaces")) &&
	    (code == EPERM || code == ENOSPC || code == EUSERS || code == ENOSYS))
		return error_set(err, code,
				 "jail: namespaces: %s: this host allows no user namespaces here: sysctl "
				 "user.max_user_namespaces, kernel.unprivileged_userns_clone, "
				 "kernel.apparmor_restrict_unprivileged_userns; in a chroot or a container with a "
				 "seccomp filter there are none: mvm doctor says more",
				 strerror(code));
	if (!step)
		return error_set(err, code,
				 "jail: no process can be made: %s: raise the limit of processes (ulimit -u)",
				 strerror(code));
	return error_set(err, code, "jail: %s: %s: mvm doctor may say why", step, strerror(code));
}

int jail_spawn(struct jail *jail, struct handover *handover, int exe, pid_t *ret_pid, int *ret_pidfd,
	       struct mvm_error *err)
{
	struct walk w = { .jail = jail, .handover = handover, .exe = exe, .proc = -1 };
	int pidfd = -1;
	struct clone_args args = {
		/* VFORK: we go on when the exec or a step has failed or succeeded. Without VM: what the child does to
		 * itself (its dumpability, its uid) is done to nothing of ours. */
		.flags = CLONE_VFORK | CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
			 CLONE_NEWUTS,
		.pidfd = (__u64)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	struct report report;
	long pid;

	w.report = mmap(NULL, sizeof(*w.report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w.report == MAP_FAILED)
		return error_set(err, ENOMEM, "jail: out of memory");
	if (!jail->by_root)
		args.flags |= CLONE_NEWUSER;
	if (jail->cgroup.v2 && jail->cgroup.n) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (__u64)jail->cgroup.folders[0];
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		walk(&w);
	report = *w.report;
	if (pid < 0)
		report = (struct report){ .code = errno };
	(void)munmap(w.report, sizeof(*w.report));
	if (report.code) {
		if (pid > 0)
			(void)waitpid((pid_t)pid, NULL, 0);
		cleanup_fd(&pidfd);
		return explain(jail, report.step, report.code, err);
	}
	*ret_pid = (pid_t)pid;
	*ret_pidfd = pidfd;
	return 0;
}
