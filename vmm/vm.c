#include "vm.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "config.h"
#include "control.h"
#include "dev/power.h"
#include "dev/serial.h"
#include "jail/self.h"
#include "log.h"
#include "mvm/proto.h"
#include "vcpu.h"
#include "virtio/devices.h"

#define TAIL_LINES    24U
#define PANIC_SECONDS 1 /* from pvpanic's word to the end, unless the guest resets before */
#define CHANNEL_SECONDS                                                                                                \
	2 /* from the end to when channels' readers (--allow-port) must have read; streams' may take longer */
#define QUEUE_NOTIFY 0x50U /* virtio 1.2 §4.2.2 */

static const char *const end_names[] = {
	[VM_END_NONE] = "running",
	[VM_END_STOPPED] = "stopped",
	[VM_END_POWEROFF] = "guest powered off",
	[VM_END_REBOOT] = "guest rebooted",
	[VM_END_PANIC] = "guest kernel panicked",
	[VM_END_TRIPLE_FAULT] = "triple fault",
	[VM_END_KVM_ERROR] = "KVM error",
	[VM_END_SETUP] = "set-up failed",
	[VM_END_FAULT] = "VMM fault",
};

const char *vm_end_name(enum vm_end reason)
{
	return (size_t)reason < sizeof(end_names) / sizeof(end_names[0]) ? end_names[reason] : "unknown";
}

/* What the guest's streams had sent before the end reaches their readers, however slow they are. */
static void quit_when_delivered(void *arg)
{
	struct vm *vm = arg;

	if (!vm->vsock || virtio_vsock_pending(vm->vsock) == 0)
		loop_quit(vm->loop);
}

/*
 * All are told before the first is waited for: one that is held up keeps no other running. Then the first that
 * failed is explained: a guest that lets all of them fail at once fills no log with registers.
 */
static void stop_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_kick_out(&vm->vcpus[i]);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_join(&vm->vcpus[i]);
	for (unsigned i = 0; i < vm->nvcpus && !vm->explained; i++)
		vm->explained = vcpu_explain(&vm->vcpus[i]);
}

/* Seconds from now; 0: never. Also takes back an expiry that was not seen yet. */
static bool set_timer(struct vm *vm, time_t seconds)
{
	const struct itimerspec after = { .it_value.tv_sec = seconds };

	return timerfd_settime(vm->timer.fd, 0, &after, NULL) == 0;
}

/* One timer for two moments that follow each other: a panic's grace, and that of channels at the end. */
static void on_timer(struct loop_source *source, uint32_t events)
{
	struct vm *vm = source->arg;
	uint64_t lost = 0;

	(void)events;
	(void)set_timer(vm, 0);
	if (atomic_load(&vm->end) == VM_END_NONE) {
		vm_end(vm, VM_END_PANIC, 0);
		return;
	}
	if (vm->vsock)
		lost = virtio_vsock_give_up(vm->vsock, PROTO_PORT_STREAM, PROTO_PORT_STREAM + 2);
	if (lost)
		log_warn(
			"the VM is over, and %llu bytes for --allow-port's other ends, --publish's clients and further "
			"commands' readers were not read: given up",
			(unsigned long long)lost);
}

/* The guest stops first: from here on what is pending can only become less. */
static void on_end(void *arg)
{
	struct vm *vm = arg;

	stop_vcpus(vm);
	set_timer(vm, CHANNEL_SECONDS);
	loop_set_after(vm->loop, quit_when_delivered, vm);
}

void vm_end(struct vm *vm, enum vm_end reason, uint64_t arg)
{
	unsigned none = VM_END_NONE;

	/* After a panic the guest's own reset, or whatever else ends it, is the panic's end. */
	if (atomic_load(&vm->panicked) && reason != VM_END_STOPPED)
		reason = VM_END_PANIC;
	if (!atomic_compare_exchange_strong(&vm->end, &none, (unsigned)reason))
		return;
	atomic_store(&vm->end_arg, arg);
	(void)loop_post(vm->loop, on_end,
			vm); /* never full: each device, the console and the panic have one post waiting */
}

static void arm_panic_timer(void *arg)
{
	struct vm *vm = arg;

	if (!set_timer(vm, PANIC_SECONDS))
		vm_end(vm, VM_END_PANIC, 0);
}

