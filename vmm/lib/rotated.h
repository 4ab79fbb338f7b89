/*
 * Reading a file line by line while it is written and rotated: NAME, and before it the older one.
 *
 * Purpose: what a detached VM's log and the journal of events have in common on the reader's side.
 * Trust:   the lines are whatever their writers wrote: the caller parses and judges them.
 * Ownership: the folder is the caller's; the rest is rotated_close()'s.
 * Thread:  one at a time per object; any number of readers beside the writers, which never wait for one.
 * Returns: 0 or -errno unless said otherwise.
 */
#ifndef LIB_ROTATED_H
#define LIB_ROTATED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ROTATED_BUFFER 65536U /* bytes; a longer line is passed over */

struct rotated {
	int folder, fd, watch; /* fd: the file being read; watch: inotify, -1 until something is waited for */
	const char *name, *older;
	ino_t inode;
	bool old; /* fd is the older file */
	bool last_look; /* the file was left by its writers: read to its end once more */
	size_t pos, len;
	char buffer[ROTATED_BUFFER];
};

/* The names are borrowed, as is the folder. */
void rotated_init(struct rotated *rotated, int folder, const char *name, const char *older);
void rotated_close(struct rotated *rotated);

/* Opens what is there, the older file first. -ENOENT: nothing yet; rotated_next() looks again. */
int rotated_open(struct rotated *rotated);

/* 1 and a line without its feed, the caller's to change until the next call; 0 none now; -errno. */
int rotated_next(struct rotated *rotated, char **ret_line, size_t *ret_len);

/* Waits for a change for so long at most. The first call returns at once: what came before it watched is there to read. */
void rotated_wait(struct rotated *rotated, int timeout_ms);

#endif
