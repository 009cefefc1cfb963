// The fork-aware lock: the slow path.
//
// The word is 0 or the holder's serial, with two flags below it: CONTENDED while somebody sleeps on it, TORN while what it protects is known to be
// half changed. An uncontended lock is one compare-and-swap each way, in the header. Here a thread spins for a moment, then sleeps on the word's
// lower half (futex(2)): the flag is part of what it sleeps on, and a thread that slept takes the lock with the flag set, because others may still sleep.
//
// In a child the word may belong to a thread that is gone: stale (R16). By the gate's rules such a lock is torn (R17). It is taken over
// here, by whoever meets it first, and remembers why; TORN stays in the word, so that every later lock comes here too and is told, until somebody
// declares the data whole again. Nothing else is ever reset: a lock that nobody touches in the child stays as it was copied, on a shared page.

#include "forkguard/lock.h"

#include "copy.h"
#include "gate.h"
#include "generation.h"
#include "platform/platform.h"
#include "trap.h"
#include "turn.h"

#include <errno.h>

#include "forkguard/atfork.h"
#include "forkguard/section.h"

// A section of the kind that one spins for is over within a microsecond or so; a pause is some 10 to 40 ns.
#define SPINS 40

// How long a forker in a hook sleeps for a lock before it looks again whether the holder now waits for its turn (R22).
#define LENDING_INTERVAL INT64_C(5000000)

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); // longer than a yield, about what x86's pause takes
#endif
}

static const uint32_t *sleeping_half(const uint64_t *word) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (const uint32_t *)word;
#else
    return (const uint32_t *)word + 1;
#endif
}

