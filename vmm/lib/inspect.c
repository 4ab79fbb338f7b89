/* Looking at a VM that runs: the caller's side; see mvm.h and inspect.h. */
#include "lib/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/attach.h"
#include "lib/record.h"
#include "lib/spec.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

#define ONE_THREAD 0UL /* PIDTYPE_PID: the only scope that PR_SCHED_CORE_GET knows */

struct mvm_inspection {
	struct mvm_vm_info info;
	char id[MVM_ID_LEN + 1], folder[PATH_MAX + MVM_ID_LEN + 2];
	char *spec, *ports;
	bool security, holds;
	struct inspect in;
	size_t nrows;
	struct inspect_row rows[]; /* inspect_layers() of them */
};

static uint64_t to_realtime(uint64_t monotonic_ns)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec - (text_now_ns() - monotonic_ns);
}

static int basics(struct mvm_inspection *i, int folder, uid_t owner, struct mvm_error *err)
{
	static const char *const phases[] = { "booting", "running", "ending", "paused", "restarting" };
	struct attach_status status;
	struct mvm_error why;
	struct attach_peer peer;
	struct record record;
	int r = attach_ask(folder, ATTACH_STATUS, &status, sizeof(status), &peer, &why);

	if (r < 0)
		return error_set(err, -r, "%s: %s", i->id, why.text);
	if (peer.uid != owner) /* root looks at a user's, who could have put another's socket there */
		return error_set(err, EPERM, "%s: uid %u, not the folder's owner, answers for it", i->folder, peer.uid);
	r = state_dir_read(folder, INSPECT_SPEC_FILE, SPEC_JSON_MAX, &i->spec);
	if (r == -ENOENT || (!status.vmm_start && status.phase != ATTACH_RESTARTING))
		return error_set(err, EAGAIN, "%s: the VM is just starting, or ending: try again", i->id);
	if (r < 0)
		return error_set(err, -r, "%s/%s: cannot be read: %s", i->folder, INSPECT_SPEC_FILE, strerror(-r));
	i->info = (struct mvm_vm_info){
		.id = i->id,
		.folder = i->folder,
		.state = phases[status.phase <= ATTACH_RESTARTING ? status.phase : ATTACH_ENDING],
		.spec = i->spec,
		.supervisor = peer.pid, /* the kernel's word: who listens on the socket in the folder */
		.vmm = status.vmm,
		.restarts = status.restarts,
		.began_ns = to_realtime(status.began_ns),
		.ports = "",
	};
	/* A record that cannot be read tells of none: the VM is there all the same. */
	if (record_read(folder, &record) == 0) {
		i->ports = take_ptr(&record.ports);
		record_free(&record);
	}
	if (i->ports) {
		text_harmless(i->ports);
		i->info.ports = i->ports;
	}
	i->in.vmm_start = status.vmm_start;
	return 0;
}

/* What only calls can tell. */
static void probe(struct inspect *in)
{
	unsigned long cookie = 0;

	if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, in->vmm, ONE_THREAD, &cookie) < 0)
		in->core_error = -errno;
	in->core_cookie = cookie;
	/* The kernel shows filters to CAP_SYS_ADMIN alone: nobody else's VM is stopped for nothing. */
	if (geteuid() == 0)
		inspect_dump(in->vmm, &in->dump);
	else
		in->dump.error = -EACCES;
}

static int security(struct mvm_inspection *i, int folder, struct mvm_error *err)
{
	_cleanup_fd_ int pidfd = -1;
	_cleanup_free_ char *record = NULL;
	struct inspect *in = &i->in;
	uint64_t start = 0;
	int r;

	in->root = "";
	in->id = i->id;
	in->vmm = i->info.vmm;
	in->supervisor = i->info.supervisor;
	if (in->vmm > 0)
		pidfd = (int)syscall(SYS_pidfd_open, in->vmm, 0U);
	/* Who has that number now, and began when the VMM did, is the VMM; the pidfd tells at the end that it still is. */
	if (pidfd < 0 || inspect_start_time("", in->vmm, &start) < 0 || start != in->vmm_start)
		return error_set(err, ESRCH, "%s: the VM has ended", i->id);
	r = state_dir_read(folder, INSPECT_RECORD_FILE, INSPECT_FILE_MAX, &record);
	if (r == 0)
		r = record ? inspect_record_parse(record, strlen(record), &in->recorded) : -EINVAL;
	if (r < 0)
		return error_set(err, -r, "%s/%s: cannot be read: %s", i->folder, INSPECT_RECORD_FILE, strerror(-r));
	probe(in);
	r = inspect_run(in, i->rows);
	if (r < 0)
		return error_set(err, -r, "%s: out of memory", i->id);
	if (poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, 0) != 0)
		return error_set(err, ESRCH, "%s: the VM has ended meanwhile", i->id);
	i->nrows = inspect_layers();
	for (size_t n = 0; n < i->nrows; n++) {
		const struct mvm_layer *layer = &i->rows[n].layer;

		if (layer->state == MVM_LAYER_MISSING && layer->required && !layer->allowed)
			i->holds = false;
	}
	return 0;
}

