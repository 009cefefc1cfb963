// Inside the library: what it asks of the cures.

#ifndef FORKGUARD_SUPPORT_INTERNAL_H
#define FORKGUARD_SUPPORT_INTERNAL_H

#include "forkguard/support.h"

FORKGUARD_PRIVATE_BEGIN

/// Whether "thread-ids" is on. Async-signal-safe.
bool support_cures_thread_ids(void);

/// The calling thread, which survived, only waits from now on.
void support_survivor_rests(void);

FORKGUARD_PRIVATE_END

#endif
