// Forking: the one pthread_atfork triple, and the order of the phases.
//
//     prepare   take the turn, users' prepare hooks (newest first), close the gate and take the foreign locks, in windows
//     ---- fork ----
//     child     C phases: turn, registry, foreign locks, report, gate, generation; then foreign locks that could not be made anew there, users' child
//               hooks (oldest first), the turn is free
//     parent    let go of the foreign locks, open the gate, users' parent hooks (oldest first), pass the turn on; the same when the fork failed
//
// Standard output is flushed by forkguard_fork before all that.
//
// The turn is held over all of it, so hooks of two forks never interleave (R9). It passes to threads that are inside first: they hold up everybody
// else's fork, or make it tear. One thing may interrupt: a hook that needs a lock whose holder waits for its turn. Then that thread borrows the
// turn, forks whole, and gives it back (R22).
//
// A raw fork() inside a hook cannot be refused. It finds the thread's own fork under way, prepares nothing, and its child is treated as
// one that nobody told: whatever others held is torn, and the child hooks run once the thread has left its hooks.
//
// forkguard_fork does the preparing before it calls fork(), because only there it can still refuse. Its handler, which runs later, drains once more
// if a parked thread had to be let in meanwhile (R15). The foreign locks it lets go of in between: other libraries' prepare handlers run there, and what
// those wait for may be held by a thread that waits for one of these locks.

#include "atfork.h"

#include "copy.h"
#include "door.h"
#include "descriptor.h"
#include "foreign.h"
#include "gate.h"
#include "generation.h"
#include "kept.h"
#include "platform/platform.h"
#include "process.h"
#include "registry.h"
#include "report.h"
#include "support.h"
#include "turn.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#if defined(__linux__)
#include <stdio_ext.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "forkguard/atfork.h"

#define MILLISECOND UINT64_C(1000000)

static struct {
    uint64_t deadline;
    uint64_t closed_at;
    uint32_t handlers; // the atfork triple is installed
    uint32_t owed;     // enum owed
    uint32_t owed_seen;   // enum forkguard_seen, for the report
    uint64_t owed_ordinal;
    bool early; // the C phases of this child ran before its handler did
    uint32_t owed_runner; // thread that runs what is owed
} forking;

// Of forkguard_fork_closing, sorted.
typedef struct descriptors {
    size_t count;
    int numbers[];
} descriptors;

// A slot's `ours`: whether forkguard_fork ends the fork of this thread, and whether the handlers of the fork() that it called have begun.
enum ours { OURS_NOT = 0, OURS_AWAITED, OURS_PREPARED };

enum owed { OWED_NOTHING = 0, OWED_FIRST_USE, OWED_ALL, OWED_RUNNING };

// Cancelled in the middle of a fork, in a hook or in one of our own system calls, a thread would take the turn and the closed gate with it. fork(2) is no
// cancellation point; neither is what it calls.
static void hold_off_cancellation(forkguard_slot *slot) {
    if (slot->uncancellable++ == 0) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &slot->cancel_state);
}

static void allow_cancellation(forkguard_slot *slot) {
    int before;
    if (--slot->uncancellable == 0) pthread_setcancelstate(slot->cancel_state, &before);
}

// ---- prepare ----

static uint64_t begin_report(uint64_t ordinal, uint32_t seen) {
    report_clear();
    report_current.ordinal = ordinal;
    report_current.seen = seen;
    report_current.foreign_locks = (uint32_t)registry_locks();
    return ordinal;
}

// What a child reports of itself.
static void report_birth(bool prepared) {
    forkguard_report *report = &report_current;
    report->side = FORKGUARD_CHILD;
    report->other_pid = getppid();
    report->stale_thread_ids = !support_cures_thread_ids();
    report->foreign_locks = foreign_in_child.locks;
    report->foreign_reinitialized = foreign_in_child.reinitialized;
    report->foreign_own = foreign_in_child.own;
    report->descriptors_tombstoned = descriptors_in_child.tombstoned;
    report->descriptors_reopened = descriptors_in_child.reopened;
    report->descriptors_kept = descriptors_in_child.kept;
    report->descriptors_failed = descriptors_in_child.failed;
    for (uint32_t i = 0; i < foreign_in_child.torn_count; i++)
        if (report->torn_holders_count++ < FORKGUARD_REPORT_ENTRIES && i < FORKGUARD_REPORT_ENTRIES)
            report->torn_holders[report->torn_holders_count - 1] = foreign_in_child.torn[i];
    gate_report_vanished(report, prepared);
}

