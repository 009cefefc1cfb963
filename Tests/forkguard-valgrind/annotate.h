// Tells helgrind what it cannot see: who leaves a lock comes before who takes it next, and before the forker that finds the gate drained;
// and the forker that opens the gate before all who enter. That is all it says: that nobody is inside beside somebody else, it sees for
// itself.
//
// For the probe's `stubbed`, which includes it before its first line (-include). Nothing of valgrind's is in the library.
//
// Controls: FORKGUARD_RACY_LOCK leaves a lock out now and then, FORKGUARD_RACY_GATE leaves the gate open.

#include <valgrind/helgrind.h>

#include "forkguard.h"

void atfork_prepare(void);
void atfork_parent(void);
void annotated_prepare(void);
void annotated_parent(void);

static char annotated_gate, annotated_opened;

static inline void annotate_taken(const void *lock) {
    ANNOTATE_HAPPENS_AFTER(&annotated_opened);
    ANNOTATE_HAPPENS_AFTER(lock);
}

static inline void annotate_leaves(const void *lock) {
    ANNOTATE_HAPPENS_BEFORE(lock);
    ANNOTATE_HAPPENS_BEFORE(&annotated_gate);
}

static inline int annotated_lock(forkguard_lock_t *lock) {
#ifdef FORKGUARD_RACY_LOCK
    static __thread unsigned taken;
    if (++taken % 8 == 0) {
        // Inside without the lock, for as long as its unlock takes to notice: which it must not, in this control.
        annotate_taken(lock);
        return FORKGUARD_LOCKED;
    }
#endif
    int result = forkguard_lock(lock);
    annotate_taken(lock);
    return result;
}

static inline int annotated_trylock(forkguard_lock_t *lock) {
    int result = forkguard_trylock(lock);
    if (result != FORKGUARD_BUSY) annotate_taken(lock);
    return result;
}

static inline void annotated_unlock(forkguard_lock_t *lock) {
    annotate_leaves(lock);
#ifdef FORKGUARD_RACY_LOCK
    if (!forkguard_lock_is_mine(lock)) return;
#endif
    forkguard_unlock(lock);
}

static inline int annotated_wait(forkguard_condition_t *condition, forkguard_lock_t *lock, uint64_t deadline) {
#ifdef FORKGUARD_RACY_LOCK
    if (!forkguard_lock_is_mine(lock)) return 0;
#endif
    annotate_leaves(lock);
    int result = forkguard_condition_wait(condition, lock, deadline);
    annotate_taken(lock);
    return result;
}

void annotated_prepare(void) {
#ifndef FORKGUARD_RACY_GATE
    atfork_prepare();
#endif
    ANNOTATE_HAPPENS_AFTER(&annotated_gate);
}

void annotated_parent(void) {
    ANNOTATE_HAPPENS_BEFORE(&annotated_opened);
#ifndef FORKGUARD_RACY_GATE
    atfork_parent();
#endif
}

// (stubbed.c declares these two by the names that follow.)
#define forkguard_lock annotated_lock
#define forkguard_trylock annotated_trylock
#define forkguard_unlock annotated_unlock
#define forkguard_condition_wait annotated_wait
#define atfork_prepare annotated_prepare
#define atfork_parent annotated_parent
