// A process of its own for what ForkGuardRuntime does to pthread locks: it changes the whole process that it is linked into.
// forkguard-runtime-probe SCENARIO; FORKGUARD_RUNTIME=off in the environment makes each its own control.

#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ForkGuardProcessLocks.h"
#include "forkguard.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            _exit(1); \
        } \
    } while (0)

static void nap(long nanoseconds) { nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL); }

static pthread_t start(void *(*run)(void *), void *context) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

// What became of the children of a scenario.
static struct {
    unsigned ok, hung, wrong, inside;
} counts;

// A child has two seconds, then SIGALRM ends it: it hung.
static void settle(pid_t child) {
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (status == 0) counts.ok++;
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) counts.hung++;
    else {
        counts.wrong++;
        dprintf(2, "a child ended with status 0x%x\n", status);
    }
}

static bool is_over(unsigned forks) { return counts.ok + counts.hung + counts.wrong >= forks || counts.hung >= 5; }

static int say(const char *what) {
    dprintf(1, "%s: %u ok, %u hung, %u wrong, %u forks beside a holder\n", what, counts.ok, counts.hung, counts.wrong, counts.inside);
    _exit(counts.hung || counts.wrong ? 1 : 0);
}

// ---- mutexes of every kind, held in turns, with threads asleep on them ----

#define KINDS 4
static struct protected {
    pthread_mutex_t mutex;
    atomic_int holders;
    long a, b; // equal whenever nobody has the mutex
    long entries;
} protected[KINDS];

static void make_mutexes(void) {
    static const int kinds[KINDS] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP};
    for (unsigned i = 0; i < KINDS; i++) {
        pthread_mutexattr_t attributes;
        CHECK(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_settype(&attributes, kinds[i]) == 0);
        CHECK(pthread_mutex_init(&protected[i].mutex, &attributes) == 0);
    }
}

static void use(struct protected *it, long hold) {
    CHECK(pthread_mutex_lock(&it->mutex) == 0);
    CHECK(atomic_fetch_add(&it->holders, 1) == 0);
    CHECK(it->a == it->b);
    it->a++;
    if (hold) nap(hold);
    it->b++;
    it->entries++;
    atomic_fetch_sub(&it->holders, 1);
    CHECK(pthread_mutex_unlock(&it->mutex) == 0);
}

static void *use_for_ever(void *context) {
    for (;;) use(context, 100000);
    return NULL;
}

static void *use_shortly(void *context) {
    for (;;) use(context, 0);
    return NULL;
}

static void child_uses_all(void) {
    alarm(2);
    for (unsigned i = 0; i < KINDS; i++) {
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 5;
        atomic_store(&protected[i].holders, 0);
        CHECK(pthread_mutex_timedlock(&protected[i].mutex, &end) == 0);
        CHECK(protected[i].a == protected[i].b);
        CHECK(pthread_mutex_unlock(&protected[i].mutex) == 0);
        use(&protected[i], 0);
    }
    _exit(0);
}

static int scenario_mutexes(void) {
    make_mutexes();
    for (unsigned i = 0; i < KINDS; i++) {
        start(use_for_ever, &protected[i]);
        start(use_for_ever, &protected[i]);
        start(use_shortly, &protected[i]);
    }
    while (!is_over(300)) {
        long before = protected[1].entries;
        while (__atomic_load_n(&protected[1].entries, __ATOMIC_RELAXED) == before) nap(20000);
        for (unsigned i = 0; i < KINDS; i++)
            if (atomic_load(&protected[i].holders)) {
                counts.inside++;
                break;
            }
        pid_t child = fork();
        if (child == 0) child_uses_all();
        settle(child);
    }
    return say("mutexes");
}

// ---- conditions, with waiters that are handed the mutex at any time ----

static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static long queued, a_side, b_side;
static atomic_long taken;

static void touch(void) {
    CHECK(a_side == b_side);
    a_side++;
    b_side++;
}

