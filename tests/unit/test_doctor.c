/* mvm doctor: what it finds on hosts of every kind, each a tree of files and the answers of a kernel. */
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
#include "mvm/version.h"

static const struct mvm_check *find(const struct mvm_doctor *doctor, const char *name)
{
	const struct mvm_check *check;

	for (size_t i = 0; (check = mvm_doctor_check(doctor, i)); i++)
		if (!strcmp(check->name, name))
			return check;
	fail_msg("no check %s", name);
	return NULL;
}

static void test_good_host(void **state)
{
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	struct doctor_host host;
	size_t n;

	(void)state;
	fake_host_make();
	fake_host_answers(&host);
	assert_int_equal(doctor_run(&host, &doctor), 0);
	for (n = 0; (check = mvm_doctor_check(doctor, n)); n++) {
		if (check->state != MVM_CHECK_OK || !check->found[0] || check->remedy[0])
			fail_msg("%s: %s: %s; %s", check->name, mvm_check_state_name(check->state), check->found,
				 check->remedy);
		for (size_t i = 0; i < n; i++) /* each name once */
			assert_string_not_equal(mvm_doctor_check(doctor, i)->name, check->name);
	}
	assert_int_equal(n, 31);
	mvm_doctor_free(doctor);
	fake_host_remove();
}

/* A change of the answers; what each is called for is in the table below. */
static void no_kvm(struct doctor_host *host)
{
	host->kvm_error = ENOENT;
	host->kvm_seen = false;
	host->kvm_api = -1;
}

static void no_kvm_nor_cpu(struct doctor_host *host)
{
	no_kvm(host);
	host->virtualization = NULL;
}

static void no_kvm_in_vm(struct doctor_host *host)
{
	no_kvm_nor_cpu(host);
	host->is_virtual = true;
}

static void nested(struct doctor_host *host)
{
	host->is_virtual = true;
}

static void emulated(struct doctor_host *host)
{
	host->virtualization = NULL;
	host->is_virtual = true;
}

static void kvm_denied(struct doctor_host *host)
{
	host->kvm_error = EACCES;
	host->kvm_api = -1;
	host->ngroups = 0;
}

static void kvm_closed(struct doctor_host *host)
{
	kvm_denied(host);
	host->kvm_stat.st_mode = S_IFCHR | 0600;
	host->kvm_stat.st_gid = 0;
}

static void kvm_denied_to_root(struct doctor_host *host)
{
	kvm_denied(host);
	host->kvm_error = EPERM;
	host->uid = 0;
}

static void kvm_by_acl(struct doctor_host *host)
{
	host->ngroups = 0;
	host->kvm_acl = true;
}

static void kvm_old_api(struct doctor_host *host)
{
	host->kvm_api = 11;
}

static void kvm_is_none(struct doctor_host *host)
{
	host->kvm_api = -1;
}

static void kvm_lacks(struct doctor_host *host)
{
	(void)snprintf(host->kvm_lacks, sizeof(host->kvm_lacks), "KVM_CAP_SPLIT_IRQCHIP");
}

static void amd(struct doctor_host *host)
{
	host->virtualization = "SVM";
}

static void no_pasta(struct doctor_host *host)
{
	host->pasta[0] = '\0';
}

static void no_pasta_nor_nft(struct doctor_host *host)
{
	host->pasta[0] = host->nft[0] = '\0';
}

static void no_tun(struct doctor_host *host)
{
	host->tun_error = ENOENT;
}

static void tun_denied(struct doctor_host *host)
{
	host->tun_error = EACCES;
}

static void kernel_5_10(struct doctor_host *host)
{
	(void)snprintf(host->release, sizeof(host->release), "5.10.0-30-amd64");
}

static void kernel_5_10_root(struct doctor_host *host)
{
	kernel_5_10(host);
	host->uid = 0;
}

static void kernel_4_19(struct doctor_host *host)
{
	(void)snprintf(host->release, sizeof(host->release), "4.19.0");
	host->uid = 0;
}

