/*
 * Prometheus' text format of what the caller's VMs and their host do; see mvm.h. Families are tables: a line each, with
 * where its number stands in a supervisor's answer (attach.h). mvm-metrics(1) names them all; a test compares.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "lib/attach.h"
#include "lib/record.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PATIENCE_NS 5000000000ULL /* for all supervisors that do not answer together … */
#define ANSWER_MS   1000 /* … and for one */
#define LEAST_MS    20

struct sample {
	char id[MVM_ID_LEN + 1], name[STATE_NAME_MAX + 1];
	bool up; /* its supervisor answered */
	struct attach_metrics m;
};

struct samples {
	struct sample *v;
	size_t n, cap;
	uint64_t deadline_ns;
};

struct family {
	const char *name, *type, *help;
	const char *label, *value; /* one more, of this line; NULL: none. Lines of one family stand together. */
	size_t offset; /* of the number */
	bool seconds; /* it is in ns */
};

#define M(field) offsetof(struct attach_metrics, field)
/* clang-format off */
static const struct family of_vm[] = {
	{ "mvm_vm_uptime_seconds", "gauge", "Time since the VM's process began.", NULL, NULL, M(wall_ns), true },
	{ "mvm_vm_cpu_seconds_total", "counter", "CPU time of the VM's process.", "mode", "user", M(user_ns), true },
	{ "mvm_vm_cpu_seconds_total", NULL, NULL, "mode", "guest", M(guest_ns), true },
	{ "mvm_vm_cpu_seconds_total", NULL, NULL, "mode", "system", M(system_ns), true },
	{ "mvm_vm_vcpus", "gauge", "Virtual CPUs.", NULL, NULL, M(vcpus), false },
	{ "mvm_vm_guest_memory_bytes", "gauge", "Memory that the guest was given.", NULL, NULL, M(memory_asked), false },
	{ "mvm_vm_memory_bytes", "gauge", "Memory charged to the VM's cgroup.", NULL, NULL, M(memory), false },
	{ "mvm_vm_memory_peak_bytes", "gauge", "Most memory so far of the VM's cgroup.", NULL, NULL, M(memory_peak), false },
	{ "mvm_vm_memory_limit_bytes", "gauge", "Limit of the VM's cgroup.", NULL, NULL, M(memory_max), false },
	{ "mvm_vm_resident_bytes", "gauge", "Memory resident of the VM's process.", NULL, NULL, M(resident), false },
	{ "mvm_vm_supervisor_cpu_seconds_total", "counter", "CPU time of the VM's supervisor.", NULL, NULL, M(supervisor_ns), true },
	{ "mvm_vm_supervisor_resident_peak_bytes", "gauge", "Most memory resident so far of the supervisor.", NULL, NULL, M(supervisor_peak), false },
	{ "mvm_vm_log_bytes_total", "counter", "Bytes that went to the log of a detached VM.", NULL, NULL, M(log_bytes), false },
	{ "mvm_vm_log_dropped_bytes_total", "counter", "Bytes of the log that were dropped.", NULL, NULL, M(log_dropped), false },
	{ "mvm_vm_execs_total", "counter", "Further commands begun.", NULL, NULL, M(execs), false },
	{ "mvm_vm_execs_ended_total", "counter", "Further commands that have ended.", NULL, NULL, M(execs_ended), false },
	{ "mvm_vm_ports_total", "counter", "Connections to host ports that the guest asked for.", "result", "opened", M(ports_opened), false },
	{ "mvm_vm_ports_total", NULL, NULL, "result", "failed", M(ports_failed), false },
	{ "mvm_vm_ports_total", NULL, NULL, "result", "refused", M(ports_refused), false },
	{ "mvm_vm_egress_refused_total", "counter", "Packets that --net user, --net bridge=, a named network or --proxy refused.", "why", "metadata", M(egress_refused[0]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "host", M(egress_refused[1]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "private", M(egress_refused[2]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "egress", M(egress_refused[3]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "gateway", M(egress_refused[4]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "flows", M(egress_refused[5]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "spoofed", M(egress_refused[6]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "name", M(egress_refused[7]), false },
	{ "mvm_vm_egress_refused_total", NULL, NULL, "why", "isolated", M(egress_refused[8]), false },
	{ "mvm_vm_egress_flows", "gauge", "Connections of --net user, --net bridge=, a named network or --proxy.", NULL, NULL, M(traffic.flows), false },
	{ "mvm_vm_egress_flows_total", "counter", "Connections of --net user, --net bridge=, a named network or --proxy that the rules let through.", NULL, NULL, M(traffic.begun), false },
	{ "mvm_vm_egress_packets_total", "counter", "Packets of --net user, --net bridge= or --proxy to the outside and back; of a named network all that pass.", "direction", "out", M(traffic.out_packets), false },
	{ "mvm_vm_egress_packets_total", NULL, NULL, "direction", "in", M(traffic.in_packets), false },
	{ "mvm_vm_egress_bytes_total", "counter", "Bytes of these packets.", "direction", "out", M(traffic.out_bytes), false },
	{ "mvm_vm_egress_bytes_total", NULL, NULL, "direction", "in", M(traffic.in_bytes), false },
	{ "mvm_vm_clients", "gauge", "Connections to the control socket.", NULL, NULL, M(clients), false },
	{ "mvm_vm_clients_refused_total", "counter", "Connections of other users that were refused.", NULL, NULL, M(clients_refused), false },
	{ "mvm_vm_events_lost_total", "counter", "Events that could not be written.", NULL, NULL, M(events_lost), false },
	{ "mvm_vm_publish_clients", "gauge", "Clients of published ports.", NULL, NULL, M(publish_open), false },
	{ "mvm_vm_publish_clients_total", "counter", "Clients of published ports that were taken.", NULL, NULL, M(publish_accepted), false },
	/* the proxy's word */
	{ "mvm_vm_proxy_connections_total", "counter", "Connections of the proxy.", "result", "opened", M(proxied.opened), false },
	{ "mvm_vm_proxy_connections_total", NULL, NULL, "result", "refused", M(proxied.refused), false },
	{ "mvm_vm_proxy_connections_total", NULL, NULL, "result", "failed", M(proxied.failed), false },
	{ "mvm_vm_proxy_bytes_total", "counter", "Payload of the proxy.", "direction", "from_guest", M(proxied.from_guest_bytes), false },
	{ "mvm_vm_proxy_bytes_total", NULL, NULL, "direction", "to_guest", M(proxied.to_guest_bytes), false },
	/* mvm-udp's */
	{ "mvm_vm_publish_datagrams_total", "counter", "Datagrams of published UDP ports.", "direction", "from_clients", M(udp.from_clients), false },
	{ "mvm_vm_publish_datagrams_total", NULL, NULL, "direction", "to_clients", M(udp.to_clients), false },
	{ "mvm_vm_publish_dropped_total", "counter", "Datagrams of published UDP ports that were dropped.", "why", "flows", M(udp.dropped[0]), false },
	{ "mvm_vm_publish_dropped_total", NULL, NULL, "why", "full", M(udp.dropped[1]), false },
	{ "mvm_vm_publish_dropped_total", NULL, NULL, "why", "bad", M(udp.dropped[2]), false },
	{ "mvm_vm_publish_dropped_total", NULL, NULL, "why", "answer", M(udp.dropped[3]), false },
	/* from here on the VMM's word */
	{ "mvm_vm_publish_connections_total", "counter", "Connections to published ports.", "result", "opened", M(counters.publish.opened), false },
	{ "mvm_vm_publish_connections_total", NULL, NULL, "result", "refused", M(counters.publish.refused), false },
	{ "mvm_vm_publish_bytes_total", "counter", "Payload of published ports.", "direction", "from_guest", M(counters.publish.from_guest_bytes), false },
	{ "mvm_vm_publish_bytes_total", NULL, NULL, "direction", "to_guest", M(counters.publish.to_guest_bytes), false },
	{ "mvm_vm_vsock_connections_total", "counter", "Connections of the guest, streams of commands among them.", "result", "opened", M(counters.vsock.opened), false },
	{ "mvm_vm_vsock_connections_total", NULL, NULL, "result", "refused", M(counters.vsock.refused), false },
	{ "mvm_vm_vsock_bytes_total", "counter", "Payload of connections.", "direction", "from_guest", M(counters.vsock.from_guest_bytes), false },
	{ "mvm_vm_vsock_bytes_total", NULL, NULL, "direction", "to_guest", M(counters.vsock.to_guest_bytes), false },
	{ "mvm_vm_rng_bytes_total", "counter", "Random bytes given to the guest.", NULL, NULL, M(counters.rng.bytes), false },
	{ "mvm_vm_console_bytes_total", "counter", "Bytes that the guest's kernel printed.", "fate", "all", M(counters.console.bytes), false },
	{ "mvm_vm_console_bytes_total", NULL, NULL, "fate", "written", M(counters.console.written_bytes), false },
	{ "mvm_vm_console_bytes_total", NULL, NULL, "fate", "dropped", M(counters.console.dropped_bytes), false },
	{ "mvm_vm_queue_kicks_total", "counter", "Wake-ups for virtqueues.", "device", "vsock", M(counters.vsock.queues.kicks), false },
	{ "mvm_vm_queue_kicks_total", NULL, NULL, "device", "rng", M(counters.rng.queues.kicks), false },
	{ "mvm_vm_interrupts_total", "counter", "Interrupts raised for the guest.", "device", "vsock", M(counters.vsock.queues.interrupts), false },
	{ "mvm_vm_interrupts_total", NULL, NULL, "device", "rng", M(counters.rng.queues.interrupts), false },
	{ "mvm_vm_interrupts_total", NULL, NULL, "device", "console", M(counters.console.interrupts), false },
};

#define D(field) offsetof(struct counters_disk, field)
static const struct family of_disk[] = {
	{ "mvm_vm_disk_requests_total", "counter", "Requests that were answered.", "op", "read", D(reads), false },
	{ "mvm_vm_disk_requests_total", NULL, NULL, "op", "write", D(writes), false },
	{ "mvm_vm_disk_requests_total", NULL, NULL, "op", "flush", D(flushes), false },
	{ "mvm_vm_disk_requests_total", NULL, NULL, "op", "discard", D(discards), false },
	{ "mvm_vm_disk_requests_total", NULL, NULL, "op", "zero", D(zeroes), false },
	{ "mvm_vm_disk_requests_total", NULL, NULL, "op", "other", D(others), false },
	{ "mvm_vm_disk_bytes_total", "counter", "Bytes of those requests.", "op", "read", D(read_bytes), false },
	{ "mvm_vm_disk_bytes_total", NULL, NULL, "op", "write", D(written_bytes), false },
	{ "mvm_vm_disk_bytes_total", NULL, NULL, "op", "discard", D(discarded_bytes), false },
	{ "mvm_vm_disk_bytes_total", NULL, NULL, "op", "zero", D(zeroed_bytes), false },
	{ "mvm_vm_disk_errors_total", "counter", "Requests that failed.", NULL, NULL, D(errors), false },
	{ "mvm_vm_disk_no_space_total", "counter", "Requests that failed for want of room on the host.", NULL, NULL, D(no_space), false },
	{ "mvm_vm_disk_throttled_total", "counter", "Requests that waited for a limit.", NULL, NULL, D(throttled), false },
	{ "mvm_vm_disk_throttled_seconds_total", "counter", "How long they waited.", NULL, NULL, D(throttled_ns), true },
	{ "mvm_vm_disk_kicks_total", "counter", "Wake-ups of the disk's threads.", NULL, NULL, D(queues.kicks), false },
	{ "mvm_vm_disk_interrupts_total", "counter", "Interrupts raised for the guest.", NULL, NULL, D(queues.interrupts), false },
};

#define N(field) offsetof(struct counters_net, field)
static const struct family of_net[] = {
	{ "mvm_vm_net_packets_total", "counter", "Packets of a network device.", "direction", "tx", N(tx_packets), false },
	{ "mvm_vm_net_packets_total", NULL, NULL, "direction", "rx", N(rx_packets), false },
	{ "mvm_vm_net_bytes_total", "counter", "Bytes of those packets.", "direction", "tx", N(tx_bytes), false },
	{ "mvm_vm_net_bytes_total", NULL, NULL, "direction", "rx", N(rx_bytes), false },
	{ "mvm_vm_net_dropped_total", "counter", "Packets that were dropped.", "why", "size", N(drops[0]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "offload", N(drops[1]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "mac", N(drops[2]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "address", N(drops[3]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "route", N(drops[4]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "router", N(drops[5]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "kind", N(drops[6]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "host", N(drops[7]), false },
	{ "mvm_vm_net_dropped_total", NULL, NULL, "why", "guest", N(rx_dropped), false },
	{ "mvm_vm_net_filtered_total", "counter", "Packets to addresses that the guest does not listen to.", NULL, NULL, N(rx_filtered), false },
	{ "mvm_vm_net_capture_dropped_total", "counter", "Packets that --pcap had no room for.", NULL, NULL, N(capture_dropped), false },
	{ "mvm_vm_net_kicks_total", "counter", "Wake-ups for its queues.", NULL, NULL, N(queues.kicks), false },
	{ "mvm_vm_net_interrupts_total", "counter", "Interrupts raised for the guest.", NULL, NULL, N(queues.interrupts), false },
};
/* clang-format on */

static const char *const exits[COUNTERS_EXITS] = {
	[COUNTERS_EXIT_MMIO_READ] = "mmio_read", [COUNTERS_EXIT_MMIO_WRITE] = "mmio_write",
	[COUNTERS_EXIT_PORT] = "port",           [COUNTERS_EXIT_KICKED] = "kicked",
	[COUNTERS_EXIT_FATAL] = "fatal",
};

/* ---- asking ---- */

static int collect(void *arg, int parent_fd, int fd, const char *id, bool alive)
{
	struct samples *samples = arg;
	struct attach_msg answer;
	struct sample *sample;
	_cleanup_fd_ int connection = -1;
	uint64_t now = text_now_ns(), left = now < samples->deadline_ns ? (samples->deadline_ns - now) / 1000000 : 0;
	int patience = left > ANSWER_MS ? ANSWER_MS : left < LEAST_MS ? LEAST_MS : (int)left;

	if (!alive)
		return 0;
	if (samples->n == samples->cap) {
		size_t cap = samples->cap ? samples->cap * 2 : 16;
		struct sample *grown = reallocarray(samples->v, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		samples->v = grown;
		samples->cap = cap;
	}
	sample = &samples->v[samples->n++];
	memset(sample, 0, sizeof(*sample));
	(void)snprintf(sample->id, sizeof(sample->id), "%s", id);
	state_dir_name(parent_fd, id, sample->name);
	text_harmless(sample->name);
	if (attach_open(fd, 0, &connection, NULL) == 0 &&
	    attach_request(connection, ATTACH_METRICS, NULL, 0, patience, &answer, NULL) == 0 &&
	    answer.hdr.len == sizeof(sample->m)) {
		memcpy(&sample->m, answer.payload, sizeof(sample->m));
		sample->up = true;
	}
	return 0;
}

/* ---- writing ---- */

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	(void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* `id` and `name` of a VM; what is more begins with a comma. */
static void begin(FILE *out, const char *name, const struct sample *sample)
{
	(void)fprintf(out, "%s{id=\"%s\",name=\"", name, sample->id);
	for (const char *p = sample->name; *p; p++) /* harmless: neither a feed nor a control byte */
		(void)fprintf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
	(void)fputc('"', out);
}

static void end(FILE *out, const struct family *family, const void *base)
{
	uint64_t value;

	memcpy(&value, (const char *)base + family->offset, sizeof(value));
	if (family->label)
		(void)fprintf(out, ",%s=\"%s\"", family->label, family->value);
	if (family->seconds)
		(void)fprintf(out, "} %llu.%09llu\n", (unsigned long long)value / 1000000000U,
			      (unsigned long long)value % 1000000000U);
	else
		(void)fprintf(out, "} %llu\n", (unsigned long long)value);
}

/* What a family has one of its lines for. */
enum thing { THING_VM, THING_DISK, THING_NET };

static uint64_t nets_of(const struct sample *sample)
{
	return sample->m.nets < VMM_NETS_MAX ? sample->m.nets : VMM_NETS_MAX;
}

static uint64_t disks_of(const struct sample *sample)
{
	return sample->m.disks < VMM_DISKS_MAX ? sample->m.disks : VMM_DISKS_MAX;
}

static uint64_t count(const struct sample *sample, enum thing of)
{
	return of == THING_VM ? 1 : of == THING_DISK ? disks_of(sample) : nets_of(sample);
}

static const void *base(const struct sample *sample, enum thing of, uint64_t thing)
{
	if (of == THING_DISK)
		return &sample->m.counters.disks[thing];
	return of == THING_NET ? (const void *)&sample->m.counters.nets[thing] : &sample->m;
}

/* All lines of a family stand together, as the format asks: of every VM, with every label. */
static void put_families(FILE *out, const struct samples *samples, const struct family *families, size_t n,
			 enum thing of)
{
	size_t next;

	for (size_t i = 0; i < n; i = next) {
		head(out, families[i].name, families[i].type, families[i].help);
		for (next = i + 1; next < n && !families[next].type; next++)
			;
		for (size_t vm = 0; vm < samples->n; vm++) {
			const struct sample *sample = &samples->v[vm];

			for (uint64_t thing = 0; sample->up && thing < count(sample, of); thing++)
				for (size_t line = i; line < next; line++) {
					begin(out, families[line].name, sample);
					if (of == THING_DISK)
						(void)fprintf(out, ",disk=\"vd%c\"", (char)('a' + thing));
					if (of == THING_NET)
						(void)fprintf(out, ",net=\"%u\"", (unsigned)thing);
					end(out, &families[line], base(sample, of, thing));
				}
		}
	}
}

/* Sums of numbers that a hostile VMM wrote stay where they are, rather than begin anew. */
static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void put_latency(FILE *out, const struct sample *sample, unsigned disk)
{
	static const char name[] = "mvm_vm_disk_latency_seconds";
	const struct counters_latency *latency = &sample->m.counters.latencies[disk];
	char letter = (char)('a' + disk);
	uint64_t sum = 0;

	for (unsigned i = 0; i < COUNTERS_BUCKETS; i++) {
		sum = add(sum, latency->buckets[i]);
		(void)fprintf(out, "%s_bucket{id=\"%s\",disk=\"vd%c\",le=\"", name, sample->id, letter);
		if (i < COUNTERS_BUCKETS - 1)
			(void)fprintf(out, "%u.%06u", (1U << i) / 1000000, (1U << i) % 1000000);
		else
			(void)fputs("+Inf", out);
		(void)fprintf(out, "\"} %llu\n", (unsigned long long)sum);
	}
	(void)fprintf(out, "%s_sum{id=\"%s\",disk=\"vd%c\"} %llu.%09llu\n", name, sample->id, letter,
		      (unsigned long long)latency->sum_ns / 1000000000U,
		      (unsigned long long)latency->sum_ns % 1000000000U);
	(void)fprintf(out, "%s_count{id=\"%s\",disk=\"vd%c\"} %llu\n", name, sample->id, letter,
		      (unsigned long long)sum);
}

static void put_latencies(FILE *out, const struct samples *samples)
{
	head(out, "mvm_vm_disk_latency_seconds", "histogram", "How long requests took, waiting for limits included.");
	for (size_t vm = 0; vm < samples->n; vm++)
		for (unsigned disk = 0; samples->v[vm].up && disk < disks_of(&samples->v[vm]); disk++)
			put_latency(out, &samples->v[vm], disk);
}

static void put_exits(FILE *out, const struct samples *samples)
{
	static const char name[] = "mvm_vm_exits_total";

	head(out, name, "counter", "Exits of vCPUs from the guest to the VMM.");
	for (size_t vm = 0; vm < samples->n; vm++)
		for (unsigned kind = 0; samples->v[vm].up && kind < COUNTERS_EXITS; kind++) {
			uint64_t sum = 0;

			for (unsigned i = 0; i < VMM_VCPUS_MAX; i++)
				sum = add(sum, samples->v[vm].m.counters.vcpus[i].exits[kind]);
			begin(out, name, &samples->v[vm]);
			(void)fprintf(out, ",reason=\"%s\"} %llu\n", exits[kind], (unsigned long long)sum);
		}
}

static void put_states(FILE *out, const struct samples *samples)
{
	static const char *const phases[] = { [ATTACH_BOOTING] = "booting",
					      [ATTACH_RUNNING] = "running",
					      [ATTACH_ENDING] = "ending",
					      [ATTACH_PAUSED] = "paused",
					      [ATTACH_RESTARTING] = "restarting" };
	const size_t n = sizeof(phases) / sizeof(phases[0]);
	unsigned long long counts[sizeof(phases) / sizeof(phases[0]) + 1] = { 0 };

	head(out, "mvm_vm_up", "gauge", "Whether the VM's supervisor answered.");
	for (size_t vm = 0; vm < samples->n; vm++) {
		begin(out, "mvm_vm_up", &samples->v[vm]);
		(void)fprintf(out, "} %d\n", samples->v[vm].up);
	}
	head(out, "mvm_vm_state", "gauge", "1 for the state that the VM is in.");
	for (size_t vm = 0; vm < samples->n; vm++) {
		uint64_t phase = samples->v[vm].up && samples->v[vm].m.phase < n ? samples->v[vm].m.phase : n;

		counts[phase]++;
		if (phase == n)
			continue;
		begin(out, "mvm_vm_state", &samples->v[vm]);
		(void)fprintf(out, ",state=\"%s\"} 1\n", phases[phase]);
	}
	head(out, "mvm_vms", "gauge", "VMs of this user, by state.");
	for (size_t i = 0; i < n; i++)
		(void)fprintf(out, "mvm_vms{state=\"%s\"} %llu\n", phases[i], counts[i]);
	(void)fprintf(out, "mvm_vms{state=\"unknown\"} %llu\n", counts[n]);
}

/* Of the host, what bounds how many VMs more it bears. */
static void put_host(FILE *out)
{
	static const char *const wanted[] = { "MemTotal:", "MemAvailable:" };
	unsigned long long kib[2] = { 0, 0 };
	FILE *meminfo = fopen("/proc/meminfo", "re");
	char line[128];

	while (meminfo && fgets(line, sizeof(line), meminfo))
		for (unsigned i = 0; i < 2; i++)
			if (!strncmp(line, wanted[i], strlen(wanted[i])))
				kib[i] = strtoull(line + strlen(wanted[i]), NULL, 10);
	if (meminfo)
		(void)fclose(meminfo);
	head(out, "mvm_build_info", "gauge", "The version of mvm that tells this.");
	(void)fprintf(out, "mvm_build_info{version=\"%s\"} 1\n", mvm_version());
	head(out, "mvm_host_cpus", "gauge", "CPUs of the host that are online.");
	(void)fprintf(out, "mvm_host_cpus %d\n", get_nprocs());
	head(out, "mvm_host_memory_bytes", "gauge", "Memory of the host.");
	(void)fprintf(out, "mvm_host_memory_bytes %llu\n", kib[0] * 1024);
	head(out, "mvm_host_memory_available_bytes", "gauge", "Memory that could be given to more.");
	(void)fprintf(out, "mvm_host_memory_available_bytes %llu\n", kib[1] * 1024);
}

int mvm_metrics(char **ret_text, struct mvm_error *err)
{
	struct samples samples = { .deadline_ns = text_now_ns() + PATIENCE_NS };
	char parent[PATH_MAX], *text = NULL;
	FILE *out = NULL;
	size_t size;
	int r = state_dir_parent(parent, err);

	if (r == 0)
		r = state_dir_each(parent, collect, &samples, err);
	if (r == 0 && (out = open_memstream(&text, &size))) {
		put_host(out);
		put_states(out, &samples);
		put_families(out, &samples, of_vm, sizeof(of_vm) / sizeof(of_vm[0]), THING_VM);
		put_exits(out, &samples);
		put_families(out, &samples, of_disk, sizeof(of_disk) / sizeof(of_disk[0]), THING_DISK);
		put_families(out, &samples, of_net, sizeof(of_net) / sizeof(of_net[0]), THING_NET);
		put_latencies(out, &samples);
	}
	free(samples.v);
	if (r < 0 && r != -ENOMEM)
		return r;
	if (!out || fclose(out) != 0) {
		free(text);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ret_text = text;
	return 0;
}
