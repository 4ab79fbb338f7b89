/*
 * The seccomp programs of every thread of a process, as the kernel holds them (ptrace(2),
 * PTRACE_SECCOMP_GET_FILTER). Each thread stops for the moment that it takes; were we to die meanwhile, the
 * kernel lets it run on.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "jail/papers.h"
#include "lib/inspect.h"

static int dump_filters(pid_t tid, struct inspect_dump *dump)
{
	struct sock_filter *program = calloc(JAIL_FILTER_MAX, sizeof(*program));
	unsigned n = 0;
	long count = 0;

	if (!program)
		return -ENOMEM;
	dump->threads[dump->n].tid = tid;
	for (; n < INSPECT_FILTERS_MAX; n++) {
		count = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)(uintptr_t)n, NULL);
		if (count <= 0 || count > (long)JAIL_FILTER_MAX)
			break;
		count = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)(uintptr_t)n, program);
		if (count <= 0)
			break;
		dump->threads[dump->n].filters[n].instructions = (unsigned)count;
		(void)SHA256Data((const uint8_t *)program, (size_t)count * sizeof(*program),
				 dump->threads[dump->n].filters[n].sha256);
	}
	free(program);
	/* ENOENT: past the last. EINVAL: no filter at all. */
	if (n < INSPECT_FILTERS_MAX && count < 0 && errno != ENOENT && errno != EINVAL)
		return -errno;
	dump->threads[dump->n++].n = n;
	return 0;
}

static int dump_thread(pid_t tid, struct inspect_dump *dump)
{
	int status, r;

	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
		return errno == ESRCH ? 0 : -errno; /* a thread that ended meanwhile */
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0) {
		r = -errno;
		(void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
		return r;
	}
	do
		r = waitpid(tid, &status, __WALL) < 0 ? -errno : 0;
	while (r == -EINTR);
	if (r < 0 || !WIFSTOPPED(status))
		return r; /* it ended */
	r = dump_filters(tid, dump);
	/* A signal that arrived first stays its: handed on with the detaching. */
	status = status >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status);
	if (ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)status) < 0 && errno != ESRCH)
		r = r < 0 ? r : -errno;
	return r;
}

void inspect_dump(pid_t pid, struct inspect_dump *ret_dump)
{
	struct dirent *entry;
	char path[32];
	DIR *tasks;

	memset(ret_dump, 0, sizeof(*ret_dump));
	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		ret_dump->error = -errno;
	while (tasks && ret_dump->error == 0 && ret_dump->n < INSPECT_THREADS_MAX && (entry = readdir(tasks))) {
		long tid = strtol(entry->d_name, NULL, 10);

		if (tid > 0)
			ret_dump->error = dump_thread((pid_t)tid, ret_dump);
	}
	if (tasks)
		(void)closedir(tasks);
	if (ret_dump->error == 0 && ret_dump->n == 0)
		ret_dump->error = -ESRCH;
}
