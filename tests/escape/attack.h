/*
 * The escape suite's attacks: what an attacker who owns the VMM process would try next.
 *
 * Purpose: one table (table.c); try.c runs its rows inside the jailed VMM of a test build (VARIANT=hooks),
 *          on the thread kind that the papers name; show.c prints it for the script that judges.
 * Trust:   this is the attacker. No other build contains any of it.
 * Thread:  an attack runs on one thread of a VMM whose guest has not started; no malloc, no errno, raw calls.
 */
#ifndef ESCAPE_ATTACK_H
#define ESCAPE_ATTACK_H

#include <stddef.h>
#include <stdint.h>

#define ATTACK_ALL    UINT32_MAX /* as the papers' number: every row that is not ATTACK_APART */
#define ATTACK_ERRNOS 5

enum attack_flags {
	ATTACK_ALONE = 1U << 0, /* without the filter it may succeed: `next` says why the filter is enough */
	ATTACK_HARMLESS = 1U << 1, /* it may succeed behind the filter too: `next` says what bounds it */
	ATTACK_APART = 1U << 2, /* needs a VM of its own: nothing can come after it */
	ATTACK_OOM = 1U << 3, /* ends by the out-of-memory killer, in the VM's own cgroup */
	ATTACK_SPIN = 1U << 4, /* never ends; the script looks at it from outside */
	ATTACK_HANGS = 1U << 5, /* without the filter not tried: `next` says why */
};

struct attack {
	const char *name;
	long call; /* with args; or attempt() */
	uintptr_t args[6];
	long (*attempt)(void); /* at least 0: the attacker has got what he wanted; -errno: denied */
	unsigned passes; /* thread kinds (ON_IO …) whose filter lets the call go: there `errnos` answer, too */
	unsigned flags;
	int errnos[ATTACK_ERRNOS]; /* what the next layer answers */
	const char *next; /* that layer; with ATTACK_ALONE the reason why there is none */
};

const struct attack *attack_at(size_t index); /* NULL past the last */

/* What the VMM was handed, found before its start-up filter; -1: not there. */
struct attack_targets {
	int kvm, console, read_only, writable;
	uint64_t writable_size; /* bytes */
	uint64_t size_max; /* of any file: RLIMIT_FSIZE, bytes */
};

const struct attack_targets *attack_targets(void);

#endif
