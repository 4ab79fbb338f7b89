/* What is asked of VMs that somebody started: list, wait, stop, signal, remove; see mvm.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/attach.h"
#include "lib/event.h"
#include "lib/record.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "lib/verdict.h"
#include "mvm/cleanup.h"

#define STARTING_MS 10000 /* a VM whose supervisor does not listen yet is waited for */
#define RETRY_MS    10

/* ---- the list ---- */

struct entry {
	struct record record;
	struct mvm_vm_entry shown;
};

struct mvm_list {
	size_t n, cap;
	struct entry *entries;
	bool ended;
};

static const char *harmless(char *text)
{
	if (!text)
		return "";
	text_harmless(text);
	return text;
}

static void show(struct entry *entry)
{
	struct record *record = &entry->record;

	entry->shown = (struct mvm_vm_entry){
		.id = record->id,
		.name = harmless(record->name),
		.rootfs = harmless(record->rootfs),
		.command = harmless(record->command),
		.state = record_state_name(record->state),
		.detached = record->detached,
		.supervisor = record->supervisor,
		.vmm = record->vmm,
		.began_ns = record->began_ns,
		.ended_ns = record->ended_ns,
		.verdict = harmless(record->verdict),
		.cause = harmless(record->cause),
		.status = record->status,
		.restarts = record->restarts,
		.ports = harmless(record->ports),
	};
}

static int add(void *arg, int parent_fd, int fd, const char *id, bool alive)
{
	struct mvm_list *list = arg;
	struct entry entry = { 0 };
	char name[STATE_NAME_MAX + 1];
	int r;

	if (!alive && !list->ended)
		return 0;
	r = record_read(fd, &entry.record);
	if (r == -ENOMEM)
		return r;
	if (r == -ENOENT && alive)
		return 0; /* it is only just being made */
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct entry *grown = reallocarray(list->entries, cap, sizeof(*grown));

		if (!grown) {
			record_free(&entry.record);
			return -ENOMEM;
		}
		list->entries = grown;
		list->cap = cap;
	}
	if (r < 0) {
		state_dir_name(parent_fd, id, name);
		entry.record = (struct record){ .id = strdup(id), .name = strdup(name), .state = RECORD_STATES };
	}
	list->entries[list->n++] = entry;
	return list->entries[list->n - 1].record.id ? 0 : -ENOMEM;
}

static int later_first(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;

	if (a->record.began_ns != b->record.began_ns)
		return a->record.began_ns < b->record.began_ns ? 1 : -1;
	return strcmp(a->record.id, b->record.id);
}

int mvm_list_new(bool ended, struct mvm_list **ret_list, struct mvm_error *err)
{
	struct mvm_list *list = calloc(1, sizeof(*list));
	char parent[PATH_MAX];
	int r;

	if (!list)
		return error_set(err, ENOMEM, "out of memory");
	list->ended = ended;
	r = state_dir_parent(parent, err);
	if (r == 0) {
		(void)state_dir_reclaim(parent, "");
		r = state_dir_each(parent, add, list, err);
		if (r == -ENOMEM)
			(void)error_set(err, ENOMEM, "out of memory");
	}
	if (r < 0) {
		mvm_list_free(list);
		return r;
	}
	if (list->n)
		qsort(list->entries, list->n, sizeof(*list->entries), later_first);
	for (size_t i = 0; i < list->n; i++)
		show(&list->entries[i]);
	*ret_list = list;
	return 0;
}

void mvm_list_free(struct mvm_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->n; i++)
		record_free(&list->entries[i].record);
	free(list->entries);
	free(list);
}

const struct mvm_vm_entry *mvm_list_at(const struct mvm_list *list, size_t index)
{
	return index < list->n ? &list->entries[index].shown : NULL;
}

/* ---- one of them ---- */

struct target {
	char parent[PATH_MAX], id[MVM_ID_LEN + 1];
	int folder;
};

static int find(const char *id, bool ended, struct target *ret_target, struct mvm_error *err)
{
	int r = state_dir_parent(ret_target->parent, err);

	if (r < 0)
		return r;
	(void)state_dir_reclaim(ret_target->parent, "");
	return state_dir_find(ret_target->parent, id, ended, ret_target->id, &ret_target->folder, err);
}

