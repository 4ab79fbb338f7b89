/*
 * --pcap: a VM's frames in a file, as its VMM copies them out (mvm/capture.h).
 *
 * Form:    pcapng, which has an interface for each device, each frame's direction, and at the end how many frames it
 *          lacks. Each run of a VM (--restart) is a section of the file.
 * Purpose: bounded: the file has `max` bytes at most. When the next frame has no room, or the disk is full, the capture ends and
 *          the VM goes on. It ends at the end of a whole block in any case.
 * Trust:   the records are the VMM's, hostile: each length is checked before it is used.
 * Ownership: the struct owns its descriptors.
 * Thread:  one (the supervisor's); nothing here waits but for the disk.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_CAPTURE_H
#define LIB_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/capture.h"
#include "mvm/mvm.h"
#include "mvm/vmm_config.h"

#define CAPTURE_DEFAULT (64ULL << 20) /* bytes */
#define CAPTURE_LEAST   (128ULL << 10) /* a frame of any size, and what stands around it */
#define CAPTURE_MOST    (1ULL << 40)
#define CAPTURE_BATCH   (256UL << 10) /* bytes that are written together */

enum capture_news {
	CAPTURE_NOTHING, /* no more for now */
	CAPTURE_MORE, /* look again, when others had their turn */
	CAPTURE_FULL, /* `max` is reached: it has ended */
	CAPTURE_FAILED, /* the file cannot be written, capture.error says why: it has ended */
	CAPTURE_BROKEN, /* the VMM sent what is no record: it has ended */
};

struct capture {
	int file, socket; /* ours; -1: none */
	int handed; /* the VMM's end; -1: it has it */
	const char *path; /* for messages; borrowed */
	uint64_t max, size; /* bytes: of the file at most, and now, with what is in the batch */
	uint32_t snap; /* bytes of a frame */
	unsigned nnets; /* of the section that is written */
	uint64_t frames, dropped; /* of this run; dropped: the VMM's word */
	enum capture_news ended; /* FULL, FAILED or BROKEN, and nothing is written any more; NOTHING: it has not */
	int error; /* errno */
	bool made; /* the file was not there before */
	bool begun; /* the file is ours: what it held is gone */
	uint64_t offset_ns; /* CLOCK_REALTIME less CLOCK_MONOTONIC */
	unsigned nframes; /* in the batch, of which `frames` has none */
	size_t nbatch;
	uint8_t batch[CAPTURE_BATCH];
};

/* A file that is not there is made; one that is there must be a regular file that nobody has locked. Nothing is written yet. */
int capture_open(const char *path, uint64_t max, uint32_t snap, struct capture **ret_capture, struct mvm_error *err);
void capture_free(struct capture *capture); /* NULL: nothing. A file that was made and never begun goes again */

/* The VMM's end of a new socket, borrowed; once the VMM has it, ours is closed. Not for a capture that has ended. */
int capture_socket(struct capture *capture, int *ret_fd, struct mvm_error *err);
void capture_handed_over(struct capture *capture);

/* A new section, the first in a file that is emptied for it. `macs`: of the run's devices. */
int capture_begin(struct capture *capture, const uint8_t macs[][6], unsigned nnets, struct mvm_error *err);

/* Takes what the VMM sent, a batch of it at most. What ends the capture is told once. */
enum capture_news capture_read(struct capture *capture);

/* Before a further run: what the last one counted. */
void capture_forget(struct capture *capture);

/* The run is over: `dropped`: of each device, what the VMM says it could not send. */
void capture_finish(struct capture *capture, const uint64_t *dropped);

#endif
