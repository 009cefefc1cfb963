#include "ForkGuardProcessLocks.h"

// ForkGuardRuntime looks whether this is there (Sources/ForkGuardRuntime/start.c), so that all is led at once, whichever constructor runs first.
extern const bool forkguard_process_locks_are_wanted;
const bool forkguard_process_locks_are_wanted = true;
