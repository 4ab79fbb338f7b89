/*
 * What stands around a running VMM, read back from its process: behind mvm_inspect().
 *
 * Purpose: the supervisor writes down what it demanded (inspect_record.c); a reader, any time later, looks
 *          at the process itself (inspect_layers*.c; inspect_dump.c by ptrace) and judges layer by layer.
 *          A test presents another host: another root, other answers.
 * Trust:   the record is the same user's as the VM; /proc is the kernel's word, and is read bounded. What may
 *          not be read is said so, never guessed.
 * Ownership: a struct inspect owns its JSON object.
 * Thread:  one; inspect_dump() stops each of the VMM's threads for a moment.
 * Returns: 0 or -errno; layers return nothing, they fill in their row.
 */
#ifndef LIB_INSPECT_H
#define LIB_INSPECT_H

#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/jail.h"
#include "mvm/mvm.h"

#define INSPECT_TEXT_MAX       512
#define INSPECT_FILE_MAX       65536U /* bytes read of one file */
#define INSPECT_THREADS_MAX    512U /* 1 + 32 vCPUs + 8 for each disk are far fewer */
#define INSPECT_FDS_MAX        4096U
#define INSPECT_FILTERS_MAX    16U /* of one thread, in a dump */
#define INSPECT_RECORD_FILE    "jail.json"
#define INSPECT_SPEC_FILE      "spec.json"
#define INSPECT_UNREADABLE     "not readable by you (root may)"
#define INSPECT_RECORDED_WORDS "recorded by the jail"

/* What the supervisor asked of the jail. */
struct inspect_recorded {
	bool by_root;
	uint32_t uid, gid;
	unsigned missing; /* enum jail_layer */
	int landlock_abi;
	bool landlock_fs, landlock_net;
	bool cgroup;
	uint64_t memory, open_files, address_space, file_size, processes; /* memory: the guest's */
	struct jail_filters_shown filters;
};

/* "start", "io", "vcpu", "disk". */
const char *inspect_filter_name(enum jail_filter kind);

/* For the receipt: what is in force, what is missing, and whose the rest is. NULL: out of memory. */
json_object *inspect_isolation(const struct jail *jail);

/* The file jail.json; free() it. NULL: out of memory. */
char *inspect_record_text(const struct jail *jail);
int inspect_record_parse(const char *text, size_t len, struct inspect_recorded *ret_recorded);

/* What a ptrace of every thread told of its filters. */
struct inspect_dump {
	int error; /* 0, or -errno: why there is none */
	unsigned n;
	struct {
		pid_t tid;
		unsigned n;
		struct {
			unsigned instructions;
			char sha256[65];
		} filters[INSPECT_FILTERS_MAX];
	} threads[INSPECT_THREADS_MAX];
};

void inspect_dump(pid_t pid, struct inspect_dump *ret_dump);

struct inspect {
	const char *root; /* before every path; "" for this host */
	pid_t vmm, supervisor;
	uint64_t vmm_start; /* ticks, as the supervisor knew it */
	const char *id;
	struct inspect_recorded recorded;
	int core_error; /* 0 or -errno of PR_SCHED_CORE_GET */
	uint64_t core_cookie;
	struct inspect_dump dump;
	json_object *read; /* what was read, as it was */
};

struct inspect_row {
	struct mvm_layer layer;
	char found[INSPECT_TEXT_MAX];
};

/* Runs every layer. `rows` has room for inspect_layers() of them. -ENOMEM. */
size_t inspect_layers(void);
int inspect_run(struct inspect *in, struct inspect_row *rows);

/* Field 22 of proc_pid_stat(5): with the pid it names a process for ever. -errno. */
int inspect_start_time(const char *root, pid_t pid, uint64_t *ret_ticks);

/* ---- for the layers ---- */

void inspect_found(struct inspect_row *row, enum mvm_layer_state state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* -EACCES and -EPERM: not readable by the caller. Others: how it failed; the layer is not proved then. */
void inspect_failed(struct inspect_row *row, int error);

/* root + the path made from the format, up to size - 1 bytes, NUL-terminated. The length or -errno. */
ssize_t inspect_read(const struct inspect *in, char *text, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int inspect_path(const struct inspect *in, char ret_path[PATH_MAX], const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
ssize_t inspect_link(const struct inspect *in, char *text, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The value of "Name:\tvalue" in a status file, blanks trimmed, cut in place of `value`; false: not there. */
bool inspect_field(const char *status, const char *name, char *value, size_t size);

void inspect_add(json_object *o, const char *name, json_object *value);

void inspect_process(struct inspect *in, struct inspect_row *row);
void inspect_namespace(struct inspect *in, struct inspect_row *row);
void inspect_identity(struct inspect *in, struct inspect_row *row);
void inspect_root_folder(struct inspect *in, struct inspect_row *row);
void inspect_mounts(struct inspect *in, struct inspect_row *row);
void inspect_descriptors(struct inspect *in, struct inspect_row *row);
void inspect_capabilities(struct inspect *in, struct inspect_row *row);
void inspect_no_new_privs(struct inspect *in, struct inspect_row *row);
void inspect_seccomp(struct inspect *in, struct inspect_row *row);
void inspect_filters(struct inspect *in, struct inspect_row *row);
void inspect_landlock(struct inspect *in, struct inspect_row *row);
void inspect_limits(struct inspect *in, struct inspect_row *row);
void inspect_cgroup(struct inspect *in, struct inspect_row *row);
void inspect_undumpable(struct inspect *in, struct inspect_row *row);
void inspect_oom_score(struct inspect *in, struct inspect_row *row);
void inspect_core_scheduling(struct inspect *in, struct inspect_row *row);
void inspect_lsm(struct inspect *in, struct inspect_row *row);

#endif
