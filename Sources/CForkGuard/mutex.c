// pthread mutexes, read-write locks and condition variables, as foreign locks.
//
// POSIX has no way to ask a mutex what it is or whose it is, but both C libraries of Linux keep that where their headers declare it, because static
// initialisers are compiled into programs: the layouts cannot change (glibc's bits/struct_mutex.h and bits/struct_rwlock.h, musl's
// bits/alltypes.h). From there we read the kind, to refuse what other processes share, and the owner.
//
// Why the owner must be known in the child: a thread that forks while it has a mutex keeps it, but has another kernel id there, and the mutex still names the
// old one. Left alone, glibc's recursive and error-checking mutexes refuse its unlock (EPERM), a recursive one deadlocks at its next lock, and a
// read-write lock takes its writer's unlock for a reader's. So the owner is written anew.

#include "mutex.h"

#include "copy.h"

#include "foreign.h"

#include "platform/platform.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

// ---- what differs between C libraries ----

#if defined(__GLIBC__)

// nptl/pthreadP.h: the type in two bits, then robust, priority inheritance and protection; elision bits; process-shared.
enum { KIND_TYPE = 3, KIND_ROBUST = 16, KIND_INHERIT = 32, KIND_PROTECT = 64, KIND_SHARED = 128, KIND_KNOWN = 0x3ff & ~12 };
#define CEILING 0xfff80000u // of a mutex with priority protection, in its word

static int mutex_refusal(const pthread_mutex_t *mutex) {
    int kind = mutex->__data.__kind;
    if (kind & ~KIND_KNOWN) return EINVAL; // pthread_mutex_destroy(3p) leaves -1
    return kind & (KIND_ROBUST | KIND_SHARED) ? ENOTSUP : 0;
}

static bool mutex_looks_sane(const pthread_mutex_t *mutex) {
    if (mutex_refusal(mutex) != 0) return false;
    bool protocol = mutex->__data.__kind & (KIND_INHERIT | KIND_PROTECT);
    return mutex->__data.__owner >= 0 && (protocol || (unsigned)mutex->__data.__lock <= 2);
}

static int32_t owner_of_mutex(void *mutex) { return __atomic_load_n(&((pthread_mutex_t *)mutex)->__data.__owner, __ATOMIC_RELAXED); }

static int reinitialize_mutex(void *lock) {
    pthread_mutex_t *mutex = lock;
    int kind = mutex->__data.__kind;
    bool contended = (mutex->__data.__lock & ~CEILING) > 1;
    int word = kind & KIND_PROTECT ? (int)((unsigned)mutex->__data.__lock & CEILING) : 0;
    memset(mutex, 0, sizeof *mutex);
    mutex->__data.__kind = kind;
    mutex->__data.__lock = word;
    // Threads of the child's that waited for a vanished holder before anybody asked.
    if (contended) platform_wake((const uint32_t *)&mutex->__data.__lock, INT_MAX);
    return 0;
}

static bool is_protected(const pthread_mutex_t *mutex) { return mutex->__data.__kind & KIND_PROTECT; }

static int adopt_mutex(void *lock) {
    pthread_mutex_t *mutex = lock;
    mutex->__data.__owner = mutex_thread_id();
    // Who waited for it is gone, and the kernel's list of them with it.
    if (mutex->__data.__kind & KIND_INHERIT) mutex->__data.__lock = platform_thread_id();
    return 0;
}

static int rwlock_refusal(const pthread_rwlock_t *rwlock) {
    if (rwlock->__data.__flags > PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) return EINVAL;
    return rwlock->__data.__shared ? ENOTSUP : 0;
}

static int32_t owner_of_rwlock(void *rwlock) { return __atomic_load_n(&((pthread_rwlock_t *)rwlock)->__data.__cur_writer, __ATOMIC_RELAXED); }

