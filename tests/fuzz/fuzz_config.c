/* The config struct: config_check() reads any bytes, and what it accepts is inside the documented bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmm_config config;

	memset(&config, 0, sizeof(config));
	memcpy(&config, data, size < sizeof(config) ? size : sizeof(config));
	config.magic = VMM_CONFIG_MAGIC; /* let the fuzzer spend its time behind the door */
	config.version = VMM_CONFIG_VERSION;
	config.size = sizeof(config);
	if (config_check(&config) == 0) {
		if (config.vcpus < 1 || config.vcpus > VMM_VCPUS_MAX || config.ndisks > VMM_DISKS_MAX ||
		    config.nnets > VMM_NETS_MAX)
			abort();
		for (unsigned i = 0; i < config.ndisks; i++)
			if (config.disks[i].iops > VMM_IOPS_MAX || config.disks[i].bps > VMM_BPS_MAX)
				abort();
		for (unsigned i = 0; i < config.nnets; i++)
			if (config.nets[i].mac[0] & 1 || config.nets[i].mtu > VMM_NET_MTU_MAX)
				abort();
		if (strlen(config.cmdline) >= VMM_CMDLINE_MAX)
			abort();
	}
	return 0;
}