/* How one ended that lives no more. -EAGAIN: its record does not say so. */
static int recorded_end(const struct target *target, struct mvm_end *ret_end, struct mvm_error *err)
{
	struct record record;
	int r;

	(void)state_dir_reclaim(target->parent, "");
	r = record_read(target->folder, &record);
	if (r == -ENOENT)
		return error_set(err, ESRCH, "%s: has ended, and left nothing: it had no name", target->id);
	if (r < 0)
		return error_set(
			err, -r, "%s/%s/%s: cannot be read: %s: mvm rm %s", target->parent, target->id, RECORD_FILE,
			r == -EPROTONOSUPPORT ? "it is another version's of mvm" : "it is damaged", target->id);
	if (record.state != RECORD_ENDED) {
		record_free(&record);
		return error_set(err, EAGAIN, "%s: is just starting, or ending: try again", target->id);
	}
	ret_end->verdict = "unknown";
	for (uint32_t kind = 1; kind < VERDICT_KINDS; kind++)
		if (!strcmp(verdict_name(kind), record.verdict))
			ret_end->verdict = verdict_name(kind);
	ret_end->status = record.status;
	(void)snprintf(ret_end->cause, sizeof(ret_end->cause), "%s", record.cause);
	text_harmless(ret_end->cause);
	record_free(&record);
	return 0;
}

/* Its end, told on a connection that asks for it, or left in its record. */
static int wait_on(int fd, const struct target *target, struct mvm_end *ret_end, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	struct attach_ended ended;
	struct mvm_error why;
	int r = attach_request(fd, ATTACH_WAIT, NULL, 0, -1, &answer, &why);

	if (r < 0)
		return recorded_end(target, ret_end, err);
	if (answer.hdr.len < sizeof(ended))
		return error_set(err, EPROTO, "%s: its supervisor's answer cannot be read", target->id);
	memcpy(&ended, answer.payload, sizeof(ended));
	ret_end->verdict = verdict_name(ended.kind);
	ret_end->status = ended.status;
	(void)snprintf(ret_end->cause, sizeof(ret_end->cause), "%.1000s", (const char *)answer.payload + sizeof(ended));
	text_harmless(ret_end->cause);
	return 0;
}

/* 1 and a connection, 0: it has ended. */
static int reach(const struct target *target, int *ret_fd, struct mvm_error *err)
{
	const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	struct mvm_end end;
	int r = 0;

	for (unsigned waited = 0; waited < STARTING_MS; waited += RETRY_MS) {
		r = attach_open(target->folder, ATTACH_PATIENCE_MS, ret_fd, err);
		if (r == 0)
			return 1;
		if (r != -ENOENT && r != -ECONNREFUSED)
			break;
		if (recorded_end(target, &end, NULL) != -EAGAIN)
			return 0;
		(void)nanosleep(&pause, NULL);
	}
	return r;
}

static int check_end(const struct mvm_end *end, struct mvm_error *err)
{
	return end && end->size < sizeof(*end) ? error_set(err, EINVAL, "struct mvm_end: not set by MVM_END") : 0;
}

int mvm_wait(const char *id, struct mvm_end *ret_end, struct mvm_error *err)
{
	struct target target = { .folder = -1 };
	int r = check_end(ret_end, err), fd = -1;

	if (r == 0)
		r = find(id, true, &target, err);
	if (r == 0)
		r = reach(&target, &fd, err);
	if (r > 0)
		r = wait_on(fd, &target, ret_end, err);
	else if (r == 0)
		r = recorded_end(&target, ret_end, err);
	cleanup_fd(&fd);
	cleanup_fd(&target.folder);
	return r;
}

/* Sends a request and waits for the end. */
static int finish(struct target *target, enum attach_type type, const void *payload, size_t len,
		  struct mvm_end *ret_end, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	struct mvm_end end;
	int fd = -1, r = reach(target, &fd, err);

	if (r > 0) {
		/* One that ends meanwhile gives no answer, and the record says how. */
		r = attach_request(fd, type, payload, len, ATTACH_ANSWER_MS, &answer, err);
		if (r == 0 || r == -EPIPE)
			r = wait_on(fd, target, ret_end ? ret_end : &end, err);
	} else if (r == 0) {
		r = recorded_end(target, ret_end ? ret_end : &end, err);
	}
	cleanup_fd(&fd);
	return r;
}

int mvm_end(const char *id, uint64_t grace_ns, struct mvm_end *ret_end, struct mvm_error *err)
{
	const struct attach_stop stop = { .grace_ns = grace_ns };
	struct target target = { .folder = -1 };
	int r = check_end(ret_end, err);

	if (r == 0)
		r = find(id, true, &target, err);
	if (r == 0)
		r = finish(&target, ATTACH_STOP, &stop, sizeof(stop), ret_end, err);
	cleanup_fd(&target.folder);
	return r;
}

