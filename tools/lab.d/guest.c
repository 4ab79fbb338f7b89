/*
 * lab-guest: the lab's inner end.
 *
 *   lab-guest load LIST   loads the kernel modules named in LIST, one a line
 *   lab-guest fail TEXT   tells the host that there will be no command
 *   lab-guest hold DIR    holds a VM, starts all CPUs when the command is near, and sees that they hear their interrupts
 *   lab-guest run         takes the command from the control port, runs it with
 *                         its streams on the other three, reports its status
 *
 * Run as pid 1 it also reaps orphans, kills what the command left behind and
 * unmounts the lab's disks.  Static, no threads shared with the command: the
 * command is forked before any thread exists.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"

/* How long a stream may stay silent after the command's end before it counts as
 * ended: only reached when something outside our reach still holds its pipe. */
#define DRAIN_MS 50

/* In /run/lab: opened by the command's start, ended when every CPU runs. */
#define CPUS_FIFO "cpus"

/* What the host sent before FRAME_GO. */
struct job {
	char **argv;
	size_t argc;
	char **envp;
	size_t envc;
	char *cwd;
	char *user;
	int tty;
	bool have_winsize;
	struct winsize winsize;
};

/* One output stream: the command's end is src, the host's is port. */
struct stream {
	int src;
	int port;
	int wake; /* eventfd: look at the flags below again */
	atomic_bool closed; /* the host's reader has gone */
	atomic_bool draining; /* the command has ended */
	pthread_t thread;
	bool started;
};

/* The way in, for the thread that feeds the command. */
struct feed {
	int port;
	int dst;
	bool tty;
};

/* What the control thread acts on. */
struct control {
	int port;
	int pty; /* master, or -1 */
	struct stream *out;
	struct stream *err;
};

static int control_port = -1;

/* Tells the host why there is no command, and waits to be switched off. */
static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "lab-guest: %s\n", text);
	if (control_port >= 0)
		(void)frame_send(control_port, FRAME_FAILED, text, (uint32_t)strlen(text));
	if (getpid() == 1)
		for (;;)
			pause();
	_exit(125);
}

/* ---- load ---------------------------------------------------------------- */

static int load_modules(const char *list)
{
	char line[512];
	int failed = 0;
	FILE *f = fopen(list, "re");

	if (!f) {
		fprintf(stderr, "lab-guest: %s: %m\n", list);
		return 1;
	}
	while (fgets(line, sizeof(line), f)) {
		int fd;

		line[strcspn(line, "\n")] = '\0';
		fd = open(line, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)) {
			fprintf(stderr, "lab-guest: module %s: %m\n", line);
			failed = 1;
		}
		if (fd >= 0)
			close(fd);
	}
	fclose(f);
	return failed;
}

/* ---- the job ------------------------------------------------------------- */

static char **append(char **list, size_t *count, char *item)
{
	list = realloc(list, (*count + 2) * sizeof(*list));
	if (!list)
		fail("out of memory");
	list[(*count)++] = item;
	list[*count] = NULL;
	return list;
}

static void receive_job(int port, struct job *job)
{
	for (;;) {
		char type, *p;
		uint32_t len;
		int rc = frame_recv(port, &type, &p, &len);

		if (rc < 0)
			fail("control port: %s", strerror(-rc));
		switch (type) {
		case FRAME_ARG:
			job->argv = append(job->argv, &job->argc, p);
			continue;
		case FRAME_ENV:
			job->envp = append(job->envp, &job->envc, p);
			continue;
		case FRAME_CWD:
			free(job->cwd);
			job->cwd = p;
			continue;
		case FRAME_USER:
			free(job->user); /* said twice: the last counts */
			job->user = p;
			continue;
		case FRAME_TTY:
			if (len == 1)
				job->tty = p[0] & (TTY_STDIO | TTY_STDERR);
			break;
		case FRAME_WINSIZE:
			if (len == sizeof(job->winsize)) {
				memcpy(&job->winsize, p, len);
				job->have_winsize = true;
			}
			break;
		case FRAME_GO:
			free(p);
			if (!job->argc)
				fail("no command was sent");
			return;
		default:
			fail("unknown frame %d before the command", type);
		}
		free(p);
	}
}

