/* mvm inspect --security: what it says of processes of every kind, each a tree of files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_host.h"
#include "lib/inspect.h"

#define VMM        "/proc/500/"
#define SUPERVISOR "/proc/400/"
#define ID         "0123456789ab"
#define GROUP      "/sys/fs/cgroup/mvm.slice/mvm-" ID "/"
#define STATUS(uid, caps, bound, nnp)                                                                                  \
	"Name:\tmvm-vmm\nPPid:\t400\nUid:\t" uid                                                                       \
	"\nGid:\t7000\t7000\t7000\t7000\nGroups:\t \nCapInh:\t0000000000000000\n"                                      \
	"CapPrm:\t" caps "\nCapEff:\t0000000000000000\nCapBnd:\t" bound "\nCapAmb:\t0000000000000000\n"                \
	"NoNewPrivs:\t" nnp "\nSeccomp:\t2\nSeccomp_filters:\t2\n"
#define NOTHING "0000000000000000"
#define OURS    "7000\t7000\t7000\t7000"
#define GOOD    STATUS(OURS, NOTHING, NOTHING, "1")
#define THREAD(name, mode, filters)                                                                                    \
	"Name:\t" name "\nNoNewPrivs:\t1\nSeccomp:\t" mode "\nSeccomp_filters:\t" filters "\n"
#define MOUNT              "500 1 0:40 / / ro,nosuid,nodev,noexec,relatime - tmpfs mvm-jail ro,size=4k,nr_inodes=1,mode=555\n"
#define LIMIT(name, value) name " " value " " value " x\n"
#define LIMITS(core)                                                                                                   \
	"Limit Soft Hard Units\n" LIMIT("Max file size", "0") LIMIT("Max core file size", core)                        \
		LIMIT("Max processes", "5") LIMIT("Max open files", "1100") LIMIT("Max locked memory", "0")            \
			LIMIT("Max address space", "400000000") LIMIT("Max msgqueue size", "0")                        \
				LIMIT("Max nice priority", "0") LIMIT("Max realtime priority", "0")
#define STAT(start) "500 (a ) S x) S 400 500 500 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 2 0 " start " 1 1 1 1 1 1 1 1 1\n"

static const struct fake_file files[] = {
	{ VMM "stat", STAT("777") },
	{ VMM "status", GOOD },
	{ VMM "uid_map", "         0       7000          1\n" },
	{ VMM "gid_map", "         0       7000          1\n" },
	{ VMM "mountinfo", MOUNT },
	{ VMM "limits", LIMITS("0") },
	{ VMM "cgroup", "0::/mvm.slice/mvm-" ID "\n" },
	{ VMM "oom_score_adj", "500\n" },
	{ VMM "attr/apparmor/current", "mvm-vmm (enforce)\n" },
	{ VMM "task/500/status", THREAD("mvm-vmm", "2", "2") },
	{ VMM "task/501/status", THREAD("vcpu0", "2", "2") },
	{ VMM "task/502/status", THREAD("vda-0", "2", "2") },
	{ SUPERVISOR "status", "Name:\tmvm-supervisor\nSeccomp_filters:\t0\n" },
	{ "/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n" },
	{ GROUP "memory.max", "200000000\n" },
	{ GROUP "memory.current", "1000\n" },
	{ GROUP "memory.swap.max", "0\n" },
	{ GROUP "pids.max", "5\n" },
	{ GROUP "pids.current", "3\n" },
	{ GROUP "cpu.max", "max 100000\n" },
	{ NULL, NULL },
};

static struct inspect in;
static struct inspect_row rows[64];

static void put_link(const char *name, const char *target)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s%s", fake_host_root, name);
	for (char *slash = strchr(path + strlen(fake_host_root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0755);
		*slash = '/';
	}
	(void)unlink(path);
	assert_int_equal(symlink(target, path), 0);
}

static void put_namespaces(const char *process, const char *number)
{
	static const char *const kinds[] = { "user", "mnt", "pid", "net", "ipc", "uts", "cgroup" };
	char name[64], target[64];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		(void)snprintf(name, sizeof(name), "%sns/%s", process, kinds[i]);
		(void)snprintf(target, sizeof(target), "%s:[%s]", kinds[i], number);
		put_link(name, target);
	}
}

/* A VM of which nothing is to be said. */
static int make(void **state)
{
	static const char *const digests[] = { "a", "b", "c", "d" };
	char root[128];

	(void)state;
	fake_host_make_empty();
	for (const struct fake_file *f = files; f->path; f++)
		fake_host_put(f->path, f->text);
	put_namespaces(VMM, "11");
	put_namespaces(SUPERVISOR, "22");
	put_namespaces("/proc/self/", "22");
	put_link(VMM "fd/0", "socket:[1]");
	put_link(VMM "fd/1", "anon_inode:kvm-vm");
	put_link(VMM "fd/2", "/images/app.img");
	(void)snprintf(root, sizeof(root), "%s" VMM "root", fake_host_root);
	assert_int_equal(mkdir(root, 0755), 0);
	memset(&in, 0, sizeof(in));
	memset(rows, 0, sizeof(rows));
	in.root = fake_host_root;
	in.id = ID;
	in.vmm = 500;
	in.supervisor = 400;
	in.vmm_start = 777;
	in.core_cookie = 9;
	in.recorded = (struct inspect_recorded){ .by_root = true,
						 .uid = 7000,
						 .gid = 7000,
						 .landlock_abi = 6,
						 .landlock_fs = true,
						 .landlock_net = true,
						 .cgroup = true,
						 .open_files = 1100,
						 .address_space = 400000000,
						 .processes = 5 };
	for (size_t i = 0; i < JAIL_FILTERS; i++)
		(void)snprintf(in.recorded.filters.programs[i], 65, "%s", digests[i]);
	in.dump.n = 3;
	for (unsigned i = 0; i < 3; i++) {
		in.dump.threads[i].tid = 500 + (pid_t)i;
		in.dump.threads[i].n = 2;
		(void)snprintf(in.dump.threads[i].filters[0].sha256, 65, "a");
		(void)snprintf(in.dump.threads[i].filters[1].sha256, 65, "%s", digests[1 + i]);
	}
	return 0;
}

