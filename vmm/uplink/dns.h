/*
 * DNS messages, as much of them as asking for a name's addresses takes (RFC 1035 §4, RFC 3596).
 *
 * Purpose: read a guest's question, ask it of a server, read the answer, write one of our own: no byte of a message is passed on.
 * Trust:   a question is the guest's and an answer a stranger's: every function takes any bytes.
 * Thread:  any; no state.
 *
 * A name is text, lower-case, without the last dot: letters, digits, '-' and '_' in labels of 1 to 63, 253 in all.
 */
#ifndef UPLINK_DNS_H
#define UPLINK_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_NAME      254U /* with the final NUL */
#define DNS_MESSAGE   1232U /* bytes that cross any network in one piece (RFC 9715 §3.1) */
#define DNS_ADDRESSES 16U /* of one answer that are taken */

enum { DNS_A = 1, DNS_AAAA = 28 };
enum { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5 };

struct dns_question {
	uint16_t id;
	uint16_t type; /* any */
	bool recursion; /* the asker wants it, which is said back */
	char name[DNS_NAME];
};

struct dns_answer {
	uint8_t code; /* DNS_NOERROR … */
	bool authoritative; /* of a name that is ours */
	unsigned n;
	struct dns_address {
		uint8_t bytes[16]; /* 4 of type A */
	} addresses[DNS_ADDRESSES];
	uint32_t ttl; /* seconds, the least of all; 0 where there are none */
};

/* Into the form above; false: no name. */
bool dns_name(const char *text, char ret[DNS_NAME]);

/*
 * One question of class IN. -EBADMSG: nothing that could be answered; -EINVAL: ret's id is right, the rest is not: answer
 * with DNS_FORMERR, or with DNS_NOTIMP where *ret_code says so.
 */
int dns_parse_question(const uint8_t *msg, size_t len, struct dns_question *ret, uint8_t *ret_code);

/* Asks a server for recursion. Bytes written. */
size_t dns_put_question(uint8_t buf[DNS_MESSAGE], const struct dns_question *question);

/*
 * The answer to `question`: what its name, or that one's last alias, has of the type. -EBADMSG: it is not that answer, or
 * malformed. A message that was cut is taken as far as it goes.
 */
int dns_parse_answer(const uint8_t *msg, size_t len, const struct dns_question *question, struct dns_answer *ret);

/* Bytes written. The question is written back where its name is not "". */
size_t dns_put_answer(uint8_t buf[DNS_MESSAGE], const struct dns_question *question, const struct dns_answer *answer);

#endif
