// Forking: the one pthread_atfork triple, and the order of the phases.
//
//     prepare   take the turn, users' prepare hooks (newest first), close the gate
//     ---- fork ----
//     child     C phases: registry, report, gate, generation; then users' child hooks (oldest first), the turn is free
//     parent    open the gate, users' parent hooks (oldest first), pass the turn on; the same when the fork failed
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
// if a parked thread had to be let in meanwhile (R15).

#include "atfork.h"

#include "generation.h"
#include "lock.h"
#include "platform/platform.h"
#include "registry.h"
#include "report.h"

#include "gate.h"

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
#define LONGEST_DEADLINE_MS 3600000u

// How a thread's own fork goes: its slot's `fork_state`.
enum fork_state {
    FORK_NONE = 0,
    FORK_TURN,      // waits for its turn
    FORK_HOOKS,     // in hooks: before the gate is closed, or after it is open again
    FORK_CLOSING,   // closes the gate
    FORK_CLOSED,    // the gate is closed, and the fork comes
    FORK_NO_TURN,   // it did not get its turn by the deadline, and forks unprepared
};

static struct {
    plain_mutex guard;
    uint64_t owner; // serial of the thread whose turn it is; 0: nobody's
    uint32_t event; // counts changes of the owner
    uint64_t tickets;
} turn;

static struct {
    uint64_t ordinal; // of the fork that was begun last; registrations compare with it
    uint64_t deadline;
    uint64_t closed_at;
    bool by_us;       // forkguard_fork prepared it, and finishes the report
    uint32_t deadline_ms;
    uint32_t handlers; // the atfork triple is installed
    uint32_t owed;     // enum owed
    uint32_t owed_runner; // thread that runs what is owed
} forking = {.ordinal = 1, .deadline_ms = FORKGUARD_DEFAULT_DEADLINE_MS};

enum owed { OWED_NOTHING = 0, OWED_FIRST_USE, OWED_ALL, OWED_RUNNING };

uint64_t atfork_ordinal(void) { return __atomic_load_n(&forking.ordinal, __ATOMIC_RELAXED); }

bool atfork_in_hooks(const forkguard_slot *slot) { return slot->fork_state == FORK_HOOKS; }
bool atfork_is_between(const forkguard_slot *slot) { return slot->fork_state == FORK_CLOSED; }

// ---- the deadline ----

uint32_t forkguard_deadline_ms(void) { return __atomic_load_n(&forking.deadline_ms, __ATOMIC_RELAXED); }

int forkguard_set_deadline_ms(uint32_t milliseconds) {
    if (milliseconds == 0 || milliseconds > LONGEST_DEADLINE_MS) return EINVAL;
    __atomic_store_n(&forking.deadline_ms, milliseconds, __ATOMIC_RELAXED);
    return 0;
}

static void read_deadline(void) {
    const char *value = getenv("FORKGUARD_DEADLINE_MS");
    if (!value || !*value) return;
    char *end;
    errno = 0;
    unsigned long long milliseconds = strtoull(value, &end, 10);
    bool number = value[0] >= '0' && value[0] <= '9' && *end == 0 && errno == 0;
    if (!number || milliseconds > UINT32_MAX || forkguard_set_deadline_ms((uint32_t)milliseconds) != 0)
        report_say((const char *const[]){
            "FORKGUARD_DEADLINE_MS is '", value, "', which is not a number of milliseconds from 1 to 3600000; the deadline stays 5000", NULL,
        });
}

// ---- the turn ----

static void own_turn(uint64_t serial) {
    __atomic_store_n(&turn.owner, serial, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&turn.event, 1, __ATOMIC_SEQ_CST);
    platform_wake(&turn.event, INT_MAX);
}

static bool has_turn(const forkguard_slot *slot) { return __atomic_load_n(&turn.owner, __ATOMIC_SEQ_CST) == slot->serial; }

static void set_waiting(forkguard_slot *slot, bool waits) {
    __atomic_store_n(&slot->waits_for_turn, waits, __ATOMIC_SEQ_CST);
    // Who waits for its turn is quiet (R11), so somebody else's fork may go on.
    if (waits && __atomic_load_n(&forkguard_page.word.gate, __ATOMIC_SEQ_CST) == FORKGUARD_GATE_CLOSED) gate_wake_forker();
}

