// Inside the preload: which programs, and which objects, are to be left alone.

#ifndef FORKGUARD_EXCLUSIONS_H
#define FORKGUARD_EXCLUSIONS_H

#include <stdbool.h>

/// Reads FORKGUARD_PRELOAD_EXCLUDE; says what in it can be nobody's name. True: this program is excluded. Once, at start.
bool exclusions_read(void);

/// Whether objects are named, so that it must be asked who calls.
bool exclusions_name_objects(void);

/// Whether this address is in code of an object that is excluded. Async-signal-safe.
bool exclusions_contain(const void *address);

#endif
