// Forks beside busy threads while system calls fail, and looks whether the promises are kept.
//
//     forkguard-faults SCENE FORKS    with FORKGUARD_FAULT in the environment, as inject.c reads it
//
// Prints what was seen of the fault from outside ("outcome fences"; "unnoticed" for nothing), the system calls, and how many children
// were well. A promise that is broken ends it with the line that saw it; somebody who hangs, with his stack.

#include "inject.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forkguard.h"

enum { ACCOUNTS = 4, CROWD = 70, KEPT_ERRNO = 119, LIMIT_SECONDS = 30, RECORD = 4096 };

#define CHECK(condition)                                                                                                      \
    do {                                                                                                                      \
        if (!(condition)) {                                                                                                   \
            dprintf(2, "%s:%d: not so in the %s: %s (errno %d)\n", __FILE__, __LINE__, side, #condition, errno);              \
            _exit(1);                                                                                                         \
        }                                                                                                                     \
    } while (0)

static const char *side = "parent";
static int answers; // standard output itself; printf goes to a file that is looked at in the end

// What was seen, by the parent and by any child.
static struct seen {
    bool fences, process_id, unprepared, tombstoned, closed, leaked, no_child, nameless, earlier_name, cut_name, trapped;
    unsigned children;
} *seen;

static void hung(int signal) {
    (void)signal;
    void *frames[64];
    dprintf(2, "%s hangs:\n", side);
    backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
    _exit(99);
}

// ---- the busy threads ----

static struct {
    forkguard_lock_t lock;
    unsigned long a, b;
} accounts[ACCOUNTS];

static struct {
    pthread_mutex_t lock;
    unsigned long a, b;
} foreign = {.lock = PTHREAD_MUTEX_INITIALIZER};

static forkguard_lock_t box = FORKGUARD_LOCK_INITIALIZER("box");
static forkguard_condition_t box_changed = FORKGUARD_CONDITION_INITIALIZER("box changed");
static unsigned long box_put, box_taken;

static unsigned long rounds[4]; // atomic

static void went_around(unsigned thread) { __atomic_fetch_add(&rounds[thread], 1, __ATOMIC_RELAXED); }

static void *book(void *number) {
    for (unsigned long i = (unsigned long)number;; i++) {
        unsigned outer = i % (ACCOUNTS - 1), inner = outer + 1;
        CHECK(forkguard_lock(&accounts[outer].lock) == FORKGUARD_LOCKED);
        accounts[outer].a++;
        CHECK(forkguard_lock(&accounts[inner].lock) == FORKGUARD_LOCKED);
        accounts[inner].a++;
        accounts[inner].b++;
        forkguard_unlock(&accounts[inner].lock);
        accounts[outer].b++;
        forkguard_unlock(&accounts[outer].lock);
        went_around((unsigned)(unsigned long)number);
        if ((unsigned long)number == 1) {
            forkguard_lock(&box);
            box_put++;
            forkguard_condition_signal(&box_changed);
            forkguard_unlock(&box);
        }
    }
    return NULL;
}

static void *book_foreign(void *context) {
    for (;;) {
        pthread_mutex_lock(&foreign.lock);
        foreign.a++;
        foreign.b++;
        pthread_mutex_unlock(&foreign.lock);
        went_around(2);
    }
    return context;
}

static void *take(void *context) {
    forkguard_lock(&box);
    for (;;) {
        while (box_taken == box_put) forkguard_condition_wait(&box_changed, &box, forkguard_nanoseconds() + 1000000);
        box_taken = box_put;
        forkguard_unlock(&box);
        went_around(3);
        forkguard_lock(&box);
    }
    return context;
}

static pthread_t start(void *(*run)(void *), void *context) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, context) == 0);
    return thread;
}

// The parent goes on: every one of them, after every fork. (Who does not is found by the alarm.)
static void check_progress(void) {
    unsigned long before[4];
    for (unsigned i = 0; i < 4; i++) before[i] = __atomic_load_n(&rounds[i], __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 4; i++)
        while (__atomic_load_n(&rounds[i], __ATOMIC_RELAXED) == before[i]) sched_yield();
}

// ---- what is inherited ----

static struct {
    int peer, reader; // the other ends
    forkguard_descriptor_t connection, file, pipe;
    off_t offset;
} inherited;

static char record[RECORD];

