/*
 * What is said to the jail and around it: jail papers, requests on a VM's control socket, layers by name, limits of I/O. Whatever
 * is accepted lies inside its bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jail/io_max.h"
#include "jail/layers.h"
#include "jail/self.h"
#include "lib/attach.h"
#include "mvm/vmm_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_papers(const uint8_t *data, size_t size)
{
	struct jail_papers *papers = calloc(1, size ? size : 1);
	size_t room = size < sizeof(*papers) ? 0 : (size - sizeof(*papers)) / sizeof(struct sock_filter);

	if (!papers)
		return;
	memcpy(papers, data, size);
	if (size >= sizeof(*papers)) {
		papers->magic = JAIL_PAPERS_MAGIC;
		papers->size = (uint32_t)size;
	}
	if (jail_papers_check(papers, size) == 0)
		for (unsigned i = 0; i < JAIL_FILTERS; i++)
			if ((size_t)papers->filters[i].first + papers->filters[i].count > room)
				abort();
	free(papers);
}

static void try_request(const uint8_t *data, size_t size)
{
	struct attach_msg msg;
	size_t n = size < sizeof(msg) ? size : sizeof(msg);

	memset(&msg, 0, sizeof(msg));
	memcpy(&msg, data, n);
	msg.hdr.magic = ATTACH_MAGIC;
	msg.hdr.version = ATTACH_VERSION;
	if (attach_check(&msg, n) == 0 && (msg.hdr.len > ATTACH_PAYLOAD_MAX || msg.payload[msg.hdr.len] != 0))
		abort();
}

/* What was read is written so that it is read again. */
static void try_io_max(const char *text)
{
	struct io_max io = { 0 }, again = { 0 };
	char written[IO_MAX_TEXT];

	if (io_max_parse("fuzz", text, &io, NULL) < 0) {
		if (io_max_any(&io))
			abort();
		return;
	}
	if (io_max_parse("fuzz", io_max_text(&io, ',', written), &again, NULL) < 0 ||
	    memcmp(&io, &again, sizeof(io)) != 0)
		abort();
	for (unsigned i = 0; i < IO_MAX_KEYS; i++)
		if (io.most[i] > (i < IO_MAX_RIOPS ? VMM_BPS_MAX : VMM_IOPS_MAX))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[65];
	unsigned layers;

	try_papers(data, size);
	try_request(data, size);
	memset(text, 0, sizeof(text));
	memcpy(text, data, size < sizeof(text) - 1 ? size : sizeof(text) - 1);
	if (jail_layers_parse("fuzz", text, &layers, NULL) == 0 && (layers == 0 || layers >= JAIL_LAYER_LSM << 1))
		abort();
	try_io_max(text);
	return 0;
}
