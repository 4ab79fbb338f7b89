/* The receipt's part about devices and vCPUs; see mvm/counters.h. */
#include "lib/receipt_json.h"
#include "lib/verdict.h"

static void add_queues(json_object *o, const struct counters_queues *queues)
{
	receipt_add_number(o, "kicks", queues->kicks);
	receipt_add_number(o, "interrupts", queues->interrupts);
}

static json_object *disk_object(const struct mvm_spec *spec, unsigned disk, const struct counters_disk *c)
{
	json_object *o = json_object_new_object();
	char id[VMM_DISK_ID_MAX + 1];

	vm_files_disk_id(spec, disk, id);
	receipt_add_string(o, "id", id);
	receipt_add_number(o, "reads", c->reads);
	receipt_add_number(o, "read_bytes", c->read_bytes);
	receipt_add_number(o, "writes", c->writes);
	receipt_add_number(o, "written_bytes", c->written_bytes);
	receipt_add_number(o, "flushes", c->flushes);
	receipt_add_number(o, "discards", c->discards);
	receipt_add_number(o, "discarded_bytes", c->discarded_bytes);
	receipt_add_number(o, "zeroes", c->zeroes);
	receipt_add_number(o, "zeroed_bytes", c->zeroed_bytes);
	receipt_add_number(o, "others", c->others);
	receipt_add_number(o, "errors", c->errors);
	receipt_add_number(o, "no_space", c->no_space);
	receipt_add_number(o, "throttled", c->throttled);
	receipt_add_number(o, "throttled_ns", c->throttled_ns);
	add_queues(o, &c->queues);
	return o;
}

static json_object *vsock_object(const struct counters_vsock *c)
{
	json_object *o = json_object_new_object();

	receipt_add_number(o, "opened", c->opened);
	receipt_add_number(o, "refused", c->refused);
	receipt_add_number(o, "from_guest_bytes", c->from_guest_bytes);
	receipt_add_number(o, "to_guest_bytes", c->to_guest_bytes);
	add_queues(o, &c->queues);
	return o;
}

static json_object *net_object(const struct counters_net *c)
{
	static const char *const names[COUNTERS_NET_DROPS] = {
		"dropped_size",  "dropped_offload", "dropped_mac",  "dropped_address",
		"dropped_route", "dropped_router",  "dropped_kind", "dropped_host",
	};
	json_object *o = json_object_new_object();

	receipt_add_number(o, "tx_packets", c->tx_packets);
	receipt_add_number(o, "tx_bytes", c->tx_bytes);
	receipt_add_number(o, "tx_dropped", c->tx_dropped);
	receipt_add_number(o, "rx_packets", c->rx_packets);
	receipt_add_number(o, "rx_bytes", c->rx_bytes);
	receipt_add_number(o, "rx_dropped", c->rx_dropped);
	receipt_add_number(o, "rx_filtered", c->rx_filtered);
	for (unsigned i = 0; i < COUNTERS_NET_DROPS; i++)
		receipt_add_number(o, names[i], c->drops[i]);
	receipt_add_number(o, "capture_dropped", c->capture_dropped);
	add_queues(o, &c->queues);
	return o;
}

static json_object *publish_object(const struct counters_publish *c)
{
	json_object *o = json_object_new_object();

	receipt_add_number(o, "opened", c->opened);
	receipt_add_number(o, "refused", c->refused);
	receipt_add_number(o, "from_guest_bytes", c->from_guest_bytes);
	receipt_add_number(o, "to_guest_bytes", c->to_guest_bytes);
	return o;
}

static json_object *rng_object(const struct counters_rng *c)
{
	json_object *o = json_object_new_object();

	receipt_add_number(o, "requests", c->requests);
	receipt_add_number(o, "bytes", c->bytes);
	add_queues(o, &c->queues);
	return o;
}

static json_object *console_object(const struct counters_console *c)
{
	json_object *o = json_object_new_object();

	receipt_add_number(o, "bytes", c->bytes);
	receipt_add_number(o, "written_bytes", c->written_bytes);
	receipt_add_number(o, "dropped_bytes", c->dropped_bytes);
	receipt_add_number(o, "interrupts", c->interrupts);
	return o;
}

static json_object *vcpu_object(const struct counters_vcpu *c)
{
	static const char *const names[COUNTERS_EXITS] = {
		[COUNTERS_EXIT_MMIO_READ] = "mmio_reads", [COUNTERS_EXIT_MMIO_WRITE] = "mmio_writes",
		[COUNTERS_EXIT_PORT] = "port_io",         [COUNTERS_EXIT_KICKED] = "kicked",
		[COUNTERS_EXIT_FATAL] = "fatal",
	};
	json_object *o = json_object_new_object();

	receipt_add_number(o, "exits", counters_exits(c));
	for (unsigned i = 0; i < COUNTERS_EXITS; i++)
		receipt_add_number(o, names[i], c->exits[i]);
	return o;
}

json_object *receipt_devices(const struct receipt *receipt)
{
	const struct counters *c = receipt->counters;
	const struct mvm_spec *spec = receipt->spec;
	json_object *o = json_object_new_object(), *disks = json_object_new_array(), *vcpus = json_object_new_array();
	json_object *nets = json_object_new_array();

	for (unsigned i = 0; i < 1 + spec->ndisks; i++)
		(void)json_object_array_add(disks, disk_object(spec, i, &c->disks[i]));
	for (unsigned i = 0; i < receipt->files->nets.n; i++)
		(void)json_object_array_add(nets, net_object(&c->nets[i]));
	for (unsigned i = 0; i < spec->vcpus && i < VMM_VCPUS_MAX; i++)
		(void)json_object_array_add(vcpus, vcpu_object(&c->vcpus[i]));
	receipt_add_string(o, "word_of", verdict_source_name(VERDICT_FROM_VMM));
	receipt_add(o, "disks", disks);
	receipt_add(o, "nets", nets);
	receipt_add(o, "vsock", vsock_object(&c->vsock));
	receipt_add(o, "publish", publish_object(&c->publish));
	receipt_add(o, "rng", rng_object(&c->rng));
	receipt_add(o, "console", console_object(&c->console));
	receipt_add(o, "vcpus", vcpus);
	return o;
}