static void close_gate(forkguard_slot *slot, gate_closing *closing) {
    uint64_t before = platform_nanoseconds();
    memset(closing, 0, sizeof *closing);
    slot->fork_state = FORK_CLOSING;
    gate_close(slot, forking.deadline, closing);
    slot->fork_state = FORK_CLOSED;
    forkguard_report *report = &report_current;
    report->windows += closing->windows;
    report->prepared_threads = closing->threads;
    report->timed_out |= closing->late != closing->kept;
    if (closing->blocker.thread_id || *closing->blocker.lock_name) report->blocker = closing->blocker;
    report->torn_holders_count = closing->holders_count;
    memcpy(report->torn_holders, closing->holders, sizeof closing->holders);
    forking.closed_at = platform_nanoseconds();
    report->gate_nanoseconds += forking.closed_at - before;
    descriptor_note_offsets();
    gate_prepared();
}

// Up to the closed gate. 0, or ETIMEDOUT when the turn was not to be had.
static int prepare(forkguard_slot *slot, uint64_t deadline, gate_closing *closing) {
    uint64_t began = platform_nanoseconds();
    slot->fork_state = FORK_TURN;
    if (!turn_take(slot, deadline)) {
        slot->fork_state = FORK_NO_TURN;
        return ETIMEDOUT;
    }
    slot->fork_state = FORK_HOOKS;
    uint64_t ordinal = begin_report(registry_next_fork(), FORKGUARD_SEEN_HANDLERS);
    uint64_t before = platform_nanoseconds();
    report_current.turn_nanoseconds = before - began;
    registry_begin();
    registry_walk(REGISTRY_PREPARE, ordinal);
    forking.deadline = deadline;
    report_current.ordinal = ordinal;
    report_current.prepare_nanoseconds = platform_nanoseconds() - before;
    close_gate(slot, closing);
    return 0;
}

// ---- after ----

static void end_fork(forkguard_slot *slot, bool publish) {
    registry_end();
    if (publish) report_publish(true);
    slot->fork_state = FORK_NONE;
    turn_pass(slot);
    atfork_run_owed_hooks();
}

static void after_in_parent(forkguard_slot *slot) {
    uint64_t ordinal = report_current.ordinal, now = platform_nanoseconds();
    slot->closes = false;
    report_current.side = FORKGUARD_PARENT;
    report_current.copy_nanoseconds = now - forking.closed_at;
    report_current.breaches = gate_breaches();
    slot->fork_state = FORK_HOOKS;
    descriptor_forget_offsets();
    foreign_release();
    gate_open();
    foreign_settle();
    kept_say();
    report_current.generation = forkguard_generation();
    registry_walk(REGISTRY_PARENT, ordinal);
    report_current.after_nanoseconds = platform_nanoseconds() - now;
}

// The C phases of every child: nothing here allocates, takes a foreign lock or logs.
static void become_child(forkguard_slot *survivor, bool prepared, enum owed owed) {
    turn_child(survivor, survivor && survivor->fork_state != FORK_NONE);
    bool walking = survivor && survivor->fork_state >= FORK_HOOKS && survivor->fork_state <= FORK_CLOSED;
    // The walk goes on until those that wait for the first use have been told, also if they were cancelled during this fork.
    registry_child((walking ? 1 : 0) + (owed == OWED_FIRST_USE ? 1 : 0), survivor && survivor->nested_forks != 0);
    foreign_child(survivor, prepared);
    gate_free_handed(survivor);
    descriptors_in_child = (struct descriptors_in_child){0};
    forking.owed = owed;
    gate_child(survivor, prepared, owed != OWED_NOTHING);
    generation_child(owed != OWED_NOTHING);
}

// The C phases of a child whose handlers run.
static void child_phases(forkguard_slot *slot) {
    bool prepared = slot->fork_state == FORK_CLOSED;
    uint64_t now = platform_nanoseconds();
    report_child();
    forkguard_report *report = &report_current;
    if (!prepared) {
        begin_report(registry_next_fork(), FORKGUARD_SEEN_HANDLERS);
        report->no_turn = true;
        text_copy(report->waited_hook, sizeof report->waited_hook, forkguard_running_hook());
    } else {
        report->copy_nanoseconds = now - forking.closed_at;
        report->breaches = gate_breaches();
        report->torn_holders_count = gate_list_breaches(report->torn_holders, FORKGUARD_REPORT_ENTRIES, report->torn_holders_count);
    }
    slot->fork_state = FORK_HOOKS;
    slot->ours = OURS_NOT;
    forking.owed_ordinal = report->ordinal;
    report->generation = generation_known() + 1;
    become_child(slot, prepared, registry_has_first_use() ? OWED_FIRST_USE : OWED_NOTHING);
    report->child_nanoseconds = platform_nanoseconds() - now;
}

