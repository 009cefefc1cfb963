#include "fuzz.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

_Thread_local thread *self;

#define MILLISECOND UINT64_C(1000000)

static void deny(unsigned number) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

static void pause_for(uint64_t nanoseconds) {
    struct timespec time = {0, (long)nanoseconds};
    nanosleep(&time, NULL);
}

// ---- locks ----

bool holds(int rank) {
    for (unsigned i = 0; i < self->held_count; i++)
        if (self->held[i] == rank) return true;
    return false;
}

bool may_wait_for(int rank) {
    for (unsigned i = 0; i < self->held_count; i++)
        if (self->held[i] >= rank) return false;
    return true;
}

void take(int rank, bool wait) {
    wait &= may_wait_for(rank);
    if (rank < LOCKS) {
        lock_state *lock = &fuzz.locks[rank];
        bool mine = holds(rank);
        int taken = wait ? forkguard_lock(&lock->lock) : forkguard_trylock(&lock->lock);
        CHECK(taken != FORKGUARD_TORN); // nothing is torn in a process that nobody forked
        CHECK(!mine || taken == FORKGUARD_BUSY);
        if (taken == FORKGUARD_BUSY) return;
        CHECK(atomic_exchange(&lock->holder, self->id) == 0);
        CHECK(is_whole(&lock->data));
    } else {
        mutex_state *mutex = &fuzz.mutexes[rank - LOCKS];
        if (holds(rank) || (wait ? pthread_mutex_lock : pthread_mutex_trylock)(&mutex->mutex) != 0) return;
        CHECK(is_whole(&mutex->data));
    }
    self->held[self->held_count++] = rank;
}

void leave(int at) {
    int rank = self->held[at];
    memmove(&self->held[at], &self->held[at + 1], (--self->held_count - (unsigned)at) * sizeof *self->held);
    if (rank < LOCKS) {
        lock_state *lock = &fuzz.locks[rank];
        atomic_store(&lock->holder, 0);
        forkguard_unlock(&lock->lock);
    } else {
        CHECK(pthread_mutex_unlock(&fuzz.mutexes[rank - LOCKS].mutex) == 0);
    }
}

void leave_all(void) {
    while (self->held_count != 0) leave((int)self->held_count - 1);
    while (self->sections != 0) {
        forkguard_section_end(self->section);
        self->sections--;
    }
}

void change(guarded *data, _Atomic uint64_t *changes) {
    data->left = data->left + 1;
    if (data->left & 1) sched_yield();
    data->right = data->right + 1;
    atomic_fetch_add(changes, 1);
}

static void change_what_is_held(unsigned argument) {
    if (self->held_count == 0) return;
    int rank = self->held[argument % self->held_count];
    guarded *data = rank < LOCKS ? &fuzz.locks[rank].data : &fuzz.mutexes[rank - LOCKS].data;
    data->left = data->left + 1;
    if (argument & 0x80) pause_for((argument & 0x7f) * 8000);
    data->right = data->right + 1;
    atomic_fetch_add(rank < LOCKS ? &fuzz.locks[rank].changes : &fuzz.mutexes[rank - LOCKS].changes, 1);
}

static void wait_for_change(unsigned argument) {
    int top = -1;
    for (unsigned i = 0; i < self->held_count; i++)
        if (self->held[i] > top) top = self->held[i];
    // It takes the lock again, so there must be nothing above it; and all waiters of a condition must have the same lock.
    unsigned condition = argument % CONDITIONS;
    if (top != (int)condition) return;
    lock_state *lock = &fuzz.locks[top];
    atomic_store(&lock->holder, 0);
    uint64_t deadline = forkguard_nanoseconds() + (argument >> 4) * MILLISECOND / 8;
    int result = forkguard_condition_wait(&fuzz.conditions[condition], &lock->lock, deadline);
    CHECK(result == 0 || result == ETIMEDOUT);
    CHECK(atomic_exchange(&lock->holder, self->id) == 0);
    CHECK(is_whole(&lock->data));
}

// ---- mutexes that are not ours ----

static int torn(void *context) {
    ((mutex_state *)context)->torn = true;
    return 0;
}

void register_mutex(unsigned index) {
    mutex_state *mutex = &fuzz.mutexes[index % MUTEXES];
    int expected = FREE;
    if (!atomic_compare_exchange_strong(&mutex->life, &expected, CHANGING)) return;
    mutex->id = forkguard_register_mutex(
        &mutex->mutex, &(forkguard_foreign_lock){.name = "mutex", .file = __FILE__, .line = __LINE__, .context = mutex, .torn = torn});
    CHECK(mutex->id != 0);
    atomic_fetch_add(&mutex->epoch, 1);
    atomic_store(&mutex->life, LIVE);
}

