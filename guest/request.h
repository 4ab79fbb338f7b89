/*
 * The host's messages, decoded.
 *
 * Purpose: payloads become structs whose every field is checked.
 * Trust:   the bytes are the host's, and hostile all the same; names that become paths hold no
 *          slash, numbers are in range.
 * Ownership: strings point into the payload, which must outlive the request; request_exec_free()
 *          frees the two arrays.
 * Returns: 0, -EPROTO (not a message of ours) or -ENOMEM.
 */
#ifndef MVM_GUEST_REQUEST_H
#define MVM_GUEST_REQUEST_H

#include "mvm/proto.h"

#define REQUEST_HOSTNAME_MAX 64U /* bytes; the kernel's __NEW_UTS_LEN */
#define REQUEST_NAME_MAX     31U /* bytes of a device or file system name */
#define REQUEST_RESOLV_MAX   1024U /* bytes */
#define REQUEST_ENV_SPARE    4U /* entries of envp that stay free for defaults */

struct setup_request {
	bool rw;
	uint64_t scratch; /* bytes, 0: half of memory */
	uint32_t pids_max; /* 0: no limit */
	const char *device; /* a name in /dev */
	const char *fstype;
	const char *hostname; /* may be "" */
};

struct net_request {
	struct proto_net net;
	const char *resolv; /* may be "" */
};

struct exec_request {
	uint32_t session;
	bool tty;
	bool copy; /* argv has PROTO_COPY_ARGS entries */
	uint32_t ports[3]; /* stdin, stdout, stderr */
	uint16_t rows, cols;
	const char *cwd, *user;
	uint32_t argc, envc;
	char **argv; /* NULL-terminated */
	char **envp; /* NULL-terminated, with room for REQUEST_ENV_SPARE more, all NULL */
};

int request_setup(struct proto_in in, struct setup_request *ret);
int request_net(struct proto_in in, struct net_request *ret);
int request_publish(struct proto_in in, uint16_t *ret_port, bool *ret_udp);
int request_proxy(struct proto_in in, uint16_t *ret_port);
int request_exec(struct proto_in in, struct exec_request *ret);
void request_exec_free(struct exec_request *req);
int request_signal(struct proto_in in, uint32_t *ret_session, int *ret_signo);
int request_resize(struct proto_in in, uint32_t *ret_session, uint16_t *ret_rows, uint16_t *ret_cols);
int request_query(struct proto_in in, uint32_t *ret_request); /* TOP and STAT */

#endif
