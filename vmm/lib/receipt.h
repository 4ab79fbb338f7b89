/*
 * The receipt: one JSON document that says how a run ended.
 *
 * Purpose: what an exit status cannot say; which facts the host saw and which are the guest's word.
 * Trust:   strings from the guest are written as JSON strings, escaped by json-c.
 * Ownership: borrows everything; receipt_open() owns the place until receipt_close().
 * Thread:  the supervisor's.
 */
#ifndef LIB_RECEIPT_H
#define LIB_RECEIPT_H

#include "jail/jail.h"
#include "lib/agent_session.h"
#include "lib/broker.h"
#include "lib/digest.h"
#include "lib/spec.h"
#include "lib/verdict.h"

/* The moments of a run, CLOCK_MONOTONIC ns; 0: never came. In the order in which they come. */
enum receipt_stage {
	STAGE_COMMAND, /* mvm's main() */
	STAGE_SUPERVISOR_ASKED,
	STAGE_SUPERVISOR, /* its main() */
	STAGE_OPENED, /* every file opened, checked and locked */
	STAGE_JAIL_MADE,
	STAGE_VMM_SPAWNED,
	STAGE_VMM_RUNNING,
	STAGE_AGENT,
	STAGE_STARTED, /* the workload's execve */
	STAGE_EXITED,
	STAGE_STOPPED, /* file systems synced: nothing left to wait for */
	STAGE_ENDED,
	STAGES
};

struct receipt {
	const char *id;
	const struct mvm_spec *spec;
	const struct verdict *verdict;
	const char *kernel, *fs_type;
	uint64_t rootfs_size, kernel_size;
	const struct digest *rootfs_digest, *kernel_digest;
	uint64_t stages[STAGES];
	const char *agent_version; /* guest's word; NULL: never heard */
	const struct proto_started *started; /* guest's word; NULL: never came */
	const struct proto_exited *exited;
	const struct broker *broker; /* NULL: there was none */
	const struct jail *jail; /* NULL: no VMM was started */
};

/* The document; free() it. NULL: out of memory. */
char *receipt_text(const struct receipt *receipt);

/* Where it goes: a folder and a name, or a descriptor. */
struct receipt_place {
	int fd; /* fd:N, or a file that is not a regular one; -1 */
	int folder_fd; /* of the file; -1 */
	char *name; /* in the folder */
	const char *path; /* for messages; borrowed */
};

#define RECEIPT_NOWHERE ((struct receipt_place){ .fd = -1, .folder_fd = -1 })

/* Before a run: whether it can be written there at all. `fd` (taken over) is used for "fd:N". */
int receipt_open(const char *target, int fd, struct receipt_place *ret_place, struct mvm_error *err);

/* After it: a file appears whole or not at all. -ENOSPC and others, with err. */
int receipt_write(struct receipt_place *place, const char *id, const char *text, struct mvm_error *err);

void receipt_close(struct receipt_place *place);

#endif
