#include "boot.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"

#define PHNUM_MAX      64U
#define SETUP_HEADER   0x1f1U /* boot.rst: offset of struct setup_header in the file and the zero page */
#define HEADER_MAGIC   0x53726448U /* "HdrS" */
#define ENTRY64_OFFSET 0x200U
#define KERNEL_START   0x1000000ULL

/* Reads exactly len bytes at offset, straight into guest memory. */
static int load_bytes(const struct guestmem *mem, int fd, uint64_t offset, gpa_t gpa, uint64_t len)
{
	uint8_t *hva;
	void *slice;
	int err = guestmem_slice(mem, gpa, len, &slice);

	if (err)
		return err;
	hva = slice;
	while (len) {
		ssize_t n = pread(fd, hva, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		hva += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int read_header(int fd, uint64_t offset, void *dst, size_t len)
{
	ssize_t n;

	do
		n = pread(fd, dst, len, (off_t)offset);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -ENODATA;
}

static int load_segment(const struct guestmem *mem, int fd, uint64_t size, bool mapped, const Elf64_Phdr *ph,
			gpa_t *end)
{
	uint64_t file_end, mem_end, pages = 0;
	int err;

	if (__builtin_add_overflow(ph->p_offset, ph->p_filesz, &file_end) || file_end > size) {
		log_error("kernel: cut short: a segment ends at byte %llu of %llu", (unsigned long long)file_end,
			  (unsigned long long)size);
		return -ENOEXEC;
	}
	/* Below 1 MiB are the boot tables; a segment there could overwrite what describes the machine. */
	if (ph->p_memsz < ph->p_filesz || ph->p_paddr < X86_HIMEM ||
	    __builtin_add_overflow(ph->p_paddr, ph->p_memsz, &mem_end)) {
		log_error("kernel: a segment's addresses make no sense");
		return -ENOEXEC;
	}
	if (mem_end > *end)
		*end = mem_end;
	if (mapped && !(ph->p_flags & PF_W) && (ph->p_offset | ph->p_paddr) % GUESTMEM_PAGE == 0) {
		pages = ph->p_filesz & ~(GUESTMEM_PAGE - 1);
		err = guestmem_map(mem, ph->p_paddr, pages, fd, ph->p_offset);
		if (err || pages == ph->p_filesz)
			return err;
	}
	return load_bytes(mem, fd, ph->p_offset + pages, ph->p_paddr + pages, ph->p_filesz - pages);
}

static int load_elf(const struct guestmem *mem, int fd, uint64_t size, bool mapped, const Elf64_Ehdr *eh,
		    struct boot_kernel *ret)
{
	Elf64_Phdr phdrs[PHNUM_MAX];
	bool entry_inside = false;
	gpa_t end = 0;
	int err;

	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != EM_X86_64) {
		log_error("kernel: an ELF file, but not for x86-64 (machine %u)", eh->e_machine);
		return -ENOEXEC;
	}
	if (eh->e_phentsize != sizeof(phdrs[0]) || eh->e_phnum == 0 || eh->e_phnum > PHNUM_MAX) {
		log_error("kernel: %u program headers of %u bytes: not a vmlinux", eh->e_phnum, eh->e_phentsize);
		return -ENOEXEC;
	}
	err = read_header(fd, eh->e_phoff, phdrs, eh->e_phnum * sizeof(phdrs[0]));
	if (err) {
		log_error("kernel: cut short: its program headers: %s", strerror(-err));
		return -ENOEXEC;
	}
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		const Elf64_Phdr *ph = &phdrs[i];

		if (ph->p_type != PT_LOAD || ph->p_memsz == 0)
			continue;
		err = load_segment(mem, fd, size, mapped, ph, &end);
		if (err) {
			if (err != -ENOEXEC)
				log_error("kernel: loading a segment at 0x%llx: %s", (unsigned long long)ph->p_paddr,
					  err == -EFAULT ? "outside of the guest's memory" : strerror(-err));
			return err;
		}
		if (eh->e_entry >= ph->p_paddr && eh->e_entry - ph->p_paddr < ph->p_filesz)
			entry_inside = true;
	}
	if (!entry_inside) {
		log_error("kernel: its entry point lies in none of its segments");
		return -ENOEXEC;
	}
	*ret = (struct boot_kernel){ .entry = eh->e_entry, .end = end };
	/* What a boot loader would have read from a bzImage: just enough of a header for the zero page. */
	ret->header.boot_flag = 0xaa55;
	ret->header.header = HEADER_MAGIC;
	ret->header.version = 0x20f;
	ret->header.kernel_alignment = 0x1000000;
	ret->header.initrd_addr_max = 0xffffffff;
	ret->header.loadflags = LOADED_HIGH;
	return 0;
}

static int load_bzimage(const struct guestmem *mem, int fd, uint64_t size, struct boot_kernel *ret)
{
	struct setup_header header;
	uint64_t setup_bytes, payload;
	gpa_t load = KERNEL_START;
	void *slice;
	int err = read_header(fd, SETUP_HEADER, &header, sizeof(header));

	if (err || header.boot_flag != 0xaa55 || header.header != HEADER_MAGIC) {
		log_error("kernel: neither an ELF vmlinux nor a bzImage");
		return -ENOEXEC;
	}
	/* boot.rst: xloadflags and the 64-bit entry exist since 2.12 */
	if (header.version < 0x20c || !(header.xloadflags & XLF_KERNEL_64) || !(header.loadflags & LOADED_HIGH)) {
		log_error("kernel: a bzImage without the 64-bit entry (boot protocol 0x%x)", header.version);
		return -ENOEXEC;
	}
	setup_bytes = ((header.setup_sects ? header.setup_sects : 4U) + 1ULL) * 512;
	payload = (uint64_t)header.syssize * 16;
	if (setup_bytes >= size || payload == 0 || payload > size - setup_bytes + 15) {
		log_error("kernel: a bzImage cut short: %llu bytes, its header says %llu", (unsigned long long)size,
			  (unsigned long long)(setup_bytes + payload));
		return -ENOEXEC;
	}
	payload = size - setup_bytes < payload ? size - setup_bytes : payload;
	if (header.init_size < payload) {
		log_error("kernel: a bzImage that says it needs less memory than it has bytes");
		return -ENOEXEC;
	}
	if (header.pref_address >= X86_HIMEM)
		load = header.pref_address;
	if (guestmem_slice(mem, load, header.init_size, &slice)) {
		log_error("kernel: needs %u MiB of memory at 0x%llx", header.init_size >> 20, (unsigned long long)load);
		return -ENOMEM;
	}
	err = load_bytes(mem, fd, setup_bytes, load, payload);
	if (err) {
		log_error("kernel: loading its payload: %s", strerror(-err));
		return err;
	}
	*ret = (struct boot_kernel){ .entry = load + ENTRY64_OFFSET, .end = load + header.init_size, .header = header };
	return 0;
}

int boot_load_kernel(const struct guestmem *mem, int fd, uint64_t size, bool mapped, struct boot_kernel *ret_kernel)
{
	Elf64_Ehdr eh;
	int err = read_header(fd, 0, &eh, sizeof(eh));

	if (err) {
		log_error("kernel: cut short: %llu bytes", (unsigned long long)size);
		return -ENOEXEC;
	}
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) == 0)
		return load_elf(mem, fd, size, mapped, &eh, ret_kernel);
	return load_bzimage(mem, fd, size, ret_kernel);
}
