/*
 * The x86_64 machine's memory map. RAM is below 3 GiB and from 4 GiB on; devices lie in between.
 */
#ifndef VMM_X86_LAYOUT_H
#define VMM_X86_LAYOUT_H

#include "guestmem.h"

#define X86_GDT        0x500ULL /* boot GDT, 4 entries */
#define X86_ZERO_PAGE  0x7000ULL /* struct boot_params */
#define X86_PML4       0x9000ULL /* then PDPT at 0xa000, 4 page directories from 0xb000 */
#define X86_CMDLINE    0x20000ULL /* VMM_CMDLINE_MAX bytes */
#define X86_SETUP_DATA 0x30000ULL /* SETUP_RNG_SEED, then SETUP_DTB */
#define X86_SETUP_END  0x90000ULL
#define X86_LOW_END    0xa0000ULL /* end of conventional memory */
#define X86_HIMEM      0x100000ULL

#define X86_HOLE_START 0xc0000000ULL
#define X86_HOLE_END   0x100000000ULL
#define X86_SERIAL     0xc0000000ULL
#define X86_POWEROFF   0xc0001000ULL
#define X86_PVPANIC    0xc0002000ULL
#define X86_VIRTIO     0xc0010000ULL /* one page per slot */
#define X86_IOAPIC     0xfec00000ULL
#define X86_LAPIC      0xfee00000ULL
#define X86_IDENTITY   0xfffbc000ULL /* KVM's own page and TSS, for CPUs without unrestricted guests */
#define X86_TSS        0xfffbd000ULL

#endif
