/*
 * What a state folder says of its VM: the file `state.json`.
 *
 * Purpose: `mvm ps` and `mvm wait` read it; of a named VM it stays when the VM has ended.
 * Trust:   written by the supervisor, read back by the same user; a damaged one is refused, not guessed at.
 * Ownership: record_free() takes back the strings of a record that record_parse() made; a record to be written
 *          borrows them.
 * Thread:  any; pure but for record_read().
 * Returns: 0 or -errno; -EPROTONOSUPPORT: of another version of mvm.
 */
#ifndef LIB_RECORD_H
#define LIB_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_FILE    "state.json"
#define RECORD_MAX     16384U /* bytes */
#define RECORD_VERSION 1
#define RECORD_COMMAND 256U /* bytes of the command that are shown */

/* RESTARTING: it has ended, its verdict says how, and is to be started again. */
enum record_state { RECORD_BOOTING, RECORD_RUNNING, RECORD_PAUSED, RECORD_RESTARTING, RECORD_ENDED, RECORD_STATES };

struct record {
	char *id, *name, *rootfs, *command; /* name: NULL without one */
	char *ports; /* that are published, as publish_where() tells; NULL: none, or no more */
	enum record_state state;
	bool detached, remove; /* remove: with its end */
	uint32_t restarts; /* since somebody started it */
	int supervisor, vmm; /* processes; 0 once it has ended */
	uint64_t began_ns, ended_ns; /* CLOCK_REALTIME; 0: not yet */
	char *verdict, *cause; /* once it has ended */
	int status;
};

const char *record_state_name(enum record_state state);

/* One line of JSON; free() it. NULL: out of memory. */
char *record_text(const struct record *record);

int record_parse(const char *text, size_t len, struct record *ret_record);
int record_read(int folder_fd, struct record *ret_record);
void record_free(struct record *record);

#endif
