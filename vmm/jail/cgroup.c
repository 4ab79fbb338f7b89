#include "jail/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define CPU_PERIOD_US  100000ULL
#define REMOVE_TRIES   200 /* a millisecond apart: the last thread of a dead process may still be leaving */
#define SELF_MAX_BYTES 16384

void cgroup_init(struct cgroup *cgroup)
{
	memset(cgroup, 0, sizeof(*cgroup));
	for (unsigned i = 0; i < CGROUP_HIERARCHIES; i++)
		cgroup->folders[i] = cgroup->procs[i] = -1;
}

int cgroup_put(int folder, const char *file, const char *value)
{
	_cleanup_fd_ int fd = openat(folder, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return -errno;
	return 0;
}

static int put_number(int folder, const char *file, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return cgroup_put(folder, file, text);
}

/* Up to cap-1 bytes of a file as a string; -errno. */
static int slurp(int folder, const char *file, char *text, size_t cap)
{
	_cleanup_fd_ int fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, cap - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return 0;
}

/* Whether a space-separated list holds a word. */
static bool lists(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += len)
		if ((at == text || at[-1] == ' ') && strchr(" \n", at[len]))
			return true;
	return false;
}

static int list_path(const struct cgroup_list *list, const char *path)
{
	_cleanup_fd_ int fd = -1;
	char line[PATH_MAX + 1]; /* `path` is shorter than PATH_MAX */
	int len = snprintf(line, sizeof(line), "%s\n", path);
	ssize_t n;

	if (!list->name)
		return 0;
	fd = openat(list->dir_fd, list->name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, line, (size_t)len);
	return n < 0 ? -errno : n < len ? -ENOSPC : 0;
}

