// Inside the library: the order of the phases, as the other rooms need it.

#ifndef FORKGUARD_ATFORK_INTERNAL_H
#define FORKGUARD_ATFORK_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "forkguard/gate.h"

/// The C phases of a child whose handlers did not run.
void atfork_discovered(void);

/// Runs child hooks that are owed, if there are any and the calling thread is inside no section. Waits for another thread that is
/// running them.
void atfork_run_owed_hooks(void);

/// Whether the calling thread, which is about to sleep for a lock, holds the turn and is in its hooks.
bool atfork_in_hooks(const forkguard_slot *slot);

/// Lends the turn to `borrower`, which waits for it, and sleeps until it is back (R22). False when that thread does not wait any more.
bool atfork_lend_turn(forkguard_slot *slot, forkguard_slot *borrower);

/// Whether the calling thread is the forker, between its closed gate and the fork.
bool atfork_is_between(const forkguard_slot *slot);

/// The number of the fork that was begun last.
uint64_t atfork_ordinal(void);

#endif
