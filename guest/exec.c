#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/clone3_vfork.h"
#include "exec.h"
#include "mvm/cleanup.h"
#include "user.h"

#define CHILD_STACK  (64U << 10) /* the user's record and a path are all that is large on it */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Strings that the child adds to the environment; they live on its stack until execve copies them. */
struct env_defaults {
	char home[sizeof("HOME=") + USER_HOME_MAX];
	char hostname[sizeof("HOSTNAME=") + REQUEST_HOSTNAME_MAX];
	char path[sizeof("PATH=" DEFAULT_PATH)];
	char term[sizeof("TERM=xterm")];
};

struct child {
	const struct exec_launch *launch;
	struct failure *f;
};

static const char *env_get(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; *envp; envp++)
		if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

/* What Docker sets too, where the host gave nothing. request_exec() left room for all four. */
static void env_complete(const struct exec_launch *launch, const struct user *user, struct env_defaults *d)
{
	char **envp = launch->req->envp, **end = envp + launch->req->envc;

	if (!env_get(envp, "PATH"))
		*end++ = strcpy(d->path, "PATH=" DEFAULT_PATH);
	if (!env_get(envp, "HOME")) {
		(void)snprintf(d->home, sizeof(d->home), "HOME=%s", user->home);
		*end++ = d->home;
	}
	if (*launch->hostname && !env_get(envp, "HOSTNAME")) {
		(void)snprintf(d->hostname, sizeof(d->hostname), "HOSTNAME=%s", launch->hostname);
		*end++ = d->hostname;
	}
	if (launch->req->tty && !env_get(envp, "TERM"))
		*end++ = strcpy(d->term, "TERM=xterm");
	*end = NULL;
}

/* Descriptors 0 to 2. All others of the agent's are close-on-exec and above. */
static int take_stdio(const struct exec_launch *launch, struct failure *f)
{
	char path[sizeof("/dev/pts/") + 10] = "/dev/null";
	int missing = -1;

	/* A session leader's first terminal becomes its controlling one: no TIOCSCTTY is needed. */
	if (launch->req->tty)
		(void)snprintf(path, sizeof(path), "/dev/pts/%u", (unsigned)launch->tty_number);
	for (int i = 0; i < 3; i++) {
		int fd = launch->req->tty ? -1 : launch->stdio[i];

		if (fd < 0 && missing < 0) {
			missing = openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
			if (missing < 0)
				return fail(f, errno, "open %s", path);
		}
		if (dup2(fd < 0 ? missing : fd, i) < 0)
			return fail(f, errno, "descriptor %d", i);
	}
	return 0;
}

/* Opening /dev/stdout again is checked against the pipe's or terminal's owner; /dev/null stays root's. */
static void give_stdio(uid_t uid)
{
	struct stat st;

	for (int i = 0; i < 3; i++)
		if (fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(i)))
			(void)!fchown(i, uid, (gid_t)-1); /* the descriptors work all the same */
}

/* By system call: the C library's wrappers look for other threads first. */
static int become(const struct user *user, struct failure *f)
{
	if (user->uid == 0 && user->gid == 0 && !user->ngroups)
		return 0; /* what the agent is */
	if (user->uid)
		give_stdio(user->uid);
	if (syscall(SYS_setgroups, user->ngroups, user->groups) < 0 ||
	    syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0 ||
	    syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0)
		return fail(f, errno, "become user %u group %u", user->uid, user->gid);
	return 0;
}

static int exec_failed(const char *command, const char *path, int error, struct failure *f)
{
	switch (error) {
	case ENOENT:
		if (access(path, F_OK) == 0)
			return fail_as(f, PROTO_FAIL_NOT_FOUND, error,
				       "%s: its interpreter or dynamic loader is not in the image", path);
		__attribute__((fallthrough));
	case ENOTDIR:
		if (!strchr(command, '/'))
			return fail_as(f, PROTO_FAIL_NOT_FOUND, error, "%s: not found in PATH", command);
		return fail_as(f, PROTO_FAIL_NOT_FOUND, error, "%s: %s", path, strerror(error));
	case ENOEXEC:
		return fail_as(f, PROTO_FAIL_NOT_EXECUTABLE, error,
			       "%s: not a program for this machine, nor a script that begins with #!", path);
	case EACCES:
		return fail_as(f, PROTO_FAIL_NOT_EXECUTABLE, error, "%s: %s", path, strerror(error));
	case E2BIG:
		return fail_as(f, PROTO_FAIL_REFUSED, error,
			       "%s: the arguments and the environment are larger than the guest kernel takes", path);
	default:
		return fail(f, error, "%s", path);
	}
}

