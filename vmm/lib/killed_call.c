#include "lib/killed_call.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mvm/cleanup.h"

#define RECORD_MAX  8192 /* bytes; the kernel's own bound (kernel/printk, PRINTK_MESSAGE_MAX and what is before it) */
#define RECORDS_MAX 20000
#define LOOKS       5 /* the kernel writes it by a thread of its own */
#define LOOK_MS     20

/* " KEY=" and a decimal number. */
static bool number_of(const char *record, const char *key, long *ret)
{
	const char *at = strstr(record, key);
	char *end;

	if (!at)
		return false;
	at += strlen(key);
	errno = 0;
	*ret = strtol(at, &end, 10);
	return end != at && errno == 0 && (*end == ' ' || *end == '\n' || !*end);
}

bool killed_call_parse(const char *record, pid_t pid, int *ret_number)
{
	const char *audit = strchr(record, ';'); /* "PRIORITY,NUMBER,TIME,FLAGS;TEXT" */
	long of, sig, number;

	/* Above 7 the priority has a facility: a process wrote it, not the kernel. */
	if (!audit || strtol(record, NULL, 10) > 7 || strncmp(audit, ";audit: type=1326 ", 18) != 0 ||
	    !number_of(audit, " pid=", &of) || of != pid || !number_of(audit, " sig=", &sig) || sig != 31 ||
	    !number_of(audit, " syscall=", &number) || number < 0 || number > 0xffff)
		return false;
	*ret_number = (int)number;
	return true;
}

/* What is there now; the last record counts, as process ids come again. */
static bool look(int fd, pid_t pid, int *ret_number)
{
	char record[RECORD_MAX + 1];
	bool found = false;

	for (unsigned i = 0; i < RECORDS_MAX; i++) {
		ssize_t n = read(fd, record, RECORD_MAX);

		if (n == 0 || (n < 0 && errno != EPIPE)) /* EPIPE: some were overwritten meanwhile */
			break;
		record[n < 0 ? 0 : n] = '\0';
		found |= killed_call_parse(record, pid, ret_number);
	}
	return found;
}

void killed_call_name(const char *kmsg, pid_t pid, char ret_name[KILLED_CALL_NAME])
{
	_cleanup_fd_ int fd = open(kmsg, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	_cleanup_free_ char *name = NULL;
	bool found = false;
	int number = -1;

	ret_name[0] = '\0';
	for (unsigned i = 0; fd >= 0 && !found && i < LOOKS; i++) {
		if (i)
			(void)poll(NULL, 0, LOOK_MS);
		found = look(fd, pid, &number);
	}
	if (!found)
		return;
	name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
	if (name)
		(void)snprintf(ret_name, KILLED_CALL_NAME, "%s", name);
	else
		(void)snprintf(ret_name, KILLED_CALL_NAME, "number %d", number);
}