static void kernel_unnamed(struct doctor_host *host)
{
	(void)snprintf(host->release, sizeof(host->release), "99999999999\033[2J");
}

static void userns_eperm(struct doctor_host *host)
{
	host->userns_error = EPERM;
}

static void userns_enospc(struct doctor_host *host)
{
	host->userns_error = ENOSPC;
}

static void userns_einval(struct doctor_host *host)
{
	host->userns_error = EINVAL;
}

static void userns_confined(struct doctor_host *host)
{
	host->mountns_error = EPERM;
}

static void landlock_3(struct doctor_host *host)
{
	host->landlock_abi = 3;
}

static void landlock_off(struct doctor_host *host)
{
	host->landlock_abi = -EOPNOTSUPP;
}

static void profile_not_loaded(struct doctor_host *host)
{
	host->lsm_profile = -ENOENT;
}

static void profile_complains(struct doctor_host *host)
{
	host->lsm_profile = -EUCLEAN;
}

static void profile_forbidden(struct doctor_host *host)
{
	host->lsm_profile = -EACCES;
}

static void landlock_none(struct doctor_host *host)
{
	host->landlock_abi = -ENOSYS;
}

static void no_core_sched(struct doctor_host *host)
{
	host->core_sched = -EINVAL;
}

static void as_root(struct doctor_host *host)
{
	host->uid = 0;
}

static void few_files(struct doctor_host *host)
{
	host->files.rlim_max = 1024;
}

static void little_space(struct doctor_host *host)
{
	host->space.rlim_cur = 1U << 30;
}

static void not_seeded(struct doctor_host *host)
{
	host->random = -EAGAIN;
}

static void no_runtime_dir(struct doctor_host *host)
{
	host->has_runtime_dir = false;
}

static void state_is_file(struct doctor_host *host)
{
	(void)snprintf(host->state_parent, sizeof(host->state_parent), "/run/user/mvm/.keep");
}

static void state_nowhere(struct doctor_host *host)
{
	(void)snprintf(host->state_parent, sizeof(host->state_parent), "/no/such/mvm");
}

static void state_to_make(struct doctor_host *host)
{
	(void)snprintf(host->state_parent, sizeof(host->state_parent), "/run/user/new");
}

static void state_of_other(struct doctor_host *host)
{
	host->uid = fake_host_user + 1;
}

static void state_open(struct doctor_host *host)
{
	char path[512];

	(void)host;
	(void)snprintf(path, sizeof(path), "%s/run/user/mvm", fake_host_root);
	assert_int_equal(chmod(path, 0777), 0);
}

static void change_vmm(mode_t mode)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/lib/mvm/mvm-vmm", fake_host_root);
	assert_int_equal(chmod(path, mode), 0);
}

static void policy_open(struct doctor_host *host)
{
	char path[512];

	(void)host;
	(void)snprintf(path, sizeof(path), "%s/etc/mvm/bridge.conf", fake_host_root);
	assert_int_equal(chmod(path, 0664), 0);
}

static void vmm_open(struct doctor_host *host)
{
	(void)host;
	change_vmm(0777);
}

static void vmm_setuid(struct doctor_host *host)
{
	(void)host;
	change_vmm(04755);
}

static void vmm_no_program(struct doctor_host *host)
{
	(void)host;
	change_vmm(0644);
}

static void vmm_group(struct doctor_host *host)
{
	(void)host;
	change_vmm(0775);
}

static void lib_open(struct doctor_host *host)
{
	char path[512];

	(void)host;
	(void)snprintf(path, sizeof(path), "%s/lib", fake_host_root);
	assert_int_equal(chmod(path, 0777), 0);
}

static void vmm_of_builder(struct doctor_host *host)
{
	host->program_uid = fake_host_user;
	host->uid = fake_host_user + 1;
}

