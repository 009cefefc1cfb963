// Which process is this: behaviours 26 to 29.

#include "probe.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int discarded;
static int discard(void *context) {
    (void)context;
    __atomic_fetch_add(&discarded, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void watch_discards(void) {
    forkguard_resource resource = {.name = "watched", .child = discard};
    CHECK(forkguard_register_resource(&resource) != 0);
}

/// Prints what was found, for the test to compare.
int scenario_start(void) {
    static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("probe");
    hammer(&lock, 1, 2);
    printf("detection %u deadline %u generation %llu\n", forkguard_detection(), forkguard_deadline_ms(),
           (unsigned long long)forkguard_generation());
    fflush(stdout);
    for (int i = 0; i < 50; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) {
            alarm(20);
            CHECK(forkguard_generation() == 2);
            CHECK(forkguard_lock(&lock) == FORKGUARD_LOCKED);
            forkguard_unlock(&lock);
            _exit(0);
        }
        check_child(child);
    }
    CHECK(forkguard_generation() == 1);
    printf("50 children ok\n");
    return 0;
}

static pid_t fork_by_libc(void) { return fork(); }
static pid_t fork_by_us(void) { return forkguard_fork(0); }

/// Every way to fork, three processes deep; from each to each.
int scenario_methods(void) {
    static pid_t (*const ways[])(void) = {
        fork_by_libc, fork_by_us, fork_by_underscore, fork_by_system_call, fork_by_clone, fork_by_clone3,
    };
    enum { WAYS = sizeof ways / sizeof *ways };
    watch_discards();
    static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("methods");
    hammer(&lock, 1, 2);
    unsigned chains = 0;
    for (unsigned look = 0; look < 2; look++)
        for (unsigned first = 0; first < WAYS; first++)
            for (unsigned second = 0; second < WAYS; second++) {
                uint64_t parent = forkguard_generation();
                pid_t child = ways[first]();
                if (child == 0) {
                    alarm(20);
                    uint64_t mine = 0;
                    if (look) { // else the second fork comes before anybody asked
                        mine = forkguard_generation();
                        CHECK(mine == parent + 1);
                        CHECK(!forkguard_is_current(parent));
                        CHECK(discarded == 1);
                        CHECK(forkguard_generation() == mine && discarded == 1);
                    }
                    pid_t grandchild = ways[second]();
                    if (grandchild == 0) {
                        alarm(20);
                        uint64_t here = forkguard_generation();
                        CHECK(here != 0 && here != parent && here != mine);
                        CHECK(here <= parent + 2);
                        CHECK(!look || here == parent + 2);
                        CHECK(discarded >= (look ? 2 : 1) && discarded <= 2);
                        forkguard_lock_t own = FORKGUARD_LOCK_INITIALIZER("own");
                        CHECK(forkguard_lock(&own) == FORKGUARD_LOCKED);
                        forkguard_unlock(&own);
                        forkguard_lock(&lock); // torn or not, but it is to be had
                        forkguard_unlock(&lock);
                        _exit(0);
                    }
                    check_child(grandchild);
                    CHECK(forkguard_generation() == parent + 1);
                    _exit(0);
                }
                check_child(child);
                CHECK(forkguard_generation() == parent && discarded == 0);
                chains++;
            }
    printf("%u chains ok\n", chains);
    return 0;
}

typedef struct look {
    pthread_barrier_t *together;
    uint64_t generation;
} look;

static void *ask(void *context) {
    look *look = context;
    pthread_barrier_wait(look->together);
    look->generation = forkguard_generation();
    // The hooks have run by the time that anybody who is inside no section has an answer.
    CHECK(__atomic_load_n(&discarded, __ATOMIC_SEQ_CST) == 1);
    return NULL;
}

/// Threads of a child that nobody told look first, all at once.
int scenario_discovery_race(void) {
    watch_discards();
    enum { THREADS = 8, TIMES = 300 };
    static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("race");
    hammer(&lock, 1, 2);
    for (int i = 0; i < TIMES; i++) {
        pid_t child = i % 2 ? fork_by_underscore() : fork_by_system_call();
        if (child == 0) {
            alarm(20);
            pthread_barrier_t together;
            pthread_barrier_init(&together, NULL, THREADS);
            pthread_t threads[THREADS];
            look looks[THREADS];
            for (int j = 0; j < THREADS; j++) {
                looks[j].together = &together;
                CHECK(pthread_create(&threads[j], NULL, ask, &looks[j]) == 0);
            }
            for (int j = 0; j < THREADS; j++) pthread_join(threads[j], NULL);
            for (int j = 0; j < THREADS; j++) CHECK(looks[j].generation == 2);
            CHECK(discarded == 1);
            CHECK(forkguard_generation() == 2);
            _exit(0);
        }
        check_child(child);
    }
    printf("%d races ok\n", TIMES);
    return 0;
}

static int in_shared_memory(void *context) {
    (void)context;
    // Another process id in the same memory: it is the parent as far as memory goes.
    CHECK(forkguard_generation() == 1);
    CHECK(discarded == 0);
    return 0;
}

/// vfork and CLONE_VM children change nothing in the parent; a CLONE_FILES child does not harm the parent's descriptors.
int scenario_shared_memory(void) {
    watch_discards();
    static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("shared");
    hammer(&lock, 1, 2);
    for (int i = 0; i < 100; i++) {
        pid_t child = vfork();
        if (child == 0) {
            in_shared_memory(NULL);
            _exit(0);
        }
        check_child(child);
        char *stack = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        child = clone(in_shared_memory, stack + (1 << 18), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        check_child(child);
        munmap(stack, 1 << 18);
        CHECK(forkguard_generation() == 1 && discarded == 0);
        int ends[2];
        CHECK(pipe(ends) == 0);
        child = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
        if (child == 0) {
            CHECK(forkguard_generation() == 2 && discarded == 1);
            _exit(0);
        }
        check_child(child);
        char byte = 'x';
        CHECK(write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'x');
        close(ends[0]);
        close(ends[1]);
        CHECK(forkguard_lock(&lock) == FORKGUARD_LOCKED);
        forkguard_unlock(&lock);
    }
    printf("100 of each ok\n");
    return 0;
}
