// pthread mutexes, read-write locks and conditions as gated sections.
//
// A plain mutex has no serial of ours, and the C library's own waits hand it over inside: so a thread counts itself in before it tries, and out while it
// sleeps (section.h has the protocol). Counted in after the lock instead, a fork in between found it held: 5 of 99.
//
// A mutex is taken with a try first. Where that fails, the thread sleeps in the C library's own lock, counted out, and comes back with the mutex in hand; beside a closed
// gate it lets go of it again before it has run a line of its own. A condition's wait comes back with its mutex in the same way. A read-write lock notes sleeping
// readers in its own words, where a child could not tell them from holders; so nobody sleeps in it: who cannot have it sleeps here, by its address, until somebody
// unlocks.
//
// Robust and process-shared ones are left alone: their holders may be other processes.

#include "locks.h"

#include "ghosts.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "forkguard.h"

#if defined(__GLIBC__)

real_locks real;

// glibc, nptl/pthreadP.h; see Sources/CForkGuard/mutex.c for why these cannot change.
enum { KIND_ROBUST = 16, KIND_INHERIT = 32, KIND_SHARED = 128, KIND_ELISION = 256 }; // elided ones note no owner
enum { CONDITION_SHARED = 1, CONDITION_CLOCK = 2, CONDITION_WAITERS = 3 };

static bool is_ours(const pthread_mutex_t *mutex) { return !(mutex->__data.__kind & (KIND_ROBUST | KIND_SHARED)); }

static int32_t owner_of(const void *lock) { return __atomic_load_n(&((const pthread_mutex_t *)lock)->__data.__owner, __ATOMIC_RELAXED); }

static void make_free(pthread_mutex_t *mutex) {
    mutex->__data.__lock = 0;
    mutex->__data.__count = 0;
    mutex->__data.__owner = 0;
    mutex->__data.__nusers = 0;
}

static void sleeper_vanished(void *lock, void *condition, int32_t sleeper, bool letting_go) {
    pthread_mutex_t *mutex = lock, copy;
    if (letting_go) {
        if (!forkguard_read_memory(&copy, mutex, sizeof copy) || !is_ours(&copy)) return;
        // In the middle of its unlock nobody is the owner any more, and the word still set. It was a mutex a moment ago, so it most probably is one.
        bool is_set = copy.__data.__lock == 1 || copy.__data.__lock == 2 || (copy.__data.__kind & KIND_INHERIT);
        if (is_set && (copy.__data.__owner == sleeper || copy.__data.__owner == 0)) make_free(mutex);
        return;
    }
    // Not noted yet whose it is: a sleeper's, who is about to. Only sleepers take a mutex beside a closed gate.
    if (mutex->__data.__lock != 0 && (mutex->__data.__owner == sleeper || mutex->__data.__owner == 0)) make_free(mutex);
    pthread_cond_t *waited = condition, waited_copy;
    if (!waited || !forkguard_read_memory(&waited_copy, waited, sizeof waited_copy) || waited_copy.__data.__wrefs >> CONDITION_WAITERS == 0) return;
    // Its waiters are gone: a signal would be lost to them, and pthread_cond_destroy(3p) wait for them.
    unsigned clock = waited->__data.__wrefs & CONDITION_CLOCK;
    memset(waited, 0, sizeof *waited);
    waited->__data.__wrefs = clock;
}

static const forkguard_sleep_operations mutex_sleep = {owner_of, sleeper_vanished};

// ---- mutexes ----

typedef struct wait {
    const struct timespec *deadline; // NULL: none
    clockid_t clock;
} wait;

static struct timespec after(clockid_t clock, uint64_t nanoseconds) {
    struct timespec time;
    clock_gettime(clock, &time);
    nanoseconds += (uint64_t)time.tv_nsec;
    time.tv_sec += (time_t)(nanoseconds / 1000000000);
    time.tv_nsec = (long)(nanoseconds % 1000000000);
    return time;
}