static int clear(void **state)
{
	(void)state;
	(void)json_object_put(in.read);
	fake_host_remove();
	return 0;
}

static const struct mvm_layer *find(const char *name)
{
	for (size_t i = 0; i < inspect_layers(); i++)
		if (!strcmp(rows[i].layer.name, name))
			return &rows[i].layer;
	fail_msg("no layer %s", name);
	return NULL;
}

static void run(void)
{
	assert_true(inspect_layers() <= sizeof(rows) / sizeof(rows[0]));
	assert_int_equal(inspect_run(&in, rows), 0);
}

/* The one layer that is not "ok" has this state and says this. */
static void only(const char *name, enum mvm_layer_state wanted, const char *word)
{
	run();
	for (size_t i = 0; i < inspect_layers(); i++) {
		const struct mvm_layer *layer = &rows[i].layer;
		bool is = !strcmp(layer->name, name);

		if (layer->state != (is ? wanted : MVM_LAYER_OK) || (is && !strstr(layer->found, word)))
			fail_msg("%s: %s: %s", layer->name, mvm_layer_state_name(layer->state), layer->found);
	}
	(void)json_object_put(in.read);
	in.read = NULL;
}

static void test_nothing_to_be_said(void **state)
{
	(void)state;
	only("", MVM_LAYER_OK, "");
	for (size_t i = 0; i < inspect_layers(); i++)
		assert_true(!strcmp(rows[i].layer.measure, "R65") || !strcmp(rows[i].layer.measure, "R66"));
}