void vm_panicked(struct vm *vm)
{
	/* Once: a guest that says it again gets no further second. Armed on the I/O thread, as vCPUs make no calls. */
	if (!atomic_exchange(&vm->panicked, true) && loop_post(vm->loop, arm_panic_timer, vm) < 0)
		vm_end(vm, VM_END_PANIC, 0);
}

static int make_timer(struct vm *vm)
{
	vm->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (vm->timer.fd < 0)
		return -errno;
	vm->timer.events = EPOLLIN;
	vm->timer.on_event = on_timer;
	vm->timer.arg = vm;
	return loop_add(vm->loop, &vm->timer);
}

/* Binds a device to the next slot: transport, bus range, and one ioeventfd for each queue. */
static int attach(struct vm *vm, struct virtio_dev *dev)
{
	unsigned slot = vm->ndevices;
	struct irq_line irq = { .raise = arch_irq_raise, .arg = vm, .pin = arch_virtio_pin(slot) };
	size_t page = (size_t)slot * VIRTIO_MMIO_SIZE;
	struct virtio_mmio *mmio;
	int err = page < vm->registers_size ? virtio_mmio_new(dev, irq, vm->registers + page, &mmio) : -ENOSPC;

	if (err) {
		log_error("%s: transport: %s", dev->name, strerror(-err));
		dev->ops->free(dev);
		return err;
	}
	vm->devices[vm->ndevices++] = mmio;
	err = bus_add(&vm->bus, arch_virtio_base(slot), VIRTIO_MMIO_SIZE, &virtio_mmio_bus_ops, mmio);
	for (unsigned q = 0; q < dev->ops->nqueues && !err; q++) {
		struct kvm_ioeventfd kick = {
			.datamatch = q,
			.addr = arch_virtio_base(slot) + QUEUE_NOTIFY,
			.len = 4,
			.fd = dev->kick_fds[q],
			.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
		};

		if (ioctl(vm->vm_fd, KVM_IOEVENTFD, &kick) < 0)
			err = -errno;
	}
	if (err)
		log_error("%s: attaching it: %s", dev->name, strerror(-err));
	return err;
}

/* What making a device came to; then its slot. */
static int add(struct vm *vm, const char *name, int err, struct virtio_dev *dev)
{
	if (err)
		log_error("%s: %s", name, strerror(-err));
	return err ? err : attach(vm, dev);
}

static int add_disk(struct vm *vm, unsigned i)
{
	struct virtio_dev *dev = NULL;
	char name[16];
	int err;

	(void)snprintf(name, sizeof(name), "blk%u", i);
	err = virtio_blk_new(&vm->config->disks[i], name, vm->mem, vm->loop, &dev);
	err = add(vm, name, err, dev);
	if (err)
		return err;
	if (vm->counters)
		virtio_blk_count(dev, &vm->counters->disks[i], &vm->counters->latencies[i]);
	vm->disks[i] = dev;
	return 0;
}

static int add_net(struct vm *vm, unsigned i)
{
	struct virtio_dev *dev = NULL;
	char name[16];
	int err;

	(void)snprintf(name, sizeof(name), "net%u", i);
	err = virtio_net_new(&vm->config->nets[i], name, vm->mem, vm->loop, &dev);
	err = add(vm, name, err, dev);
	if (err)
		return err;
	if (vm->counters)
		virtio_net_count(dev, &vm->counters->nets[i]);
	vm->nets[i] = dev;
	if (vm->config->capture_fd)
		err = virtio_net_capture(dev, vm->config->capture_fd, i, vm->config->capture_snap);
	if (err)
		log_error("%s: capture: %s", name, strerror(-err));
	return err;
}

static int add_vsock(struct vm *vm)
{
	struct virtio_dev *dev = NULL;
	int err = virtio_vsock_new(vm->config->guest_cid, control_broker(vm->control), vm->mem, vm->loop, &dev);

	err = add(vm, "vsock0", err, dev);
	if (err)
		return err;
	if (vm->counters)
		virtio_vsock_count(dev, &vm->counters->vsock, &vm->counters->publish);
	vm->vsock = dev;
	return 0;
}

static int add_rng(struct vm *vm)
{
	struct virtio_dev *dev = NULL;
	int err = virtio_rng_new(vm->mem, vm->loop, &dev);

	err = add(vm, "rng0", err, dev);
	if (!err && vm->counters)
		virtio_rng_count(dev, &vm->counters->rng);
	return err;
}

