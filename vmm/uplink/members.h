/*
 * The VMs on a named network.
 *
 * Purpose: who has which place and address; a tap, routes and rules for each, made whole or not at all.
 * Trust:   requests come from supervisors of the network's owner; every number in them is bounded (members_check()).
 * Ownership: a member owns its connection and its tap. Thread: one.
 * Returns: 0 or -errno with err.
 */
#ifndef UPLINK_MEMBERS_H
#define UPLINK_MEMBERS_H

#include <stdbool.h>

#include "uplink/holder.h"

struct members {
	const struct uplink_request *request;
	unsigned n;
	uint32_t next; /* the number of an address where the search begins: one that was left rests for a while */
	struct member {
		int fd; /* its supervisor; -1: nobody's place */
		bool lost; /* a place whose rules or tap could not be removed: nobody's for ever */
		bool dirty; /* counters are to be told */
		int tap, index;
		struct uplink_join join;
		struct uplink_member is;
		struct names_said said;
	} m[UPLINK_MEMBERS];
};

/* `members`: zeroes, or left by all. */
void members_init(struct members *members, const struct uplink_request *request);

/* Whether it is of our version, and what it says can be done. */
bool members_check(const struct uplink_join *join);

/* Its addresses: those that it wants, or free ones. -EADDRINUSE, -EADDRNOTAVAIL. */
int members_place(struct members *members, const struct uplink_join *join, struct uplink_member *ret,
		  struct mvm_error *err);

/* Takes the connection where it succeeds. Returns the place. */
int members_join(struct members *members, struct holder *h, int fd, const struct uplink_join *join,
		 struct mvm_error *err);
void members_leave(struct members *members, struct holder *h, unsigned slot);

/* For the resolver: who is in that place. */
void members_say(const struct members *members, unsigned slot, struct names_member *ret);
/* Whose names are meant; false: nobody's. */
bool members_names(struct members *members, unsigned slot, struct names_of *ret);

#endif