static void after_in_child(forkguard_slot *slot) {
    forkguard_report *report = &report_current;
    uint64_t now = platform_nanoseconds();
    foreign_finish_child();
    report_birth(!report->no_turn);
    registry_walk(REGISTRY_CHILD, report->ordinal);
    report->after_nanoseconds = platform_nanoseconds() - now;
    registry_end();
    report_publish(false); // the parent prints
    slot->fork_state = FORK_NONE;
    turn_pass(slot);
}

// A child that was not prepared. Who registers from now on belongs to it, and is not told.
static void owe_everything(forkguard_slot *survivor, enum forkguard_seen seen) {
    forking.owed_seen = seen;
    forking.owed_ordinal = registry_next_fork();
    report_child();
    if (!survivor || survivor->fork_state == FORK_NONE) {
        // Who asks for the report before the hooks could run, inside a section, is not to find the parent's.
        begin_report(forking.owed_ordinal, seen);
        report_current.side = FORKGUARD_CHILD;
        report_current.generation = generation_known() + 1;
        report_publish(false);
    }
    become_child(survivor, false, OWED_ALL);
}

// In the child of a fork(2), which has a table of descriptors of its own: that cannot be told before its handler runs.
static void treat_descriptors(forkguard_slot *survivor) {
    uint64_t now = platform_nanoseconds();
    descriptor_child(generation_known());
    const descriptors *kept = survivor->kept;
    if (survivor->closes) descriptor_close_others(kept->numbers, kept->count);
    survivor->closes = false;
    report_current.child_nanoseconds += platform_nanoseconds() - now;
}

// ---- the handlers ----

// The short way. Where nothing is registered and no other thread has ever taken a lock of ours there is nobody to wait for and nobody to tell: the gate is closed,
// the process copied, the gate opened. It writes nothing but the wiped page, so that a process in which the library only sits forks in nearly the time
// that it would take without. (Docs/decisions/short-way.md)

static FORKGUARD_THREAD_LOCAL int short_way_cancel_state; // beside what the C library keeps it in, on a page that fork(2) writes to anyway

static bool nobody_is_told(void) { return registry_is_empty() && forkguard_descriptor_count() == 0; }

static bool take_short_way(forkguard_slot *slot) {
    bool idle = slot->fork_state == FORK_NONE && slot->held == 0 && process.forker.short_way != slot->serial && forking.owed == OWED_NOTHING;
    if (!idle || !generation_has_page() || !nobody_is_told() || report_is_printed() || !gate_is_alone(slot) || !turn_take_if_free(slot))
        return false;
    if (!gate_close_alone(slot) || !nobody_is_told()) {
        gate_give_up();
        turn_pass(slot);
        return false;
    }
    registry_next_fork();
    process.forker.short_way = slot->serial;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &short_way_cancel_state);
    return true;
}

static void end_short_way(forkguard_slot *slot) {
    int before;
    uint64_t copied = platform_nanoseconds() - process.forker.prepared_at;
    process.forker.short_way = 0;
    gate_give_up();
    report_publish_short(FORKGUARD_PARENT, 0, copied, gate_breaches());
    turn_pass(slot);
    pthread_setcancelstate(short_way_cancel_state, &before);
}

// The child's half: nobody to tell there either. The turn is free on a page of zeros.
static void begin_short_child(forkguard_slot *slot) {
    int32_t parent = generation_process();
    int before;
    gate_child(slot, true, false);
    generation_child(false);
    // Adopted since the parent looked, by somebody's prepare handler say; or tombstones, which are this child's own now.
    if (descriptor_is_used()) treat_descriptors(slot);
    report_publish_short(FORKGUARD_CHILD, parent, 0, 0);
    pthread_setcancelstate(short_way_cancel_state, &before);
}