static int reinitialize_rwlock(void *lock) {
    pthread_rwlock_t *rwlock = lock, fresh = PTHREAD_RWLOCK_INITIALIZER;
    fresh.__data.__flags = rwlock->__data.__flags;
    *rwlock = fresh;
    return 0;
}

static int adopt_rwlock(void *rwlock) {
    ((pthread_rwlock_t *)rwlock)->__data.__cur_writer = mutex_thread_id();
    return 0;
}

static int condition_refusal(const pthread_cond_t *condition) { return condition->__data.__wrefs & 1 ? ENOTSUP : 0; }

static int reinitialize_condition(void *lock) {
    pthread_cond_t *condition = lock;
    unsigned clock = condition->__data.__wrefs & 2;
    memset(condition, 0, sizeof *condition);
    condition->__data.__wrefs = clock;
    return 0;
}

#define RECURSIVE PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP
#define TELLS 1

#elif defined(__linux__)

#define WORD_THREAD 0x3fffffffu
#define WORD_WRITER 0x7fffffffu

// musl, src/internal/pthread_impl.h: _m_type and _m_lock, _rw_lock and _rw_shared, _c_shared and _c_clock.
enum { KIND_TYPE = 3, KIND_ROBUST = 4, KIND_INHERIT = 8, KIND_SHARED = 128, KIND_KNOWN = 143 };

static int mutex_refusal(const pthread_mutex_t *mutex) {
    int kind = mutex->__u.__i[0];
    if (kind & ~KIND_KNOWN) return EINVAL;
    return kind & (KIND_ROBUST | KIND_SHARED) ? ENOTSUP : 0;
}

static bool mutex_looks_sane(const pthread_mutex_t *mutex) { return mutex_refusal(mutex) == 0; }

// A plain mutex does not note whose it is, a read-write lock neither.
static int32_t owner_of_mutex(void *lock) {
    pthread_mutex_t *mutex = lock;
    int word = mutex->__u.__vi[1];
    return mutex->__u.__i[0] & (KIND_TYPE | KIND_INHERIT) ? word & (int)WORD_THREAD : word ? FORKGUARD_OWNER_UNKNOWN : 0;
}

static int reinitialize_mutex(void *lock) {
    pthread_mutex_t *mutex = lock;
    int kind = mutex->__u.__i[0];
    bool contended = mutex->__u.__vi[2] != 0; // _m_waiters
    memset(mutex, 0, sizeof *mutex);
    mutex->__u.__i[0] = kind;
    if (contended) platform_wake((const uint32_t *)&mutex->__u.__i[1], INT_MAX); // as above
    return 0;
}

static bool is_protected(const pthread_mutex_t *mutex) {
    (void)mutex;
    return false; // musl has no priority protection
}

static int adopt_mutex(void *lock) {
    ((pthread_mutex_t *)lock)->__u.__vi[1] = mutex_thread_id();
    return 0;
}

static int rwlock_refusal(const pthread_rwlock_t *rwlock) { return rwlock->__u.__i[2] ? ENOTSUP : 0; }
static int32_t owner_of_rwlock(void *rwlock) {
    return ((pthread_rwlock_t *)rwlock)->__u.__vi[0] == (int)WORD_WRITER ? FORKGUARD_OWNER_UNKNOWN : 0;
}
static int reinitialize_rwlock(void *rwlock) {
    memset(rwlock, 0, sizeof(pthread_rwlock_t));
    return 0;
}
static int adopt_rwlock(void *rwlock) {
    (void)rwlock;
    return 0;
}

static int condition_refusal(const pthread_cond_t *condition) { return condition->__u.__p[0] ? ENOTSUP : 0; }
static int reinitialize_condition(void *lock) {
    pthread_cond_t *condition = lock;
    int clock = condition->__u.__i[4];
    memset(condition, 0, sizeof *condition);
    condition->__u.__i[4] = clock;
    return 0;
}

#define RECURSIVE {{{PTHREAD_MUTEX_RECURSIVE}}}
#define TELLS 1

#else

