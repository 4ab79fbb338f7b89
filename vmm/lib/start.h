/*
 * What a run, a further command, and attaching to one have in common on the caller's side (start.c, exec.c, view.c).
 *
 * Ownership: struct attached owns its descriptors until attached_close(); struct mvm_vm its own until mvm_free().
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_START_H
#define LIB_START_H

#include <stdbool.h>

#include "lib/attach.h"
#include "lib/session.h"
#include "mvm/mvm.h"

struct mvm_vm {
	int session;
	int streams[MVM_STREAMS];
	int supervisor; /* pidfd, whose number stays its even when the caller waits for any child; -1: no child of ours */
	bool quiet; /* the caller has no stderr */
	bool started; /* SESSION_STARTED came */
	bool terminal; /* the command has one */
	struct session_msg msg; /* the last one received: an event's text lives here */
	struct mvm_event event;
};

/* What is sent with the first message: ours to close once it is sent. */
struct attached {
	int fds[SESSION_FDS_MAX + SESSION_SOCKETS_MAX];
	unsigned n;
};

void attached_close(struct attached *attached);

/* The caller's object, with nothing in it. -ENOMEM. */
int vm_new(struct mvm_vm **ret_vm, struct mvm_error *err);

/* The caller's object, without a session yet; the spec and the streams' other ends are attached, start->fds tells which.
 * `attach`: those of a detached VM, too. */
int start_new(const struct mvm_spec *spec, bool attach, struct mvm_vm **ret_vm, struct session_start *start,
	      struct attached *attached, struct mvm_error *err);

/* A command in a VM that runs (exec.c): the request of that type, and what it is answered. */
int start_command(const char *id, enum attach_type type, const struct mvm_spec *spec,
		  const struct mvm_start_options *options, struct mvm_vm **ret_vm, struct mvm_error *err);

/* The caller's, which may be NULL or of another version, over the defaults. */
int start_options(const struct mvm_start_options *given, struct mvm_start_options *options, struct mvm_error *err);

#endif
