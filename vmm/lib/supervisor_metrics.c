/* The numbers of this VM for `mvm metrics`: at once, without a word of the guest's, whose answer could be waited for. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define FIELDS 52U /* of /proc/PID/stat */

/* proc_pid_stat(5): *ret_fields[n] is field n, 0 where it is not there. A name may hold anything but ends with the last ')'. */
static void read_stat(pid_t pid, uint64_t ret_fields[FIELDS + 1])
{
	char path[32], text[1024], *at;
	_cleanup_fd_ int fd = -1;
	ssize_t n;

	memset(ret_fields, 0, (FIELDS + 1) * sizeof(*ret_fields));
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return;
	text[n] = '\0';
	at = strrchr(text, ')');
	for (unsigned field = 3; at && field <= FIELDS; field++) {
		at = strchr(at, ' ');
		if (at)
			ret_fields[field] = strtoull(++at, NULL, 10);
	}
}

static void of_process(pid_t pid, struct attach_metrics *m)
{
	uint64_t fields[FIELDS + 1], tick = 1000000000U / (uint64_t)sysconf(_SC_CLK_TCK);

	read_stat(pid, fields);
	m->guest_ns = fields[43] * tick;
	m->user_ns = fields[14] * tick; /* the guest's time is in it */
	m->user_ns -= m->guest_ns < m->user_ns ? m->guest_ns : m->user_ns;
	m->system_ns = fields[15] * tick;
	m->resident = fields[24] * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t ns_of(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000000U + (uint64_t)t->tv_usec * 1000U;
}

void supervisor_metrics(struct supervisor *s, int fd)
{
	struct attach_metrics m = {
		.wall_ns = s->phase < PHASE_OVER ? text_now_ns() - s->stages[STAGE_VMM_SPAWNED] : 0,
		.memory_asked = s->spec->memory,
		.vcpus = s->spec->vcpus,
		.disks = 1 + s->spec->ndisks,
		.nets = s->files.nets.n,
		.execs = s->execs,
		.execs_ended = s->execs_ended,
		.ports_refused = s->broker.refused,
		.clients_refused = s->clients_refused,
		.events_lost = s->events_lost_ever,
		.publish_open = s->publish.nconns,
		.publish_accepted = s->publish.accepted,
		.phase = supervisor_attach_phase(s),
	};
	struct rusage own;

	supervisor_net_fresh(s);
	cgroup_memory(&s->jail.cgroup, &m.memory, &m.memory_peak, &m.memory_max);
	if (s->phase < PHASE_OVER) /* else the number may be another's by now */
		of_process(s->vmm_pid, &m);
	if (getrusage(RUSAGE_SELF, &own) == 0) {
		m.supervisor_ns = ns_of(&own.ru_utime) + ns_of(&own.ru_stime);
		m.supervisor_peak = (uint64_t)own.ru_maxrss * 1024;
	}
	if (s->log) {
		m.log_bytes = s->log->written;
		m.log_dropped = s->log->lost;
	}
	for (unsigned i = 0; i < s->broker.nchannels; i++) {
		m.ports_opened += s->broker.channels[i].opened;
		m.ports_failed += s->broker.channels[i].failed;
	}
	m.traffic = s->net.traffic;
	memcpy(m.egress_refused, s->net.counters, sizeof(m.egress_refused));
	net_proxy_counted(&s->net.proxy, &m.proxied);
	publish_udp_counted(&s->udp, &m.udp);
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		m.clients += s->clients[i].fd >= 0;
	if (s->counters)
		counters_copy(s->counters, &m.counters);
	(void)attach_send(fd, ATTACH_ANSWER, 0, &m, sizeof(m));
}
