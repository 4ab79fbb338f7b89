/*
 * What watch.bpf.c, in the kernel, tells watch.c: a map of how often each kind of system call was seen.
 *
 * Trust: written by the kernel; the numbers in it are the watched VMM's.
 */
#ifndef WATCH_H
#define WATCH_H

#include <linux/types.h>

#define WATCH_CALLS   512 /* numbers below this have their arguments looked at */
#define WATCH_ENTRIES 16384 /* ways in which calls differ */
#define WATCH_ARGS    6

/* The VMM's kinds of threads, told by their names. */
enum watch_thread {
	WATCH_IO,
	WATCH_VCPU,
	WATCH_DISK,
	WATCH_THREADS,
};

struct watch_key {
	__u32 thread; /* enum watch_thread */
	__u32 filters; /* how many seccomp filters of its own the thread had when it made the call: not 0 */
	__u32 call;
	__u32 refused; /* it ended the process */
	__u32 args[WATCH_ARGS]; /* those that the table has conditions on, as ints; 0: the others */
};

#endif
