/*
 * Whether a VM has been idle for as long as --idle-timeout says.
 *
 * Purpose: the decision, made of a few looks at what the VM used, apart from who looks (supervisor_loop.c).
 * Rule:    between two looks a VM is idle when its process took less than 1/IDLE_SHARE of one CPU, no byte went through
 *          its streams, and the caller does not call it busy. Looks are a quarter of the time apart, a second at least:
 *          an idle VM ends between `limit` and `limit` and two such steps after it became idle.
 * Trust:   CPU time is the host's account. A guest can keep itself from being idle, as it may.
 * Thread:  any; pure.
 */
#ifndef LIB_IDLE_H
#define LIB_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#define IDLE_SHARE    50U /* of one CPU: a fiftieth, 2 % */
#define IDLE_LEAST_NS 1000000000ULL /* between two looks, and the least that --idle-timeout takes */

struct idle {
	uint64_t limit_ns, step_ns;
	uint64_t next_ns; /* when to look, CLOCK_MONOTONIC; UINT64_MAX: never */
	uint64_t since_ns; /* idle since then */
	uint64_t looked_ns, cpu_ns, bytes; /* at the last look */
};

#define IDLE_NEVER ((struct idle){ .next_ns = UINT64_MAX })

/* `cpu_ns` and `bytes` so far. limit_ns 0: IDLE_NEVER. */
void idle_start(struct idle *idle, uint64_t limit_ns, uint64_t now_ns, uint64_t cpu_ns, uint64_t bytes);

/* A look, at next_ns or later. True: it has been idle for long enough; then there is no next look. */
bool idle_look(struct idle *idle, uint64_t now_ns, uint64_t cpu_ns, uint64_t bytes, bool busy);

#endif
