#include "lib/spec.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net_bridge.h"
#include "lib/net_proxy.h"
#include "lib/restart.h"
#include "lib/spec_egress.h"
#include "lib/text.h"
#include "mvm/proto.h"

_Static_assert(SPEC_LIST_MAX <= PROTO_STRINGS_MAX, "a spec's lists fit into EXEC");
_Static_assert(SPEC_EXEC_MAX < PROTO_PAYLOAD_MAX, "a spec's strings fit into EXEC");

int mvm_spec_new(struct mvm_spec **ret_spec)
{
	struct mvm_spec *spec = calloc(1, sizeof(*spec));

	if (!spec)
		return -ENOMEM;
	spec->memory = SPEC_MEMORY;
	spec->vcpus = 1;
	spec->log_level = MVM_LOG_WARNING;
	*ret_spec = spec;
	return 0;
}

void spec_list_free(struct spec_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->v[i]);
	free(list->v);
	*list = (struct spec_list){ 0 };
}

int spec_list_add(struct spec_list *list, const char *value)
{
	char *copy;

	if (list->n >= SPEC_LIST_MAX)
		return -E2BIG;
	if (list->n + 1 >= list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 8;
		char **v = reallocarray(list->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->cap = cap;
	}
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	list->v[list->n++] = copy;
	list->v[list->n] = NULL;
	return 0;
}

void mvm_spec_free(struct mvm_spec *spec)
{
	if (!spec)
		return;
	for (size_t i = 0; i < spec->ndisks; i++) {
		free(spec->disks[i].file);
		free(spec->disks[i].id);
	}
	for (size_t i = 0; i < spec->nports; i++) {
		free(spec->ports[i].target);
		free(spec->ports[i].addresses);
	}
	spec_list_free(&spec->env_file);
	spec_list_free(&spec->env);
	spec_list_free(&spec->args);
	spec_list_free(&spec->allow_egress);
	free(spec->rootfs);
	free(spec->kernel);
	free(spec->cmdline);
	free(spec->initrd);
	free(spec->workdir);
	free(spec->user);
	free(spec->hostname);
	free(spec->console);
	free(spec->receipt);
	free(spec->sign);
	free(spec->name);
	free(spec->events);
	free(spec->restart);
	free(spec->pcap);
	free(spec->egress);
	free(spec);
}

int mvm_spec_set_args(struct mvm_spec *spec, const char *const *args, struct mvm_error *err)
{
	struct spec_list list = { 0 };

	for (size_t i = 0; args[i]; i++) {
		int r = strlen(args[i]) >= SPEC_ARG_MAX ? -E2BIG : spec_list_add(&list, args[i]);

		if (r < 0) {
			spec_list_free(&list);
			return error_set(err, -r, "argument %zu: %s: at most %u arguments of %u bytes are possible", i,
					 r == -ENOMEM ? "out of memory" : "too long", SPEC_LIST_MAX, SPEC_ARG_MAX - 1);
		}
	}
	spec_list_free(&spec->args);
	spec->args = list;
	return 0;
}

static size_t list_bytes(const struct spec_list *list)
{
	size_t sum = 0;

	for (size_t i = 0; i < list->n; i++)
		sum += strlen(list->v[i]) + 1; /* each at most SPEC_ARG_MAX, SPEC_LIST_MAX of them: no overflow */
	return sum;
}

/* Who would start it again must stay, find its files, and have nothing that is good for one run alone. */
static int check_restart(const struct mvm_spec *spec, struct mvm_error *err)
{
	struct restart restart;

	if (restart_parse(spec->restart, &restart) < 0 || restart.when == RESTART_NO)
		return 0; /* its form was checked when it was set */
	if (!spec->detach)
		return error_set(err, EINVAL,
				 "--restart: of a VM that ends with its caller there is none: add --detach");
	if (!spec->name)
		return error_set(err, EINVAL, "--restart: the VM needs a name to stay: add --name");
	if (spec->remove)
		return error_set(err, EINVAL, "--restart: excludes --rm, by which nothing stays: leave one out");
	if (spec->receipt && !strncmp(spec->receipt, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD)))
		return error_set(err, EINVAL, "--restart: --receipt %s is one run's alone: name a file", spec->receipt);
	return 0;
}

