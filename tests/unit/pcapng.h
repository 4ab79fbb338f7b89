/* A reader of pcapng files that takes nothing for granted: what tests and fuzzers hold lib/capture.c's files against. */
#ifndef TESTS_PCAPNG_H
#define TESTS_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCAPNG_NETS 4U

struct pcapng_frame {
	unsigned section, net; /* section: from 0 */
	bool to_guest;
	uint64_t time_ns;
	uint32_t len; /* on the wire */
	uint32_t have; /* of them in the file */
	const uint8_t *bytes;
};

struct pcapng {
	unsigned sections, nets, frames; /* nets: of the last section */
	uint32_t snap;
	uint8_t macs[PCAPNG_NETS][6];
	uint64_t dropped[PCAPNG_NETS]; /* by the last section's statistics */
	unsigned statistics; /* of the last section */
};

/*
 * Reads all of a file; each frame to `on_frame`, unless that is NULL. NULL, or what is wrong with the file.
 */
const char *pcapng_read(const uint8_t *file, size_t len, void (*on_frame)(void *arg, const struct pcapng_frame *frame),
			void *arg, struct pcapng *ret_summary);

#endif