static void inherit(void) {
    int ends[2], pipe_ends[2], file = memfd_create("record", MFD_CLOEXEC);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && pipe2(pipe_ends, O_CLOEXEC) == 0);
    for (unsigned i = 0; i < RECORD; i++) record[i] = (char)('a' + i % 23);
    CHECK(write(file, record, RECORD) == RECORD);
    inherited.peer = ends[1];
    inherited.reader = pipe_ends[0];
    CHECK(forkguard_descriptor_adopt(ends[0], FORKGUARD_TOMBSTONE, &inherited.connection) == 0);
    CHECK(forkguard_descriptor_adopt(file, FORKGUARD_REOPEN, &inherited.file) == 0);
    CHECK(forkguard_descriptor_adopt(pipe_ends[1], FORKGUARD_KEEP, &inherited.pipe) == 0);
}

static bool is_tombstone(int number) {
    int flags = fcntl(number, F_GETFL);
    return flags >= 0 && flags & O_PATH;
}

// Promise 3. `treated`: handlers ran in this child.
static void check_inherited(bool treated) {
    char byte;
    int connection = inherited.connection.number, file = inherited.file.number;
    CHECK(forkguard_descriptor_enter(&inherited.connection) == ESTALE);
    CHECK(forkguard_descriptor_enter(&inherited.pipe) == 0);
    CHECK(write(inherited.pipe.number, "k", 1) == 1);
    forkguard_descriptor_leave(&inherited.pipe);
    if (treated) {
        CHECK(write(connection, "x", 1) < 0 && errno == EBADF);
        if (!is_tombstone(connection)) seen->closed = true;
        if (is_tombstone(file)) {
            seen->tombstoned = true;
        } else if (fcntl(file, F_GETFD) < 0) {
            seen->closed = true;
        } else {
            CHECK(forkguard_descriptor_enter(&inherited.file) == 0);
            CHECK(read(file, &byte, 1) == 1 && byte == record[inherited.offset]);
            CHECK(lseek(file, 2000, SEEK_SET) == 2000); // the parent looks whether its own has moved
            forkguard_descriptor_leave(&inherited.file);
        }
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0);
        CHECK((report.descriptors_failed != 0) == (seen->closed || seen->tombstoned));
    }
    bool was_open = fcntl(connection, F_GETFD) >= 0;
    enter_phase(PHASE_USE);
    int error = forkguard_descriptor_close(&inherited.connection);
    enter_phase(PHASE_NONE);
    CHECK(error == (treated && !was_open ? EBADF : 0));
    if (treated && was_open && fcntl(connection, F_GETFD) >= 0) seen->leaked = true;
}

static void check_parents(void) {
    char byte;
    int connection = inherited.connection.number;
    CHECK(read(inherited.reader, &byte, 1) == 1 && byte == 'k');
    CHECK(write(connection, "p", 1) == 1 && read(inherited.peer, &byte, 1) == 1 && byte == 'p');
    CHECK(write(inherited.peer, "q", 1) == 1 && read(connection, &byte, 1) == 1 && byte == 'q');
    CHECK(recv(inherited.peer, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN); // nobody else wrote
    CHECK(lseek(inherited.file.number, 0, SEEK_CUR) == inherited.offset);
}

// ---- forks ----

enum method { BY_FORKGUARD, BY_LIBC, BY_UNDERSCORE, METHODS };

static unsigned hooks_prepared, hooks_resumed, hooks_in_child;

static int prepared_hook(void *context) { return hooks_prepared++, (void)context, 0; }
// Before the fork is over the others go on. (A child has no others.)
static int resumed_hook(void *context) {
    if (strcmp(side, "parent") == 0) check_progress();
    return hooks_resumed++, (void)context, 0;
}
static int rebuild_foreign(void *context) { return foreign.a = foreign.b, (void)context, 0; }
static int child_hook(void *context) { return hooks_in_child++, (void)context, 0; }

static void look_at_the_gate(void) {
    if (!(forkguard_detection() & FORKGUARD_DETECTS_PAGE)) seen->process_id = true;
    else if (__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_SEQ_CST) == FORKGUARD_GATE_FENCED) seen->fences = true;
    if (!(forkguard_detection() & FORKGUARD_DETECTS_HANDLERS)) seen->unprepared = true;
}