/* Names among --allow-egress: the VM's own resolver answers them, where they are what opens a way. */
static int check_names(const struct mvm_spec *spec, struct mvm_error *err)
{
	for (size_t i = 0; i < spec->allow_egress.n; i++) {
		const char *value = spec->allow_egress.v[i];
		struct spec_egress rule;

		if (spec_egress_parse("--allow-egress", value, &rule, NULL) < 0 || !rule.name[0])
			continue;
		if (!spec->egress || strcmp(spec->egress, "deny") != 0)
			return error_set(err, EINVAL,
					 "--allow-egress: '%.80s': a name opens nothing while --egress is allow: all "
					 "that is public is open: add --egress deny, or "
					 "give a private address itself",
					 value);
		for (size_t k = 0; k < spec->nnets; k++) {
			const struct spec_net_address *server;

			if (spec->nets[k].mode == SPEC_NET_BRIDGE &&
			    net_bridge_server(&spec->nets[k], &server, err) < 0)
				return -EINVAL;
			if (spec->nets[k].mode == SPEC_NET_USER && spec->nets[k].ndns)
				return error_set(err, EINVAL,
						 "--net: user: dns=: the VM's own resolver answers for the names of "
						 "--allow-egress: leave dns= out, or name addresses");
		}
	}
	return 0;
}

static bool same_address(const struct spec_net_address *a, const struct spec_net_address *b)
{
	return a->family && a->family == b->family && !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

/* Two devices of the VM's may not be taken for each other: the guest finds them by their MAC addresses. */
static int check_two_nets(const struct spec_net *a, const struct spec_net *b, struct mvm_error *err)
{
	static const uint8_t none[6];

	if (a->mode == SPEC_NET_NAMED && b->mode == SPEC_NET_NAMED && !strcmp(a->host, b->host))
		return error_set(err, EINVAL, "--net: %s: the VM is on it already: leave the other out", a->host);
	if (memcmp(a->mac, none, sizeof(none)) != 0 && !memcmp(a->mac, b->mac, sizeof(none)))
		return error_set(err, EINVAL, "--net: mac=: two devices have the same: give each its own, or none");
	if (same_address(&a->ip, &b->ip) || same_address(&a->ip6, &b->ip6))
		return error_set(err, EINVAL, "--net: %s=: two devices have the same: give each its own",
				 same_address(&a->ip, &b->ip) ? "ip" : "ip6");
	return 0;
}

/* Rules that one device would go past are none. */
static int check_egress(const struct mvm_spec *spec, bool ruled, struct mvm_error *err)
{
	const char *flag = spec->egress ? "egress" : "allow-egress";

	if (!spec->egress && !spec->allow_egress.n)
		return 0;
	for (size_t i = 0; i < spec->nnets; i++)
		if (spec->nets[i].mode == SPEC_NET_TAP || spec->nets[i].mode == SPEC_NET_SOCKET)
			return error_set(err, EINVAL,
					 "--%s: rules do not hold on --net %s=%s: who made it filters there: "
					 "leave one out, or give --net user instead",
					 flag, spec->nets[i].mode == SPEC_NET_TAP ? "tap" : "socket",
					 spec->nets[i].host);
	if (!ruled)
		return error_set(err, EINVAL,
				 "--%s: rules are for --net user, --net bridge=, --proxy or a named network: add it",
				 flag);
	if (spec->allow_egress.n > SPEC_EGRESS_MAX)
		return error_set(err, E2BIG, "--allow-egress: at most %u are possible: name larger networks",
				 SPEC_EGRESS_MAX);
	return check_names(spec, err);
}

static int check_nets(const struct mvm_spec *spec, struct mvm_error *err)
{
	unsigned users = 0, bridges = 0, named = 0;
	int r = 0;

	for (size_t i = 0; i < spec->nnets; i++) {
		users += spec->nets[i].mode == SPEC_NET_USER;
		bridges += spec->nets[i].mode == SPEC_NET_BRIDGE;
		named += spec->nets[i].mode == SPEC_NET_NAMED;
		for (size_t k = 0; r == 0 && k < i; k++)
			r = check_two_nets(&spec->nets[i], &spec->nets[k], err);
		if (r < 0)
			return r;
		if (spec->nets[i].mode == SPEC_NET_NONE && spec->nnets > 1)
			return error_set(err, EINVAL, "--net: none excludes every other: leave it out");
	}
	if (users > 1)
		return error_set(err, EINVAL, "--net: user: one way out is enough: leave the other out");
	if (bridges > 1 || (bridges && (users || spec->proxy)))
		return error_set(
			err, EINVAL,
			"--net: bridge=: a VM has one namespace of its own: leave %s out, or make it a network "
			"(mvm network create)",
			bridges > 1 ? "the other bridge"
			: users     ? "user"
				    : "--proxy");
	if ((spec->net_pps || spec->net_bps) && (!spec->nnets || spec->nets[0].mode == SPEC_NET_NONE))
		return error_set(err, EINVAL, "--net-%s: without --net there is nothing to limit: add it",
				 spec->net_pps ? "pps" : "bps");
	if (!spec->pcap && (spec->pcap_max || spec->pcap_snap))
		return error_set(err, EINVAL, "--pcap-%s: without --pcap there is nothing to bound: add it",
				 spec->pcap_max ? "max" : "snap");
	if (spec->pcap && (!spec->nnets || spec->nets[0].mode == SPEC_NET_NONE))
		return error_set(err, EINVAL, "--pcap: without --net there are no frames: add it");
	if (spec->proxy && users)
		return error_set(err, EINVAL, "--proxy: --net user leads out already: leave one out");
	for (size_t i = 0; spec->proxy && i < spec->npublish; i++)
		if (spec->publish[i].guest == NET_PROXY_PORT && !spec->publish[i].udp)
			return error_set(err, EINVAL, "--publish: port %u of the guest is the proxy's: take another",
					 NET_PROXY_PORT);
	return check_egress(spec, users || bridges || named || spec->proxy, err);
}

int mvm_spec_check(const struct mvm_spec *spec, struct mvm_error *err)
{
	size_t bytes = list_bytes(&spec->args) + list_bytes(&spec->env) + list_bytes(&spec->env_file);
	int r;

	if (!spec->rootfs)
		return error_set(err, EINVAL, "--rootfs: missing: name an image, for example --rootfs app.img");
	if (!spec->args.n)
		return error_set(
			err, EINVAL,
			"no command: an image alone does not say what to run: add it after --, as in: -- /bin/sh");
	if (spec->rw && spec->scratch)
		return error_set(err, EINVAL,
				 "--scratch: excludes --rw, where the image itself is written: leave one out");
	if (spec->console_rate && !spec->console)
		return error_set(err, EINVAL, "--console-rate: without --console there is nothing to limit: add it");
	r = check_nets(spec, err);
	if (r < 0)
		return r;
	if (spec->log_max && !spec->detach)
		return error_set(err, EINVAL, "--log-max: without --detach there is no log to bound: add it");
	if (spec->sign && (!spec->receipt || !strncmp(spec->receipt, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD))))
		return error_set(err, EINVAL,
				 "--sign: the signature lies beside the receipt's file: name one with --receipt FILE");
	r = check_restart(spec, err);
	if (r < 0)
		return r;
	if (bytes > SPEC_EXEC_MAX)
		return error_set(err, E2BIG,
				 "arguments and environment: %zu bytes, and at most %u are possible: pass a file",
				 bytes, SPEC_EXEC_MAX);
	if (spec->env.n + spec->env_file.n > SPEC_LIST_MAX - 16)
		return error_set(err, E2BIG, "environment: %zu entries, and at most %u are possible: leave some out",
				 spec->env.n + spec->env_file.n, SPEC_LIST_MAX - 16);
	return 0;
}

