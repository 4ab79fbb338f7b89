/*
 * nftables by nfnetlink, once its rules are there: counters, sets, and the packets that a rule logs.
 *
 * Purpose: what is done while the VM runs, without another program.
 * Trust:   the kernel's answers; of a logged packet the headers are the guest's: nfnl_parse_refused() takes any bytes.
 * Thread:  one.
 * Returns: 0 or -errno.
 */
#ifndef UPLINK_NFNL_H
#define UPLINK_NFNL_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>

#include "uplink/reset.h"
#include "uplink/uplink.h"

int nfnl_open(int *ret_fd);

/* All counters of the namespace's tables, by their name: of a network's `n` members, else n is 1. `flows` stays as it is. */
int nfnl_counters(int fd, struct uplink_counted ret_counted[], unsigned n);

/*
 * A request for all of something, and each message of the answer; `each` returns false to see no more of them. -ETIMEDOUT: not
 * all of it came within `ms`.
 */
int nfnl_dump(int fd, unsigned subsystem, unsigned type, bool (*each)(const struct nlmsghdr *hdr, void *arg), void *arg,
	      int ms);

/* The same for what is one message. */
int nfnl_ask(int fd, unsigned subsystem, unsigned type, bool (*each)(const struct nlmsghdr *hdr, void *arg), void *arg,
	     int ms);

/* An attribute's data among `len` bytes of attributes; NULL: it is not there, or shorter than `least`. */
const uint8_t *nfnl_find(const uint8_t *at, size_t len, unsigned type, size_t least, size_t *ret_len);

/* The attributes of a message of that kind; NULL: it is another one. */
const uint8_t *nfnl_attributes(const struct nlmsghdr *hdr, unsigned subsystem, unsigned type, size_t *ret_len);

/*
 * Adds an address to a set of the table; one that is there is no error. `timeout_s`: of a set with time-outs, from now on; 0: of one
 * without. -ENFILE: the set is full.
 */
int nfnl_add_address(int fd, const char *set, const uint8_t *address, size_t len, uint32_t timeout_s);

/*
 * Forgets the connections that an address has a part in, also as translated: who has it next gets nothing of theirs.
 * Those that come meanwhile are not looked at. `each`: before it is forgotten, with its answers' addresses and ports; NULL: not.
 */
int nfnl_forget(int fd, const uint8_t *address, size_t len,
		void (*each)(void *arg, const struct reset_ends *back, size_t len), void *arg);

/* Lets the socket hear what the rules log. */
int nfnl_listen(int fd);

/*
 * The packet that a rule logged. False: it is none, or none of ours. `msg`: a message of such a socket, `len` bytes.
 */
bool nfnl_parse_refused(const void *msg, size_t len, struct uplink_refused *ret_refused);

#endif
