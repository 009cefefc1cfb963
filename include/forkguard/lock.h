// The fork-aware lock: a mutex whose holder the gate knows.
//
// Not recursive. In a forked child a lock that a vanished thread held is *torn*: the first thread that takes it is told so, before it
// can read what the lock protects, and every later one too until `forkguard_lock_mark_consistent`.
//
// A lock must outlive every thread that uses it, must not be moved, and must not be shared between processes.

#ifndef FORKGUARD_LOCK_H
#define FORKGUARD_LOCK_H

#include "base.h"
#include "gate.h"

FORKGUARD_BEGIN

/// 32 bytes. `name` and `file` are printed when something is wrong, and must live as long as the lock; both may be NULL.
typedef struct forkguard_lock {
    // 0, or the holder's serial in bits 2 to 63, with the two flags below.
    uint64_t word;
    const char *FORKGUARD_NULLABLE name;
    const char *FORKGUARD_NULLABLE file;
    uint32_t line;
    uint32_t reserved;
} forkguard_lock_t;

#define FORKGUARD_WORD_CONTENDED 1u // somebody sleeps on the word
#define FORKGUARD_WORD_TORN 2u      // what the lock protects was left half changed
#define FORKGUARD_WORD_SHIFT 2

/// `static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("accounts");`
#define FORKGUARD_LOCK_INITIALIZER(NAME) { 0, (NAME), __FILE__, __LINE__, 0 }

/// What taking a lock returns.
enum forkguard_locked {
    FORKGUARD_LOCKED = 0, // it is yours
    FORKGUARD_TORN = 1,   // it is yours, and its data is half changed: a thread that did not survive the fork was inside
    FORKGUARD_BUSY = 2,   // (try only) somebody else has it
};

FORKGUARD_INLINE void forkguard_lock_init(
    forkguard_lock_t *FORKGUARD_NONNULL lock, const char *FORKGUARD_NULLABLE name, const char *FORKGUARD_NULLABLE file, uint32_t line
) FORKGUARD_BODY({
    lock->word = 0;
    lock->name = name;
    lock->file = file;
    lock->line = line;
    lock->reserved = 0;
})

int forkguard_lock_slow(forkguard_lock_t *FORKGUARD_NONNULL lock, bool counted);
int forkguard_trylock_slow(forkguard_lock_t *FORKGUARD_NONNULL lock, bool counted);
void forkguard_unlock_slow(forkguard_lock_t *FORKGUARD_NONNULL lock);

FORKGUARD_INLINE bool forkguard_lock_fast_(forkguard_lock_t *FORKGUARD_NONNULL lock, forkguard_slot *FORKGUARD_NONNULL slot) FORKGUARD_BODY({
    uint32_t held = slot->held;
    __atomic_store_n(&slot->held, held + 1, __ATOMIC_RELAXED); // R1
    __atomic_store_n(&slot->locks[held % FORKGUARD_LOCKS_REMEMBERED], lock, __ATOMIC_RELAXED);
    // The compiler keeps the order; the processor's is the forker's business (R10).
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    uint64_t expected = 0;
    // Acquire: what a forker read while the gate was closed, it read before this thread writes.
    return FORKGUARD_LIKELY(__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_ACQUIRE) == FORKGUARD_GATE_OPEN) // R2
        && FORKGUARD_LIKELY(__atomic_compare_exchange_n(&lock->word, &expected, slot->word, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
})

/// Takes the lock; sleeps while another thread has it. FORKGUARD_LOCKED or FORKGUARD_TORN. Taking a lock that the calling thread
/// has already is a trap that names it. Any thread, any side of a fork, also in hooks; not in signal handlers.
FORKGUARD_INLINE int forkguard_lock(forkguard_lock_t *FORKGUARD_NONNULL lock) FORKGUARD_BODY({
    forkguard_slot *slot = forkguard_thread_slot;
    if (FORKGUARD_LIKELY(slot != NULL) && FORKGUARD_LIKELY(forkguard_lock_fast_(lock, slot))) return FORKGUARD_LOCKED;
    return forkguard_lock_slow(lock, slot != NULL);
})

/// Takes the lock if nobody has it. FORKGUARD_LOCKED, FORKGUARD_TORN or FORKGUARD_BUSY. Never fails for nothing: while a fork is
/// being prepared it waits for that fork. Threads as for `forkguard_lock`.
FORKGUARD_INLINE int forkguard_trylock(forkguard_lock_t *FORKGUARD_NONNULL lock) FORKGUARD_BODY({
    forkguard_slot *slot = forkguard_thread_slot;
    if (FORKGUARD_LIKELY(slot != NULL) && FORKGUARD_LIKELY(forkguard_lock_fast_(lock, slot))) return FORKGUARD_LOCKED;
    return forkguard_trylock_slow(lock, slot != NULL);
})

/// Leaves the lock. Unlocking a lock that the calling thread does not hold is a trap that names it.
FORKGUARD_INLINE void forkguard_unlock(forkguard_lock_t *FORKGUARD_NONNULL lock) FORKGUARD_BODY({
    forkguard_slot *slot = forkguard_thread_slot;
    uint64_t expected = slot ? slot->word : ~(uint64_t)0;
    // R7: the word first.
    if (!FORKGUARD_LIKELY(__atomic_compare_exchange_n(&lock->word, &expected, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))) {
        forkguard_unlock_slow(lock);
        return;
    }
    __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (!FORKGUARD_LIKELY(__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_RELAXED) == FORKGUARD_GATE_OPEN))
        forkguard_gate_left(slot);
})

/// Declares that what a torn lock protects is whole again. The calling thread must hold the lock. 0, or EPERM when it does not.
int forkguard_lock_mark_consistent(forkguard_lock_t *FORKGUARD_NONNULL lock);

/// Whether the lock is torn, or would be found torn by the thread that takes it next. Any thread; a snapshot.
bool forkguard_lock_is_torn(forkguard_lock_t *FORKGUARD_NONNULL lock);

/// Whether the calling thread holds the lock.
bool forkguard_lock_is_mine(const forkguard_lock_t *FORKGUARD_NONNULL lock);

/// Ends the process with a message that says that the lock is torn, who held it and why it was not waited for.
void forkguard_trap_torn(const forkguard_lock_t *FORKGUARD_NONNULL lock) __attribute__((noreturn, cold));

/// Ends the process with a message that names the lock and where it was made. `violated` is a sentence without its full stop,
/// `remedy` says what to do.
void forkguard_trap_misuse(
    const forkguard_lock_t *FORKGUARD_NULLABLE lock, const char *FORKGUARD_NONNULL violated, const char *FORKGUARD_NONNULL remedy
) __attribute__((noreturn, cold));

FORKGUARD_END

#endif
