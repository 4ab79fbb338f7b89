/*
 * What the kernel says of the workload's processes and of the guest.
 *
 * Purpose: the lines of TOPPED and the numbers of STATTED, read from a proc of the agent's own, on which
 *          the workload can mount nothing; its pid namespace is the root's, which knows every process by
 *          its number in the container, too.
 * Trust:   names and command lines are the workload's: bounded, control bytes replaced. Reading a command
 *          line reads the process's own memory, and waits as long as that takes to be there (on a FUSE of
 *          the workload's own, for one).
 * Thread:  the agent's only one.
 * Returns: see each; what cannot be read is left out, or stays 0.
 */
#ifndef MVM_GUEST_PROCFS_H
#define MVM_GUEST_PROCFS_H

#include <stddef.h>

#include "mvm/proto.h"

#define PROCFS_COMMAND_MAX 1024U /* bytes of a command line that are shown */
#define PROCFS_LINE_MAX    (PROCFS_COMMAND_MAX + 160U)

/* What a line of TOPPED is made of. */
struct procfs_texts {
	const char *status_uid; /* behind "Uid:" of /proc/N/status */
	const char *status_nspid; /* behind "NSpid:" */
	const char *stat; /* /proc/N/stat */
	char *command; /* /proc/N/cmdline, which is changed */
	size_t command_len; /* < PROCFS_COMMAND_MAX + 1 */
};

/* A proc that is mounted nowhere: a descriptor that the caller owns, or -errno. */
int procfs_open(void);

/* The text of TOPPED with its NUL, at most `size` bytes. `proc` may be negative: nothing is known. */
void procfs_list(int proc, char *text, size_t size);

/* Fills in memory and CPU. */
void procfs_stat(int proc, struct proto_statted *wire);

/* What is behind `key` at the beginning of a line ("": of the text), or NULL. */
const char *procfs_field(const char *text, const char *key);

/* One line of TOPPED with its newline and NUL; its length, 0 when this is no process of the container's. */
size_t procfs_line(const struct procfs_texts *texts, char line[PROCFS_LINE_MAX]);

#endif
