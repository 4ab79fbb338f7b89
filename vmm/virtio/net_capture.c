/* --pcap: copies of the frames that leave and of those that the guest receives, one datagram each; see mvm/capture.h. */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "virtio/net.h"

unsigned net_capture_gather(struct net *net, size_t copied)
{
	const struct vq_chain *chain = &net->chain;
	size_t skip = copied, at = copied - sizeof(net->head.hdr);

	memcpy(net->capture.frame, net->head.frame, at);
	for (unsigned i = 0; i < chain->nread; i++) {
		size_t past = skip < chain->iov[i].iov_len ? skip : chain->iov[i].iov_len;
		size_t n = chain->iov[i].iov_len - past;

		skip -= past;
		memcpy(net->capture.frame + at, (const uint8_t *)chain->iov[i].iov_base + past, n);
		at += n; /* the frame was judged: NET_FRAME_MAX at most */
	}
	net->iov[0] = (struct iovec){ &net->head.hdr, sizeof(net->head.hdr) };
	net->iov[1] = (struct iovec){ net->capture.frame, at };
	return 2;
}

void net_capture_frame(struct net *net, const uint8_t *frame, size_t len, bool to_guest)
{
	struct net_capture *capture = &net->capture;
	const struct capture_record record = {
		.time_ns = net_now(),
		.len = (uint32_t)len,
		.net = capture->number,
		.to_guest = to_guest,
	};
	const struct iovec iov[2] = {
		{ (void *)(uintptr_t)&record, sizeof(record) },
		{ (void *)(uintptr_t)frame, len < capture->snap ? len : capture->snap },
	};

	if (writev(capture->fd, iov, 2) >= 0)
		return;
	if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
		capture->on = false; /* the supervisor has what it wants, and said so */
	else
		counters_add(&net->counted->capture_dropped, 1);
}