int mvm_inspect(const char *id, bool with_security, struct mvm_inspection **ret_inspection, struct mvm_error *err)
{
	struct mvm_inspection *i = calloc(1, sizeof(*i) + inspect_layers() * sizeof(i->rows[0]));
	_cleanup_fd_ int folder = -1;
	char parent[PATH_MAX];
	uid_t owner = 0;
	int r;

	if (!i)
		return error_set(err, ENOMEM, "inspect: out of memory");
	r = state_dir_find_any(id, i->id, parent, &folder, &owner, err);
	if (r == 0) {
		i->holds = true;
		i->security = with_security;
		(void)snprintf(i->folder, sizeof(i->folder), "%s/%s", parent, i->id);
		r = basics(i, folder, owner, err);
	}
	if (r == 0 && with_security)
		r = security(i, folder, err);
	if (r < 0) {
		mvm_inspect_free(i);
		return r;
	}
	*ret_inspection = i;
	return 0;
}

void mvm_inspect_free(struct mvm_inspection *inspection)
{
	if (!inspection)
		return;
	(void)json_object_put(inspection->in.read);
	free(inspection->spec);
	free(inspection->ports);
	free(inspection);
}

const struct mvm_vm_info *mvm_inspect_info(const struct mvm_inspection *inspection)
{
	return &inspection->info;
}

const struct mvm_layer *mvm_inspect_layer(const struct mvm_inspection *inspection, size_t index)
{
	return index < inspection->nrows ? &inspection->rows[index].layer : NULL;
}

bool mvm_inspect_holds(const struct mvm_inspection *inspection)
{
	return inspection->holds;
}

const char *mvm_layer_state_name(enum mvm_layer_state state)
{
	static const char *const names[] = { "ok", "weak", "missing", "unreadable" };

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static json_object *layers_json(const struct mvm_inspection *i)
{
	json_object *list = json_object_new_array();

	for (size_t n = 0; n < i->nrows; n++) {
		const struct mvm_layer *layer = &i->rows[n].layer;
		json_object *one = json_object_new_object();

		inspect_add(one, "name", json_object_new_string(layer->name));
		inspect_add(one, "state", json_object_new_string(mvm_layer_state_name(layer->state)));
		inspect_add(one, "required", json_object_new_boolean(layer->required));
		inspect_add(one, "allowed", json_object_new_boolean(layer->allowed));
		inspect_add(one, "measure", json_object_new_string(layer->measure));
		inspect_add(one, "found", json_object_new_string(layer->found));
		(void)json_object_array_add(list, one);
	}
	return list;
}

int mvm_inspect_to_json(const struct mvm_inspection *i, char **ret_json, struct mvm_error *err)
{
	json_object *root = json_object_new_object(), *all;
	char *copy = NULL;
	const char *text;

	inspect_add(root, "mvm", json_object_new_string(MVM_VERSION));
	inspect_add(root, "id", json_object_new_string(i->info.id));
	inspect_add(root, "state", json_object_new_string(i->info.state));
	inspect_add(root, "began_ns", json_object_new_uint64(i->info.began_ns));
	inspect_add(root, "restarts", json_object_new_int64(i->info.restarts));
	inspect_add(root, "supervisor", json_object_new_int(i->info.supervisor));
	inspect_add(root, "vmm", json_object_new_int(i->info.vmm));
	inspect_add(root, "ports", json_object_new_string(i->info.ports));
	inspect_add(root, "folder", json_object_new_string(i->info.folder));
	inspect_add(root, "spec", json_tokener_parse(i->info.spec));
	if (i->security) {
		all = json_object_new_object();
		inspect_add(all, "holds", json_object_new_boolean(i->holds));
		inspect_add(all, "layers", layers_json(i));
		inspect_add(all, "read", json_object_get(i->in.read));
		inspect_add(root, "security", all);
	}
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text)
		copy = strdup(text);
	(void)json_object_put(root);
	if (!copy)
		return error_set(err, ENOMEM, "inspect: out of memory");
	*ret_json = copy;
	return 0;
}
