// Inside the library: whose turn it is to fork.

#ifndef FORKGUARD_TURN_INTERNAL_H
#define FORKGUARD_TURN_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "forkguard/gate.h"

FORKGUARD_PRIVATE_BEGIN

/// What a slot's `waits_for_turn` may be.
enum { TURN_NOT = 0, TURN_WAITS = 1, TURN_LENT = 2 };

/// Waits until it is this thread's turn. False at the deadline.
bool turn_take(forkguard_slot *slot, uint64_t deadline);

/// Takes it if it is nobody's.
bool turn_take_if_free(const forkguard_slot *slot);

/// Gives the turn back to whom it was borrowed from, or passes it on.
void turn_pass(forkguard_slot *slot);

/// For a forker in its hooks: lends the turn to `borrower`, which waits for it, and sleeps until it is back. False when that thread does not
/// wait for it any more, or has lent its own.
bool turn_lend(forkguard_slot *slot, forkguard_slot *borrower);

/// The child's C phase. `keeps`: the survivor is in the middle of its own fork's phases.
void turn_child(forkguard_slot *survivor, bool keeps);

FORKGUARD_PRIVATE_END

#endif