/* ---- the user ------------------------------------------------------------ */

struct account {
	uid_t uid;
	gid_t gid;
	char *name;
	char *home;
	char *shell;
	gid_t groups[64];
	int group_count;
};

/*
 * /etc/passwd and /etc/group are read by hand: a static glibc would load the
 * machine's NSS modules, which need not match it.
 */
static bool find_account(const char *user, struct account *a)
{
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *f = fopen("/etc/passwd", "re");

	while (f && !found && getline(&line, &size, f) > 0) {
		char *rest = line, *field[7];
		int i;

		line[strcspn(line, "\n")] = '\0';
		for (i = 0; i < 7; i++)
			field[i] = strsep(&rest, ":");
		if (!field[6] || strcmp(field[0], user) != 0)
			continue;
		a->name = strdup(field[0]);
		a->uid = (uid_t)strtoul(field[2], NULL, 10);
		a->gid = (gid_t)strtoul(field[3], NULL, 10);
		a->home = strdup(field[5]);
		a->shell = strdup(field[6]);
		found = true;
	}
	if (f)
		fclose(f);
	if (!found) {
		free(line);
		return false;
	}

	a->groups[a->group_count++] = a->gid;
	f = fopen("/etc/group", "re");
	while (f && getline(&line, &size, f) > 0) {
		char *rest = line, *gid, *member;

		line[strcspn(line, "\n")] = '\0';
		strsep(&rest, ":");
		strsep(&rest, ":");
		gid = strsep(&rest, ":");
		while (gid && (member = strsep(&rest, ",")))
			if (!strcmp(member, user) && a->group_count < 64)
				a->groups[a->group_count++] = (gid_t)strtoul(gid, NULL, 10);
	}
	if (f)
		fclose(f);
	free(line);
	return true;
}

static void become(const struct account *a)
{
	if (geteuid() == a->uid && a->uid != 0)
		return; /* systemd did it */
	if (setgroups((size_t)a->group_count, a->groups) < 0 || setresgid(a->gid, a->gid, a->gid) < 0 ||
	    setresuid(a->uid, a->uid, a->uid) < 0) {
		fprintf(stderr, "lab: becoming %s: %m\n", a->name);
		_exit(125);
	}
}

static void export_account(const struct account *a)
{
	char path[64], value[128];

	setenv("USER", a->name, 1);
	setenv("LOGNAME", a->name, 1);
	setenv("SHELL", a->shell, 1);
	setenv("HOME", a->home, 1);
	snprintf(path, sizeof(path), "/run/user/%u", a->uid);
	if (access(path, F_OK) == 0)
		setenv("XDG_RUNTIME_DIR", path, 1);
	snprintf(value, sizeof(value), "unix:path=%s/bus", path);
	if (access(value + strlen("unix:path="), F_OK) == 0)
		setenv("DBUS_SESSION_BUS_ADDRESS", value, 1);
}

/* ---- the command --------------------------------------------------------- */

/* The command's ends of its streams; with a terminal in and out are the same. */
struct ends {
	int in, out, err;
};

/* A user has a group of their own to sit in (init made it); with systemd the session has placed us. */
static void join_session(void)
{
	int fd = open("/sys/fs/cgroup/user.slice/session/cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		(void)write_all(fd, "0", 1);
		close(fd);
	}
}

