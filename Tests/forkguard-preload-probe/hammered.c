// Hundreds of forks beside threads that never leave the locks alone.

#include "probe.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

// How many; Scripts/nightly wants more.
static unsigned forks(unsigned usual) {
    const char *factor = getenv("FORKGUARD_TEST_FACTOR");
    return factor ? usual * (unsigned)atoi(factor) : usual;
}

static struct timespec in(long nanoseconds) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += (end.tv_nsec + nanoseconds) / 1000000000;
    end.tv_nsec = (end.tv_nsec + nanoseconds) % 1000000000;
    return end;
}

// ---- mutexes of every kind ----

#define KINDS 4
static guarded of_kind[KINDS];

static void make_mutexes(void) {
    static const int kinds[KINDS] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP};
    for (unsigned i = 0; i < KINDS; i++) {
        pthread_mutexattr_t attributes;
        CHECK(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_settype(&attributes, kinds[i]) == 0);
        CHECK(pthread_mutex_init(&of_kind[i].mutex, &attributes) == 0);
    }
}

void scenario_mutexes(void) {
    make_mutexes();
    for (unsigned i = 0; i < 2 * KINDS; i++) begin(guarded_use_for_ever, &of_kind[i % KINDS]);
    while (!is_over(forks(300))) {
        bool inside = false;
        for (unsigned i = 0; i < KINDS; i++) inside |= atomic_load(&of_kind[i].holders) != 0;
        count_inside(inside);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            for (unsigned i = 0; i < KINDS; i++) {
                struct timespec end = in(500000000);
                atomic_store(&of_kind[i].holders, 0);
                int result = pthread_mutex_timedlock(&of_kind[i].mutex, &end);
                CHECK(result == 0 || result == ETIMEDOUT);
                if (result != 0) for (;;) pause(); // as lock would
                CHECK(of_kind[i].a == of_kind[i].b);
                CHECK(pthread_mutex_unlock(&of_kind[i].mutex) == 0);
                guarded_use(&of_kind[i], 0);
            }
            _exit(0);
        }
        settle(child);
        nap(100000);
    }
    say("mutexes");
}

// ---- a recursive one, taken three times over ----

static void *take_thrice_for_ever(void *context) {
    guarded *it = context;
    for (;;) {
        CHECK(pthread_mutex_lock(&it->mutex) == 0);
        CHECK(pthread_mutex_lock(&it->mutex) == 0);
        guarded_use(it, 50000);
        CHECK(pthread_mutex_unlock(&it->mutex) == 0);
        CHECK(pthread_mutex_unlock(&it->mutex) == 0);
    }
    return NULL;
}

void scenario_recursive(void) {
    make_mutexes();
    guarded *it = &of_kind[1];
    for (unsigned i = 0; i < 3; i++) begin(take_thrice_for_ever, it);
    while (!is_over(forks(300))) {
        count_inside(atomic_load(&it->holders));
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            CHECK(pthread_mutex_lock(&it->mutex) == 0);
            guarded_use(it, 0);
            CHECK(pthread_mutex_unlock(&it->mutex) == 0);
            _exit(0);
        }
        settle(child);
        nap(100000);
    }
    say("recursive");
}

// ---- conditions ----

static guarded queue = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static long queued;
static atomic_long taken;

static void touch(void) {
    CHECK(queue.a == queue.b);
    queue.a++;
    queue.b++;
}

static void *take_for_ever(void *timed) {
    for (;;) {
        CHECK(pthread_mutex_lock(&queue.mutex) == 0);
        while (queued == 0) {
            struct timespec end = in(300000);
            int result = timed ? pthread_cond_timedwait(&filled, &queue.mutex, &end) : pthread_cond_wait(&filled, &queue.mutex);
            CHECK(result == 0 || result == ETIMEDOUT);
            touch();
        }
        queued--;
        touch();
        CHECK(pthread_mutex_unlock(&queue.mutex) == 0);
        atomic_fetch_add(&taken, 1);
    }
    return NULL;
}

