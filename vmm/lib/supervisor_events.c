/* What is told of this VM to its user's journal of events, and where the operator and the run want it (event.h). */
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "lib/event.h"
#include "lib/host_conf.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

int supervisor_events_open(struct supervisor *s, struct mvm_error *err)
{
	const char *own = s->spec->events;
	int r = host_conf_read(HOST_CONF_PATH, &s->conf, err);

	if (r == 0 && *s->conf.events)
		r = event_sink_open(HOST_CONF_PATH ": events", s->conf.events, &s->sinks[0], err);
	if (r == 0 && own && strcmp(own, s->conf.events) != 0)
		r = event_sink_open("--events", own, &s->sinks[1], err);
	return r;
}

void supervisor_events_close(struct supervisor *s)
{
	for (unsigned i = 0; i < SUPERVISOR_SINKS; i++)
		event_sink_close(&s->sinks[i]);
}

/* To the state root; of a run that was refused before it had a folder that is not open yet. */
static void to_journal(struct supervisor *s, json_object *event)
{
	struct state_dir root = STATE_DIR_NONE;
	_cleanup_free_ char *line = NULL;
	char parent[PATH_MAX];
	int r = 0;

	if (s->events_lost)
		event_number(event, "lost", s->events_lost);
	line = event_line(event);
	if (s->state.parent_fd < 0) {
		r = state_dir_parent(parent, NULL);
		r = r < 0 ? r : state_dir_open_parent(parent, &root.parent_fd, NULL);
	}
	if (r == 0)
		r = line ? event_append(s->state.parent_fd < 0 ? root.parent_fd : s->state.parent_fd, line) : -ENOMEM;
	state_dir_close(&root);
	if (event)
		json_object_object_del(event, "lost");
	s->events_lost = r < 0 ? s->events_lost + 1 : 0;
	s->events_lost_ever += r < 0;
}

static void tell(struct supervisor *s, json_object *event)
{
	to_journal(s, event);
	for (unsigned i = 0; i < SUPERVISOR_SINKS; i++)
		event_sink_send(&s->sinks[i], event);
	(void)json_object_put(event);
}

static json_object *begin(const struct supervisor *s, enum event_kind kind)
{
	json_object *event = event_new(kind, s->state.id, s->spec ? s->spec->name : NULL);

	event_number(event, "supervisor", (uint64_t)getpid());
	return event;
}

/* ---- a run's beginning ---- */

/* In one line, as far as a text goes. */
static void put_command(json_object *event, const struct spec_list *list)
{
	char text[EVENT_TEXT_MAX] = "";
	size_t at = 0;

	for (size_t i = 0; i < list->n && at < sizeof(text) - 1; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i ? " " : "", list->v[i]);
	event_text(event, "command", text);
}

/* The spec as JSON, but for the values of variables, which may be secrets; the command has a key of its own. */
static json_object *options_of(const struct mvm_spec *spec)
{
	_cleanup_free_ char *json = NULL;
	json_object *options, *env, *names = json_object_new_array();

	options = mvm_spec_to_json(spec, &json, NULL) < 0 ? NULL : json_tokener_parse(json);
	if (options && json_object_object_get_ex(options, "env", &env))
		for (size_t i = 0; i < json_object_array_length(env); i++) {
			const char *text = json_object_get_string(json_object_array_get_idx(env, i));

			(void)json_object_array_add(names, json_object_new_string_len(text, (int)strcspn(text, "=")));
		}
	if (options) {
		json_object_object_del(options, "args");
		json_object_object_del(options, "env");
	}
	if (options && json_object_array_length(names) > 0)
		(void)json_object_object_add(options, "env", names);
	else
		(void)json_object_put(names);
	return options;
}

static void describe(const struct supervisor *s, json_object *event)
{
	struct event_actor actor, self;

	event_actor_peer(s->session, &actor);
	event_actor_self(&self);
	actor.login_uid = self.login_uid; /* the caller's, which cannot be gone yet */
	event_by(event, &actor);
	if (!s->spec)
		return;
	event_text(event, "rootfs", s->spec->rootfs);
	put_command(event, &s->spec->args);
	event_object(event, "options", options_of(s->spec));
}