// Sleeps until this thread has the turn. False at the deadline (PLATFORM_FOREVER: none).
static bool await_turn(const forkguard_slot *slot, int64_t deadline) {
    for (;;) {
        uint32_t event = __atomic_load_n(&turn.event, __ATOMIC_SEQ_CST);
        if (has_turn(slot)) return true;
        int64_t left = PLATFORM_FOREVER;
        if (deadline != PLATFORM_FOREVER) {
            left = deadline - (int64_t)platform_nanoseconds();
            if (left <= 0) return false;
        }
        platform_wait(&turn.event, event, left);
    }
}

static bool take_turn(forkguard_slot *slot, uint64_t deadline) {
    plain_lock(&turn.guard);
    bool mine = turn.owner == 0;
    if (mine) {
        own_turn(slot->serial);
    } else {
        slot->ticket = ++turn.tickets;
        set_waiting(slot, true);
    }
    plain_unlock(&turn.guard);
    if (mine) return true;
    mine = await_turn(slot, (int64_t)deadline);
    plain_lock(&turn.guard);
    mine = mine || has_turn(slot); // it may have come in the last moment
    set_waiting(slot, false);
    plain_unlock(&turn.guard);
    return mine;
}

static bool prefer(forkguard_slot *slot, void *context) {
    forkguard_slot **best = context;
    if (!slot->waits_for_turn || slot->fork_state != FORK_TURN) return true;
    bool inside = __atomic_load_n(&slot->held, __ATOMIC_SEQ_CST) != 0;
    bool best_inside = *best && __atomic_load_n(&(*best)->held, __ATOMIC_SEQ_CST) != 0;
    if (!*best || (inside && !best_inside) || (inside == best_inside && slot->ticket < (*best)->ticket)) *best = slot;
    return true;
}

static void pass_turn(forkguard_slot *slot) {
    plain_lock(&turn.guard);
    forkguard_slot *next = slot->lender;
    slot->lender = NULL;
    if (!next) gate_each(prefer, &next);
    own_turn(next ? next->serial : 0);
    plain_unlock(&turn.guard);
}

bool atfork_lend_turn(forkguard_slot *slot, forkguard_slot *borrower) {
    plain_lock(&turn.guard);
    // Not to one that has itself lent its turn: it is in the middle of its hooks and cannot fork first.
    bool lends = borrower->waits_for_turn && borrower->fork_state == FORK_TURN && has_turn(slot);
    forkguard_report mine = report_current;
    if (lends) {
        borrower->lender = slot;
        set_waiting(slot, true);
        own_turn(borrower->serial);
    }
    plain_unlock(&turn.guard);
    if (!lends) return false;
    await_turn(slot, PLATFORM_FOREVER);
    set_waiting(slot, false);
    report_current = mine;
    return true;
}

// ---- prepare ----

static uint64_t begin_fork(uint32_t seen) {
    memset(&report_current, 0, sizeof report_current);
    report_current.ordinal = __atomic_add_fetch(&forking.ordinal, 1, __ATOMIC_RELAXED);
    report_current.seen = seen;
    return report_current.ordinal;
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
    report->timed_out |= closing->late != 0;
    if (closing->blocker.thread_id) report->blocker = closing->blocker;
    report->torn_holders_count = closing->holders_count;
    memcpy(report->torn_holders, closing->holders, sizeof closing->holders);
    forking.closed_at = platform_nanoseconds();
    report->gate_nanoseconds += forking.closed_at - before;
    gate_prepared();
}

// Up to the closed gate. 0, or ETIMEDOUT when the turn was not to be had.
static int prepare(forkguard_slot *slot, uint64_t deadline, gate_closing *closing) {
    uint64_t began = platform_nanoseconds();
    slot->fork_state = FORK_TURN;
    if (!take_turn(slot, deadline)) {
        slot->fork_state = FORK_NO_TURN;
        return ETIMEDOUT;
    }
    slot->fork_state = FORK_HOOKS;
    uint64_t ordinal = begin_fork(FORKGUARD_SEEN_HANDLERS);
    uint64_t before = platform_nanoseconds();
    report_current.turn_nanoseconds = before - began;
    registry_begin();
    registry_walk(REGISTRY_PREPARE, ordinal);
    forking.deadline = deadline;
    forking.by_us = false;
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
    pass_turn(slot);
    atfork_run_owed_hooks();
}

static void after_in_parent(forkguard_slot *slot) {
    uint64_t ordinal = report_current.ordinal, now = platform_nanoseconds();
    report_current.side = FORKGUARD_PARENT;
    report_current.copy_nanoseconds = now - forking.closed_at;
    report_current.torn_holders_count =
        gate_list_breaches(report_current.torn_holders, FORKGUARD_REPORT_ENTRIES, report_current.torn_holders_count);
    slot->fork_state = FORK_HOOKS;
    gate_open();
    report_current.generation = forkguard_generation();
    registry_walk(REGISTRY_PARENT, ordinal);
    report_current.after_nanoseconds = platform_nanoseconds() - now;
}

