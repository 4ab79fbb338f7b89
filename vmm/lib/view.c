/* Attaching to the command of a detached VM: the caller's side; see mvm.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/attach.h"
#include "lib/start.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

static int make_streams(struct mvm_vm *vm, struct attached *theirs)
{
	for (unsigned i = 0; i < MVM_STREAMS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
			return -errno;
		vm->streams[i] = pair[0];
		theirs->fds[theirs->n++] = pair[1];
	}
	return 0;
}

static void drop_stream(struct mvm_vm *vm, enum mvm_stream stream)
{
	cleanup_fd(&vm->streams[stream]);
	vm->streams[stream] = -1;
}

/* Asks, and keeps of the streams what the VM has a use for. */
static int ask(struct mvm_vm *vm, int folder, const struct attached *theirs, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	struct attach_viewing viewing;
	int r = attach_open(folder, ATTACH_PATIENCE_MS, &vm->session, err);

	if (r < 0)
		return r;
	r = attach_send_with(vm->session, ATTACH_VIEW, NULL, 0, theirs->fds, theirs->n);
	if (r < 0)
		return error_set(err, -r, "the VM's supervisor cannot be asked: %s", strerror(-r));
	r = attach_answer(vm->session, ATTACH_ANSWER_MS, &answer, err);
	if (r < 0)
		return r;
	if (answer.hdr.len != sizeof(viewing))
		return error_set(err, EPROTO, "the VM's supervisor's answer cannot be read");
	memcpy(&viewing, answer.payload, sizeof(viewing));
	vm->terminal = viewing.flags & ATTACH_VIEW_TTY;
	if (!(viewing.flags & ATTACH_VIEW_INPUT))
		drop_stream(vm, MVM_STDIN);
	if (vm->terminal)
		drop_stream(vm, MVM_STDERR);
	return 0;
}

int mvm_attach(const char *id, struct mvm_vm **ret_vm, struct mvm_error *err)
{
	char parent[PATH_MAX], found[MVM_ID_LEN + 1];
	struct attached theirs = { 0 };
	_cleanup_fd_ int folder = -1;
	struct mvm_vm *vm = NULL;
	struct mvm_error why;
	int r = state_dir_parent(parent, err);

	r = r < 0 ? r : state_dir_find(parent, id, false, found, &folder, err);
	r = r < 0 ? r : vm_new(&vm, err);
	if (r < 0)
		return r;
	r = make_streams(vm, &theirs);
	if (r < 0)
		(void)error_set(&why, -r, "streams: no socket: %s: raise the limit of open files (ulimit -n)",
				strerror(-r));
	else
		r = ask(vm, folder, &theirs, &why);
	attached_close(&theirs);
	if (r < 0) {
		mvm_free(vm);
		return error_set(err, -r, "%s: %s", found, why.text);
	}
	*ret_vm = vm;
	return 0;
}
