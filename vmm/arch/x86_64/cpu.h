/* CPUID, MSRs and registers of a vCPU that enters Linux by the 64-bit boot protocol. */
#ifndef VMM_X86_CPU_H
#define VMM_X86_CPU_H

#include "guestmem.h"

/* Writes the boot GDT and identity page tables (first 4 GiB, 2 MiB pages) into guest memory. */
int cpu_write_boot_tables(const struct guestmem *mem);

#endif
