#include "ForkGuardProcessLocks.h"

// After ForkGuardRuntime's own constructor, which has no priority.
__attribute__((constructor)) static void start(void) { forkguard_runtime_guard_process_locks(); }
