/*
 * Guests' questions for names: who may ask what, what is with the name server, which answers are kept.
 *
 * Purpose: the state of resolver.c's process, without its sockets: the caller brings messages and a clock, and does what
 *          `ops` name. Of a VM it answers for the names in --allow-egress and no other; of a named network its VMs, by
 *          the policy of the one that asks.
 * Trust:   guests and whoever answers in the name server's place are hostile; the request and members are the holder's.
 * Bounds:  QUESTIONS_WAITING questions with the server, each for five seconds and QUESTIONS_ASKERS; QUESTIONS_KNOWN answers,
 *          for ten minutes at most; in a network so many of each member's as leave the others theirs (bucket.h).
 * Ownership: memory is the caller's, and the request, which must stay. Nothing is allocated.
 * Thread:  one. Of the calls of `ops` only tell() may come back in here, and by questions_member() alone.
 */
#ifndef UPLINK_QUESTIONS_H
#define UPLINK_QUESTIONS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "uplink/bucket.h"
#include "uplink/dns.h"
#include "uplink/uplink.h"

#define QUESTIONS_WAITING 64U /* with the server: a socket each */
#define QUESTIONS_ASKERS  8U /* that wait for the same answer */
#define QUESTIONS_KNOWN   128U /* answers that are kept */

/* To the resolver of a network: who is there now in that place. */
struct names_member {
	uint32_t slot;
	uint32_t used; /* 0: nobody */
	uint32_t deny;
	uint8_t ip4[4], ip6[16];
	char name[UPLINK_ID]; /* "": without one */
	uint32_t nnames;
	struct uplink_name names[UPLINK_NAMES];
};

/* Between names.c and resolver.c: each message is answered by a byte, for the resolver to go on. */
struct resolved {
	char name[DNS_NAME];
	uint32_t slot; /* whose question it was */
	uint16_t type; /* DNS_A, DNS_AAAA; 0: the name was refused */
	struct dns_answer answer;
	uint64_t refused; /* names so far: not all of them are told */
};

/* Where a question came from. */
struct questions_from {
	bool six; /* by IPv6 */
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} address;
};

struct questions_ops {
	/* To a guest; one that does not read is not waited for: it asks again. */
	void (*answer)(void *arg, const struct questions_from *to, const uint8_t *msg, size_t len);
	/*
	 * Another port for each question, and another number: who did not see the question does not guess its answer.
	 * What comes to that port is brought to questions_answered() by its place, until close(). False: there is none.
	 */
	bool (*open)(void *arg, unsigned place, uint16_t *ret_id);
	bool (*ask)(void *arg, unsigned place, const uint8_t *msg, size_t len); /* the server; false: it is not sent */
	void (*close)(void *arg, unsigned place);
	/* To the holder, and returns when that is done: an address must be reachable before the guest hears of it. */
	void (*tell)(void *arg, const struct resolved *said);
};

struct questions {
	const struct uplink_request *request;
	const struct questions_ops *ops;
	void *arg;
	bool network;
	unsigned servers; /* ports, of a network, for all members */
	struct bucket crowd; /* … for those who have used up their own */
	struct asking {
		struct names_member is;
		struct bucket ask, tell, own; /* own: of the ports, in a network */
		uint64_t refused; /* names */
	} members[UPLINK_MEMBERS]; /* without a network the first is the VM */
	struct waiting {
		const struct asking *of; /* NULL: free */
		bool whole; /* the server's message goes to who asked, for it is of a type that nobody here reads */
		struct dns_question question; /* with the number that the server has */
		unsigned wrong, naskers;
		struct asker {
			struct questions_from from;
			uint16_t id;
			bool recursion;
		} askers[QUESTIONS_ASKERS];
		int64_t end_ms;
	} waiting[QUESTIONS_WAITING];
	struct known {
		const struct asking *of; /* whose sets have the addresses */
		char name[DNS_NAME]; /* "": free */
		uint16_t type;
		struct dns_answer answer;
		int64_t end_ms;
	} known[QUESTIONS_KNOWN];
};

/*
 * `q`: zeroes, few of which are ever touched. `servers`: questions with the server in three minutes, of a network. Times
 * here and below are milliseconds of one clock.
 */
void questions_init(struct questions *q, const struct uplink_request *request, unsigned servers,
		    const struct questions_ops *ops, void *arg);

/* Of a network: who is now in that place, which is below UPLINK_MEMBERS; who was there is forgotten. */
void questions_member(struct questions *q, const struct names_member *member);

/* A guest's message. */
void questions_asked(struct questions *q, const struct questions_from *from, const uint8_t *msg, size_t len,
		     int64_t now);

/* What came to the port of a place; the message's number is overwritten. A place that is free: nothing. */
void questions_answered(struct questions *q, unsigned place, uint8_t *msg, size_t len, int64_t now);
void questions_unserved(struct questions *q, unsigned place); /* nobody serves there */

/* Those whose time is over are answered. Until when nothing is to be done but what comes; INT64_MAX: for ever. */
int64_t questions_expire(struct questions *q, int64_t now);

#endif
