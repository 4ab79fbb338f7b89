/* Layers of what a process may do: capabilities, seccomp, Landlock, limits, scheduling. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jail/landlock.h"
#include "jail/lsm.h"
#include "lib/inspect.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

void inspect_capabilities(struct inspect *in, struct inspect_row *row)
{
	static const struct {
		const char *field, *name;
	} sets[] = {
		{ "CapInh", "inheritable" }, { "CapPrm", "permitted" }, { "CapEff", "effective" },
		{ "CapBnd", "bounding" },    { "CapAmb", "ambient" },
	};
	json_object *all = json_object_new_object();
	char status[8192], value[32], held[128] = "";
	ssize_t n = inspect_read(in, status, sizeof(status), "/proc/%d/status", in->vmm);

	inspect_add(in->read, "capabilities", all);
	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		size_t len = strlen(held);

		if (!inspect_field(status, sets[i].field, value, sizeof(value)))
			(void)snprintf(value, sizeof(value), "?");
		inspect_add(all, sets[i].name, json_object_new_string(value));
		if (!*value || strspn(value, "0") != strlen(value))
			(void)snprintf(held + len, sizeof(held) - len, " %s %s", sets[i].name, value);
	}
	if (*held)
		inspect_found(row, MVM_LAYER_MISSING, "held:%s", held);
	else
		inspect_found(row, MVM_LAYER_OK, "none in any of the five sets");
}

void inspect_no_new_privs(struct inspect *in, struct inspect_row *row)
{
	char status[8192], value[32] = "";
	ssize_t n = inspect_read(in, status, sizeof(status), "/proc/%d/status", in->vmm);

	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	(void)inspect_field(status, "NoNewPrivs", value, sizeof(value));
	inspect_add(in->read, "no_new_privs", json_object_new_boolean(!strcmp(value, "1")));
	inspect_found(row, strcmp(value, "1") != 0 ? MVM_LAYER_MISSING : MVM_LAYER_OK,
		      strcmp(value, "1") != 0 ? "not set" : "set: no exec gives anything");
}

/*
 * A thread's kind, by what names it: the first is the I/O thread, vCPUs are vcpuN, kvm-… are the kernel's own (Linux
 * 6.13 has KVM's worker among the VMM's threads; JAIL_FILTERS), the rest a disk's.
 */
static enum jail_filter kind_of(const struct inspect *in, long tid, const char *name)
{
	if (tid == in->vmm)
		return JAIL_FILTER_IO;
	if (!strncmp(name, "kvm-", 4))
		return JAIL_FILTERS;
	return strncmp(name, "vcpu", 4) ? JAIL_FILTER_DISK : JAIL_FILTER_VCPU;
}

/* The filters that the supervisor itself came with, as from a container: its VMM has them, too. */
static unsigned inherited(const struct inspect *in)
{
	char status[8192], filters[16] = "0";

	if (inspect_read(in, status, sizeof(status), "/proc/%d/status", in->supervisor) >= 0)
		(void)inspect_field(status, "Seccomp_filters", filters, sizeof(filters));
	return (unsigned)strtoul(filters, NULL, 10);
}

