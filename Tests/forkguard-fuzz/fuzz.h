// A fuzzer's bytes are a program: a few threads that lock, wait, register, cancel and fork, each its own part, for real. What must hold is
// checked on both
// sides of each fork.
//
//     program.c   what the bytes mean
//     thread.c    the steps of a thread
//     hooks.c     what registered hooks do, and whether each is called once and in order
//     child.c     what a child must find
//     fuzzer.c    one run: threads, children, what the parent must find; the coverage of children

#ifndef FUZZ_H
#define FUZZ_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "forkguard.h"

enum { THREADS = 4, LOCKS = 6, MUTEXES = 2, HOOKS = 6, INSTANCES = 64, CONDITIONS = 2, PIPES = 3,
    STEPS = 96, FORKS = 8, PATIENCE_SECONDS = 40 };

// ---- the program ----

enum operation {
    LOCK, TRYLOCK, UNLOCK, SECTION_BEGIN, SECTION_END, CHANGE, WAIT, SIGNAL, MUTEX_LOCK, MUTEX_UNLOCK, MUTEX_REGISTER, MUTEX_UNREGISTER,
    HOOK_REGISTER, HOOK_CANCEL, FORK, GUARDED_FORK, BYPASS, ADOPT, USE, CLOSE, PAUSE, MEET, HOLD, LOCK_WORKERS, END_INSIDE, OPERATIONS,
};

typedef struct step {
    uint8_t operation;
    uint8_t argument;
} step;

typedef struct program {
    unsigned threads;
    unsigned deadline_ms;
    bool denied; // the last thread's forks fail
    unsigned counts[THREADS];
    step steps[THREADS][STEPS];
} program;

/// Every sequence of bytes is a program.
void program_decode(program *program, const uint8_t *bytes, size_t count);
void program_print(const program *program);

// ---- what the threads share ----

/// The halves are the same while nobody is inside.
typedef struct guarded {
    volatile uint64_t left, right;
} guarded;

typedef struct lock_state {
    forkguard_lock_t lock;
    guarded data;
    _Atomic int32_t holder; // thread id; set after the lock is taken, cleared before it is left
    _Atomic uint64_t changes;
} lock_state;

enum life { FREE, CHANGING, LIVE };

typedef struct mutex_state {
    pthread_mutex_t mutex;
    guarded data;
    _Atomic uint64_t changes;
    _Atomic int life; // of its registration
    _Atomic uint32_t epoch; // counts registrations
    uint64_t id;
    bool torn; // told so
} mutex_state;

/// One registration of a hook.
typedef struct hook {
    unsigned behaviour, argument;
    uint64_t id;
    _Atomic uint64_t began, ended, cancel_began, cancel_ended; // by `run.clock`; 0: not yet
    bool first_use; // its child phase waits for a call of the child's
    uint64_t during; // registered by a hook in the fork that began then; 0: by none
    _Atomic unsigned releases;
} hook;

typedef struct pipe_state {
    _Atomic int life;
    uint32_t policy;
    int reader;
    forkguard_descriptor_t writer;
} pipe_state;

typedef struct child {
    pid_t pid;
    int descriptor;
    const char *what;
} child;

typedef struct run {
    program program;
    _Atomic uint64_t clock;
    lock_state locks[LOCKS];
    lock_state left_inside; // a thread ends in it
    _Atomic bool is_left;
    lock_state workers; // of the worker that hooks wait for
    forkguard_condition_t conditions[CONDITIONS];
    mutex_state mutexes[MUTEXES];
    _Atomic int hook_lives[HOOKS];
    hook *hooks[HOOKS];
    _Atomic unsigned instances;
    hook instance[INSTANCES];
    pipe_state pipes[PIPES];
    _Atomic unsigned forks, holds, met, meeting;
    _Atomic unsigned children_count;
    child children[FORKS];
} run;

extern run fuzz;

static inline uint64_t now(void) { return atomic_fetch_add(&fuzz.clock, 1) + 1; }

// ---- a thread ----

typedef struct hook_list {
    unsigned count;
    hook *hooks[INSTANCES];
} hook_list;

/// A fork by a thread, as its hooks see it.
typedef struct frame {
    uint64_t began, generation;
    uint64_t ended; // not before what was prepared was undone
    hook_list prepared, after; // in the order in which they were called
    uint32_t mutex_epochs[MUTEXES]; // 0: not registered
    struct frame *outer;
} frame;

typedef struct thread {
    unsigned index;
    int32_t id;
    unsigned held_count, sections;
    int held[LOCKS + MUTEXES]; // locks by their number, mutexes by theirs and LOCKS: their rank
    forkguard_slot *section;
    frame *frame;
    bool ended;
} thread;

extern _Thread_local thread *self;

void *thread_run(void *context);

/// Whether the calling thread may wait for what has this rank: nobody waits for a lower one than it has, so there is no deadlock of the
/// program's own.
bool may_wait_for(int rank);
bool holds(int rank);
void take(int index, bool wait);
void leave(int at);
void leave_all(void);
void change(guarded *data, _Atomic uint64_t *changes);
void register_mutex(unsigned index);
void unregister_mutex(unsigned index);

/// Forks, in a hook or not. Returns in the parent only.
void fork_by(enum operation operation, unsigned argument, bool in_hook);

/// Both halves, as a child finds them under a lock that is not torn.
static inline bool is_whole(const guarded *data) { return data->left == data->right; }

// ---- hooks ----

void hook_register(unsigned index, unsigned argument);
void hook_cancel(unsigned index);
/// The parent's half of a fork that has just ended.
void hooks_check_parent(frame *frame);
void hooks_check_child(frame *frame, bool prepared);
void worker_start(void);

// ---- the child ----

/// Checks, and ends the process.
_Noreturn void child_check(frame *frame, enum operation operation, unsigned argument, bool in_hook);
/// Takes a lock in a child, torn or not.
void child_take(lock_state *lock, bool wait);
extern bool is_child;

// ---- the fuzzer ----

/// Ends the run: the input that led here is kept. In a child the parent does.
_Noreturn void not_so(const char *file, int line, const char *what);
#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) not_so(__FILE__, __LINE__, #condition);                                                                          \
    } while (0)

/// On standard error, without any lock.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Something happened that coverage does not tell.
void feature(unsigned number);
/// Coverage of this child is added to its parent's.
void save_coverage(void);
void expect_child(pid_t pid, const char *what);

#endif
