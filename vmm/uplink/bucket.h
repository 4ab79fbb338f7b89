/*
 * How often something may be done: token buckets, and a network's questions for names by them.
 *
 * Purpose: each question that the resolver asks takes a port of the host's for BUCKET_KEPT_MS (pasta's time), of so many for
 *          all members. Half of these is divided among as many members as there can be, half is for who comes first.
 * Thread:  any; the caller's clock.
 */
#ifndef UPLINK_BUCKET_H
#define UPLINK_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "uplink/uplink.h"

#define BUCKET_KEPT_MS 180000

/* So many at once, and then one in so many milliseconds. */
struct bucket {
	unsigned each_ms, burst;
	int64_t full_ms; /* when it is, or was */
};

static inline bool bucket_take(struct bucket *b, int64_t now)
{
	if (b->full_ms < now)
		b->full_ms = now;
	if (b->full_ms - now > (int64_t)b->each_ms * (b->burst - 1))
		return false;
	b->full_ms += b->each_ms;
	return true;
}

/* At most `n` in BUCKET_KEPT_MS: a part of them at once. */
static inline struct bucket bucket_of(unsigned n, unsigned part)
{
	unsigned burst = n / part ? n / part : 1, rest = n > burst ? n - burst : 1;

	return (struct bucket){ .each_ms = (BUCKET_KEPT_MS + rest - 1) / rest, .burst = burst };
}

/* Of `all` questions: what one member has for itself; what those who have used that up have together. */
static inline struct bucket bucket_own(unsigned all)
{
	return bucket_of(all / 2 / UPLINK_MEMBERS, 2);
}

static inline struct bucket bucket_crowd(unsigned all)
{
	return bucket_of(all / 2, 4);
}

#endif
