#include "scheduler.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE (128u << 10)
#define MOST_STEPS 4000000
#define LONGEST_TIME UINT64_C(300000000000)
#define BEGINNING UINT64_C(1000000000000)
#define FOREVER UINT64_MAX
#define MOST_DELAYED 4
#define MOST_CHANGES 4
#define LOCALS_SIZE 128
// Who runs for so long beside others that could run spins; a priority is no reason to starve them.
#define MOST_TURNS_ALONE 5000

extern char __start_thread_locals[] __attribute__((weak)), __stop_thread_locals[] __attribute__((weak));

typedef struct runner {
    thread shown; // first: `current` points here
    void (*run)(void);
    ucontext_t start;
    jmp_buf context;
    bool begun, timed_out;
    int saved_errno;
    const uint32_t *sleeps_on;
    uint64_t wakes_at;
    uint64_t priority;
    unsigned rushes; // points that it passes at once
    const void *specific;
    struct {
        uint32_t *count, old;
    } delayed[MOST_DELAYED];
    unsigned delayed_count;
    char locals[LOCALS_SIZE];
} runner;

static struct {
    settings settings;
    uint64_t random, now, steps, due;
    runner home, threads[MOST_THREADS];
    unsigned count, delayed;
    int32_t last_id;
    // How the next thread is chosen.
    bool by_priority;
    uint64_t switches;      // one in so many points, by chance
    uint64_t drains;        // one store in so many points
    uint64_t changes[MOST_CHANGES]; // points at which the running thread becomes the least important one
    uint64_t least;
    uint64_t alone;
    void (*destroy)(void *);
    struct {
        const char *function;
        int line;
        unsigned thread;
    } trace[256];
} scheduler;

thread *current;
unsigned scheduler_paused;
void (*scheduler_has_slot)(void);
bool scheduler_prints;
const char *scheduler_name;

static char *stacks; // outside of what a schedule begins anew

static runner *running(void) { return (runner *)current; }

uint64_t scheduler_random(uint64_t below) {
    // splitmix64
    uint64_t z = scheduler.random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % below;
}

static bool one_in(uint64_t count) { return scheduler_random(count) == 0; }

uint64_t scheduler_now(void) { return scheduler.now; }

thread *scheduler_thread(unsigned index) { return index < scheduler.count ? &scheduler.threads[index].shown : NULL; }