// The C phases of every child: nothing here allocates, takes a foreign lock or logs.
static void become_child(forkguard_slot *survivor, bool prepared, enum owed owed) {
    // What other threads of the parent were doing in our own few words.
    turn.guard.word = 0;
    registry_child(survivor && survivor->fork_state == FORK_HOOKS);
    report_child();
    if (survivor) {
        survivor->lender = NULL;
        survivor->waits_for_turn = 0;
    }
    turn.owner = survivor && survivor->fork_state != FORK_NONE ? survivor->serial : 0;
    forking.owed = owed;
    gate_child(survivor, prepared, owed != OWED_NOTHING);
    generation_child(owed != OWED_NOTHING);
}

static void after_in_child(forkguard_slot *slot) {
    bool prepared = slot->fork_state == FORK_CLOSED;
    uint64_t now = platform_nanoseconds();
    if (!prepared) begin_fork(FORKGUARD_SEEN_HANDLERS);
    forkguard_report *report = &report_current;
    uint64_t ordinal = report->ordinal;
    report->side = FORKGUARD_CHILD;
    report->no_turn = !prepared;
    report->other_pid = getppid();
    if (prepared) {
        report->copy_nanoseconds = now - forking.closed_at;
        report->torn_holders_count = gate_list_breaches(report->torn_holders, FORKGUARD_REPORT_ENTRIES, report->torn_holders_count);
    }
    slot->fork_state = FORK_HOOKS;
    become_child(slot, prepared, registry_has_first_use() ? OWED_FIRST_USE : OWED_NOTHING);
    report->generation = forkguard_generation_slow();
    // ---- the C phases end here ----
    registry_walk(REGISTRY_CHILD, ordinal);
    report->after_nanoseconds = platform_nanoseconds() - now;
    registry_end();
    report_publish(false); // the parent prints
    slot->fork_state = FORK_NONE;
    pass_turn(slot);
}

// ---- the handlers ----

static void handle_prepare(void) {
    int saved = errno;
    forkguard_slot *slot = gate_slot();
    gate_closing closing;
    generation_discover();
    gate_adopt(slot);
    if (slot->fork_state == FORK_CLOSED) {
        // forkguard_fork closed the gate. What others' handlers did since may have made a parked thread go in.
        if (gate_breaches() != 0) close_gate(slot, &closing);
    } else if (slot->fork_state != FORK_NONE) {
        slot->nested_forks++;
    } else {
        atfork_run_owed_hooks();
        prepare(slot, platform_nanoseconds() + forkguard_deadline_ms() * MILLISECOND, &closing);
    }
    errno = saved;
}

static void handle_parent(void) {
    int saved = errno;
    forkguard_slot *slot = gate_slot();
    if (slot->nested_forks) {
        slot->nested_forks--;
    } else if (slot->fork_state == FORK_NO_TURN) {
        slot->fork_state = FORK_NONE;
    } else if (slot->fork_state == FORK_CLOSED) {
        bool finish = !forking.by_us;
        after_in_parent(slot);
        if (finish) end_fork(slot, true);
    }
    errno = saved;
}

static void handle_child(void) {
    int saved = errno;
    forkguard_slot *slot = gate_slot();
    if (slot->nested_forks) {
        slot->nested_forks--;
        report_current.seen = FORKGUARD_SEEN_NESTED;
        become_child(slot, false, OWED_ALL);
    } else {
        after_in_child(slot);
    }
    errno = saved;
}

void atfork_discovered(void) {
    // A thread that has a slot here had it before the fork: it is the survivor (gate.c, make_slot).
    forkguard_slot *survivor = forkguard_thread_slot;
    become_child(survivor, false, OWED_ALL);
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
    forking.owed_runner = (uint32_t)platform_thread_id();
    slot = gate_slot();
    // Its own fork cannot be under way, another thread's can: hooks of two forks do not interleave.
    slot->fork_state = FORK_TURN;
    bool mine = take_turn(slot, platform_nanoseconds() + forkguard_deadline_ms() * MILLISECOND);
    slot->fork_state = FORK_HOOKS;
    uint64_t ordinal = begin_fork(FORKGUARD_SEEN_LATE), now = platform_nanoseconds();
    report_current.side = FORKGUARD_CHILD;
    report_current.other_pid = getppid();
    registry_begin();
    registry_walk(owed == OWED_ALL ? REGISTRY_CHILD_ALL : REGISTRY_CHILD_FIRST_USE, ordinal);
    registry_end();
    report_current.after_nanoseconds = platform_nanoseconds() - now;
    __atomic_store_n(&forking.owed, OWED_NOTHING, __ATOMIC_RELEASE);
    gate_hooks_done();
    generation_publish();
    platform_wake(&forking.owed, INT_MAX);
    if (owed == OWED_ALL) {
        report_current.generation = forkguard_generation();
        report_publish(true);
    }
    slot->fork_state = FORK_NONE;
    if (mine) pass_turn(slot);
}

