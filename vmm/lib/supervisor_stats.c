/* What the VM uses and runs (`mvm stats`, `mvm top`); `mvm pause` and `resume`. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"

#define GUEST_ANSWER_NS 5000000000ULL

/* CPU time of the VMM's process, all its threads. */
uint64_t supervisor_cpu_time(const struct supervisor *s)
{
	struct timespec used;
	clockid_t clock;

	if (s->phase == PHASE_OVER) /* the number may be another's by now */
		return 0;
	if (clock_getcpuclockid(s->vmm_pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
		return 0;
	return (uint64_t)used.tv_sec * 1000000000U + (uint64_t)used.tv_nsec;
}

static void send_stats(struct supervisor *s, unsigned client, const struct proto_statted *guest)
{
	struct attach_stats stats = {
		.wall_ns = text_now_ns() - s->stages[STAGE_VMM_SPAWNED],
		.cpu_ns = supervisor_cpu_time(s),
		.publish_open = s->publish.nconns,
		.publish_accepted = s->publish.accepted,
	};
	struct udp_counted udp;

	if (s->counters) {
		struct counters counters;

		counters_copy(s->counters, &counters);
		stats.publish_refused = counters.publish.refused;
		stats.publish_from_guest = counters.publish.from_guest_bytes;
		stats.publish_to_guest = counters.publish.to_guest_bytes;
	}
	net_proxy_counted(&s->net.proxy, &stats.proxied);
	publish_udp_counted(&s->udp, &udp);
	stats.udp_from_clients = udp.from_clients;
	stats.udp_to_clients = udp.to_clients;
	for (unsigned i = 0; i < UDP_DROPS; i++)
		stats.udp_dropped += udp.dropped[i];
	supervisor_net_fresh(s);
	stats.traffic = s->net.traffic;
	for (unsigned i = 0; i < UPLINK_REASONS; i++)
		stats.net_refused += s->net.counters[i];
	cgroup_memory(&s->jail.cgroup, &stats.memory, &stats.memory_peak, &stats.memory_max);
	if (guest) {
		stats.guest_memory_total = le64_get(guest->memory_total);
		stats.guest_memory_available = le64_get(guest->memory_available);
		stats.guest_pids = le64_get(guest->pids);
		stats.guest_cpu_us = le64_get(guest->cpu_us);
		stats.scratch_size = le64_get(guest->scratch_size);
		stats.scratch_used = le64_get(guest->scratch_used);
	}
	(void)attach_send(s->clients[client].fd, ATTACH_ANSWER, 0, &stats, sizeof(stats));
	s->clients[client].kind = CLIENT_ASKS;
}

/* 1: answered, or to be answered by supervisor_on_numbers(). */
int supervisor_ask_agent(struct supervisor *s, unsigned client, bool top, char *ret_text, size_t size)
{
	int r;

	if (s->phase != PHASE_RUN || s->paused) {
		if (!top && s->phase < PHASE_OVER) {
			send_stats(s, client, NULL);
			return 1;
		}
		(void)snprintf(ret_text, size, "%s", supervisor_state_text(s));
		return -ESHUTDOWN;
	}
	r = top ? agent_session_top(&s->agent, client) : agent_session_stat(&s->agent, client);
	if (r == 0)
		r = agent_session_flush(&s->agent) < 0 ? -EPIPE : 0;
	/* A guest that does not answer hides nothing of what the host knows. */
	if (r < 0 && !top) {
		send_stats(s, client, NULL);
		return 1;
	}
	if (r == -EALREADY || r == -EAGAIN) {
		(void)snprintf(ret_text, size, "the guest is being asked already, or does not answer: try again");
		return -EBUSY;
	}
	if (r < 0)
		return r;
	s->clients[client].kind = top ? CLIENT_TOP : CLIENT_STATS;
	s->clients[client].deadline_ns = text_now_ns() + GUEST_ANSWER_NS;
	return 1;
}

/* The first that waits for it: an answer that came too late for its own client serves the next as well. */
void supervisor_on_numbers(struct supervisor *s, const struct agent_event *event)
{
	bool top = event->type == PROTO_TOPPED;

	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++) {
		if (s->clients[i].fd < 0 || s->clients[i].kind != (top ? CLIENT_TOP : CLIENT_STATS))
			continue;
		if (!top)
			send_stats(s, i, &event->statted);
		else
			(void)attach_send(s->clients[i].fd, ATTACH_ANSWER, 0, event->text, strlen(event->text));
		s->clients[i].kind = CLIENT_ASKS;
		return;
	}
}

/* The guest, or mvm-net, did not answer in time. */
void supervisor_numbers_late(struct supervisor *s, unsigned client)
{
	static const char text[] = "the guest does not answer", no_net[] = "mvm-net does not answer";

	if (s->clients[client].kind == CLIENT_STATS)
		send_stats(s, client, NULL);
	else if (s->clients[client].kind == CLIENT_FLOWS)
		(void)attach_send(s->clients[client].fd, ATTACH_ANSWER, ETIMEDOUT, no_net, strlen(no_net));
	else if (s->clients[client].kind == CLIENT_TOP)
		(void)attach_send(s->clients[client].fd, ATTACH_ANSWER, ETIMEDOUT, text, strlen(text));
}

/*
 * By SIGSTOP to its process: no vCPU runs and no device works until it goes on; what the kernel has in flight for it
 * is completed. It is pid 1 of a namespace, where a signal of this kind counts because it comes from outside.
 */
int supervisor_pause(struct supervisor *s, bool pause, char *ret_text, size_t size)
{
	if (s->phase != PHASE_RUN) {
		(void)snprintf(ret_text, size, "%s", supervisor_state_text(s));
		return -ESHUTDOWN;
	}
	if (s->paused == pause) {
		(void)snprintf(ret_text, size, "%s", pause ? "is paused already" : "is not paused");
		return -EALREADY;
	}
	if (syscall(SYS_pidfd_send_signal, s->vmm_pidfd, pause ? SIGSTOP : SIGCONT, NULL, 0) < 0)
		return -errno;
	s->paused = pause;
	supervisor_write_record(s);
	return 0;
}
