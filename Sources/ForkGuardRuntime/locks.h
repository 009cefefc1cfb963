// Inside the product: pthread mutexes, read-write locks and conditions as gated sections.

#ifndef FORKGUARD_RUNTIME_LOCKS_H
#define FORKGUARD_RUNTIME_LOCKS_H

#include <pthread.h>
#include <time.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

// What a wrapper calls, found at start.
typedef struct real_locks {
    int (*mutex_lock)(pthread_mutex_t *);
    int (*mutex_trylock)(pthread_mutex_t *);
    int (*mutex_timedlock)(pthread_mutex_t *, const struct timespec *);
    int (*mutex_clocklock)(pthread_mutex_t *, clockid_t, const struct timespec *);
    int (*mutex_unlock)(pthread_mutex_t *);
    int (*cond_destroy)(pthread_cond_t *);
    int (*cond_wait)(pthread_cond_t *, pthread_mutex_t *);
    int (*cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    int (*cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    int (*tryrdlock)(pthread_rwlock_t *);
    int (*trywrlock)(pthread_rwlock_t *);
    int (*rdlock)(pthread_rwlock_t *);
    int (*wrlock)(pthread_rwlock_t *);
    int (*timedrdlock)(pthread_rwlock_t *, const struct timespec *);
    int (*timedwrlock)(pthread_rwlock_t *, const struct timespec *);
    int (*clockrdlock)(pthread_rwlock_t *, clockid_t, const struct timespec *);
    int (*clockwrlock)(pthread_rwlock_t *, clockid_t, const struct timespec *);
    int (*rwlock_unlock)(pthread_rwlock_t *);
} real_locks;

extern real_locks real;

/// Looks whether plain mutexes are what we know. After `real` was found, before anything is led.
void locks_try_plain(void);

int gated_mutex_lock(pthread_mutex_t *mutex);
int gated_mutex_trylock(pthread_mutex_t *mutex);
int gated_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *deadline);
int gated_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline);
int gated_mutex_unlock(pthread_mutex_t *mutex);
int gated_cond_destroy(pthread_cond_t *condition);
int gated_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int gated_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline);
int gated_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *deadline);
int gated_tryrdlock(pthread_rwlock_t *lock);
int gated_trywrlock(pthread_rwlock_t *lock);
int gated_rdlock(pthread_rwlock_t *lock);
int gated_wrlock(pthread_rwlock_t *lock);
int gated_timedrdlock(pthread_rwlock_t *lock, const struct timespec *deadline);
int gated_timedwrlock(pthread_rwlock_t *lock, const struct timespec *deadline);
int gated_clockrdlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline);
int gated_clockwrlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *deadline);
int gated_rwlock_unlock(pthread_rwlock_t *lock);

FORKGUARD_PRIVATE_END

#endif
