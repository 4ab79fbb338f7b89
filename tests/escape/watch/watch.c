/*
 * Runs a command and compares the system calls of every VMM in it with the seccomp table.
 *   watch WATCH.BPF.O COMMAND [ARGUMENT…]        needs root; speaks TAP, with a line for each row of the table
 *
 * A thread with one filter builds the VM, with two it runs, as its kind; before the first there is nothing to compare.
 * The status is 0 if the command's was and both agree.
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "jail/seccomp_table.h"
#include "watch.h"

struct call {
	struct watch_key key;
	uint64_t times;
};

static const char *const names[JAIL_FILTERS] = { "start", "io", "vcpu", "disk" };

static void fail(const char *what)
{
	(void)fprintf(stderr, "watch: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* The kernel's half keeps an argument only where a row has a condition on it that is no bound. */
static void look_at_arguments(int map)
{
	const struct jail_rule *rule;

	for (size_t i = 0; (rule = jail_rule_at(i)); i++) {
		uint32_t call = (uint32_t)rule->call, which = 0;

		if (bpf_map_lookup_elem(map, &call, &which) < 0)
			fail(rule->name);
		for (unsigned k = 0; k < JAIL_CONDITIONS; k++)
			if (rule->conditions[k].test == TEST_MASKED)
				which |= 1U << rule->conditions[k].arg;
		if (bpf_map_update_elem(map, &call, &which, BPF_ANY) < 0)
			fail(rule->name);
	}
}

static int map_of(struct bpf_object *object, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);

	if (fd < 0)
		fail(name);
	return fd;
}

static struct bpf_object *start_watching(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program = NULL;

	if (!object || bpf_object__load(object) < 0)
		fail(path);
	look_at_arguments(map_of(object, "looked_at"));
	while ((program = bpf_object__next_program(object, program)))
		if (!bpf_program__attach(program))
			fail(bpf_program__name(program));
	return object;
}

static int run(char **command)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		(void)execvp(command[0], command);
		fail(command[0]);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static size_t fetch(int map, struct call *calls)
{
	struct watch_key *last = NULL;
	size_t n = 0;

	while (n < WATCH_ENTRIES && bpf_map_get_next_key(map, last, &calls[n].key) == 0) {
		if (bpf_map_lookup_elem(map, &calls[n].key, &calls[n].times) < 0)
			fail("the map");
		last = &calls[n++].key;
	}
	return n;
}

/* ---- both directions ---- */

/* The program that a call had to pass. */
static enum jail_filter program_of(const struct watch_key *key)
{
	static const enum jail_filter kinds[WATCH_THREADS] = { JAIL_FILTER_IO, JAIL_FILTER_VCPU, JAIL_FILTER_DISK };

	return key->filters == 1 ? JAIL_FILTER_START : kinds[key->thread];
}

/* As seccomp.c has it: the start-up filter lies below all others. */
static bool covers(const struct jail_rule *rule, const struct call *call)
{
	enum jail_filter kind = program_of(&call->key);

	if (call->key.call != (uint32_t)rule->call || (kind != JAIL_FILTER_START && !(rule->threads & (1U << kind))))
		return false;
	for (unsigned i = 0; i < JAIL_CONDITIONS; i++) {
		const struct jail_condition *c = &rule->conditions[i];

		if (c->test == TEST_MASKED && (call->key.args[c->arg] & c->mask) != c->value)
			return false;
	}
	return true;
}

static bool has_row(const struct call *call)
{
	const struct jail_rule *rule;

	for (size_t i = 0; (rule = jail_rule_at(i)); i++)
		if (covers(rule, call))
			return true;
	return false;
}

static const char *name_of(uint32_t call, char *buf, size_t size)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)call);

	(void)snprintf(buf, size, "%s", name ? name : "a call without a name");
	free(name);
	return buf;
}

static bool every_call_has_a_row(const struct call *calls, size_t n)
{
	bool good = true;
	char name[64];

	for (size_t i = 0; i < n; i++) {
		const struct watch_key *key = &calls[i].key;
		enum jail_filter kind = program_of(key);

		if (!key->refused && has_row(&calls[i]))
			continue;
		good = false;
		(void)printf("# %s: %s (%" PRIu32 "; %" PRIx32 " %" PRIx32 " %" PRIx32 " %" PRIx32 "), %" PRIu64
			     " times: %s\n",
			     names[kind], name_of(key->call, name, sizeof(name)), key->call, key->args[0], key->args[1],
			     key->args[2], key->args[3], calls[i].times, key->refused ? "killed" : "no row");
	}
	(void)printf("%s - seen: every call has a row\n", good ? "ok" : "not ok");
	return good;
}

static bool row_was_seen(const struct jail_rule *rule, enum jail_filter kind, const struct call *calls, size_t n)
{
	uint64_t times = 0;

	for (size_t i = 0; i < n; i++)
		if (!calls[i].key.refused && program_of(&calls[i].key) == kind && covers(rule, &calls[i]))
			times += calls[i].times;
	(void)printf("%s - seen: %s: %s (%s): %" PRIu64 " times\n", times ? "ok" : "not ok", names[kind], rule->name,
		     rule->why, times);
	return times > 0;
}

static bool every_row_was_seen(const struct call *calls, size_t n)
{
	const struct jail_rule *rule;
	bool good = true;

	for (unsigned kind = 0; kind < JAIL_FILTERS; kind++)
		for (size_t i = 0; (rule = jail_rule_at(i)); i++)
			if (kind == JAIL_FILTER_START ? rule->threads == ON_START : (rule->threads & (1U << kind)) != 0)
				good &= row_was_seen(rule, (enum jail_filter)kind, calls, n);
	return good;
}

/* What vmm/jail/README.md counts: calls, whatever their arguments. */
static void count_calls(const struct call *calls, size_t n)
{
	for (unsigned kind = 0; kind < JAIL_FILTERS; kind++) {
		bool known[WATCH_CALLS] = { false };
		unsigned different = 0;
		uint64_t times = 0;
		char name[64];

		for (size_t i = 0; i < n; i++) {
			uint32_t call = calls[i].key.call;

			if (calls[i].key.refused || program_of(&calls[i].key) != kind)
				continue;
			times += calls[i].times;
			if (call < WATCH_CALLS && !known[call]) {
				known[call] = true;
				different++;
			}
		}
		(void)printf("# %s: %u calls, %" PRIu64 " times:", names[kind], different, times);
		for (uint32_t call = 0; call < WATCH_CALLS; call++)
			if (known[call])
				(void)printf(" %s", name_of(call, name, sizeof(name)));
		(void)printf("\n");
	}
}

int main(int argc, char **argv)
{
	struct bpf_object *object;
	struct call *calls;
	size_t n;
	int status;
	bool good;

	if (argc < 3) {
		(void)fprintf(stderr, "usage: watch WATCH.BPF.O COMMAND [ARGUMENT…]\n");
		return 2;
	}
	calls = calloc(WATCH_ENTRIES, sizeof(*calls));
	if (!calls)
		fail("memory");
	object = start_watching(argv[1]);
	status = run(argv + 2);
	n = fetch(map_of(object, "seen"), calls);
	good = every_call_has_a_row(calls, n);
	good &= every_row_was_seen(calls, n);
	count_calls(calls, n);
	if (n >= WATCH_ENTRIES) {
		(void)printf("not ok - seen: the map is full\n");
		good = false;
	}
	bpf_object__close(object);
	free(calls);
	return status ? status : !good;
}