static void test_one_file_is_otherwise(void **state)
{
	static const struct {
		const char *file, *text, *layer, *word;
		enum mvm_layer_state wanted;
	} cases[] = {
		{ VMM "stat", STAT("778"), "process", "not the one", MVM_LAYER_MISSING },
		{ VMM "stat", "500 (x) S 400", "process", "not readable", MVM_LAYER_UNREADABLE },
		{ VMM "status", STATUS(OURS, "0000000000000001", NOTHING, "1"), "capabilities", "permitted",
		  MVM_LAYER_MISSING },
		{ VMM "status", STATUS(OURS, NOTHING, "000001ffffffffff", "1"), "capabilities", "bounding",
		  MVM_LAYER_MISSING },
		{ VMM "status", STATUS(OURS, NOTHING, NOTHING, "0"), "no-new-privs", "not set", MVM_LAYER_MISSING },
		{ VMM "status", STATUS("7000\t0\t7000\t7000", NOTHING, NOTHING, "1"), "identity", "several",
		  MVM_LAYER_MISSING },
		{ VMM "status", STATUS("0\t0\t0\t0", NOTHING, NOTHING, "1"), "identity", "not uid 7000",
		  MVM_LAYER_MISSING },
		{ VMM "uid_map", "0 0 4294967295\n", "identity", "map", MVM_LAYER_MISSING },
		{ VMM "uid_map", "0 7000 1\n1 7001 1\n", "identity", "map", MVM_LAYER_MISSING },
		{ VMM "gid_map", "0 7000 2\n", "identity", "map", MVM_LAYER_MISSING },
		{ VMM "mountinfo", MOUNT MOUNT, "mounts", "2 mounts", MVM_LAYER_MISSING },
		{ VMM "mountinfo", "", "mounts", "0 mounts", MVM_LAYER_MISSING },
		{ VMM "mountinfo", "nonsense\n", "mounts", "not understood", MVM_LAYER_MISSING },
		{ VMM "mountinfo", "1 1 0:4 / / ro,nosuid,nodev - tmpfs x ro\n", "mounts", "not noexec",
		  MVM_LAYER_MISSING },
		{ VMM "mountinfo", "1 1 0:4 / / ro,nosuid,nodev,noexec - ext4 x ro\n", "mounts", "ext4",
		  MVM_LAYER_MISSING },
		{ VMM "limits", LIMITS("unlimited"), "limits", "core", MVM_LAYER_MISSING },
		{ VMM "limits", "", "limits", "not told", MVM_LAYER_MISSING },
		{ VMM "cgroup", "0::/user.slice\n", "cgroup", "no group of its own", MVM_LAYER_MISSING },
		{ GROUP "memory.max", "max\n", "cgroup", "memory.max max", MVM_LAYER_MISSING },
		{ GROUP "memory.swap.max", "max\n", "cgroup", "swap max", MVM_LAYER_MISSING },
		{ GROUP "memory.swap.max", NULL, "cgroup", "without swap", MVM_LAYER_OK },
		{ GROUP "pids.max", NULL, "cgroup", "pids", MVM_LAYER_MISSING },
		{ GROUP "io.max", "", "cgroup", "io without a limit", MVM_LAYER_OK },
		{ GROUP "io.max", "7:0 rbps=1 wbps=max riops=max wiops=2\n8:0 rbps=3 wbps=max riops=max wiops=4\n",
		  "cgroup", "io 7:0 rbps=1 wbps=max riops=max wiops=2; 8:0 rbps=3 wbps=max riops=max wiops=4",
		  MVM_LAYER_OK },
		{ VMM "oom_score_adj", "0\n", "oom-score", "0", MVM_LAYER_WEAK },
		{ VMM "attr/apparmor/current", "unconfined\n", "lsm", "unconfined", MVM_LAYER_MISSING },
		{ VMM "attr/apparmor/current", "mvm-vmm (complain)\n", "lsm", "complain", MVM_LAYER_MISSING },
		{ VMM "attr/apparmor/current", "mvm-vmm2 (enforce)\n", "lsm", "not mvm's own", MVM_LAYER_MISSING },
		{ VMM "attr/apparmor/current", "\033[2J (enforce)\n", "lsm", "not mvm's own", MVM_LAYER_MISSING },
		{ VMM "attr/apparmor/current", "", "lsm", "no label", MVM_LAYER_MISSING },
		{ VMM "attr/apparmor/current", NULL, "lsm", "no label", MVM_LAYER_MISSING },
		{ VMM "root/file", "x", "root-folder", "1 entries", MVM_LAYER_MISSING },
		{ VMM "task/502/status", NULL, "seccomp", "1 vCPUs, 0 threads", MVM_LAYER_OK },
		{ VMM "task/502/status", THREAD("vda-0", "2", "1"), "seccomp", "thread 502", MVM_LAYER_MISSING },
		{ VMM "task/501/status", THREAD("vcpu0", "0", "0"), "seccomp", "thread 501", MVM_LAYER_MISSING },
		{ VMM "task/503/status", THREAD("x\033[2J", "1", "0"), "seccomp", "thread 503", MVM_LAYER_MISSING },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (i) {
			assert_int_equal(clear(NULL), 0);
			assert_int_equal(make(NULL), 0);
		}
		fake_host_put(cases[i].file, cases[i].text);
		only(cases[i].layer, cases[i].wanted, cases[i].word);
	}
}