/* Environment entries by name, later ones of the same name after earlier ones. */
struct env_entry {
	const char *s;
	size_t name_len, order;
};

static int env_compare(const void *pa, const void *pb)
{
	const struct env_entry *a = pa, *b = pb;
	size_t len = a->name_len < b->name_len ? a->name_len : b->name_len;
	int c = memcmp(a->s, b->s, len);

	if (c)
		return c;
	if (a->name_len != b->name_len)
		return a->name_len < b->name_len ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static bool env_same_name(const struct env_entry *a, const struct env_entry *b)
{
	return a->name_len == b->name_len && !memcmp(a->s, b->s, a->name_len);
}

int spec_environment(const struct mvm_spec *spec, const char *const *defaults, const char ***ret_env, size_t *ret_n)
{
	struct env_entry *entries;
	size_t n = 0, out = 0, ndefaults = 0;
	const char **env;

	while (defaults[ndefaults])
		ndefaults++;
	entries = calloc(ndefaults + spec->env_file.n + spec->env.n + 1, sizeof(*entries));
	env = calloc(ndefaults + spec->env_file.n + spec->env.n + 1, sizeof(*env));
	if (!entries || !env) {
		free(entries);
		free(env);
		return -ENOMEM;
	}
	for (size_t i = 0; i < ndefaults; i++)
		entries[n++].s = defaults[i];
	for (size_t i = 0; i < spec->env_file.n; i++)
		entries[n++].s = spec->env_file.v[i];
	for (size_t i = 0; i < spec->env.n; i++)
		entries[n++].s = spec->env.v[i];
	for (size_t i = 0; i < n; i++) {
		entries[i].order = i;
		entries[i].name_len = strcspn(entries[i].s, "=");
	}
	qsort(entries, n, sizeof(*entries), env_compare);
	for (size_t i = 0; i < n; i++)
		if (i + 1 == n || !env_same_name(&entries[i], &entries[i + 1]))
			env[out++] = entries[i].s;
	free(entries);
	*ret_env = env;
	*ret_n = out;
	return 0;
}
