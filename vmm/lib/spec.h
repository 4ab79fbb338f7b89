/*
 * The description of one VM as the user gave it, and the table of its options.
 *
 * Purpose: one table serves the command line, the JSON form and the manual.
 * Trust:   values come from the user, from a file, or from the CLI's process: all are checked by
 *          the same setters.
 * Ownership: a spec owns its strings.
 * Thread:  one at a time per spec.
 */
#ifndef LIB_SPEC_H
#define LIB_SPEC_H

#include <sys/socket.h>

#include "jail/io_max.h"
#include "lib/spec_egress.h"
#include "lib/spec_net.h"
#include "lib/spec_publish.h"
#include "mvm/mvm.h"
#include "mvm/vmm_config.h"

#define SPEC_JSON_MAX      (16U << 20) /* bytes; EXEC's 4 MiB, escaped at worst */
#define SPEC_JSON_DEPTH    4U /* object, array, object, value: what a spec needs */
#define SPEC_ARG_MAX       131072U /* Linux' MAX_ARG_STRLEN, with the NUL */
#define SPEC_EXEC_MAX      (3U << 20) /* bytes of arguments and environment together */
#define SPEC_MEMORY        (256ULL << 20)
#define SPEC_BOOT_TIMEOUT  60000000000ULL /* ns; five times that where KVM emulates the guest kernel */
#define SPEC_USER_DISKS    (VMM_DISKS_MAX - 1) /* the rootfs is the first */
#define SPEC_HOSTNAME_MAX  64
#define SPEC_NAME_MAX      63 /* of a VM: characters */
#define SPEC_LIST_MAX      32768U /* entries; PROTO_STRINGS_MAX */
#define SPEC_RECEIPT_FD    "fd:"
#define SPEC_PORTS_MAX     64U
#define SPEC_HOST_MAX      253 /* characters of a host's name, RFC 1035 */
#define SPEC_PORT_ADDRS    8U /* of one host */
#define SPEC_PORT_TEXT_MAX 320 /* "N=tcp:HOST:PORT", with the NUL */

struct spec_list {
	char **v; /* NULL-terminated once it has entries */
	size_t n, cap;
};

struct spec_disk {
	char *file, *id; /* id: NULL when none was given */
	bool ro;
};

/* A host port that the guest may dial. */
struct spec_port {
	uint32_t port;
	char *target; /* "unix:/path" or "tcp:HOST:PORT", checked */
	char *addresses; /* what HOST resolved to, numbers with commas between; NULL: not asked */
};

struct mvm_spec {
	char *rootfs, *kernel, *cmdline, *initrd, *workdir, *user, *hostname, *console, *receipt, *sign, *name, *events,
		*restart, *pcap, *egress; /* egress: "allow" or "deny", NULL: allow */
	struct spec_disk disks[SPEC_USER_DISKS];
	size_t ndisks;
	struct spec_port ports[SPEC_PORTS_MAX];
	size_t nports;
	struct spec_net nets[VMM_NETS_MAX];
	size_t nnets;
	struct spec_publish publish[SPEC_PUBLISH_MAX];
	size_t npublish;
	uint64_t net_pps, net_bps; /* of each network device, each direction; 0: no limit */
	uint64_t pcap_max, pcap_snap; /* bytes: of the file, of each frame; 0: CAPTURE_DEFAULT, and all */
	uint64_t memory; /* bytes */
	uint64_t scratch; /* bytes; 0: half of memory */
	uint64_t vcpus;
	uint64_t timeout_ns, idle_timeout_ns, boot_timeout_ns; /* 0: none, none, and the default */
	uint64_t log_level; /* enum mvm_log_level */
	uint64_t may_lack; /* enum jail_layer */
	uint64_t cpu_percent; /* of one CPU; 0: no limit */
	uint64_t pids_max; /* in the guest; 0: no limit */
	uint64_t blk_iops, blk_bps; /* of each disk; 0: no limit */
	struct io_max io_max; /* of the devices below all disks together */
	uint64_t console_rate; /* bytes a second; 0: the VMM's own */
	uint64_t log_max; /* bytes; 0: OUTPUT_LOG_DEFAULT */
	bool rw, interactive, tty, detach, remove, proxy;
	struct spec_list env_file, env, args; /* entries of --env-file come before those of --env */
	struct spec_list allow_egress; /* each as spec_egress_parse() reads it */
};

enum spec_type {
	SPEC_STRING,
	SPEC_PATH,
	SPEC_SIZE,
	SPEC_NUMBER,
	SPEC_TIME,
	SPEC_SWITCH,
	SPEC_LIST,
	SPEC_DISK,
	SPEC_LEVEL,
	SPEC_LAYERS, /* uint64_t: enum jail_layer */
	SPEC_PERCENT, /* uint64_t: hundredths; written as a decimal number */
	SPEC_PORT,
	SPEC_IO_MAX, /* struct io_max */
	SPEC_NET,
	SPEC_PUBLISH,
};

struct spec_key {
	struct mvm_option option;
	enum spec_type type;
	size_t offset; /* of the field in struct mvm_spec */
	/* Further check of a text value, before it is stored; may be NULL. */
	int (*check)(const struct spec_key *key, const char *value, struct mvm_error *err);
};

/* That no object of a JSON text has a key twice, however it is escaped. -EEXIST, with its name. */
int spec_json_unique(const char *json, size_t len, struct mvm_error *err);

/* The key of that name, or NULL. *ret_nearest (may be NULL): the nearest known name, or NULL. */
const struct spec_key *spec_key_find(const char *name, const char **ret_nearest);
const struct spec_key *spec_key_at(size_t index);

int spec_list_add(struct spec_list *list, const char *value);
void spec_list_free(struct spec_list *list);

int spec_disk_add(struct mvm_spec *spec, const char *file, const char *id, bool ro, struct mvm_error *err);

/* "N=unix:PATH" or "N=tcp:HOST:PORT". A relative path is made absolute here. `addresses` may be NULL. */
int spec_port_add(struct mvm_spec *spec, const char *value, const char *addresses, struct mvm_error *err);

/* Asks the resolver for every HOST that is a name and was not resolved yet; this may take as long as a resolver likes. */
int spec_ports_resolve(struct mvm_spec *spec, struct mvm_error *err);

/* Where the port leads to: 1 to `max` addresses, in the order in which they are to be tried. Their number, -errno. */
int spec_port_addresses(const struct spec_port *port, struct sockaddr_storage *ret_addresses, unsigned max,
			struct mvm_error *err);

/* Whether it can be a VM's name: a letter or digit, then those, '_', '.' and '-'. */
bool spec_is_name(const char *name);

const char *spec_level_name(uint64_t level);

/* As jail_layers_parse() reads it. Returns buf. */
const char *spec_layers_text(uint64_t layers, char buf[64]);

/*
 * The workload's whole environment: defaults, --env-file, --env; of entries with one name the last
 * wins. A new NULL-terminated array whose strings belong to the spec or are static; free() it.
 */
int spec_environment(const struct mvm_spec *spec, const char *const *defaults, const char ***ret_env, size_t *ret_n);

#endif
