/* jail: the table's promises, layers, the host's settings, uids; the jail itself is proved by tests/escape. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "jail/ids.h"
#include "jail/layers.h"
#include "jail/lsm.h"
#include "jail/scope.h"
#include "jail/seccomp.h"
#include "jail/seccomp_table.h"
#include "lib/host_conf.h"

/* ---- the table ---- */

static unsigned calls_of(enum jail_filter kind, unsigned needs)
{
	const struct jail_rule *rule;
	int seen[128], n = 0;

	for (size_t i = 0; (rule = jail_rule_at(i)); i++) {
		bool known = false;

		if (!(rule->threads & (1U << kind)) || (rule->needs && !(rule->needs & needs)))
			continue;
		for (int k = 0; k < n; k++)
			known |= seen[k] == rule->call;
		if (!known)
			seen[n++] = rule->call;
	}
	return (unsigned)n;
}

static void test_table(void **state)
{
	static const int never[] = { SYS_open,           SYS_openat,
				     SYS_execve,         SYS_execveat,
				     SYS_fork,           SYS_vfork,
				     SYS_clone3,         SYS_ptrace,
				     SYS_kill,           SYS_socket,
				     SYS_connect,        SYS_bind,
				     SYS_sendmsg,        SYS_sendto,
				     SYS_mount,          SYS_unshare,
				     SYS_setns,          SYS_bpf,
				     SYS_io_uring_setup, SYS_userfaultfd,
				     SYS_keyctl,         SYS_perf_event_open,
				     SYS_memfd_create,   SYS_process_vm_writev,
				     SYS_pidfd_getfd,    SYS_setuid };
	const struct jail_rule *rule;

	(void)state;
	/* What the project promises: README, "How safe". */
	assert_int_equal(calls_of(JAIL_FILTER_VCPU, ~0U), 5);
	assert_int_equal(calls_of(JAIL_FILTER_IO, ~0U), 20);
	assert_int_equal(calls_of(JAIL_FILTER_DISK, ~0U), 13);
	for (size_t i = 0; (rule = jail_rule_at(i)); i++) {
		assert_true(rule->why && *rule->why && rule->name);
		for (size_t k = 0; k < sizeof(never) / sizeof(never[0]); k++)
			assert_int_not_equal(rule->call, never[k]);
		/* Nothing is executable; every ioctl is named. */
		if (rule->call == SYS_mmap || rule->call == SYS_mprotect)
			assert_true(rule->conditions[0].test == TEST_MASKED && rule->conditions[0].arg == 2 &&
				    rule->conditions[0].mask == PROT_EXEC && rule->conditions[0].value == 0);
		if (rule->call == SYS_ioctl || rule->call == SYS_fcntl || rule->call == SYS_futex ||
		    rule->call == SYS_prctl || rule->call == SYS_clone)
			assert_int_equal(rule->conditions[0].test, TEST_MASKED);
	}
}

static void test_papers(void **state)
{
	struct jail_papers_options all = { .needs = ~0U, .flags = JAIL_LANDLOCK_FS }, none = { 0 };
	struct jail_filters_shown shown, again, less;
	struct jail_papers papers;
	struct mvm_error err;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(seccomp_make_papers(&all, &fd, &shown, &err), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, &papers, sizeof(papers), 0), sizeof(papers));
	assert_int_equal(papers.magic, JAIL_PAPERS_MAGIC);
	assert_int_equal(papers.size, st.st_size);
	assert_int_equal(papers.flags, JAIL_LANDLOCK_FS);
	for (unsigned i = 0; i < JAIL_FILTERS; i++)
		assert_true(papers.filters[i].count > 0 && papers.filters[i].count == shown.instructions[i]);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	for (unsigned i = JAIL_FILTER_IO; i < JAIL_FILTERS; i++) /* what inspect shows is what README counts */
		assert_int_equal(shown.calls[i], calls_of((enum jail_filter)i, ~0U));
	(void)close(fd);
	/* The same VM, the same digest; a VM with fewer devices may do less. */
	assert_int_equal(seccomp_make_papers(&all, &fd, &again, &err), 0);
	(void)close(fd);
	assert_string_equal(shown.sha256, again.sha256);
	assert_int_equal(seccomp_make_papers(&none, &fd, &less, &err), 0);
	(void)close(fd);
	assert_true(less.calls[JAIL_FILTER_IO] < shown.calls[JAIL_FILTER_IO]);
	assert_string_not_equal(shown.sha256, less.sha256);
}

