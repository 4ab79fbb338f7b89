/* The one place that names versions: the program's, and those of its internal contracts. */
#ifndef MVM_VERSION_H
#define MVM_VERSION_H

#define MVM_VERSION "0.1.0"

#endif
