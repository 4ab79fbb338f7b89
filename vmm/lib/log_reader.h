/*
 * Lines from a VMM's log pipe.
 *
 * Purpose: cuts the stream into lines, tells their level, makes them harmless, bounds their rate, names files.
 * Trust:   hostile: a guest may own the VMM. A line is cut at LOG_READER_LINE bytes; past the rate
 *          lines are counted, not kept.
 * Thread:  the supervisor's.
 */
#ifndef LIB_LOG_READER_H
#define LIB_LOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/mvm.h"

#define LOG_READER_LINE  600U /* bytes; the VMM's own lines have at most 512 */
#define LOG_READER_BURST 128U /* lines of one class at once: a register dump and a console's tail fit */
#define LOG_READER_RATE  16U /* lines of one class a second after that */

struct log_reader {
	char line[LOG_READER_LINE];
	size_t len;
	bool cut; /* the rest of an overlong line is being skipped */
	/* Errors have tokens of their own: a flood of warnings must not hide the reason of the end. */
	struct {
		uint32_t used;
		uint64_t last_ns;
	} limits[2];
	uint64_t dropped; /* lines past the rate: told once, at the end */
};

/* Called for each whole line that is within the rate; text without level and newline. */
typedef void log_reader_fn(void *arg, enum mvm_log_level level, const char *text);

void log_reader_feed(struct log_reader *reader, const char *bytes, size_t len, uint64_t now_ns, log_reader_fn *fn,
		     void *arg);

/* At the end: what is left of a line without newline, and how many lines were dropped. */
void log_reader_finish(struct log_reader *reader, log_reader_fn *fn, void *arg);

#define LOG_READER_PATH 256U /* bytes of a path that a line shows: its end */

/*
 * The VMM knows its disks by number alone, the user by their files: "disk blk1: write: …" and "blk1: …" become
 * "disk FILE: write: …". Any other text is copied. paths[n] is blkN's; ret_text holds `size` bytes.
 */
void log_reader_name_disk(const char *text, const char *const *paths, size_t npaths, char *ret_text, size_t size);

#endif
