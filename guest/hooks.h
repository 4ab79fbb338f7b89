/*
 * What test builds (VARIANT=hooks) add to the agent; nothing in any other build. The kernel hands words of its command
 * line that it does not know to its first process as environment:
 *
 *   --cmdline MVM_TEST_DIE=STAGE   the agent ends there, as if killed (tests/e2e/crash)
 */
#ifndef GUEST_HOOKS_H
#define GUEST_HOOKS_H

#ifdef MVM_TEST_HOOKS
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void agent_hook(const char *stage)
{
	const char *wanted = getenv("MVM_TEST_DIE");

	/* Not a signal: the first process takes no SIGKILL of its own. */
	if (wanted && !strcmp(wanted, stage))
		_exit(137);
}
#else
static inline void agent_hook(const char *stage)
{
	(void)stage;
}
#endif

#endif