void supervisor_event_created(struct supervisor *s)
{
	json_object *event = begin(s, EVENT_CREATED);
	char layers[64];

	describe(s, event);
	event_text(event, "kernel", s->files.kernel_path);
	event_number(event, "vmm", (uint64_t)s->vmm_pid);
	event_number(event, "vmm_uid", s->jail.by_root ? s->jail.ids.uid : geteuid());
	event_flag(event, "again", *s->start.again != '\0');
	tell(s, event);
	s->created_told = true;
	if (!s->jail.missing)
		return;
	event = begin(s, EVENT_LAYER_MISSING);
	event_text(event, "layers", spec_layers_text(s->jail.missing, layers));
	/* What may be missing where nobody said anything is no warning. */
	if (!(s->jail.missing & ~(unsigned)JAIL_LAYERS_DEFAULT))
		event_severity(event, LOG_INFO);
	tell(s, event);
}

void supervisor_event_stage(struct supervisor *s, enum event_kind kind, enum receipt_stage stage)
{
	json_object *event = begin(s, kind);

	event_number(event, "after_ms", (s->stages[stage] - s->stages[STAGE_COMMAND]) / 1000000);
	if (kind == EVENT_BOOTED)
		event_text(event, "agent", s->agent_version);
	tell(s, event);
}

/* ---- what others ask ---- */

static void asked(struct supervisor *s, enum event_kind kind, const struct event_actor *actor, int signo, int result)
{
	json_object *event = begin(s, kind);

	event_by(event, actor);
	if (signo)
		event_text(event, "signal", sigabbrev_np(signo) ? sigabbrev_np(signo) : "RT");
	if (result < 0)
		event_text(event, "error", strerror(-result));
	tell(s, event);
}

void supervisor_event_asked(struct supervisor *s, unsigned client, const struct attach_msg *msg, int result)
{
	struct event_actor actor;
	struct attach_signal wanted = { 0 };

	event_actor_peer(s->clients[client].fd, &actor);
	if (msg->hdr.type == ATTACH_SIGNAL && msg->hdr.len == sizeof(wanted))
		memcpy(&wanted, msg->payload, sizeof(wanted));
	if (msg->hdr.type == ATTACH_SIGNAL)
		asked(s, wanted.signo == SIGKILL ? EVENT_KILL : EVENT_SIGNAL, &actor,
		      wanted.signo <= 64 ? (int)wanted.signo : 0, result);
	else if (msg->hdr.type == ATTACH_STOP)
		asked(s, EVENT_STOP, &actor, 0, result);
	else if (msg->hdr.type == ATTACH_PAUSE)
		asked(s, EVENT_PAUSE, &actor, 0, result);
	else if (msg->hdr.type == ATTACH_RESUME)
		asked(s, EVENT_RESUME, &actor, 0, result);
	else if (msg->hdr.type == ATTACH_UPDATE) {
		json_object *event = begin(s, EVENT_UPDATE);
		char io[IO_MAX_TEXT];

		event_by(event, &actor);
		event_number(event, "blk_iops", s->spec->blk_iops);
		event_number(event, "blk_bps", s->spec->blk_bps);
		if (s->files.nets.n) {
			event_number(event, "net_pps", s->spec->net_pps);
			event_number(event, "net_bps", s->spec->net_bps);
		}
		if (io_max_any(&s->spec->io_max))
			event_text(event, "io_max", io_max_text(&s->spec->io_max, ',', io));
		if (result < 0)
			event_text(event, "error", strerror(-result));
		tell(s, event);
	}
}

void supervisor_event_caller(struct supervisor *s, enum event_kind kind, int fd, int signo)
{
	struct event_actor actor;

	event_actor_peer(fd, &actor);
	asked(s, kind, &actor, signo, 0);
}

void supervisor_event_signalled(struct supervisor *s, const struct signalfd_siginfo *info)
{
	json_object *event = begin(s, EVENT_STOP);

	if (info->ssi_pid) { /* 0: the kernel's, or of a process that we cannot see */
		event_number(event, "by_uid", info->ssi_uid);
		event_number(event, "by_pid", info->ssi_pid);
	}
	event_text(event, "signal", sigabbrev_np((int)info->ssi_signo));
	tell(s, event);
}

/* The first, the second, the fourth … of those that another user sent: one who goes on fills nobody's journal. */
void supervisor_event_client_refused(struct supervisor *s, const struct attach_peer *peer)
{
	json_object *event;

	s->clients_refused++;
	if (s->clients_refused & (s->clients_refused - 1))
		return;
	event = begin(s, EVENT_CLIENT_REFUSED);
	event_number(event, "by_uid", peer->uid);
	event_number(event, "by_pid", (uint64_t)peer->pid);
	event_number(event, "times", s->clients_refused);
	tell(s, event);
}

