// Futexes whose word holds a thread id (FUTEX_LOCK_PI, futex(2)): Swift's Synchronization.Mutex, swift_once, libdispatch.
//
// Each object that has them caches the thread id in thread-local storage of its own, and where that is nobody outside can know. In a forked child the thread that
// called fork() goes on with the id that it had in the parent. As long as nobody else wants the lock that does no harm: it writes the old id, finds the old id,
// and takes it away. Only the kernel knows better: it lets nobody unlock but the thread with the id in the word, and who waits for a lock with the old id waits
// for a thread of the parent. All of that goes through syscall(2): so here, before the kernel sees it, the old id in the word is made the new one. The cache need not
// be found, and stays as it is. When the thread unlocks it finds another word than it expects, and asks the kernel, which agrees.
//
// What a vanished thread held is not given to anybody: the lock has no way to say that its data is half changed, so the process says so, and ends.

#include "futex.h"

#include "ghosts.h"
#include "once.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
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

// The survivor's old id becomes its new one. False when a vanished thread has it.
static bool settle(int32_t *word, int32_t *owner) {
    for (;;) {
        int32_t seen = __atomic_load_n(word, __ATOMIC_RELAXED), now;
        *owner = (int32_t)((uint32_t)seen & FUTEX_TID_MASK);
        if (*owner == 0) return true;
        enum holder holder = holder_of(*owner, &now);
        if (holder == HOLDER_LIVES) return true;
        if (holder == HOLDER_VANISHED) return false;
        // Who waited in the parent is gone.
        if (__atomic_compare_exchange_n(word, &seen, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return true;
    }
}

// Sleeps for the word of a once that the thread is counted into, and nothing else of it yet.
static long lock_once(int32_t *word, long operation, long c, long d, long e, long f) {
    forkguard_slot *slot = forkguard_thread_slot;
    forkguard_section_sleep(slot, word, NULL, &once_sleep);
    long result = real_syscall(SYS_futex, word, operation, c, d, e, f);
    int error = errno;
    if (!forkguard_section_wake(slot)) {
        if (result == 0) {
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
    // Between processes a holder may well be a thread of another one.
    if (number != SYS_futex || !(b & FUTEX_PRIVATE_FLAG)) return real_syscall(number, a, b, c, d, e, f);
    int32_t *word = (int32_t *)a, owner;
    switch (b & FUTEX_CMD_MASK) {
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
        if (!settle(word, &owner)) refuse_torn("a lock with a thread id in it (a Synchronization.Mutex, or a lazy global's)", word, owner);
        if (word == once_word()) return lock_once(word, b, c, d, e, f);
        break;
    case FUTEX_TRYLOCK_PI:
        if (!settle(word, &owner)) {
            errno = EAGAIN;
            return -1;
        }
        break;
    case FUTEX_UNLOCK_PI:
        settle(word, &owner);
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
