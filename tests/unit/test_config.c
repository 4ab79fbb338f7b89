/* config: what config_check() refuses, field by field, and that only a sealed memfd is read. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "mvm/capture.h"

static struct vmm_config good(void)
{
	struct vmm_config c = {
		.magic = VMM_CONFIG_MAGIC,
		.version = VMM_CONFIG_VERSION,
		.size = sizeof(c),
		.mem_bytes = 128ULL << 20,
		.guest_cid = 3,
		.vcpus = 1,
		.kvm_fd = 4,
		.console_fd = -1,
		.kernel_fd = 5,
		.kernel_size = 1000,
		.ninitrds = 1,
		.initrds = { { .fd = 6, .size = 100 } },
		.ndisks = 1,
		.disks = { { .fd = 7, .size = 512 } },
		.nnets = 1,
		.nets = { { .fd = 8, .mac = { 2 }, .mtu = 1500 } },
	};

	return c;
}

#define FIELDS(X)                                                                                                      \
	X("magic", c->magic ^= 1)                                                                                      \
	X("version", c->version++)                                                                                     \
	X("size", c->size--)                                                                                           \
	X("unknown flag", c->flags |= 1U << 31)                                                                        \
	X("no memory", c->mem_bytes = 0)                                                                               \
	X("memory below the minimum", c->mem_bytes = VMM_MEM_MIN - 4096)                                               \
	X("memory above the maximum", c->mem_bytes = VMM_MEM_MAX + 4096)                                               \
	X("memory not whole pages", c->mem_bytes++)                                                                    \
	X("reserved cid", c->guest_cid = 2)                                                                            \
	X("cid any", c->guest_cid = UINT32_MAX)                                                                        \
	X("no vcpu", c->vcpus = 0)                                                                                     \
	X("too many vcpus", c->vcpus = VMM_VCPUS_MAX + 1)                                                              \
	X("kvm fd", c->kvm_fd = -1)                                                                                    \
	X("kvm fd is a fixed one", c->kvm_fd = VMM_FD_JAIL)                                                            \
	X("console fd without the flag", c->console_fd = 9)                                                            \
	X("console flag without fd", c->flags |= VMM_CONFIG_CONSOLE)                                                   \
	X("console rate without a console", c->console_rate = 1)                                                       \
	X("console rate",                                                                                              \
	  (c->flags |= VMM_CONFIG_CONSOLE, c->console_fd = 9, c->console_rate = VMM_CONSOLE_RATE_MAX + 1))             \
	X("counters fd is a fixed one", c->counters_fd = VMM_FD_LOG)                                                   \
	X("counters fd", c->counters_fd = -1)                                                                          \
	X("kernel fd", c->kernel_fd = 2)                                                                               \
	X("kernel size 0", c->kernel_size = 0)                                                                         \
	X("kernel larger than memory", c->kernel_size = c->mem_bytes + 1)                                              \
	X("too many initrds", c->ninitrds = VMM_INITRDS_MAX + 1)                                                       \
	X("initrd fd", c->initrds[0].fd = 0)                                                                           \
	X("initrd larger than memory", c->initrds[0].size = 1ULL << 40)                                                \
	X("initrd reserved", c->initrds[0].reserved = 1)                                                               \
	X("too many disks", c->ndisks = VMM_DISKS_MAX + 1)                                                             \
	X("disk fd", c->disks[0].fd = -5)                                                                              \
	X("disk's second fd is a fixed one", c->disks[0].direct_fd = 2)                                                \
	X("disk's second fd", c->disks[0].direct_fd = -1)                                                              \
	X("too many networks", c->nnets = VMM_NETS_MAX + 1)                                                            \
	X("capture without its length", c->capture_fd = 9)                                                             \
	X("capture's length alone", c->capture_snap = 100)                                                             \
	X("capture's fd", (c->capture_fd = 3, c->capture_snap = 100))                                                  \
	X("capture of little", (c->capture_fd = 9, c->capture_snap = CAPTURE_SNAP_MIN - 1))                            \
	X("capture of much", (c->capture_fd = 9, c->capture_snap = CAPTURE_FRAME_MAX + 1))                             \
	X("capture of nothing", (c->capture_fd = 9, c->capture_snap = 100, c->nnets = 0))                              \
	X("network fd", c->nets[0].fd = 3)                                                                             \
	X("network flags", c->nets[0].flags = 2)                                                                       \
	X("group address", c->nets[0].mac[0] = 1)                                                                      \
	X("small MTU", c->nets[0].mtu = 67)                                                                            \
	X("large MTU", c->nets[0].mtu = 65521)                                                                         \
	X("packets", c->nets[0].pps = VMM_PPS_MAX + 1)                                                                 \
	X("network's bytes, few", c->nets[0].bps = VMM_BPS_MIN - 1)                                                    \
	X("network's bytes, many", c->nets[0].bps = VMM_BPS_MAX + 1)                                                   \
	X("disk flags", c->disks[0].flags = 2)                                                                         \
	X("disk empty", c->disks[0].size = 0)                                                                          \
	X("disk of half a sector", c->disks[0].size = 511)                                                             \
	X("disk beyond off_t", c->disks[0].size = 1ULL << 63)                                                          \
	X("disk iops", c->disks[0].iops = VMM_IOPS_MAX + 1ULL)                                                         \
	X("disk bps", c->disks[0].bps = VMM_BPS_MAX + 1)                                                               \
	X("disk bps below a page", c->disks[0].bps = VMM_BPS_MIN - 1)                                                  \
	X("command line not ended", memset(c->cmdline, 'a', sizeof(c->cmdline)))

#define FUNCTION(name, change)                                                                                         \
	{                                                                                                              \
		struct vmm_config config = good(), *c = &config;                                                       \
		(void)(change);                                                                                        \
		if (config_check(c) != -EINVAL)                                                                        \
			fail_msg("%s was accepted", name);                                                             \
	}

static void test_bounds(void **state)
{
	struct vmm_config accepted = good();

	(void)state;
	assert_int_equal(config_check(&accepted), 0);
	accepted.disks[0].iops = VMM_IOPS_MAX;
	accepted.disks[0].bps = VMM_BPS_MAX;
	accepted.capture_fd = 9;
	accepted.capture_snap = CAPTURE_FRAME_MAX;
	assert_int_equal(config_check(&accepted), 0);
	FIELDS(FUNCTION)
}

static int memfd_with(const void *bytes, size_t len, unsigned seals)
{
	int fd = memfd_create("config", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_seals(void **state)
{
	const unsigned all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	struct vmm_config config = good();
	const struct vmm_config *read;
	int fd = memfd_with(&config, sizeof(config), all);

	(void)state;
	assert_int_equal(config_read(fd, &read), 0);
	assert_memory_equal(read, &config, sizeof(config));
	(void)close(fd);
	fd = memfd_with(&config, sizeof(config), all & ~(unsigned)F_SEAL_WRITE);
	assert_int_equal(config_read(fd, &read), -EINVAL);
	(void)close(fd);
	fd = memfd_with(&config, sizeof(config) - 1, all);
	assert_int_equal(config_read(fd, &read), -EINVAL);
	(void)close(fd);
	assert_int_equal(config_read(-1, &read), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_seals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