int mvm_send_signal(const char *id, int signo, struct mvm_error *err)
{
	const struct attach_signal wanted = { .signo = (uint32_t)signo };
	struct target target = { .folder = -1 };
	struct mvm_error why;
	int r = find(id, false, &target, err);

	if (r == 0 && signo == SIGKILL) {
		r = finish(&target, ATTACH_SIGNAL, &wanted, sizeof(wanted), NULL, err);
	} else if (r == 0) {
		r = attach_call(target.folder, ATTACH_SIGNAL, &wanted, sizeof(wanted), &why);
		if (r < 0)
			(void)error_set(err, -r, "%s: %s", target.id, why.text);
	}
	cleanup_fd(&target.folder);
	return r;
}

/* One request to a VM that lives. */
int attach_vm(const char *id, enum attach_type type, struct attach_msg *ret_answer, struct mvm_error *err)
{
	struct target target = { .folder = -1 };
	struct mvm_error why;
	int fd = -1, r = find(id, false, &target, err);

	if (r == 0) {
		r = attach_open(target.folder, ATTACH_PATIENCE_MS, &fd, &why);
		if (r == 0)
			r = attach_request(fd, type, NULL, 0, ATTACH_ANSWER_MS, ret_answer, &why);
		if (r < 0)
			(void)error_set(err, -r, "%s: %s", target.id, why.text);
	}
	cleanup_fd(&fd);
	cleanup_fd(&target.folder);
	return r;
}

int mvm_pause(const char *id, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };

	return attach_vm(id, ATTACH_PAUSE, &answer, err);
}

int mvm_resume(const char *id, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };

	return attach_vm(id, ATTACH_RESUME, &answer, err);
}

_Static_assert(sizeof(struct mvm_stats) == offsetof(struct mvm_stats, wall_ns) + sizeof(struct attach_stats),
	       "the same fields, in the same order");

int mvm_get_stats(const char *id, struct mvm_stats *ret_stats, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	int r = 0;

	if (ret_stats->size < sizeof(*ret_stats))
		r = error_set(err, EINVAL, "struct mvm_stats: not set by MVM_STATS");
	r = r < 0 ? r : attach_vm(id, ATTACH_STATS, &answer, err);
	if (r < 0)
		return r;
	if (answer.hdr.len != sizeof(struct attach_stats))
		return error_set(err, EPROTO, "%.63s: its supervisor's answer cannot be read", id);
	memcpy(&ret_stats->wall_ns, answer.payload, sizeof(struct attach_stats));
	return 0;
}

int mvm_top(const char *id, char **ret_text, struct mvm_error *err)
{
	struct attach_msg answer = { 0 };
	int r = attach_vm(id, ATTACH_TOP, &answer, err);

	if (r < 0)
		return r;
	for (char *at = (char *)answer.payload; *at;) {
		size_t len = strcspn(at, "\t\n");
		char end = at[len];

		at[len] = '\0';
		text_harmless(at);
		at[len] = end;
		at += len + (end != '\0');
	}
	*ret_text = strdup((char *)answer.payload);
	return *ret_text ? 0 : error_set(err, ENOMEM, "out of memory");
}

static void tell_removed(const struct state_dir *dir)
{
	char name[STATE_NAME_MAX + 1];
	struct event_actor self;
	json_object *event;

	state_dir_name(dir->parent_fd, dir->id, name);
	event = event_new(EVENT_REMOVED, dir->id, name);
	event_actor_self(&self);
	event_by(event, &self);
	event_append_object(dir->parent_fd, event);
}

int mvm_remove(const char *id, bool force, struct mvm_error *err)
{
	const struct attach_signal kill_it = { .signo = SIGKILL };
	struct state_dir dir = STATE_DIR_NONE;
	struct target target = { .folder = -1 };
	struct mvm_error why;
	int r = find(id, true, &target, err);

	if (r == 0) {
		r = state_dir_reopen(target.parent, target.id, &dir, &why);
		if (r == -EBUSY && !force)
			r = error_set(err, EBUSY, "%s: runs: mvm stop %s first, or give --force", target.id, target.id);
		else if (r == -EBUSY) {
			(void)finish(&target, ATTACH_SIGNAL, &kill_it, sizeof(kill_it), NULL, &why);
			r = state_dir_reopen(target.parent, target.id, &dir, &why);
			if (r == -ESRCH) /* it had no name: gone with its end */
				r = 0;
			else if (r < 0)
				(void)error_set(err, -r, "%s", why.text);
		} else if (r < 0) {
			(void)error_set(err, -r, "%s", why.text);
		}
	}
	if (dir.fd >= 0) {
		tell_removed(&dir);
		state_dir_remove(&dir);
	}
	cleanup_fd(&target.folder);
	return r;
}
