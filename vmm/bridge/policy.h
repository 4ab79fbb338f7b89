/*
 * Who may have ports on which bridge: the text of /etc/mvm/bridge.conf, mvm-bridge.conf(5).
 *
 * Purpose: `allow user|group NAME|NUMBER bridge DEVICE ports N [isolated]`, a line each; blank lines, and from '#' on.
 *          The whole text is checked; of the lines that are the caller's the first for this bridge decides.
 * Trust:   root wrote the text, or so its owner and mode say: it is bounded and read as if anybody had.
 * Thread:  any; no state.
 */
#ifndef BRIDGE_POLICY_H
#define BRIDGE_POLICY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/bridge.h"

#define POLICY_MAX       65536U /* bytes */
#define POLICY_LINE_MAX  256U /* … of a line, with the NUL */
#define POLICY_PORTS_MAX 1024U /* a bridge of Linux's has no more of them, nor a name room for more: BRIDGE_SLOTS */
#define POLICY_GROUPS    256U
#define POLICY_TEXT      128U

_Static_assert(POLICY_PORTS_MAX <= BRIDGE_SLOTS, "a name for each port");

struct policy_caller {
	uint32_t uid;
	uint32_t gids[POLICY_GROUPS];
	unsigned ngids;
};

/* Of a name in /etc/passwd or /etc/group its number. False: there is none. */
typedef bool policy_lookup(void *arg, bool group, const char *name, uint32_t *ret_id);

struct policy_grant {
	uint32_t ports; /* 0: none */
	bool isolated;
};

/* 0, also where nothing is granted; the number of a line that is wrong, with `text` saying how. */
unsigned policy_read(const char *policy, size_t size, const char *bridge, const struct policy_caller *caller,
		     policy_lookup *lookup, void *arg, struct policy_grant *ret, char text[POLICY_TEXT]);

/* A decimal number, 0 to UINT32_MAX - 1, without a sign or zeroes before it. */
bool policy_number(const char *word, uint32_t *ret);

/* The number in a line of /etc/passwd or /etc/group, "NAME:x:NUMBER…", if it is that name's. */
bool policy_id_of(const char *line, size_t len, const char *name, uint32_t *ret);

#endif
