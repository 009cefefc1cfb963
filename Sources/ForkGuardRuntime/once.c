// Initialisations that happen once: a lazy global's (swift_once), dispatch_once's, a C++ function's static. Not pthread_once(3p)'s, which glibc begins anew in a
// child that finds it begun (nptl/pthread_once.c), and through which C++ exceptions pass (std::call_once).
//
// Who is cut off in the middle of one leaves it begun for ever, and half done. So the whole of it is a section, also for those who only wait for it: they leave when it
// is done. swift_once and C++ guards wait in futexes, for which the thread is counted out (futex.c): the initialiser may be on the forking thread itself.

#include "once.h"

#include <stddef.h>

#include "forkguard.h"

real_onces real_once;

static __thread const int32_t *current_word;

static __thread const void *current_guard;

const int32_t *once_word(void) { return current_word; }
const void *once_guard(void) { return current_guard; }

static __attribute__((noinline)) void swift_once_slowly(long *token, void (*initialize)(void *), void *context) {
    forkguard_slot *slot = forkguard_section_begin();
    const int32_t *outer = current_word;
    // swift_once_t on 64-bit Linux: a flag, and the word of a lock behind it (include/swift/Threading/Impl/Linux.h).
    current_word = slot ? (const int32_t *)token + 1 : NULL;
    real_once.swift_once(token, initialize, context);
    current_word = outer;
    if (slot) forkguard_section_end(slot);
}

void gated_swift_once(long *token, void (*initialize)(void *), void *context) {
    // Every access to a lazy global comes here. One that is done is a negative flag, at which swift_once looks first, too: nothing is locked or half-way there.
    if (FORKGUARD_LIKELY(__atomic_load_n((const int32_t *)token, __ATOMIC_ACQUIRE) < 0)) return;
    swift_once_slowly(token, initialize, context);
}

void gated_dispatch_once_f(long *token, void *context, void (*initialize)(void *)) {
    forkguard_slot *slot = forkguard_section_begin();
    real_once.dispatch_once_f(token, context, initialize);
    if (slot) forkguard_section_end(slot);
}

void gated_dispatch_once(long *token, void *block) {
    forkguard_slot *slot = forkguard_section_begin();
    real_once.dispatch_once(token, block);
    if (slot) forkguard_section_end(slot);
}

// Itanium C++ ABI, 3.3.3: 1 from acquire is followed by release or abort.
int gated_cxa_guard_acquire(int64_t *guard) {
    forkguard_slot *slot = forkguard_section_begin();
    const void *outer = current_guard;
    current_guard = slot ? guard : NULL;
    int result = real_once.cxa_guard_acquire(guard);
    current_guard = outer;
    if (result == 0 && slot) forkguard_section_end(slot);
    return result;
}

static void end_guard(void) {
    forkguard_slot *slot = forkguard_section_slot();
    if (slot && slot->held != 0) forkguard_section_end(slot);
}

void gated_cxa_guard_release(int64_t *guard) {
    real_once.cxa_guard_release(guard);
    end_guard();
}

void gated_cxa_guard_abort(int64_t *guard) {
    real_once.cxa_guard_abort(guard);
    end_guard();
}
