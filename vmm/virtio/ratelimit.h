/*
 * Token buckets: how many operations and bytes a second a device may do (disks; the console, of bytes alone).
 *
 * Purpose: two buckets, for operations and for bytes, refilled continuously and full at first; each holds
 *          one second's worth. A request passes when both hold what it costs, and takes it. One that
 *          costs more than a bucket holds passes when that is full, and leaves it in debt: the average
 *          is kept, and nothing starves. So in t seconds at most rate * (t + 1) passes, and what a single
 *          request had beyond the bucket's size.
 * Trust:   rates are the configuration's (bounded by VMM_IOPS_MAX, VMM_BPS_MAX); what a request costs is the guest's
 *          word, of any size.
 * Thread:  the caller's lock. Makes no call: the caller says what time it is.
 */
#ifndef VMM_VIRTIO_RATELIMIT_H
#define VMM_VIRTIO_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

#define RATELIMIT_BURST_NS 1000000000ULL /* a bucket holds what comes in so long */

struct ratelimit_bucket {
	uint64_t rate; /* units a second, 0: no limit */
	uint64_t full_ns; /* when the bucket is full again; past: it is */
};

struct ratelimit {
	struct ratelimit_bucket ops, bytes;
};

static inline bool ratelimit_on(const struct ratelimit *limit)
{
	return limit->ops.rate || limit->bytes.rate;
}

/* Changes a rate, at once; a bucket keeps how full it is, a debt is paid at the new rate. */
void ratelimit_set(struct ratelimit_bucket *bucket, uint64_t rate, uint64_t now_ns);

/* 0: taken from both, go on. Else nothing is taken: ask again at the time returned. */
uint64_t ratelimit_take(struct ratelimit *limit, uint64_t bytes, uint64_t now_ns);

/* The same question, and nothing is taken: of one whose cost is charged when it is known. */
uint64_t ratelimit_ready(const struct ratelimit *limit, uint64_t bytes, uint64_t now_ns);

/* What the bucket holds now; rate not 0. */
uint64_t ratelimit_available(const struct ratelimit_bucket *bucket, uint64_t now_ns);

/* Operations besides the one that was taken: as debt if need be. */
void ratelimit_charge_ops(struct ratelimit *limit, uint64_t ops, uint64_t now_ns);

/* Bytes that turn out only afterwards: taken without asking, as debt if need be. */
void ratelimit_charge(struct ratelimit *limit, uint64_t bytes, uint64_t now_ns);

#endif
