// Inside the library: what the generation room tells the others.

#ifndef FORKGUARD_GENERATION_INTERNAL_H
#define FORKGUARD_GENERATION_INTERNAL_H

#include "forkguard/generation.h"

FORKGUARD_PRIVATE_BEGIN

/// Asks the kernel for the page and publishes the first generation. Once, at start.
void generation_start(bool handlers);

/// Whether children are handed a wiped page here.
bool generation_has_page(void);

/// Whether this process knows which one it is: it is no child that has not been discovered yet.
bool generation_is_known(void);

/// If this process is a child that nobody told: discovers it, once. Returns when the C phases of the child are done, whichever thread did
/// them. Any thread.
void generation_discover(void);

/// The child's C phase: a new generation. `owed`: child hooks are still to run, so the inline question stays slow until `generation_publish`.
void generation_child(bool owed);

/// The process that the current generation belongs to; in a child, before its C phase, the parent.
int32_t generation_process(void);

/// The last generation that this memory has seen: this process's, and in a child before its C phase the parent's. Discovers nothing.
uint64_t generation_known(void);

/// Child hooks have run: the inline question may be answered by the page.
void generation_publish(void);

FORKGUARD_PRIVATE_END

#endif
