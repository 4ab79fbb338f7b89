/*
 * Counts the system calls of every VMM's threads. Runs in the kernel, at its tracepoints; watch.c loads it.
 *
 * The kernel asks seccomp first: a call that a filter refuses never comes to sys_enter. One that it kills for is
 * seen by the signal.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "watch.h"

#define OWN    __attribute__((preserve_access_index)) /* the running kernel's offsets, whatever they are */
#define SIGSYS 31

/* What is read of the kernel's own. */
typedef struct {
	int counter;
} OWN atomic_t;

struct seccomp {
	atomic_t filter_count;
} OWN;

struct task_struct {
	struct seccomp seccomp;
	struct task_struct *real_parent;
} OWN;

struct pt_regs {
	unsigned long di, si, dx, r10, r8, r9;
} OWN;

/* siginfo of a SIGSYS: signal(7), and the same to programs. */
struct sigsys {
	int signo, error, code;
	void *addr;
	int call;
	unsigned arch;
};

/* A bit for each argument that is looked at, by call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WATCH_CALLS);
	__type(key, __u32);
	__type(value, __u32);
} looked_at SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WATCH_ENTRIES);
	__type(key, struct watch_key);
	__type(value, __u64);
} seen SEC(".maps");

const char gpl[] SEC("license") = "GPL";

static int digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Whose call it is; false: no VMM's, or of one that is not yet behind a filter. */
static int whose(struct watch_key *key)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	int filters, inherited; /* from a container, say: then the supervisor has them, too, and no other */
	char name[16];

	bpf_get_current_comm(name, sizeof(name));
	if (name[0] == 'm' && name[1] == 'v' && name[2] == 'm' && name[3] == '-' && name[4] == 'v' && name[5] == 'm' &&
	    name[6] == 'm' && name[7] == 0)
		key->thread = WATCH_IO;
	else if (name[0] == 'v' && name[1] == 'c' && name[2] == 'p' && name[3] == 'u' && digit(name[4]))
		key->thread = WATCH_VCPU;
	else if (name[0] == 'b' && name[1] == 'l' && name[2] == 'k' && digit(name[3]))
		key->thread = WATCH_DISK;
	else
		return 0;
	filters = BPF_CORE_READ(task, seccomp.filter_count.counter);
	inherited = BPF_CORE_READ(task, real_parent, seccomp.filter_count.counter);
	key->filters = (__u32)(filters - inherited);
	return filters > inherited;
}

static void count(const struct watch_key *key)
{
	__u64 *times = bpf_map_lookup_elem(&seen, key), once = 1;

	if (!times) {
		bpf_map_update_elem(&seen, key, &once, BPF_NOEXIST);
		return;
	}
	__sync_fetch_and_add(times, 1);
}

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct watch_key key = { .call = (__u32)ctx->args[1] };
	__u32 *which;

	if (!whose(&key))
		return 0;
	which = bpf_map_lookup_elem(&looked_at, &key.call);
	if (which && *which & 1)
		key.args[0] = (__u32)BPF_CORE_READ(regs, di);
	if (which && *which & 2)
		key.args[1] = (__u32)BPF_CORE_READ(regs, si);
	if (which && *which & 4)
		key.args[2] = (__u32)BPF_CORE_READ(regs, dx);
	if (which && *which & 8)
		key.args[3] = (__u32)BPF_CORE_READ(regs, r10);
	if (which && *which & 16)
		key.args[4] = (__u32)BPF_CORE_READ(regs, r8);
	if (which && *which & 32)
		key.args[5] = (__u32)BPF_CORE_READ(regs, r9);
	count(&key);
	return 0;
}

SEC("raw_tp/signal_generate")
int on_signal(struct bpf_raw_tracepoint_args *ctx)
{
	struct watch_key key = { .refused = 1 };
	struct sigsys info = { 0 };

	if (ctx->args[0] != SIGSYS || !whose(&key))
		return 0;
	bpf_probe_read_kernel(&info, sizeof(info), (void *)ctx->args[1]);
	key.call = (__u32)info.call;
	count(&key);
	return 0;
}
