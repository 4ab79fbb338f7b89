#include "virtio/ratelimit.h"

#define COST_MAX (UINT64_MAX / 8) /* ns: 73 years; sums of a few never wrap */

/* How long the bucket takes to bring so many units. Rounded up: a limit is never exceeded. */
static uint64_t cost(uint64_t units, uint64_t rate)
{
	unsigned __int128 ns = ((unsigned __int128)units * 1000000000U + rate - 1) / rate;

	return ns > COST_MAX ? COST_MAX : (uint64_t)ns;
}

static uint64_t full_at(const struct ratelimit_bucket *bucket, uint64_t now_ns)
{
	return bucket->full_ns > now_ns ? bucket->full_ns : now_ns;
}

/* When the bucket holds enough; now or earlier: it does. */
static uint64_t ready_at(const struct ratelimit_bucket *bucket, uint64_t units, uint64_t now_ns)
{
	uint64_t need;

	if (!bucket->rate || !units)
		return now_ns;
	need = cost(units, bucket->rate);
	if (need > RATELIMIT_BURST_NS)
		need = RATELIMIT_BURST_NS;
	need += full_at(bucket, now_ns);
	return need > RATELIMIT_BURST_NS ? need - RATELIMIT_BURST_NS : 0;
}

static void take(struct ratelimit_bucket *bucket, uint64_t units, uint64_t now_ns)
{
	uint64_t at = full_at(bucket, now_ns), ns;

	if (!bucket->rate)
		return;
	ns = cost(units, bucket->rate);
	bucket->full_ns = ns > UINT64_MAX / 2 - at ? UINT64_MAX / 2 : at + ns;
}

void ratelimit_set(struct ratelimit_bucket *bucket, uint64_t rate, uint64_t now_ns)
{
	uint64_t missing = bucket->rate && bucket->full_ns > now_ns ? bucket->full_ns - now_ns : 0;

	if (missing > RATELIMIT_BURST_NS && rate) {
		unsigned __int128 debt = (unsigned __int128)(missing - RATELIMIT_BURST_NS) * bucket->rate / rate;

		missing = RATELIMIT_BURST_NS + (debt > COST_MAX ? COST_MAX : (uint64_t)debt);
	}
	bucket->rate = rate;
	bucket->full_ns = now_ns + missing;
}

uint64_t ratelimit_ready(const struct ratelimit *limit, uint64_t bytes, uint64_t now_ns)
{
	uint64_t ops_at = ready_at(&limit->ops, 1, now_ns), bytes_at = ready_at(&limit->bytes, bytes, now_ns);
	uint64_t at = ops_at > bytes_at ? ops_at : bytes_at;

	return at > now_ns ? at : 0;
}

uint64_t ratelimit_take(struct ratelimit *limit, uint64_t bytes, uint64_t now_ns)
{
	uint64_t at = ratelimit_ready(limit, bytes, now_ns);

	if (at)
		return at;
	take(&limit->ops, 1, now_ns);
	take(&limit->bytes, bytes, now_ns);
	return 0;
}

uint64_t ratelimit_available(const struct ratelimit_bucket *bucket, uint64_t now_ns)
{
	uint64_t missing = full_at(bucket, now_ns) - now_ns;

	if (missing >= RATELIMIT_BURST_NS)
		return 0;
	return (uint64_t)((unsigned __int128)(RATELIMIT_BURST_NS - missing) * bucket->rate / 1000000000U);
}

void ratelimit_charge(struct ratelimit *limit, uint64_t bytes, uint64_t now_ns)
{
	take(&limit->bytes, bytes, now_ns);
}

void ratelimit_charge_ops(struct ratelimit *limit, uint64_t ops, uint64_t now_ns)
{
	take(&limit->ops, ops, now_ns);
}