static void *put_for_ever(void *context) {
    for (unsigned i = 0;; i++) {
        CHECK(pthread_mutex_lock(&queue.mutex) == 0);
        touch();
        queued++;
        CHECK((i % 3 ? pthread_cond_signal(&filled) : pthread_cond_broadcast(&filled)) == 0);
        CHECK(pthread_mutex_unlock(&queue.mutex) == 0);
        if (i % 16 == 0) nap(50000);
    }
    return context;
}

static void *put_one(void *context) {
    CHECK(pthread_mutex_lock(&queue.mutex) == 0);
    queued = 1;
    CHECK(pthread_cond_signal(&filled) == 0);
    CHECK(pthread_mutex_unlock(&queue.mutex) == 0);
    return context;
}

void scenario_conditions(void) {
    for (unsigned i = 0; i < 6; i++) begin(take_for_ever, i % 2 ? &taken : NULL);
    for (unsigned i = 0; i < 2; i++) begin(put_for_ever, NULL);
    while (!is_over(forks(500))) {
        long before = atomic_load(&taken);
        while (atomic_load(&taken) - before < 20) nap(20000);
        count_inside(__atomic_load_n(&queue.mutex.__data.__owner, __ATOMIC_RELAXED) != 0);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            CHECK(pthread_mutex_lock(&queue.mutex) == 0);
            touch();
            queued = 0;
            pthread_t thread = begin(put_one, NULL);
            while (queued == 0) CHECK(pthread_cond_wait(&filled, &queue.mutex) == 0);
            CHECK(pthread_mutex_unlock(&queue.mutex) == 0);
            pthread_join(thread, NULL);
            CHECK(pthread_cond_destroy(&filled) == 0); // waits for waiters, of whom there are none
            _exit(0);
        }
        settle(child);
    }
    say("conditions");
}

// ---- read-write locks ----

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_int readers, writers;
static atomic_long rounds;

static void *read_for_ever(void *context) {
    for (;;) {
        CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
        atomic_fetch_add(&readers, 1);
        CHECK(atomic_load(&writers) == 0 && queue.a == queue.b);
        nap(30000);
        atomic_fetch_sub(&readers, 1);
        CHECK(pthread_rwlock_unlock(&rwlock) == 0);
        atomic_fetch_add(&rounds, 1);
        nap(10000);
    }
    return context;
}

static void *write_for_ever(void *context) {
    for (;;) {
        CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
        CHECK(atomic_fetch_add(&writers, 1) == 0 && atomic_load(&readers) == 0);
        queue.a++;
        nap(30000);
        queue.b++;
        atomic_fetch_sub(&writers, 1);
        CHECK(pthread_rwlock_unlock(&rwlock) == 0);
        atomic_fetch_add(&rounds, 1);
        nap(100000);
    }
    return context;
}

void scenario_rwlocks(void) {
    for (unsigned i = 0; i < 3; i++) begin(read_for_ever, NULL);
    for (unsigned i = 0; i < 2; i++) begin(write_for_ever, NULL);
    while (!is_over(forks(300))) {
        long before = atomic_load(&rounds);
        while (atomic_load(&rounds) - before < 3) nap(20000);
        count_inside(atomic_load(&readers) || atomic_load(&writers));
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            CHECK(pthread_rwlock_rdlock(&rwlock) == 0 && queue.a == queue.b);
            CHECK(pthread_rwlock_unlock(&rwlock) == 0);
            CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
            CHECK(pthread_rwlock_tryrdlock(&rwlock) != 0);
            CHECK(pthread_rwlock_unlock(&rwlock) == 0);
            _exit(0);
        }
        settle(child);
    }
    say("rwlocks");
}

// ---- the forking thread has them ----

static void *lock_in_child(void *mutex) {
    CHECK(pthread_mutex_lock(mutex) == 0);
    CHECK(pthread_mutex_unlock(mutex) == 0);
    return NULL;
}