static void *lock_all(void *id) {
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        CHECK(forkguard_lock(&accounts[i].lock) == FORKGUARD_LOCKED);
        accounts[i].a++, accounts[i].b++;
        forkguard_unlock(&accounts[i].lock);
    }
    __atomic_store_n((int32_t *)id, (int32_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    return NULL;
}

// A thread that is there is not taken for one that vanished, whatever the kernel refuses to say of it.
static void *be_asked_for(void *context) {
    enter_phase(PHASE_CHILD);
    CHECK(!forkguard_thread_vanished((int32_t)(intptr_t)context));
    enter_phase(PHASE_NONE);
    return NULL;
}

static void child(enum method method, uint64_t generation, bool prepared) {
    side = "child";
    alarm(LIMIT_SECONDS);
    int kept = errno;
    if (prepared) {
        CHECK(kept == KEPT_ERRNO);
    } else {
        // Discovered late: by this question, in which the phases run.
        enter_phase(PHASE_CHILD);
        CHECK(forkguard_generation() != generation);
    }
    // forkguard_fork has purged what is still to be printed by the parent; after another fork that is left to the child.
    if (method == BY_FORKGUARD) fflush(stdout);
    else __fpurge(stdout);
    enter_phase(PHASE_NONE);
    CHECK(forkguard_generation() == generation + 1);
    CHECK(hooks_in_child == 1);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        if (forkguard_lock(&accounts[i].lock) == FORKGUARD_TORN) {
            CHECK(!prepared);
            accounts[i].a = accounts[i].b;
            forkguard_lock_mark_consistent(&accounts[i].lock);
        }
        CHECK(accounts[i].a == accounts[i].b);
        forkguard_unlock(&accounts[i].lock);
    }
    CHECK(pthread_mutex_trylock(&foreign.lock) == 0);
    CHECK(foreign.a == foreign.b);
    pthread_mutex_unlock(&foreign.lock);
    check_inherited(prepared);
    int32_t id = 0;
    pthread_join(start(lock_all, &id), NULL);
    CHECK(id != 0);
    pthread_join(start(be_asked_for, (void *)(intptr_t)syscall(SYS_gettid)), NULL);
    // And once more, from here.
    enter_phase(PHASE_PREPARE);
    pid_t grandchild = forkguard_fork(0);
    enter_phase(PHASE_NONE);
    if (grandchild == 0) {
        side = "grandchild";
        alarm(LIMIT_SECONDS);
        CHECK(forkguard_generation() == generation + 2);
        lock_all(&id);
        look_at_the_gate();
        _exit(0);
    }
    int status;
    CHECK(grandchild > 0 && waitpid(grandchild, &status, 0) == grandchild && status == 0);
    look_at_the_gate();
    _exit(0);
}

static pid_t fork_by(enum method method) {
    errno = KEPT_ERRNO;
    return method == BY_FORKGUARD ? forkguard_fork(0) : method == BY_LIBC ? fork() : _Fork();
}

static bool ended_well(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
    if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP)) return seen->trapped = true;
    CHECK(status == 0);
    seen->children++;
    return true;
}

static void fork_once(unsigned number) {
    enum method method = number % METHODS;
    uint64_t generation = forkguard_generation();
    bool handlers = forkguard_detection() & FORKGUARD_DETECTS_HANDLERS;
    bool prepared = method == BY_FORKGUARD || (method == BY_LIBC && handlers);
    unsigned hooks = hooks_prepared;
    printf("%u\n", number);
    inherited.offset = lseek(inherited.file.number, 10 + number % 1000, SEEK_SET);
    enter_phase(PHASE_PREPARE);
    pid_t pid = fork_by(method);
    if (pid == 0) child(method, generation, prepared);
    int kept = errno;
    enter_phase(PHASE_NONE);
    CHECK(kept == (pid < 0 ? kept : KEPT_ERRNO) && forkguard_generation() == generation);
    CHECK(hooks_prepared == hooks + prepared && hooks_resumed == hooks_prepared);
    if (pid < 0) {
        CHECK(seen->no_child); // it was told to
    } else if (ended_well(pid) && !seen->trapped) {
        check_parents();
    }
    check_progress();
}

static unsigned forks;

static void *fork_all(void *context) {
    (void)context;
    for (unsigned i = 0; i < forks && !seen->trapped; i++) fork_once(i);
    return NULL;
}

static void *fork_without_leave(void *error) {
    refuse_forks((int)(intptr_t)error);
    seen->no_child = true;
    return fork_all(NULL);
}