void scheduler_fail(const char *format, ...) {
    char what[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (scheduler_prints) {
        uint64_t first = scheduler.steps > 256 ? scheduler.steps - 256 : 0;
        for (uint64_t i = first; i < scheduler.steps; i++)
            printf("%u %s:%d\n", scheduler.trace[i % 256].thread, scheduler.trace[i % 256].function, scheduler.trace[i % 256].line);
        printf("thread %d at %llu ns, step %llu; last message: %s\n", current ? (int)(running() - scheduler.threads) : -1,
            (unsigned long long)(scheduler.now - BEGINNING), (unsigned long long)scheduler.steps, process_last_message);
        for (unsigned i = 0; i < scheduler.count; i++)
            printf("thread %u: program %u, state %d, sleeps until %lld\n", i, scheduler.threads[i].shown.number,
                scheduler.threads[i].shown.state,
                scheduler.threads[i].wakes_at == FOREVER ? -1ll : (long long)(scheduler.threads[i].wakes_at - BEGINNING));
    }
    printf("FAILED %s, seed %llu: %s\n", scheduler_name, (unsigned long long)scheduler.settings.seed, what);
    fflush(stdout);
    _exit(1);
}

// ---- store buffers ----

static void flush_one(runner *owner) {
    owner->delayed_count--;
    scheduler.delayed--;
    memmove(&owner->delayed[0], &owner->delayed[1], owner->delayed_count * sizeof owner->delayed[0]);
}

static void flush(runner *owner) {
    while (owner->delayed_count != 0) flush_one(owner);
}

void scheduler_flush(void) {
    if (current) flush(running());
}

void scheduler_flush_all(void) {
    for (unsigned i = 0; i < scheduler.count; i++) flush(&scheduler.threads[i]);
}

// The store itself is done at once, for its own thread reads it back; others are shown what was there before.
void scheduler_delay(uint32_t *count) {
    if (!current || !scheduler.settings.store_buffers) return;
    runner *owner = running();
    if (owner->delayed_count == MOST_DELAYED) flush_one(owner);
    owner->delayed[owner->delayed_count].count = count;
    owner->delayed[owner->delayed_count].old = *count;
    owner->delayed_count++;
    scheduler.delayed++;
}

uintptr_t scheduler_visible_count(const volatile void *address, uintptr_t loaded) {
    for (unsigned i = 0; scheduler.delayed != 0 && i < scheduler.count; i++) {
        const runner *owner = &scheduler.threads[i];
        for (unsigned j = 0; owner != running() && j < owner->delayed_count; j++)
            if (owner->delayed[j].count == address) return owner->delayed[j].old;
    }
    return loaded;
}

// ---- choosing ----

static void wake_due(void) {
    scheduler.due = FOREVER;
    for (unsigned i = 0; i < scheduler.count; i++) {
        runner *sleeper = &scheduler.threads[i];
        if (sleeper->shown.state != THREAD_SLEEPS) continue;
        if (sleeper->wakes_at <= scheduler.now) {
            sleeper->shown.state = THREAD_RUNS;
            sleeper->timed_out = true;
        } else if (sleeper->wakes_at < scheduler.due) {
            scheduler.due = sleeper->wakes_at;
        }
    }
}

static runner *chosen(void) {
    runner *best = NULL;
    uint64_t count = 0;
    for (unsigned i = 0; i < scheduler.count; i++) {
        runner *candidate = &scheduler.threads[i];
        if (candidate->shown.state != THREAD_RUNS) continue;
        count++;
        bool better = scheduler.by_priority ? !best || candidate->priority > best->priority : one_in(count);
        if (better) best = candidate;
    }
    return best;
}

static void switch_to(runner *next) {
    runner *previous = running();
    if (next == previous) return;
    size_t size = (size_t)(__stop_thread_locals - __start_thread_locals);
    previous->saved_errno = errno;
    memcpy(previous->locals, __start_thread_locals, size);
    memcpy(__start_thread_locals, next->locals, size);
    if (_setjmp(previous->context) == 0) {
        current = &next->shown;
        errno = next->saved_errno;
        scheduler.alone = 0;
        if (next->begun) _longjmp(next->context, 1);
        next->begun = true;
        setcontext(&next->start);
    }
}

// The calling thread cannot go on, or need not.
static void yield(void) {
    for (;;) {
        wake_due();
        runner *next = chosen();
        if (next) {
            switch_to(next);
            return;
        }
        if (scheduler.due == FOREVER) {
            for (unsigned i = 0; i < scheduler.count; i++)
                if (scheduler.threads[i].shown.state == THREAD_SLEEPS) scheduler_fail("deadlock: thread %u sleeps for ever", i);
            switch_to(&scheduler.home);
            return;
        }
        scheduler.now = scheduler.due;
        if (scheduler.now - BEGINNING > LONGEST_TIME) scheduler_fail("no end: 300 s have passed");
    }
}

static void disturb(void) {
    if (scheduler.settings.spurious && one_in(300)) {
        runner *sleeper = &scheduler.threads[scheduler_random(scheduler.count)];
        if (sleeper->shown.state == THREAD_SLEEPS && sleeper->sleeps_on) sleeper->shown.state = THREAD_RUNS;
    }
    if (scheduler.settings.hasty && one_in(500) && scheduler.due != FOREVER) {
        if (scheduler.due > scheduler.now) scheduler.now = scheduler.due;
        wake_due();
    }
}

void scheduler_point(const char *function, int line, const volatile void *address) {
    if (!current || scheduler_paused) return;
    runner *self = running();
    scheduler.trace[scheduler.steps % 256].function = function;
    scheduler.trace[scheduler.steps % 256].line = line;
    scheduler.trace[scheduler.steps % 256].thread = (unsigned)(self - scheduler.threads);
    if (++scheduler.steps > MOST_STEPS) scheduler_fail("no end: %d steps", MOST_STEPS);
    scheduler.now += 20;
    if (scheduler.now >= scheduler.due) wake_due();
    for (unsigned i = 0; scheduler.delayed != 0 && i < scheduler.count; i++)
        if (scheduler.threads[i].delayed_count != 0 && one_in(scheduler.drains)) flush_one(&scheduler.threads[i]);
    disturb();
    for (unsigned i = 0; scheduler.by_priority && i < MOST_CHANGES; i++)
        if (scheduler.changes[i] == scheduler.steps) self->priority = --scheduler.least;
    if (++scheduler.alone > MOST_TURNS_ALONE) self->priority = --scheduler.least;
    if (self->rushes != 0) self->rushes--;
    else if (scheduler.by_priority || one_in(scheduler.switches)) yield();
    if (address && process_is_freed(address)) scheduler_fail("%s:%d touches memory that was freed", function, line);
}

void scheduler_pause(void) {
    if (current && running()->rushes == 0 && one_in(4)) running()->rushes = 110;
}

// ---- sleeping ----

bool scheduler_sleep(const uint32_t *word, uint32_t expected, int64_t nanoseconds) {
    if (!current) scheduler_fail("sleeps before there are threads");
    scheduler_point(__func__, __LINE__, NULL);
    scheduler_flush();
    if (process_is_freed(word)) return true;
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) return true;
    runner *self = running();
    self->shown.state = THREAD_SLEEPS;
    self->sleeps_on = word;
    self->timed_out = false;
    self->wakes_at = nanoseconds < 0 ? FOREVER : scheduler.now + (uint64_t)nanoseconds;
    if (self->wakes_at < scheduler.due) scheduler.due = self->wakes_at;
    yield();
    self->sleeps_on = NULL;
    return !self->timed_out;
}