void supervisor_event_exec(struct supervisor *s, unsigned client, uint32_t session, const struct mvm_spec *spec)
{
	json_object *event = begin(s, EVENT_EXEC);
	struct event_actor actor;

	event_actor_peer(s->clients[client].fd, &actor);
	event_by(event, &actor);
	s->execs++;
	event_number(event, "exec", session);
	put_command(event, &spec->args);
	event_text(event, "user", spec->user);
	event_flag(event, "tty", spec->tty);
	tell(s, event);
}

void supervisor_event_exec_ended(struct supervisor *s, uint32_t session, const struct verdict *verdict)
{
	json_object *event = begin(s, EVENT_EXEC_ENDED);

	s->execs_ended++;
	event_number(event, "exec", session);
	event_text(event, "verdict", verdict_name(verdict->kind));
	event_number(event, "status", (uint64_t)verdict->status);
	event_text(event, "cause", verdict->cause);
	tell(s, event);
}

/* ---- what is not as it should be ---- */

void supervisor_event_port(struct supervisor *s, const struct broker_answer *answer)
{
	json_object *event = begin(s, answer->channel ? EVENT_PORT_FAILED : EVENT_PORT_REFUSED);

	event_number(event, "port", answer->port);
	if (answer->channel) {
		event_text(event, "target", answer->channel->target);
		event_number(event, "times", answer->channel->failed);
	}
	event_text(event, "error", strerror(answer->error));
	tell(s, event);
}

void supervisor_event_egress(struct supervisor *s, const struct net_user_place *place)
{
	json_object *event = begin(s, EVENT_EGRESS_REFUSED);
	char text[NET_USER_PLACE_TEXT];

	event_text(event, "to", net_user_place_text(&place->refused, text));
	event_text(event, "why", uplink_reason_name(place->refused.reason));
	event_number(event, "times", place->told);
	tell(s, event);
}

void supervisor_event_violation(struct supervisor *s, const char *of, const char *how)
{
	json_object *event = begin(s, EVENT_VIOLATION);

	event_text(event, "of", of);
	event_text(event, "cause", how);
	tell(s, event);
}

/* Once when the first bytes are lost; how many it were stands in `ended`. */
void supervisor_event_log_dropped(struct supervisor *s)
{
	json_object *event;

	if (s->log_drop_told || !s->log || !s->log->lost)
		return;
	s->log_drop_told = true;
	event = begin(s, EVENT_LOG_DROPPED);
	event_number(event, "bytes", s->log->lost);
	event_number(event, "log_max", s->log->max);
	tell(s, event);
}

/* ---- the end ---- */

static void put_digest(json_object *event, const char *key, const struct digest *digest)
{
	if (digest->done && !digest->error && digest->fd >= 0)
		event_text(event, key, digest->hex);
}

void supervisor_event_ended(struct supervisor *s, const struct verdict *verdict)
{
	json_object *event = begin(s, s->created_told ? EVENT_ENDED : EVENT_REFUSED);

	if (!s->created_told)
		describe(s, event);
	if (verdict->kind == VERDICT_VMM_FAULT)
		event_severity(event, LOG_ERR);
	else if (verdict->kind != VERDICT_EXITED && verdict->kind != VERDICT_OPERATOR && s->created_told)
		event_severity(event, LOG_NOTICE);
	event_text(event, "verdict", verdict_name(verdict->kind));
	event_number(event, "status", (uint64_t)verdict->status);
	event_text(event, "cause", verdict->cause);
	event_text(event, "word_of", verdict_source_name(verdict->source));
	event_number(event, "after_ms", (s->stages[STAGE_ENDED] - s->stages[STAGE_COMMAND]) / 1000000);
	if (s->facts.vmm_waited && s->facts.vmm_code != CLD_EXITED)
		event_text(event, "vmm_signal", sigabbrev_np(s->facts.vmm_status));
	event_number(event, "ports_refused", s->broker.refused);
	if (s->log) {
		event_number(event, "log_bytes", s->log->written);
		event_number(event, "log_dropped", s->log->lost);
	}
	put_digest(event, "rootfs_sha256", &s->digests[RECEIPT_ROOTFS]);
	put_digest(event, "kernel_sha256", &s->digests[RECEIPT_KERNEL]);
	tell(s, event);
}