static bool is_later(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

// Until the deadline, in nanoseconds; 0: it is over.
static uint64_t left(const wait *wait) {
    struct timespec now;
    if (!wait->deadline) return UINT64_MAX;
    clock_gettime(wait->clock, &now);
    if (!is_later(wait->deadline, &now)) return 0;
    int64_t seconds = wait->deadline->tv_sec - now.tv_sec;
    return seconds > 1000 ? UINT64_MAX : (uint64_t)(seconds * 1000000000 + wait->deadline->tv_nsec - now.tv_nsec);
}

// The only ones that the C library takes (pthread_mutex_clocklock in its manual).
static bool is_known(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC; }

// Sleeps for the mutex. `again`: it came back early, only to look again.
static int sleep_for(pthread_mutex_t *mutex, const wait *wait, uint64_t patience, bool *again) {
    *again = false;
    if (patience == 0) {
        if (!wait->deadline) return real.mutex_lock(mutex);
        return wait->clock == CLOCK_REALTIME ? real.mutex_timedlock(mutex, wait->deadline)
                                             : real.mutex_clocklock(mutex, wait->clock, wait->deadline);
    }
    clockid_t clock = wait->deadline ? wait->clock : CLOCK_REALTIME;
    struct timespec end = after(clock, patience);
    bool last = wait->deadline && !is_later(wait->deadline, &end);
    if (last) end = *wait->deadline;
    int result = clock == CLOCK_REALTIME ? real.mutex_timedlock(mutex, &end) : real.mutex_clocklock(mutex, clock, &end);
    *again = result == ETIMEDOUT && !last;
    return result;
}

// A mutex that was held over the fork: by the thread that called it, which has another id now; or by one that is gone. Who would wait for
// that one for ever is `refused`.
static bool settle(pthread_mutex_t *mutex, bool refused) {
    int32_t owner = owner_of(mutex), now;
    switch (holder_of(owner, &now)) {
    case HOLDER_LIVES: return false;
    case HOLDER_SURVIVED:
        if (!__atomic_compare_exchange_n(&mutex->__data.__owner, &owner, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return false;
        // Who waited for it is gone, and the kernel's list of them with it.
        if (mutex->__data.__kind & KIND_INHERIT) __atomic_store_n(&mutex->__data.__lock, now, __ATOMIC_RELAXED);
        return true;
    default:
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (owner_of(mutex) != owner) return false; // it has unlocked and ended meanwhile
        if (!refused || !torn_is_refused()) return false;
        refuse_torn("a pthread mutex", mutex, owner);
    }
}

static __attribute__((noinline)) int lock_slowly(forkguard_slot *slot, pthread_mutex_t *mutex, int result, const wait *wait) {
    int saved = errno;
    while (result == EBUSY) {
        if (settle(mutex, !wait->deadline)) {
            result = real.mutex_trylock(mutex);
            continue;
        }
        uint64_t patience = forkguard_section_patience(slot, owner_of(mutex));
        forkguard_section_sleep(slot, mutex, NULL, &mutex_sleep);
        bool again;
        result = sleep_for(mutex, wait, patience, &again);
        if (!forkguard_section_wake(slot)) {
            if (result == 0) {
                real.mutex_unlock(mutex);
                again = true;
            }
            forkguard_section_park(slot);
        }
        if (again) result = real.mutex_trylock(mutex);
    }
    if (result != 0) forkguard_section_end(slot);
    errno = saved;
    return result;
}

// A plain mutex, which nearly all are, is taken and left here, as the C library does it (nptl/lowlevellock.h: 0 is free, 1 taken, 2 taken with sleepers): through its try, which
// decides among all kinds, an uncontended pair was 0.77 times as fast as without us, so it is as fast. locks_try_plain looks whether the words are what we take them for.
static int plain_kind = -1; // no mutex's

static bool is_plain(const pthread_mutex_t *mutex) { return mutex->__data.__kind == plain_kind; }

// What a fork that does not want to wait any more looks for.
static inline void note(forkguard_slot *slot, const pthread_mutex_t *mutex) { forkguard_section_note(slot, mutex, FORKGUARD_SECTION_MUTEX); }

static inline void let_go(forkguard_slot *slot, const void *lock) {
    if (slot && slot->keeps) forkguard_section_let_go(slot, lock);
}

static inline bool take_plain(forkguard_slot *slot, pthread_mutex_t *mutex) {
    int seen = 0;
    if (!FORKGUARD_LIKELY(__atomic_compare_exchange_n(&mutex->__data.__lock, &seen, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))) return false;
    mutex->__data.__owner = slot->mutex_id;
    mutex->__data.__nusers++;
    return true;
}

// True when there are sleepers, of whom the caller must wake one.
static inline bool leave_plain(pthread_mutex_t *mutex) {
    mutex->__data.__owner = 0;
    mutex->__data.__nusers--;
    return __atomic_exchange_n(&mutex->__data.__lock, 0, __ATOMIC_RELEASE) > 1;
}

void locks_try_plain(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    forkguard_slot *slot = forkguard_section_begin();
    if (!slot) return;
    bool known = mutex.__data.__kind == 0 && real.mutex_lock(&mutex) == 0 && mutex.__data.__lock == 1 && mutex.__data.__owner == slot->mutex_id
        && mutex.__data.__nusers == 1 && !leave_plain(&mutex) && real.mutex_trylock(&mutex) == 0 && !leave_plain(&mutex)
        && take_plain(slot, &mutex) && real.mutex_trylock(&mutex) == EBUSY && real.mutex_unlock(&mutex) == 0 && mutex.__data.__lock == 0
        && mutex.__data.__owner == 0 && mutex.__data.__nusers == 0;
    forkguard_section_end(slot);
    if (known) plain_kind = 0;
}

// Counted in; not had at the first try. To look again before sleeping made two threads that do nothing else three times slower: they take the mutex from each other
// where one that sleeps lets the other go on.
static __attribute__((noinline)) int lock_contended(forkguard_slot *slot, pthread_mutex_t *mutex) {
    int result = real.mutex_trylock(mutex);
    return result == 0 ? 0 : lock_slowly(slot, mutex, result, &(wait){0});
}

static __attribute__((noinline)) int lock_behind_gate(forkguard_slot *slot, pthread_mutex_t *mutex) {
    forkguard_section_enter_slow(slot);
    note(slot, mutex);
    return lock_contended(slot, mutex);
}

static __attribute__((noinline)) int lock_other(pthread_mutex_t *mutex) {
    forkguard_slot *slot = is_ours(mutex) ? forkguard_section_begin() : NULL;
    if (!slot) return real.mutex_lock(mutex);
    note(slot, mutex);
    int result = real.mutex_trylock(mutex);
    return FORKGUARD_LIKELY(result == 0) ? 0 : lock_slowly(slot, mutex, result, &(wait){0});
}

int gated_mutex_lock(pthread_mutex_t *mutex) {
    forkguard_slot *slot = forkguard_thread_slot;
    if (!FORKGUARD_LIKELY(slot != NULL) || !FORKGUARD_LIKELY(is_plain(mutex))) return lock_other(mutex);
    if (!FORKGUARD_LIKELY(forkguard_section_enter(slot))) return lock_behind_gate(slot, mutex);
    note(slot, mutex);
    return FORKGUARD_LIKELY(take_plain(slot, mutex)) ? 0 : lock_contended(slot, mutex);
}

int gated_mutex_trylock(pthread_mutex_t *mutex) {
    forkguard_slot *slot = is_ours(mutex) ? forkguard_section_begin() : NULL;
    if (slot) note(slot, mutex);
    int result = real.mutex_trylock(mutex);
    if (FORKGUARD_LIKELY(result == 0) || !slot) return result;
    if (result == EBUSY && settle(mutex, false)) result = real.mutex_trylock(mutex);
    if (result != 0) forkguard_section_end(slot);
    return result;
}

int gated_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline) {
    if (!is_known(clock)) return EINVAL;
    forkguard_slot *slot = is_ours(mutex) ? forkguard_section_begin() : NULL;
    if (!slot) return clock == CLOCK_REALTIME ? real.mutex_timedlock(mutex, deadline) : real.mutex_clocklock(mutex, clock, deadline);
    note(slot, mutex);
    int result = real.mutex_trylock(mutex);
    return FORKGUARD_LIKELY(result == 0) ? 0 : lock_slowly(slot, mutex, result, &(wait){deadline, clock});
}

int gated_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline) {
    return gated_mutex_clocklock(mutex, CLOCK_REALTIME, deadline);
}

static __attribute__((noinline)) int unlock_other(pthread_mutex_t *mutex) {
    bool ours = is_ours(mutex); // it may be gone after it was unlocked
    forkguard_slot *slot = forkguard_section_slot();
    // One that another thread locked is that thread's section, which nothing ends any more (kept.c). One of this thread's may have the id that it had in the parent.
    if (slot && ours && owner_of(mutex) != slot->mutex_id) settle(mutex, false);
    bool mine = slot && (owner_of(mutex) == slot->mutex_id || (mutex->__data.__kind & KIND_ELISION));
    if (mutex->__data.__count <= 1) let_go(slot, mutex); // else it stays, recursive
    int result = real.mutex_unlock(mutex);
    // EPERM: it notes the id that this thread had in the parent. Or did, and a thread that wants it has set it right in this moment.
    if (result == EPERM && ours && (settle(mutex, false) || (slot && owner_of(mutex) == slot->mutex_id))) result = real.mutex_unlock(mutex);
    // One that was locked before the wrappers were there is not counted.
    if (FORKGUARD_LIKELY(result == 0) && ours && mine && slot->held != 0) forkguard_section_end(slot);
    return result;
}

static __attribute__((noinline)) int unlock_contended(forkguard_slot *slot, pthread_mutex_t *mutex) {
    // By its address alone: it may be gone.
    int saved = errno;
    syscall(SYS_futex, &mutex->__data.__lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
    forkguard_section_end(slot);
    return 0;
}

int gated_mutex_unlock(pthread_mutex_t *mutex) {
    forkguard_slot *slot = forkguard_thread_slot;
    if (!FORKGUARD_LIKELY(slot != NULL) || !FORKGUARD_LIKELY(slot->held != 0) || !FORKGUARD_LIKELY(!slot->keeps) || !FORKGUARD_LIKELY(is_plain(mutex))
        || !FORKGUARD_LIKELY(mutex->__data.__owner == slot->mutex_id))
        return unlock_other(mutex);
    if (!FORKGUARD_LIKELY(!leave_plain(mutex))) return unlock_contended(slot, mutex);
    forkguard_section_end(slot);
    return 0;
}

// ---- conditions ----

static void come_back(forkguard_slot *slot, pthread_mutex_t *mutex) {
    if (forkguard_section_wake(slot)) return;
    // Early, as if woken for nothing (pthread_cond_wait(3p) allows that): before it runs anything it must have the mutex as everybody does.
    real.mutex_unlock(mutex);
    forkguard_section_park(slot);
    int result = real.mutex_trylock(mutex);
    if (result != 0) lock_slowly(slot, mutex, result, &(wait){0});
}

typedef struct waiter {
    forkguard_slot *slot;
    pthread_mutex_t *mutex;
} waiter;

// A thread that is cancelled in its wait has the mutex in its cleanup handlers.
static void come_back_cancelled(void *context) { come_back(((waiter *)context)->slot, ((waiter *)context)->mutex); }

static int wait_for(pthread_cond_t *condition, pthread_mutex_t *mutex, const wait *wait) {
    if (!wait->deadline) return real.cond_wait(condition, mutex);
    // Without a clock the condition's own counts.
    return wait->clock < 0 ? real.cond_timedwait(condition, mutex, wait->deadline)
                           : real.cond_clockwait(condition, mutex, wait->clock, wait->deadline);
}

// On its own: what a function that may be left by cancellation has in registers may be lost.
static __attribute__((noinline)) int wait_counted_out(forkguard_slot *slot, pthread_cond_t *condition, pthread_mutex_t *mutex, const wait *wait) {
    waiter waiter = {slot, mutex};
    int result;
    let_go(slot, mutex);
    // What other processes wait on is not made anew in a child.
    forkguard_section_sleep(slot, mutex, condition->__data.__wrefs & CONDITION_SHARED ? NULL : condition, &mutex_sleep);
    pthread_cleanup_push(come_back_cancelled, &waiter);
    result = wait_for(condition, mutex, wait);
    pthread_cleanup_pop(0);
    come_back(slot, mutex);
    return result;
}

static int wait_gated(pthread_cond_t *condition, pthread_mutex_t *mutex, const wait *wait) {
    forkguard_slot *slot = forkguard_section_slot();
    bool counted = slot && slot->held != 0 && is_ours(mutex);
    return counted ? wait_counted_out(slot, condition, mutex, wait) : wait_for(condition, mutex, wait);
}

int gated_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) { return wait_gated(condition, mutex, &(wait){0}); }

int gated_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline) {
    return wait_gated(condition, mutex, &(wait){deadline, -1});
}

