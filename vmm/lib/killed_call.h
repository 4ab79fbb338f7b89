/*
 * Which system call a VMM was killed for: the kernel's own record of it.
 *
 * Purpose: SIGSYS alone does not say. The kernel logs each call that a filter kills for (audit record 1326), where nobody
 *          takes the records away from its log (auditd), and tells those who may read that log: root.
 * Trust:   of the log's lines only that record is read; a process's name stands in it quoted or in hexadecimal.
 * Thread:  any.
 */
#ifndef LIB_KILLED_CALL_H
#define LIB_KILLED_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define KILLED_CALL_NAME 32U /* bytes, with the NUL */

/* Whether a record of /dev/kmsg is about that process, and the call's number. */
bool killed_call_parse(const char *record, pid_t pid, int *ret_number);

/* The call's name, or its number; "" where it cannot be known. Waits for the record for up to a tenth of a second. */
void killed_call_name(const char *kmsg, pid_t pid, char ret_name[KILLED_CALL_NAME]);

#endif
