/*
 * Small text helpers of libmvm: errors, sizes, durations, near names.
 *
 * Trust:   inputs may hold anything; what leaves here is safe to print on a terminal.
 * Thread:  any; no state.
 * Returns: 0 or -errno.
 */
#ifndef LIB_TEXT_H
#define LIB_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "mvm/mvm.h"

/* Fills err (may be NULL) and returns -code: `return error_set(err, EINVAL, "…")`. */
int error_set(struct mvm_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Replaces, in place, every byte that is not printable ASCII or part of harmless UTF-8 by '?'. */
void text_harmless(char *s);

/* Replaces, in place, what is no UTF-8, or could pose as other text, by '?'. Control characters stay. */
void text_utf8(char *s);

/* Bytes: a number, or one with b, k, m, g (binary, either case). -EINVAL, -ERANGE. */
int text_parse_size(const char *s, uint64_t *ret_bytes);

/* A duration: a decimal number of seconds, or with the unit ms, s, m, h or d. -EINVAL, -ERANGE. */
int text_parse_duration(const char *s, uint64_t *ret_ns);

int text_parse_uint(const char *s, uint64_t max, uint64_t *ret_value); /* decimal; -EINVAL, -ERANGE */

/* "512m", "1g", "1536k", "1000": the shortest exact form. Returns buf. */
const char *text_size(uint64_t bytes, char buf[32]);

/* Edit distance with transpositions; names up to 63 bytes, longer ones are far from all. */
unsigned text_distance(const char *a, const char *b);

uint64_t text_now_ns(void); /* CLOCK_MONOTONIC */

#define TEXT_TIME 32U /* bytes of text_time(), with the NUL */

/* Now, as RFC 3339 writes it: "2026-11-22T10:20:30.123456789Z". Returns its length. */
size_t text_time(char buf[TEXT_TIME]);

#endif
