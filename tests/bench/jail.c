/*
 * What the jail costs a start: mvm-vmm started through it, up to where it would read its config, and the same program started
 * plainly. CPU of this process and its children, and wall time, both per start; then eight at once.
 *   jail MVM-VMM [STARTS]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "jail/jail.h"
#include "jail/landlock.h"
#include "lib/host_conf.h"

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double cpu(void)
{
	double sum = 0;
	static const int whose[] = { RUSAGE_SELF, RUSAGE_CHILDREN };

	for (unsigned i = 0; i < 2; i++) {
		struct rusage usage;

		(void)getrusage(whose[i], &usage);
		sum += seconds(&usage.ru_utime) + seconds(&usage.ru_stime);
	}
	return sum;
}

static double wall(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* An empty config: the VMM ends when it comes to read it, with all of the jail behind it. */
static int jailed(int exe, unsigned number)
{
	static struct vmm_config config = {
		.mem_bytes = 256 << 20, .vcpus = 1, .ndisks = 1, .flags = VMM_CONFIG_ALL & ~4U
	};
	struct jail_options options = {
		.config = &config, .may_lack = ~0U, .uid_first = IDS_FIRST, .uid_count = IDS_COUNT
	};
	struct handover handover = { .n = VMM_FD_FIRST };
	struct mvm_error err;
	struct jail jail;
	char id[32];
	int pidfd, status = 0;
	pid_t pid;

	(void)snprintf(id, sizeof(id), "%x%04x", getpid(), number);
	options.id = id;
	if (jail_prepare(&options, &jail, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	for (unsigned i = 0; i < VMM_FD_FIRST; i++)
		handover.fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	(void)close(handover.fds[VMM_FD_JAIL]);
	handover.fds[VMM_FD_JAIL] = jail.papers;
	if (jail_spawn(&jail, &handover, exe, &pid, &pidfd, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	(void)waitpid(pid, &status, 0);
	(void)close(pidfd);
	for (unsigned i = 0; i < VMM_FD_JAIL; i++)
		(void)close(handover.fds[i]);
	(void)jail_free(&jail);
	return WIFEXITED(status) ? 0 : -1;
}

static int plain(const char *path)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = vfork();

	if (pid == 0) {
		for (int i = 0; i <= VMM_FD_JAIL; i++)
			(void)dup2(null, i);
		(void)execl(path, "mvm-vmm", (char *)NULL);
		_exit(127);
	}
	(void)close(null);
	return waitpid(pid, NULL, 0) < 0 ? -1 : 0;
}

static int measure(const char *path, int exe, unsigned starts, double *ret_cpu, double *ret_wall)
{
	double c = cpu(), w = wall();

	for (unsigned i = 0; i < starts; i++)
		if ((exe < 0 ? plain(path) : jailed(exe, i)) < 0)
			return -1;
	*ret_cpu = (cpu() - c) / starts * 1e3;
	*ret_wall = (wall() - w) / starts * 1e3;
	return 0;
}

int main(int argc, char **argv)
{
	unsigned starts = argc > 2 ? (unsigned)atoi(argv[2]) : 50;
	double plain_cpu, plain_wall, jail_cpu, jail_wall, began;
	int exe = argc > 1 ? open(argv[1], O_PATH | O_CLOEXEC) : -1;

	if (exe < 0 || starts == 0)
		return 2;
	(void)mkdir("/run/mvm", 0700);
	if (measure(argv[1], -1, starts, &plain_cpu, &plain_wall) < 0 ||
	    measure(argv[1], exe, starts, &jail_cpu, &jail_wall) < 0)
		return 1;
	(void)printf("plain   cpu %6.2f ms   wall %6.2f ms   a start\n", plain_cpu, plain_wall);
	(void)printf("jailed  cpu %6.2f ms   wall %6.2f ms   a start: the jail's CPU is %.2f ms\n", jail_cpu, jail_wall,
		     jail_cpu - plain_cpu);
	began = wall();
	for (unsigned i = 0; i < 8; i++)
		if (fork() == 0)
			_exit(measure(argv[1], exe, starts, &jail_cpu, &jail_wall) < 0);
	while (wait(NULL) > 0)
		;
	(void)printf("8 at once: %.2f ms a start, %.2f of one after the other on %ld CPUs\n",
		     (wall() - began) * 1e3 / (8 * starts), (wall() - began) * 1e3 / (8 * starts) / jail_wall,
		     sysconf(_SC_NPROCESSORS_ONLN));
	return 0;
}
