// Locks that are misused or torn, and the survivor's own.

#include "probe.h"

#include <sys/wait.h>

static forkguard_lock_t accounts = FORKGUARD_LOCK_INITIALIZER("accounts");

int scenario_lock_twice(void) {
    forkguard_lock(&accounts);
    forkguard_lock(&accounts);
    return 0;
}

int scenario_unlock_free(void) {
    forkguard_unlock(&accounts);
    return 0;
}

static pthread_barrier_t all_there;

static void *lock_and_stay(void *context) {
    (void)context;
    pthread_barrier_wait(&all_there);
    forkguard_lock(&accounts);
    forkguard_unlock(&accounts);
    pthread_barrier_wait(&all_there);
    return NULL;
}

/// More threads than there is memory for: the library asks mmap(2) for more after the first 64.
int scenario_no_memory(void) {
    enum { THREADS = 100 };
    pthread_barrier_init(&all_there, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, lock_and_stay, NULL) == 0);
    }
    deny_everywhere("mmap", ENOMEM);
    pthread_barrier_wait(&all_there);
    pthread_barrier_wait(&all_there);
    return 0;
}

static void *unlock_it(void *context) {
    (void)context;
    forkguard_unlock(&accounts);
    return NULL;
}

int scenario_unlock_other(void) {
    forkguard_lock(&accounts);
    pthread_t thread;
    pthread_create(&thread, NULL, unlock_it, NULL);
    pthread_join(thread, NULL);
    return 0;
}

static void *hold_for_ever(void *context) {
    forkguard_lock(&accounts);
    pthread_barrier_wait(context);
    for (;;) pause();
    return NULL;
}

/// A holder that never lets go: torn in the child, told at each lock until it is declared whole; fine in the parent.
int scenario_torn(void) {
    CHECK(forkguard_set_deadline_ms(200) == 0);
    static pthread_barrier_t held;
    pthread_barrier_init(&held, NULL, 2);
    pthread_t thread;
    pthread_create(&thread, NULL, hold_for_ever, &held);
    pthread_barrier_wait(&held);
    errno = 0;
    CHECK(forkguard_fork(0) == -1 && errno == ETIMEDOUT);
    forkguard_report report;
    CHECK(forkguard_last_report(&report) == 0 && strcmp(report.blocker.lock_name, "accounts") == 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        CHECK(forkguard_lock_is_torn(&accounts));
        CHECK(forkguard_lock(&accounts) == FORKGUARD_TORN);
        forkguard_unlock(&accounts);
        CHECK(forkguard_trylock(&accounts) == FORKGUARD_TORN);
        CHECK(forkguard_lock_mark_consistent(&accounts) == 0);
        forkguard_unlock(&accounts);
        CHECK(forkguard_lock_mark_consistent(&accounts) == EPERM);
        CHECK(forkguard_lock(&accounts) == FORKGUARD_LOCKED);
        forkguard_unlock(&accounts);
        _exit(0);
    }
    check_child(child);
    CHECK(!forkguard_lock_is_torn(&accounts));
    CHECK(forkguard_trylock(&accounts) == FORKGUARD_BUSY);
    child = fork();
    if (child == 0) {
        if (forkguard_lock(&accounts) == FORKGUARD_TORN) forkguard_trap_torn(&accounts);
        _exit(0);
    }
    int status = wait_for(child);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP)); // x86, arm64
    printf("torn, told, mended\n");
    return 0;
}

static void *lock_it(void *context) {
    (void)context;
    CHECK(forkguard_lock(&accounts) == FORKGUARD_LOCKED);
    forkguard_unlock(&accounts);
    return NULL;
}

/// The survivor's own holds stay its own, through nested forks and every way to fork.
int scenario_survivor(void) {
    static forkguard_lock_t others[4];
    hammer(others, 4, 3);
    forkguard_lock(&accounts);
    for (int i = 0; i < 200; i++) {
        pid_t child = i % 4 == 0 ? fork_by_underscore() : i % 4 == 1 ? fork_by_clone() : fork();
        if (child == 0) {
            alarm(20);
            CHECK(forkguard_lock_is_mine(&accounts));
            CHECK(forkguard_generation() == 2);
            CHECK(!forkguard_lock_is_torn(&accounts));
            pid_t grandchild = fork();
            if (grandchild == 0) {
                alarm(20);
                pthread_t thread;
                CHECK(pthread_create(&thread, NULL, lock_it, NULL) == 0);
                CHECK(forkguard_trylock(&accounts) == FORKGUARD_BUSY);
                forkguard_unlock(&accounts);
                pthread_join(thread, NULL);
                _exit(0);
            }
            check_child(grandchild);
            forkguard_unlock(&accounts);
            CHECK(forkguard_lock(&accounts) == FORKGUARD_LOCKED);
            forkguard_unlock(&accounts);
            _exit(0);
        }
        check_child(child);
        CHECK(forkguard_lock_is_mine(&accounts));
    }
    forkguard_unlock(&accounts);
    lock_it(NULL);
    printf("200 survivors ok\n");
    return 0;
}

static void *take_it(void *context) {
    (void)context;
    CHECK(forkguard_lock(&accounts) == FORKGUARD_TORN);
    return NULL;
}

/// After a fork that nobody was told of another thread looked first, and took the survivor's lock for a vanished thread's.
int scenario_survivor_unlock(void) {
    forkguard_lock(&accounts);
    pid_t child = fork_by_underscore();
    if (child == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, take_it, NULL) == 0);
        pthread_join(thread, NULL);
        forkguard_unlock(&accounts);
        _exit(0);
    }
    int status = wait_for(child);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP)); // x86, arm64
    return 0;
}
