/*
 * What a client asks of the proxy (--proxy), and what it is answered: HTTP (RFC 9110 §9.3.6, RFC 9112 §3.2) and SOCKS5
 * (RFC 1928).
 *
 * Purpose: bytes to a destination and back. No socket, no clock, no state but the caller's.
 * Trust:   every byte is the guest's: the functions take any, as many as there are.
 * Thread:  any.
 * Returns: of a reader: bytes that the request takes, 0: more are needed, -1: it is none, *ret_why says which kind of none.
 */
#ifndef UPLINK_PROXY_REQUEST_H
#define UPLINK_PROXY_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/dns.h"

#define PROXY_HEAD    16384U /* bytes of a request at most, without what it is about */
#define PROXY_REWRITE (2 * PROXY_HEAD + 256) /* … and of one that was made of it */
#define PROXY_ANSWER  1536U
#define PROXY_WHERE   80U /* text of an address and port, with its NUL */

enum proxy_kind {
	PROXY_NONE,
	PROXY_SOCKS,
	PROXY_CONNECT, /* HTTP: bytes are passed both ways */
	PROXY_FORWARD, /* HTTP: the request itself is passed on, as its server wants it */
};

struct proxy_request {
	enum proxy_kind kind;
	uint8_t family; /* of the address, 4 or 6; 0: a name */
	uint8_t address[16];
	char name[DNS_NAME];
	uint16_t port; /* 1 to 65535 */
	/* of FORWARD, in the head: */
	size_t method_len, authority, authority_len, path, path_len;
	uint64_t body; /* bytes behind the head that are the request's; UINT64_MAX: as many as come (chunked) */
};

enum proxy_result {
	PROXY_OPENED,
	PROXY_POLICY, /* the namespace's rules refuse the address */
	PROXY_OWN, /* so do they that of the loopback, and of the namespace: nothing can name it */
	PROXY_UNNAMED, /* a name, where none is resolved */
	PROXY_NO_NAME, /* there is no such name, or it has no address */
	PROXY_NO_ANSWER, /* of the name server's */
	PROXY_REFUSED, /* nobody listens there */
	PROXY_UNREACHABLE,
	PROXY_TIMEOUT,
	PROXY_LATE, /* the request's end did not come */
	PROXY_BAD,
	PROXY_LARGE,
	PROXY_METHOD,
	PROXY_VERSION,
	PROXY_COMMAND, /* of SOCKS */
	PROXY_ADDRESS, /* its form, of SOCKS */
	PROXY_FAILED, /* our own want */
};

/* What the first byte begins; NONE: neither. HTTP is CONNECT until it is read. */
enum proxy_kind proxy_kind_of(uint8_t first);

/* The methods of authentication that a client offers; *ret_good: none at all is among them. */
int proxy_socks_greeting(const uint8_t *bytes, size_t len, bool *ret_good);

int proxy_socks_request(const uint8_t *bytes, size_t len, struct proxy_request *ret, enum proxy_result *ret_why);
int proxy_http_request(const uint8_t *bytes, size_t len, struct proxy_request *ret, enum proxy_result *ret_why);

/*
 * A head of `len` bytes that is `request`, of kind FORWARD, as its server is to get it: in origin-form, without what was
 * for the proxy alone, and the only one of its connection. Bytes written.
 */
size_t proxy_rewrite(const uint8_t *head, size_t len, const struct proxy_request *request, uint8_t out[PROXY_REWRITE]);

/*
 * What a client is told. `request` as far as it was read, its kind at least. Of an address that was tried `where` tells
 * ("10.0.0.1:80"), and of POLICY `why`; either may be "". Bytes written, none at all for a FORWARD that is OPENED.
 */
size_t proxy_answer(const struct proxy_request *request, enum proxy_result result, const char *where, const char *why,
		    uint8_t out[PROXY_ANSWER]);

#endif