static void test_namespaces(void **state)
{
	(void)state;
	put_link(VMM "ns/net", "net:[22]");
	only("net-namespace", MVM_LAYER_MISSING, "caller's");
	put_link("/proc/self/ns/net", "net:[33]");
	only("net-namespace", MVM_LAYER_MISSING, "supervisor's");
}

static void test_a_folder_lies_open(void **state)
{
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/folder", fake_host_root);
	assert_int_equal(mkdir(path, 0755), 0);
	put_link(VMM "fd/7", path);
	only("descriptors", MVM_LAYER_MISSING, "7 is a folder");
}

static void test_filters(void **state)
{
	(void)state;
	(void)snprintf(in.dump.threads[1].filters[1].sha256, 65, "e");
	only("seccomp-filters", MVM_LAYER_MISSING, "DIFFERS");
	(void)snprintf(in.dump.threads[1].filters[1].sha256, 65, "a"); /* the start-up filter twice */
	only("seccomp-filters", MVM_LAYER_MISSING, "DIFFERS");
	in.dump.threads[1].n = 1;
	only("seccomp-filters", MVM_LAYER_MISSING, "DIFFERS");
	in.dump.error = -EACCES;
	only("seccomp-filters", MVM_LAYER_UNREADABLE, INSPECT_UNREADABLE);
	in.dump.error = -ESRCH;
	only("seccomp-filters", MVM_LAYER_UNREADABLE, "No such process");
}

/* The supervisor runs under a filter itself: one more of it in every thread, and no other. */
static void test_filters_of_a_container(void **state)
{
	(void)state;
	fake_host_put(SUPERVISOR "status", "Seccomp_filters:\t1\n");
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(in.dump.threads[i].filters[2].sha256, 65, "container");
		in.dump.threads[i].n = 3;
	}
	fake_host_put(VMM "task/500/status", THREAD("mvm-vmm", "2", "3"));
	fake_host_put(VMM "task/501/status", THREAD("vcpu0", "2", "3"));
	fake_host_put(VMM "task/502/status", THREAD("vda-0", "2", "3"));
	only("", MVM_LAYER_OK, "");
	(void)snprintf(in.dump.threads[2].filters[0].sha256, 65, "another");
	only("seccomp-filters", MVM_LAYER_MISSING, "1 threads of 3");
}

static void test_allowed_to_be_missing(void **state)
{
	(void)state;
	in.recorded.landlock_net = false;
	only("landlock-net", MVM_LAYER_MISSING, "recorded by the jail");
	assert_false(find("landlock-net")->allowed);
	in.recorded.missing = JAIL_LAYER_LANDLOCK_NET;
	only("landlock-net", MVM_LAYER_MISSING, "allowed");
	assert_true(find("landlock-net")->allowed);
	assert_false(find("landlock")->allowed);
	in.recorded.landlock_net = true;
	in.recorded.missing = 0;
	fake_host_put(VMM "attr/apparmor/current", "mvm-vmm//&unconfined (enforce)\n");
	only("lsm", MVM_LAYER_OK, "mvm-vmm//&unconfined");
	in.recorded.missing = JAIL_LAYER_LSM;
	fake_host_put(VMM "attr/apparmor/current", "unconfined\n");
	only("lsm", MVM_LAYER_MISSING, "allowed");
	assert_true(find("lsm")->allowed);
	/* confined with its caller, or by another module */
	fake_host_put(VMM "attr/apparmor/current", "docker-default (enforce)\n");
	only("lsm", MVM_LAYER_WEAK, "docker-default");
	fake_host_put(VMM "attr/apparmor/current", NULL);
	fake_host_put(VMM "attr/current", "system_u:system_r:svirt_t:s0");
	only("lsm", MVM_LAYER_WEAK, "svirt_t");
}