void inspect_seccomp(struct inspect *in, struct inspect_row *row)
{
	unsigned n = 0, counts[JAIL_FILTERS + 1] = { 0 }, wanted = inherited(in) + 2;
	json_object *all = json_object_new_array();
	char path[PATH_MAX], odd[128] = "";
	struct dirent *entry;
	DIR *tasks = NULL;

	inspect_add(in->read, "threads", all);
	if (inspect_path(in, path, "/proc/%d/task", in->vmm) == 0)
		tasks = opendir(path);
	if (!tasks) {
		inspect_failed(row, -errno);
		return;
	}
	while (n < INSPECT_THREADS_MAX && (entry = readdir(tasks))) {
		char status[8192], name[64] = "", mode[16] = "", filters[16] = "", nnp[16] = "";
		long tid = strtol(entry->d_name, NULL, 10);
		json_object *one;

		if (tid <= 0 || inspect_read(in, status, sizeof(status), "/proc/%d/task/%ld/status", in->vmm, tid) < 0)
			continue; /* ended meanwhile */
		one = json_object_new_object();
		(void)inspect_field(status, "Name", name, sizeof(name));
		(void)inspect_field(status, "Seccomp", mode, sizeof(mode));
		(void)inspect_field(status, "Seccomp_filters", filters, sizeof(filters));
		(void)inspect_field(status, "NoNewPrivs", nnp, sizeof(nnp));
		text_harmless(name);
		inspect_add(one, "tid", json_object_new_int64(tid));
		inspect_add(one, "name", json_object_new_string(name));
		inspect_add(one, "kind", json_object_new_string(inspect_filter_name(kind_of(in, tid, name))));
		inspect_add(one, "seccomp", json_object_new_int((int)strtol(mode, NULL, 10)));
		inspect_add(one, "filters", json_object_new_int((int)strtol(filters, NULL, 10)));
		(void)json_object_array_add(all, one);
		counts[kind_of(in, tid, name)]++;
		n++;
		/* Linux before 5.9 does not count them. */
		if (strcmp(mode, "2") != 0 || (*filters && strtoul(filters, NULL, 10) != wanted) ||
		    strcmp(nnp, "1") != 0)
			(void)snprintf(odd, sizeof(odd), "thread %ld (%.15s): mode %.8s, %.8s filters", tid, name, mode,
				       filters);
	}
	(void)closedir(tasks);
	if (*odd || !n)
		inspect_found(row, MVM_LAYER_MISSING, "%s", *odd ? odd : "no thread was seen");
	else
		inspect_found(row, MVM_LAYER_OK,
			      "mode 2 with %u filters each: I/O thread, %u vCPUs, %u threads of disks", wanted,
			      counts[JAIL_FILTER_VCPU], counts[JAIL_FILTER_DISK]);
}

static json_object *handed_over(const struct jail_filters_shown *shown)
{
	json_object *all = json_object_new_object();

	inspect_add(all, "sha256", json_object_new_string(shown->sha256));
	for (unsigned i = 0; i < JAIL_FILTERS; i++) {
		json_object *one = json_object_new_object();

		inspect_add(one, "instructions", json_object_new_int((int)shown->instructions[i]));
		inspect_add(one, "calls", json_object_new_int((int)shown->calls[i]));
		inspect_add(one, "sha256", json_object_new_string(shown->programs[i]));
		inspect_add(all, inspect_filter_name((enum jail_filter)i), one);
	}
	return all;
}

/* Which of the programs handed over this is; JAIL_FILTERS: none of them. */
static unsigned which(const struct jail_filters_shown *shown, const char *sha256)
{
	unsigned i = 0;

	while (i < JAIL_FILTERS && strcmp(shown->programs[i], sha256) != 0)
		i++;
	return i;
}

void inspect_filters(struct inspect *in, struct inspect_row *row)
{
	const struct jail_filters_shown *shown = &in->recorded.filters;
	const struct inspect_dump *dump = &in->dump;
	json_object *all = NULL;
	unsigned differ = 0, others = inherited(in);

	inspect_add(in->read, "filters_handed_over", handed_over(shown));
	for (unsigned i = 0; dump->error == 0 && i < dump->n; i++) {
		unsigned seen = 0, unknown = 0;

		all = all ? all : json_object_new_array();
		for (unsigned f = 0; f < dump->threads[i].n; f++) {
			const char *sha256 = dump->threads[i].filters[f].sha256;
			unsigned is = which(shown, sha256);
			json_object *one = json_object_new_object();

			seen |= 1U << is;
			unknown += is == JAIL_FILTERS;
			inspect_add(one, "tid", json_object_new_int64(dump->threads[i].tid));
			inspect_add(one, "instructions",
				    json_object_new_int((int)dump->threads[i].filters[f].instructions));
			inspect_add(one, "sha256", json_object_new_string(sha256));
			inspect_add(one, "program",
				    is < JAIL_FILTERS
					    ? json_object_new_string(inspect_filter_name((enum jail_filter)is))
					    : NULL);
			(void)json_object_array_add(all, one);
		}
		/* The start-up filter and that of a kind, both, beside what the supervisor came with: nothing else. */
		seen &= ~(1U << JAIL_FILTERS);
		if (unknown != others || dump->threads[i].n != others + 2 || !(seen & (1U << JAIL_FILTER_START)) ||
		    seen == 1U << JAIL_FILTER_START)
			differ++;
	}
	inspect_add(in->read, "filters_dumped", all);
	if (dump->error == -EACCES || dump->error == -EPERM)
		inspect_found(row, MVM_LAYER_UNREADABLE,
			      "handed over: %.16s…, %u, %u, %u and %u instructions; in force: %s", shown->sha256,
			      shown->instructions[0], shown->instructions[1], shown->instructions[2],
			      shown->instructions[3], INSPECT_UNREADABLE);
	else if (dump->error)
		inspect_failed(row, dump->error);
	else if (differ)
		inspect_found(row, MVM_LAYER_MISSING, "DIFFERS from what was handed over, in %u threads of %u", differ,
			      dump->n);
	else
		inspect_found(row, MVM_LAYER_OK, "%u threads dumped, equal to what was handed over: %.16s…", dump->n,
			      shown->sha256);
}

