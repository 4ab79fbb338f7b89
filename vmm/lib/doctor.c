#include "lib/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

/* In the order shown: what is wrong first is what to put right first. */
static const struct {
	const char *name;
	void (*run)(const struct doctor_host *host, struct doctor_result *r);
} checks[] = {
	{ "kvm", doctor_check_kvm },
	{ "kvm-device", doctor_check_kvm_device },
	{ "kvm-api", doctor_check_kvm_api },
	{ "cpu", doctor_check_cpu },
	{ "clock", doctor_check_clock },
	{ "kernel", doctor_check_kernel },
	{ "user-namespaces", doctor_check_userns },
	{ "seccomp", doctor_check_seccomp },
	{ "landlock", doctor_check_landlock },
	{ "lsm", doctor_check_lsm },
	{ "cgroup", doctor_check_cgroup },
	{ "delegation", doctor_check_delegation },
	{ "mitigations", doctor_check_mitigations },
	{ "smt", doctor_check_smt },
	{ "core-scheduling", doctor_check_core_sched },
	{ "ksm", doctor_check_ksm },
	{ "settings", doctor_check_settings },
	{ "swap", doctor_check_swap },
	{ "memory", doctor_check_memory },
	{ "limits", doctor_check_limits },
	{ "random", doctor_check_random },
	{ "state-folder", doctor_check_state_folder },
	{ "net-user", doctor_check_net_user },
	{ "net-bridge", doctor_check_net_bridge },
	{ "mvm-supervisor", doctor_check_part },
	{ "mvm-net", doctor_check_part },
	{ "mvm-udp", doctor_check_part },
	{ "mvm-bridge", doctor_check_part },
	{ "mvm-vmm", doctor_check_part },
	{ "agent.cpio", doctor_check_part },
	{ "vmlinux", doctor_check_part },
};

#define CHECKS (sizeof(checks) / sizeof(checks[0]))

struct mvm_doctor {
	struct doctor_result results[CHECKS];
};

int doctor_run(const struct doctor_host *host, struct mvm_doctor **ret_doctor)
{
	struct mvm_doctor *doctor = calloc(1, sizeof(*doctor));

	if (!doctor)
		return -ENOMEM;
	for (size_t i = 0; i < CHECKS; i++) {
		struct doctor_result *r = &doctor->results[i];

		r->check = (struct mvm_check){ checks[i].name, MVM_CHECK_SKIPPED, r->found, r->remedy };
		checks[i].run(host, r);
	}
	*ret_doctor = doctor;
	return 0;
}

int mvm_doctor_new(struct mvm_doctor **ret_doctor, struct mvm_error *err)
{
	struct doctor_host *host = calloc(1, sizeof(*host));
	int r = -ENOMEM;

	if (host) {
		doctor_probe(host);
		r = doctor_run(host, ret_doctor);
		free(host);
	}
	return r < 0 ? error_set(err, -r, "doctor: out of memory") : 0;
}

void mvm_doctor_free(struct mvm_doctor *doctor)
{
	free(doctor);
}

const struct mvm_check *mvm_doctor_check(const struct mvm_doctor *doctor, size_t index)
{
	return index < CHECKS ? &doctor->results[index].check : NULL;
}

const char *mvm_check_state_name(enum mvm_check_state state)
{
	static const char *const names[] = { "ok", "warning", "problem", "not checked" };

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

const char *doctor_part_name(enum doctor_part part)
{
	return checks[CHECKS - DOCTOR_PARTS + part].name;
}

void doctor_found(struct doctor_result *r, enum mvm_check_state state, const char *fmt, ...)
{
	va_list ap;

	r->check.state = state;
	va_start(ap, fmt);
	(void)vsnprintf(r->found, sizeof(r->found), fmt, ap); /* cut when too long: still one line */
	va_end(ap);
	text_harmless(r->found);
}

void doctor_remedy(struct doctor_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->remedy, sizeof(r->remedy), fmt, ap);
	va_end(ap);
	text_harmless(r->remedy);
}

int doctor_path(const struct doctor_host *host, char ret_path[PATH_MAX], const char *fmt, ...)
{
	size_t len = strnlen(host->root, PATH_MAX);
	va_list ap;
	int n;

	if (len == PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_path, host->root, len);
	va_start(ap, fmt);
	n = vsnprintf(ret_path + len, PATH_MAX - len, fmt, ap);
	va_end(ap);
	return n < 0 || (size_t)n >= PATH_MAX - len ? -ENAMETOOLONG : 0;
}

ssize_t doctor_read(const struct doctor_host *host, const char *path, char *text, size_t size)
{
	_cleanup_fd_ int fd = -1;
	char full[PATH_MAX];
	size_t len = 0;
	struct stat st;
	int r;

	text[0] = '\0';
	r = doctor_path(host, full, "%s", path);
	if (r < 0)
		return r;
	fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) /* a pipe could block, a device answer for ever */
		return -EINVAL;
	while (len < size - 1) {
		ssize_t n = read(fd, text + len, size - 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = -errno;
			text[0] = '\0';
			return r;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	return (ssize_t)strlen(text);
}

bool doctor_line(const struct doctor_host *host, const char *path, char *line, size_t size)
{
	if (doctor_read(host, path, line, size) <= 0)
		return false;
	line[strcspn(line, "\n")] = '\0';
	return line[0] != '\0';
}

int doctor_number(const struct doctor_host *host, const char *path, uint64_t *ret_value)
{
	char line[32];

	if (!doctor_line(host, path, line, sizeof(line)))
		return -ENOENT;
	return text_parse_uint(line, UINT64_MAX - 1, ret_value);
}

bool doctor_has_word(const char *list, const char *word)
{
	static const char between[] = " \t\n,";
	size_t len = strlen(word);

	for (;;) {
		size_t n;

		list += strspn(list, between);
		n = strcspn(list, between);
		if (!n)
			return false;
		if (n == len && !memcmp(list, word, len))
			return true;
		list += n;
	}
}

char *doctor_next_line(char **rest)
{
	return *rest && **rest ? strsep(rest, "\n") : NULL;
}

void doctor_add(char *list, size_t size, const char *word)
{
	size_t len = strlen(list);

	if (len + strlen(word) + 3 <= size)
		(void)snprintf(list + len, size - len, "%s%s", len ? ", " : "", word);
}