static void test_an_ordinary_users(void **state)
{
	(void)state;
	in.recorded.by_root = false;
	only("identity", MVM_LAYER_WEAK, "the caller's");
}

static void test_version_1(void **state)
{
	(void)state;
	fake_host_put("/sys/fs/cgroup/cgroup.controllers", NULL);
	fake_host_put(VMM "cgroup",
		      "12:pids:/a/mvm-" ID "\n3:memory:/a/mvm-" ID "\n4:cpu,cpuacct:/a/mvm-" ID "\n0::/x\n");
	fake_host_put("/sys/fs/cgroup/memory/a/mvm-" ID "/memory.limit_in_bytes", "1000000\n");
	fake_host_put("/sys/fs/cgroup/pids/a/mvm-" ID "/pids.max", "13\n");
	only("cgroup", MVM_LAYER_WEAK, "memory 1000000, pids 13, io without a limit");
	fake_host_put(VMM "cgroup", "12:pids:/a/mvm-" ID "\n3:memory:/a/mvm-" ID "\n5:blkio:/b/mvm-" ID "\n0::/x\n");
	fake_host_put("/sys/fs/cgroup/blkio/b/mvm-" ID "/blkio.throttle.read_bps_device", "7:0 5\n7:1 5\n");
	fake_host_put("/sys/fs/cgroup/blkio/b/mvm-" ID "/blkio.throttle.write_iops_device", "7:0 6\n");
	only("cgroup", MVM_LAYER_WEAK, "io rbps 7:0 5; rbps 7:1 5; wiops 7:0 6");
	fake_host_put("/sys/fs/cgroup/memory/a/mvm-" ID "/memory.limit_in_bytes", "9223372036854771712\n");
	only("cgroup", MVM_LAYER_MISSING, "memory 9223372036854771712");
	fake_host_put(VMM "cgroup", "3:memory:/\n");
	only("cgroup", MVM_LAYER_MISSING, "no group of its own");
}

/* As many devices as a VM can have disks on: all in the JSON, as many in the row as there is room for. */
static void test_many_devices(void **state)
{
	char text[2048] = "";
	json_object *cgroup, *list;

	(void)state;
	for (unsigned i = 0; i < VMM_DISKS_MAX; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
			       "259:%u rbps=1099511627776 wbps=1099511627776 riops=1000000000 wiops=1000000000\n", i);
	fake_host_put(GROUP "io.max", text);
	run();
	assert_int_equal(find("cgroup")->state, MVM_LAYER_OK);
	cgroup = json_object_object_get(in.read, "cgroup");
	list = json_object_object_get(cgroup, "io.max");
	assert_int_equal(json_object_array_length(list), VMM_DISKS_MAX);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(list, 15)),
			    "259:15 rbps=1099511627776 wbps=1099511627776 riops=1000000000 wiops=1000000000");
	assert_true(json_object_object_get_ex(cgroup, "cpu.max", &list));
}

static void test_core_scheduling(void **state)
{
	(void)state;
	in.core_cookie = 0;
	only("core-scheduling", MVM_LAYER_MISSING, "no cookie");
	in.core_error = -ENODEV;
	only("core-scheduling", MVM_LAYER_MISSING, "hyper-threads");
	in.core_error = -EINVAL;
	only("core-scheduling", MVM_LAYER_MISSING, "this kernel has none");
	in.core_error = -EPERM;
	only("core-scheduling", MVM_LAYER_UNREADABLE, INSPECT_UNREADABLE);
}