static __attribute__((noinline)) void prepare_whole(forkguard_slot *slot) {
    hold_off_cancellation(slot);
    gate_closing closing;
    if (slot->fork_state == FORK_HOOKS && slot->ours == OURS_PREPARED && !forkguard_current_hook()) {
        // In none of our hooks: somebody's prepare handler before ours forked, and had what forkguard_fork prepared. This fork, which is forkguard_fork's, is
        // prepared like any other.
        slot->ours = OURS_NOT;
        end_fork(slot, true);
    }
    if (slot->fork_state == FORK_CLOSED && slot->ours == OURS_AWAITED) {
        slot->ours = OURS_PREPARED;
        slot->closes = slot->kept != NULL;
        // forkguard_fork closed the gate. What others' handlers did since may have made a parked thread go in.
        if (gate_breaches() != 0 || registry_locks() != 0) close_gate(slot, &closing);
    } else if (slot->fork_state != FORK_NONE || process.forker.short_way == slot->serial) {
        slot->nested_forks++;
    } else {
        atfork_run_owed_hooks();
        prepare(slot, gate_deadline(), &closing);
        slot->closes = slot->kept != NULL;
    }
}

static __attribute__((noinline)) void end_whole_in_parent(forkguard_slot *slot) {
    if (slot->nested_forks) {
        slot->nested_forks--;
    } else if (slot->fork_state == FORK_NO_TURN) {
        slot->fork_state = FORK_NONE;
    } else if (slot->fork_state == FORK_CLOSED) {
        after_in_parent(slot);
        if (slot->ours == OURS_NOT) end_fork(slot, true);
    }
    allow_cancellation(slot);
}

static void enter_door(forkguard_slot *slot) {
    if (registry_locks() == 0) return;
    door_enter(slot);
    slot->doors++;
}

static void leave_door(forkguard_slot *slot) {
    if (slot->doors == 0) return;
    slot->doors--;
    door_leave(slot);
}

void atfork_prepare(void) {
    int saved = errno;
    forkguard_slot *slot = gate_slot();
    generation_discover();
    gate_adopt(slot);
    if (!take_short_way(slot)) prepare_whole(slot);
    enter_door(slot);
    if (errno != saved) errno = saved;
}

void atfork_parent(void) {
    int saved = errno;
    forkguard_slot *slot = gate_slot();
    leave_door(slot);
    if (process.forker.short_way == slot->serial && slot->nested_forks == 0) end_short_way(slot);
    else end_whole_in_parent(slot);
    if (errno != saved) errno = saved;
}

void atfork_child(void) {
    int saved = errno;
    forkguard_slot *slot = gate_slot();
    if (slot->doors != 0) slot->doors = 0; // door_child has freed it
    // A handler that was registered before ours may have asked already, and so discovered what this one comes to tell.
    bool known = generation_is_known();
    if (slot->nested_forks) {
        if (!known) owe_everything(slot, FORKGUARD_SEEN_NESTED);
        treat_descriptors(slot);
        slot->nested_forks--;
    } else if (!known && slot->fork_state == FORK_NONE) {
        begin_short_child(slot);
    } else if (!known || forking.early) {
        if (!known) child_phases(slot);
        forking.early = false;
        treat_descriptors(slot);
        after_in_child(slot);
    } else {
        // By a thread that such a handler made, which did not know that this is the survivor.
        gate_adopt(slot);
        slot->lender = NULL;
        slot->fork_state = FORK_NONE;
        treat_descriptors(slot);
        atfork_run_owed_hooks();
    }
    if (slot->uncancellable != 0) allow_cancellation(slot); // not held off on the short way
    errno = saved;
}

void atfork_discovered(void) {
    // A thread that has a slot here had it before the fork: it is the survivor (gate.c, make_slot).
    forkguard_slot *survivor = forkguard_thread_slot;
    if (survivor && survivor->fork_state == FORK_CLOSED) {
        // In somebody's child handler before ours, which does the rest.
        forking.early = true;
        child_phases(survivor);
    } else {
        owe_everything(survivor, FORKGUARD_SEEN_LATE);
    }
}

