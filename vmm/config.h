/*
 * Reading and checking the configuration (mvm/vmm_config.h).
 *
 * Trust:   the supervisor wrote it; every field is checked all the same.
 * Ownership: config_read() returns a private read-only mapping that lives as long as the process.
 * Returns: 0 or -errno; failures are logged with the field's name.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "mvm/counters.h"
#include "mvm/vmm_config.h"

int config_read(int fd, const struct vmm_config **ret_config);
int config_check(const struct vmm_config *config); /* the checks alone; -EINVAL */

/* Maps what the config names to count in, and closes its descriptor; NULL: it names none. The mapping is the caller's. */
int config_counters(const struct vmm_config *config, struct counters **ret_counters);

#endif
