#include "lib/idle.h"

void idle_start(struct idle *idle, uint64_t limit_ns, uint64_t now_ns, uint64_t cpu_ns, uint64_t bytes)
{
	*idle = IDLE_NEVER;
	if (!limit_ns)
		return;
	idle->limit_ns = limit_ns;
	idle->step_ns = limit_ns / 4 > IDLE_LEAST_NS ? limit_ns / 4 : IDLE_LEAST_NS;
	idle->since_ns = idle->looked_ns = now_ns;
	idle->next_ns = now_ns + idle->step_ns;
	idle->cpu_ns = cpu_ns;
	idle->bytes = bytes;
}

bool idle_look(struct idle *idle, uint64_t now_ns, uint64_t cpu_ns, uint64_t bytes, bool busy)
{
	/* A clock of CPU time that cannot be read, or went back, tells nothing: the VM is let be. */
	bool quiet = cpu_ns >= idle->cpu_ns && (cpu_ns - idle->cpu_ns) < (now_ns - idle->looked_ns) / IDLE_SHARE;

	if (busy || !quiet || bytes != idle->bytes)
		idle->since_ns = now_ns;
	idle->looked_ns = now_ns;
	idle->cpu_ns = cpu_ns;
	idle->bytes = bytes;
	idle->next_ns = now_ns + idle->step_ns;
	if (now_ns - idle->since_ns < idle->limit_ns)
		return false;
	idle->next_ns = UINT64_MAX;
	return true;
}
