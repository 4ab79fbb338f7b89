/* Capabilities: every one out of every set, for good (capabilities(7)). In the jailed child only. */
#ifndef JAIL_CAPS_H
#define JAIL_CAPS_H

int caps_drop_all(void); /* 0 or -errno */

#endif
