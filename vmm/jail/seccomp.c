#include "jail/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sha2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "jail/seccomp_table.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static bool applies(const struct jail_rule *rule, enum jail_filter kind, unsigned needs)
{
	/* What runs later lies below the start-up filter: it must let through what theirs let through. */
	return (kind == JAIL_FILTER_START || rule->threads & (1U << kind)) && (!rule->needs || rule->needs & needs);
}

static int add_rule(scmp_filter_ctx ctx, const struct jail_rule *rule, uint64_t file_size_max)
{
	struct scmp_arg_cmp args[JAIL_CONDITIONS];
	unsigned n = 0;

	for (unsigned i = 0; i < JAIL_CONDITIONS; i++) {
		const struct jail_condition *c = &rule->conditions[i];

		if (c->test == TEST_MASKED)
			args[n++] = (struct scmp_arg_cmp){ c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value };
		else if (c->test == TEST_FILE_SIZE)
			args[n++] = (struct scmp_arg_cmp){ c->arg, SCMP_CMP_LE, file_size_max, 0 };
	}
	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rule->call, n, args);
}

/* Whether no row above that applies as well names the same call: what is shown is how many calls there are, not rows. */
static bool is_new(size_t row, enum jail_filter kind, unsigned needs)
{
	for (size_t i = 0; i < row; i++)
		if (jail_rule_at(i)->call == jail_rule_at(row)->call && applies(jail_rule_at(i), kind, needs))
			return false;
	return true;
}

/* A program of one kind, appended to the file. */
static int add_program(int fd, enum jail_filter kind, const struct jail_papers_options *options, unsigned *ret_calls)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;
	const struct jail_rule *rule;

	*ret_calls = 0;
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0 && kind == JAIL_FILTER_START)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SYS_clone3, 0);
	for (size_t i = 0; r == 0 && (rule = jail_rule_at(i)); i++) {
		if (!applies(rule, kind, options->needs) || hooks_drops(i, kind))
			continue;
		r = add_rule(ctx, rule, options->file_size_max);
		/* A row that another covers whole (the same call without conditions) is no harm. */
		if (r == -EEXIST)
			r = 0;
		*ret_calls += is_new(i, kind, options->needs);
	}
	if (r == 0)
		r = seccomp_export_bpf(ctx, fd);
	seccomp_release(ctx);
	return r;
}

static int fill(int fd, const struct jail_papers_options *options, struct jail_filters_shown *shown)
{
	struct jail_papers papers = { .magic = JAIL_PAPERS_MAGIC, .flags = options->flags };
	off_t at = (off_t)sizeof(papers);
	int r;

	hooks_papers(&papers);
	if (lseek(fd, at, SEEK_SET) < 0)
		return -errno;
	for (unsigned i = 0; i < JAIL_FILTERS; i++) {
		off_t end;

		papers.filters[i].first = (uint32_t)((at - (off_t)sizeof(papers)) / (off_t)sizeof(struct sock_filter));
		r = hooks_no_seccomp() ? 0 : add_program(fd, (enum jail_filter)i, options, &shown->calls[i]);
		if (r < 0)
			return r;
		end = lseek(fd, 0, SEEK_CUR);
		if (end < 0)
			return -errno;
		papers.filters[i].count = (uint32_t)((end - at) / (off_t)sizeof(struct sock_filter));
		shown->instructions[i] = papers.filters[i].count;
		at = end;
	}
	papers.size = (uint32_t)at;
	return pwrite(fd, &papers, sizeof(papers), 0) == (ssize_t)sizeof(papers) ? 0 : -EIO;
}

static void sha256(const uint8_t *bytes, size_t size, char hex[65])
{
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, bytes, size);
	(void)SHA256End(&ctx, hex);
}

/* Over the programs as they lie in the file, in the order of their kinds; and over each. */
static int digest(int fd, struct jail_filters_shown *shown)
{
	size_t at = sizeof(struct jail_papers);
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *map;

	if (size < (off_t)at)
		return -EIO;
	map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	sha256(map + at, (size_t)size - at, shown->sha256);
	for (unsigned i = 0; i < JAIL_FILTERS; i++) {
		size_t length = shown->instructions[i] * sizeof(struct sock_filter);

		sha256(map + at, length, shown->programs[i]);
		at += length;
	}
	(void)munmap(map, (size_t)size);
	return 0;
}

int seccomp_make_papers(const struct jail_papers_options *options, int *ret_fd, struct jail_filters_shown *ret_shown,
			struct mvm_error *err)
{
	_cleanup_fd_ int fd = memfd_create("mvm-jail", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct jail_filters_shown shown = { 0 };
	int r = fd < 0 ? -errno : fill(fd, options, &shown);

	if (r == 0)
		r = digest(fd, &shown);
	/* A memfd is born executable, and no Landlock rule covers it. */
	if (r == 0 && (fchmod(fd, 0400) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0))
		r = -errno;
	if (r < 0)
		return error_set(err, -r, "seccomp: the filters cannot be made: %s", strerror(-r));
	*ret_fd = take_fd(&fd);
	*ret_shown = shown;
	return 0;
}