static void *take_for_ever(void *context) {
    for (;;) {
        CHECK(pthread_mutex_lock(&queue_mutex) == 0);
        while (queued == 0) {
            if (context) {
                struct timespec end;
                clock_gettime(CLOCK_REALTIME, &end);
                if ((end.tv_nsec += 300000) >= 1000000000) end.tv_sec++, end.tv_nsec -= 1000000000;
                int result = pthread_cond_timedwait(&queue_filled, &queue_mutex, &end);
                CHECK(result == 0 || result == ETIMEDOUT);
            } else {
                CHECK(pthread_cond_wait(&queue_filled, &queue_mutex) == 0);
            }
            touch();
        }
        queued--;
        touch();
        CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
        atomic_fetch_add(&taken, 1);
    }
    return NULL;
}

static void *put_for_ever(void *context) {
    (void)context;
    for (unsigned i = 0;; i++) {
        CHECK(pthread_mutex_lock(&queue_mutex) == 0);
        touch();
        queued++;
        CHECK((i % 3 ? pthread_cond_signal(&queue_filled) : pthread_cond_broadcast(&queue_filled)) == 0);
        CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
        if (i % 16 == 0) nap(50000);
    }
    return NULL;
}

static void *put_one(void *context) {
    (void)context;
    CHECK(pthread_mutex_lock(&queue_mutex) == 0);
    queued = 1;
    CHECK(pthread_cond_signal(&queue_filled) == 0);
    CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
    return NULL;
}

static void child_waits(void) {
    alarm(2);
    CHECK(pthread_mutex_lock(&queue_mutex) == 0);
    touch();
    queued = 0;
    pthread_t thread = start(put_one, NULL);
    while (queued == 0) CHECK(pthread_cond_wait(&queue_filled, &queue_mutex) == 0);
    CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
    pthread_join(thread, NULL);
    CHECK(pthread_cond_destroy(&queue_filled) == 0); // waits for waiters, of whom there are none
    _exit(0);
}

static int scenario_conditions(void) {
    for (unsigned i = 0; i < 6; i++) start(take_for_ever, i % 2 ? &taken : NULL);
    for (unsigned i = 0; i < 2; i++) start(put_for_ever, NULL);
    while (!is_over(500)) {
        long before = atomic_load(&taken);
        while (atomic_load(&taken) - before < 20) nap(20000);
        counts.inside += __atomic_load_n(&queue_mutex.__data.__owner, __ATOMIC_RELAXED) != 0;
        pid_t child = fork();
        if (child == 0) child_waits();
        settle(child);
    }
    return say("conditions");
}

// Cancelled in their waits, threads have the mutex in their cleanup handlers.
static void give_back(void *mutex) {
    touch();
    CHECK(pthread_mutex_unlock(mutex) == 0);
}

static void *wait_to_be_cancelled(void *begun) {
    CHECK(pthread_mutex_lock(&queue_mutex) == 0);
    pthread_cleanup_push(give_back, &queue_mutex);
    atomic_fetch_add((atomic_int *)begun, 1);
    for (;;) pthread_cond_wait(&queue_filled, &queue_mutex);
    pthread_cleanup_pop(0);
}

static void *cancel_for_ever(void *context) {
    (void)context;
    for (;;) {
        pthread_t threads[4];
        atomic_int begun = 0;
        for (unsigned i = 0; i < 4; i++) threads[i] = start(wait_to_be_cancelled, &begun);
        while (atomic_load(&begun) < 4) nap(10000);
        for (unsigned i = 0; i < 4; i++) CHECK(pthread_cancel(threads[i]) == 0);
        for (unsigned i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
        atomic_fetch_add(&taken, 4);
    }
    return NULL;
}

static int scenario_cancelled(void) {
    for (unsigned i = 0; i < 2; i++) start(cancel_for_ever, NULL);
    while (!is_over(100)) {
        long before = atomic_load(&taken);
        while (atomic_load(&taken) - before < 8) nap(20000);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            CHECK(pthread_mutex_lock(&queue_mutex) == 0);
            touch();
            CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
            _exit(0);
        }
        settle(child);
    }
    return say("cancelled");
}

