// Inside the library: the locks that are not ours, around a fork.

#ifndef FORKGUARD_FOREIGN_INTERNAL_H
#define FORKGUARD_FOREIGN_INTERNAL_H

#include "gate.h"
#include "registry.h"

FORKGUARD_PRIVATE_BEGIN

/// By the forker, while the gate is closed and all are quiet: takes every lock. False when somebody has one: then none is held on return, and the
/// gate must be opened for a while. `last`: there is no time left; those that cannot be had are marked, and it is true.
bool foreign_take(forkguard_slot *forker, bool last);

/// Who held up the last attempt, if it failed.
void foreign_describe_blocker(forkguard_holder *holder);

/// How many locks were not taken because their holders cannot let go, or did not in time; appends them to `count` of `size` holders.
void foreign_list_marked(gate_closing *closing);

/// Appends those that the forker itself has. Returns how many there are.
uint32_t foreign_list_own(forkguard_holder *holders, uint32_t size, uint32_t *count);

/// Lets go of every lock that was taken. In the parent, and before a new attempt.
void foreign_release(void);

/// After a fork, while the gate is open: owners may end again.
void foreign_settle(void);

/// Lets go of one lock, if it is taken: by the forker.
void foreign_let_go(registry_lock *lock);

/// What became of the locks in a child.
typedef struct foreign_outcome {
    uint32_t locks, reinitialized, own;
    uint32_t torn_count;
    forkguard_holder torn[FORKGUARD_REPORT_ENTRIES];
} foreign_outcome;

extern foreign_outcome foreign_in_child;

/// The child's C phase, before the gate's: makes every lock anew, or leaves it to the survivor whose it is. `prepared`: the locks had been tried.
void foreign_child(const forkguard_slot *survivor, bool prepared);

/// After the C phases, before child hooks: what must not be done in them. Nothing when it was done.
void foreign_finish_child(void);

FORKGUARD_PRIVATE_END

#endif
