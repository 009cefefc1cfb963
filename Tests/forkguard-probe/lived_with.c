// Being lived with: behaviours 9, 18, 45, 47.

#include "probe.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

// ---- 45: an interposed allocator, mutex and write, counted in the C phases of the child ----

// Child handlers run oldest first (pthread_atfork(3)): ours was registered before the library's by an early constructor, the second one after it,
// in the scenario. What is called between them is called by the library.
static volatile bool counting;
static unsigned allocations, mutexes, writes;

#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define INTERPOSED 1
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
extern ssize_t __write(int, const void *, size_t);

void *malloc(size_t size) {
    if (counting) allocations++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    if (counting) allocations++;
    return __libc_calloc(count, size);
}
void *realloc(void *old, size_t size) {
    if (counting) allocations++;
    return __libc_realloc(old, size);
}
void free(void *old) {
    if (counting) allocations++;
    __libc_free(old);
}
int pthread_mutex_lock(pthread_mutex_t *mutex) {
    if (counting) mutexes++;
    static int (*next)(pthread_mutex_t *);
    if (!next) next = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
    return next(mutex);
}
ssize_t write(int descriptor, const void *bytes, size_t size) {
    if (counting) writes++;
    return __write(descriptor, bytes, size);
}
#endif

static void begin_counting(void) { counting = getenv("PROBE_COUNTS") != NULL; }
static void end_counting(void) { counting = false; }

__attribute__((constructor(101))) static void register_first(void) { atfork_for_good(NULL, NULL, begin_counting); }

static int allocate(void *context) {
    (void)context;
    void *volatile memory = malloc(100); // volatile, or the compiler leaves both calls out
    free(memory);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return (int)write(1, "", 0);
}

int scenario_child_phases(void) {
#if !defined(INTERPOSED)
    printf("skipped: only glibc lets its malloc be replaced and still called\n");
    return 0;
#endif
    setenv("PROBE_COUNTS", "1", 1);
    pthread_atfork(NULL, NULL, end_counting);
    static forkguard_lock_t locks[16];
    hammer(locks, 16, 4);
    for (int i = 0; i < 200; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) {
            CHECK(allocations == 0 && mutexes == 0 && writes == 0);
            _exit(0);
        }
        check_child(child);
    }
    // The control: a hook that does allocate is seen, so the counters do count.
    forkguard_resource resource = {.name = "allocates", .child = allocate};
    CHECK(forkguard_register_resource(&resource) != 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(allocations >= 2 && mutexes == 1 && writes == 1);
        _exit(0);
    }
    check_child(child);
    printf("200 children ok, control seen\n");
    return 0;
}

// ---- 47: without a fork nothing changes ----

static int count_entries(const char *path) {
    DIR *folder = opendir(path);
    CHECK(folder);
    int count = 0;
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

#define SIGNALS 65 // signal(7): the kernel has 64

typedef struct state {
    int threads, descriptors;
    struct sigaction actions[SIGNALS];
    sigset_t mask;
} state;

static void look(state *state) {
    memset(state, 0, sizeof *state);
    state->threads = count_entries("/proc/self/task");
    state->descriptors = count_entries("/proc/self/fd");
    for (int number = 1; number < SIGNALS; number++) sigaction(number, NULL, &state->actions[number]);
    pthread_sigmask(SIG_SETMASK, NULL, &state->mask);
}

static state before_start;
// Before the library's constructor.
__attribute__((constructor(102))) static void look_first(void) { look(&before_start); }

int scenario_quiet(void) {
    static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("quiet");
    forkguard_resource resource = {.name = "quiet"};
    for (int i = 0; i < 1000; i++) {
        forkguard_lock(&lock);
        forkguard_unlock(&lock);
        CHECK(forkguard_unregister(forkguard_register_resource(&resource)) == 0);
        CHECK(forkguard_generation() == 1);
    }
    alarm(0);
    state after;
    look(&after);
    CHECK(after.threads == before_start.threads && after.descriptors == before_start.descriptors);
    for (int number = 1; number < SIGNALS; number++) {
        CHECK(after.actions[number].sa_handler == before_start.actions[number].sa_handler);
        CHECK(after.actions[number].sa_flags == before_start.actions[number].sa_flags);
    }
    CHECK(memcmp(&after.mask, &before_start.mask, sizeof after.mask) == 0);
    printf("nothing changed\n");
    return 0;
}

// ---- 9: fork fails ----

static int prepared, resumed;
static int prepare(void *context) { (void)context; prepared++; return 0; }
static int resume(void *context) { (void)context; resumed++; return 0; }

int scenario_fork_fails(void) {
    static forkguard_lock_t locks[8];
    hammer(locks, 8, 4);
    forkguard_resource resource = {.name = "balanced", .prepare = prepare, .parent = resume};
    CHECK(forkguard_register_resource(&resource) != 0);
    const int errors[] = {EAGAIN, ENOMEM};
    for (int which = 0; which < 2; which++) {
        // Filters are per thread and stay: each error is tried in a process of its own, which another errno is denied to.
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            static forkguard_lock_t own[8];
            hammer(own, 8, 4);
            prepared = resumed = 0;
#ifdef SYS_fork
            deny("fork", errors[which]); // musl's fork
#endif
            deny("clone", errors[which]);
            deny("clone3", errors[which]);
            for (int i = 0; i < 200; i++) {
                errno = 0;
                pid_t none = i % 2 ? fork() : forkguard_fork(0);
                CHECK(none == -1 && errno == errors[which]);
                CHECK(prepared == i + 1 && resumed == i + 1);
                for (int j = 0; j < 8; j++) {
                    CHECK(forkguard_lock(&own[j]) == FORKGUARD_LOCKED);
                    forkguard_unlock(&own[j]);
                }
                CHECK(forkguard_generation() == 2);
            }
            forkguard_report report;
            CHECK(forkguard_fork(0) == -1 && forkguard_last_report(&report) == 0 && report.error == errors[which]);
            _exit(0);
        }
        check_child(child);
    }
    printf("400 failed forks ok\n");
    return 0;
}