// ---- read-write locks ----

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_int readers, writers;
static atomic_long rounds;

static void *read_for_ever(void *context) {
    (void)context;
    for (;;) {
        CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
        atomic_fetch_add(&readers, 1);
        CHECK(atomic_load(&writers) == 0 && a_side == b_side);
        nap(30000);
        atomic_fetch_sub(&readers, 1);
        CHECK(pthread_rwlock_unlock(&rwlock) == 0);
        atomic_fetch_add(&rounds, 1);
        nap(10000);
    }
    return NULL;
}

static void *write_for_ever(void *context) {
    (void)context;
    for (;;) {
        CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
        CHECK(atomic_fetch_add(&writers, 1) == 0 && atomic_load(&readers) == 0);
        a_side++;
        nap(30000);
        b_side++;
        atomic_fetch_sub(&writers, 1);
        CHECK(pthread_rwlock_unlock(&rwlock) == 0);
        atomic_fetch_add(&rounds, 1);
        nap(100000);
    }
    return NULL;
}

static int scenario_rwlocks(void) {
    for (unsigned i = 0; i < 3; i++) start(read_for_ever, NULL);
    for (unsigned i = 0; i < 2; i++) start(write_for_ever, NULL);
    while (!is_over(300)) {
        long before = atomic_load(&rounds);
        while (atomic_load(&rounds) - before < 3) nap(20000);
        counts.inside += atomic_load(&readers) || atomic_load(&writers);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            CHECK(pthread_rwlock_rdlock(&rwlock) == 0 && a_side == b_side);
            CHECK(pthread_rwlock_unlock(&rwlock) == 0);
            CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
            CHECK(pthread_rwlock_tryrdlock(&rwlock) != 0);
            CHECK(pthread_rwlock_unlock(&rwlock) == 0);
            _exit(0);
        }
        settle(child);
    }
    return say("rwlocks");
}

// ---- the forking thread has them ----

static void *lock_in_child(void *mutex) {
    CHECK(pthread_mutex_lock(mutex) == 0);
    CHECK(pthread_mutex_unlock(mutex) == 0);
    return NULL;
}

static int scenario_survivor(void) {
    make_mutexes();
    // One for each gate that the lock goes through: none when it is off, two under libforkguard-preload.so.
    CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
    uint32_t sections = forkguard_sections_held();
    CHECK(pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(forkguard_sections_held() == 0 && (sections != 0) == ((forkguard_runtime_cures() & FORKGUARD_RUNTIME_LOCKS) != 0));
    for (unsigned i = 0; i < KINDS; i++) start(use_shortly, &protected[i]);
    while (!is_over(100)) {
        CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
        for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_mutex_lock(&protected[i].mutex) == 0);
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            pid_t grandchild = fork(); // once more, holding them
            if (grandchild == 0) alarm(2);
            pthread_t waiters[KINDS];
            for (unsigned i = 0; i < KINDS; i++) waiters[i] = start(lock_in_child, &protected[i].mutex);
            CHECK(pthread_mutex_lock(&protected[1].mutex) == 0); // recursive: still its own
            CHECK(pthread_mutex_unlock(&protected[1].mutex) == 0);
            CHECK(pthread_mutex_lock(&protected[2].mutex) == EDEADLK); // error-checking
            for (unsigned i = 0; i < KINDS; i++) {
                CHECK(protected[i].a == protected[i].b);
                CHECK(pthread_mutex_unlock(&protected[i].mutex) == 0);
            }
            for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_join(waiters[i], NULL) == 0);
            CHECK(pthread_rwlock_unlock(&rwlock) == 0);
            CHECK(pthread_rwlock_trywrlock(&rwlock) == 0);
            CHECK(forkguard_sections_held() == sections);
            if (grandchild == 0) _exit(0);
            int status;
            CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
            _exit(0);
        }
        for (unsigned i = 0; i < KINDS; i++) CHECK(pthread_mutex_unlock(&protected[i].mutex) == 0);
        CHECK(pthread_rwlock_unlock(&rwlock) == 0);
        settle(child);
    }
    return say("survivor");
}

