// Forks beside other libraries' handlers, which were registered before ForkGuard's: their prepare handlers run between our closed gate and the copy.

#include "probe.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

static void nothing(void) {}
static void (*prepares)(void) = nothing, (*ends)(void) = nothing;
static void run_prepares(void) { prepares(); }
static void run_ends(void) { ends(); }
__attribute__((constructor(102))) static void register_before(void) { atfork_for_good(run_prepares, run_ends, run_ends); }

static void yield(void) { usleep(100); }

// ---- a survivor that nobody knows loses its patience ----

static forkguard_lock_t wanted = FORKGUARD_LOCK_INITIALIZER("wanted"), used = FORKGUARD_LOCK_INITIALIZER("used");
static _Atomic bool gate_is_closed, is_inside, found_busy;

static void await_breach(void) {
    gate_is_closed = true;
    while (!found_busy) usleep(1000); // asleep, or nobody loses his patience
}

static void *discover_and_fork(void *context) {
    forkguard_generation();
    prepares = await_breach;
    pid_t child = fork();
    if (child == 0) _exit(0);
    check_child(child);
    return context;
}

static void *find_busy(void *context) {
    while (!is_inside) yield();
    // It parks, too, and loses its patience, too.
    CHECK(forkguard_trylock(&wanted) == FORKGUARD_BUSY);
    found_busy = true;
    return context;
}

/// What it locks then is its own.
int scenario_unknown_breach(void) {
    forkguard_lock(&used);
    forkguard_unlock(&used);
    for (int i = 0; i < 5; i++) {
        pid_t child = fork_by_system_call();
        if (child == 0) {
            alarm(20);
            pthread_t forks = start(discover_and_fork, NULL), finds = start(find_busy, NULL);
            while (!gate_is_closed) yield();
            CHECK(forkguard_lock(&wanted) == FORKGUARD_LOCKED);
            is_inside = true;
            while (!found_busy) yield();
            forkguard_unlock(&wanted);
            CHECK(pthread_join(finds, NULL) == 0 && pthread_join(forks, NULL) == 0);
            _exit(0);
        }
        check_child(child);
    }
    printf("5 breaches by unknown survivors ok\n");
    return 0;
}

// ---- a handler's lock under which another thread opens files ----

static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;
static void lock_library(void) { pthread_mutex_lock(&library); }
static void unlock_library(void) { pthread_mutex_unlock(&library); }

static void *open_files(void *context) {
    for (;;) {
        lock_library();
        FILE *file = fopen("/dev/null", "r");
        if (file) fclose(file);
        unlock_library();
    }
    return context;
}

enum { NESTED = 200 };

static int fork_in_hook(void *context) {
    static bool nested;
    if (nested) return 0;
    nested = true;
    for (int i = 0; i < NESTED; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        check_child(child);
    }
    *(bool *)context = true;
    printf("%d forks in a hook beside a library's lock\n", NESTED);
    fflush(stdout);
    _exit(0); // the hook's own fork would wait for libc's list of streams, with that lock taken (README, "What it cannot do")
}

/// A fork in a hook has no lock of libc's while other libraries' handlers run.
int scenario_hook_streams(void) {
#if !defined(__GLIBC__)
    printf("a fork in a hook waits for itself in this C library\n");
    return 0;
#endif
    static pthread_mutex_t registered = PTHREAD_MUTEX_INITIALIZER;
    static bool done;
    alarm(60);
    CHECK(forkguard_register_mutex(&registered, &FORKGUARD_NAMED("registered")) != 0);
    CHECK(forkguard_register_resource(&(forkguard_resource){.name = "forks", .prepare = fork_in_hook, .context = &done}) != 0);
    prepares = lock_library;
    ends = unlock_library;
    start(open_files, NULL);
    if (fork() == 0) _exit(1);
    CHECK(done);
    return 0;
}

// ---- the first other thread is made in a hook ----

static void *wait_for_ever(void *context) {
    for (;;) pause();
    return context;
}

static int make_first_thread(void *context) {
    if (!*(bool *)context) start(wait_for_ever, NULL);
    *(bool *)context = true;
    return 0;
}

static void *open_file(void *context) {
    FILE *file = fopen("/dev/null", "r");
    CHECK(file != NULL && fclose(file) == 0);
    return context;
}

/// libc makes its list of streams anew only in the child of a process that had threads when the fork began.
int scenario_first_thread(void) {
    static pthread_mutex_t registered = PTHREAD_MUTEX_INITIALIZER;
    static bool made;
    CHECK(forkguard_register_mutex(&registered, &FORKGUARD_NAMED("registered")) != 0);
    CHECK(forkguard_register_resource(&(forkguard_resource){.name = "first", .prepare = make_first_thread, .context = &made}) != 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        CHECK(pthread_join(start(open_file, NULL), NULL) == 0);
        _exit(0);
    }
    check_child(child);
    CHECK(made);
    printf("a child's thread opens a file\n");
    return 0;
}

// ---- a slot that is used again ----

static _Atomic bool is_closing, may_go_on;
static int kept_open;

static void await_other(void) {
    if (is_closing) return;
    is_closing = true;
    while (!may_go_on) yield();
}

static void *fork_closing(void *context) {
    pid_t child = forkguard_fork_closing(0, (int[]){1, 2}, 2);
    if (child == 0) _exit(0);
    check_child(child);
    return context;
}

static void *fork_plainly(void *context) {
    pid_t child = fork();
    if (child == 0) _exit(fcntl(kept_open, F_GETFD) < 0);
    check_child(child);
    return context;
}

/// A thread that gets the slot of one that was in forkguard_fork_closing forks as any other.
int scenario_slot_again(void) {
    CHECK((kept_open = open("/dev/null", O_RDONLY)) > 2);
    forkguard_lock(&used);
    forkguard_unlock(&used);
    prepares = await_other;
    pthread_t closes = start(fork_closing, NULL);
    while (!is_closing) yield();
    pid_t child = fork_by_underscore();
    if (child == 0) {
        alarm(20);
        forkguard_generation();
        for (int i = 0; i < 3; i++) CHECK(pthread_join(start(fork_plainly, NULL), NULL) == 0);
        _exit(0);
    }
    may_go_on = true;
    check_child(child);
    CHECK(pthread_join(closes, NULL) == 0);
    printf("3 forks close nothing\n");
    return 0;
}
