// The fork-aware lock: the slow path.
//
// The word is 0 or the holder's serial, with two flags below it: CONTENDED while somebody sleeps on it, TORN while what it protects is known to be
// half changed. An uncontended lock is one compare-and-swap each way, in the header. Here a thread spins for a moment, then sleeps on the word's
// lower half (futex(2)): the flag is part of what it sleeps on, and a thread that slept takes the lock with the flag set, because others may still sleep.
//
// In a child the word may belong to a thread that is gone: stale (R16). By the gate's rules such a lock is torn (R17). It is taken over
// here, by whoever meets it first, and remembers why; TORN stays in the word, so that every later lock comes here too and is told, until somebody
// declares the data whole again. Nothing else is ever reset: a lock that nobody touches in the child stays as it was copied, on a shared page.

#include "lock.h"

#include "atfork.h"
#include "gate.h"
#include "generation.h"
#include "platform/platform.h"
#include "report.h"

#include <errno.h>
#include <string.h>

#include "forkguard/atfork.h"

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

// `reserved` keeps, for a torn lock, why it is and whose it was: mark in the low 8 bits, thread id above (Linux ids have 22 bits).
#define MARK_BITS 8

static int take_over(forkguard_lock_t *lock, forkguard_slot *slot, uint64_t seen) {
    uint64_t taken = slot->word | FORKGUARD_WORD_TORN | FORKGUARD_WORD_CONTENDED;
    if (!__atomic_compare_exchange_n(&lock->word, &seen, taken, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return FORKGUARD_BUSY;
    int32_t thread_id;
    uint32_t mark = gate_mark_of(seen >> FORKGUARD_WORD_SHIFT, &thread_id);
    lock->reserved = mark | (uint32_t)thread_id << MARK_BITS;
    return FORKGUARD_TORN;
}

static int lock_slow(forkguard_lock_t *lock, bool counted, bool may_sleep) {
    forkguard_slot *slot = gate_slot();
    if (!counted) {
        slot->locks[slot->held % FORKGUARD_LOCKS_REMEMBERED] = lock;
        __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_SEQ_CST); // R1
    }
    gate_adopt(slot);
    uint64_t slept = 0;
    for (unsigned spins = 0;;) {
        gate_enter(slot); // R2 to R4
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
        generation_discover(); // without a wiped page the gate does not tell
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
        if (atfork_is_between(slot)) gate_give_up();
        __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_SEQ_CST); // R5
        gate_note(slot, lock);
        bool in_hooks = atfork_in_hooks(slot);
        forkguard_slot *waiter = in_hooks ? gate_waiter_behind(lock) : NULL;
        if (!waiter || !atfork_lend_turn(slot, waiter))
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

int forkguard_lock_slow(forkguard_lock_t *lock, bool counted) { return lock_slow(lock, counted, true); }
int forkguard_trylock_slow(forkguard_lock_t *lock, bool counted) { return lock_slow(lock, counted, false); }

void forkguard_unlock_slow(forkguard_lock_t *lock) {
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
    if (seen & FORKGUARD_WORD_CONTENDED) platform_wake(sleeping_half(&lock->word), 1);
}

bool forkguard_lock_is_mine(const forkguard_lock_t *lock) {
    const forkguard_slot *slot = forkguard_thread_slot;
    return slot && __atomic_load_n(&lock->word, __ATOMIC_RELAXED) >> FORKGUARD_WORD_SHIFT == slot->serial;
}

int forkguard_lock_mark_consistent(forkguard_lock_t *lock) {
    if (!forkguard_lock_is_mine(lock)) return EPERM;
    __atomic_and_fetch(&lock->word, ~(uint64_t)FORKGUARD_WORD_TORN, __ATOMIC_RELAXED);
    lock->reserved = 0;
    return 0;
}

bool forkguard_lock_is_torn(forkguard_lock_t *lock) {
    forkguard_generation(); // a child that nobody told finds out first
    uint64_t seen = __atomic_load_n(&lock->word, __ATOMIC_ACQUIRE);
    uint64_t owner = seen >> FORKGUARD_WORD_SHIFT;
    return (seen & FORKGUARD_WORD_TORN) || (owner != 0 && gate_serial_is_stale(owner));
}

// ---- what is said when something is wrong ----

void lock_place(const char *file, uint32_t line, char *text, size_t size) {
    text_buffer buffer = {text, size, 0};
    text[0] = 0;
    if (!file || !*file) return;
    // The end of a long path says more than its beginning.
    size_t length = strlen(file);
    if (length + 12 > size) file += length + 12 - size;
    text_add(&buffer, file);
    text_add(&buffer, ":");
    text_add_number(&buffer, line);
}

static void add_lock(text_buffer *buffer, const forkguard_lock_t *lock) {
    char place[FORKGUARD_NAME_SIZE * 4];
    text_add(buffer, "ForkGuard: lock '");
    text_add(buffer, lock->name && *lock->name ? lock->name : "without a name");
    lock_place(lock->file, lock->line, place, sizeof place);
    if (*place) {
        text_add(buffer, "', made at ");
        text_add(buffer, place);
        text_add(buffer, ", ");
    } else {
        text_add(buffer, "' ");
    }
}

void forkguard_trap_misuse(const forkguard_lock_t *lock, const char *violated, const char *remedy) {
    char text[1024];
    text_buffer buffer = {text, sizeof text, 0};
    if (lock) {
        add_lock(&buffer, lock);
    } else {
        text_add(&buffer, "ForkGuard: ");
    }
    text_add(&buffer, violated);
    text_add(&buffer, ". What to do: ");
    text_add(&buffer, remedy);
    text_add(&buffer, ".\n");
    text_write_error(&buffer);
    __builtin_trap();
}

static const char *reason(uint32_t mark) {
    switch (mark) {
    case FORKGUARD_MARK_TURN: return "it was waiting for its own turn to fork";
    case FORKGUARD_MARK_CHAIN: return "it was blocked on a lock that the forking thread, or another one waiting to fork, holds";
    case FORKGUARD_MARK_LATE: return "it did not leave before the deadline";
    case FORKGUARD_MARK_BREACH: return "it was let in while the fork was under way, because fork() itself seemed to wait for it";
    case FORKGUARD_MARK_ENDED: return "it had ended without unlocking";
    default: return "the fork was not prepared (_Fork, clone or a raw system call, or a fork inside a hook)";
    }
}

void forkguard_trap_torn(const forkguard_lock_t *lock) {
    char text[1024];
    text_buffer buffer = {text, sizeof text, 0};
    add_lock(&buffer, lock);
    text_add(&buffer, "is torn: thread ");
    text_add_number(&buffer, lock->reserved >> MARK_BITS);
    text_add(&buffer, " of the parent was inside when this process was forked, and what it protects may be half changed. The fork went on because ");
    text_add(&buffer, reason(lock->reserved & ((1u << MARK_BITS) - 1)));
    text_add(&buffer, ". What to do: make the mutex with ifTorn: .rebuild, or fork with ForkGuard.fork, which refuses instead.\n");
    text_write_error(&buffer);
    __builtin_trap();
}

size_t forkguard_held_lock_names(const char **names, size_t count) {
    const forkguard_slot *slot = forkguard_thread_slot;
    if (!slot) return 0;
    size_t found = 0;
    for (unsigned i = 0; i < FORKGUARD_LOCKS_REMEMBERED && found < count; i++) {
        forkguard_lock_t copy;
        bool again = false;
        for (unsigned j = 0; j < i; j++) again |= slot->locks[j] == slot->locks[i];
        if (again || !slot->locks[i] || !platform_read(&copy, slot->locks[i], sizeof copy)) continue;
        if (copy.word >> FORKGUARD_WORD_SHIFT != slot->serial) continue;
        names[found++] = copy.name && *copy.name ? copy.name : copy.file ? copy.file : "a lock without a name";
    }
    return slot->held;
}

// ---- the library's own mutex ----

void plain_lock(plain_mutex *mutex) {
    uint32_t free = 0;
    if (__atomic_compare_exchange_n(&mutex->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    while (__atomic_exchange_n(&mutex->word, 2, __ATOMIC_ACQUIRE) != 0) platform_wait(&mutex->word, 2, PLATFORM_FOREVER);
}

void plain_unlock(plain_mutex *mutex) {
    if (__atomic_exchange_n(&mutex->word, 0, __ATOMIC_RELEASE) == 2) platform_wake(&mutex->word, 1);
}
