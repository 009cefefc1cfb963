#include "fuzz.h"

#include <sys/wait.h>

bool is_child;

// What the child was told: by whom torn locks may have been held. Before there is a report, in a child's hooks, nothing is known yet.
static struct {
    bool prepared, known;
    forkguard_report report;
    int32_t self;
} told;

static bool is_listed(int32_t holder) {
    for (uint32_t i = 0; i < told.report.torn_holders_count && i < FORKGUARD_REPORT_ENTRIES; i++) {
        const forkguard_holder *listed = &told.report.torn_holders[i];
        if (listed->mark != FORKGUARD_MARK_NONE && (holder == 0 || listed->thread_id == holder)) return true;
    }
    return false;
}

// A torn lock: its holder is one that the report names, unless the fork was not prepared, and it is not the thread that survived.
static void check_torn(lock_state *lock) {
    int32_t holder = atomic_load(&lock->holder);
    CHECK(holder == 0 || holder != told.self);
    if (told.known && told.prepared) CHECK(is_listed(holder));
}

void child_take(lock_state *lock, bool wait) {
    bool expected = forkguard_lock_is_torn(&lock->lock);
    int taken = wait ? forkguard_lock(&lock->lock) : forkguard_trylock(&lock->lock);
    CHECK(taken == (expected ? FORKGUARD_TORN : FORKGUARD_LOCKED)); // no ghost has it
    if (taken == FORKGUARD_TORN) {
        check_torn(lock);
        lock->data.left = lock->data.right = 0;
        CHECK(forkguard_lock_mark_consistent(&lock->lock) == 0);
        atomic_store(&lock->holder, 0);
    }
    CHECK(is_whole(&lock->data));
    forkguard_unlock(&lock->lock);
    CHECK(!forkguard_lock_is_torn(&lock->lock));
}

static void check_locks(bool wait) {
    for (int i = 0; i < LOCKS; i++) {
        if (holds(i)) CHECK(forkguard_lock_is_mine(&fuzz.locks[i].lock) && !forkguard_lock_is_torn(&fuzz.locks[i].lock));
        else child_take(&fuzz.locks[i], wait);
    }
    child_take(&fuzz.workers, wait);
    // Who ended inside is in no report.
    if (!atomic_load(&fuzz.is_left)) return;
    CHECK(forkguard_lock(&fuzz.left_inside.lock) == FORKGUARD_TORN);
    forkguard_unlock(&fuzz.left_inside.lock);
}

// Those that were registered from before the fork until the copy are free, and whole or said to be torn; the surviving thread's are its
// own. False when there are
// others that may be registered now, and that somebody may have.
static bool check_mutexes(const frame *frame) {
    bool all = true;
    for (int i = 0; i < MUTEXES; i++) {
        mutex_state *mutex = &fuzz.mutexes[i];
        bool registered = frame->mutex_epochs[i] != 0 && frame->mutex_epochs[i] == atomic_load(&mutex->epoch)
            && atomic_load(&mutex->life) == LIVE;
        if (!registered) {
            all &= atomic_load(&mutex->life) == FREE;
            continue;
        }
        if (holds(LOCKS + i)) {
            CHECK(!mutex->torn);
        } else {
            CHECK(pthread_mutex_trylock(&mutex->mutex) == 0);
            CHECK(mutex->torn || is_whole(&mutex->data));
        }
        CHECK(pthread_mutex_unlock(&mutex->mutex) == 0);
    }
    return all;
}

static void leave_own(void) {
    unsigned mutexes = 0;
    for (unsigned i = 0; i < self->held_count; i++) {
        if (self->held[i] < LOCKS) forkguard_unlock(&fuzz.locks[self->held[i]].lock);
        else self->held[mutexes++] = self->held[i];
    }
    self->held_count = mutexes;
    for (; self->sections != 0; self->sections--) forkguard_section_end(self->section);
    CHECK(forkguard_sections_held() == 0);
}

static void check_descriptors(bool by_handlers) {
    for (unsigned i = 0; i < PIPES; i++) {
        pipe_state *pipe_ = &fuzz.pipes[i];
        if (atomic_load(&pipe_->life) != LIVE) continue;
        int result = forkguard_descriptor_enter(&pipe_->writer);
        CHECK(result == (pipe_->policy == FORKGUARD_KEEP ? 0 : ESTALE));
        if (result == 0) forkguard_descriptor_leave(&pipe_->writer);
        else if (by_handlers) CHECK(write(pipe_->writer.number, "x", 1) == -1); // a tombstone
    }
}

static void *take_all(void *context) {
    for (int i = 0; i < LOCKS; i++) child_take(&fuzz.locks[i], true);
    return context;
}

// A child goes on as any process: with threads, and with children.
static void go_on(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, take_all, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    uint64_t generation = forkguard_generation();
    frame here = {.began = now()};
    self->frame = &here;
    pid_t grandchild = forkguard_fork(FORKGUARD_FORK_NO_FLUSH);
    if (grandchild == 0) {
        CHECK(forkguard_generation() == generation + 1);
        take_all(NULL);
        save_coverage();
        _exit(0);
    }
    int status;
    CHECK(grandchild > 0 && waitpid(grandchild, &status, 0) == grandchild && status == 0);
}

void child_check(frame *frame, enum operation operation, unsigned argument, bool in_hook) {
    is_child = true;
    bool by_handlers = operation != BYPASS;
    uint64_t generation = forkguard_generation();
    CHECK(by_handlers ? generation == frame->generation + 1 : generation != frame->generation);
    CHECK(forkguard_is_current(generation) && !forkguard_is_current(frame->generation));
    if (in_hook) {
        // The hooks of the fork that it is in the middle of, and its report, are still to come.
        check_locks(argument & 4);
        save_coverage();
        _exit(0);
    }
    CHECK(forkguard_last_report(&told.report) == 0);
    CHECK(told.report.side == FORKGUARD_CHILD && told.report.generation == generation);
    CHECK((told.report.seen == FORKGUARD_SEEN_HANDLERS) == by_handlers);
    told.prepared = by_handlers && !told.report.no_turn;
    told.known = true;
    told.self = self->id;
    if (operation == GUARDED_FORK) CHECK(told.prepared && (told.report.torn_holders_count == 0 || told.report.breaches != 0));
    for (uint32_t i = 0; i < told.report.torn_holders_count && i < FORKGUARD_REPORT_ENTRIES; i++)
        CHECK(told.report.torn_holders[i].thread_id != self->id);
    check_locks(argument & 4);
    leave_own();
    forkguard_generation(); // in no section now: what is owed is done
    CHECK(forkguard_current_hook() == NULL);
    bool all_free = check_mutexes(frame);
    hooks_check_child(frame, told.prepared);
    check_descriptors(by_handlers);
    if (told.prepared && all_free && argument & 8) go_on(); // after another fork malloc may be torn
    feature(2048 + told.prepared * 16 + (told.report.torn_holders_count != 0) * 8 + (frame->after.count != 0) * 4);
    save_coverage();
    _exit(0);
}