/* ---- layers, settings ---- */

static void test_layers(void **state)
{
	struct mvm_error err;
	unsigned layers = 0;

	(void)state;
	assert_int_equal(jail_layers_parse("x", "cgroup", &layers, &err), 0);
	assert_int_equal(layers, JAIL_LAYER_CGROUP);
	assert_int_equal(jail_layers_parse("x", "landlock-net,cgroup,landlock", &layers, &err), 0);
	assert_int_equal(layers, JAIL_LAYER_CGROUP | JAIL_LAYER_LANDLOCK | JAIL_LAYER_LANDLOCK_NET);
	assert_int_equal(jail_layers_parse("x", "lsm", &layers, &err), 0);
	assert_int_equal(layers, JAIL_LAYER_LSM);
	for (unsigned bit = 0; bit < 4; bit++) {
		assert_int_equal(jail_layers_parse("x", jail_layer_name(bit), &layers, &err), 0);
		assert_int_equal(layers, 1U << bit);
	}
	assert_null(jail_layer_name(4));
	static const char *const bad[] = { "",          ",",        "cgroup,", "seccomp", "Cgroup", "cgroup landlock",
					   "landlock-", "apparmor", "lsm,",    "ls" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(jail_layers_parse("x", bad[i], &layers, &err), -EINVAL);
}

static void test_labels(void **state)
{
	static const char *const good[] = { "mvm-vmm (enforce)", "mvm-vmm (enforce)\n",
					    "unconfined//&mvm-vmm (enforce)\n", "a//&mvm-vmm//&b (enforce)\n" };
	static const char *const bad[] = { "",
					   "\n",
					   "unconfined\n",
					   "mvm-vmm\n",
					   "mvm-vmm (complain)\n",
					   "mvm-vmm//&a (mixed)\n",
					   "mvm-vmm (unconfined)\n",
					   "mvm-vmm2 (enforce)\n",
					   "mvm-vm (enforce)\n",
					   "a (enforce)\n",
					   "//& (enforce)",
					   "a//mvm-vmm (enforce)\n",
					   " (enforce)mvm-vmm" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(lsm_holds(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (lsm_holds(bad[i]))
			fail_msg("'%s' holds", bad[i]);
	/* Whatever this host has; nothing of ours is changed by asking. */
	for (unsigned i = 0; i < 2; i++)
		assert_true(lsm_profile() <= 0);
	assert_true(access("/proc/self", F_OK) == 0 && waitpid(-1, NULL, WNOHANG | (int)__WALL) == -1);
}

static void test_host_conf(void **state)
{
	static const struct {
		const char *text, *says; /* says NULL: fine */
		unsigned may_lack;
		uint32_t first, count;
	} cases[] = {
		{ "", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ "# nothing\n\n  \t\n", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ "allow-missing =\n", NULL, 0, IDS_FIRST, IDS_COUNT },
		{ " allow-missing=", NULL, 0, IDS_FIRST, IDS_COUNT },
		{ "allow-missing = \t # nothing\n", NULL, 0, IDS_FIRST, IDS_COUNT },
		{ "allow-missing = cgroup\nallow-missing =\n", NULL, 0, IDS_FIRST, IDS_COUNT },
		{ "allow-missing =\nallow-missing = lsm,cgroup\n", NULL, JAIL_LAYER_LSM | JAIL_LAYER_CGROUP, IDS_FIRST,
		  IDS_COUNT },
		{ "allow-missing = ,\n", "is no layer", 0, 0, 0 },
		{ "allow-missing = cgroup, # why\n", "is no layer", 0, 0, 0 },
		{ "allow-missing=landlock-net\nuid-range = 5000-5000\n", NULL, JAIL_LAYER_LANDLOCK_NET, 5000, 1 },
		{ "  uid-range\t=\t2000-2999  # hundred\r\n", NULL, JAIL_LAYER_LSM, 2000, 1000 },
		{ "uid-range = 0-5\n", "uid-range", 0, 0, 0 },
		{ "uid-range = 9-5\n", "uid-range", 0, 0, 0 },
		{ "uid-range = 5000\n", "uid-range", 0, 0, 0 },
		{ "uid-range = 5000-99999999999\n", "uid-range", 0, 0, 0 },
		{ "events = journald\n", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ "events =\n", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ "events = file:/var/log/mvm.json # all\n", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ "\nevents = nowhere\n", "line 2", 0, 0, 0 },
		{ "share-kernel = no\n", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ " share-kernel=yes # all are mine\n", NULL, JAIL_LAYER_LSM, IDS_FIRST, IDS_COUNT },
		{ "\nshare-kernel =\n", "line 2: share-kernel: give yes or no", 0, 0, 0 },
		{ "share-kernel = 1\n", "line 1: share-kernel", 0, 0, 0 },
		{ "x = y\n", "'x' is no setting", 0, 0, 0 },
		{ "\nallow-missing\n", "line 2", 0, 0, 0 },
	};
	char path[] = "/tmp/mvm-conf-XXXXXX";
	struct host_conf conf;
	struct mvm_error err;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(host_conf_read("/nonexistent/mvm.conf", &conf, &err), 0);
	assert_int_equal(conf.may_lack, JAIL_LAYERS_DEFAULT);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int r;

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, cases[i].text, strlen(cases[i].text), 0), strlen(cases[i].text));
		r = host_conf_read(path, &conf, &err);
		if (geteuid() != 0) {
			assert_int_equal(r, -EPERM); /* not root's */
			continue;
		}
		if (cases[i].says) {
			assert_true(r < 0);
			if (!strstr(err.text, cases[i].says))
				fail_msg("case %zu says %s", i, err.text);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(conf.may_lack, cases[i].may_lack);
		assert_int_equal(conf.uid_first, cases[i].first);
		assert_int_equal(conf.uid_count, cases[i].count);
		assert_int_equal(conf.share_kernel, strstr(cases[i].text, "share-kernel=yes") != NULL);
	}
	assert_int_equal(fchmod(fd, 0666), 0);
	assert_int_equal(host_conf_read(path, &conf, &err), -EPERM);
	(void)close(fd);
	(void)unlink(path);
}

/* ---- uids ---- */

static void test_uids(void **state)
{
	char folder[] = "/tmp/mvm-uids-XXXXXX", path[64], name[80];
	struct jail_ids a, b, c;
	struct mvm_error err;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/uids", folder);
	assert_int_equal(ids_take(path, 5000, 2, 7, &a, &err), 0);
	assert_int_equal(ids_take(path, 5000, 2, 7, &b, &err), 0);
	assert_int_equal(a.uid, 5001); /* 7 mod 2 */
	assert_int_equal(b.uid, 5000);
	assert_int_equal(a.gid, a.uid);
	assert_int_equal(ids_take(path, 5000, 2, 0, &c, &err), -EAGAIN);
	assert_non_null(strstr(err.text, "uid-range"));
	ids_release(&a);
	assert_int_equal(ids_take(path, 5000, 2, 0, &c, &err), 0);
	assert_int_equal(c.uid, 5001);
	ids_release(&c);
	ids_release(&b);
	ids_release(&b); /* once is enough */
	/* What a dead supervisor left: the file, without a lock on it. */
	assert_int_equal(ids_take(path, 5000, 2, 0, &c, &err), 0);
	assert_int_equal(ids_take(path, 5000, 2, 0, &b, &err), 0);
	assert_int_equal(close(b.lock) | close(b.folder), 0);
	ids_reclaim(path);
	(void)snprintf(name, sizeof(name), "%s/5000", path);
	assert_int_equal(access(name, F_OK), 0); /* c lives */
	(void)snprintf(name, sizeof(name), "%s/5001", path);
	assert_int_equal(access(name, F_OK), -1);
	ids_release(&c);
	assert_int_equal(rmdir(path), 0); /* nothing is left in it */
	/* Somebody else's link or folder. */
	assert_int_equal(symlink("/tmp", path), 0);
	assert_int_equal(ids_take(path, 5000, 2, 0, &c, &err), -EPERM);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(ids_take(path, 5000, 2, 0, &c, &err), -EPERM);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

/* ---- the scope asked of systemd ---- */

static uint32_t u32_at(const uint8_t *bytes, size_t at)
{
	return (uint32_t)bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 |
	       (uint32_t)bytes[at + 3] << 24;
}

/* What a systemd says to it, tests/run's lab with --systemd shows; here: lengths agree, and nothing is written past a buffer. */
static void test_scope_message(void **state)
{
	uint8_t bytes[1024], small[1024];
	int len = scope_message("mvm-0123456789ab.scope", 4711, bytes, sizeof(bytes));
	size_t fields, body;

	(void)state;
	assert_true(len > 0);
	fields = u32_at(bytes, 12);
	body = u32_at(bytes, 4);
	assert_int_equal(16 + ((fields + 7) & ~(size_t)7) + body, len);
	assert_int_equal(u32_at(bytes, (size_t)len - 8), 0); /* no auxiliary units, aligned to 8 */
	assert_non_null(memmem(bytes, (size_t)len, "StartTransientUnit", 19));
	for (size_t cap = 0; cap < (size_t)len; cap++) {
		memset(small, 0xee, sizeof(small));
		assert_int_equal(scope_message("mvm-0123456789ab.scope", 4711, small, cap), -ENOSPC);
		assert_int_equal(small[cap], 0xee);
	}
}

#define UNIFIED "/sys/fs/cgroup/unified" /* of a host with both versions; else */
#define ALONE   "/sys/fs/cgroup"

/* In the place of systemd: moves the process that it is asked for, and says so. */
struct manager {
	int listener;
	char name[64], group[160];
	pid_t asked; /* for */
};

static void *manage(void *arg)
{
	/* "OK", then a method's return with neither fields nor body */
	static const char answer[] = "OK 0123456789abcdef\r\nl\2\0\1\0\0\0\0\1\0\0\0\0\0\0\0";
	struct manager *m = arg;
	int fd = accept(m->listener, NULL, NULL);
	uint8_t bytes[2048];
	char path[200], text[16];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
	const uint8_t *pids = n > 0 ? memmem(bytes, (size_t)n, "\2au\0", 4) : NULL;
	int procs;

	if (pids && memmem(bytes, (size_t)n, m->name, strlen(m->name) + 1)) {
		const uint8_t *at = pids + 4; /* the array's length and its number, aligned to 4 from the message on */
		const uint8_t *message = memmem(bytes, (size_t)n, "BEGIN\r\n", 7);

		at += (4 - (size_t)(at - (message + 7)) % 4) % 4;
		m->asked = (pid_t)u32_at(at, 4);
	}
	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", m->group);
	(void)snprintf(text, sizeof(text), "%d", (int)m->asked);
	procs = open(path, O_WRONLY | O_CLOEXEC);
	if (procs >= 0 && write(procs, text, strlen(text)) < 0)
		m->asked = -1;
	(void)close(procs);
	(void)!write(fd, answer, sizeof(answer) - 1);
	(void)close(fd);
	return NULL;
}

/* A process of a network's is put into a scope by name; who asks stays where it is. */
static void test_scope_place(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct manager m = { .asked = 0 };
	char folder[] = "/tmp/test-scope-XXXXXX", path[64], own[2][512] = { "", "" };
	pthread_t thread;
	pid_t child;

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(scope_place(folder, "x.scope", getpid()), -ENOENT);
	(void)snprintf(m.name, sizeof(m.name), "mvm-net-test-%d.scope", (int)getpid());
	(void)snprintf(m.group, sizeof(m.group), "%s/%s", access(UNIFIED "/cgroup.procs", F_OK) ? ALONE : UNIFIED,
		       m.name);
	if (mkdir(m.group, 0755) < 0) {
		assert_int_equal(rmdir(folder), 0);
		skip(); /* not root, or no cgroups of version 2 */
	}
	(void)snprintf(path, sizeof(path), "%s/systemd", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/systemd/private", folder);
	m.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(m.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(m.listener, 1), 0);
	child = fork();
	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	assert_int_equal(pthread_create(&thread, NULL, manage, &m), 0);
	for (unsigned i = 0; i < 2; i++) {
		int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);

		assert_true(read(fd, own[i], sizeof(own[i]) - 1) > 0);
		(void)close(fd);
		if (i == 0)
			assert_int_equal(scope_place(folder, m.name, child), 0);
	}
	assert_string_equal(own[0], own[1]);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(m.asked, child);
	(void)kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	(void)close(m.listener);
	assert_int_equal(unlink(address.sun_path), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(folder), 0);
	for (unsigned i = 0; i < 1000 && rmdir(m.group) < 0 && errno == EBUSY; i++)
		(void)sched_yield();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),         cmocka_unit_test(test_papers),      cmocka_unit_test(test_layers),
		cmocka_unit_test(test_labels),        cmocka_unit_test(test_host_conf),   cmocka_unit_test(test_uids),
		cmocka_unit_test(test_scope_message), cmocka_unit_test(test_scope_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