int gated_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline) {
    return wait_gated(condition, mutex, &(wait){deadline, clock});
}

// pthread_cond_destroy(3p) allows to free a condition when all its waiters are woken, though they may still sleep for the mutex.
int gated_cond_destroy(pthread_cond_t *condition) {
    int result = real.cond_destroy(condition);
    forkguard_section_forget(condition);
    return result;
}

// ---- read-write locks ----

// Where those sleep who cannot have a read-write lock, by its address.
#define BEDS 64
static struct bed {
    uint32_t sleepers, event;
    char apart[56];
} beds[BEDS];

static struct bed *bed_of(const void *lock) { return &beds[((uintptr_t)lock >> 6 ^ (uintptr_t)lock >> 12) % BEDS]; }

// The longest sleep: somebody may unlock who does not come through here.
#define NAP UINT64_C(5000000)

static int32_t writer_of(const void *lock) { return __atomic_load_n(&((const pthread_rwlock_t *)lock)->__data.__cur_writer, __ATOMIC_RELAXED); }

static void rwlock_sleeper_vanished(void *lock, void *condition, int32_t sleeper, bool letting_go) {
    (void)condition, (void)sleeper, (void)letting_go;
    struct bed *bed = bed_of(lock);
    if (bed->sleepers != 0) bed->sleepers--;
}

