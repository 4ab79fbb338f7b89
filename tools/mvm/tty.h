/*
 * The user's terminal in raw mode, given back on every way out.
 *
 * Purpose: what is typed reaches the terminal in the VM byte by byte.
 * Ownership: state of the one terminal that stdin is; restored by tty_restore(), at exit, and by
 *          the handlers of the signals that a crash raises.
 * Thread:  one; the handlers only restore.
 */
#ifndef CLI_TTY_H
#define CLI_TTY_H

#include <stdbool.h>
#include <stdint.h>

bool tty_is_raw(void);
void tty_raw(void); /* no-op where stdin is no terminal, or raw already */
void tty_restore(void);

/* The size of the terminal that stdin or stdout is. False: there is none. */
bool tty_size(uint16_t *ret_rows, uint16_t *ret_cols);

#endif