/* The devices, in attach order: this is the order in which the guest finds them. */
static int make_devices(struct vm *vm)
{
	const struct vmm_config *config = vm->config;
	int err = 0;

	for (unsigned i = 0; i < config->ndisks && !err; i++)
		err = add_disk(vm, i);
	for (unsigned i = 0; i < config->nnets && !err; i++)
		err = add_net(vm, i);
	if (!err && config->flags & VMM_CONFIG_VSOCK)
		err = add_vsock(vm);
	if (!err && config->flags & VMM_CONFIG_RNG)
		err = add_rng(vm);
	return err;
}

static unsigned count_devices(const struct vmm_config *config)
{
	return config->ndisks + config->nnets + (config->flags & VMM_CONFIG_VSOCK ? 1U : 0U) +
	       (config->flags & VMM_CONFIG_RNG ? 1U : 0U);
}

_Static_assert(VMM_DISKS_MAX + VMM_NETS_MAX + 2 <= ARCH_VIRTIO_MAX, "each device has a slot: vsock and rng as well");
_Static_assert(VIRTIO_MMIO_SIZE == ARCH_DEVICE_SIZE, "the slots' pages lie side by side");

/* What the guest reads of its devices' registers: memory that it may not write, so that no read leaves the guest. */
static int make_registers(struct vm *vm)
{
	size_t size = (size_t)count_devices(vm->config) * VIRTIO_MMIO_SIZE;
	struct kvm_userspace_memory_region slot = {
		.slot = vm->mem->nregions,
		.flags = KVM_MEM_READONLY,
		.guest_phys_addr = arch_virtio_base(0),
		.memory_size = size,
	};
	void *map;

	if (!size)
		return 0;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED) {
		log_error("vm: memory for registers: %s", strerror(errno));
		return -errno;
	}
	vm->registers = map;
	vm->registers_size = size;
	slot.userspace_addr = (uintptr_t)map;
	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0) {
		log_error("vm: the memory slot of the registers: %s", strerror(errno));
		return -errno;
	}
	return 0;
}

static int make_system_devices(struct vm *vm)
{
	struct irq_line irq = { .raise = arch_irq_raise, .arg = vm, .pin = ARCH_SERIAL_PIN };
	int err = serial_new(vm->config->console_fd, vm->config->console_rate, irq, vm->loop, &vm->serial);

	if (!err && vm->counters)
		serial_count(vm->serial, &vm->counters->console);
	if (!err)
		err = bus_add(&vm->bus, arch_serial_base, ARCH_DEVICE_SIZE, &serial_bus_ops, vm->serial);
	if (!err)
		err = bus_add(&vm->bus, arch_poweroff_base, ARCH_DEVICE_SIZE, &poweroff_bus_ops, vm);
	if (!err)
		err = make_timer(vm);
	if (!err)
		err = bus_add(&vm->bus, arch_panic_base, ARCH_DEVICE_SIZE, &pvpanic_bus_ops, vm);
	return err;
}

static int make_memory(struct vm *vm)
{
	int err = guestmem_new(vm->config->mem_bytes, arch_hole_start, arch_hole_end, &vm->mem);

	if (err) {
		log_error("vm: %llu MiB of memory: %s", (unsigned long long)(vm->config->mem_bytes >> 20),
			  strerror(-err));
		return err;
	}
	for (unsigned i = 0; i < vm->mem->nregions; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = vm->mem->regions[i].gpa,
			.memory_size = vm->mem->regions[i].size,
			.userspace_addr = (uintptr_t)vm->mem->regions[i].hva,
		};

		if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0) {
			log_error("vm: memory slot %u: %s", i, strerror(errno));
			return -errno;
		}
	}
	return 0;
}

