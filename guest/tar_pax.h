/*
 * What extended headers of a tar stream say of the next member (POSIX.1 pax).
 *
 * Purpose: of tar_reader.c's, the part that reads text.
 * Trust:   hostile; every length and number is bounded.
 * Thread:  any; no state.
 * Returns: false: malformed, and nothing of it is to be used.
 */
#ifndef MVM_GUEST_TAR_PAX_H
#define MVM_GUEST_TAR_PAX_H

#include "tar.h"

/* struct tar_pax, `has` */
#define TAR_HAS_PATH   (1U << 0)
#define TAR_HAS_LINK   (1U << 1)
#define TAR_HAS_SIZE   (1U << 2)
#define TAR_HAS_UID    (1U << 3)
#define TAR_HAS_GID    (1U << 4)
#define TAR_HAS_MTIME  (1U << 5)
#define TAR_HAS_SPARSE (1U << 6)

/* Records "LENGTH KEY=VALUE\n", LENGTH counting all of it. The text has a NUL behind. */
bool tar_pax_records(struct tar_pax *pax, const char *s, const char *end);

/* A name: bounded, without a NUL inside. */
bool tar_pax_name(char dst[TAR_PATH_MAX], const char *s, size_t len);

/* Decimal text up to `end`; digits only, `max` (above 9) at most. */
bool tar_decimal(const char *s, const char *end, uint64_t max, uint64_t *ret);

#endif