static int make_folder(struct cgroup *cgroup, const struct cgroup_list *list, const char *parent, const char *name)
{
	char *path = cgroup->paths[cgroup->n];
	int *fd = &cgroup->folders[cgroup->n];
	int r;

	if (snprintf(path, PATH_MAX, "%s/%s", parent, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	r = list_path(list, path);
	if (r < 0)
		return r;
	if (mkdir(path, 0755) < 0)
		return -errno;
	hooks_stage("cgroup-made");
	cgroup->n++;
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 ? -errno : 0;
}

/* CPU and I/O are bounded only where that was asked for. */
static bool is_wanted(const char *controller, const struct cgroup_limits *limits)
{
	if (!strcmp(controller, "cpu"))
		return limits->cpu_percent != 0;
	if (!strcmp(controller, "io") || !strcmp(controller, "blkio"))
		return io_max_any(&limits->io.max);
	return true;
}

/* ---- v2 ---- */

/* Makes the controllers available to children of `path`. -ENOTSUP: the first that is not there is named; -errno. */
static int enable(const char *path, const struct cgroup_limits *limits, const char **ret_lacks)
{
	static const char *const wanted[] = { "memory", "pids", "cpu", "io" };
	_cleanup_fd_ int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char has[512], on[512], ask[32];
	int r = folder < 0 ? -errno : slurp(folder, "cgroup.controllers", has, sizeof(has));

	if (r == 0)
		r = slurp(folder, "cgroup.subtree_control", on, sizeof(on));
	for (unsigned i = 0; r == 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (is_wanted(wanted[i], limits) && !lists(has, wanted[i])) {
			*ret_lacks = wanted[i];
			return -ENOTSUP;
		}
	for (unsigned i = 0; r == 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (lists(on, wanted[i]) || !is_wanted(wanted[i], limits))
			continue;
		(void)snprintf(ask, sizeof(ask), "+%s", wanted[i]);
		r = cgroup_put(folder, "cgroup.subtree_control", ask); /* EBUSY: processes are in it themselves */
	}
	if (r == 0)
		*ret_lacks = NULL; /* what a group below lacked is of no account */
	return r;
}

static int limit_v2(const struct cgroup *cgroup, const struct cgroup_limits *limits, const char **ret_lacks)
{
	int folder = cgroup->folders[0];
	char text[48];
	int r = put_number(folder, "memory.max", limits->memory);

	/* Guest memory must not reach a disk. Without the file the kernel has no swap to bound. */
	if (r == 0) {
		r = cgroup_put(folder, "memory.swap.max", "0");
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0)
		r = put_number(folder, "pids.max", limits->pids);
	if (r == 0 && limits->cpu_percent) {
		(void)snprintf(text, sizeof(text), "%llu %llu",
			       (unsigned long long)(limits->cpu_percent * CPU_PERIOD_US / 100), CPU_PERIOD_US);
		r = cgroup_put(folder, "cpu.max", text);
	}
	if (r == 0 && io_max_any(&limits->io.max)) {
		r = cgroup_limit_io(cgroup, &limits->io);
		if (r == -ENOENT) /* a kernel whose controller cannot limit (CONFIG_BLK_DEV_THROTTLING) */
			*ret_lacks = "io";
	}
	return r;
}

/*
 * The nearest group at or above our own that may have children with controllers: its user may write there,
 * and no process is in it itself (but in the root, which may). So limits set on us from above hold for the VM.
 */
static int make_v2(const char *root, char *own, const char *name, const struct cgroup_limits *limits,
		   const struct cgroup_list *list, struct cgroup *cgroup, const char **ret_lacks)
{
	char path[PATH_MAX];
	int r;

	for (;;) {
		int n = snprintf(path, sizeof(path), "%s%s", root, own[1] ? own : "");

		r = n >= PATH_MAX ? -ENAMETOOLONG : enable(path, limits, ret_lacks);
		if (r == 0)
			r = make_folder(cgroup, list, path, name);
		if (r == 0)
			return limit_v2(cgroup, limits, ret_lacks);
		if (!own[1] || r == -EEXIST) /* that it is there is not to be answered by one with less above it */
			return r;
		*strrchr(own, '/') = '\0';
		if (!own[0])
			memcpy(own, "/", 2); /* there was a '/' and something after it */
	}
}

/* ---- v1 ---- */

/* Our own path in the hierarchy of a controller: the line "N:a,b:/path". */
static int own_v1(const char *self, const char *controller, char *ret_path)
{
	for (const char *line = self; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		size_t len = strlen(controller), end;

		if (!path)
			return -ENOTSUP;
		for (const char *at = names + 1; at < path; at = strpbrk(at, ",:") + 1)
			if (!strncmp(at, controller, len) && strchr(",:", at[len])) {
				end = strcspn(path + 1, "\n");
				if (end >= PATH_MAX)
					return -ENAMETOOLONG;
				memcpy(ret_path, path + 1, end);
				ret_path[end] = '\0';
				return 0;
			}
	}
	return -ENOTSUP;
}

/* Of the folder made last. */
static int limit_v1(const struct cgroup *cgroup, const char *controller, const struct cgroup_limits *limits)
{
	int folder = cgroup->folders[cgroup->n - 1];
	int r = 0;

	if (!strcmp(controller, "memory")) {
		r = put_number(folder, "memory.limit_in_bytes", limits->memory);
		if (r == 0) {
			r = put_number(folder, "memory.memsw.limit_in_bytes", limits->memory);
			r = r == -ENOENT ? 0 : r; /* no swap accounting */
		}
	} else if (!strcmp(controller, "pids")) {
		r = put_number(folder, "pids.max", limits->pids);
	} else if (!strcmp(controller, "cpu")) {
		r = put_number(folder, "cpu.cfs_period_us", CPU_PERIOD_US);
		if (r == 0)
			r = put_number(folder, "cpu.cfs_quota_us", limits->cpu_percent * CPU_PERIOD_US / 100);
	} else if (!strcmp(controller, "blkio")) {
		r = cgroup_limit_io(cgroup, &limits->io);
	}
	return r;
}

static int make_v1(const char *root, const char *self, const char *name, const struct cgroup_limits *limits,
		   const struct cgroup_list *list, struct cgroup *cgroup, const char **ret_lacks)
{
	static const char *const controllers[] = { "memory", "pids", "cpu", "blkio" };
	char own[PATH_MAX], parent[2 * PATH_MAX];

	for (unsigned i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++) {
		unsigned at = cgroup->n;
		int r;

		if (!is_wanted(controllers[i], limits))
			continue;
		r = own_v1(self, controllers[i], own);
		if (r < 0) {
			*ret_lacks = controllers[i];
			return r;
		}
		(void)snprintf(parent, sizeof(parent), "%s/%s%s", root, controllers[i], own[1] ? own : "");
		r = make_folder(cgroup, list, parent, name);
		if (r == 0)
			r = limit_v1(cgroup, controllers[i], limits);
		if (r < 0)
			return r;
		cgroup->procs[at] = openat(cgroup->folders[at], "cgroup.procs", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
		if (cgroup->procs[at] < 0)
			return -errno;
	}
	return 0;
}

int cgroup_make(const char *root, const char *self, const char *name, const struct cgroup_limits *limits,
		const struct cgroup_list *list, struct cgroup *ret_cgroup, struct mvm_error *err)
{
	char text[SELF_MAX_BYTES] = "";
	struct cgroup cgroup;
	const char *lacks = NULL;
	struct statfs fs;
	char *own;
	int r;

	cgroup_init(&cgroup);
	r = slurp(AT_FDCWD, self, text, sizeof(text));
	if (r < 0 || statfs(root, &fs) < 0)
		return error_set(err, ENOTSUP, "cgroup: %s: no cgroups are mounted there", root);
	cgroup.v2 = fs.f_type == CGROUP2_SUPER_MAGIC;
	if (cgroup.v2) {
		own = strstr(text, "0::/");
		if (!own || strlen(own) >= PATH_MAX)
			return error_set(err, ENOTSUP, "cgroup: %s says nothing of a v2 group", self);
		own += 3;
		own[strcspn(own, "\n")] = '\0';
		r = make_v2(root, own, name, limits, list, &cgroup, &lacks);
	} else {
		r = make_v1(root, text, name, limits, list, &cgroup, &lacks);
	}
	if (r < 0) {
		cgroup_free(&cgroup);
		/* What the nearest groups lacked says more than why those above them are closed. */
		if (lacks && (!strcmp(lacks, "io") || !strcmp(lacks, "blkio")))
			return error_set(err, ENOTSUP,
					 "cgroup: the controller %s is not there, or not delegated to this user",
					 lacks);
		return error_set(err, ENOTSUP, "cgroup: none can be made for the VM: %s",
				 r == -ENOTSUP ? "memory and pids are not delegated to this user" : strerror(-r));
	}
	*ret_cgroup = cgroup;
	return 0;
}

static uint64_t read_number(int folder, const char *file)
{
	uint64_t value = 0;
	char text[32];

	if (slurp(folder, file, text, sizeof(text)) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return text_parse_uint(text, UINT64_MAX - 1, &value) < 0 ? 0 : value;
}

void cgroup_memory(const struct cgroup *cgroup, uint64_t *ret_now, uint64_t *ret_peak, uint64_t *ret_max)
{
	bool v2 = cgroup->v2;

	*ret_now = *ret_peak = *ret_max = 0;
	if (cgroup->n == 0)
		return;
	*ret_now = read_number(cgroup->folders[0], v2 ? "memory.current" : "memory.usage_in_bytes");
	*ret_peak = read_number(cgroup->folders[0], v2 ? "memory.peak" : "memory.max_usage_in_bytes");
	*ret_max = read_number(cgroup->folders[0], v2 ? "memory.max" : "memory.limit_in_bytes");
}

unsigned cgroup_oom_kills(const struct cgroup *cgroup)
{
	char text[512];
	const char *at;
	uint64_t count = 0;

	if (cgroup->n == 0 ||
	    slurp(cgroup->folders[0], cgroup->v2 ? "memory.events" : "memory.oom_control", text, sizeof(text)) < 0)
		return 0;
	at = strstr(text, "oom_kill ");
	if (!at)
		return 0;
	at += strlen("oom_kill ");
	text[(size_t)(at - text) + strcspn(at, "\n")] = '\0';
	return text_parse_uint(at, UINT32_MAX, &count) < 0 ? 0 : (unsigned)count;
}

int cgroup_join(const struct cgroup *cgroup, pid_t pid)
{
	char text[24];
	int r = 0;

	(void)snprintf(text, sizeof(text), "%ld", (long)pid);
	for (unsigned i = 0; r == 0 && i < cgroup->n; i++)
		r = cgroup_put(cgroup->folders[i], "cgroup.procs", text);
	return r;
}

static int remove_folder(const char *path)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	int tries = REMOVE_TRIES;

	while (rmdir(path) < 0) {
		if (errno != EBUSY || tries-- == 0)
			return -errno;
		(void)nanosleep(&moment, NULL);
	}
	return 0;
}

void cgroup_free(struct cgroup *cgroup)
{
	for (unsigned i = 0; i < cgroup->n; i++) {
		cleanup_fd(&cgroup->procs[i]);
		cleanup_fd(&cgroup->folders[i]);
		(void)remove_folder(
			cgroup->paths[i]); /* a process is still in it: state_dir.c keeps its path, and tries again */
	}
	cgroup_init(cgroup);
}

bool cgroup_reclaim(const char *path)
{
	const char *name = strrchr(path, '/');
	int r = name && !strncmp(name, "/mvm-", 5) ? remove_folder(path) : -ENOENT;

	return r == 0 || r == -ENOENT;
}
