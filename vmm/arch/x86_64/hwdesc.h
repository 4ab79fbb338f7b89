/*
 * The hardware description: a flattened device tree, by libfdt (environment: Linux reads it on x86
 * through SETUP_DTB, arch/x86/kernel/devicetree.c).
 *
 * Ownership: the caller frees *ret_blob. Thread: any.
 */
#ifndef VMM_X86_HWDESC_H
#define VMM_X86_HWDESC_H

#include <stddef.h>

int hwdesc_build(unsigned vcpus, unsigned virtio_devices, void **ret_blob, size_t *ret_size);

#endif
