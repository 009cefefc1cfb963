// Futexes whose word holds a thread id (FUTEX_LOCK_PI, futex(2)): Swift's Synchronization.Mutex, swift_once, libdispatch.
//
// Each object that has them caches the thread id in thread-local storage of its own, and where that is nobody outside can know. In a forked child the thread that
// called fork() goes on with the id that it had in the parent. As long as nobody else wants the lock that does no harm: it writes the old id, finds the old id,
// and takes it away. Only the kernel knows better: it lets nobody unlock but the thread with the id in the word, and who waits for a lock with the old id waits
// for a thread of the parent. All of that goes through syscall(2), so here. The caches need not be found, and stay as they are.
//
// In a process that was forked, while the thread lives that it was forked on, these locks are taken and left by hand. The kernel is not asked at all: between any look at the word and
// the kernel's the thread may write its old id again. Who waits looks at the word at intervals; the kernel wakes nobody for a lock that it does not know of.
//
// What a vanished thread held is not given to anybody: the lock has no way to say that its data is half changed, so the process says so, and ends.

#include "futex.h"

#include "ghosts.h"
#include "once.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "forkguard.h"

long (*real_syscall)(long number, ...);

static int32_t id_in(const int32_t *word) { return (int32_t)((uint32_t)__atomic_load_n(word, __ATOMIC_RELAXED) & FUTEX_TID_MASK); }

static int32_t owner_of(const void *word) { return id_in(word); }

static void sleeper_vanished(void *lock, void *condition, int32_t sleeper, bool letting_go) {
    (void)condition, (void)letting_go; // a once's word is never freed
    int32_t *word = lock;
    if (id_in(word) == sleeper) *word = 0;
}

static const forkguard_sleep_operations once_sleep = {owner_of, sleeper_vanished};

static int32_t nobody(const void *lock) {
    (void)lock;
    return 0;
}

static void nothing_was_handed(void *lock, void *condition, int32_t sleeper, bool letting_go) {
    (void)lock, (void)condition, (void)sleeper, (void)letting_go;
}

static const forkguard_sleep_operations guard_sleep = {nobody, nothing_was_handed};

static _Noreturn void refuse(const int32_t *word, int32_t owner) {
    refuse_torn("a lock with a thread id in it (a Synchronization.Mutex, or a lazy global's)", word, owner);
}

// A process that was forked on a thread that lives on in it, with the id that it has now; and the calling thread's.
static bool goes_by_hand(int32_t *survivor, int32_t *self) {
    int32_t ids[1];
    if (forkguard_survivor_ids(ids, 1, survivor) == 0) return false;
    *self = (int32_t)real_syscall(SYS_gettid);
    return true;
}

static enum holder recheck(const int32_t *word, int32_t owner, enum holder holder) {
    if (holder != HOLDER_VANISHED) return holder;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return id_in(word) == owner ? HOLDER_VANISHED : HOLDER_LIVES; // it had unlocked, and ended meanwhile
}

static long fails(int error) {
    errno = error;
    return -1;
}

#define FIRST_NAP 10000
#define LONGEST_NAP 500000

static long lock_by_hand(int32_t *word, int32_t survivor, int32_t self) {
    struct timespec nap = {.tv_nsec = FIRST_NAP};
    int saved = errno;
    for (;;) {
        int32_t seen = __atomic_load_n(word, __ATOMIC_RELAXED), owner = id_in(&seen), now;
        if (owner == 0) {
            if (!__atomic_compare_exchange_n(word, &seen, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
            errno = saved;
            return 0;
        }
        enum holder holder = recheck(word, owner, holder_of(owner, &now));
        if (holder == HOLDER_VANISHED) refuse(word, owner);
        if (owner == self || (holder == HOLDER_SURVIVED && survivor == self)) return fails(EDEADLK);
        bool counted = word == once_word();
        forkguard_slot *slot = forkguard_section_slot();
        if (counted) forkguard_section_sleep(slot, word, NULL, &once_sleep);
        nanosleep(&nap, NULL);
        if (counted && !forkguard_section_wake(slot)) forkguard_section_park(slot);
        if (nap.tv_nsec < LONGEST_NAP) nap.tv_nsec *= 2;
    }
}

static bool unlock_by_hand(int32_t *word, int32_t survivor, int32_t self) {
    int32_t seen = __atomic_load_n(word, __ATOMIC_RELAXED), owner, now;
    do {
        owner = id_in(&seen);
        if (owner != self && !(survivor == self && holder_of(owner, &now) == HOLDER_SURVIVED)) return false;
        // Who waited in the parent is gone; here nobody waits in the kernel.
    } while (!__atomic_compare_exchange_n(word, &seen, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    return true;
}

// Sleeps for a once or a C++ guard that the thread is counted into. A once's lock is handed over; who waits for a guard only waits.
static long sleep_counted_out(const forkguard_sleep_operations *operations, int32_t *word, long operation, long c, long d, long e, long f) {
    forkguard_slot *slot = forkguard_section_slot();
    forkguard_section_sleep(slot, word, NULL, operations);
    long result = real_syscall(SYS_futex, word, operation, c, d, e, f);
    int error = errno;
    if (!forkguard_section_wake(slot)) {
        if (result == 0 && operations == &once_sleep) {
            real_syscall(SYS_futex, word, (operation & ~FUTEX_CMD_MASK) | FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
            result = -1; // its caller tries again
            error = EAGAIN;
        }
        forkguard_section_park(slot);
    }
    errno = error;
    return result;
}

long gated_syscall(long number, long a, long b, long c, long d, long e, long f) {
    if (number != SYS_futex) return real_syscall(number, a, b, c, d, e, f);
    int32_t *word = (int32_t *)a, survivor, self, now;
    if ((b & FUTEX_CMD_MASK) == FUTEX_WAIT && word && word == once_guard()) return sleep_counted_out(&guard_sleep, word, b, c, d, e, f);
    // Between processes a holder may well be a thread of another one.
    if (!(b & FUTEX_PRIVATE_FLAG)) return real_syscall(number, a, b, c, d, e, f);
    switch (b & FUTEX_CMD_MASK) {
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
        if (goes_by_hand(&survivor, &self)) return lock_by_hand(word, survivor, self);
        if (recheck(word, id_in(word), holder_of(id_in(word), &now)) == HOLDER_VANISHED) refuse(word, id_in(word));
        if (word == once_word()) return sleep_counted_out(&once_sleep, word, b, c, d, e, f);
        break;
    case FUTEX_TRYLOCK_PI:
        if (goes_by_hand(&survivor, &self)) {
            int32_t seen = 0;
            return __atomic_compare_exchange_n(word, &seen, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ? 0 : fails(EAGAIN);
        }
        break;
    case FUTEX_UNLOCK_PI:
        if (goes_by_hand(&survivor, &self) && unlock_by_hand(word, survivor, self)) return 0;
        break;
    }
    return real_syscall(number, a, b, c, d, e, f);
}

bool futex_works(void) {
    int32_t word = 0;
    if (gated_syscall(SYS_futex, (long)&word, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0) != 0) return false;
    bool mine = id_in(&word) == (int32_t)syscall(SYS_gettid);
    return gated_syscall(SYS_futex, (long)&word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0) == 0 && mine && word == 0;
}
