/*
 * --publish: a TCP or UDP port of the host that leads to one of the guest, as the user described it.
 *
 * Purpose: docker's "[[IP:][HOST]:]GUEST[/tcp|/udp]" to a struct and back.
 * Trust:   values come from the user; every field is checked here.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_SPEC_PUBLISH_H
#define LIB_SPEC_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/mvm.h"
#include "mvm/proto.h"

#define SPEC_PUBLISH_MAX  PROTO_PUBLISH_MAX
#define SPEC_PUBLISH_TEXT 80 /* bytes of the longest text, with the NUL */

struct spec_publish {
	uint8_t address[16]; /* IPv4: the first four */
	uint8_t family; /* 4 or 6 */
	uint16_t host; /* 0: any that is free */
	uint16_t guest;
	bool udp; /* else TCP */
};

int spec_publish_parse(const char *label, const char *value, struct spec_publish *ret, struct mvm_error *err);

/* As spec_publish_parse() reads it; returns buf. */
const char *spec_publish_text(const struct spec_publish *publish, char buf[SPEC_PUBLISH_TEXT]);

/* "127.0.0.1:8080->80/tcp": where it is with that port of the host. Returns buf. */
const char *spec_publish_where(const struct spec_publish *publish, uint16_t host, char buf[SPEC_PUBLISH_TEXT]);

#endif
