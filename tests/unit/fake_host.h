/*
 * Another host for the tests of mvm doctor: a tree of files, and the answers of a kernel.
 *
 * Purpose: fake_host_make() builds one of which nothing is to be said; a test then changes a file
 *          (fake_host_put) or an answer.
 * Ownership: one at a time; fake_host_remove() deletes its files. They belong to fake_host_user.
 * Returns: nothing; what fails fails the test.
 */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include "lib/doctor.h"

#define USER       1000U /* of the fake hosts; the tester's own uid where that is no root */
#define KVM_GROUP  106U
#define FILES_MAX  3
#define GROUP_FILE "root:x:0:\nkvm:x:106:\n"
#define USER_GROUP "/sys/fs/cgroup/user.slice/user-@.slice/user@@.service/" /* @: the uid */
#define VULNERABLE "/sys/devices/system/cpu/vulnerabilities/"
#define CLOCKS     "/sys/devices/system/clocksource/clocksource0/"
#define SWAPS      "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
#define V2_MOUNT   "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
#define V1_MOUNTS  "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"

struct fake_file {
	const char *path, *text; /* text NULL: the file is taken away */
};

extern const struct fake_file fake_host_files[]; /* ends with a path NULL */
extern char fake_host_root[];
extern uid_t fake_host_user;

void fake_host_make(void);
void fake_host_make_empty(void);
void fake_host_remove(void);

/* In path and text each @ stands for the user's id, unless a letter or another @ follows. */
void fake_host_put(const char *path, const char *text);

void fake_host_answers(struct doctor_host *host);

#endif