void atfork_run_owed_hooks(void) {
    uint32_t owed = __atomic_load_n(&forking.owed, __ATOMIC_ACQUIRE);
    if (FORKGUARD_LIKELY(owed == OWED_NOTHING)) return;
    forkguard_slot *slot = forkguard_thread_slot;
    // Inside a section or a hook: later.
    if (slot && (slot->held != 0 || slot->fork_state != FORK_NONE)) return;
    while (owed == OWED_RUNNING) {
        if (forking.owed_runner == (uint32_t)platform_thread_id()) return; // a hook that asks
        platform_wait(&forking.owed, OWED_RUNNING, PLATFORM_FOREVER);
        owed = __atomic_load_n(&forking.owed, __ATOMIC_ACQUIRE);
    }
    if (owed == OWED_NOTHING) return;
    if (!__atomic_compare_exchange_n(&forking.owed, &owed, OWED_RUNNING, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        atfork_run_owed_hooks();
        return;
    }
    int saved = errno;
    forking.owed_runner = (uint32_t)platform_thread_id();
    slot = gate_slot();
    hold_off_cancellation(slot);
    // Its own fork cannot be under way, another thread's can: hooks of two forks do not interleave. Where that thread's do not end these go ahead, and leave
    // the report to it.
    slot->fork_state = FORK_TURN;
    bool mine = turn_take(slot, gate_deadline());
    slot->fork_state = FORK_HOOKS;
    uint64_t ordinal = forking.owed_ordinal, now = platform_nanoseconds();
    if (owed == OWED_ALL) {
        registry_begin();
        if (mine) begin_report(ordinal, forking.owed_seen);
        foreign_finish_child();
        if (mine) report_birth(false);
    } else if (mine) {
        report_resume();
    }
    registry_walk(owed == OWED_ALL ? REGISTRY_CHILD_ALL : REGISTRY_CHILD_FIRST_USE, ordinal);
    registry_end();
    if (mine) report_current.after_nanoseconds += platform_nanoseconds() - now;
    // A hook that called a raw fork() has made a child in which everything is owed anew.
    uint32_t running = OWED_RUNNING;
    if (__atomic_compare_exchange_n(&forking.owed, &running, OWED_NOTHING, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        gate_hooks_done();
        generation_publish();
    }
    platform_wake(&forking.owed, INT_MAX);
    if (mine) {
        report_current.generation = generation_known();
        report_publish(owed == OWED_ALL);
    }
    slot->fork_state = FORK_NONE;
    if (mine) turn_pass(slot);
    allow_cancellation(slot);
    atfork_run_owed_hooks();
    errno = saved;
}

// ---- forkguard_fork ----

// Not fflush(NULL): it waits for every stream, also for one that another thread is reading from, standard input at a prompt say, for ever.
// A stream whose holder is in the middle of a print is waited for until the deadline.
static void flush_standard_output(uint64_t deadline) {
    FILE *streams[] = {stdout, stderr};
    for (unsigned i = 0; i < 2; i++) {
        bool locked;
        while (!(locked = ftrylockfile(streams[i]) == 0) && platform_nanoseconds() < deadline) {
            platform_sleep(MILLISECOND);
        }
        if (!locked) continue;
        fflush(streams[i]);
        funlockfile(streams[i]);
    }
}

static void purge_standard_output(void) {
#if defined(__linux__)
    __fpurge(stdout);
    __fpurge(stderr);
#else
    fpurge(stdout);
    fpurge(stderr);
#endif
}

static pid_t refuse(int error) {
    errno = error;
    return -1;
}

// Prepares, or refuses with an errno and leaves everything as it was.
static int prepare_or_refuse(forkguard_slot *slot, uint32_t flags) {
    uint64_t deadline = gate_deadline();
    for (;;) {
        if (!(flags & FORKGUARD_FORK_NO_FLUSH)) flush_standard_output(deadline);
        gate_closing closing;
        if (prepare(slot, deadline, &closing) != 0) {
            slot->fork_state = FORK_NONE;
            return ETIMEDOUT;
        }
        uint32_t own = 0;
        if (!(flags & FORKGUARD_FORK_HOLDING_LOCKS))
            own = foreign_list_own(report_current.torn_holders, FORKGUARD_REPORT_ENTRIES, &report_current.torn_holders_count);
        if (own == 0 && closing.late == 0 && closing.turn == 0 && closing.chain == 0) return 0;
        // A thread that waits for its turn while it is inside goes first, and is out when its turn is over; then we try again. Not so one that is
        // blocked on a lock of this thread's; nor one that let others go first itself and waits again, or that lent us its turn: each would wait for the other.
        bool again = own == 0 && closing.late == 0 && closing.turn != 0 && closing.unyielding == 0 && !slot->lender
            && platform_nanoseconds() < deadline;
        bool blocked = closing.chain != 0 || closing.unyielding != 0 || slot->lender;
        int error = again ? EAGAIN : own != 0 ? EBUSY : closing.late == 0 && blocked ? EPERM : ETIMEDOUT;
        // Everything is undone; hooks see a fork that failed.
        report_current.error = error;
        slot->yields = again;
        after_in_parent(slot);
        end_fork(slot, !again);
        if (!again) return error;
    }
}

static pid_t fork_closing(uint32_t flags, const descriptors *closes);

pid_t forkguard_fork(uint32_t flags) {
    FOLLOW(fork, flags);
    return fork_closing(flags, NULL);
}

static int compare_numbers(const void *left, const void *right) {
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}

pid_t forkguard_fork_closing(uint32_t flags, const int *kept, size_t count) {
    FOLLOW(fork_closing, flags, kept, count);
    descriptors *closes = malloc(sizeof *closes + count * sizeof *kept);
    if (!closes) return -1;
    closes->count = count;
    if (count != 0) memcpy(closes->numbers, kept, count * sizeof *kept);
    qsort(closes->numbers, count, sizeof *kept, compare_numbers);
    pid_t child = fork_closing(flags, closes);
    int saved = errno;
    free(closes);
    errno = saved;
    return child;
}

static pid_t fork_closing(uint32_t flags, const descriptors *closes) {
    forkguard_generation(); // starts the library; a child that nobody told finds out first
    forkguard_slot *slot = gate_slot();
    gate_adopt(slot);
    if (slot->fork_state != FORK_NONE) return refuse(EDEADLK);
    if (slot->held != 0 && !(flags & FORKGUARD_FORK_HOLDING_LOCKS)) return refuse(EBUSY);
    int saved = errno;
    hold_off_cancellation(slot);
    int error = prepare_or_refuse(slot, flags);
    slot->yields = 0;
    if (error) {
        allow_cancellation(slot);
        return refuse(error);
    }
    foreign_release();
    slot->ours = OURS_AWAITED;
    slot->kept = closes;
    if (!forking.handlers) atfork_prepare();
    pid_t child = fork();
    error = child < 0 ? errno : 0;
    if (child == 0) {
        if (!forking.handlers) atfork_child();
        if (!(flags & FORKGUARD_FORK_NO_FLUSH)) purge_standard_output();
    } else {
        if (!forking.handlers) atfork_parent();
        if (slot->ours != OURS_NOT) {
            slot->ours = OURS_NOT;
            report_current.other_pid = child > 0 ? child : 0;
            report_current.error = error;
            end_fork(slot, true);
        }
    }
    slot->kept = NULL;
    slot->closes = false;
    allow_cancellation(slot);
    errno = error ? error : saved;
    return child;
}

// ---- start ----

enum { STARTED_NOT = 0, STARTED = 1 }; // or the id of the process that is starting, shifted by one

static uint32_t started;

static void end_start(int saved_errno) {
    errno = saved_errno;
    __atomic_store_n(&started, STARTED, __ATOMIC_RELEASE);
    platform_wake(&started, INT_MAX);
}

void forkguard_start(void) {
    if (FORKGUARD_LIKELY(__atomic_load_n(&started, __ATOMIC_ACQUIRE) == STARTED)) return;
    uint32_t underway = (uint32_t)getpid() << 1;
    for (;;) {
        uint32_t seen = __atomic_load_n(&started, __ATOMIC_ACQUIRE);
        if (seen == STARTED) return;
        if (seen == underway) {
            platform_wait(&started, seen, PLATFORM_FOREVER);
        } else if (__atomic_compare_exchange_n(&started, &seen, underway, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            break; // nobody began, or a thread of the parent that is gone
        }
    }
    int saved = errno;
    if (!copy_settle()) {
        end_start(saved);
        return;
    }
    forking.handlers = platform_atfork(atfork_prepare, atfork_parent, atfork_child) == 0;
    if (!forking.handlers)
        report_say((const char *const[]){"pthread_atfork(3) failed: only forkguard_fork prepares a fork, others are discovered late", NULL});
    report_start();
    generation_start(forking.handlers);
    if (!generation_has_page())
        report_say((const char *const[]){
            "this kernel gives children no wiped page (madvise(2) MADV_WIPEONFORK was refused): every question for the generation asks for the "
            "process id", NULL,
        });
    gate_start();
    end_start(saved);
}

// The linker drops a constructor from a static library unless something refers to its object; everything that can be called here refers to
// forkguard_start, so where there is nothing to guard there is no constructor either.
#ifndef FORKGUARD_PRELOAD // the preload decides first whether to start
__attribute__((constructor)) static void start_before_main(void) {
    forkguard_start();
    // Here, where the dynamic linker's lock is this thread's already if it is anybody's: dlopen's. One that starts the library at its first use would wait for that lock, and dlopen's
    // thread, in this constructor, for the start.
    platform_pin((const void *)(uintptr_t)forkguard_start);
}
#endif
