// Inside the library: what a report says of the cures.

#ifndef FORKGUARD_SUPPORT_INTERNAL_H
#define FORKGUARD_SUPPORT_INTERNAL_H

#include "forkguard/support.h"

/// Whether "thread-ids" is on. Async-signal-safe.
bool support_cures_thread_ids(void);

#endif