static _Noreturn void start_command(const struct job *job, const struct account *a, struct ends ends)
{
	sigset_t none;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL); /* refused for KILL, STOP and libc's own: as wanted */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if ((job->tty & TTY_STDIO) && ioctl(ends.in, TIOCSCTTY, 0) < 0)
		_exit(125);
	/* /dev/stdout and its like are opened by their owner. */
	if (fchown(ends.in, a->uid, (gid_t)-1) < 0 || fchown(ends.out, a->uid, (gid_t)-1) < 0 ||
	    fchown(ends.err, a->uid, (gid_t)-1) < 0)
		_exit(125);
	if (dup2(ends.in, 0) < 0 || dup2(ends.out, 1) < 0 || dup2(ends.err, 2) < 0)
		_exit(125);
	close_range(3, ~0u, 0);

	if (getppid() == 1)
		clearenv(); /* the kernel's; a service's is what its session gave it */
	unsetenv("NOTIFY_SOCKET");
	export_account(a);
	for (size_t i = 0; i < job->envc; i++)
		putenv(job->envp[i]);
	if (job->user)
		join_session();
	become(a);
	umask(022);
	if (chdir(job->cwd ? job->cwd : "/") < 0) {
		fprintf(stderr, "lab: %s: %m\n", job->cwd);
		_exit(125);
	}
	execvp(job->argv[0], job->argv);
	sig = errno;
	fprintf(stderr, "lab: %s: %s\n", job->argv[0], strerror(sig));
	_exit(sig == ENOENT || sig == ENOTDIR ? 127 : 126);
}

static void make_pipe(int *ret_read, int *ret_write)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		fail("pipe: %m");
	(void)fcntl(fd[0], F_SETPIPE_SZ, 1 << 20); /* only faster */
	*ret_read = fd[0];
	*ret_write = fd[1];
}

static int make_pty(const struct job *job, int *ret_slave)
{
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	char name[32];
	int n, zero = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &n) < 0)
		fail("/dev/ptmx: %m");
	snprintf(name, sizeof(name), "/dev/pts/%d", n);
	*ret_slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*ret_slave < 0)
		fail("%s: %m", name);
	if (job->have_winsize)
		(void)ioctl(master, TIOCSWINSZ, &job->winsize);
	return master;
}

/* ---- the streams --------------------------------------------------------- */

static void *run_feed(void *arg)
{
	struct feed *f = arg;
	char *buf = malloc(FRAME_MAX);
	bool open = true;

	while (buf) {
		char type;
		uint32_t len;

		if (frame_recv_head(f->port, &type, &len) < 0 || read_all(f->port, buf, len) < 0)
			break;
		if (type != FRAME_DATA)
			continue;
		if (len == 0) {
			/* A terminal has no half-close: ^D says it in-band. */
			if (f->tty)
				(void)write_all(f->dst, "\4", 1);
			else if (open)
				close(f->dst);
			break;
		}
		/* A command that no longer reads is no reason to stop the host. */
		if (open && write_all(f->dst, buf, len) < 0 && !f->tty) {
			close(f->dst);
			open = false;
		}
	}
	free(buf);
	return NULL;
}

static void *run_stream(void *arg)
{
	struct stream *s = arg;
	char *buf = malloc(FRAME_HEAD + FRAME_CHUNK);

	while (buf) {
		struct pollfd p[2] = { { .fd = s->src, .events = POLLIN }, { .fd = s->wake, .events = POLLIN } };
		bool draining = s->draining;
		int n = poll(p, 2, draining ? DRAIN_MS : -1);
		ssize_t got;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || s->closed)
			break;
		if (p[1].revents & POLLIN) {
			eventfd_t v;

			(void)eventfd_read(s->wake, &v);
		}
		if (!p[0].revents) {
			if (draining && n == 0)
				break;
			continue;
		}
		got = read(s->src, buf + FRAME_HEAD, FRAME_CHUNK);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) /* end of file, or EIO: the terminal's last user has gone */
			break;
		frame_head(buf, FRAME_DATA, (uint32_t)got);
		if (write_all(s->port, buf, FRAME_HEAD + (size_t)got) < 0)
			break;
	}
	free(buf);
	/* Before the end is announced: the command must see EPIPE if it writes on. */
	close(s->src);
	(void)frame_send(s->port, FRAME_DATA, NULL, 0);
	return NULL;
}

static void wake(struct stream *s)
{
	if (s->started)
		(void)eventfd_write(s->wake, 1);
}

static void *run_control(void *arg)
{
	struct control *c = arg;

	for (;;) {
		char type, *p;
		uint32_t len;

		if (frame_recv(c->port, &type, &p, &len) < 0)
			return NULL;
		if (type == FRAME_WINSIZE && len == sizeof(struct winsize) && c->pty >= 0)
			(void)ioctl(c->pty, TIOCSWINSZ, p);
		if (type == FRAME_CLOSED && len == 1) {
			struct stream *s = p[0] == 1 ? c->out : c->err;

			s->closed = true;
			wake(s);
		}
		free(p);
	}
}

