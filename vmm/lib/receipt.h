/*
 * The receipt: one JSON document that says how a run ended.
 *
 * Purpose: what an exit status cannot say: what ran, with which limits, what it used, what stood around it; which facts
 *          the host saw and which are the VMM's or the guest's word. tools/schema/receipt.schema.json describes it.
 * Trust:   strings from the guest are written as JSON strings, escaped by json-c.
 * Ownership: borrows everything; receipt_open() owns the place until receipt_close().
 * Thread:  the supervisor's.
 */
#ifndef LIB_RECEIPT_H
#define LIB_RECEIPT_H

#include "jail/jail.h"
#include "lib/agent_session.h"
#include "lib/broker.h"
#include "lib/capture.h"
#include "lib/digest.h"
#include "lib/net_user.h"
#include "lib/publish_udp.h"
#include "lib/sign.h"
#include "lib/spec.h"
#include "lib/verdict.h"
#include "lib/vm_files.h"
#include "mvm/counters.h"

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

/* The files whose digests it holds, in the order in which they are hashed. */
enum receipt_file {
	RECEIPT_KERNEL,
	RECEIPT_INITRD,
	RECEIPT_ROOTFS,
	RECEIPT_DISKS, /* of --disk, in their order */
	RECEIPT_FILES = RECEIPT_DISKS + SPEC_USER_DISKS,
};

/* What the VMM's process used, by the host's accounts. */
struct receipt_used {
	uint64_t wall_ns, cpu_user_ns, cpu_sys_ns;
	uint64_t rss_peak; /* bytes */
	uint64_t memory_peak; /* bytes, of its cgroup: its page cache and page tables, too; 0: not to be told */
	uint64_t blocks_in, blocks_out; /* of 512 bytes, to and from the host's block devices */
};

struct receipt {
	const char *id;
	const struct mvm_spec *spec; /* NULL: the run was refused before there was one; so all below */
	const struct verdict *verdict;
	uint64_t began_ns, ended_ns; /* CLOCK_REALTIME */
	const struct vm_files *files;
	const struct digest *digests; /* RECEIPT_FILES of them */
	uint64_t stages[STAGES];
	const char *agent_version; /* guest's word; NULL: never heard */
	const struct proto_started *started; /* guest's word; NULL: never came */
	const struct proto_exited *exited;
	const struct broker *broker; /* NULL: there was none */
	const struct publish *publish; /* the same */
	const struct publish_udp *udp; /* the same */
	const struct net_user *net; /* of --net user, --proxy; NULL, or not asked: there was neither */
	const struct capture *capture; /* of --pcap; NULL: there was none */
	const struct jail *jail; /* NULL: no VMM was started */
	const struct receipt_used *used; /* NULL: the same */
	const struct counters *counters; /* a copy; the VMM's word; NULL: the same */
};

/* digests[] of no file; of those that are there and not written to; a slice of the next; their end. */
void receipt_digests_init(struct digest digests[RECEIPT_FILES]);
void receipt_digests_begin(const struct mvm_spec *spec, const struct vm_files *files,
			   struct digest digests[RECEIPT_FILES]); /* borrows the descriptors */
bool receipt_digests_pending(const struct digest digests[RECEIPT_FILES]);
bool receipt_digests_step(struct digest digests[RECEIPT_FILES]); /* true while there is more to do */
void receipt_digests_free(struct digest digests[RECEIPT_FILES]);

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

/* Whether a signature can lie beside it: of a plain file only. */
int receipt_can_sign(const struct receipt_place *place, struct mvm_error *err);

/*
 * After it: a file appears whole or not at all, and with a key (else NULL) never without its signature. -ENOSPC and
 * others, with err.
 */
int receipt_write(struct receipt_place *place, const char *id, const char *text, const struct sign_key *key,
		  struct mvm_error *err);

void receipt_close(struct receipt_place *place);

#endif
