/* The digests of all that a run was made of. */
#include "lib/receipt.h"

void receipt_digests_init(struct digest digests[RECEIPT_FILES])
{
	for (unsigned i = 0; i < RECEIPT_FILES; i++)
		digest_init(&digests[i], -1, 0);
}

void receipt_digests_begin(const struct mvm_spec *spec, const struct vm_files *files,
			   struct digest digests[RECEIPT_FILES])
{
	digest_init(&digests[RECEIPT_KERNEL], files->kernel.fd, files->kernel.size);
	digest_init(&digests[RECEIPT_INITRD], files->initrd.fd, files->initrd.size);
	/* Of a disk that changes meanwhile there is none. */
	if (!spec->rw)
		digest_init(&digests[RECEIPT_ROOTFS], files->rootfs.fd, files->rootfs.size);
	for (unsigned i = 0; i < files->ndisks; i++)
		if (spec->disks[i].ro)
			digest_init(&digests[RECEIPT_DISKS + i], files->disks[i].fd, files->disks[i].size);
}

bool receipt_digests_pending(const struct digest digests[RECEIPT_FILES])
{
	for (unsigned i = 0; i < RECEIPT_FILES; i++)
		if (!digests[i].done)
			return true;
	return false;
}

bool receipt_digests_step(struct digest digests[RECEIPT_FILES])
{
	for (unsigned i = 0; i < RECEIPT_FILES; i++)
		if (!digests[i].done) {
			(void)digest_step(&digests[i]);
			break;
		}
	return receipt_digests_pending(digests);
}

void receipt_digests_free(struct digest digests[RECEIPT_FILES])
{
	for (unsigned i = 0; i < RECEIPT_FILES; i++)
		digest_free(&digests[i]);
}