int32_t mutex_thread_id(void) { return 0; }

#define TELLS 0

#endif

// ---- the operations ----

#if TELLS

// ForkGuardRuntime may lead this object's imports through the gate. What a fork itself does is not to go there; an address in data is none of those imports.
static const volatile struct {
    int (*mutex_trylock)(pthread_mutex_t *);
    int (*mutex_timedlock)(pthread_mutex_t *, const struct timespec *);
    int (*mutex_unlock)(pthread_mutex_t *);
    int (*rwlock_trywrlock)(pthread_rwlock_t *);
    int (*rwlock_timedwrlock)(pthread_rwlock_t *, const struct timespec *);
    int (*rwlock_unlock)(pthread_rwlock_t *);
} direct = {
    pthread_mutex_trylock, pthread_mutex_timedlock, pthread_mutex_unlock, pthread_rwlock_trywrlock, pthread_rwlock_timedwrlock, pthread_rwlock_unlock,
};

// Memory that was freed may be gone, or somebody else's. What is certainly no mutex any more is not touched; a mutex that was made in the same place
// cannot be told from the one that was registered.
static int check_mutex(void *lock) {
    pthread_mutex_t copy;
    if (!platform_read(&copy, lock, sizeof copy)) return EFAULT;
    return mutex_looks_sane(&copy) ? 0 : EINVAL;
}

int32_t mutex_thread_id(void) {
    pthread_mutex_t mutex = RECURSIVE;
    if (direct.mutex_trylock(&mutex) != 0) return 0;
    int32_t owner = owner_of_mutex(&mutex);
    direct.mutex_unlock(&mutex);
    return owner;
}

static bool is_mine(int32_t owner) { return owner > 0 && owner == forkguard_thread_slot->mutex_id; }

// A mutex with priority protection refuses a thread whose priority is above its ceiling (EINVAL); it is a good mutex all the same.
static int busy_if_refused(int result, const pthread_mutex_t *mutex) { return result == EINVAL && is_protected(mutex) ? EBUSY : result; }

static int try_mutex(void *lock) {
    if (is_mine(owner_of_mutex(lock))) return FORKGUARD_MINE;
    return busy_if_refused(direct.mutex_trylock(lock), lock);
}

// Both C libraries measure these deadlines by CLOCK_REALTIME; one that jumps costs a window more or less.
static struct timespec in(uint64_t nanoseconds) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    nanoseconds += (uint64_t)time.tv_nsec;
    time.tv_sec += (time_t)(nanoseconds / 1000000000);
    time.tv_nsec = (long)(nanoseconds % 1000000000);
    return time;
}

static int busy_if_late(int result) { return result == ETIMEDOUT || result == EDEADLK ? EBUSY : result; }

static int wait_mutex(void *lock, uint64_t nanoseconds) {
    struct timespec end = in(nanoseconds);
    return busy_if_refused(busy_if_late(direct.mutex_timedlock(lock, &end)), lock);
}

static int wait_rwlock(void *lock, uint64_t nanoseconds) {
    struct timespec end = in(nanoseconds);
    return busy_if_late(direct.rwlock_timedwrlock(lock, &end));
}

static int unlock_mutex(void *lock) { return direct.mutex_unlock(lock); }

static int check_rwlock(void *lock) {
    pthread_rwlock_t copy;
    if (!platform_read(&copy, lock, sizeof copy)) return EFAULT;
    return rwlock_refusal(&copy);
}

static int try_rwlock(void *lock) { return is_mine(owner_of_rwlock(lock)) ? FORKGUARD_MINE : direct.rwlock_trywrlock(lock); }
static int unlock_rwlock(void *lock) { return direct.rwlock_unlock(lock); }

static int check_condition(void *lock) {
    pthread_cond_t copy;
    return platform_read(&copy, lock, sizeof copy) ? condition_refusal(&copy) : EFAULT;
}

