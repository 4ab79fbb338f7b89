/*
 * Between a command in a VM and whoever started it.
 *
 * Purpose: what `run` and `exec` have in common once the command is on its way.
 * Thread:  one. Signals stay blocked: the program is about to end.
 */
#ifndef RELAY_H
#define RELAY_H

#include <stdbool.h>

#include "keys.h"
#include "mvm/mvm.h"

/* Before the start: from here on no signal is lost. A signalfd. */
int relay_signals(bool tty);

struct notify;

/*
 * Until the end is known and all output delivered. Takes vm and signals over; returns the exit status. `notify`: who is
 * told how it goes, the caller's; NULL: nobody.
 */
int relay_run(struct mvm_vm *vm, bool tty, bool interactive, int signals, const struct notify *notify);

/*
 * The same for a VM of mvm_attach()'s, which runs on when this ends: by the keys, by a SIGHUP or a second SIGINT or
 * SIGTERM, or when nobody reads its output any more; 0 then. Without `input` nothing is passed on to it.
 */
int relay_attached(struct mvm_vm *vm, bool input, struct keys *keys, int signals);

#endif