void inspect_landlock(struct inspect *in, struct inspect_row *row)
{
	const struct inspect_recorded *rec = &in->recorded;
	bool net = !strcmp(row->layer.name, "landlock-net");
	json_object *all;

	if (!json_object_object_get_ex(in->read, "landlock", &all)) {
		all = json_object_new_object();
		inspect_add(in->read, "landlock", all);
		inspect_add(all, "source", json_object_new_string(INSPECT_RECORDED_WORDS));
		inspect_add(all, "abi", json_object_new_int(rec->landlock_abi));
		inspect_add(all, "fs", json_object_new_boolean(rec->landlock_fs));
		inspect_add(all, "net", json_object_new_boolean(rec->landlock_net));
	}
	if (net ? rec->landlock_net : rec->landlock_fs)
		inspect_found(row, MVM_LAYER_OK, INSPECT_RECORDED_WORDS ": ABI %d, %s", rec->landlock_abi,
			      net ? "no TCP" : "no file by name");
	else
		inspect_found(row, MVM_LAYER_MISSING, INSPECT_RECORDED_WORDS ": ABI %d", rec->landlock_abi);
}

/* A line of proc_pid_limits(5): the name, then soft and hard limit; UINT64_MAX: unlimited. */
static bool limit_of(const char *text, const char *name, uint64_t *ret_soft, uint64_t *ret_hard)
{
	const char *at = strstr(text, name);
	char soft[32], hard[32];

	if (!at || sscanf(at + strlen(name), " %31s %31s", soft, hard) != 2)
		return false;
	*ret_soft = *soft == 'u' ? UINT64_MAX : strtoull(soft, NULL, 10);
	*ret_hard = *hard == 'u' ? UINT64_MAX : strtoull(hard, NULL, 10);
	return true;
}

static json_object *limit_json(uint64_t value)
{
	return value == UINT64_MAX ? json_object_new_string("unlimited") : json_object_new_uint64(value);
}

void inspect_limits(struct inspect *in, struct inspect_row *row)
{
	const struct {
		const char *name, *line;
		uint64_t value;
	} limits[] = {
		{ "core", "Max core file size", 0 },
		{ "nofile", "Max open files", in->recorded.open_files },
		{ "fsize", "Max file size", in->recorded.file_size },
		{ "nproc", "Max processes", in->recorded.processes },
		{ "as", "Max address space", in->recorded.address_space },
		{ "memlock", "Max locked memory", 0 },
		{ "msgqueue", "Max msgqueue size", 0 },
		{ "nice", "Max nice priority", 0 },
		{ "rtprio", "Max realtime priority", 0 },
	};
	json_object *all = json_object_new_object();
	char text[4096], odd[128] = "";
	ssize_t n = inspect_read(in, text, sizeof(text), "/proc/%d/limits", in->vmm);

	inspect_add(in->read, "limits", all);
	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		uint64_t soft, hard;

		if (!limit_of(text, limits[i].line, &soft, &hard)) {
			(void)snprintf(odd, sizeof(odd), "%s is not told", limits[i].name);
			continue;
		}
		inspect_add(all, limits[i].name, limit_json(hard));
		if (soft != limits[i].value || hard != limits[i].value)
			(void)snprintf(odd, sizeof(odd), "%s is %llu, wanted %llu", limits[i].name,
				       (unsigned long long)hard, (unsigned long long)limits[i].value);
	}
	if (*odd)
		inspect_found(row, MVM_LAYER_MISSING, "%s", odd);
	else
		inspect_found(row, MVM_LAYER_OK, "address space %llu MiB, %llu descriptors, %llu processes, no core",
			      (unsigned long long)in->recorded.address_space >> 20,
			      (unsigned long long)in->recorded.open_files, (unsigned long long)in->recorded.processes);
}

