/*
 * --allow-egress: where a VM with --net user may go, as the user named it.
 *
 * Purpose: "CIDR[:PORT[/PROTO]]" or "NAME[:PORT[/PROTO]]" to a struct.
 * Trust:   values come from the user; every field is checked here.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_SPEC_EGRESS_H
#define LIB_SPEC_EGRESS_H

#include "lib/spec_net.h"
#include "uplink/dns.h"

#define SPEC_EGRESS_MAX 64U /* rules of one VM */

struct spec_egress {
	char name[DNS_NAME]; /* "": it is an address */
	bool below; /* *.NAME: what is below it */
	struct spec_net_address to; /* prefix: bits that count; those behind them are zero */
	uint16_t port; /* 0: every port of every protocol */
	uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP; 0: both, or with port 0 all */
};

int spec_egress_parse(const char *label, const char *value, struct spec_egress *ret_rule, struct mvm_error *err);

#endif
