// Inside the library: what it asks of the cures.

#ifndef FORKGUARD_SUPPORT_INTERNAL_H
#define FORKGUARD_SUPPORT_INTERNAL_H

#include "forkguard/support.h"

/// Whether "thread-ids" is on. Async-signal-safe.
bool support_cures_thread_ids(void);

/// Has the main queue's blocks run by others than the calling thread, and returns whether they are.
bool support_release_main_queue(void);

#endif
