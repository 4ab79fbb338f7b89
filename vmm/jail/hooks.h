/*
 * What test builds (VARIANT=hooks) may do to the jail; everything here is nothing in any other build.
 *
 *   MVM_TEST_DROP=ROW:KIND       leave a row of the seccomp table out of one thread kind's program
 *   MVM_TEST_NO_SECCOMP=1        no seccomp programs at all: what stops an attack at the next layer?
 *   MVM_TEST_ATTACK=NUMBER:KIND  the VMM's thread of that kind tries an attack (tests/escape)
 *   MVM_TEST_HOLD=STAGE:REACHED:GO  who comes to that stage of a run says so in the FIFO REACHED, and goes on when
 *                                there is a byte in the FIFO GO (tests/e2e/crash)
 */
#ifndef JAIL_HOOKS_H
#define JAIL_HOOKS_H

#include <stdbool.h>
#include <stddef.h>

#include "jail/papers.h"

#ifdef MVM_TEST_HOOKS
bool hooks_drops(size_t row, enum jail_filter kind);
bool hooks_no_seccomp(void);
void hooks_papers(struct jail_papers *papers);
void hooks_stage(const char *stage);

/* In the VMM: before its start-up filter; on each thread, behind its filter. */
void hooks_look(void);
void hooks_attack(const struct jail_papers *papers, enum jail_filter kind);
#else
static inline bool hooks_drops(size_t row, enum jail_filter kind)
{
	(void)row;
	(void)kind;
	return false;
}

static inline bool hooks_no_seccomp(void)
{
	return false;
}

static inline void hooks_papers(struct jail_papers *papers)
{
	(void)papers;
}

static inline void hooks_stage(const char *stage)
{
	(void)stage;
}

static inline void hooks_look(void)
{
}

static inline void hooks_attack(const struct jail_papers *papers, enum jail_filter kind)
{
	(void)papers;
	(void)kind;
}
#endif

#endif
