// ForkGuardProcessLocks: every pthread mutex, read-write lock and condition of the process inside the gate, whoever made it: Foundation's, other
// languages', the C libraries'. Linking the product is all there is to do. What it costs is in the README.

#ifndef FORKGUARD_PROCESS_LOCKS_H
#define FORKGUARD_PROCESS_LOCKS_H

#include "ForkGuardRuntime.h"

#endif
