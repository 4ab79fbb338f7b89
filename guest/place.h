/*
 * One new thing in a folder, whole or not at all.
 *
 * Purpose: a file, a link or a folder's looks, by the descriptor of the folder it belongs in.
 * Trust:   `name` is one component; whoever else writes in the folder may swap what is there: nothing is followed, and
 *          owner and mode are set on descriptors of what was made here.
 * Ownership: struct place_file owns its descriptor and its temporary name until place_end().
 * Thread:  any.
 * Returns: 0 or -errno: -EISDIR a folder is there, -EEXIST a device, a fifo or a socket.
 */
#ifndef MVM_GUEST_PLACE_H
#define MVM_GUEST_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLACE_TEMP "/.mvm-cp-01234567" /* its length: the name without the slash and with the NUL */

struct place_look {
	bool archive; /* owner, group and all of the mode; else the mode's nine bits less the process's umask */
	uint32_t mode, uid, gid;
	int64_t mtime; /* seconds */
};

struct place_file {
	int dir, fd; /* dir is borrowed */
	char temp[sizeof(PLACE_TEMP)]; /* its name until it is whole; "": it has none */
};

int place_begin(int dir, const struct place_look *look, struct place_file *ret);
int place_size(struct place_file *file, uint64_t size); /* what is not written is a hole */
int place_write(struct place_file *file, const void *data, size_t len, uint64_t offset);
int place_finish(struct place_file *file, const char *name, const struct place_look *look);
void place_end(struct place_file *file); /* always: what was not finished is gone then */

int place_symlink(int dir, const char *name, const char *target, const struct place_look *look);
int place_link(int dir, const char *name, int fd); /* another name of the file or link behind fd */

int place_dress_folder(int fd, const struct place_look *look); /* one that was made with u+rwx added */

#endif