void unregister_mutex(unsigned index) {
    mutex_state *mutex = &fuzz.mutexes[index % MUTEXES];
    int expected = LIVE;
    if (!atomic_compare_exchange_strong(&mutex->life, &expected, CHANGING)) return;
    CHECK(forkguard_unregister(mutex->id) == 0);
    atomic_store(&mutex->life, FREE);
}

// ---- descriptors ----

static void adopt(unsigned argument) {
    pipe_state *pipe_ = &fuzz.pipes[argument % PIPES];
    int expected = FREE, ends[2];
    if (!atomic_compare_exchange_strong(&pipe_->life, &expected, CHANGING)) return;
    CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    pipe_->reader = ends[0];
    pipe_->policy = argument / PIPES % 3;
    CHECK(forkguard_descriptor_adopt(ends[1], pipe_->policy, &pipe_->writer) == 0);
    atomic_store(&pipe_->life, LIVE);
}

static void use(unsigned argument) {
    pipe_state *pipe_ = &fuzz.pipes[argument % PIPES];
    if (atomic_load(&pipe_->life) != LIVE) return;
    forkguard_descriptor_t writer = pipe_->writer;
    int result = forkguard_descriptor_enter(&writer);
    CHECK(result == 0 || result == EBADF); // closed meanwhile
    if (result != 0) return;
    CHECK(write(writer.number, "x", 1) == 1 || errno == EAGAIN || errno == EPIPE);
    forkguard_descriptor_leave(&writer);
}

static void close_pipe(unsigned argument) {
    pipe_state *pipe_ = &fuzz.pipes[argument % PIPES];
    int expected = LIVE;
    if (!atomic_compare_exchange_strong(&pipe_->life, &expected, CHANGING)) return;
    CHECK(forkguard_descriptor_close(&pipe_->writer) == 0);
    close(pipe_->reader);
    atomic_store(&pipe_->life, FREE);
}

// ---- time ----

// Until all threads of the program are here, or a millisecond is over.
static void meet(void) {
    unsigned met = atomic_load(&fuzz.met);
    if (atomic_fetch_add(&fuzz.meeting, 1) + 1 >= fuzz.program.threads) {
        atomic_store(&fuzz.meeting, 0);
        atomic_fetch_add(&fuzz.met, 1);
    }
    uint64_t end = forkguard_nanoseconds() + MILLISECOND;
    while (atomic_load(&fuzz.met) == met && forkguard_nanoseconds() < end) sched_yield();
}

// For longer than a fork waits.
static void hold(void) {
    if (self->held_count + self->sections == 0 || atomic_fetch_add(&fuzz.holds, 1) >= 2 || fuzz.program.deadline_ms > 20) return;
    pause_for((fuzz.program.deadline_ms + 25) * MILLISECOND);
}

// ---- forks ----

