#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mvm/cleanup.h"
#include "request.h"

/* A name that is used as one component of a path, or as a file system's type: letters, digits, '-' and '_'. */
static bool is_name(const char *s)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_");

	return len > 0 && len <= REQUEST_NAME_MAX && !s[len];
}

int request_setup(struct proto_in in, struct setup_request *ret)
{
	struct setup_request req = { 0 };
	struct proto_setup wire;
	uint32_t flags;

	if (proto_get(&in, &wire, sizeof(wire)) < 0)
		return -EPROTO;
	flags = le32_get(wire.flags);
	if (flags & ~(uint32_t)PROTO_SETUP_RW)
		return -EPROTO;
	req.rw = flags & PROTO_SETUP_RW;
	req.scratch = le64_get(wire.scratch);
	req.pids_max = le32_get(wire.pids_max);
	if (proto_get_str(&in, &req.device) < 0 || proto_get_str(&in, &req.fstype) < 0 ||
	    proto_get_str(&in, &req.hostname) < 0)
		return -EPROTO;
	if (!is_name(req.device) || !is_name(req.fstype) || strlen(req.hostname) > REQUEST_HOSTNAME_MAX)
		return -EPROTO;
	*ret = req;
	return 0;
}

int request_net(struct proto_in in, struct net_request *ret)
{
	struct net_request req = { 0 };

	if (proto_get(&in, &req.net, sizeof(req.net)) < 0 || proto_get_str(&in, &req.resolv) < 0)
		return -EPROTO;
	if (req.net.route_bits4 > 32 || req.net.route_bits6 > 128 || req.net.zero ||
	    req.net.flags & ~(PROTO_NET_LOCAL4 | PROTO_NET_LOCAL6))
		return -EPROTO;
	if (req.net.prefix4 > 32 || req.net.prefix6 > 128 || strlen(req.resolv) > REQUEST_RESOLV_MAX)
		return -EPROTO;
	*ret = req;
	return 0;
}

int request_publish(struct proto_in in, uint16_t *ret_port, bool *ret_udp)
{
	struct proto_publish wire;

	if (proto_get(&in, &wire, sizeof(wire)) < 0 || !le16_get(wire.port) || le16_get(wire.kind) > PROTO_PUBLISH_UDP)
		return -EPROTO;
	*ret_port = le16_get(wire.port);
	*ret_udp = le16_get(wire.kind) == PROTO_PUBLISH_UDP;
	return 0;
}

int request_proxy(struct proto_in in, uint16_t *ret_port)
{
	struct proto_proxy wire;

	if (proto_get(&in, &wire, sizeof(wire)) < 0 || !le16_get(wire.port) || le16_get(wire.zero))
		return -EPROTO;
	*ret_port = le16_get(wire.port);
	return 0;
}

int request_exec(struct proto_in in, struct exec_request *ret)
{
	_cleanup_free_ char **argv = NULL, **envp = NULL;
	struct exec_request req = { 0 };
	struct proto_exec wire;
	uint32_t flags;
	char **roomy;
	int r;

	if (proto_get(&in, &wire, sizeof(wire)) < 0)
		return -EPROTO;
	flags = le32_get(wire.flags);
	req.session = le32_get(wire.session);
	if (flags & ~(uint32_t)(PROTO_EXEC_TTY | PROTO_EXEC_COPY) || !req.session)
		return -EPROTO;
	req.tty = flags & PROTO_EXEC_TTY;
	req.copy = flags & PROTO_EXEC_COPY;
	req.ports[0] = le32_get(wire.stdin_port);
	req.ports[1] = le32_get(wire.stdout_port);
	req.ports[2] = le32_get(wire.stderr_port);
	if (req.tty &&
	    (req.ports[0] == PROTO_PORT_NONE || req.ports[1] != PROTO_PORT_NONE || req.ports[2] != PROTO_PORT_NONE))
		return -EPROTO;
	req.rows = le16_get(wire.rows);
	req.cols = le16_get(wire.cols);
	req.argc = le32_get(wire.argc);
	req.envc = le32_get(wire.envc);
	if (req.copy && (req.tty || req.session == PROTO_SESSION_BOOT || req.argc != PROTO_COPY_ARGS))
		return -EPROTO;
	if (proto_get_str(&in, &req.cwd) < 0 || proto_get_str(&in, &req.user) < 0)
		return -EPROTO;
	r = proto_get_strs(&in, req.argc, &argv);
	if (r == 0)
		r = proto_get_strs(&in, req.envc, &envp);
	if (r < 0)
		return r;
	roomy = realloc(envp, ((size_t)req.envc + 1 + REQUEST_ENV_SPARE) * sizeof(*envp));
	if (!roomy)
		return -ENOMEM;
	envp = NULL;
	/* The spare ones too: the child looks names up while it fills them. */
	memset(roomy + req.envc, 0, (1 + REQUEST_ENV_SPARE) * sizeof(*roomy));
	req.argv = take_ptr(&argv);
	req.envp = roomy;
	*ret = req;
	return 0;
}

void request_exec_free(struct exec_request *req)
{
	free(req->argv);
	free(req->envp);
	req->argv = req->envp = NULL;
}

int request_signal(struct proto_in in, uint32_t *ret_session, int *ret_signo)
{
	struct proto_signal wire;
	uint32_t signo;

	if (proto_get(&in, &wire, sizeof(wire)) < 0)
		return -EPROTO;
	signo = le32_get(wire.signo);
	if (signo < 1 || signo > 64)
		return -EPROTO;
	*ret_session = le32_get(wire.session);
	*ret_signo = (int)signo;
	return 0;
}

int request_resize(struct proto_in in, uint32_t *ret_session, uint16_t *ret_rows, uint16_t *ret_cols)
{
	struct proto_resize wire;

	if (proto_get(&in, &wire, sizeof(wire)) < 0)
		return -EPROTO;
	*ret_session = le32_get(wire.session);
	*ret_rows = le16_get(wire.rows);
	*ret_cols = le16_get(wire.cols);
	return 0;
}

int request_query(struct proto_in in, uint32_t *ret_request)
{
	struct proto_query wire;

	if (proto_get(&in, &wire, sizeof(wire)) < 0)
		return -EPROTO;
	*ret_request = le32_get(wire.request);
	return 0;
}