// Each line once, although there were forks while it was in the buffer.
static void check_printed(int file) {
    char line[32], printed[32];
    CHECK(fflush(stdout) == 0 && lseek(file, 0, SEEK_SET) == 0);
    FILE *lines = fdopen(file, "r");
    CHECK(lines);
    for (unsigned i = 0; i < forks; i++) {
        snprintf(line, sizeof line, "%u\n", i);
        CHECK(fgets(printed, sizeof printed, lines) && strcmp(line, printed) == 0);
    }
    CHECK(!fgets(printed, sizeof printed, lines));
}

static void begin_busy(void) {
    static const forkguard_resource resource = {.name = "resource", .prepare = prepared_hook, .parent = resumed_hook, .child = child_hook};
    for (unsigned i = 0; i < ACCOUNTS; i++) forkguard_lock_init(&accounts[i].lock, "account", __FILE__, __LINE__);
    static const forkguard_foreign_lock made = {.name = "foreign", .torn = rebuild_foreign};
    CHECK(forkguard_register_mutex(&foreign.lock, &made) && forkguard_register_resource(&resource));
    inherit();
    // Alarms are for the thread that says what hangs.
    sigset_t alarms, before;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, &before);
    for (unsigned long i = 0; i < 2; i++) start(book, (void *)i);
    start(book_foreign, NULL);
    start(take, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    check_progress();
}

static void scene_busy(void) {
    int file = memfd_create("printed", MFD_CLOEXEC);
    CHECK(file >= 0 && dup2(file, STDOUT_FILENO) == STDOUT_FILENO && fcntl(file, F_SETFL, O_APPEND) == 0);
    begin_busy();
    fork_all(NULL);
    if (!seen->trapped) check_printed(file);
}

// fork(2) itself fails, in one thread; then it does not, in another.
static void scene_refused(void) {
    begin_busy();
    int error = error_named(getenv("FORKGUARD_FAULT_OF_FORK"));
    pthread_join(start(fork_without_leave, (void *)(intptr_t)error), NULL);
    CHECK(seen->children == 0);
    fork_all(NULL);
    CHECK(seen->children == forks);
}

// ---- a holder that does not let go ----

static forkguard_lock_t slow_lock = FORKGUARD_LOCK_INITIALIZER("held for long");
static sem_t slow_holds, slow_may_go;

static void *hold(void *context) {
    forkguard_lock_t first = FORKGUARD_LOCK_INITIALIZER("first");
    pthread_setname_np(pthread_self(), "earlier");
    forkguard_lock(&first); // which notes its name
    forkguard_unlock(&first);
    pthread_setname_np(pthread_self(), "slow");
    forkguard_lock(&slow_lock);
    sem_post(&slow_holds);
    sem_wait(&slow_may_go);
    forkguard_unlock(&slow_lock);
    return context;
}

static void check_holder(const forkguard_report *report) {
    CHECK(report->torn_holders_count == 1 && report->torn_holders[0].mark == FORKGUARD_MARK_LATE);
    if (strcmp(report->torn_holders[0].lock_name, "held for long") != 0) seen->nameless = true;
    const char *name = report->torn_holders[0].thread_name;
    if (strcmp(name, "earlier") == 0) seen->earlier_name = true;
    else if (strcmp(name, "s") == 0) seen->cut_name = true;
    else CHECK(strcmp(name, "slow") == 0);
}

static void scene_holder(void) {
    CHECK(forkguard_set_deadline_ms(60) == 0 && sem_init(&slow_holds, 0, 0) == 0 && sem_init(&slow_may_go, 0, 0) == 0);
    pthread_t slow = start(hold, NULL);
    sem_wait(&slow_holds);
    forkguard_report report;
    for (unsigned i = 0; i < forks; i++) {
        enter_phase(PHASE_PREPARE);
        errno = KEPT_ERRNO;
        if (i % 2) {
            CHECK(forkguard_fork(0) < 0 && errno == ETIMEDOUT);
            enter_phase(PHASE_NONE);
            CHECK(forkguard_last_report(&report) == 0);
            check_holder(&report);
            seen->children++; // that was not made, as it should be
            continue;
        }
        pid_t pid = fork();
        CHECK(errno == KEPT_ERRNO);
        enter_phase(PHASE_NONE);
        CHECK(forkguard_last_report(&report) == 0 && report.timed_out);
        check_holder(&report);
        if (pid == 0) {
            side = "child";
            alarm(LIMIT_SECONDS);
            CHECK(forkguard_lock(&slow_lock) == FORKGUARD_TORN);
            _exit(0);
        }
        ended_well(pid);
    }
    sem_post(&slow_may_go);
    pthread_join(slow, NULL);
    CHECK(forkguard_lock(&slow_lock) == FORKGUARD_LOCKED);
}