void scenario_survivor(void) {
    make_mutexes();
    for (unsigned i = 0; i < KINDS; i++) begin(guarded_use_for_ever, &of_kind[i]);
    while (!is_over(forks(100))) {
        for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_mutex_lock(&of_kind[i].mutex) == 0);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            pthread_t waiters[KINDS];
            for (unsigned i = 0; i < KINDS; i++) waiters[i] = begin(lock_in_child, &of_kind[i].mutex);
            CHECK(pthread_mutex_lock(&of_kind[1].mutex) == 0); // recursive: still its own
            CHECK(pthread_mutex_unlock(&of_kind[1].mutex) == 0);
            for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_mutex_unlock(&of_kind[i].mutex) == 0);
            for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_join(waiters[i], NULL) == 0);
            _exit(0);
        }
        for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_mutex_unlock(&of_kind[i].mutex) == 0);
        settle(child);
    }
    say("survivor");
}

// ---- handlers that lock before a fork and make anew in the child, as allocators do ----

static pthread_mutex_t handled = PTHREAD_MUTEX_INITIALIZER;
static void lock_handled(void) { CHECK(pthread_mutex_lock(&handled) == 0); }
static void unlock_handled(void) { CHECK(pthread_mutex_unlock(&handled) == 0); }
static void renew_handled(void) { handled = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; }

static void *fork_beside(void *context) {
    pid_t child = fork();
    if (child == 0) {
        alarm(2);
        guarded_use(&of_kind[0], 0);
        _exit(0);
    }
    settle(child);
    return context;
}

void scenario_handlers(void) {
    CHECK(pthread_atfork(lock_handled, unlock_handled, renew_handled) == 0);
    make_mutexes();
    for (unsigned i = 0; i < 3; i++) begin(guarded_use_for_ever, &of_kind[0]);
    while (!is_over(forks(200))) {
        count_inside(atomic_load(&of_kind[0].holders));
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            lock_handled();
            unlock_handled();
            // A thread of the child's, and a fork beside it and beside the thread that survived: nobody is inside for ever.
            begin(guarded_use_for_ever, &of_kind[0]);
            CHECK(pthread_join(begin(fork_beside, NULL), NULL) == 0);
            _exit(is_over(1) ? 0 : 1);
        }
        settle(child);
    }
    say("handlers");
}

// ---- for the benchmark: pairs of lock and unlock in a second, with other threads in the process ----

static atomic_bool is_time;

static void *sleep_for_ever(void *context) {
    for (;;) pause();
    return context;
}

// By the processor time of this thread: what else the machine does is not to count.
static double processor_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void scenario_pairs(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    begin(sleep_for_ever, NULL);
    long pairs = 0;
    double started = processor_seconds(), now = started;
    for (; now - started < 0.2; now = processor_seconds())
        for (unsigned i = 0; i < 100000; i++, pairs++) {
            pthread_mutex_lock(&mutex);
            pthread_mutex_unlock(&mutex);
        }
    dprintf(1, "%.0f\n", (double)pairs / (now - started));
    _exit(0);
}

static void *contend(void *count) {
    while (!atomic_load_explicit(&is_time, memory_order_relaxed)) {
        pthread_mutex_lock(&queue.mutex);
        queue.a++;
        pthread_mutex_unlock(&queue.mutex);
        ++*(long *)count;
    }
    return NULL;
}

void scenario_contended(void) {
    static struct {
        long pairs;
        char apart[120];
    } counts[4];
    pthread_t threads[4];
    double started = seconds_now();
    for (unsigned i = 0; i < 4; i++) threads[i] = begin(contend, &counts[i].pairs);
    nap(500000000);
    atomic_store(&is_time, true);
    long pairs = 0;
    for (unsigned i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        pairs += counts[i].pairs;
    }
    CHECK(queue.a == pairs);
    dprintf(1, "%.0f\n", (double)pairs / (seconds_now() - started));
    _exit(0);
}