// ---- 18: fork during exit, and from a thread's destructor ----

static pthread_key_t key;
static forkguard_lock_t exit_lock = FORKGUARD_LOCK_INITIALIZER("exit");

static void fork_once(void) {
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        CHECK(forkguard_lock(&exit_lock) == FORKGUARD_LOCKED);
        forkguard_unlock(&exit_lock);
        _exit(0);
    }
    check_child(child);
}

static void fork_at_thread_end(void *value) {
    // Again after the library's own destructor, whichever comes first: up to the limit of rounds.
    uintptr_t round = (uintptr_t)value;
    fork_once();
    if (round > 1) pthread_setspecific(key, (void *)(round - 1));
}

static void *end_and_fork(void *context) {
    (void)context;
    forkguard_lock(&exit_lock);
    forkguard_unlock(&exit_lock);
    pthread_setspecific(key, (void *)(uintptr_t)3);
    return NULL;
}

static pthread_t forkers[2];
static atomic_int forkers_stop;

static void *fork_until_stopped(void *context) {
    pthread_barrier_wait(context);
    while (!atomic_load(&forkers_stop)) fork_once();
    return NULL;
}

static void fork_at_exit(void) {
    for (int i = 0; i < 20; i++) fork_once();
    dprintf(1, "forked at exit\n");
#ifndef __GLIBC__
    // musl's exit() keeps the lock of its destructors for good and then wants that of its streams; its fork() takes them in another order. 36 of 500
    // processes without ForkGuard hung so (musl 1.2.3). Up to here the forks of the others go on.
    atomic_store(&forkers_stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(forkers[i], NULL);
#endif
}

int scenario_exit(void) {
    hammer(&exit_lock, 1, 2);
    CHECK(pthread_key_create(&key, fork_at_thread_end) == 0);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, end_and_fork, NULL) == 0);
        pthread_join(thread, NULL);
    }
    dprintf(1, "forked from 100 thread destructors\n");
    static pthread_barrier_t begun;
    pthread_barrier_init(&begun, NULL, 3);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&forkers[i], NULL, fork_until_stopped, &begun) == 0);
    pthread_barrier_wait(&begun);
    atexit(fork_at_exit);
    exit(0);
}

// ---- membarrier refused later: a process that enters a sandbox ----

int scenario_sandbox(void) {
    static forkguard_lock_t locks[4];
    hammer(locks, 4, 4);
    deny("membarrier", EPERM);
    for (int i = 0; i < 100; i++) {
        pid_t child = i % 2 ? fork() : forkguard_fork(0);
        if (child == 0) {
            alarm(20);
            for (int j = 0; j < 4; j++) {
                CHECK(forkguard_lock(&locks[j]) == FORKGUARD_LOCKED);
                forkguard_unlock(&locks[j]);
            }
            _exit(0);
        }
        check_child(child);
    }
    printf("100 children ok\n");
    return 0;
}
