// Locks that are not ours: pthread mutexes and read-write locks, and anything that can be tried, unlocked and made anew.
//
// Such a lock knows no gate. A fork takes it with a try while the gate is closed; if that fails, all that were taken are let go, the gate is
// opened for a while, and it is tried again, until the deadline. In the child it is reinitialised, never unlocked: recursive, error-checking
// and priority-inheriting mutexes refuse an unlock by a thread with another id (pthread_mutex_unlock(3p), EPERM).

#ifndef FORKGUARD_FOREIGN_H
#define FORKGUARD_FOREIGN_H

#include <pthread.h>

#include "base.h"
#include "registry.h"

FORKGUARD_BEGIN

/// What `try_lock` returns for a lock that the calling thread has already: it keeps it, in the child too.
#define FORKGUARD_MINE (-2)

/// What `owner` returns when somebody has the lock and it does not say who.
#define FORKGUARD_OWNER_UNKNOWN (-1)

/// What is done to a lock. `lock` is the pointer that was registered. All run on the forking thread, while other threads wait: none of them
/// but `wait_lock` may sleep for another thread.
typedef struct forkguard_lock_operations {
    /// Whether the lock can still be used: 0 or an errno, with which it is reported and dropped. Once in each fork, before it is tried. May be NULL.
    int (*FORKGUARD_NULLABLE check)(void *FORKGUARD_NONNULL lock);
    /// Before the fork: 0 when it was taken, EBUSY when somebody has it, FORKGUARD_MINE, or another errno, with which it is reported and dropped.
    /// May be NULL for what is only made anew in the child, a condition variable say.
    int (*FORKGUARD_NULLABLE try_lock)(void *FORKGUARD_NONNULL lock);
    /// As `try_lock`, but waits for the lock for so many nanoseconds at most, about a millisecond. For locks that are handed from one waiter to the next, which
    /// nobody gets who only tries. May be NULL.
    int (*FORKGUARD_NULLABLE wait_lock)(void *FORKGUARD_NONNULL lock, uint64_t nanoseconds);
    /// Undoes `try_lock` and `wait_lock`: in the parent, and before each new attempt.
    int (*FORKGUARD_NULLABLE unlock)(void *FORKGUARD_NONNULL lock);
    /// In the child: makes it free, whoever had it. In the C phases, so async-signal-safe, unless FORKGUARD_AFTER_C_PHASES is set.
    int (*FORKGUARD_NONNULL reinitialize)(void *FORKGUARD_NONNULL lock);
    /// In the child, in place of `reinitialize`: the forking thread has it (FORKGUARD_MINE) and keeps it, under another thread id. NULL: nothing to do.
    int (*FORKGUARD_NULLABLE adopt)(void *FORKGUARD_NONNULL lock);
    /// The id of the thread that has it, as a pthread mutex notes it (the kernel's), 0 for nobody who could change anything, or FORKGUARD_OWNER_UNKNOWN. NULL where that cannot be told: then a holder that is itself waiting to fork costs the deadline.
    int32_t (*FORKGUARD_NULLABLE owner)(void *FORKGUARD_NONNULL lock);
} forkguard_lock_operations;

enum forkguard_foreign_flags {
    /// `reinitialize` is not async-signal-safe: it runs after the C phases of the child, before any child hook.
    FORKGUARD_AFTER_C_PHASES = 1,
};