// ---- a parked thread that something in fork(2) waits for ----

static sem_t went_in;
static bool copying; // atomic

static void *go_in(void *context) {
    for (;;) {
        forkguard_lock(&slow_lock);
        if (__atomic_exchange_n(&copying, false, __ATOMIC_SEQ_CST)) sem_post(&went_in);
        forkguard_unlock(&slow_lock);
    }
    return context;
}

static void wait_for_parked(void) {
    __atomic_store_n(&copying, true, __ATOMIC_SEQ_CST);
    while (sem_wait(&went_in) != 0) {}
}

static void scene_patience(void) {
    CHECK(sem_init(&went_in, 0, 0) == 0);
    start(go_in, NULL);
    wait_for_parked(); // it has a slot
    before_copy = wait_for_parked;
    for (unsigned i = 0; i < forks; i++) {
        enter_phase(PHASE_PREPARE);
        pid_t pid = fork();
        enter_phase(PHASE_NONE);
        if (pid == 0) side = "child";
        forkguard_report report;
        CHECK(forkguard_last_report(&report) == 0 && report.breaches != 0);
        if (pid == 0) {
            alarm(LIMIT_SECONDS);
            forkguard_lock(&slow_lock);
            _exit(0);
        }
        ended_well(pid);
    }
}

// ---- what else is closed in a child ----

static void scene_closing(void) {
    inherit();
    int extra = dup(inherited.reader);
    for (unsigned i = 0; i < forks; i++) {
        enter_phase(PHASE_PREPARE);
        pid_t pid = forkguard_fork_closing(0, &answers, 1);
        if (pid < 0) {
            CHECK(errno == ENOMEM);
            seen->no_child = true;
            continue;
        }
        enter_phase(PHASE_NONE);
        if (pid == 0) {
            side = "child";
            CHECK(fcntl(extra, F_GETFD) < 0 && fcntl(inherited.peer, F_GETFD) < 0);
            CHECK(fcntl(answers, F_GETFD) >= 0 && is_tombstone(inherited.connection.number));
            _exit(0);
        }
        ended_well(pid);
    }
}

// ---- more threads than there are slots ----

static void *be_one_more(void *barrier) {
    forkguard_lock(&slow_lock);
    forkguard_unlock(&slow_lock);
    pthread_barrier_wait(barrier);
    return NULL;
}

static void scene_crowd(void) {
    pthread_barrier_t all;
    pthread_barrier_init(&all, NULL, CROWD);
    enter_phase(PHASE_USE);
    pthread_t threads[CROWD];
    for (unsigned i = 0; i < CROWD; i++) threads[i] = start(be_one_more, &all);
    for (unsigned i = 0; i < CROWD; i++) pthread_join(threads[i], NULL);
    enter_phase(PHASE_NONE);
    pid_t pid = fork();
    if (pid == 0) _exit(forkguard_lock(&slow_lock) == FORKGUARD_LOCKED ? 0 : 1);
    ended_well(pid);
}

// ---- calls that say what went wrong ----

static char said[256];

static void say(const char *what, int error) {
    if (error == 0) return;
    size_t length = strlen(said);
    snprintf(said + length, sizeof said - length, "%s%s:%s", *said ? "+" : "", what, strerrorname_np(error));
}

static void *end_now(void *context) { return context; }