static pid_t bypass(unsigned argument) {
    if (argument & 1) return _Fork();
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

void fork_by(enum operation operation, unsigned argument, bool in_hook) {
    if (atomic_fetch_add(&fuzz.forks, 1) >= FORKS) return;
    frame here = {.began = now(), .generation = forkguard_generation(), .outer = self->frame};
    for (unsigned i = 0; i < MUTEXES; i++) {
        uint32_t epoch = atomic_load(&fuzz.mutexes[i].epoch);
        here.mutex_epochs[i] = atomic_load(&fuzz.mutexes[i].life) == LIVE ? epoch : 0;
    }
    if (!in_hook) self->frame = &here;
    uint32_t inside = forkguard_sections_held();
    bool keeps = argument & 1;
    errno = EXDEV;
    pid_t child = operation == FORK ? fork()
        : operation == GUARDED_FORK ? forkguard_fork((keeps ? FORKGUARD_FORK_HOLDING_LOCKS : 0) | FORKGUARD_FORK_NO_FLUSH)
                                    : bypass(argument >> 1);
    if (child == 0) child_check(&here, operation, argument, in_hook);
    int error = errno;
    bool denied = fuzz.program.denied && self->index == fuzz.program.threads - 1;
    if (operation == GUARDED_FORK && in_hook) CHECK(child == -1 && error == EDEADLK);
    else if (operation == GUARDED_FORK && inside != 0 && !keeps) CHECK(child == -1 && error == EBUSY);
    else if (operation == GUARDED_FORK && child == -1)
        CHECK(error == ETIMEDOUT || error == EPERM || error == EBUSY || (denied && error == EAGAIN));
    else CHECK(denied ? child == -1 && error == EAGAIN : child > 0 && error == EXDEV);
    CHECK(forkguard_generation() == here.generation && forkguard_sections_held() == inside);
    if (!in_hook) {
        hooks_check_parent(&here);
        self->frame = here.outer;
    }
    static const char *const names[] = {"fork", "forkguard_fork", "a fork beside libc"};
    if (child > 0) expect_child(child, in_hook ? "a fork in a hook" : names[operation - FORK]);
    forkguard_report report;
    if (forkguard_last_report(&report) == 0)
        feature((operation - FORK) * 256 + (child > 0) * 128 + (report.windows != 0) * 64 + (report.breaches != 0) * 32
            + (report.torn_holders_count != 0 ? 1 + report.torn_holders[0].mark : 0) * 4 + (inside != 0) * 2 + in_hook);
}

// ---- steps ----

static void do_step(step step) {
    unsigned argument = step.argument;
    switch ((enum operation)step.operation) {
    case LOCK: return take(argument % LOCKS, true);
    case TRYLOCK: return take(argument % LOCKS, false);
    case UNLOCK:
        for (unsigned i = 0; i < self->held_count; i++)
            if (self->held[(i + argument) % self->held_count] < LOCKS) return leave((int)((i + argument) % self->held_count));
        return;
    case SECTION_BEGIN:
        if (self->sections == 3) return;
        CHECK((self->section = forkguard_section_begin()) != NULL);
        self->sections++;
        return;
    case SECTION_END:
        if (self->sections == 0) return;
        self->sections--;
        return forkguard_section_end(self->section);
    case CHANGE: return change_what_is_held(argument);
    case WAIT: return wait_for_change(argument);
    case SIGNAL:
        return (argument & 4 ? forkguard_condition_broadcast : forkguard_condition_signal)(&fuzz.conditions[argument % CONDITIONS]);
    case MUTEX_LOCK: return take(LOCKS + argument % MUTEXES, argument & 4);
    case MUTEX_UNLOCK:
        for (unsigned i = 0; i < self->held_count; i++)
            if (self->held[i] >= LOCKS) return leave((int)i);
        return;
    case MUTEX_REGISTER: return register_mutex(argument);
    case MUTEX_UNREGISTER: return unregister_mutex(argument);
    case HOOK_REGISTER: return hook_register(argument % HOOKS, argument / HOOKS);
    case HOOK_CANCEL: return hook_cancel(argument % HOOKS);
    case FORK:
    case GUARDED_FORK:
    case BYPASS: return fork_by(step.operation, argument, false);
    case ADOPT: return adopt(argument);
    case USE: return use(argument);
    case CLOSE: return close_pipe(argument);
    case PAUSE: return argument & 1 ? (void)sched_yield() : pause_for(argument * 2000);
    case MEET: return meet();
    case HOLD: return hold();
    case LOCK_WORKERS:
        CHECK(forkguard_lock(&fuzz.workers.lock) == FORKGUARD_LOCKED);
        change(&fuzz.workers.data, &fuzz.workers.changes);
        return forkguard_unlock(&fuzz.workers.lock);
    case END_INSIDE:
        if (atomic_load(&fuzz.is_left) || forkguard_trylock(&fuzz.left_inside.lock) != FORKGUARD_LOCKED) return;
        fuzz.left_inside.data.left++;
        self->ended = true;
        return;
    case OPERATIONS: break;
    }
}

void *thread_run(void *context) {
    self = context;
    self->id = gettid();
    const program *program = &fuzz.program;
    if (program->denied && self->index == program->threads - 1) {
        deny(SYS_clone);
#ifdef SYS_fork
        deny(SYS_fork);
#endif
    }
    // ForkGuard knows it from here on: after a fork beside libc it could not tell that a thread which it has never seen is the one that
    // survived.
    forkguard_section_end(forkguard_section_begin());
    for (unsigned i = 0; i < program->counts[self->index] && !self->ended; i++) do_step(program->steps[self->index][i]);
    leave_all();
    if (self->ended) atomic_store(&fuzz.is_left, true); // and it ends with the one lock
    return NULL;
}