static const forkguard_lock_operations mutex_operations = {
    check_mutex, try_mutex, wait_mutex, unlock_mutex, reinitialize_mutex, adopt_mutex, owner_of_mutex,
};
static const forkguard_lock_operations rwlock_operations = {
    check_rwlock, try_rwlock, wait_rwlock, unlock_rwlock, reinitialize_rwlock, adopt_rwlock, owner_of_rwlock,
};
static const forkguard_lock_operations condition_operations = {check_condition, NULL, NULL, NULL, reinitialize_condition, NULL, NULL};

#endif

// ---- whose it is, for the gate ----

#if TELLS

uint32_t mutex_sections(const void *mutex, int32_t thread_id) {
    pthread_mutex_t copy;
    if (thread_id <= 0 || !platform_read(&copy, mutex, sizeof copy) || owner_of_mutex(&copy) != thread_id) return 0;
#if defined(__GLIBC__)
    if (copy.__data.__count > 1) return copy.__data.__count; // recursive
#endif
    return 1;
}

uint32_t rwlock_sections(const void *rwlock, int32_t thread_id) {
    pthread_rwlock_t copy;
    return thread_id > 0 && platform_read(&copy, rwlock, sizeof copy) && owner_of_rwlock(&copy) == thread_id;
}

#else

uint32_t mutex_sections(const void *mutex, int32_t thread_id) {
    (void)mutex;
    (void)thread_id;
    return 0;
}

uint32_t rwlock_sections(const void *rwlock, int32_t thread_id) { return mutex_sections(rwlock, thread_id); }

#endif

// ---- registering ----

static uint64_t refuse(int error) {
    errno = error;
    return 0;
}

static bool is_whole(const forkguard_foreign_lock *lock) {
    const forkguard_lock_operations *operations = lock->operations;
    return lock->lock && operations && operations->reinitialize && (!operations->try_lock || operations->unlock);
}

uint64_t forkguard_register_lock(const forkguard_foreign_lock *lock) {
    FOLLOW(register_lock, lock);
    return is_whole(lock) ? registry_add_lock(lock) : refuse(EINVAL);
}

#if TELLS

static uint64_t add(void *lock, const forkguard_foreign_lock *made, const forkguard_lock_operations *operations, int refusal) {
    if (refusal) return refuse(refusal);
    forkguard_foreign_lock whole = made ? *made : (forkguard_foreign_lock){.name = NULL};
    whole.lock = lock;
    whole.operations = operations;
    whole.flags = 0;
    return forkguard_register_lock(&whole);
}

uint64_t forkguard_register_mutex(pthread_mutex_t *mutex, const forkguard_foreign_lock *made) {
    FOLLOW(register_mutex, mutex, made);
    return add(mutex, made, &mutex_operations, mutex ? mutex_refusal(mutex) : EINVAL);
}

uint64_t forkguard_register_rwlock(pthread_rwlock_t *rwlock, const forkguard_foreign_lock *made) {
    FOLLOW(register_rwlock, rwlock, made);
    return add(rwlock, made, &rwlock_operations, rwlock ? rwlock_refusal(rwlock) : EINVAL);
}

uint64_t forkguard_register_condition(pthread_cond_t *condition, const forkguard_foreign_lock *made) {
    FOLLOW(register_condition, condition, made);
    return add(condition, made, &condition_operations, condition ? condition_refusal(condition) : EINVAL);
}

#else

uint64_t forkguard_register_mutex(pthread_mutex_t *mutex, const forkguard_foreign_lock *made) {
    (void)mutex;
    (void)made;
    return refuse(ENOTSUP);
}

uint64_t forkguard_register_rwlock(pthread_rwlock_t *rwlock, const forkguard_foreign_lock *made) {
    (void)rwlock;
    (void)made;
    return refuse(ENOTSUP);
}

uint64_t forkguard_register_condition(pthread_cond_t *condition, const forkguard_foreign_lock *made) {
    (void)condition;
    (void)made;
    return refuse(ENOTSUP);
}

#endif
