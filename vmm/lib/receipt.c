/* The document; its schema is tools/schema/receipt.schema.json. */
#include "lib/receipt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/inspect.h"
#include "lib/receipt_json.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

#define RECEIPT_VERSION 1
#define BLOCK_BYTES     512U /* of getrusage(2)'s counts */

static const char *const stage_names[STAGES] = {
	[STAGE_COMMAND] = "command",         [STAGE_SUPERVISOR_ASKED] = "supervisor_asked",
	[STAGE_SUPERVISOR] = "supervisor",   [STAGE_OPENED] = "opened",
	[STAGE_JAIL_MADE] = "jail_made",     [STAGE_VMM_SPAWNED] = "vmm_spawned",
	[STAGE_VMM_RUNNING] = "vmm_running", [STAGE_AGENT] = "agent",
	[STAGE_STARTED] = "started",         [STAGE_EXITED] = "exited",
	[STAGE_STOPPED] = "stopped",         [STAGE_ENDED] = "ended",
};

void receipt_add(json_object *o, const char *name, json_object *value)
{
	(void)json_object_object_add(o, name, value); /* out of memory shows as a missing text at the end */
}

void receipt_add_number(json_object *o, const char *name, uint64_t value)
{
	receipt_add(o, name, json_object_new_uint64(value));
}

/* A limit: null where there is none. */
static void add_limit(json_object *o, const char *name, uint64_t value)
{
	receipt_add(o, name, value ? json_object_new_uint64(value) : NULL);
}

/* Arguments and names may be any bytes; a JSON document is UTF-8. */
static json_object *string_object(const char *value)
{
	_cleanup_free_ char *copy = strdup(value);

	if (!copy)
		return NULL;
	text_utf8(copy);
	return json_object_new_string(copy);
}

void receipt_add_string(json_object *o, const char *name, const char *value)
{
	receipt_add(o, name, value ? string_object(value) : NULL);
}

/* A digest is null where it would describe nothing: a disk that was written to, or an unreadable file. */
static json_object *file_object(const char *path, uint64_t size, const struct digest *digest)
{
	json_object *o = json_object_new_object();

	receipt_add_string(o, "path", path);
	receipt_add_number(o, "bytes", size);
	receipt_add_string(o, "sha256",
			   digest && digest->done && !digest->error && digest->fd >= 0 ? digest->hex : NULL);
	return o;
}

static const struct digest *digest_of(const struct receipt *receipt, unsigned file)
{
	return receipt->digests ? &receipt->digests[file] : NULL;
}

static json_object *image_object(const struct receipt *receipt)
{
	const struct mvm_spec *spec = receipt->spec;
	const struct vm_files *files = receipt->files;
	json_object *o = file_object(spec ? spec->rootfs : NULL, files ? files->rootfs.size : 0,
				     digest_of(receipt, RECEIPT_ROOTFS));

	receipt_add_string(o, "type", files ? files->fs_type : NULL);
	receipt_add(o, "written", json_object_new_boolean(spec && spec->rw));
	return o;
}

static json_object *disks_object(const struct receipt *receipt)
{
	json_object *all = json_object_new_array();

	for (unsigned i = 0; receipt->spec && receipt->files && i < receipt->files->ndisks; i++) {
		const struct spec_disk *disk = &receipt->spec->disks[i];
		char id[VMM_DISK_ID_MAX + 1];
		json_object *o =
			file_object(disk->file, receipt->files->disks[i].size, digest_of(receipt, RECEIPT_DISKS + i));

		vm_files_disk_id(receipt->spec, i + 1, id);
		receipt_add_string(o, "id", id);
		receipt_add(o, "written", json_object_new_boolean(!disk->ro));
		(void)json_object_array_add(all, o);
	}
	return all;
}

/* The NAME of NAME=VALUE. */
static json_object *name_object(const char *entry)
{
	char *name = strndup(entry, strcspn(entry, "="));
	json_object *o = name ? string_object(name) : NULL;

	free(name);
	return o;
}