static void start_thread(pthread_t *t, void *(*fn)(void *), void *arg)
{
	int rc = pthread_create(t, NULL, fn, arg);

	if (rc)
		fail("thread: %s", strerror(rc));
}

static void start_stream(struct stream *s, int src, int port)
{
	s->src = src;
	s->port = port;
	s->wake = eventfd(0, EFD_CLOEXEC);
	if (s->wake < 0)
		fail("eventfd: %m");
	s->started = true;
	start_thread(&s->thread, run_stream, s);
}

static void finish_stream(struct stream *s)
{
	if (!s->started)
		return;
	s->draining = true;
	wake(s);
	pthread_join(s->thread, NULL);
}

/* ---- one CPU at first ---------------------------------------------------- */

/*
 * Linux changes its own code while it starts and as things are first used (a static key: a jump made a nop, or back),
 * and an emulated CPU now and then keeps the half-changed instruction that it met on the way, for good; the lab dies
 * of it. So the lab starts with one CPU (maxcpus=1), does here what would change code later, and has its other CPUs
 * when the command is about to run.
 */

/* KVM changes code with the first VM and the last, and with the first and last vCPU whose local APIC is off, as each
 * one's is at first. This one stays, and never runs. A lab without KVM has said so already. */
static void hold_a_vm(void)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0UL);

	if (vm >= 0 && ioctl(vm, KVM_ENABLE_CAP, &split) == 0)
		(void)ioctl(vm, KVM_CREATE_VCPU, 0UL);
}

