/*
 * The connections of a VM's network namespace, by ctnetlink: how many there are and were, what went through, and the
 * busiest of them.
 *
 * Trust:   the kernel's answers; addresses and ports in them are the guest's choice, numbers all of them.
 * Bounds:  UPLINK_FLOWS_MAX are told. rules.c bounds how many there are; a dump of more than FLOWS_SEEN_MAX, or one
 *          that takes longer than FLOWS_DUMP_MS, is cut, and says so.
 * Thread:  one.
 * Returns: 0 or -errno.
 */
#ifndef UPLINK_FLOWS_H
#define UPLINK_FLOWS_H

#include <stdbool.h>
#include <stddef.h>

#include "uplink/uplink.h"

#define FLOWS_SEEN_MAX 16384U
#define FLOWS_DUMP_MS  500

/* The busiest ones. Begins zeroed. */
struct flows {
	struct uplink_flow busiest[UPLINK_FLOWS_MAX]; /* a heap, the least busy first */
	unsigned n;
	uint32_t seen;
	bool cut; /* there are more than were seen */
};

/* One message of a dump. False: it is none that tells of a connection. */
bool flows_parse(const void *msg, size_t len, struct uplink_flow *ret);

void flows_add(struct flows *flows, const struct uplink_flow *flow);
void flows_sort(struct flows *flows); /* the busiest first; the end of adding */

/* All of that by the socket of nfnl_open(). `of`: what this member of a network has a part in; NULL: all. */
int flows_dump(int fd, const struct uplink_member *of, struct flows *ret);

/*
 * How many each member of a network has a part in. All are counted by one dump, and that is not made again before
 * FLOWS_EACH_MS, nor before ten times as long as it took: who asks often, or how many ask, makes nobody's work. Begins zeroed.
 */
struct flows_each {
	int64_t next_ms;
	uint64_t now[UPLINK_MEMBERS];
};

#define FLOWS_EACH_MS 1000

/* `of`: by place, NULL: nobody. */
int flows_count_each(struct flows_each *each, int fd, const struct uplink_member *const of[UPLINK_MEMBERS],
		     int64_t now_ms);

/* How many there are now. */
int flows_count(int fd, uint64_t *ret_now);

#endif
