/*
 * The checks behind mvm_doctor_new(): what a host offers, and what to do where it falls short.
 *
 * Purpose: doctor_probe() asks the kernel what only calls can tell; each check then reads files below
 *          `root` and judges. A test presents another host: another root, other answers.
 * Trust:   files are read as if anybody had written them: bounded, regular files only, made harmless
 *          before they are shown.
 * Thread:  any; a host and its results belong to one thread at a time.
 * Returns: 0 or -errno; checks return nothing, they fill in their result.
 */
#ifndef LIB_DOCTOR_H
#define LIB_DOCTOR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "mvm/mvm.h"

#define DOCTOR_TEXT_MAX   512
#define DOCTOR_GROUPS_MAX 64

enum doctor_part {
	DOCTOR_SUPERVISOR,
	DOCTOR_NET,
	DOCTOR_UDP,
	DOCTOR_BRIDGE,
	DOCTOR_VMM,
	DOCTOR_AGENT,
	DOCTOR_KERNEL,
	DOCTOR_PARTS
};

struct doctor_host {
	const char *root; /* before every path; "" for this host */
	uid_t uid; /* the effective one: who is to run mvm */
	uid_t program_uid; /* who owns the running program, and so is trusted by who runs it */
	gid_t groups[DOCTOR_GROUPS_MAX];
	size_t ngroups;
	char release[65]; /* uname(2) */
	const char *virtualization; /* "VMX", "SVM"; NULL: the CPU offers none */
	bool is_virtual;

	/* /dev/kvm: 0 or the errno of open(2); the device itself, where it can be seen; an ACL entry that names the user. */
	int kvm_error;
	bool kvm_seen, kvm_acl;
	struct stat kvm_stat;
	int kvm_api; /* KVM_GET_API_VERSION; negative: no answer */
	char kvm_lacks[256]; /* names of KVM_CAP_*, by blanks */

	/* A child's unshare(2): 0 or errno, of the user namespace, then of a mount namespace in it. */
	int userns_error, mountns_error;
	int landlock_abi; /* or -errno */
	int lsm_profile; /* lsm_profile() */
	int core_sched; /* 0 or -errno of PR_SCHED_CORE_GET */
	int random; /* 0 or -errno of getrandom(2) without waiting */
	struct rlimit files, processes, locked, space;
	char pasta[256], nft[256]; /* the programs; "": not installed */
	int tun_error; /* 0 or the errno of open(2): /dev/net/tun, as whom --net user opens it */

	char state_parent[PATH_MAX]; /* "" with state_error */
	bool has_runtime_dir; /* XDG_RUNTIME_DIR is set */
	char part[DOCTOR_PARTS][PATH_MAX]; /* "" with part_error */
	struct mvm_error state_error, part_error[DOCTOR_PARTS];
};

struct doctor_result {
	struct mvm_check check;
	char found[DOCTOR_TEXT_MAX], remedy[DOCTOR_TEXT_MAX];
};

/* Fills in everything for this process on this host. */
void doctor_probe(struct doctor_host *ret_host);

/* Names of the parts, by enum doctor_part. */
const char *doctor_part_name(enum doctor_part part);

/* Runs every check. -ENOMEM. */
int doctor_run(const struct doctor_host *host, struct mvm_doctor **ret_doctor);

/* ---- for the checks ---- */

/* What was found; cut at DOCTOR_TEXT_MAX. A later call replaces an earlier one. */
void doctor_found(struct doctor_result *r, enum mvm_check_state state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void doctor_remedy(struct doctor_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* root + path, made from the format. -ENAMETOOLONG. */
int doctor_path(const struct doctor_host *host, char ret_path[PATH_MAX], const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The beginning of the file at root + path, size - 1 bytes at most, NUL-terminated; bytes after a NUL in
 * it are not seen. Returns the length or -errno; text is "" then.
 */
ssize_t doctor_read(const struct doctor_host *host, const char *path, char *text, size_t size);

/* The first line of a small file, without its end; false when there is none. */
bool doctor_line(const struct doctor_host *host, const char *path, char *line, size_t size);

/* The decimal number that a small file holds; -ENOENT, -EINVAL. */
int doctor_number(const struct doctor_host *host, const char *path, uint64_t *ret_value);

/* Whether `word` is one of those that the blanks, tabs and commas of `list` separate. */
bool doctor_has_word(const char *list, const char *word);

/* The next line of a text, cut off in place; NULL at its end. `rest` begins as the text. */
char *doctor_next_line(char **rest);

/* Adds "word" to a list with ", " between; what does not fit is left out. */
void doctor_add(char *list, size_t size, const char *word);

void doctor_check_kvm(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_kvm_device(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_kvm_api(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_cpu(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_clock(const struct doctor_host *host, struct doctor_result *r);

void doctor_check_kernel(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_userns(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_seccomp(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_landlock(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_lsm(const struct doctor_host *host, struct doctor_result *r);

void doctor_check_mitigations(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_smt(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_core_sched(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_ksm(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_settings(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_swap(const struct doctor_host *host, struct doctor_result *r);

void doctor_check_cgroup(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_delegation(const struct doctor_host *host, struct doctor_result *r);

void doctor_check_memory(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_limits(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_random(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_state_folder(const struct doctor_host *host, struct doctor_result *r);

void doctor_check_net_user(const struct doctor_host *host, struct doctor_result *r);
void doctor_check_net_bridge(const struct doctor_host *host, struct doctor_result *r);

/* By the name in r->check. */
void doctor_check_part(const struct doctor_host *host, struct doctor_result *r);

#endif
