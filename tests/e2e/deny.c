/*
 * deny CALL=ERRNO… -- COMMAND…: the command under a seccomp filter, as in a container, in which these calls
 * fail so; "newuser=ERRNO" are unshare and clone with CLONE_NEWUSER. For tests/e2e/cases/jail.sh.
 */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int code_of(const char *name)
{
	if (!strcmp(name, "ENOSYS"))
		return ENOSYS;
	return !strcmp(name, "EPERM") ? EPERM : EINVAL;
}

static int deny(scmp_filter_ctx ctx, char *what)
{
	const struct scmp_arg_cmp newuser = { 0, SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER };
	char *equals = strchr(what, '=');
	unsigned action;
	int call;

	if (!equals)
		return -EINVAL;
	*equals = '\0';
	action = SCMP_ACT_ERRNO((unsigned)code_of(equals + 1));
	if (!strcmp(what, "newuser")) {
		if (seccomp_rule_add_array(ctx, action, SCMP_SYS(clone), 1, &newuser) < 0)
			return -EINVAL;
		return seccomp_rule_add_array(ctx, action, SCMP_SYS(unshare), 1, &newuser);
	}
	call = seccomp_syscall_resolve_name(what);
	return call == __NR_SCMP_ERROR ? -EINVAL : seccomp_rule_add(ctx, action, call, 0);
}

int main(int argc, char **argv)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int i = 1;

	for (; ctx && i < argc && strcmp(argv[i], "--") != 0; i++)
		if (deny(ctx, argv[i]) < 0)
			return 2;
	if (!ctx || i + 1 >= argc || seccomp_load(ctx) < 0)
		return 2;
	(void)execvp(argv[i + 1], argv + i + 1);
	return 127;
}
