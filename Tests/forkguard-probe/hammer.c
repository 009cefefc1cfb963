#include "probe.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

typedef struct work {
    forkguard_lock_t *locks;
    unsigned count, number;
    pthread_barrier_t *begun;
} work;

static void *run(void *context) {
    work work = *(struct work *)context;
    pthread_barrier_wait(work.begun);
    for (unsigned i = work.number;; i++) {
        forkguard_lock_t *lock = &work.locks[i % work.count];
        forkguard_lock(lock);
        forkguard_unlock(lock);
    }
    return NULL;
}

void hammer(forkguard_lock_t *locks, unsigned count, unsigned threads) {
    // Never freed: a thread may still be on its way out of the barrier when this function returns.
    pthread_barrier_t *begun = malloc(sizeof *begun);
    pthread_barrier_init(begun, NULL, threads + 1);
    work works[threads];
    for (unsigned i = 0; i < threads; i++) {
        pthread_t thread;
        works[i] = (work){locks, count, i, begun};
        CHECK(pthread_create(&thread, NULL, run, &works[i]) == 0);
    }
    pthread_barrier_wait(begun);
}

pthread_t start(void *(*run)(void *), void *context) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

void *flush_all(void *context) {
    for (;;) fflush(NULL);
    return context;
}

pid_t fork_by_underscore(void) { return _Fork(); }

pid_t fork_by_system_call(void) {
#ifdef SYS_fork
    return (pid_t)syscall(SYS_fork);
#else
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
#endif
}

pid_t fork_by_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL); }

pid_t fork_by_clone3(void) {
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}
