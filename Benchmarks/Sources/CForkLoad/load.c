#define _GNU_SOURCE // pthread_barrier_t with -std=c17

#include "cforkload.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t load_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static load_fork fork_once(void) {
    load_fork result = {0};
    struct rusage usage = {0};
    long before = faults();
    uint64_t began = load_nanoseconds();
    pid_t child = fork();
    if (child == 0) _exit(0);
    uint64_t returned = load_nanoseconds();
    if (child < 0 || wait4(child, NULL, 0, &usage) != child) abort();
    result.nanoseconds = returned - began;
    result.total_nanoseconds = load_nanoseconds() - began;
    result.parent_faults = faults() - before;
    result.child_faults = usage.ru_minflt;
    return result;
}

static void *idle(void *context) {
    for (;;) pause();
    return context;
}

static void start(void *(*body)(void *), void *context, pthread_t *thread) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstacksize(&attributes, 64 * 1024) != 0
        || pthread_create(thread, &attributes, body, context) != 0)
        abort();
    pthread_attr_destroy(&attributes);
}

typedef struct mutexes {
    const load_locks *kind; // NULL: only their memory
    void ***objects; // each points to its lock and its value
    void **locks;
    size_t count;
    pthread_barrier_t used;
} mutexes;

static void use(const mutexes *mutexes) {
    for (size_t i = 0; i < mutexes->count; i++) {
        mutexes->kind->lock(mutexes->locks[i]);
        mutexes->kind->unlock(mutexes->locks[i]);
    }
}

static void *use_and_idle(void *context) {
    use(context);
    pthread_barrier_wait(&((mutexes *)context)->used);
    return idle(context);
}

static void *dirtied(size_t size) {
    void *block = malloc(size);
    if (!block) abort();
    return memset(block, 1, size);
}

// What a ForkMutex with a value of one word allocates: the object, the lock, the value. A pthread mutex takes a block of malloc's that is
// as large as that of ours.
static void make_mutexes(mutexes *mutexes, const load_locks *kind, size_t count) {
    mutexes->kind = kind;
    mutexes->count = count;
    mutexes->objects = dirtied(count * sizeof *mutexes->objects);
    mutexes->locks = dirtied(count * sizeof *mutexes->locks);
    for (size_t i = 0; i < count; i++) {
        void **object = dirtied(48);
        object[0] = dirtied(kind ? kind->size : 32);
        object[1] = dirtied(8);
        mutexes->objects[i] = object;
        mutexes->locks[i] = object[0];
        if (kind) kind->make(object[0]);
    }
    pthread_t thread;
    if (!kind) {
        start(idle, NULL, &thread);
        return;
    }
    if (pthread_barrier_init(&mutexes->used, NULL, 2) != 0) abort();
    use(mutexes);
    start(use_and_idle, mutexes, &thread);
    pthread_barrier_wait(&mutexes->used);
    if (kind->guard) kind->guard(mutexes->locks, count, false);
}

enum { HAMMERED_LOCKS = 64, FORKS = 100, CACHE_LINE = 64 };
static const uint64_t budget_nanoseconds = UINT64_C(2000000000);

typedef struct hammering {
    const load_locks *kind;
    void *locks[HAMMERED_LOCKS];
    double steps_a_nanosecond;
    pthread_barrier_t begun;
    unsigned seats;
    bool stop;
} hammering;

static uint64_t work(uint64_t seed, uint64_t steps) {
    // Each step needs the one before, so that the processor cannot overlap them.
    for (uint64_t i = 0; i < steps; i++) seed = seed * UINT64_C(6364136223846793005) + 1;
    return seed;
}

static double measure_steps(void) {
    const uint64_t steps = 20000;
    uint64_t best = UINT64_MAX, sink = 1;
    for (int i = 0; i < 200; i++) {
        uint64_t began = load_nanoseconds();
        sink = work(sink, steps);
        uint64_t took = load_nanoseconds() - began;
        if (took < best) best = took;
    }
    if (best == 0 || sink == 0) abort(); // the compiler must not leave the work out
    return (double)steps / (double)best;
}