void scheduler_wake(const uint32_t *word, int count) {
    scheduler_point(__func__, __LINE__, NULL);
    scheduler_flush();
    while (count > 0) {
        runner *best = NULL;
        uint64_t found = 0;
        for (unsigned i = 0; i < scheduler.count; i++) {
            runner *sleeper = &scheduler.threads[i];
            if (sleeper->shown.state == THREAD_SLEEPS && sleeper->sleeps_on == word && one_in(++found)) best = sleeper;
        }
        if (!best) return;
        best->shown.state = THREAD_RUNS;
        count--;
    }
}

static const thread *thread_of(int32_t id) {
    for (unsigned i = 0; i < scheduler.count; i++) {
        const thread *found = &scheduler.threads[i].shown;
        if (found->id == id && (found->state == THREAD_RUNS || found->state == THREAD_SLEEPS)) return found;
    }
    return NULL;
}

bool scheduler_has_thread(int32_t id) { return thread_of(id) != NULL; }

bool scheduler_thread_sleeps(int32_t id) {
    const thread *found = thread_of(id);
    return found && found->state == THREAD_SLEEPS;
}

// ---- threads ----

int thread_key_create(pthread_key_t *key, void (*destroy)(void *)) {
    *key = 0;
    scheduler.destroy = destroy;
    return 0;
}

int thread_set_specific(const void *value) {
    if (!current) return 0;
    running()->specific = value;
    if (scheduler_has_slot) scheduler_has_slot();
    return 0;
}

void scheduler_free_slot(void *slot) {
    if (slot) scheduler.destroy(slot);
}

void scheduler_end_thread(void) {
    runner *self = running();
    void *value = (void *)(uintptr_t)self->specific;
    self->shown.ends = true;
    if (value) scheduler.destroy(value);
    flush(self);
    self->shown.state = THREAD_ENDED;
    yield();
    abort();
}

static void begin_thread(void) {
    running()->run();
    scheduler_end_thread();
}

thread *scheduler_spawn(unsigned number, void (*run)(void)) {
    if (scheduler.count == MOST_THREADS) scheduler_fail("too many threads");
    runner *made = &scheduler.threads[scheduler.count];
    made->shown = (thread){.state = THREAD_RUNS, .id = ++scheduler.last_id, .number = number};
    made->run = run;
    made->priority = scheduler.least + 1 + scheduler_random(1u << 20);
    getcontext(&made->start);
    made->start.uc_stack.ss_sp = stacks + (size_t)STACK_SIZE * scheduler.count;
    made->start.uc_stack.ss_size = STACK_SIZE;
    makecontext(&made->start, begin_thread, 0);
    scheduler.count++;
    return &made->shown;
}

void scheduler_become_child(void) {
    for (unsigned i = 0; i < scheduler.count; i++) {
        runner *other = &scheduler.threads[i];
        if (other == running()) continue;
        // What is still in a store buffer the copy may have, or not.
        if (one_in(2)) flush(other);
        while (other->delayed_count != 0) {
            unsigned last = --other->delayed_count;
            scheduler.delayed--;
            *other->delayed[last].count = other->delayed[last].old;
        }
        if (other->shown.state != THREAD_ENDED) other->shown.state = THREAD_VANISHED;
    }
    current->id = ++scheduler.last_id;
}

void scheduler_start(void) {
    stacks = mmap(NULL, (size_t)STACK_SIZE * MOST_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) abort();
}

void scheduler_run(const settings *settings, void (*begin)(void)) {
    static const uint64_t rates[] = {2, 4, 16};
    scheduler.settings = *settings;
    scheduler.random = settings->seed;
    scheduler.now = BEGINNING;
    scheduler.last_id = 100;
    scheduler.due = FOREVER;
    scheduler.least = UINT64_MAX / 2;
    scheduler.by_priority = one_in(2);
    scheduler.switches = rates[scheduler_random(3)];
    scheduler.drains = (uint64_t)4 << 3 * scheduler_random(4);
    uint64_t length = (uint64_t)200 << scheduler_random(4);
    for (unsigned i = 0; i < MOST_CHANGES; i++) scheduler.changes[i] = 1 + scheduler_random(length);
    begin();
    scheduler.home.begun = true;
    current = &scheduler.home.shown;
    yield();
    current = NULL;
}