/// A lock to register. Zero what is not needed.
typedef struct forkguard_foreign_lock {
    void *FORKGUARD_NULLABLE lock; // not read by the pthread functions below
    const void *FORKGUARD_NULLABLE identity; // what tells two registrations of the same lock; NULL: `lock`
    const forkguard_lock_operations *FORKGUARD_NULLABLE operations; // must outlive the registration; not read by the pthread functions below
    const char *FORKGUARD_NULLABLE name; // copied
    const char *FORKGUARD_NULLABLE file; // must outlive the registration
    uint32_t line;
    uint32_t flags; // enum forkguard_foreign_flags
    void *FORKGUARD_NULLABLE context; // of the callbacks that follow
    /// For a lock with an owner that may end before it is unregistered: keeps it alive until `let_go` and returns 0, or FORKGUARD_GONE.
    forkguard_callback FORKGUARD_NULLABLE hold;
    forkguard_callback FORKGUARD_NULLABLE let_go;
    /// FORKGUARD_GONE when the owner has ended; holds nothing. Asked by any thread, at any time, when locks are registered.
    forkguard_callback FORKGUARD_NULLABLE probe;
    /// In the child, after the C phases: a thread that did not survive the fork had the lock, and what it protects may be half changed. It is
    /// free now. NULL: a line on standard error says so.
    forkguard_callback FORKGUARD_NULLABLE torn;
    /// As forkguard_resource has it.
    void (*FORKGUARD_NULLABLE release)(void *FORKGUARD_NULLABLE context);
} forkguard_foreign_lock;

/// Who registers, for the functions below: `forkguard_register_mutex(&mutex, &FORKGUARD_NAMED("accounts"))`.
#define FORKGUARD_NAMED(NAME) ((forkguard_foreign_lock){.name = (NAME), .file = __FILE__, .line = __LINE__})

/// Registers a lock: an id for forkguard_unregister, or 0 with errno: EEXIST when it is registered already (forkguard_registration_of has the id),
/// EINVAL when `lock`, `operations` or one of its functions is missing, ENOMEM, ENOSPC. It counts from the next attempt of a fork to close the gate. After
/// forkguard_unregister the lock is not touched any more; unregister it before it is destroyed. Any thread, any side of a fork.
///
/// A lock that handlers of its owner take around forks already (pthread_atfork(3)) must not be registered: the fork would take it twice.
uint64_t forkguard_register_lock(const forkguard_foreign_lock *FORKGUARD_NONNULL lock);

/// Registers a mutex, as above: plain, adaptive, recursive, error-checking, with or without priority inheritance or protection. `made` has the name, the place and the callbacks; NULL: none.
///
/// Refused: EINVAL when this is no mutex (destroyed, or memory that does not look like one), ENOTSUP when it is process-shared or robust (other processes use it:
/// a child must not make it anew), or where this C library does not tell (neither glibc nor musl: use forkguard_register_lock).
///
/// After a fork that ran no handlers the child must ask ForkGuard something before it waits on what is registered; and if another thread than the survivor asks first
/// what the survivor holds is made anew under it.
///
/// One that the forking thread has stays its own in the child, under its new thread id; on musl that is so for recursive and error-checking
/// ones only: a plain one that the forking thread holds costs the deadline there, and is made anew.
uint64_t forkguard_register_mutex(pthread_mutex_t *FORKGUARD_NONNULL mutex, const forkguard_foreign_lock *FORKGUARD_NULLABLE made);

/// Registers a read-write lock, as forkguard_register_mutex. It is taken for writing. One that the forking thread has for writing stays its own (glibc); one
/// that it has for reading cannot be told from one that others have: it costs the deadline, is reported, and is made anew in the child, which must not
/// unlock it.
uint64_t forkguard_register_rwlock(pthread_rwlock_t *FORKGUARD_NONNULL rwlock, const forkguard_foreign_lock *FORKGUARD_NULLABLE made);

/// Registers a condition variable: in the child it is made anew, with its clock. Otherwise a broadcast waits there for threads that are gone, and a signal is lost to
/// them (glibc).
uint64_t forkguard_register_condition(pthread_cond_t *FORKGUARD_NONNULL condition, const forkguard_foreign_lock *FORKGUARD_NULLABLE made);

/// The id of the registration of a lock, by its identity, or 0.
uint64_t forkguard_registration_of(const void *FORKGUARD_NONNULL identity);

FORKGUARD_END

#endif
