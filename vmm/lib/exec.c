/* A further command in a VM that runs: the caller's side; see mvm.h. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/attach.h"
#include "lib/session.h"
#include "lib/spec.h"
#include "lib/start.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

/* Of a spec only what is a command's own may be said. */
static int check(const struct mvm_spec *spec, struct mvm_error *err)
{
	static const char *const own[] = { "env", "env-file", "workdir", "user", "interactive", "tty" };
	const struct mvm_option *option;

	for (size_t i = 0; (option = mvm_spec_option(i)); i++) {
		/* These have defaults, and are there whether they were given or not. */
		bool known = (!strcmp(option->name, "memory") && spec->memory == SPEC_MEMORY) ||
			     (!strcmp(option->name, "vcpus") && spec->vcpus == 1) || !strcmp(option->name, "log-level");

		for (size_t j = 0; j < sizeof(own) / sizeof(own[0]); j++)
			known |= !strcmp(option->name, own[j]);
		if (!known && mvm_spec_has(spec, option->name))
			return error_set(err, EINVAL, "--%s: is the VM's, not one command's: leave it out",
					 option->name);
	}
	if (!spec->args.n)
		return error_set(err, EINVAL, "no command: add it, as in: mvm exec VM -- /bin/sh");
	return 0;
}

int start_command(const char *id, enum attach_type type, const struct mvm_spec *spec,
		  const struct mvm_start_options *options, struct mvm_vm **ret_vm, struct mvm_error *err)
{
	struct attach_exec exec = { 0 };
	char parent[PATH_MAX], found[MVM_ID_LEN + 1];
	struct session_start start = { 0 };
	struct attached attached = { 0 };
	struct attach_msg answer = { 0 };
	_cleanup_fd_ int folder = -1, fd = -1;
	struct mvm_vm *vm = NULL;
	struct mvm_error why;
	int r = state_dir_parent(parent, err);

	r = r < 0 ? r : state_dir_find(parent, id, false, found, &folder, err);
	r = r < 0 ? r : start_new(spec, false, &vm, &start, &attached, err);
	if (r < 0)
		return r;
	exec = (struct attach_exec){ .fds = start.fds, .rows = options->rows, .cols = options->cols };
	r = attach_open(folder, ATTACH_PATIENCE_MS, &fd, &why);
	if (r == 0) {
		r = attach_send_with(fd, type, &exec, sizeof(exec), attached.fds, attached.n);
		r = r < 0 ? error_set(&why, -r, "%s", strerror(-r))
			  : attach_answer(fd, ATTACH_ANSWER_MS, &answer, &why);
	}
	attached_close(&attached);
	if (r < 0) {
		mvm_free(vm);
		return error_set(err, -r, "%s: %s", found, why.text);
	}
	vm->session = take_fd(&fd);
	*ret_vm = vm;
	return 0;
}

int mvm_exec(const char *id, const struct mvm_spec *spec, const struct mvm_start_options *given, struct mvm_vm **ret_vm,
	     struct mvm_error *err)
{
	struct mvm_start_options options = MVM_START_OPTIONS;
	int r = check(spec, err);

	r = r < 0 ? r : start_options(given, &options, err);
	return r < 0 ? r : start_command(id, ATTACH_EXEC, spec, &options, ret_vm, err);
}