/* Nothing at all: no layer is called well but those that are recorded, and nothing crashes. */
static void test_gone(void **state)
{
	(void)state;
	in.vmm = 600;
	in.dump.error = -ESRCH;
	run();
	for (size_t i = 0; i < inspect_layers(); i++)
		if (rows[i].layer.state == MVM_LAYER_OK && !strstr(rows[i].layer.found, INSPECT_RECORDED_WORDS) &&
		    strcmp(rows[i].layer.name, "core-scheduling") != 0)
			fail_msg("%s: %s", rows[i].layer.name, rows[i].layer.found);
}

static void test_record(void **state)
{
	struct vmm_config *config = calloc(1, sizeof(*config));
	struct inspect_recorded rec;
	json_object *isolation;
	struct jail jail;
	char *text;

	(void)state;
	assert_non_null(config);
	jail_init(&jail);
	config->mem_bytes = 123;
	jail.options.config = config;
	jail.options.file_size_max = UINT64_MAX / 4;
	jail.by_root = true;
	jail.ids.uid = 4000000000U;
	jail.missing = JAIL_LAYER_CGROUP;
	jail.threads = 3;
	jail.open_files = 1000;
	for (unsigned i = 0; i < JAIL_FILTERS; i++) {
		jail.filters.calls[i] = i;
		memset(jail.filters.programs[i], (int)('a' + i), 64);
	}
	memset(jail.filters.sha256, 'f', 64);
	text = inspect_record_text(&jail);
	assert_non_null(text);
	assert_int_equal(inspect_record_parse(text, strlen(text), &rec), 0);
	assert_true(rec.by_root && !rec.cgroup && rec.landlock_net);
	assert_int_equal(rec.uid, 4000000000U);
	assert_int_equal(rec.missing, JAIL_LAYER_CGROUP);
	assert_int_equal(rec.memory, 123);
	assert_int_equal(rec.file_size, UINT64_MAX / 4);
	assert_int_equal(rec.processes, 5);
	assert_int_equal(rec.filters.calls[3], 3);
	assert_string_equal(rec.filters.programs[2], jail.filters.programs[2]);
	assert_string_equal(rec.filters.sha256, jail.filters.sha256);
	/* Any beginning of it, and other nonsense, is none. */
	for (size_t len = 0; len < strlen(text); len++)
		assert_int_equal(inspect_record_parse(text, len, &rec), -EINVAL);
	assert_int_equal(inspect_record_parse("[]", 2, &rec), -EINVAL);
	assert_int_equal(inspect_record_parse("{\"version\":1}", 13, &rec), -EINVAL);
	free(text);
	isolation = inspect_isolation(&jail);
	assert_string_equal(json_object_get_string(json_object_object_get(isolation, "missing")), "[ \"cgroup\" ]");
	assert_string_equal(json_object_get_string(json_object_object_get(isolation, "uid")), "4000000000");
	assert_string_equal(json_object_get_string(json_object_object_get(isolation, "cgroup")), "false");
	(void)json_object_put(isolation);
	free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_to_be_said, make, clear),
		cmocka_unit_test_setup_teardown(test_one_file_is_otherwise, make, clear),
		cmocka_unit_test_setup_teardown(test_namespaces, make, clear),
		cmocka_unit_test_setup_teardown(test_a_folder_lies_open, make, clear),
		cmocka_unit_test_setup_teardown(test_filters, make, clear),
		cmocka_unit_test_setup_teardown(test_filters_of_a_container, make, clear),
		cmocka_unit_test_setup_teardown(test_allowed_to_be_missing, make, clear),
		cmocka_unit_test_setup_teardown(test_an_ordinary_users, make, clear),
		cmocka_unit_test_setup_teardown(test_version_1, make, clear),
		cmocka_unit_test_setup_teardown(test_many_devices, make, clear),
		cmocka_unit_test_setup_teardown(test_core_scheduling, make, clear),
		cmocka_unit_test_setup_teardown(test_gone, make, clear),
		cmocka_unit_test(test_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
