/* Prints the seccomp table for scripts: "ROW KIND THREAD NAME", a line for each program that has the row on its own account. */
#include <stdio.h>

#include "jail/seccomp_table.h"

int main(void)
{
	static const char *const kinds[JAIL_FILTERS] = { "start", "io", "vcpu", "disk" };
	const struct jail_rule *rule;

	for (size_t i = 0; (rule = jail_rule_at(i)); i++)
		for (unsigned kind = 0; kind < JAIL_FILTERS; kind++)
			if (kind == JAIL_FILTER_START ? rule->threads == ON_START : (rule->threads & (1U << kind)) != 0)
				(void)printf("%zu %u %s %s\n", i, kind, kinds[kind], rule->name);
	return 0;
}
