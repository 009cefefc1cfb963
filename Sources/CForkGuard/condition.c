// Waiting until what a lock protects has changed.
//
// A waiter counts itself in, reads how often the condition was signalled, leaves the lock, and sleeps unless that number has grown (futex(2)). Who signals
// makes it grow first and looks for waiters second. So either the signal finds the waiter counted, or the waiter finds the number grown. That count is all
// there is, no list of waiters: a child has nothing to clear and no ghost to meet. The waiters carry the generation that they belong to, so those of
// the parent are not even counted.
//
// Who signals while it holds the waiters' lock does not wake them at once: on the same processor they would run at once, find the lock taken, and go to sleep again
// on it. It owes the wake-up to them until it unlocks. To make its unlock take the slow way, where debts are paid, it sets the flag of a contended lock.

#include "forkguard/condition.h"

#include "forkguard/generation.h"
#include "copy.h"
#include "gate.h"
#include "platform/platform.h"
#include "trap.h"

#include <errno.h>
#include <limits.h>

#define GENERATION_SHIFT 32
#define COUNT UINT64_C(0xffffffff)

uint64_t forkguard_nanoseconds(void) { return platform_nanoseconds(); }

static void count_in(forkguard_condition_t *condition, uint64_t generation) {
    uint64_t seen = __atomic_load_n(&condition->waiters, __ATOMIC_RELAXED), wanted;
    do wanted = seen >> GENERATION_SHIFT == (uint32_t)generation ? seen + 1 : generation << GENERATION_SHIFT | 1;
    while (!__atomic_compare_exchange_n(&condition->waiters, &seen, wanted, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
}

int forkguard_condition_wait(forkguard_condition_t *condition, forkguard_lock_t *lock, uint64_t deadline) {
    FOLLOW(condition_wait, condition, lock, deadline);
    if (!forkguard_lock_is_mine(lock)) trap_condition(condition, lock);
    __atomic_store_n(&condition->lock, lock, __ATOMIC_RELAXED);
    count_in(condition, forkguard_generation());
    uint32_t seen = __atomic_load_n(&condition->signals, __ATOMIC_SEQ_CST);
    forkguard_unlock(lock);
    uint64_t now = platform_nanoseconds();
    if (now < deadline) platform_wait(&condition->signals, seen, deadline - now > INT64_MAX ? PLATFORM_FOREVER : (int64_t)(deadline - now));
    // The waiters of this generation: a thread that sleeps here is in no child.
    __atomic_fetch_sub(&condition->waiters, 1, __ATOMIC_RELAXED);
    forkguard_lock(lock);
    bool signalled = __atomic_load_n(&condition->signals, __ATOMIC_RELAXED) != seen;
    return !signalled && platform_nanoseconds() >= deadline ? ETIMEDOUT : 0;
}

static void owe_wake(forkguard_slot *slot, forkguard_lock_t *lock, const uint32_t *word, int count) {
    bool more = slot->wakes_after == lock && slot->wakes_on == word;
    if (slot->wakes_after && !more) platform_wake(slot->wakes_on, slot->wakes);
    slot->wakes = more && slot->wakes > INT_MAX - count ? INT_MAX : more ? slot->wakes + count : count;
    slot->wakes_after = lock;
    slot->wakes_on = word;
    __atomic_or_fetch(&lock->word, FORKGUARD_WORD_CONTENDED, __ATOMIC_RELAXED);
}

static void wake(forkguard_condition_t *condition, int count) {
    uint64_t generation = forkguard_generation();
    __atomic_fetch_add(&condition->signals, 1, __ATOMIC_SEQ_CST);
    uint64_t waiters = __atomic_load_n(&condition->waiters, __ATOMIC_SEQ_CST);
    if ((waiters & COUNT) == 0 || waiters >> GENERATION_SHIFT != (uint32_t)generation) return;
    // Somebody waits, so the lock is there.
    forkguard_lock_t *lock = __atomic_load_n(&condition->lock, __ATOMIC_RELAXED);
    if (lock && forkguard_lock_is_mine(lock)) owe_wake(forkguard_thread_slot, lock, &condition->signals, count);
    else platform_wake(&condition->signals, count);
}

void forkguard_condition_signal(forkguard_condition_t *condition) {
    FOLLOW(condition_signal, condition);
    wake(condition, 1);
}
void forkguard_condition_broadcast(forkguard_condition_t *condition) {
    FOLLOW(condition_broadcast, condition);
    wake(condition, INT_MAX);
}
