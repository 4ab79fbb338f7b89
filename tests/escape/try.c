/* Runs attacks inside the VMM; see attack.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "attack.h"
#include "call.h"
#include "jail/hooks.h"

#define KVM_DEVICE   makedev(10, 232)
#define FDS_LOOKED   64
#define LINE_BYTES   200
#define NEVER_CALLED SYS_getppid /* in no filter: the end of a single attack that was not killed itself */

static struct attack_targets targets = { -1, -1, -1, -1, 0, 0 };
static atomic_bool begun; /* a kind may have several threads: the first attacks */
static atomic_int vm_built; /* a futex */

const struct attack_targets *attack_targets(void)
{
	return &targets;
}

void hooks_look(void)
{
	struct rlimit limit;

	if (RAW(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &limit) == 0)
		targets.size_max = limit.rlim_cur;
	for (int fd = FDS_LOOKED - 1; fd >= 0; fd--) {
		long flags = RAW(SYS_fcntl, fd, F_GETFL);
		struct stat st;

		if (flags < 0 || fstat(fd, &st) < 0)
			continue;
		if (S_ISCHR(st.st_mode) && st.st_rdev == KVM_DEVICE)
			targets.kvm = fd;
		if (!S_ISREG(st.st_mode) || st.st_nlink == 0)
			continue;
		if ((flags & O_ACCMODE) == O_RDONLY)
			targets.read_only = fd;
		else if ((flags & O_ACCMODE) == O_WRONLY)
			targets.console = fd;
		else {
			targets.writable = fd;
			targets.writable_size = (uint64_t)st.st_size;
		}
	}
}

/* Into the console's file: the log's reader has a rate, and every line counts here. */
static void say(const char *line)
{
	(void)RAW(SYS_write, targets.console, line, strlen(line));
}

static void attempt(size_t index, const struct attack *attack)
{
	const uintptr_t *a = attack->args;
	char line[LINE_BYTES];
	long r;

	(void)snprintf(line, sizeof(line), "attack %zu %s: trying\n", index + 1, attack->name);
	say(line);
	r = attack->attempt ? attack->attempt() : raw_call(attack->call, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (r < 0 && r > -4096)
		(void)snprintf(line, sizeof(line), "attack %zu %s: denied %s\n", index + 1, attack->name,
			       strerrorname_np((int)-r) ? strerrorname_np((int)-r) : "?");
	else
		(void)snprintf(line, sizeof(line), "attack %zu %s: SUCCEEDED\n", index + 1, attack->name);
	say(line);
}

/* The guest must not run, nor anything be torn down, while a disk's thread attacks. */
static void hold(void)
{
	atomic_store(&vm_built, 1);
	(void)RAW(SYS_futex, &vm_built, FUTEX_WAKE_PRIVATE, INT32_MAX);
	for (;;)
		(void)RAW(SYS_futex, &vm_built, FUTEX_WAIT_PRIVATE, 1, 0);
}

void hooks_attack(const struct jail_papers *papers, enum jail_filter kind)
{
	const struct attack *attack;
	unsigned own = 0; /* descriptors */
	bool all;

	if (!papers->attack || kind == JAIL_FILTER_START)
		return;
	if (kind == JAIL_FILTER_IO && papers->attacker == JAIL_FILTER_DISK)
		hold();
	if (kind != papers->attacker || atomic_exchange(&begun, true))
		return;
	while (kind == JAIL_FILTER_DISK && !atomic_load(&vm_built))
		(void)RAW(SYS_futex, &vm_built, FUTEX_WAIT_PRIVATE, 0, 0);
	all = papers->attack == ATTACK_ALL;
	for (unsigned fd = 0; all && fd < FDS_LOOKED; fd++)
		if (RAW(SYS_fcntl, fd, F_GETFD) >= 0)
			own = fd + 1;
	for (size_t i = 0; (attack = attack_at(i)); i++)
		if (papers->attack == i + 1 || (all && !(attack->flags & ATTACK_APART))) {
			attempt(i, attack);
			if (all) /* what one has got is not the next one's */
				(void)RAW(SYS_close_range, own, ~0U, 0);
		}
	say("attack: all tried\n");
	(void)RAW(NEVER_CALLED);
	(void)RAW(SYS_exit_group, 3);
}
