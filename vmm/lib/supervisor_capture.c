/* --pcap: frames that the VMM copied out, on their way into the file. See capture.h. */
#include <errno.h>
#include <string.h>

#include "lib/supervisor.h"
#include "lib/text.h"

#define LAST_READS 4096U /* at the end: what the socket holds, and no more can come */

int supervisor_capture_open(struct supervisor *s, struct vmm_config *config, struct handover *handover,
			    struct mvm_error *err)
{
	const struct mvm_spec *spec = s->spec;
	uint32_t snap = spec->pcap_snap ? (uint32_t)spec->pcap_snap : CAPTURE_FRAME_MAX;
	int r = 0;

	if (!spec->pcap || (s->capture && s->capture->ended != CAPTURE_NOTHING))
		return 0;
	if (!s->capture)
		r = capture_open(spec->pcap, spec->pcap_max ? spec->pcap_max : CAPTURE_DEFAULT, snap, &s->capture, err);
	if (r == 0 && vm_files_hold(&s->files, s->capture->file))
		r = error_set(err, EBUSY, "--pcap: %s: one of the VM's own files: give it one that may be overwritten",
			      spec->pcap);
	if (r == 0)
		r = capture_socket(s->capture, &handover->fds[handover->n], err); /* HANDOVER_MAX has room for it */
	if (r < 0)
		return r;
	config->capture_fd = (int32_t)handover->n++;
	config->capture_snap = snap;
	return 0;
}

int supervisor_capture_begin(struct supervisor *s, struct mvm_error *err)
{
	uint8_t macs[VMM_NETS_MAX][6];

	if (!s->capture || s->capture->ended != CAPTURE_NOTHING)
		return 0;
	for (unsigned i = 0; i < s->files.nets.n; i++)
		memcpy(macs[i], s->files.nets.ends[i].net.mac, sizeof(macs[i]));
	return capture_begin(s->capture, macs, s->files.nets.n, err);
}

/* Whether there may be more. */
static bool read_some(struct supervisor *s)
{
	struct capture *capture = s->capture;
	char most[32];

	switch (capture_read(capture)) {
	case CAPTURE_MORE:
		return true;
	case CAPTURE_FULL:
		supervisor_log(s, MVM_LOG_WARNING,
			       "--pcap: %s: full with %s: no more frames are captured: --pcap-max gives it more room",
			       capture->path, text_size(capture->max, most));
		break;
	case CAPTURE_FAILED:
		supervisor_log(s, MVM_LOG_ERROR, "--pcap: %s: cannot be written: %s: no more frames are captured",
			       capture->path, strerror(capture->error));
		break;
	case CAPTURE_BROKEN:
		supervisor_vmm_broke(s, "the VMM sent a frame to capture that is none");
		break;
	case CAPTURE_NOTHING:
		break;
	}
	return false;
}

void supervisor_on_capture(struct supervisor *s)
{
	(void)read_some(s);
}

void supervisor_capture_ended(struct supervisor *s)
{
	struct counters counters = { 0 };
	uint64_t dropped[VMM_NETS_MAX];
	struct capture *capture = s->capture;
	enum capture_news before;

	if (!capture)
		return;
	for (unsigned i = 0; i < LAST_READS && capture->socket >= 0 && read_some(s); i++)
		;
	if (s->counters)
		counters_copy(s->counters, &counters);
	for (unsigned i = 0; i < VMM_NETS_MAX; i++)
		dropped[i] = counters.nets[i].capture_dropped;
	before = capture->ended;
	capture_finish(capture, dropped);
	if (before == CAPTURE_NOTHING && capture->ended == CAPTURE_FAILED)
		supervisor_log(s, MVM_LOG_ERROR, "--pcap: %s: cannot be written: %s", capture->path,
			       strerror(capture->error));
	if (capture->dropped)
		supervisor_log(s, MVM_LOG_WARNING,
			       "--pcap: %s: %llu frames are not in it: there were more than could be written down",
			       capture->path, (unsigned long long)capture->dropped);
}