/* ---- what no required layer is ---- */

/*
 * The kernel shows nobody whether a process can be dumped: the owner of its /proc files would tell, were not
 * uid 0 of its user namespace the process's own uid.
 */
void inspect_undumpable(struct inspect *in, struct inspect_row *row)
{
	(void)in;
	inspect_found(row, MVM_LAYER_OK,
		      INSPECT_RECORDED_WORDS ": the VMM's first act, or it ends; core size 0 is read back");
}

void inspect_oom_score(struct inspect *in, struct inspect_row *row)
{
	char text[32];
	ssize_t n = inspect_read(in, text, sizeof(text), "/proc/%d/oom_score_adj", in->vmm);

	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	inspect_add(in->read, "oom_score_adj", json_object_new_int((int)strtol(text, NULL, 10)));
	inspect_found(row, strtol(text, NULL, 10) > 0 ? MVM_LAYER_OK : MVM_LAYER_WEAK, "%s%s", text,
		      strtol(text, NULL, 10) > 0 ? ": a VM goes before what runs it" : "");
}

void inspect_core_scheduling(struct inspect *in, struct inspect_row *row)
{
	char cookie[24];

	if (in->core_error == -EACCES || in->core_error == -EPERM) {
		inspect_add(in->read, "core_cookie", NULL);
		inspect_failed(row, in->core_error);
		return;
	}
	(void)snprintf(cookie, sizeof(cookie), "0x%llx", (unsigned long long)in->core_cookie);
	inspect_add(in->read, "core_cookie", in->core_error ? NULL : json_object_new_string(cookie));
	if (in->core_error)
		inspect_found(row, MVM_LAYER_MISSING, "%s",
			      in->core_error == -ENODEV ? "no CPU here has hyper-threads that are on"
							: "this kernel has none");
	else
		inspect_found(row, in->core_cookie ? MVM_LAYER_OK : MVM_LAYER_MISSING,
			      in->core_cookie ? "a cookie of its own: no sibling hyper-thread runs another VM"
					      : "no cookie");
}

/* A label as "profile (mode)"; of other security modules, whatever they show there. */
void inspect_lsm(struct inspect *in, struct inspect_row *row)
{
	char label[256];
	ssize_t n = inspect_read(in, label, sizeof(label), "/proc/%d/attr/apparmor/current", in->vmm);

	if (n == -ENOENT || n == -EINVAL) /* AppArmor is off, or not built in */
		n = inspect_read(in, label, sizeof(label), "/proc/%d/attr/current", in->vmm);
	label[strcspn(label, "\n")] = '\0';
	text_harmless(label);
	inspect_add(in->read, "lsm", n > 0 && *label ? json_object_new_string(label) : NULL);
	if (n == -EACCES || n == -EPERM)
		inspect_failed(row, (int)n);
	else if (n <= 0 || !*label)
		inspect_found(row, MVM_LAYER_MISSING, "no label: no AppArmor here");
	else if (lsm_holds(label))
		inspect_found(row, MVM_LAYER_OK, "AppArmor: %s", label);
	else if (strstr(label, "unconfined") || strstr(label, "(complain)"))
		inspect_found(row, MVM_LAYER_MISSING, "%.100s: nothing is forbidden", label);
	else if (in->recorded.missing & JAIL_LAYER_LSM)
		inspect_found(row, MVM_LAYER_WEAK, "%.100s: what confines its caller, not mvm's own profile", label);
	else
		inspect_found(row, MVM_LAYER_MISSING, "%.100s: not mvm's own profile", label);
}
