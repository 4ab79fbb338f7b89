#include "lib/broker.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int broker_grant(struct broker *broker, uint32_t port, int fd)
{
	int r = broker->ngrants < BROKER_GRANTS_MAX ? 0 : -ENOSPC;

	for (unsigned i = 0; i < broker->ngrants; i++)
		if (broker->grants[i].port == port)
			r = -EEXIST;
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	broker->grants[broker->ngrants].port = port;
	broker->grants[broker->ngrants++].fd = fd;
	return 0;
}

int broker_dial(struct broker *broker, uint32_t port)
{
	for (unsigned i = 0; i < broker->ngrants; i++)
		if (broker->grants[i].port == port) {
			int fd = broker->grants[i].fd;

			broker->grants[i] = broker->grants[--broker->ngrants];
			return fd;
		}
	return -ECONNREFUSED;
}

void broker_close(struct broker *broker)
{
	while (broker->ngrants)
		(void)close(broker->grants[--broker->ngrants].fd);
}

int control_from_vmm(const void *datagram, size_t len, struct control_msg *ret_msg)
{
	struct control_msg msg;

	if (len != sizeof(msg))
		return -EPROTO;
	memcpy(&msg, datagram, sizeof(msg));
	if (msg.type != CONTROL_RUNNING && msg.type != CONTROL_DIAL && msg.type != CONTROL_ENDED)
		return -EPROTO;
	if (msg.type == CONTROL_RUNNING && msg.arg != CONTROL_VERSION)
		return -EPROTO;
	*ret_msg = msg;
	return 0;
}
