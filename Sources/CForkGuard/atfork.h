// Inside the library: the order of the phases, as the other rooms need it.

#ifndef FORKGUARD_ATFORK_INTERNAL_H
#define FORKGUARD_ATFORK_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

/// The C phases of a child whose handlers did not run.
void atfork_discovered(void);

/// Runs child hooks that are owed, if there are any and the calling thread is inside no section. Waits for another thread that is
/// running them.
void atfork_run_owed_hooks(void);

#endif