static void *hammer(void *context) {
    hammering *hammering = context;
    uint64_t random = 1 + __atomic_fetch_add(&hammering->seats, 1, __ATOMIC_RELAXED);
    uint64_t steps = (uint64_t)(LOAD_SHORT_SECTION_NANOSECONDS * hammering->steps_a_nanosecond);
    uint64_t long_steps = (uint64_t)(LOAD_LONG_SECTION_NANOSECONDS * hammering->steps_a_nanosecond);
    pthread_barrier_wait(&hammering->begun);
    while (!__atomic_load_n(&hammering->stop, __ATOMIC_RELAXED)) {
        random = work(random, steps);
        void *lock = hammering->locks[random >> 32 & (HAMMERED_LOCKS - 1)];
        hammering->kind->lock(lock);
        random = work(random, (random >> 40) % 100 == 0 ? long_steps : steps);
        hammering->kind->unlock(lock);
    }
    return NULL;
}

static void make_hammering(hammering *hammering, const load_locks *kind) {
    hammering->kind = kind;
    hammering->steps_a_nanosecond = measure_steps();
    for (int i = 0; i < HAMMERED_LOCKS; i++) {
        hammering->locks[i] = aligned_alloc(CACHE_LINE, CACHE_LINE);
        if (!hammering->locks[i]) abort();
        kind->make(hammering->locks[i]);
    }
    if (kind->guard) kind->guard(hammering->locks, HAMMERED_LOCKS, true);
}

static uint32_t fork_hammered(hammering *hammering, unsigned threads, load_fork forks[FORKS]) {
    pthread_t *handles = calloc(threads, sizeof *handles);
    if (!handles || pthread_barrier_init(&hammering->begun, NULL, threads + 1) != 0) abort();
    hammering->stop = false;
    for (unsigned i = 0; i < threads; i++) start(hammer, hammering, &handles[i]);
    pthread_barrier_wait(&hammering->begun);
    uint64_t began = load_nanoseconds(), random = began;
    uint32_t count = 0;
    while (count < FORKS && load_nanoseconds() - began < budget_nanoseconds) {
        random = work(random, 1);
        nanosleep(&(struct timespec){.tv_nsec = (long)(random >> 44)}, NULL); // up to a millisecond
        forks[count] = fork_once();
        hammering->kind->waited(&forks[count]);
        count++;
    }
    __atomic_store_n(&hammering->stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < threads; i++) pthread_join(handles[i], NULL);
    pthread_barrier_destroy(&hammering->begun);
    free(handles);
    return count;
}

static int put(const void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t more = write(STDOUT_FILENO, (const char *)bytes + done, size - done);
        if (more <= 0) return 1;
        done += (size_t)more;
    }
    return 0;
}

int load_main(int count, char **arguments, const load_locks *locks) {
    if (count != 3) return 64;
    const char *load = arguments[1];
    unsigned size = (unsigned)atoi(arguments[2]);
    static mutexes mutexes;
    static hammering hammering;
    pthread_t thread;
    if (strcmp(load, "idle") == 0)
        for (unsigned i = 0; i < size; i++) start(idle, NULL, &thread);
    else if (strcmp(load, "heap") == 0)
        make_mutexes(&mutexes, NULL, size);
    else if (strcmp(load, "locks") == 0)
        make_mutexes(&mutexes, locks, size);
    else if (strcmp(load, "hammer") == 0)
        make_hammering(&hammering, locks);
    else
        return 64;

    static load_fork forks[FORKS];
    for (char go; read(STDIN_FILENO, &go, 1) == 1;) {
        uint32_t forked = 1;
        if (hammering.kind)
            forked = fork_hammered(&hammering, size, forks);
        else
            forks[0] = fork_once();
        if (put(&forked, sizeof forked) != 0 || put(forks, forked * sizeof *forks) != 0) return 1;
    }
    return 0;
}