static void start_other_cpus(int cpus)
{
	char path[32];

	for (int cpu = 1;; cpu++) {
		int fd;

		snprintf(path, sizeof(path), "cpu%d/online", cpu);
		fd = openat(cpus, path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return; /* no more of them */
		if (write_all(fd, "1", 1) < 0)
			fprintf(stderr, "lab-guest: CPU %d: %m\n", cpu);
		close(fd);
	}
}

/* ---- interrupts that are lost --------------------------------------------- */

/*
 * QEMU keeps what is pending for a CPU in one word, and in SVM's entries and exits that CPU changes it without a lock,
 * which loses an interrupt that another thread sets right then (until 10.2, "use atomic access for
 * interrupt_request"). A timer's that is lost is the last: the CPU's timers stand still, and every VM that sleeps there,
 * until some other interrupt has the CPU look. So each CPU interrupts the next ten times a second; the balloon does it for
 * one that is alone (tools/lab).
 */
#define NUDGE_MS 100
#define CPUS_MAX 64

static struct nudger {
	int cpu, wake;
	struct nudger *next;
} nudgers[CPUS_MAX];

static void *nudge(void *arg)
{
	struct nudger *me = arg;
	struct sched_param first = { .sched_priority = 1 }; /* who is woken runs at once: that takes an interrupt */
	struct pollfd pollfd = { .fd = me->wake, .events = POLLIN };
	uint64_t count;
	cpu_set_t mine;

	CPU_ZERO(&mine);
	CPU_SET(me->cpu, &mine);
	(void)sched_setscheduler(0, SCHED_FIFO, &first);
	for (;;) {
		if (sched_getcpu() != me->cpu) /* at first, and after it was offline */
			(void)sched_setaffinity(0, sizeof(mine), &mine);
		if (poll(&pollfd, 1, NUDGE_MS) > 0)
			(void)read(me->wake, &count, sizeof(count));
		else
			(void)write(me->next->wake, &(uint64_t){ 1 }, sizeof(count));
	}
	return NULL;
}

static void start_nudging(void)
{
	pthread_t thread;
	cpu_set_t all;
	int n = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	for (int cpu = 0; cpu < CPUS_MAX; cpu++)
		if (CPU_ISSET(cpu, &all))
			nudgers[n++] = (struct nudger){ .cpu = cpu, .wake = eventfd(0, EFD_CLOEXEC) };
	for (int i = 0; i < n && n > 1; i++) {
		nudgers[i].next = &nudgers[(i + 1) % n];
		if (pthread_create(&thread, NULL, nudge, &nudgers[i]) != 0)
			fprintf(stderr, "lab-guest: no thread for CPU %d\n", nudgers[i].cpu);
	}
}

/* Stays as long as the lab does; returns, to init, when it has begun. DIR holds the FIFO by which the command's
 * start is heard of: by then this process's own root is gone. */
static int hold(const char *dir)
{
	int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int cpus = open("/sys/devices/system/cpu", O_PATH | O_DIRECTORY | O_CLOEXEC), fd;
	pid_t child;

	if (at < 0 || cpus < 0 || mkfifoat(at, CPUS_FIFO, 0644) < 0)
		fail("%s: %m", dir);
	hold_a_vm();
	child = fork();
	if (child < 0)
		fail("fork: %m");
	if (child > 0)
		return 0;
	(void)setsid();
	fd = openat(at, CPUS_FIFO, O_WRONLY | O_CLOEXEC); /* waits for a reader */
	start_other_cpus(cpus);
	close(fd);
	start_nudging();
	for (;;)
		pause();
}

static void wait_for_cpus(void)
{
	int fd = open("/run/lab/" CPUS_FIFO, O_RDONLY | O_CLOEXEC); /* the holder hears it */
	char c;

	if (fd < 0)
		fail("/run/lab/%s: %m", CPUS_FIFO);
	(void)read_all(fd, &c, 1); /* ends when they run */
	close(fd);
}

/* ---- run ----------------------------------------------------------------- */

/* The kernel numbers a port's device among all virtio devices: look for it. */
static int open_port(int nr, int flags)
{
	char pattern[32];
	glob_t found;
	int fd = -1;

	snprintf(pattern, sizeof(pattern), "/dev/vport*p%d", nr);
	if (glob(pattern, 0, NULL, &found) == 0) {
		fd = open(found.gl_pathv[0], flags | O_CLOEXEC);
		globfree(&found);
	}
	if (fd < 0)
		fail("%s: %m", pattern);
	return fd;
}

static int wait_for(pid_t child)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, 0); /* -1: pid 1 reaps everybody */

		if (pid < 0 && errno != EINTR)
			fail("wait: %m");
		if (pid != child)
			continue;
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
}

/*
 * Ends whatever the command left running, so that its pipes reach their end.
 * Under systemd the leftovers are our children, because we are their subreaper;
 * as each dies its own children become ours.
 */
static void kill_leftovers(void)
{
	char path[64], *list = NULL;
	size_t size = 0;
	FILE *f;

	if (getpid() == 1) {
		(void)kill(-1, SIGKILL);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	for (;;) {
		bool any = false;

		f = fopen(path, "re");
		if (f && getline(&list, &size, f) > 0)
			for (char *rest = list, *pid; (pid = strsep(&rest, " \n"));)
				any |= *pid && kill((pid_t)strtol(pid, NULL, 10), SIGKILL) == 0;
		if (f)
			fclose(f);
		if (!any)
			break;
		(void)waitpid(-1, NULL, 0);
	}
	free(list);
}

/* Unmounts what lies on the lab's own disks, innermost first, so that their file
 * systems are clean. */
static void unmount_disks(void)
{
	char *line = NULL, *dir[64];
	size_t size = 0;
	int count = 0;
	FILE *f = fopen("/proc/self/mounts", "re");

	while (f && getline(&line, &size, f) > 0) {
		char *rest = line, *src = strsep(&rest, " "), *at = strsep(&rest, " ");

		if (at && !strncmp(src, "/dev/", 5) && count < 64)
			dir[count++] = strdup(at);
	}
	if (f)
		fclose(f);
	free(line);
	while (count > 0)
		(void)umount2(dir[--count], 0); /* the sync that follows covers a busy one */
}

/*
 * As a service with delegation the command owns its cgroup, and could enable no
 * controller for groups below it while we sit there with it: step aside.  In a
 * session, and with cgroup v1, there is nothing to own.
 */
static void leave_cgroup(void)
{
	char line[1024], path[1200];
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool v2 = f && fgets(line, sizeof(line), f) && !strncmp(line, "0::/", 4);
	int fd;

	if (f)
		fclose(f);
	if (!v2 || getpid() == 1)
		return;
	line[strcspn(line, "\n")] = '\0';
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/lab-guest", line + 3);
	if (mkdir(path, 0755) < 0)
		return;
	strncat(path, "/cgroup.procs", sizeof(path) - strlen(path) - 1);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)write_all(fd, "0", 1);
		close(fd);
	}
}