static int take_over(forkguard_lock_t *lock, forkguard_slot *slot, uint64_t seen) {
    uint64_t taken = slot->word | FORKGUARD_WORD_TORN | FORKGUARD_WORD_CONTENDED;
    if (!__atomic_compare_exchange_n(&lock->word, &seen, taken, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return FORKGUARD_BUSY;
    int32_t thread_id;
    uint32_t mark = gate_mark_of(seen >> FORKGUARD_WORD_SHIFT, &thread_id);
    lock->reserved = mark | (uint32_t)thread_id << TRAP_MARK_BITS;
    return FORKGUARD_TORN;
}

static int lock_slow(forkguard_lock_t *lock, bool counted, bool may_sleep) {
    forkguard_slot *slot = gate_slot();
    if (!counted) {
        __atomic_store_n(&slot->locks[slot->held % FORKGUARD_LOCKS_REMEMBERED], lock, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_SEQ_CST); // R1
    }
    uint64_t slept = 0;
    for (unsigned spins = 0;;) {
        gate_enter(slot, slept ? sleeping_half(&lock->word) : NULL); // R2 to R4
        uint64_t seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
        uint64_t owner = seen >> FORKGUARD_WORD_SHIFT;
        if (owner == 0) {
            uint64_t taken = slot->word | (seen & (FORKGUARD_WORD_TORN | FORKGUARD_WORD_CONTENDED)) | slept;
            if (__atomic_compare_exchange_n(&lock->word, &seen, taken, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return seen & FORKGUARD_WORD_TORN ? FORKGUARD_TORN : FORKGUARD_LOCKED;
            continue;
        }
        if (owner == slot->serial) {
            if (!may_sleep) break;
            forkguard_trap_misuse(
                lock, "was locked twice on one thread",
                "it is not recursive: do not call what locks it from inside its critical section, and do not use it in a signal handler"
            );
        }
        generation_discover(); // without a wiped page a closed gate does not tell
        if (gate_serial_is_stale(owner)) {
            if (take_over(lock, slot, seen) == FORKGUARD_TORN) return FORKGUARD_TORN;
            continue;
        }
        if (!may_sleep) break;
        if (spins < SPINS && !(seen & FORKGUARD_WORD_CONTENDED)) {
            spins++;
            pause_briefly();
            continue;
        }
        uint64_t contended = seen | FORKGUARD_WORD_CONTENDED;
        if (seen != contended
            && !__atomic_compare_exchange_n(&lock->word, &seen, contended, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        // A forker that must sleep for a lock between its closed gate and the fork, in somebody's prepare handler, would wait for ever for a
        // thread that waits for the gate.
        if (slot->fork_state == FORK_CLOSED) gate_give_up();
        __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_SEQ_CST); // R5
        gate_note(slot, lock);
        bool in_hooks = slot->fork_state == FORK_HOOKS;
        forkguard_slot *waiter = in_hooks ? gate_waiter_behind(lock) : NULL;
        if (!waiter || !turn_lend(slot, waiter))
            platform_wait(sleeping_half(&lock->word), (uint32_t)contended, in_hooks ? LENDING_INTERVAL : PLATFORM_FOREVER);
        gate_clear_note(slot);
        __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_SEQ_CST);
        slept = FORKGUARD_WORD_CONTENDED;
        spins = 0;
    }
    __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_SEQ_CST);
    forkguard_gate_left(slot);
    return FORKGUARD_BUSY;
}

int forkguard_lock_slow(forkguard_lock_t *lock, bool counted) {
    FOLLOW(lock_slow, lock, counted);
    return lock_slow(lock, counted, true);
}
int forkguard_trylock_slow(forkguard_lock_t *lock, bool counted) {
    FOLLOW(trylock_slow, lock, counted);
    return lock_slow(lock, counted, false);
}

void forkguard_unlock_slow(forkguard_lock_t *lock) {
    FOLLOW(unlock_slow, lock);
    forkguard_slot *slot = forkguard_thread_slot;
    uint64_t seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
    uint64_t owner = seen >> FORKGUARD_WORD_SHIFT;
    if (owner == 0)
        forkguard_trap_misuse(lock, "was unlocked although nobody holds it", "unlock once for each time that it was locked");
    if (!slot || owner != slot->serial) {
        // After a fork that ran no handlers nobody knows which thread survived, so another thread may have taken the lock over.
        bool taken_over = slot && (seen & FORKGUARD_WORD_TORN) && gate_serial_is_stale(slot->serial);
        forkguard_trap_misuse(
            lock,
            taken_over ? "was unlocked by a thread that held it over a fork which ran no handlers; it was taken over meanwhile, torn"
                       : "was unlocked by a thread that does not hold it",
            taken_over ? "fork with forkguard_fork or fork(), or hold no lock while calling _Fork or clone"
                       : "unlock on the thread that locked; a lock cannot be handed to another thread"
        );
    }
    while (!__atomic_compare_exchange_n(&lock->word, &seen, seen & FORKGUARD_WORD_TORN, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
    // The lock may be gone by now: waking on its address does no harm.
    if (seen & FORKGUARD_WORD_CONTENDED) platform_wake(sleeping_half(&lock->word), 1);
    if (slot->wakes_after == lock) {
        slot->wakes_after = NULL;
        platform_wake(slot->wakes_on, slot->wakes);
    }
    forkguard_section_end(slot);
}

bool forkguard_lock_is_mine(const forkguard_lock_t *lock) {
    FOLLOW(lock_is_mine, lock);
    const forkguard_slot *slot = forkguard_thread_slot;
    return slot && __atomic_load_n(&lock->word, __ATOMIC_RELAXED) >> FORKGUARD_WORD_SHIFT == slot->serial;
}

int forkguard_lock_mark_consistent(forkguard_lock_t *lock) {
    FOLLOW(lock_mark_consistent, lock);
    if (!forkguard_lock_is_mine(lock)) return EPERM;
    __atomic_and_fetch(&lock->word, ~(uint64_t)FORKGUARD_WORD_TORN, __ATOMIC_RELAXED);
    lock->reserved = 0;
    return 0;
}

bool forkguard_lock_is_torn(forkguard_lock_t *lock) {
    FOLLOW(lock_is_torn, lock);
    forkguard_generation(); // a child that nobody told finds out first
    uint64_t seen = __atomic_load_n(&lock->word, __ATOMIC_ACQUIRE);
    uint64_t owner = seen >> FORKGUARD_WORD_SHIFT;
    return (seen & FORKGUARD_WORD_TORN) || (owner != 0 && gate_serial_is_stale(owner));
}

size_t forkguard_held_locks(forkguard_lock_t *locks, size_t count) {
    FOLLOW(held_locks, locks, count);
    const forkguard_slot *slot = forkguard_thread_slot;
    size_t found = 0;
    for (unsigned i = 0; slot && i < FORKGUARD_LOCKS_REMEMBERED && found < count; i++) {
        bool again = false;
        for (unsigned j = 0; j < i; j++) again |= slot->locks[j] == slot->locks[i];
        if (again || !slot->locks[i] || ((uintptr_t)slot->locks[i] & GATE_KIND) || !platform_read(&locks[found], slot->locks[i], sizeof *locks)) continue;
        if (locks[found].word >> FORKGUARD_WORD_SHIFT == slot->serial) found++;
    }
    return found;
}