// Each call of the interface that asks the kernel for something, once.
static void call_everything(void (*result)(const char *, int)) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static const forkguard_resource nothing = {.name = "nothing"};
    int ends[2], status;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(fcntl(ends[0], F_DUPFD, 5000) == 5000); // in a chunk of the table that is not there yet
    pid_t pauses = _Fork();
    if (pauses == 0) {
        alarm(LIMIT_SECONDS);
        for (;;) pause();
    }
    pid_t exits = _Fork();
    if (exits == 0) _exit(3);
    forkguard_descriptor_t token;
    pthread_t thread = start(end_now, NULL);

    enter_phase(PHASE_USE);
    int error = forkguard_descriptor_adopt(5000, FORKGUARD_TOMBSTONE, &token);
    result("adopt", error);
    if (error == 0) {
        CHECK(forkguard_descriptor_enter(&token) == 0); // so that closing it shuts it down
        result("close", forkguard_descriptor_close(&token));
        forkguard_descriptor_leave(&token);
    }
    if (forkguard_descriptor_adopt(ends[0], FORKGUARD_TOMBSTONE, &token) == 0) {
        result("close", forkguard_descriptor_close(&token));
        ends[0] = -1;
    }
    errno = 0;
    uint64_t id = forkguard_register_resource(&nothing);
    result("register", id ? 0 : errno);
    if (id) CHECK(forkguard_unregister(id) == 0);
    errno = 0;
    id = forkguard_register_mutex(&mutex, &FORKGUARD_NAMED("mutex"));
    result("mutex", id ? 0 : errno);
    if (id) CHECK(forkguard_unregister(id) == 0);
    result("join", forkguard_thread_join_((uintptr_t)thread, 1, forkguard_nanoseconds() + 20000000000));
    int descriptor = forkguard_child_open(pauses);
    result("pidfd", descriptor < 0 ? ENOTSUP : 0);
    result("early", forkguard_child_reap(pauses, &status) == ETIMEDOUT ? 0 : EINVAL);
    error = forkguard_child_wait(pauses, descriptor, 5000000);
    result("wait", error == ETIMEDOUT ? 0 : error);
    error = forkguard_child_signal(pauses, descriptor, SIGKILL);
    result("signal", error);
    enter_phase(PHASE_NONE);
    if (error != 0) kill(pauses, SIGKILL);
    enter_phase(PHASE_USE);
    error = forkguard_child_wait(pauses, descriptor, 20000000000);
    result("end", error);
    while ((error = forkguard_child_reap(pauses, &status)) == ETIMEDOUT) sched_yield();
    result("reap", error);
    error = forkguard_child_wait(exits, -1, 20000000000);
    result("other", error);
    while ((error = forkguard_child_reap(exits, &status)) == ETIMEDOUT) sched_yield();
    enter_phase(PHASE_NONE);
    if (error == 0) CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {}
    if (descriptor >= 0) close(descriptor);
    close(5000); // where it was not adopted
    if (ends[0] >= 0) close(ends[0]);
    close(ends[1]);
}

static void must_work(const char *what, int error) {
    if (error == 0) return;
    dprintf(2, "%s: %s, without a fault\n", what, strerrorname_np(error));
    _exit(1);
}

static void scene_calls(void) {
    call_everything(say);
    // What failed works when nothing fails.
    forget_faults();
    call_everything(must_work);
    seen->children = 1;
}

// ---- ----

static const struct {
    const char *name;
    void (*run)(void);
} scenes[] = {
    {"busy", scene_busy},       {"refused", scene_refused}, {"holder", scene_holder}, {"patience", scene_patience},
    {"closing", scene_closing}, {"crowd", scene_crowd},     {"calls", scene_calls},
};

static void print_outcome(void) {
    const struct {
        bool seen;
        const char *word;
    } words[] = {
        {seen->trapped, "trapped"}, {seen->fences, "fences"}, {seen->process_id, "process-id"}, {seen->unprepared, "unprepared"},
        {seen->closed, "closed"}, {seen->tombstoned, "tombstoned"}, {seen->leaked, "leaked"}, {seen->no_child, "no-child"},
        {seen->nameless, "nameless"}, {seen->earlier_name, "earlier-name"}, {seen->cut_name, "cut-name"}, {*said, said},
    };
    char line[512] = "";
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].seen) snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", *line ? "+" : "", words[i].word);
    dprintf(answers, "outcome %s %u\n", *line ? line : "unnoticed", seen->children);
}

int main(int count, char **arguments) {
    enter_phase(PHASE_NONE);
    void *frame;
    backtrace(&frame, 1); // loads what it needs, which is not to be done in a handler
    signal(SIGALRM, hung);
    answers = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(answers >= 0 && seen != MAP_FAILED);
    forks = count > 2 ? (unsigned)atoi(arguments[2]) : METHODS;
    alarm(LIMIT_SECONDS * 3 / 2 + 3 * forks);
    for (unsigned i = 0; count > 1 && i < sizeof scenes / sizeof *scenes; i++) {
        if (strcmp(arguments[1], scenes[i].name) != 0) continue;
        scenes[i].run();
        look_at_the_gate();
        print_outcome();
        print_calls(answers);
        _exit(0);
    }
    dprintf(2, "usage: forkguard-faults busy|refused|holder|patience|closing|crowd|calls [FORKS]\n");
    return 64;
}
