/*
 * Files that a VM is made of: opened, recognised, checked for being whole, locked.
 *
 * Purpose: what is wrong with an image is said before a VM exists, with its remedy.
 * Trust:   file contents are hostile (an image may come from anywhere): only fixed offsets of a
 *          bounded prefix are read, sums are checked.
 * Ownership: a descriptor returned belongs to the caller; it carries the lock.
 * Thread:  any.
 * Returns: 0 or -errno; err holds one line: `what: path: reason: remedy`.
 */
#ifndef LIB_IMAGE_H
#define LIB_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mvm/mvm.h"

#define IMAGE_HEAD 2048U /* bytes looked at; covers ext's and EROFS' superblocks at 1024 */

struct image_file {
	int fd; /* -1: none */
	uint64_t size; /* bytes */
	dev_t dev;
	ino_t ino;
};

/* Opens a regular file, never blocking on what is not one. `what` is the flag, for messages. */
int image_open(const char *what, const char *path, int flags, struct image_file *ret_file, struct mvm_error *err);

/*
 * Opens a disk and locks the whole of it: exclusive when written to, shared when only read. The
 * lock belongs to the open file description and so lives as long as supervisor or VMM.
 */
int image_open_disk(const char *what, const char *path, bool rw, struct image_file *ret_file, struct mvm_error *err);

/*
 * The file system on `head` (len bytes, at most IMAGE_HEAD, from offset 0) of a file of `size`
 * bytes, as the guest's mount(2) calls it: "ext4" for ext2/3/4, "erofs", "squashfs".
 */
int image_probe(const char *path, const void *head, size_t len, uint64_t size, bool rw, const char **ret_type,
		struct mvm_error *err);

/* Opens, locks and probes a root file system. */
int image_open_rootfs(const char *path, bool rw, struct image_file *ret_file, const char **ret_type,
		      struct mvm_error *err);

/* Opens a kernel and checks architecture and completeness. *ret_needs: bytes of guest memory it takes. */
int image_open_kernel(const char *path, struct image_file *ret_file, uint64_t *ret_needs, struct mvm_error *err);

/*
 * Whether a kernel's file may be mapped into guests that run for long: only root and the caller can write into it, by what a local
 * file system says of it, and no VM has it as a disk. Locks it as a disk that is read.
 */
bool image_kernel_share(int fd);

/* The checks alone; `head` is the start of the file, pread() on fd is used for program headers. */
int image_probe_kernel(const char *path, int fd, uint64_t size, uint64_t *ret_needs, struct mvm_error *err);

/* Opens an initial archive. *ret_needs: bytes of guest memory it takes, unpacked too where that is known. */
int image_open_initrd(const char *path, struct image_file *ret_file, uint64_t *ret_needs, struct mvm_error *err);

/* In words, what a file's first bytes are ("a gzip archive", "8 bytes 89 50 4e …"). Returns buf. */
const char *image_describe(const void *head, size_t len, char *buf, size_t cap);

#endif
