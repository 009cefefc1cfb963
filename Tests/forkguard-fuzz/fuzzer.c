#include "fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define SECOND INT64_C(1000000000)

run fuzz;

static pid_t fuzzer; // the process that runs programs

// ---- coverage ----

// libFuzzer's counters: one for each edge, and those of ours.
extern uint8_t __start___sancov_cntrs[], __stop___sancov_cntrs[];
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t features[4096];

// What children have seen, in memory that they share with the fuzzer.
static uint8_t *seen;

static size_t edges(void) { return (size_t)(__stop___sancov_cntrs - __start___sancov_cntrs); }

void feature(unsigned number) { features[number % sizeof features] = 1; }

static void raise_to(uint8_t *to, const uint8_t *from, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (from[i] > to[i]) to[i] = from[i];
}

void save_coverage(void) {
    raise_to(seen, __start___sancov_cntrs, edges());
    raise_to(seen + edges(), features, sizeof features);
}

static void load_coverage(void) {
    raise_to(__start___sancov_cntrs, seen, edges());
    raise_to(features, seen + edges(), sizeof features);
    memset(seen, 0, edges() + sizeof features);
}

// ---- when something is not so ----

// Not by dprintf(3), which takes the lock of the list of streams, as fork(2) does.
void say(const char *format, ...) {
    static char text[16384];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (int at = 0; at < size && at < (int)sizeof text;) {
        ssize_t written = write(2, text + at, (size_t)(size < (int)sizeof text ? size : (int)sizeof text) - (size_t)at);
        if (written <= 0) return;
        at += (int)written;
    }
}

// Not by fork(), whose handlers may be what hangs.
static void show_stack(pid_t pid) {
    char number[16];
    snprintf(number, sizeof number, "%d", pid);
    char *arguments[] = {"gdb", "-batch", "-nx", "-q", "-p", number, "-ex", "thread apply all backtrace 14", NULL};
    extern char **environ;
    pid_t debugger;
    int status;
    if (posix_spawnp(&debugger, "gdb", NULL, NULL, arguments, environ) == 0) waitpid(debugger, &status, 0);
}

void not_so(const char *file, int line, const char *what) {
    say("%s:%d: not so in %s: %s (errno %d)\n", file, line, getpid() == fuzzer ? "the parent" : "a child", what, errno);
    static forkguard_report report;
    static char text[16384];
    if (forkguard_last_report(&report) == 0) {
        size_t size = forkguard_report_format(&report, text, sizeof text);
        say("thread %d, whose fork it is or was:\n%.*s\n", self ? (int)self->index : -1, (int)size, text);
    }
    if (getpid() != fuzzer) _exit(99);
    program_print(&fuzz.program);
    abort();
}

static _Noreturn void hangs(pid_t pid, const char *what) {
    say("%s hangs:\n", what);
    show_stack(pid);
    if (pid != fuzzer) kill(pid, SIGKILL);
    program_print(&fuzz.program);
    abort();
}

// ---- a run ----

void expect_child(pid_t pid, const char *what) {
    unsigned index = atomic_fetch_add(&fuzz.children_count, 1);
    CHECK(index < FORKS);
    fuzz.children[index] = (child){pid, forkguard_child_open(pid), what};
}

static void wait_for_children(void) {
    unsigned count = atomic_load(&fuzz.children_count);
    for (unsigned i = 0; i < count; i++) {
        child *child = &fuzz.children[i];
        if (forkguard_child_wait(child->pid, child->descriptor, PATIENCE_SECONDS * SECOND) == ETIMEDOUT) hangs(child->pid, child->what);
        int status;
        CHECK(forkguard_child_reap(child->pid, &status) == 0);
        if (child->descriptor >= 0) close(child->descriptor);
        if (status == 0) continue;
        say("the child of %s ended with status 0x%x\n", child->what, (unsigned)status);
        CHECK(!"a child found what it must not");
    }
}

static void make(const uint8_t *bytes, size_t size) {
    memset(&fuzz, 0, sizeof fuzz);
    program_decode(&fuzz.program, bytes, size);
    for (int i = 0; i < LOCKS; i++) forkguard_lock_init(&fuzz.locks[i].lock, "lock", __FILE__, (uint32_t)i);
    forkguard_lock_init(&fuzz.left_inside.lock, "left inside", NULL, 0);
    forkguard_lock_init(&fuzz.workers.lock, "the worker's", NULL, 0);
    pthread_mutexattr_t kinds[MUTEXES];
    for (int i = 0; i < MUTEXES; i++) {
        pthread_mutexattr_init(&kinds[i]);
        pthread_mutexattr_settype(&kinds[i], i == 0 ? PTHREAD_MUTEX_NORMAL : PTHREAD_MUTEX_ERRORCHECK);
        pthread_mutex_init(&fuzz.mutexes[i].mutex, &kinds[i]);
    }
    CHECK(forkguard_set_deadline_ms(fuzz.program.deadline_ms) == 0);
}

static void check_lock(lock_state *lock) {
    CHECK(forkguard_trylock(&lock->lock) == FORKGUARD_LOCKED); // neither left held nor torn
    CHECK(lock->data.left == atomic_load(&lock->changes) && is_whole(&lock->data)); // nothing is lost
    forkguard_unlock(&lock->lock);
    CHECK(lock->lock.word == 0);
}

// The parent has observed nothing but time.
static void check(uint64_t generation) {
    CHECK(forkguard_generation() == generation);
    for (int i = 0; i < LOCKS; i++) check_lock(&fuzz.locks[i]);
    check_lock(&fuzz.workers);
    for (unsigned i = 0; i < MUTEXES; i++) {
        mutex_state *mutex = &fuzz.mutexes[i];
        CHECK(!mutex->torn && pthread_mutex_trylock(&mutex->mutex) == 0);
        CHECK(mutex->data.left == atomic_load(&mutex->changes) && is_whole(&mutex->data));
        CHECK(pthread_mutex_unlock(&mutex->mutex) == 0);
        unregister_mutex(i);
        CHECK(pthread_mutex_destroy(&mutex->mutex) == 0);
    }
    for (unsigned i = 0; i < HOOKS; i++) hook_cancel(i);
    for (unsigned i = 0; i < atomic_load(&fuzz.instances) && i < INSTANCES; i++) CHECK(atomic_load(&fuzz.instance[i].releases) == 1);
    CHECK(forkguard_registered_count() == 0);
    for (unsigned i = 0; i < PIPES; i++) {
        if (atomic_load(&fuzz.pipes[i].life) != LIVE) continue;
        CHECK(forkguard_descriptor_close(&fuzz.pipes[i].writer) == 0);
        close(fuzz.pipes[i].reader);
    }
    CHECK(forkguard_descriptor_count() == 0);
}

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    fuzzer = getpid();
    seen = mmap(NULL, edges() + sizeof features, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(seen != MAP_FAILED);
    worker_start();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    thread threads[THREADS] = {0};
    pthread_t handles[THREADS];
    make(bytes, size);
    uint64_t generation = forkguard_generation();
    for (unsigned i = 0; i < fuzz.program.threads; i++) {
        threads[i].index = i;
        CHECK(pthread_create(&handles[i], NULL, thread_run, &threads[i]) == 0);
    }
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += PATIENCE_SECONDS;
    for (unsigned i = 0; i < fuzz.program.threads; i++)
        if (pthread_clockjoin_np(handles[i], NULL, CLOCK_MONOTONIC, &end) != 0) hangs(fuzzer, "the parent");
    wait_for_children();
    check(generation);
    load_coverage();
    return 0;
}