static _Noreturn void run(void)
{
	struct job job = { 0 };
	struct account account = { .name = "root", .home = "/root", .shell = "/bin/bash" };
	struct stream out = { 0 }, err = { 0 };
	struct feed feed = { 0 };
	struct control control = { .pty = -1 };
	struct ends ends;
	int in_port, out_port, err_port, out_src, err_src = -1, held, hold;
	uint32_t status;
	pthread_t thread;
	pid_t child;

	signal(SIGPIPE, SIG_IGN);
	wait_for_cpus();
	/* As systemd does: whoever makes a mount namespace is to find what a user's
	 * machine has. */
	if (getpid() == 1 && mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
		fprintf(stderr, "lab-guest: sharing /: %m\n");
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* nothing to gain as pid 1, no harm either */
	control_port = open_port(PORT_CONTROL, O_RDWR);
	in_port = open_port(PORT_STDIN, O_RDONLY);
	out_port = open_port(PORT_STDOUT, O_WRONLY);
	err_port = open_port(PORT_STDERR, O_WRONLY);
	receive_job(control_port, &job);
	if (job.user && !find_account(job.user, &account))
		fail("no user %s in the lab", job.user);

	feed.port = in_port;
	if (job.tty & TTY_STDIO) {
		control.pty = make_pty(&job, &ends.in);
		ends.out = ends.in;
		out_src = dup(control.pty); /* each thread closes its own */
		feed.dst = dup(control.pty);
		if (out_src < 0 || feed.dst < 0)
			fail("dup: %m");
		feed.tty = true;
	} else {
		make_pipe(&ends.in, &feed.dst);
		make_pipe(&out_src, &ends.out);
	}
	if (job.tty & TTY_STDERR)
		ends.err = ends.in;
	else
		make_pipe(&err_src, &ends.err);

	(void)frame_send(control_port, FRAME_RUNNING, NULL, 0);
	make_pipe(&held, &hold);
	child = fork();
	if (child < 0)
		fail("fork: %m");
	if (child == 0) {
		char c;

		close(hold);
		(void)read_all(held, &c, 1); /* ends when the parent has left the cgroup */
		start_command(&job, &account, ends);
	}
	leave_cgroup();
	close(hold);
	close(held);
	close(ends.in);
	if (ends.out != ends.in)
		close(ends.out);
	if (ends.err != ends.in)
		close(ends.err);

	start_stream(&out, out_src, out_port);
	if (err_src >= 0)
		start_stream(&err, err_src, err_port);
	else
		(void)frame_send(err_port, FRAME_DATA, NULL, 0);
	control.port = control_port;
	control.out = &out;
	control.err = &err;
	start_thread(&thread, run_feed, &feed);
	start_thread(&thread, run_control, &control);

	status = (uint32_t)wait_for(child);
	kill_leftovers();
	finish_stream(&out);
	finish_stream(&err);
	if (getpid() == 1)
		unmount_disks();
	sync();
	(void)frame_send(control_port, FRAME_STATUS, &status, sizeof(status));
	for (;;)
		pause(); /* the host switches the lab off */
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "load"))
		return load_modules(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "hold"))
		return hold(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "run"))
		run();
	if (argc == 3 && !strcmp(argv[1], "fail")) {
		control_port = open_port(PORT_CONTROL, O_RDWR);
		fail("%s", argv[2]);
	}
	fprintf(stderr, "usage: lab-guest load LIST | fail TEXT | hold DIR | run\n");
	return 125;
}
