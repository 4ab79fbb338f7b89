/*
 * mvm-agent: /init of the initramfs, pid 1 of the guest.
 *
 * Order: the control session is dialled first; while the host answers, everything that needs no
 * word of its own is mounted. Signals need no care: the kernel drops every signal that pid 1 has
 * no handler for, SIGPIPE included, and a command starts with the default dispositions for the
 * same reason. Never returns: pid 1's end is a kernel panic.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "hooks.h"
#include "mount.h"
#include "mvm/version.h"
#include "net.h"

MVM_VERSION_MARKED;

#define OPEN_FILES_SOFT 1024U /* select(2) breaks beyond */
#define OPEN_FILES_HARD (1U << 20) /* the kernel's fs.nr_open */

/* The kernel opens /dev/console three times, or not at all; then descriptors 0 to 2 must not become sockets. */
static void plug_stdio(void)
{
	int fd;

	if (fcntl(STDERR_FILENO, F_GETFD) >= 0)
		return;
	do
		fd = open("/", O_PATH); /* the command gets others in their place */
	while (fd >= 0 && fd < STDERR_FILENO);
}

static int stage(struct agent *a, struct failure *f)
{
	struct rlimit files = { .rlim_cur = OPEN_FILES_SOFT, .rlim_max = OPEN_FILES_HARD };
	int r = mount_stage(f);

	if (r == 0)
		r = container_stage(&a->container, f);
	if (r < 0)
		return r;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0) /* the kernel's own limit is worse, and no reason to stop */
		console_line("agent: limit of open files: %s", strerror(errno));
	r = net_loopback_up(a->control);
	return r < 0 ? fail(f, -r, "loopback") : 0;
}

int main(void)
{
	struct timespec t = { 0 };
	struct failure f;
	struct agent a;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	plug_stdio();
	agent_hook("born");
	if (agent_init(&a, (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec, &f) < 0 || stage(&a, &f) < 0)
		agent_fail(&a, f.text);
	else
		agent_run(&a);
	agent_linger(&a);
	sync(); /* after BYE there is nothing to write; after ERROR there may be */
	(void)reboot(RB_POWER_OFF);
	console_line("agent: power-off: %s", strerror(errno));
	for (;;)
		(void)pause();
}
