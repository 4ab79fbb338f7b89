/* The one place that names versions: the program's, and those of its internal contracts. */
#ifndef MVM_VERSION_H
#define MVM_VERSION_H

#define MVM_VERSION "0.1.0"

/*
 * Said once in each program, file scope: `mvm doctor` reads there which version a part is of, without
 * running it.
 */
#define MVM_VERSION_MARK "mvm part of version "
#define MVM_VERSION_MARKED                                                                                             \
	__attribute__((used, retain)) static const char mvm_version_mark[] = MVM_VERSION_MARK MVM_VERSION

#endif
