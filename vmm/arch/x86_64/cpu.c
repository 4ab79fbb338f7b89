#include "cpu.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/arch.h"
#include "layout.h"
#include "log.h"
#include "vcpu.h"
#include "vm.h"

#define CPUID_ENTRIES_MAX 256U
#define CPUID_OWN_MAX     3U

#define MSR_MISC_ENABLE    0x1a0U
#define MSR_MTRR_DEF_TYPE  0x2ffU
#define MISC_FAST_STRING   1U
#define MTRR_WRITE_BACK_ON (6U | 1U << 11)

#define CR0_PE   (1ULL << 0)
#define CR0_ET   (1ULL << 4)
#define CR0_PG   (1ULL << 31)
#define CR4_PAE  (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)
#define BOOT_CS  0x10U /* Linux boot protocol §1.15: __BOOT_CS, __BOOT_DS */
#define BOOT_DS  0x18U

static uint32_t bit(unsigned n)
{
	return 1U << n;
}

/* Bits needed to hold ids 0 .. n-1. */
static uint32_t id_bits(uint32_t n)
{
	uint32_t bits = 0;

	while (1U << bits < n)
		bits++;
	return bits;
}

/*
 * Intel SDM vol. 2, CPUID leaf 0xb: one thread per core, all cores in one package. KVM's supported
 * set holds subleaf 0 at most, so the whole leaf is ours; 0x1f is left out (all zeroes: not there).
 */
static unsigned cpuid_topology(struct kvm_cpuid_entry2 *entries, uint32_t apic_id, uint32_t vcpus)
{
	const struct kvm_cpuid_entry2 levels[] = {
		{ .index = 0, .eax = 0, .ebx = 1, .ecx = 1 << 8 }, /* SMT */
		{ .index = 1, .eax = id_bits(vcpus), .ebx = vcpus, .ecx = 1 | 2 << 8 }, /* core */
		{ .index = 2, .ecx = 2 }, /* no further level */
	};
	unsigned n = sizeof(levels) / sizeof(levels[0]);

	for (unsigned i = 0; i < n; i++) {
		entries[i] = levels[i];
		entries[i].function = 0xb;
		entries[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		entries[i].edx = apic_id;
	}
	return n;
}

/* One leaf of KVM's supported set, made into what this guest sees: no VMX, no SVM, no PMU, its own topology. */
static void cpuid_fix(struct kvm_cpuid_entry2 *e, uint32_t apic_id, uint32_t vcpus, bool tsc_deadline)
{
	switch (e->function) {
	case 0x1:
		e->ebx = (e->ebx & 0x0000ffffU) | vcpus << 16 | apic_id << 24;
		/* VMX, SMX, and what reports through the PMU: DTES64, DS-CPL, PDCM */
		e->ecx &= ~(bit(5) | bit(6) | bit(2) | bit(4) | bit(15));
		e->edx &= ~bit(21); /* DS */
		e->ecx = tsc_deadline ? e->ecx | bit(24) : e->ecx & ~bit(24);
		e->ecx |= bit(31); /* a hypervisor is present */
		if (vcpus > 1)
			e->edx |= bit(28); /* HTT: the package has more than one logical CPU */
		else
			e->edx &= ~bit(28);
		break;
	case 0x4: /* caches: L1 and L2 per core, L3 shared by all */
		if (e->eax & 0x1f) {
			uint32_t sharing = ((e->eax >> 5) & 7) >= 3 ? vcpus - 1 : 0;

			e->eax = (e->eax & 0x3fff) | sharing << 14 | (vcpus - 1) << 26;
		}
		break;
	case 0x7:
		if (e->index == 0)
			e->edx &= ~bit(19); /* architectural LBR */
		break;
	case 0xa: /* architectural performance monitoring */
	case 0x14: /* processor trace */
	case 0x1c:
	case 0x8000000a: /* SVM */
	case 0x80000022: /* AMD extended performance monitoring */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000001:
		/* SVM, SKINIT, IBS, LWP, and the performance counter extensions */
		e->ecx &= ~(bit(2) | bit(12) | bit(10) | bit(15) | bit(23) | bit(24) | bit(28));
		if (vcpus > 1)
			e->ecx |= e->ecx & bit(22) ? bit(1) : 0; /* CmpLegacy where AMD's topology leaf is */
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xf0ffU) | (vcpus - 1) | id_bits(vcpus) << 12;
		break;
	case 0x8000001d: /* AMD caches */
		if (e->eax & 0x1f)
			e->eax = (e->eax & ~(0xfffU << 14)) | (((e->eax >> 5) & 7) >= 3 ? vcpus - 1 : 0) << 14;
		break;
	case 0x8000001e: /* AMD topology: extended APIC id, one thread per core, one node */
		e->eax = apic_id;
		e->ebx = (e->ebx & ~0xffffU) | apic_id;
		e->ecx = 0;
		break;
	default:
		break;
	}
}