static int make_vcpus(struct vm *vm)
{
	int run_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	int err;

	if (run_size < (int)sizeof(struct kvm_run)) {
		log_error("kvm: run page of %d bytes", run_size);
		return -EINVAL;
	}
	vm->vcpus = calloc(vm->config->vcpus, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return -ENOMEM;
	for (unsigned i = 0; i < vm->config->vcpus; i++) {
		err = vcpu_new(vm, i, (size_t)run_size, &vm->vcpus[i]);
		vm->nvcpus++;
		if (err)
			return err;
	}
	return 0;
}

static int build(struct vm *vm)
{
	int err = arch_check_kvm(vm->kvm_fd);

	if (err)
		return err;
	vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0UL);
	if (vm->vm_fd < 0) {
		err = -errno;
		log_error("kvm: KVM_CREATE_VM: %s", strerror(errno));
		return err;
	}
	err = make_memory(vm);
	if (!err)
		err = arch_vm_init(vm, arch_virtio_pin(count_devices(vm->config)));
	if (!err)
		err = make_system_devices(vm);
	if (!err)
		err = make_registers(vm);
	if (!err)
		err = make_devices(vm);
	if (!err)
		err = make_vcpus(vm);
	if (!err)
		err = arch_vm_load(vm, vm->config);
	for (unsigned i = 0; i < vm->nvcpus && !err; i++)
		err = arch_vcpu_init(&vm->vcpus[i]);
	return err;
}

int vm_new(const struct vmm_config *config, struct vm **ret_vm)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int err;

	if (!vm)
		return -ENOMEM;
	vm->config = config;
	vm->kvm_fd = config->kvm_fd;
	vm->vm_fd = -1;
	vm->timer.fd = -1;
	(void)pthread_mutex_init(&vm->gate, NULL);
	err = config_counters(config, &vm->counters);
	if (!err)
		err = loop_new(&vm->loop);
	if (!err)
		err = control_new(VMM_FD_CONTROL, vm, &vm->control);
	if (!err)
		err = vcpu_init_kicks();
	if (err)
		log_error("vm: event loop: %s", strerror(-err));
	else
		err = build(vm);
	if (err) {
		vm_free(vm);
		return err;
	}
	*ret_vm = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	stop_vcpus(vm);
	/* Devices first: their threads still write guest memory and raise interrupts. */
	for (unsigned i = 0; i < vm->ndevices; i++)
		virtio_mmio_free(vm->devices[i]);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_free(&vm->vcpus[i]);
	free(vm->vcpus);
	if (vm->registers)
		(void)munmap(vm->registers, vm->registers_size);
	serial_free(vm->serial);
	arch_vm_fini(vm);
	control_free(vm->control);
	if (vm->timer.fd >= 0) {
		loop_remove(vm->loop, &vm->timer);
		(void)close(vm->timer.fd);
	}
	loop_free(vm->loop);
	guestmem_free(vm->mem);
	if (vm->counters)
		(void)munmap(vm->counters, sizeof(*vm->counters));
	if (vm->vm_fd >= 0)
		(void)close(vm->vm_fd);
	(void)pthread_mutex_destroy(&vm->gate);
	free(vm);
}

static bool needs_explaining(enum vm_end reason)
{
	return reason == VM_END_PANIC || reason == VM_END_TRIPLE_FAULT || reason == VM_END_KVM_ERROR;
}

/* All threads or none: no guest has run when set-up fails, and what follows on this thread makes no more of them. */
static void start_vcpus(struct vm *vm)
{
	int err = 0;

	(void)pthread_mutex_lock(&vm->gate);
	for (unsigned i = 0; i < vm->nvcpus && !err; i++)
		err = vcpu_start(&vm->vcpus[i]);
	/* Every thread is there: what building them took is over for good, before the first of the guest's instructions. */
	if (!err) {
		err = jail_enter_thread(JAIL_FILTER_IO);
		if (err)
			log_error("jail: seccomp: %s", strerror(-err));
	}
	for (unsigned i = 0; i < vm->nvcpus && err; i++)
		vcpu_kick_out(&vm->vcpus[i]);
	(void)pthread_mutex_unlock(&vm->gate);
	if (err)
		vm_end(vm, VM_END_SETUP, 0);
}

enum vm_end vm_run(struct vm *vm, uint64_t *ret_arg)
{
	enum vm_end reason;
	int err = control_send(vm->control, CONTROL_RUNNING, 0, 0, 0, CONTROL_VERSION);

	if (err) {
		log_error("control: %s", strerror(-err));
		return VM_END_SETUP;
	}
	start_vcpus(vm);
	err = loop_run(vm->loop);
	if (err) {
		log_error("vm: event loop: %s", strerror(-err));
		vm_end(vm, VM_END_FAULT, 0);
	}
	stop_vcpus(vm);
	reason = (enum vm_end)atomic_load(&vm->end);
	*ret_arg = atomic_load(&vm->end_arg);
	serial_drain(vm->serial);
	if (needs_explaining(reason))
		serial_log_tail(vm->serial, TAIL_LINES);
	return reason;
}
