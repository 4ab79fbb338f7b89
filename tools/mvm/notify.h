/*
 * A service manager's side of a run: how it is doing, by sd_notify(3)'s protocol, a datagram to $NOTIFY_SOCKET; and the
 * sockets that it listens on for us, by sd_listen_fds(3)'s.
 *
 * Purpose: Type=notify and WatchdogSec= of a unit whose program is `mvm run`. A watchdog is answered for the VM, not for
 *          this program: by what came back from its I/O loop (mvm_ping()).
 * Trust:   the environment is the manager's. It is taken away here, so that no child answers in our place.
 * Ownership: notify_close().
 * Thread:  one, before any other is there. Without $NOTIFY_SOCKET nothing is done by any of these.
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdbool.h>

struct notify {
	int socket; /* connected; -1: nobody is to be told */
	int timer; /* readable when it is time to ping the VM; -1: no watchdog */
};

#define NOTIFY_NONE                                                                                                    \
	{                                                                                                              \
		-1, -1                                                                                                 \
	}

/* What cannot be told is said on stderr, once: the run goes on. */
void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

void notify_say(const struct notify *notify, const char *state);

/*
 * The sockets that were handed over to this process, as $LISTEN_FDS and $LISTEN_PID have it: how many; they stay open until
 * the program's end, and are no child's. Called before anything is opened.
 */
unsigned notify_sockets(int sockets[], unsigned max);

/* The timer was readable: whether the VM is to be pinged. */
bool notify_is_due(const struct notify *notify);

#endif
