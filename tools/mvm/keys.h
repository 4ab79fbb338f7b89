/*
 * The keys that leave a VM to itself, among what is typed for it.
 *
 * Purpose: finds the sequence of --detach-keys; what turns out not to be it goes on to the VM, in order.
 * Trust:   bytes are the user's, passed on unseen.
 * Thread:  one.
 */
#ifndef KEYS_H
#define KEYS_H

#include <stdbool.h>
#include <stddef.h>

#define KEYS_MAX     16U
#define KEYS_DEFAULT "ctrl-p,ctrl-q" /* docker's */
#define KEYS_WRONG   "--detach-keys: no keys: give some as ctrl-p,ctrl-q or a,b, or none: ''"

struct keys {
	unsigned n, at; /* bytes of the sequence; of them, those that were typed and are held back */
	char v[KEYS_MAX];
	bool typed; /* the whole sequence was */
};

/* "ctrl-p,ctrl-q", "ctrl-],x": single characters, or ctrl- and one of a-z @ [ \ ] ^ _; "" is none. False: no such. */
bool keys_parse(const char *text, struct keys *ret_keys);

/*
 * Takes the `len` bytes at `in`; what is for the VM goes to `out`, which has room for KEYS_MAX more, and may begin at
 * least as many before `in`. Returns how many those are. Behind the sequence nothing is looked at.
 */
size_t keys_filter(struct keys *keys, const char *in, size_t len, char *out);

#endif
