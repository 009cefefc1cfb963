// Inside the library: the order of the phases, as the other rooms need it.

#ifndef FORKGUARD_ATFORK_INTERNAL_H
#define FORKGUARD_ATFORK_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

/// The handlers that pthread_atfork(3) gets. Calling the first and then the second is a fork that failed; that is how tests run them where a fork would end
/// the checking (ThreadSanitizer switches itself off in a child).
void atfork_prepare(void);
void atfork_parent(void);
void atfork_child(void);

/// The C phases of a child whose handlers did not run.
void atfork_discovered(void);

/// Runs child hooks that are owed, if there are any and the calling thread is inside no section. Waits for another thread that is
/// running them.
void atfork_run_owed_hooks(void);

FORKGUARD_PRIVATE_END

#endif