static const forkguard_sleep_operations rwlock_sleep = {writer_of, rwlock_sleeper_vanished};

static bool settle_rwlock(pthread_rwlock_t *lock, bool refused) {
    int32_t writer = writer_of(lock), now;
    switch (holder_of(writer, &now)) {
    case HOLDER_LIVES: return false;
    case HOLDER_SURVIVED:
        return __atomic_compare_exchange_n(&lock->__data.__cur_writer, &writer, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    default:
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (writer_of(lock) != writer || !refused || !torn_is_refused()) return false;
        refuse_torn("a pthread read-write lock", lock, writer);
    }
}

static __attribute__((noinline)) int rwlock_slowly(forkguard_slot *slot, pthread_rwlock_t *lock, int (*try_lock)(pthread_rwlock_t *), const wait *wait) {
    int saved = errno, result = EBUSY;
    struct bed *bed = bed_of(lock);
    while (result == EBUSY) {
        settle_rwlock(lock, !wait->deadline);
        // The try says busy also where the lock would say that it is this thread's already.
        if (writer_of(lock) == (int32_t)slot->thread_id) {
            result = EDEADLK;
            break;
        }
        uint64_t patience = forkguard_section_patience(slot, writer_of(lock));
        uint64_t rest = left(wait), longest = patience && patience < NAP ? patience : NAP;
        struct timespec nap = {.tv_nsec = (long)(rest < longest ? rest : longest)};
        __atomic_fetch_add(&bed->sleepers, 1, __ATOMIC_SEQ_CST);
        uint32_t event = __atomic_load_n(&bed->event, __ATOMIC_SEQ_CST);
        // Once more, now that who unlocks sees this sleeper.
        result = try_lock(lock);
        if (result == EBUSY) {
            forkguard_section_sleep(slot, lock, NULL, &rwlock_sleep);
            syscall(SYS_futex, &bed->event, FUTEX_WAIT_PRIVATE, event, &nap, NULL, 0);
            if (!forkguard_section_wake(slot)) forkguard_section_park(slot);
        }
        __atomic_fetch_sub(&bed->sleepers, 1, __ATOMIC_SEQ_CST);
        if (result != EBUSY) break;
        result = try_lock(lock);
        if (result == EBUSY && left(wait) == 0) result = ETIMEDOUT;
    }
    if (result != 0) forkguard_section_end(slot);
    errno = saved;
    return result;
}

// Among processes, or where writers go first, which only the C library's own queue can give: its own way, uncounted.
static bool is_shared(const pthread_rwlock_t *lock) {
    return lock->__data.__shared != 0 || lock->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
}

// A reader's hold is in no word of the lock's.
static void note_writer(forkguard_slot *slot, const pthread_rwlock_t *lock, int (*try_lock)(pthread_rwlock_t *)) {
    if (try_lock == real.trywrlock) forkguard_section_note(slot, lock, FORKGUARD_SECTION_RWLOCK);
}

static int lock_rwlock(pthread_rwlock_t *lock, int (*try_lock)(pthread_rwlock_t *), const wait *wait) {
    if (wait->deadline && (!is_known(wait->clock) || wait->deadline->tv_nsec < 0 || wait->deadline->tv_nsec >= 1000000000)) return EINVAL;
    forkguard_slot *slot = forkguard_section_begin();
    if (!slot) return try_lock(lock);
    note_writer(slot, lock, try_lock);
    int result = try_lock(lock);
    if (FORKGUARD_LIKELY(result == 0)) return 0;
    if (result == EBUSY) return rwlock_slowly(slot, lock, try_lock, wait);
    forkguard_section_end(slot);
    return result;
}

static int try_rwlock(pthread_rwlock_t *lock, int (*try_lock)(pthread_rwlock_t *)) {
    forkguard_slot *slot = is_shared(lock) ? NULL : forkguard_section_begin();
    if (slot) note_writer(slot, lock, try_lock);
    int result = try_lock(lock);
    if (result != 0 && slot) forkguard_section_end(slot);
    return result;
}

int gated_tryrdlock(pthread_rwlock_t *lock) { return try_rwlock(lock, real.tryrdlock); }
int gated_trywrlock(pthread_rwlock_t *lock) { return try_rwlock(lock, real.trywrlock); }

int gated_rdlock(pthread_rwlock_t *lock) { return is_shared(lock) ? real.rdlock(lock) : lock_rwlock(lock, real.tryrdlock, &(wait){0}); }

int gated_wrlock(pthread_rwlock_t *lock) { return is_shared(lock) ? real.wrlock(lock) : lock_rwlock(lock, real.trywrlock, &(wait){0}); }

int gated_timedrdlock(pthread_rwlock_t *lock, const struct timespec *deadline) {
    return is_shared(lock) ? real.timedrdlock(lock, deadline) : lock_rwlock(lock, real.tryrdlock, &(wait){deadline, CLOCK_REALTIME});
}

int gated_timedwrlock(pthread_rwlock_t *lock, const struct timespec *deadline) {
    return is_shared(lock) ? real.timedwrlock(lock, deadline) : lock_rwlock(lock, real.trywrlock, &(wait){deadline, CLOCK_REALTIME});
}

int gated_clockrdlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline) {
    return is_shared(lock) ? real.clockrdlock(lock, clock, deadline) : lock_rwlock(lock, real.tryrdlock, &(wait){deadline, clock});
}

int gated_clockwrlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline) {
    return is_shared(lock) ? real.clockwrlock(lock, clock, deadline) : lock_rwlock(lock, real.trywrlock, &(wait){deadline, clock});
}

int gated_rwlock_unlock(pthread_rwlock_t *lock) {
    bool shared = is_shared(lock);
    forkguard_slot *slot = forkguard_section_slot();
    int32_t writer = shared ? 0 : writer_of(lock);
    if (writer != 0 && slot && writer != slot->thread_id) settle_rwlock(lock, false); // a writer's unlock is told by its id
    let_go(slot, lock);
    int result = real.rwlock_unlock(lock);
    if (result != 0 || shared) return result;
    struct bed *bed = bed_of(lock);
    if (__atomic_load_n(&bed->sleepers, __ATOMIC_SEQ_CST) != 0) {
        __atomic_fetch_add(&bed->event, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &bed->event, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
    if (slot && slot->held != 0) forkguard_section_end(slot);
    return result;
}

#endif