/* execvp(3) with the workload's own PATH, and without its way of running any text as a shell script. */
static int exec_search(const struct exec_request *req, struct failure *f)
{
	const char *command = req->argv[0], *dirs, *end;
	char path[PATH_MAX], denied[PATH_MAX] = "";
	size_t len = strlen(command);

	if (strchr(command, '/') || !*command) {
		(void)execve(command, req->argv, req->envp);
		return exec_failed(command, command, errno, f);
	}
	for (dirs = env_get(req->envp, "PATH"); dirs; dirs = *end ? end + 1 : NULL) {
		size_t dir = strcspn(dirs, ":");

		end = dirs + dir;
		if (dir + 1 + len >= sizeof(path))
			continue;
		memcpy(path, dirs, dir);
		if (dir) /* an empty entry is the working directory */
			path[dir++] = '/';
		memcpy(path + dir, command, len + 1);
		(void)execve(path, req->argv, req->envp);
		if (errno == EACCES && !*denied)
			memcpy(denied, path, dir + len + 1);
		else if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			return exec_failed(command, path, errno, f);
		else if (errno == ENOENT && access(path, F_OK) == 0)
			return exec_failed(command, path, ENOENT, f);
	}
	return *denied ? exec_failed(command, denied, EACCES, f) : exec_failed(command, "", ENOENT, f);
}

static int run_child(void *arg)
{
	const struct child *c = arg;
	const struct exec_launch *launch = c->launch;
	int spaces = CLONE_NEWNS | (launch->container->cgroup_fd >= 0 ? CLONE_NEWCGROUP : 0);
	struct env_defaults defaults;
	struct user user;

	/* Also makes the workload's root ours: the topmost mount of that namespace. */
	if (setns(launch->container->init_fd, spaces) < 0)
		return fail(c->f, errno, "enter the workload's namespaces");
	if (setsid() < 0)
		return fail(c->f, errno, "setsid");
	if (take_stdio(launch, c->f) < 0 || user_lookup(launch->req->user, &user, c->f) < 0)
		return 1;
	if (*launch->req->cwd && chdir(launch->req->cwd) < 0)
		return fail(c->f, errno, "working directory %s", launch->req->cwd);
	if (become(&user, c->f) < 0)
		return 1;
	env_complete(launch, &user, &defaults);
	return exec_search(launch->req, c->f);
}

int exec_launch(const struct exec_launch *launch, pid_t *ret_pid, int *ret_pidfd, struct failure *f)
{
	_Alignas(16) char stack[CHILD_STACK];
	_cleanup_fd_ int pidfd = -1, leaf = -1;
	struct child child = { .launch = launch, .f = f };
	bool cgroup = launch->container->cgroup_fd >= 0;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | (cgroup ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)stack,
		.stack_size = sizeof(stack),
		.cgroup = cgroup ? (unsigned)launch->container->cgroup_fd : 0,
	};
	long pid;

	if (!launch->req->argc)
		return fail_as(f, PROTO_FAIL_NOT_FOUND, ENOENT, "no command given, and the image names none");
	f->error = 0;
	pid = clone3_vfork(&args, run_child, &child);
	/* A cgroup that hands controllers down holds no processes; the workload may have made it one. */
	if (cgroup && (pid == -EBUSY || pid == -EOPNOTSUPP)) {
		leaf = container_leaf(launch->container);
		args.cgroup = (unsigned)leaf;
		if (leaf >= 0)
			pid = clone3_vfork(&args, run_child, &child);
	}
	if (pid < 0)
		return fail(f, (int)-pid, "clone");
	if (f->error) {
		(void)waitpid((pid_t)pid, NULL, 0); /* it is dead already: vfork returned */
		return -f->error;
	}
	*ret_pid = (pid_t)pid;
	*ret_pidfd = take_fd(&pidfd);
	return 0;
}
