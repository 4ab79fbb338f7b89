/*
 * The one table of what the VMM may ask of the host's kernel.
 *
 * Purpose: for each call: with which arguments, which threads, which devices need it, and why.
 *          seccomp.c makes the programs of it; tests drop its rows one by one.
 */
#ifndef JAIL_SECCOMP_TABLE_H
#define JAIL_SECCOMP_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "jail/papers.h"

/* Threads; every row is part of the start-up filter too, below which all others lie. */
#define ON_START 0U
#define ON_IO    (1U << JAIL_FILTER_IO)
#define ON_VCPU  (1U << JAIL_FILTER_VCPU)
#define ON_DISK  (1U << JAIL_FILTER_DISK)

/* Which device needs a row; 0: every VM. */
enum jail_need {
	NEED_DISK = 1U << 0,
	NEED_DISK_RW = 1U << 1,
	NEED_VSOCK = 1U << 2,
	NEED_NET = 1U << 3,
	NEED_TAP = 1U << 4,
};

enum jail_test {
	TEST_NONE,
	TEST_MASKED, /* (arg & mask) == value */
	TEST_FILE_SIZE, /* at most the largest file that is written to */
};

struct jail_condition {
	enum jail_test test;
	unsigned arg;
	uint64_t mask, value;
};

#define JAIL_CONDITIONS 3

struct jail_rule {
	int call;
	unsigned threads, needs; /* needs: any one of them */
	struct jail_condition conditions[JAIL_CONDITIONS]; /* all must hold */
	const char *name, *why;
};

const struct jail_rule *jail_rule_at(size_t index); /* NULL past the last */

#endif
