#include "jail/hooks.h"

#ifdef MVM_TEST_HOOKS

#include <stdio.h>
#include <stdlib.h>

static bool pair(const char *name, unsigned *ret_a, unsigned *ret_b)
{
	const char *text = getenv(name);

	return text && sscanf(text, "%u:%u", ret_a, ret_b) == 2;
}

bool hooks_drops(size_t row, enum jail_filter kind)
{
	unsigned a, b;

	return pair("MVM_TEST_DROP", &a, &b) && a == row && b == (unsigned)kind;
}

bool hooks_no_seccomp(void)
{
	return getenv("MVM_TEST_NO_SECCOMP") != NULL;
}

void hooks_papers(struct jail_papers *papers)
{
	(void)pair("MVM_TEST_ATTACK", &papers->attack, &papers->attacker);
}

#endif