static int set_cpuid(struct vcpu *vcpu)
{
	size_t bytes = sizeof(struct kvm_cpuid2) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid2 *cpuid = calloc(1, bytes);
	bool tsc_deadline = ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	unsigned kept = 0;
	int err = 0;

	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = CPUID_ENTRIES_MAX - CPUID_OWN_MAX;
	if (ioctl(vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
		err = -errno;
		log_error("vcpu %u: KVM_GET_SUPPORTED_CPUID: %s", vcpu->index, strerror(errno));
		goto out;
	}
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 0xb || e->function == 0x1f)
			continue;
		cpuid_fix(e, vcpu->index, vcpu->vm->nvcpus, tsc_deadline);
		cpuid->entries[kept++] = *e;
	}
	kept += cpuid_topology(&cpuid->entries[kept], vcpu->index, vcpu->vm->nvcpus);
	cpuid->nent = kept;
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0) {
		err = -errno;
		log_error("vcpu %u: KVM_SET_CPUID2: %s", vcpu->index, strerror(errno));
	}
out:
	free(cpuid);
	return err;
}

static int set_msrs(struct vcpu *vcpu)
{
	static const struct kvm_msr_entry entries[] = {
		{ .index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING },
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_WRITE_BACK_ON },
	};
	union { /* struct kvm_msrs ends in a flexible array */
		struct kvm_msrs msrs;
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(entries)];
	} u = { .msrs.nmsrs = 2 };
	int set;

	memcpy(u.msrs.entries, entries, sizeof(entries));
	set = ioctl(vcpu->fd, KVM_SET_MSRS, &u);
	if (set != 2) { /* the number of MSRs set is the answer; errno only when it is negative */
		log_error("vcpu %u: KVM_SET_MSRS: refused MSR 0x%x", vcpu->index, entries[set < 0 ? 0 : set].index);
		return -EIO;
	}
	return 0;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = code,
		.db = !code,
		.g = 1,
	};
}

static int set_registers(struct vcpu *vcpu)
{
	struct kvm_regs regs = {
		.rip = vcpu->vm->boot_entry,
		.rsi = vcpu->vm->boot_arg,
		.rsp = X86_PML4,
		.rflags = 2,
	};
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		goto fail;
	sregs.cs = segment(BOOT_CS, 0xb, true);
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = segment(BOOT_DS, 0x3, false);
	sregs.gdt.base = X86_GDT;
	sregs.gdt.limit = 4 * 8 - 1;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.cr3 = X86_PML4;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_FPU, &fpu) < 0 ||
	    ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		goto fail;
	return 0;
fail:
	log_error("vcpu %u: setting its registers: %s", vcpu->index, strerror(errno));
	return -errno;
}

int cpu_write_boot_tables(const struct guestmem *mem)
{
	static const uint64_t gdt[4] = { 0, 0, 0x00af9b000000ffffULL, 0x00cf93000000ffffULL };
	uint64_t table[512];
	int err;

	err = guestmem_write(mem, X86_GDT, gdt, sizeof(gdt));
	memset(table, 0, sizeof(table));
	table[0] = (X86_PML4 + 0x1000) | 3;
	err = err ? err : guestmem_write(mem, X86_PML4, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++)
		table[i] = (X86_PML4 + 0x2000 + i * 0x1000ULL) | 3;
	err = err ? err : guestmem_write(mem, X86_PML4 + 0x1000, table, sizeof(table));
	for (unsigned gib = 0; gib < 4 && !err; gib++) {
		for (unsigned i = 0; i < 512; i++)
			table[i] = ((uint64_t)gib << 30 | (uint64_t)i << 21) | 0x83; /* present, writable, 2 MiB */
		err = guestmem_write(mem, X86_PML4 + 0x2000 + gib * 0x1000ULL, table, sizeof(table));
	}
	return err;
}

int arch_vcpu_init(struct vcpu *vcpu)
{
	int err = set_cpuid(vcpu);

	if (!err)
		err = set_msrs(vcpu);
	/* The others wait for the boot CPU's INIT and SIPI, which KVM handles. */
	if (!err && vcpu->index == 0)
		err = set_registers(vcpu);
	return err;
}

void arch_vcpu_dump(struct vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return;
	log_error("vcpu %u: rip %016llx rsp %016llx rflags %08llx", vcpu->index, r.rip, r.rsp, r.rflags);
	log_error("vcpu %u: rax %016llx rbx %016llx rcx %016llx rdx %016llx", vcpu->index, r.rax, r.rbx, r.rcx, r.rdx);
	log_error("vcpu %u: rsi %016llx rdi %016llx rbp %016llx r8  %016llx", vcpu->index, r.rsi, r.rdi, r.rbp, r.r8);
	log_error("vcpu %u: r9  %016llx r10 %016llx r11 %016llx r12 %016llx", vcpu->index, r.r9, r.r10, r.r11, r.r12);
	log_error("vcpu %u: r13 %016llx r14 %016llx r15 %016llx", vcpu->index, r.r13, r.r14, r.r15);
	log_error("vcpu %u: cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx cs %x cpl %u", vcpu->index, s.cr0, s.cr2,
		  s.cr3, s.cr4, s.efer, s.cs.selector, s.cs.dpl);
}