// ---- forkguard_fork ----

// Not fflush(NULL): it waits for every stream, also for one that another thread is reading from, standard input at a prompt say, for ever.
// A stream whose holder is in the middle of a print is waited for until the deadline.
static void flush_standard_output(uint64_t deadline) {
    FILE *streams[] = {stdout, stderr};
    for (unsigned i = 0; i < 2; i++) {
        bool locked;
        while (!(locked = ftrylockfile(streams[i]) == 0) && platform_nanoseconds() < deadline) {
            uint32_t never = 0;
            platform_wait(&never, 0, (int64_t)MILLISECOND);
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

pid_t forkguard_fork(uint32_t flags) {
    forkguard_generation(); // starts the library; a child that nobody told finds out first
    forkguard_slot *slot = gate_slot();
    gate_adopt(slot);
    if (slot->fork_state != FORK_NONE) return refuse(EDEADLK);
    if (slot->held != 0 && !(flags & FORKGUARD_FORK_HOLDING_LOCKS)) return refuse(EBUSY);
    uint64_t deadline = platform_nanoseconds() + forkguard_deadline_ms() * MILLISECOND;
    for (;;) {
        if (!(flags & FORKGUARD_FORK_NO_FLUSH)) flush_standard_output(deadline);
        gate_closing closing;
        if (prepare(slot, deadline, &closing) != 0) {
            slot->fork_state = FORK_NONE;
            return refuse(ETIMEDOUT);
        }
        if (closing.late == 0 && closing.turn == 0 && closing.chain == 0) break;
        // A thread that waits for its turn while it is inside goes first, and is out when its turn is over; then we try again. One that
        // is blocked on a lock of this thread's would still be.
        bool again = closing.late == 0 && closing.turn != 0 && platform_nanoseconds() < deadline;
        int error = again ? EAGAIN : closing.chain != 0 && closing.turn == 0 ? EPERM : ETIMEDOUT;
        // Everything is undone; hooks see a fork that failed.
        report_current.error = error;
        after_in_parent(slot);
        end_fork(slot, !again);
        if (!again) return refuse(error);
    }
    forking.by_us = true;
    if (!forking.handlers) handle_prepare();
    pid_t child = fork();
    int error = child < 0 ? errno : 0;
    if (child == 0) {
        if (!forking.handlers) handle_child();
        if (!(flags & FORKGUARD_FORK_NO_FLUSH)) purge_standard_output();
        return 0;
    }
    if (!forking.handlers) handle_parent();
    report_current.other_pid = child > 0 ? child : 0;
    report_current.error = error;
    end_fork(slot, true);
    errno = error;
    return child;
}

// ---- start ----

enum { STARTED_NOT = 0, STARTED = 1 }; // or the id of the process that is starting, shifted by one

static uint32_t started;

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
    forking.handlers = pthread_atfork(handle_prepare, handle_parent, handle_child) == 0;
    if (!forking.handlers)
        report_say((const char *const[]){"pthread_atfork(3) failed: only forkguard_fork prepares a fork, others are discovered late", NULL});
    report_start();
    read_deadline();
    platform_pin((const void *)(uintptr_t)forkguard_start);
    generation_start(forking.handlers);
    if (!generation_has_page())
        report_say((const char *const[]){
            "this kernel gives children no wiped page (madvise(2) MADV_WIPEONFORK was refused): every question for the generation asks for the "
            "process id", NULL,
        });
    gate_start();
    errno = saved;
    __atomic_store_n(&started, STARTED, __ATOMIC_RELEASE);
    platform_wake(&started, INT_MAX);
}

// The linker drops a constructor from a static library unless something refers to its object; everything that can be called here refers to
// forkguard_start, so where there is nothing to guard there is no constructor either.
__attribute__((constructor)) static void start_before_main(void) { forkguard_start(); }
