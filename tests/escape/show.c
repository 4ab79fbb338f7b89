/* The table of attacks, for the script: one line each, fields separated by tabs. */
#include <stdio.h>
#include <string.h>

#include "attack.h"
#include "jail/papers.h"

static void show_flags(const struct attack *attack)
{
	static const char *const names[] = { "alone", "harmless", "apart", "oom", "spin", "hangs" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (attack->flags & (1U << i))
			(void)printf("%s,", names[i]);
}

int main(void)
{
	const struct attack *attack;

	/* number, name, kinds that pass, flags, errnos, why; no field is empty */
	for (size_t i = 0; (attack = attack_at(i)); i++) {
		(void)printf("%zu\t%s\t,", i + 1, attack->name);
		for (unsigned kind = JAIL_FILTER_IO; kind < JAIL_FILTERS; kind++)
			if (attack->passes & (1U << kind))
				(void)printf("%u,", kind);
		(void)printf("\t,");
		show_flags(attack);
		(void)printf("\t,");
		for (unsigned e = 0; e < ATTACK_ERRNOS && attack->errnos[e]; e++)
			(void)printf("%s,", strerrorname_np(attack->errnos[e]));
		(void)printf("\t%s\n", attack->next);
	}
	return 0;
}