// ---- a holder that never lets go ----

static void *hold_for_ever(void *held) {
    CHECK(pthread_mutex_lock(&queue_mutex) == 0);
    atomic_store((atomic_int *)held, 1);
    for (;;) pause();
    return NULL;
}

static int scenario_late(void) {
    atomic_int held = 0;
    forkguard_set_deadline_ms(200);
    start(hold_for_ever, &held);
    while (!atomic_load(&held)) nap(10000);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    pid_t child = fork();
    if (child == 0) {
        alarm(2);
        CHECK(pthread_mutex_trylock(&queue_mutex) == EBUSY);
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        CHECK(pthread_mutex_timedlock(&queue_mutex, &end) == ETIMEDOUT);
        pthread_mutex_lock(&queue_mutex); // says so, and ends
        _exit(2);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP));
    CHECK((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 < 2000);
    forkguard_report report;
    CHECK(forkguard_last_report(&report) == 0 && report.timed_out && report.torn_holders_count == 1);
    dprintf(1, "late: refused\n");
    _exit(0);
}

// ---- chains, and turns ----

static pthread_mutex_t outer = PTHREAD_MUTEX_INITIALIZER, inner = PTHREAD_MUTEX_INITIALIZER;

// Holds one mutex while it waits for the next, in both orders' worth of threads, as long as that cannot deadlock: always the outer one first.
static void *nest_for_ever(void *context) {
    (void)context;
    for (;;) {
        CHECK(pthread_mutex_lock(&outer) == 0);
        CHECK(pthread_mutex_lock(&inner) == 0);
        touch();
        CHECK(pthread_mutex_unlock(&inner) == 0);
        CHECK(pthread_mutex_unlock(&outer) == 0);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *fork_holding(void *context) {
    (void)context;
    for (unsigned i = 0; i < 50; i++) {
        CHECK(pthread_mutex_lock(&inner) == 0);
        pid_t child = fork(); // others hold the outer one, and wait for this one
        if (child == 0) {
            alarm(2);
            CHECK(a_side == b_side);
            CHECK(pthread_mutex_unlock(&inner) == 0);
            _exit(0);
        }
        CHECK(pthread_mutex_unlock(&inner) == 0);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        atomic_fetch_add(&taken, 1);
    }
    return NULL;
}

static int scenario_chains(void) {
    for (unsigned i = 0; i < 4; i++) start(nest_for_ever, NULL);
    pthread_t forkers[2];
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (unsigned i = 0; i < 2; i++) forkers[i] = start(fork_holding, NULL);
    for (unsigned i = 0; i < 2; i++) pthread_join(forkers[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    CHECK(atomic_load(&taken) == 100);
    dprintf(1, "chains: 100 forks in %.2f s\n", seconds);
    _exit(seconds < 25 ? 0 : 1); // each at its deadline would be 500
}

// A hook that wants a mutex whose holder waits for its turn to fork.
static _Thread_local bool has_outer;

static int want_outer(void *context) {
    (void)context;
    if (has_outer) return 0;
    CHECK(pthread_mutex_lock(&outer) == 0);
    CHECK(pthread_mutex_unlock(&outer) == 0);
    return 0;
}

static void *fork_with_outer(void *context) {
    (void)context;
    has_outer = true;
    for (unsigned i = 0; i < 30; i++) {
        CHECK(pthread_mutex_lock(&outer) == 0);
        pid_t child = fork();
        if (child == 0) _exit(0);
        CHECK(pthread_mutex_unlock(&outer) == 0);
        CHECK(waitpid(child, NULL, 0) == child);
    }
    return NULL;
}

static int scenario_hooks(void) {
    forkguard_resource hook = {.name = "wants the outer mutex", .prepare = want_outer};
    CHECK(forkguard_register_resource(&hook) != 0);
    pthread_t other = start(fork_with_outer, NULL);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (unsigned i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        CHECK(waitpid(child, NULL, 0) == child);
    }
    pthread_join(other, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(after.tv_sec - before.tv_sec < 20);
    dprintf(1, "hooks: 60 forks\n");
    _exit(0);
}

// ---- others' handlers, which lock before a fork and make anew in the child ----

static pthread_mutex_t handled = PTHREAD_MUTEX_INITIALIZER;
static void lock_handled(void) { CHECK(pthread_mutex_lock(&handled) == 0); }
static void unlock_handled(void) { CHECK(pthread_mutex_unlock(&handled) == 0); }
static void renew_handled(void) { handled = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; }

static int scenario_handlers(void) {
    CHECK(pthread_atfork(lock_handled, unlock_handled, renew_handled) == 0);
    make_mutexes();
    for (unsigned i = 0; i < KINDS; i++) start(use_shortly, &protected[i]);
    while (!is_over(100)) {
        pid_t child = fork();
        if (child == 0) {
            alarm(4);
            CHECK(forkguard_sections_held() == 0);
            forkguard_report report;
            CHECK(forkguard_last_report(&report) == 0);
            CHECK(report.stale_thread_ids == !(forkguard_runtime_cures() & FORKGUARD_RUNTIME_IDS));
            unlock_handled();
            lock_handled();
            unlock_handled();
            pid_t grandchild = forkguard_fork(0);
            if (grandchild == 0) _exit(forkguard_sections_held() == 0 ? 0 : 3);
            int status;
            CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
            _exit(0);
        }
        CHECK(forkguard_sections_held() == 0);
        settle(child);
    }
    return say("handlers");
}

// ---- a condition that is freed while its waiter still sleeps for the mutex, which pthread_cond_destroy(3p) gives as an example ----

static pthread_cond_t *short_lived;
static atomic_int waits, is_done;

static void *wait_once(void *context) {
    (void)context;
    CHECK(pthread_mutex_lock(&queue_mutex) == 0);
    atomic_store(&waits, 1);
    while (!atomic_load(&is_done)) CHECK(pthread_cond_wait(short_lived, &queue_mutex) == 0);
    CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
    return NULL;
}

static int scenario_freed(void) {
    enum { SIZE = 4096 };
    for (unsigned i = 0; !is_over(100); i++) {
        bool unmapped = i % 2;
        atomic_store(&waits, 0);
        atomic_store(&is_done, 0);
        short_lived = unmapped ? mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : malloc(SIZE);
        CHECK(short_lived && short_lived != MAP_FAILED && pthread_cond_init(short_lived, NULL) == 0);
        pthread_t waiter = start(wait_once, NULL);
        while (!atomic_load(&waits)) nap(10000);
        CHECK(pthread_mutex_lock(&queue_mutex) == 0);
        atomic_store(&is_done, 1);
        CHECK(pthread_cond_broadcast(short_lived) == 0 && pthread_cond_destroy(short_lived) == 0);
        if (unmapped) munmap(short_lived, SIZE);
        else memset(short_lived, 0x5a, SIZE); // somebody else's now
        pid_t child = fork();
        if (child == 0) {
            alarm(2);
            for (unsigned byte = 0; !unmapped && byte < SIZE; byte++) CHECK(((unsigned char *)short_lived)[byte] == 0x5a);
            CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
            _exit(0);
        }
        CHECK(pthread_mutex_unlock(&queue_mutex) == 0);
        pthread_join(waiter, NULL);
        if (!unmapped) free(short_lived);
        settle(child);
    }
    return say("freed");
}

// ---- in a child: holders that unlock and end while somebody looks who they are ----

static atomic_bool is_time;

static void *use_briefly(void *context) {
    (void)context;
    for (unsigned i = 0; i < 20; i++) {
        use(&protected[i % KINDS], 0);
        CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
        a_side++;
        b_side++;
        CHECK(pthread_rwlock_unlock(&rwlock) == 0);
    }
    return NULL;
}

static void *make_brief_threads(void *context) {
    (void)context;
    while (!atomic_load(&is_time)) {
        pthread_t threads[4];
        for (unsigned i = 0; i < 4; i++) threads[i] = start(use_briefly, NULL);
        for (unsigned i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static int scenario_brief(void) {
    make_mutexes();
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        pthread_t makers[3];
        for (unsigned i = 0; i < 3; i++) makers[i] = start(make_brief_threads, NULL);
        while (atomic_load(&rounds) < 20000) nap(1000000);
        atomic_store(&is_time, true);
        for (unsigned i = 0; i < 3; i++) pthread_join(makers[i], NULL);
        _exit(a_side == b_side ? 0 : 1);
    }
    settle(child);
    return say("brief");
}

// ---- in a child: a lock with a thread id in its word, as Swift makes them, between the thread that survived and others ----

static int32_t id_word;
static __thread int32_t cached_id;
static atomic_long id_turns[4];

static void lock_by_id(void) {
    if (!cached_id) cached_id = (int32_t)syscall(SYS_gettid);
    int32_t nobody = 0;
    if (__atomic_compare_exchange_n(&id_word, &nobody, cached_id, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    while (syscall(SYS_futex, &id_word, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0) != 0) CHECK(errno == EAGAIN || errno == EINTR);
}

static void unlock_by_id(void) {
    int32_t mine = cached_id;
    if (__atomic_compare_exchange_n(&id_word, &mine, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
    CHECK(syscall(SYS_futex, &id_word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0) == 0);
}

static void *contend_by_id(void *turns) {
    for (;;) {
        lock_by_id();
        touch();
        unlock_by_id();
        atomic_fetch_add((atomic_long *)turns, 1);
    }
    return NULL;
}

static int scenario_ids(void) {
    lock_by_id();
    unlock_by_id();
    while (!is_over(5)) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            for (unsigned i = 1; i < 4; i++) start(contend_by_id, &id_turns[i]);
            // Until all have had it often, this thread too: with the id that it has from its parent.
            for (bool enough = false; !enough;) {
                lock_by_id();
                touch();
                unlock_by_id();
                atomic_fetch_add(&id_turns[0], 1);
                enough = true;
                for (unsigned i = 0; i < 4; i++) enough &= atomic_load(&id_turns[i]) > 200000;
            }
            _exit(0);
        }
        settle(child);
    }
    return say("ids");
}

// ---- without a fork, everything as it was ----

static int scenario_semantics(void) {
    make_mutexes();
    struct timespec end;
    for (unsigned i = 0; i < KINDS; i++) {
        pthread_mutex_t *mutex = &protected[i].mutex;
        CHECK(pthread_mutex_trylock(mutex) == 0);
        CHECK(pthread_mutex_trylock(mutex) == (i == 1 ? 0 : EBUSY));
        clock_gettime(CLOCK_REALTIME, &end);
        CHECK(pthread_mutex_timedlock(mutex, &end) == (i == 1 ? 0 : i == 2 ? EDEADLK : ETIMEDOUT));
        for (unsigned j = 0; j < (i == 1 ? 3 : 1); j++) CHECK(pthread_mutex_unlock(mutex) == 0);
        CHECK(forkguard_sections_held() == 0);
    }
    CHECK(pthread_mutex_unlock(&protected[2].mutex) == EPERM && forkguard_sections_held() == 0);
    end.tv_nsec = 2000000000;
    CHECK(pthread_mutex_lock(&queue_mutex) == 0);
    CHECK(pthread_mutex_timedlock(&queue_mutex, &end) == EINVAL);
    clock_gettime(CLOCK_REALTIME, &end);
    CHECK(pthread_cond_timedwait(&queue_filled, &queue_mutex, &end) == ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&queue_mutex) == 0 && forkguard_sections_held() == 0);
    CHECK(pthread_rwlock_wrlock(&rwlock) == 0 && pthread_rwlock_rdlock(&rwlock) == EDEADLK && pthread_rwlock_wrlock(&rwlock) == EDEADLK);
    CHECK(pthread_rwlock_unlock(&rwlock) == 0);
    CHECK(pthread_rwlock_rdlock(&rwlock) == 0 && pthread_rwlock_rdlock(&rwlock) == 0 && pthread_rwlock_trywrlock(&rwlock) == EBUSY);
    CHECK(pthread_rwlock_timedwrlock(&rwlock, &end) == ETIMEDOUT);
    CHECK(pthread_rwlock_unlock(&rwlock) == 0 && pthread_rwlock_unlock(&rwlock) == 0 && forkguard_sections_held() == 0);
    // A robust mutex is left alone.
    pthread_mutexattr_t attributes;
    pthread_mutex_t robust;
    CHECK(pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&robust, &attributes) == 0 && pthread_mutex_lock(&robust) == 0 && forkguard_sections_held() == 0);
    CHECK(pthread_mutex_unlock(&robust) == 0);
    // Seven words, the last of which no register passes.
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char host[64], service[64];
    CHECK(getnameinfo((struct sockaddr *)&address, sizeof address, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) == 0);
    CHECK(strcmp(host, "127.0.0.1") == 0 && strcmp(service, "80") == 0);
    dprintf(1, "semantics: as pthreads have them\n");
    _exit(0);
}

static int scenario_support(void) {
    forkguard_cure cures[FORKGUARD_CURES];
    size_t count = forkguard_cures(cures, FORKGUARD_CURES);
    for (size_t i = 0; i < count; i++) dprintf(1, "%s: %s, %s\n", cures[i].name, cures[i].on ? "on" : "off", cures[i].explanation);
    dprintf(1, "start: %.3f ms, %zu imports\n", (double)forkguard_runtime_start_nanoseconds() / 1e6, forkguard_runtime_imports());
    _exit(0);
}

static void print_import(const char *object, const char *name, bool runtime, bool led, void *context) {
    (void)context;
    if (runtime) dprintf(1, "%s %s %s\n", strrchr(object, '/') ? strrchr(object, '/') + 1 : object, name, led ? "led" : "left");
}

static int scenario_imports(void) {
    forkguard_runtime_visit_imports(print_import, NULL);
    dprintf(1, "fingerprint 0x%llx\n", (unsigned long long)forkguard_runtime_fingerprint());
    _exit(0);
}

static const struct {
    const char *name;
    int (*run)(void);
} scenarios[] = {
    {"mutexes", scenario_mutexes},
    {"conditions", scenario_conditions},
    {"cancelled", scenario_cancelled},
    {"rwlocks", scenario_rwlocks},
    {"survivor", scenario_survivor},
    {"late", scenario_late},
    {"chains", scenario_chains},
    {"hooks", scenario_hooks},
    {"handlers", scenario_handlers},
    {"freed", scenario_freed},
    {"brief", scenario_brief},
    {"ids", scenario_ids},
    {"semantics", scenario_semantics},
    {"support", scenario_support},
    {"imports", scenario_imports},
};

int main(int count, char **arguments) {
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    alarm(100);
    for (unsigned i = 0; count == 2 && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(arguments[1], scenarios[i].name) == 0) return scenarios[i].run();
    dprintf(2, "usage: forkguard-runtime-probe SCENARIO\n");
    return 64;
}
