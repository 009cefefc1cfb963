// Waiting until what a lock protects has changed.
//
// A condition variable for forkguard_lock_t. In a child nobody waits on it but the child's own threads: those of the parent's that did are forgotten.

#ifndef FORKGUARD_CONDITION_H
#define FORKGUARD_CONDITION_H

#include "base.h"
#include "lock.h"

FORKGUARD_BEGIN

/// 40 bytes. `name` and `file` are printed when something is wrong, and must live as long as the condition; both may be NULL. Zeros are a
/// condition. It must outlive every thread that uses it, must not be moved, and must not be shared between processes.
typedef struct forkguard_condition {
    uint64_t waiters; // how many wait, below the generation that they belong to
    uint32_t signals; // counts; what waiters sleep on
    uint32_t line;
    const char *FORKGUARD_NULLABLE name;
    const char *FORKGUARD_NULLABLE file;
    forkguard_lock_t *FORKGUARD_NULLABLE lock; // what they wait with
} forkguard_condition_t;

/// `static forkguard_condition_t changed = FORKGUARD_CONDITION_INITIALIZER("accounts changed");`
#define FORKGUARD_CONDITION_INITIALIZER(NAME) { 0, 0, __LINE__, (NAME), __FILE__, NULL }

/// The clock of deadlines: nanoseconds of CLOCK_MONOTONIC.
uint64_t forkguard_nanoseconds(void);

/// Leaves `lock`, which the calling thread must hold, sleeps until the condition is signalled, and takes the lock again. 0, or ETIMEDOUT once `deadline`, by
/// forkguard_nanoseconds, has passed. May return 0 for nothing: wait in a loop that looks at what the lock protects. Waiting with a lock that the
/// calling thread does not hold is a trap that names both.
///
/// While it sleeps the thread is outside of this lock's section, so no fork waits for it. It takes the lock as forkguard_lock does. Any thread, any side of a fork;
/// not in hooks, where it would wait for threads.
int forkguard_condition_wait(
    forkguard_condition_t *FORKGUARD_NONNULL condition, forkguard_lock_t *FORKGUARD_NONNULL lock, uint64_t deadline
);

/// Wakes one thread that waits, if any does. Any thread, any side of a fork, with or without the lock; with it the thread is woken when it is unlocked.
void forkguard_condition_signal(forkguard_condition_t *FORKGUARD_NONNULL condition);

/// Wakes every thread that waits.
void forkguard_condition_broadcast(forkguard_condition_t *FORKGUARD_NONNULL condition);

FORKGUARD_END

#endif
