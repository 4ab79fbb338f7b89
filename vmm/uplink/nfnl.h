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

#include <stdbool.h>
#include <stddef.h>

#include "uplink/uplink.h"

int nfnl_open(int *ret_fd);

/* All counters of the namespace's tables, by their reason's name. */
int nfnl_counters(int fd, uint64_t ret_counters[UPLINK_REASONS]);

/*
 * Adds an address to a set of the table; one that is there is no error. `timeout_s`: of a set with time-outs, from now on; 0: of one
 * without. -ENFILE: the set is full.
 */
int nfnl_add_address(int fd, const char *set, const uint8_t *address, size_t len, uint32_t timeout_s);

/* Lets the socket hear what the rules log. */
int nfnl_listen(int fd);

/*
 * The packet that a rule logged. False: it is none, or none of ours. `msg`: a message of such a socket, `len` bytes.
 */
bool nfnl_parse_refused(const void *msg, size_t len, struct uplink_refused *ret_refused);

#endif