static void vmm_not_found(struct doctor_host *host)
{
	host->part[DOCTOR_VMM][0] = '\0';
	(void)snprintf(host->part_error[DOCTOR_VMM].text, MVM_ERROR_TEXT_MAX, "mvm-vmm: not found");
}

#include "doctor_hosts.h"

static void run_row(const struct row *row)
{
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	struct doctor_host host;

	fake_host_make();
	fake_host_answers(&host);
	for (size_t i = 0; i < FILES_MAX && row->files[i].path; i++)
		fake_host_put(row->files[i].path, row->files[i].text);
	if (row->change)
		row->change(&host);
	assert_int_equal(doctor_run(&host, &doctor), 0);
	check = find(doctor, row->check);
	if (check->state != row->state || !strstr(check->found, row->found) || !strstr(check->remedy, row->remedy) ||
	    (!row->remedy[0] && check->remedy[0]))
		fail_msg("%s: %s: %s: %s; remedy: %s", row->name, check->name, mvm_check_state_name(check->state),
			 check->found, check->remedy);
	mvm_doctor_free(doctor);
	fake_host_remove();
}

static void test_hosts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		run_row(&rows[i]);
}

/* Nothing can be read: nothing dies, and whatever is not ok says what it is. */
static void test_empty_host(void **state)
{
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	struct doctor_host host;

	(void)state;
	fake_host_make_empty();
	fake_host_answers(&host);
	assert_int_equal(doctor_run(&host, &doctor), 0);
	for (size_t i = 0; (check = mvm_doctor_check(doctor, i)); i++) {
		assert_true(check->found[0] != '\0');
		if (check->state == MVM_CHECK_WARNING || check->state == MVM_CHECK_PROBLEM)
			assert_true(check->remedy[0] != '\0');
	}
	mvm_doctor_free(doctor);
	fake_host_remove();
}

/* Every file full of noise, without an end of line, larger than any buffer, or no file at all. */
static void test_hostile_files(void **state)
{
	static const size_t sizes[] = { 1, 100, 3000 };
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	struct doctor_host host;
	char noise[3001], path[512];
	unsigned seed = 1;

	(void)state;
	for (size_t s = 0; s < 20 * sizeof(sizes) / sizeof(sizes[0]); s++) {
		fake_host_make();
		fake_host_answers(&host);
		for (const struct fake_file *f = fake_host_files; f->path; f++) {
			size_t size = sizes[s % 3];

			for (size_t k = 0; k < size; k++)
				noise[k] = (char)("\n \t:,/0129azV\033\377@"[rand_r(&seed) % 16]);
			noise[size] = '\0';
			fake_host_put(f->path, noise);
		}
		assert_int_equal(doctor_run(&host, &doctor), 0);
		for (size_t i = 0; (check = mvm_doctor_check(doctor, i)); i++) {
			assert_null(strpbrk(check->found, "\033\n\377"));
			assert_null(strpbrk(check->remedy, "\033\n\377"));
		}
		mvm_doctor_free(doctor);
		fake_host_remove();
	}
	/* A pipe without a writer would hold a reader for ever. */
	fake_host_make();
	fake_host_answers(&host);
	fake_host_put("/proc/swaps", NULL);
	(void)snprintf(path, sizeof(path), "%s/proc/swaps", fake_host_root);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(doctor_run(&host, &doctor), 0);
	mvm_doctor_free(doctor);
	fake_host_remove();
}

/* This host: the answers of its kernel, whatever they are. */
static void test_this_host(void **state)
{
	const struct mvm_check *check;
	struct mvm_doctor *doctor;
	struct mvm_error err;
	size_t n;

	(void)state;
	assert_int_equal(mvm_doctor_new(&doctor, &err), 0);
	for (n = 0; (check = mvm_doctor_check(doctor, n)); n++)
		assert_true(check->found[0] != '\0');
	assert_int_equal(n, 31);
	mvm_doctor_free(doctor);
	mvm_doctor_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_host),  cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_empty_host), cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_this_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
