/*
 * How a guest says that it is over: the power-off register (bound by syscon-poweroff) and pvpanic.
 *
 * Trust:   writes are the guest's; each only ends this VM. Thread: vCPU threads; stateless.
 */
#ifndef VMM_DEV_POWER_H
#define VMM_DEV_POWER_H

#include "bus.h"

extern const struct bus_ops poweroff_bus_ops; /* dev = struct vm * */
extern const struct bus_ops pvpanic_bus_ops; /* dev = struct vm *; QEMU docs/specs/pvpanic.rst */

#endif
