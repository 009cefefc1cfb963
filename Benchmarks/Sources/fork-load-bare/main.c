// What ForkGuard is compared with: a handler that takes every lock.

#include "cforkload.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

static void *const *guarded;
static size_t guarded_count;
static uint64_t wait_nanoseconds;
static bool gave_up;

static void make(void *lock) {
    if (pthread_mutex_init(lock, NULL) != 0) abort();
}

static void lock(void *lock) { pthread_mutex_lock(lock); }

static void unlock(void *lock) { pthread_mutex_unlock(lock); }

static void unlock_first(size_t count) {
    while (count > 0) pthread_mutex_unlock(guarded[--count]);
}

static void take_all(void) {
    for (size_t i = 0; i < guarded_count; i++) pthread_mutex_lock(guarded[i]);
}

// Whoever takes the locks in an order that is not the application's must not wait for one while it has another.
static void try_all(void) {
    uint64_t began = load_nanoseconds();
    gave_up = false;
    for (;;) {
        size_t taken = 0;
        while (taken < guarded_count && pthread_mutex_trylock(guarded[taken]) == 0) taken++;
        wait_nanoseconds = load_nanoseconds() - began;
        if (taken == guarded_count) return;
        unlock_first(taken);
        if (wait_nanoseconds > LOAD_DEADLINE_NANOSECONDS) break;
        sched_yield();
    }
    gave_up = true;
}

static void let_go(void) {
    if (!gave_up) unlock_first(guarded_count);
}

static void guard(void *const *locks, size_t count, bool patient) {
    guarded = locks;
    guarded_count = count;
    if (pthread_atfork(patient ? try_all : take_all, let_go, let_go) != 0) abort();
}

static void waited(load_fork *fork) {
    fork->wait_nanoseconds = wait_nanoseconds;
    fork->gave_up = gave_up;
}

int main(int count, char **arguments) {
    static const load_locks locks = {
        .size = sizeof(pthread_mutex_t), .make = make, .lock = lock, .unlock = unlock, .guard = guard, .waited = waited};
    return load_main(count, arguments, &locks);
}