/* Of the environment the names alone: values may be secrets, and a receipt is kept. */
static json_object *environment_object(const struct mvm_spec *spec)
{
	static const char *const none[] = { NULL };
	json_object *all = json_object_new_array();
	const char **env;
	size_t n;

	if (spec_environment(spec, none, &env, &n) < 0) {
		(void)json_object_put(all);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		(void)json_object_array_add(all, name_object(env[i]));
	free(env);
	return all;
}

static json_object *command_object(const struct mvm_spec *spec)
{
	json_object *o = json_object_new_object(), *args = json_object_new_array();

	for (size_t i = 0; i < spec->args.n; i++)
		(void)json_object_array_add(args, string_object(spec->args.v[i]));
	receipt_add(o, "args", args);
	receipt_add_string(o, "user", spec->user);
	receipt_add_string(o, "workdir", spec->workdir);
	receipt_add_string(o, "hostname", spec->hostname);
	receipt_add(o, "environment", environment_object(spec));
	receipt_add(o, "interactive", json_object_new_boolean(spec->interactive));
	receipt_add(o, "tty", json_object_new_boolean(spec->tty));
	receipt_add(o, "detached", json_object_new_boolean(spec->detach));
	return o;
}

/* Of a bridge what the user said of it, not what the guest is told of the namespace in between. */
static json_object *nets_array(const struct mvm_spec *spec, const struct vm_files *files)
{
	json_object *array = json_object_new_array();
	char text[SPEC_NET_TEXT];

	for (unsigned i = 0; i < files->nets.n; i++) {
		struct spec_net net = files->nets.ends[i].net;

		if (net.mode == SPEC_NET_BRIDGE) {
			net = spec->nets[i];
			memcpy(net.mac, files->nets.ends[i].net.mac, sizeof(net.mac));
			net.mtu = files->nets.ends[i].net.mtu;
		}
		(void)json_object_array_add(array, json_object_new_string(spec_net_text(&net, text)));
	}
	return array;
}

static json_object *asked_object(const struct mvm_spec *spec, const struct vm_files *files)
{
	static const char *const io[IO_MAX_KEYS] = { "rbps", "wbps", "riops", "wiops" };
	json_object *o = json_object_new_object(), *io_max = json_object_new_object();
	char cpus[32];

	receipt_add_number(o, "memory", spec->memory);
	receipt_add_number(o, "vcpus", spec->vcpus);
	(void)snprintf(cpus, sizeof(cpus), "%llu.%02llu", (unsigned long long)spec->cpu_percent / 100,
		       (unsigned long long)spec->cpu_percent % 100);
	receipt_add(o, "cpus",
		    spec->cpu_percent ? json_object_new_double_s((double)spec->cpu_percent / 100, cpus) : NULL);
	add_limit(o, "pids_max", spec->pids_max);
	add_limit(o, "scratch", spec->scratch);
	add_limit(o, "timeout_ns", spec->timeout_ns);
	add_limit(o, "idle_timeout_ns", spec->idle_timeout_ns);
	add_limit(o, "boot_timeout_ns", spec->boot_timeout_ns);
	add_limit(o, "blk_iops", spec->blk_iops);
	add_limit(o, "blk_bps", spec->blk_bps);
	receipt_add(o, "net", nets_array(spec, files));
	add_limit(o, "net_pps", spec->net_pps);
	add_limit(o, "net_bps", spec->net_bps);
	add_limit(o, "pcap_max", spec->pcap_max);
	add_limit(o, "pcap_snap", spec->pcap_snap);
	for (unsigned i = 0; i < IO_MAX_KEYS; i++)
		add_limit(io_max, io[i], spec->io_max.most[i]);
	receipt_add(o, "io_max", io_max);
	add_limit(o, "console_rate", spec->console_rate);
	add_limit(o, "log_max", spec->log_max);
	receipt_add_string(o, "restart", spec->restart);
	return o;
}

static json_object *used_object(const struct receipt_used *used)
{
	json_object *o = json_object_new_object();

	receipt_add_number(o, "wall_ns", used->wall_ns);
	receipt_add_number(o, "cpu_user_ns", used->cpu_user_ns);
	receipt_add_number(o, "cpu_sys_ns", used->cpu_sys_ns);
	receipt_add_number(o, "rss_peak", used->rss_peak);
	add_limit(o, "memory_peak", used->memory_peak);
	receipt_add_number(o, "read_bytes", used->blocks_in * BLOCK_BYTES);
	receipt_add_number(o, "written_bytes", used->blocks_out * BLOCK_BYTES);
	return o;
}

static json_object *stages_object(const struct receipt *receipt)
{
	json_object *o = json_object_new_object();

	for (unsigned i = 0; i < STAGES; i++)
		if (receipt->stages[i] >= receipt->stages[STAGE_COMMAND] && receipt->stages[i])
			receipt_add_number(o, stage_names[i], receipt->stages[i] - receipt->stages[STAGE_COMMAND]);
	return o;
}

static json_object *guest_object(const struct receipt *receipt)
{
	static const char *const kinds[] = { NULL, "status", "signal", "oom" };
	json_object *o = json_object_new_object();

	receipt_add_string(o, "agent", receipt->agent_version);
	if (receipt->started) {
		receipt_add_number(o, "boot_ns", le64_get(receipt->started->boot_ns));
		receipt_add_number(o, "started_ns", le64_get(receipt->started->started_ns));
	}
	if (receipt->exited) {
		uint32_t kind = le32_get(receipt->exited->kind);

		receipt_add_string(o, "exit_kind", kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[kind] : NULL);
		receipt_add_number(o, "exit_value", le32_get(receipt->exited->value));
		receipt_add_number(o, "user_us", le64_get(receipt->exited->user_us));
		receipt_add_number(o, "sys_us", le64_get(receipt->exited->sys_us));
		receipt_add_number(o, "peak_bytes", le64_get(receipt->exited->peak_bytes));
	}
	return o;
}

/* What the guest was allowed to dial, and what it tried. */
static json_object *channels_object(const struct broker *broker, const struct mvm_spec *spec)
{
	json_object *o = json_object_new_object(), *allowed = json_object_new_array(), *ports = json_object_new_array();

	for (unsigned i = 0; broker && i < broker->nchannels; i++) {
		const struct broker_channel *channel = &broker->channels[i];
		json_object *entry = json_object_new_object();

		receipt_add_number(entry, "port", channel->port);
		receipt_add_string(entry, "target", channel->target);
		if (spec && i < spec->nports && spec->ports[i].port == channel->port && spec->ports[i].addresses)
			receipt_add_string(entry, "addresses", spec->ports[i].addresses);
		receipt_add_number(entry, "opened", channel->opened);
		receipt_add_number(entry, "failed", channel->failed);
		(void)json_object_array_add(allowed, entry);
	}
	for (unsigned i = 0; broker && i < broker->nrefused; i++) {
		json_object *entry = json_object_new_object();

		receipt_add_number(entry, "port", broker->refused_ports[i].port);
		receipt_add_number(entry, "times", broker->refused_ports[i].times);
		(void)json_object_array_add(ports, entry);
	}
	receipt_add(o, "allowed", allowed);
	receipt_add_number(o, "refused", broker ? broker->refused : 0);
	receipt_add(o, "refused_ports", ports);
	return o;
}

/* Ports of the host that led to the guest, and who came. */
static void add_published(json_object *o, const struct publish *publish)
{
	json_object *published = json_object_new_array();
	char text[SPEC_PUBLISH_TEXT];

	for (unsigned i = 0; publish && i < publish->nports; i++)
		(void)json_object_array_add(published, json_object_new_string(spec_publish_where(
							       &publish->ports[i].spec, publish->ports[i].host, text)));
	receipt_add(o, "published", published);
	receipt_add_number(o, "accepted", publish ? publish->accepted : 0);
}

/* What went through UDP ports, the word of who serves them; null: there was none. */
static json_object *udp_object(const struct publish_udp *udp)
{
	json_object *o = udp && udp->counted ? json_object_new_object() : NULL, *dropped;
	struct udp_counted counted;

	if (!o)
		return NULL;
	dropped = json_object_new_object();
	publish_udp_counted(udp, &counted);
	receipt_add_number(o, "from_clients", counted.from_clients);
	receipt_add_number(o, "from_clients_bytes", counted.from_clients_bytes);
	receipt_add_number(o, "to_clients", counted.to_clients);
	receipt_add_number(o, "to_clients_bytes", counted.to_clients_bytes);
	for (unsigned i = 0; i < UDP_DROPS; i++)
		receipt_add_number(dropped, udp_drop_name(i), counted.dropped[i]);
	receipt_add(o, "dropped", dropped);
	receipt_add_number(o, "broken", counted.broken);
	return o;
}

/* What the proxy did, its own word; null: there was none. */
static json_object *proxy_object(const struct net_user *net)
{
	json_object *o = net->proxy.counted ? json_object_new_object() : NULL;
	struct uplink_proxied counted;

	if (!o)
		return NULL;
	net_proxy_counted(&net->proxy, &counted);
	receipt_add_number(o, "opened", counted.opened);
	receipt_add_number(o, "refused", counted.refused);
	receipt_add_number(o, "failed", counted.failed);
	receipt_add_number(o, "from_guest_bytes", counted.from_guest_bytes);
	receipt_add_number(o, "to_guest_bytes", counted.to_guest_bytes);
	return o;
}

/* What crossed the link to the outside. */
static json_object *traffic_object(const struct uplink_traffic *traffic)
{
	json_object *o = json_object_new_object();

	receipt_add_number(o, "begun", traffic->begun);
	receipt_add_number(o, "out_packets", traffic->out_packets);
	receipt_add_number(o, "out_bytes", traffic->out_bytes);
	receipt_add_number(o, "in_packets", traffic->in_packets);
	receipt_add_number(o, "in_bytes", traffic->in_bytes);
	return o;
}

/* Where --net user or --proxy was allowed to lead, and what it refused; null: there was neither. */
static json_object *egress_object(const struct net_user *net, const struct mvm_spec *spec)
{
	json_object *o, *allowed, *refused, *places;

	if (!net || !net->asked || !spec)
		return NULL;
	o = json_object_new_object();
	allowed = json_object_new_array();
	refused = json_object_new_object();
	places = json_object_new_array();
	for (size_t i = 0; i < spec->allow_egress.n; i++)
		(void)json_object_array_add(allowed, string_object(spec->allow_egress.v[i]));
	for (unsigned i = 0; i < UPLINK_REASONS; i++)
		receipt_add_number(refused, uplink_reason_name(i), net->counters[i]);
	for (unsigned i = 0; i < net->nplaces; i++) {
		json_object *entry = json_object_new_object();
		char text[NET_USER_PLACE_TEXT];

		receipt_add_string(entry, "to", net_user_place_text(&net->places[i].refused, text));
		receipt_add_string(entry, "why", uplink_reason_name(net->places[i].refused.reason));
		receipt_add_number(entry, "told", net->places[i].told);
		(void)json_object_array_add(places, entry);
	}
	receipt_add_string(o, "policy", spec->egress ? spec->egress : "allow");
	receipt_add(o, "allowed", allowed);
	receipt_add(o, "refused", refused);
	receipt_add(o, "refused_to", places);
	receipt_add(o, "traffic", traffic_object(&net->traffic));
	receipt_add(o, "proxy", proxy_object(net));
	return o;
}

/* Of --pcap; null: there was none. */
static json_object *capture_object(const struct capture *capture)
{
	json_object *o = capture && capture->begun ? json_object_new_object() : NULL;

	if (!o)
		return NULL;
	receipt_add_string(o, "file", capture->path);
	receipt_add_number(o, "bytes", capture->size);
	receipt_add_number(o, "frames", capture->frames);
	receipt_add_number(o, "dropped", capture->dropped);
	receipt_add_string(o, "ended",
			   capture->ended == CAPTURE_NOTHING ? "run"
			   : capture->ended == CAPTURE_FULL  ? "full"
							     : "error");
	return o;
}

static void add_what(const struct receipt *receipt, json_object *root)
{
	const struct vm_files *files = receipt->files;
	const struct mvm_spec *spec = receipt->spec;

	receipt_add(root, "image", image_object(receipt));
	receipt_add(root, "kernel",
		    file_object(files ? files->kernel_path : NULL, files ? files->kernel.size : 0,
				digest_of(receipt, RECEIPT_KERNEL)));
	receipt_add(root, "initrd",
		    spec && spec->initrd && files
			    ? file_object(spec->initrd, files->initrd.size, digest_of(receipt, RECEIPT_INITRD))
			    : NULL);
	receipt_add(root, "disks", disks_object(receipt));
	receipt_add(root, "command", spec ? command_object(spec) : NULL);
	receipt_add(root, "asked", spec ? asked_object(spec, receipt->files) : NULL);
}

static json_object *isolation_object(const struct receipt *receipt)
{
	json_object *o = receipt->jail ? inspect_isolation(receipt->jail) : NULL;

	if (o)
		receipt_add(o, "kernel_shared",
			    json_object_new_boolean(receipt->files && receipt->files->kernel_shared));
	return o;
}

char *receipt_text(const struct receipt *receipt)
{
	const struct verdict *verdict = receipt->verdict;
	json_object *root = json_object_new_object(), *channels;
	const char *text;
	char *copy = NULL;

	if (!root)
		return NULL;
	receipt_add_number(root, "receipt", RECEIPT_VERSION);
	receipt_add_string(root, "mvm", MVM_VERSION);
	receipt_add_string(root, "id", receipt->id && *receipt->id ? receipt->id : NULL);
	receipt_add_string(root, "name", receipt->spec ? receipt->spec->name : NULL);
	receipt_add_number(root, "began_ns", receipt->began_ns);
	receipt_add_number(root, "ended_ns", receipt->ended_ns);
	receipt_add_string(root, "verdict", verdict_name(verdict->kind));
	receipt_add(root, "value", json_object_new_int(verdict->value));
	receipt_add(root, "status", json_object_new_int(verdict->status));
	receipt_add_string(root, "cause", verdict->cause);
	receipt_add_string(root, "word_of", verdict_source_name(verdict->source));
	add_what(receipt, root);
	receipt_add(root, "used", receipt->used ? used_object(receipt->used) : NULL);
	receipt_add(root, "devices", receipt->counters && receipt->spec ? receipt_devices(receipt) : NULL);
	receipt_add(root, "isolation", isolation_object(receipt));
	channels = channels_object(receipt->broker, receipt->spec);
	add_published(channels, receipt->publish);
	receipt_add(channels, "udp", udp_object(receipt->udp));
	receipt_add(root, "channels", channels);
	receipt_add(root, "egress", egress_object(receipt->net, receipt->spec));
	receipt_add(root, "capture", capture_object(receipt->capture));
	receipt_add(root, "times_ns", stages_object(receipt));
	receipt_add(root, "guest", guest_object(receipt));
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text && asprintf(&copy, "%s\n", text) < 0)
		copy = NULL;
	(void)json_object_put(root);
	return copy;
}
