/*
 * From one run of a VM to the next (--restart). Between them there is no VMM and nothing of the last run but its log and
 * its record; folder, lock, control socket and who waits for the end are kept. Should we be killed here, the folder is
 * as that of any VM whose supervisor died.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"

/* Until the wait is over, or somebody wants no further run. */
static void back_off(struct supervisor *s)
{
	uint64_t now = text_now_ns(), deadline = now + s->restart.wait_ns;
	struct pollfd fds[1 + 1 + ATTACH_CLIENTS_MAX];

	for (; !s->restart.off && now < deadline; now = text_now_ns()) {
		uint64_t first = supervisor_attach_deadline(s), next = first < deadline ? first : deadline;
		int n;

		fds[0] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
		supervisor_attach_prepare(s, fds + 1);
		n = poll(fds, sizeof(fds) / sizeof(fds[0]), next > now ? (int)((next - now + 999999) / 1000000) : 0);
		if (n < 0 && errno != EINTR) {
			supervisor_log(s, MVM_LOG_ERROR, "not started again: poll: %s", strerror(errno));
			s->restart.off = true;
		}
		if (n >= 0)
			supervisor_attach_run(s, fds + 1, text_now_ns());
		if (n > 0 && fds[0].revents)
			s->restart.off = true;
	}
}

/* Those who were with the run hear of its end; who waits for the VM's end goes on waiting. */
static void part_with_clients(struct supervisor *s)
{
	supervisor_exec_close(s, &s->verdict);
	supervisor_viewers_close(s, &s->verdict);
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++) {
		if (s->clients[i].fd < 0 || (s->clients[i].kind != CLIENT_TOP && s->clients[i].kind != CLIENT_STATS &&
					     s->clients[i].kind != CLIENT_FLOWS))
			continue;
		supervisor_numbers_late(s, i);
		supervisor_drop_client(s, i);
	}
}

static void begin_again(struct supervisor *s)
{
	struct supervisor kept = *s;

	supervisor_events_close(&kept); /* opened again with the rest */
	supervisor_init(s);
	s->start = kept.start;
	s->start.began_ns = s->start.start_ns = s->stages[STAGE_SUPERVISOR];
	s->stages[STAGE_COMMAND] = s->stages[STAGE_SUPERVISOR_ASKED] = s->stages[STAGE_SUPERVISOR];
	s->spec = kept.spec;
	s->state = kept.state;
	s->signals = kept.signals;
	s->attach_listener = kept.attach_listener;
	s->attach_retry_ns = kept.attach_retry_ns;
	memcpy(s->clients, kept.clients, sizeof(s->clients));
	s->last_session = kept.last_session;
	s->log = kept.log;
	s->publish = kept.publish; /* who comes meanwhile waits */
	s->capture = kept.capture; /* the next run is its next section */
	if (s->capture)
		capture_forget(s->capture);
	s->output_seen = kept.output_seen;
	s->output_refilled_ns = kept.output_refilled_ns;
	s->started_told = kept.started_told;
	s->restart = kept.restart;
	s->sign = kept.sign;
	s->execs = kept.execs;
	s->execs_ended = kept.execs_ended;
	s->events_lost = kept.events_lost;
	s->events_lost_ever = kept.events_lost_ever;
	s->clients_refused = kept.clients_refused;
	(void)state_dir_reclaim_cgroups(s->state.fd);
}

bool supervisor_restart(struct supervisor *s)
{
	uint64_t started = s->stages[STAGE_STARTED], ended = s->stages[STAGE_ENDED];

	/* One whose first start went wrong is its caller's to start again: nobody was told that it runs. */
	if (!s->log || !s->started_told || !restart_next(&s->restart, &s->verdict, started ? ended - started : 0))
		return false;
	supervisor_log(s, s->verdict.status ? MVM_LOG_WARNING : MVM_LOG_INFO,
		       "%s (%d): %.300s: started again in %llu ms, restart %u", verdict_name(s->verdict.kind),
		       s->verdict.status, s->verdict.cause, (unsigned long long)(s->restart.wait_ns / 1000000),
		       s->restart.count);
	s->restarting = true;
	supervisor_write_record(s);
	part_with_clients(s);
	back_off(s);
	s->restarting = false;
	if (s->restart.off)
		return false;
	begin_again(s);
	return true;
}
