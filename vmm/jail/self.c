#include "jail/self.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "jail/landlock.h"

#define SEALS_NEEDED (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Mapped once, read-only and sealed; every thread finds its program here. NULL in module tests. */
static const struct jail_papers *papers;

int jail_papers_check(const struct jail_papers *p, size_t size)
{
	size_t room;

	if (size < sizeof(*p))
		return -EINVAL;
	room = (size - sizeof(*p)) / sizeof(struct sock_filter);
	if (p->magic != JAIL_PAPERS_MAGIC || p->size != size || p->flags & ~(uint32_t)JAIL_PAPERS_ALL)
		return -EINVAL;
	for (unsigned i = 0; i < JAIL_FILTERS; i++)
		if (p->filters[i].count > JAIL_FILTER_MAX || p->filters[i].first > room ||
		    p->filters[i].count > room - p->filters[i].first)
			return -EINVAL;
	return 0;
}

static int map_papers(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *map;

	if (seals < 0 || (seals & SEALS_NEEDED) != SEALS_NEEDED || fstat(fd, &st) < 0)
		return -EINVAL;
	if (st.st_size < (off_t)sizeof(*papers) ||
	    st.st_size > (off_t)(sizeof(*papers) + sizeof(struct sock_filter) * JAIL_FILTER_MAX * JAIL_FILTERS))
		return -EINVAL;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	if (jail_papers_check(map, (size_t)st.st_size) < 0) {
		(void)munmap(map, (size_t)st.st_size);
		return -EINVAL;
	}
	papers = map;
	return close(fd) < 0 ? -errno : 0;
}

static int load(enum jail_filter kind)
{
	struct sock_fprog program = { 0 };
	const struct sock_filter *all;

#ifdef JAIL_OMIT_SECCOMP
	return 0; /* sanitizers call what no filter of ours allows */
#endif
	all = (const struct sock_filter *)(papers + 1);
	program.len = (unsigned short)papers->filters[kind].count;
	/* The kernel copies the program in; it takes no const. */
	program.filter = (struct sock_filter *)(uintptr_t)(all + papers->filters[kind].first);
#ifdef MVM_TEST_HOOKS
	if (program.len == 0)
		return 0;
#endif
	/* No SPEC_ALLOW flag, no log flag: the kernel's own defaults are the strictest. */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &program) < 0 ? -errno : 0;
}

int jail_enter_thread(enum jail_filter kind)
{
	int r = papers ? load(kind) : 0;

	if (papers && r == 0)
		hooks_attack(papers, kind);
	return r;
}

int jail_close_behind(int papers_fd, const char **ret_step)
{
	int r;

	/*
	 * 9. Not dumpable: no core, no ptrace, no /proc/PID of ours for others of the same uid. Dead with its
	 *    supervisor; end-of-file on the control socket closes the race before this line.
	 */
	*ret_step = "undumpable";
	if (prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL) < 0)
		return -errno;
	*ret_step = "parent-death signal";
	if (prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL) < 0)
		return -errno;
	*ret_step = "papers";
	r = map_papers(papers_fd);
	if (r < 0)
		return r;
#ifndef JAIL_OMIT_LANDLOCK /* sanitizers write their reports by name */
	*ret_step = "Landlock";
	r = landlock_close(papers->flags & JAIL_LANDLOCK_FS, papers->flags & JAIL_LANDLOCK_NET);
	if (r < 0)
		return r;
#endif
	hooks_look();
	/* 10. The start-up filter; only then is the config read. */
	*ret_step = "seccomp";
	return jail_enter_thread(JAIL_FILTER_START);
}
