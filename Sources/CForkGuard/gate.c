// The gate: no thread is inside a gated section while a fork copies the process.
//
// Why not take every lock before the fork, as the textbooks say? Because the application takes them in its own orders, and any order of ours
// deadlocks with one of those; because it costs a walk over all locks; and because it writes to each lock's page, which parent and
// child then both copy. Instead every thread counts itself into its slot before it touches a lock. The forker closes the gate, after which
// nobody enters who is not inside already, and waits until all who are inside have left. No lock was touched, and nobody holds one.
//
// The rules are numbered in Model/rules.md, where a model checks them; R-numbers below refer to that list. What makes it sound:
//
// Entering. A thread stores held + 1 (R1), then loads the gate's word (R2). The forker stores CLOSED, then loads every `held`. This is Dekker's
// pattern: each writes its own word and reads the other's, and at least one of the two must see the other. On every processor a
// store may be delayed past a later load, so both sides need a full fence between the two. The thread's would cost as much as the lock
// itself; so the forker executes it for all of them, by membarrier(2), which returns when each running thread of the process has passed a full
// barrier (R10). A thread whose load came before the barrier saw OPEN, and its store is visible to the scan that follows. A thread whose load
// comes after it sees CLOSED. Where there is no membarrier the word says FENCED instead of OPEN, which sends everybody the slow way, with a fence.
//
// Waiting. The scan reads slot by slot. While the gate stays closed a quiet thread stays quiet: it can only park (R3). So a scan may take its
// time, and slots found quiet need not be looked at again, until the gate is opened for a window: then all is void (R13). Who is not quiet
// wakes the forker when it leaves, parks, blocks, or waits for its turn (R8), having changed its slot first; the forker reads the event's
// count before it scans and sleeps only if it is unchanged.
//
// Blocked threads. A thread that sleeps for a lock has counted that attempt out, so if it holds nothing else it is quiet. If it does hold
// something, it is quiet only if it cannot run before the fork is over: it waits for the forker, or for somebody who waits for his
// turn to fork, maybe through others. That walk must not be fooled by movement. It notes each slot's sequence number and is done twice: who was stuck
// in the first pass could not have let go of anything since, so what the second pass confirms was true all the time in between (R11, R12).
// Notes point to locks, and a lock may be freed as soon as nobody waits for it; so they are read, and cleared, under a pin (R6).
//
// The child needs none of this: everything with a serial below its horizon is gone, but for the survivor (R16 to R18).

#include "gate.h"

#include "copy.h"

#include "atfork.h"
#include "foreign.h"
#include "generation.h"
#include "kept.h"
#include "mutex.h"
#include "platform/platform.h"
#include "process.h"
#include "report.h"
#include "support.h"
#include "trap.h"
#include "turn.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "forkguard/atfork.h"
#include "forkguard/section.h"

#define MILLISECOND UINT64_C(1000000)

#define LONGEST_DEADLINE_MS 3600000u

// A parked thread's patience after the end of prepare (R15). A fork of a small process is over in a millisecond; a large one's copy takes longer,
// but then the forker is seen running.
#define PATIENCE (100 * MILLISECOND)

// How often a parked thread looks again once somebody has lost patience in this fork. What the fork waits for may pass from one thread that parks to
// the next, and a hundred milliseconds for each add up: seen, three threads that print under flockfile while a fourth flushes, 2.8 s.
#define IMPATIENCE (1 * MILLISECOND)

// How long the forker waits without progress before it opens a window, and how long the first window is (R13). Both double each time: a section
// that waits for a parked thread needs an open gate, a section that is merely long needs a closed one, and we cannot tell which.
#define STILLNESS (10 * MILLISECOND)
#define WINDOW (1 * MILLISECOND)

// Who holds a fork up for less than this is not worth a name.
#define WORTH_NAMING (1 * MILLISECOND)

// How long the gate is open between two attempts to take the foreign locks: at first, and at most (R13).
#define FIRST_FOREIGN_WINDOW (MILLISECOND / 4)
#define LONGEST_FOREIGN_WINDOW (16 * MILLISECOND)

// A deadline that is over before it began, or soon after a window, still leaves time for one honest scan: who is not stuck leaves within it.
#define LEAST_TIME (10 * MILLISECOND)

FORKGUARD_THREAD_LOCAL forkguard_slot *forkguard_thread_slot FORKGUARD_TLS_MODEL;

// A slot that somebody is filling in.
#define SERIAL_RESERVED UINT64_MAX

#define SLOTS_IN_CHUNK 64

typedef struct chunk {
    struct chunk *next;
    forkguard_slot slots[SLOTS_IN_CHUNK];
} chunk;

// The first chunk is there without asking for memory. Chunks are pushed and never removed, so a walk needs no lock.
static chunk first_chunk;

static struct {
    chunk *chunks;
    uint64_t next_serial;
    uint64_t horizon;       // R16
    uint64_t survivor;      // R16; 0: not known
    uint64_t reusable_below; // slots of vanished threads below this serial may be used again
    uint32_t open_word;     // FORKGUARD_GATE_OPEN, or FENCED where there is no membarrier
    uint32_t breaches;
    struct {
        forkguard_slot *slot;
        forkguard_holder holder;
    } breached[FORKGUARD_REPORT_ENTRIES]; // the first threads that did, each once
    struct {
        uint64_t serial; // of the thread that they were
        uint32_t count;
        int32_t ids[FORKGUARD_SURVIVOR_IDS];
    } before;               // the kernel ids that the survivor had in its ancestors
    uint32_t owed;          // child hooks are to be run
    pthread_key_t key;
    bool has_key;
    uint32_t deadline_ms;
} gate = {
    .chunks = &first_chunk, .next_serial = 1, .open_word = FORKGUARD_GATE_FENCED, .deadline_ms = FORKGUARD_DEFAULT_DEADLINE_MS,
};

// What an open gate says. FENCED sends everybody the slow way: where there is no membarrier; where nothing but a look at the process id tells a child that
// it is one; and while a child does not know which thread survived: that thread runs with a stale serial until it is adopted there, and what it takes
// meanwhile would look like a vanished thread's.
static uint32_t open_word(void) {
    return generation_has_page() && (gate.horizon == 0 || gate.survivor != 0) ? gate.open_word : (uint32_t)FORKGUARD_GATE_FENCED;
}

static uint32_t load_gate(void) { return __atomic_load_n(&forkguard_page.word.gate, __ATOMIC_ACQUIRE); }
static void store_gate(uint32_t word) { __atomic_store_n(&forkguard_page.word.gate, word, __ATOMIC_SEQ_CST); }

// ---- the deadline ----

uint32_t forkguard_deadline_ms(void) {
    FOLLOW(deadline_ms);
    return __atomic_load_n(&gate.deadline_ms, __ATOMIC_RELAXED);
}

uint64_t gate_deadline(void) { return platform_nanoseconds() + forkguard_deadline_ms() * MILLISECOND; }

int forkguard_set_deadline_ms(uint32_t milliseconds) {
    FOLLOW(set_deadline_ms, milliseconds);
    if (milliseconds == 0 || milliseconds > LONGEST_DEADLINE_MS) return EINVAL;
    __atomic_store_n(&gate.deadline_ms, milliseconds, __ATOMIC_RELAXED);
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

// ---- slots ----

static void end_thread(void *value) {
    forkguard_slot *slot = value;
    // A destructor that runs after this one and takes a lock gets a new slot. A thread that ends inside leaves its words behind: serials are
    // not reused, so in later children they are stale (R19).
    forkguard_thread_slot = NULL;
    __atomic_store_n(&slot->held, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&slot->serial, 0, __ATOMIC_SEQ_CST);
    if (load_gate() == FORKGUARD_GATE_CLOSED) gate_wake_forker();
}

void gate_start(void) {
    read_deadline();
    gate.has_key = pthread_key_create(&gate.key, end_thread) == 0;
    if (!gate.has_key) report_say((const char *const[]){"no pthread key is left: the slots of threads that end are not used again", NULL});
    gate.open_word = platform_barrier_start() ? FORKGUARD_GATE_OPEN : FORKGUARD_GATE_FENCED;
    if (gate.open_word == FORKGUARD_GATE_FENCED)
        report_say((const char *const[]){"membarrier(2) is refused here: every lock takes a full memory fence and a slower path", NULL});
    store_gate(open_word());
}

bool gate_serial_is_stale(uint64_t serial) { return serial < gate.horizon && serial != gate.survivor; }

static bool is_live(uint64_t serial) { return serial != 0 && serial != SERIAL_RESERVED && !gate_serial_is_stale(serial); }

static bool is_reusable(const forkguard_slot *slot, uint64_t serial) {
    return serial == 0 || (serial < gate.reusable_below && gate_serial_is_stale(serial) && slot->mark == FORKGUARD_MARK_NONE); // R18
}

static forkguard_slot *reserve_slot_in(chunk *chunk) {
    for (unsigned i = 0; i < SLOTS_IN_CHUNK; i++) {
        forkguard_slot *slot = &chunk->slots[i];
        uint64_t serial = __atomic_load_n(&slot->serial, __ATOMIC_ACQUIRE);
        if (is_reusable(slot, serial)
            && __atomic_compare_exchange_n(&slot->serial, &serial, SERIAL_RESERVED, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return slot;
    }
    return NULL;
}

static forkguard_slot *reserve_slot(void) {
    for (;;) {
        chunk *newest = __atomic_load_n(&gate.chunks, __ATOMIC_ACQUIRE);
        for (chunk *chunk = newest; chunk; chunk = chunk->next) {
            forkguard_slot *slot = reserve_slot_in(chunk);
            if (slot) return slot;
        }
        int saved = errno;
        chunk *fresh = mmap(NULL, sizeof *fresh, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        errno = saved;
        if (fresh == MAP_FAILED)
            forkguard_trap_misuse(
                NULL, "there is no memory for the state of one more thread (mmap(2) was refused)", "raise the memory limit of the process"
            );
        fresh->next = newest;
        if (!__atomic_compare_exchange_n(&gate.chunks, &newest, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            munmap(fresh, sizeof *fresh);
    }
}

static forkguard_slot *make_slot(void) {
    // Also what keeps a late discovery sound: whoever runs with a serial below the horizon had it before the fork, so it is the survivor.
    forkguard_start();
    generation_discover();
    forkguard_slot *slot = reserve_slot();
    uint64_t serial = __atomic_fetch_add(&gate.next_serial, 1, __ATOMIC_RELAXED);
    slot->word = serial << FORKGUARD_WORD_SHIFT;
    slot->held = slot->keeps = slot->lost = 0;
    slot->thread_id = platform_thread_id();
    slot->mutex_id = mutex_thread_id();
    platform_own_name(slot->thread_name);
    slot->blocked_on = NULL;
    slot->sleeps_for = NULL;
    slot->pinned = 0;
    slot->waits_for_turn = 0;
    slot->mark = FORKGUARD_MARK_NONE;
    slot->lender = NULL;
    slot->ours = slot->yields = slot->walk_stuck = slot->walk_waited = slot->walk_inside = slot->walk_kept = slot->uncancellable = 0;
    slot->wakes_after = NULL;
    slot->fork_state = 0;
    slot->nested_forks = slot->doors = 0;
    slot->kept = NULL;
    slot->closes = false;
    for (unsigned i = 0; i < FORKGUARD_LOCKS_REMEMBERED; i++) __atomic_store_n(&slot->locks[i], NULL, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < FORKGUARD_LOCKS_KEPT; i++) __atomic_store_n(&slot->lifelong[i], NULL, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->serial, serial, __ATOMIC_SEQ_CST);
    forkguard_thread_slot = slot;
    if (gate.has_key) pthread_setspecific(gate.key, slot);
    return slot;
}

forkguard_slot *gate_slot(void) {
    forkguard_slot *slot = forkguard_thread_slot;
    return FORKGUARD_LIKELY(slot != NULL) ? slot : make_slot();
}

void gate_each(gate_visit visit, void *context) {
    for (chunk *chunk = __atomic_load_n(&gate.chunks, __ATOMIC_ACQUIRE); chunk; chunk = chunk->next)
        for (unsigned i = 0; i < SLOTS_IN_CHUNK; i++)
            if (is_live(__atomic_load_n(&chunk->slots[i].serial, __ATOMIC_ACQUIRE)) && !visit(&chunk->slots[i], context)) return;
}

// By one of its ids; 0 is nobody's.
typedef struct find {
    uint64_t serial;
    int32_t mutex_id;
    forkguard_slot *found;
} find;

static bool find_slot(forkguard_slot *slot, void *context) {
    find *wanted = context;
    bool same = wanted->serial ? __atomic_load_n(&slot->serial, __ATOMIC_ACQUIRE) == wanted->serial : slot->mutex_id == wanted->mutex_id;
    if (same) wanted->found = slot;
    return !same;
}

forkguard_slot *gate_slot_of_mutex_id(int32_t mutex_id) {
    find wanted = {.mutex_id = mutex_id};
    if (mutex_id > 0) gate_each(find_slot, &wanted);
    return wanted.found;
}

forkguard_slot *gate_slot_of(uint64_t serial) {
    find wanted = {.serial = serial};
    if (serial) gate_each(find_slot, &wanted);
    return wanted.found;
}

uint32_t gate_mark_of(uint64_t serial, int32_t *thread_id) {
    *thread_id = 0;
    for (chunk *chunk = gate.chunks; chunk; chunk = chunk->next)
        for (unsigned i = 0; i < SLOTS_IN_CHUNK; i++)
            if (chunk->slots[i].serial == serial) {
                *thread_id = chunk->slots[i].thread_id;
                if (chunk->slots[i].mark) return chunk->slots[i].mark;
                // Quiet all the same: it was about to free its slot (R19).
                return chunk->slots[i].held == 0 ? FORKGUARD_MARK_ENDED : FORKGUARD_MARK_BYPASS;
            }
    return FORKGUARD_MARK_ENDED;
}

// ---- entering and leaving ----

static void count_in(forkguard_slot *slot) { __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_SEQ_CST); }

static void count_out(forkguard_slot *slot) {
    __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_SEQ_CST);
    if (load_gate() == FORKGUARD_GATE_CLOSED) gate_wake_forker();
}

void gate_wake_forker(void) {
    __atomic_fetch_add(&forkguard_page.word.gate_event, 1, __ATOMIC_SEQ_CST);
    platform_wake(&forkguard_page.word.gate_event, 1);
}

void forkguard_gate_left(forkguard_slot *slot) {
    FOLLOW(gate_left, slot);
    if (load_gate() == FORKGUARD_GATE_FENCED) __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (slot->held == 0 && load_gate() == FORKGUARD_GATE_CLOSED) gate_wake_forker();
}

static void forget_breaches(void) {
    if (gate_breaches() == 0) return;
    __atomic_store_n(&gate.breaches, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < FORKGUARD_REPORT_ENTRIES; i++) __atomic_store_n(&gate.breached[i].slot, NULL, __ATOMIC_RELEASE);
}

// Whether a parked thread has been patient for long enough after the end of prepare (R15). What libc's fork waits for may be held by the very
// thread that sleeps here: seen with a thread that held flockfile(stdout), another in fflush(NULL) waiting for it with the list
// of streams locked, and fork(), which wants that list after our handler. But a large process takes long to copy; so as long as the
// forker is seen running patience goes on.
static bool loses_patience(void) {
    uint64_t prepared_at = __atomic_load_n(&process.forker.prepared_at, __ATOMIC_SEQ_CST);
    return prepared_at != 0 && platform_nanoseconds() - prepared_at >= PATIENCE && platform_thread_sleeps(process.forker.thread);
}

// Goes in although the gate is closed, unless the forker has begun to drain once more. Counting in and then looking again is the same pattern
// as entering: `prepared_at` is zero from before the barrier of that second drain on.
static bool breach(forkguard_slot *slot) {
    count_in(slot);
    gate_adopt(slot); // R20
    if (load_gate() != FORKGUARD_GATE_CLOSED || __atomic_load_n(&process.forker.prepared_at, __ATOMIC_SEQ_CST) == 0) {
        count_out(slot);
        return false;
    }
    slot->mark = FORKGUARD_MARK_BREACH;
    __atomic_fetch_add(&gate.breaches, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < FORKGUARD_REPORT_ENTRIES; i++) {
        forkguard_slot *nobody = NULL;
        if (__atomic_compare_exchange_n(&gate.breached[i].slot, &nobody, slot, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            // Described here, because the child may not read /proc before its C phases are done.
            gate_describe(slot, FORKGUARD_MARK_BREACH, &gate.breached[i].holder);
            break;
        }
        if (nobody == slot) break;
    }
    return true;
}

// R3. Called with the attempt counted in, returns with it counted in; true when it is inside although the gate is closed.
static bool park(forkguard_slot *slot, const uint32_t *woken_from) {
    count_out(slot);
    // The wake-up for the lock that brought this thread here is for somebody who may go in.
    if (woken_from) platform_wake(woken_from, 1);
    while (load_gate() == FORKGUARD_GATE_CLOSED) {
        // Signals end a sleep early, so it is the clock that decides.
        __atomic_fetch_add(&process.forker.parked, 1, __ATOMIC_SEQ_CST);
        platform_wait(&forkguard_page.word.gate, FORKGUARD_GATE_CLOSED, gate_breaches() == 0 ? PATIENCE : IMPATIENCE);
        __atomic_fetch_sub(&process.forker.parked, 1, __ATOMIC_SEQ_CST);
        if (load_gate() != FORKGUARD_GATE_CLOSED) break;
        // Without a wiped page a child that no handler told finds its parent's closed gate.
        generation_discover();
        if (loses_patience() && breach(slot)) return true;
    }
    count_in(slot);
    return false;
}

bool gate_holds_back(const forkguard_slot *slot) {
    // R4. And the forker itself: prepare handlers of others may run between our closed gate and the fork, on this thread.
    // R20. And a survivor that is not known yet, whatever it is inside: the forker did not count it.
    if (slot->serial == __atomic_load_n(&process.forker.serial, __ATOMIC_RELAXED)) return false;
    return slot->held - kept_sections(slot) == 1 || gate_serial_is_stale(slot->serial);
}

static void enter(forkguard_slot *slot, const uint32_t *woken_from, bool may_run_hooks) {
    for (bool adopted = false;;) {
        uint32_t word = load_gate();
        // R20. Known first, and then the gate once more: a forker that closed it meanwhile may have passed this thread by.
        if ((word == FORKGUARD_GATE_FENCED || word == FORKGUARD_GATE_OWED) && gate_adopt(slot)) {
            adopted = true;
            continue;
        }
        switch (word) {
        case FORKGUARD_GATE_OPEN:
            return;
        case FORKGUARD_GATE_FENCED:
            __atomic_thread_fence(__ATOMIC_SEQ_CST); // R10, the thread's side
            if (!generation_has_page()) generation_discover();
            // (The look for a process id may have been what discovered this child.)
            if (load_gate() == FORKGUARD_GATE_FENCED && !gate_serial_is_stale(slot->serial)) return;
            break;
        case FORKGUARD_GATE_CLOSED:
            if (!adopted && !gate_holds_back(slot)) return;
            if (park(slot, woken_from)) return;
            adopted = false;
            break;
        case FORKGUARD_GATE_OWED:
            if (!may_run_hooks || slot->held > 1 || slot->fork_state != 0) return;
            count_out(slot);
            atfork_run_owed_hooks();
            count_in(slot);
            if (load_gate() == FORKGUARD_GATE_OWED) return; // inside the hooks themselves
            break;
        default: // a child that nobody told (R20)
            count_out(slot);
            forkguard_start();
            generation_discover();
            count_in(slot);
            break;
        }
    }
}

void gate_enter(forkguard_slot *slot, const uint32_t *woken_from) { enter(slot, woken_from, true); }
void gate_enter_section(forkguard_slot *slot) { enter(slot, NULL, false); }

// ---- notes ----

static void pin(forkguard_slot *slot) {
    uint32_t expected = 0;
    while (!__atomic_compare_exchange_n(&slot->pinned, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        expected = 0;
        // Held for a few loads. The time-out is for a holder that was descheduled in between.
        platform_wait(&slot->pinned, 1, (int64_t)MILLISECOND / 10);
    }
}

static void unpin(forkguard_slot *slot) { __atomic_store_n(&slot->pinned, 0, __ATOMIC_RELEASE); }

static void write_note(forkguard_slot *slot, forkguard_lock_t *lock) {
    pin(slot);
    __atomic_store_n(&slot->sequence, slot->sequence + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->blocked_on, lock, __ATOMIC_RELAXED);
    unpin(slot);
}

void gate_note(forkguard_slot *slot, forkguard_lock_t *lock) {
    write_note(slot, lock);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (load_gate() == FORKGUARD_GATE_CLOSED) gate_wake_forker();
}

void gate_clear_note(forkguard_slot *slot) { write_note(slot, NULL); }

void gate_note_sleep(forkguard_slot *slot, void *lock, void *condition, const forkguard_sleep_operations *operations) {
    pin(slot);
    __atomic_store_n(&slot->sequence, slot->sequence + 1, __ATOMIC_RELAXED);
    // A thread that woke beside a closed gate clears its note there, and may be copied in between: as long as the note stands, all of
    // it does.
    if (lock) {
        slot->letting_go = 0;
        slot->sleeps_on = condition;
        slot->sleep_operations = operations;
    }
    __atomic_store_n(&slot->sleeps_for, lock, __ATOMIC_RELEASE);
    unpin(slot);
}

void gate_note_letting_go(forkguard_slot *slot) {
    pin(slot);
    __atomic_store_n(&slot->sequence, slot->sequence + 1, __ATOMIC_RELAXED);
    slot->letting_go = 1;
    unpin(slot);
}

static bool forget_condition(forkguard_slot *slot, void *condition) {
    if (__atomic_load_n(&slot->sleeps_on, __ATOMIC_RELAXED) != condition) return true;
    pin(slot);
    if (slot->sleeps_on == condition) __atomic_store_n(&slot->sleeps_on, NULL, __ATOMIC_RELAXED);
    unpin(slot);
    return true;
}

void forkguard_section_forget(const void *condition) {
    FOLLOW(section_forget, condition);
    gate_each(forget_condition, (void *)(uintptr_t)condition);
}

// The owner of a lock that is not ours, which `slot` sleeps for; pinned. Who waits on a condition waits for nobody in particular.
static uint64_t owner_of_other(const forkguard_slot *slot) {
    if (slot->sleeps_on || slot->letting_go) return 0;
    const forkguard_slot *owner = gate_slot_of_mutex_id(slot->sleep_operations->owner(slot->sleeps_for));
    return owner ? __atomic_load_n(&owner->serial, __ATOMIC_ACQUIRE) : 0;
}

// The serial of the thread that holds the lock which `slot` waits for, and the sequence number of that fact. 0: it waits for none.
static uint64_t blocker_of(forkguard_slot *slot, uint32_t *sequence) {
    pin(slot);
    uint64_t owner = 0;
    if (slot->blocked_on) owner = __atomic_load_n(&slot->blocked_on->word, __ATOMIC_SEQ_CST) >> FORKGUARD_WORD_SHIFT;
    else if (slot->sleeps_for) owner = owner_of_other(slot);
    *sequence = slot->sequence;
    unpin(slot);
    return owner;
}

// ---- closing ----

typedef struct scan {
    forkguard_slot *forker;
    uint32_t threads, inside, turn, candidates;
    forkguard_slot *first_inside;
} scan;

static bool is_stuck(uint64_t serial, const scan *scan) {
    // A word that is free, or stale, is there for the taking.
    if (serial == 0 || gate_serial_is_stale(serial)) return false;
    if (serial == scan->forker->serial) return true;
    forkguard_slot *slot = gate_slot_of(serial);
    // Nobody's serial any more: its thread ended inside, and who waits for it waits for ever (R19).
    return !slot || __atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST) || slot->walk_stuck || slot->walk_kept;
}

static bool look_at(forkguard_slot *slot, void *context) {
    scan *scan = context;
    if (slot == scan->forker) return true;
    scan->threads++;
    slot->walk_stuck = slot->walk_waited = slot->walk_kept = 0;
    uint32_t held = __atomic_load_n(&slot->held, __ATOMIC_SEQ_CST);
    slot->walk_inside = held != 0;
    kept_correct(slot, held);
    if (!slot->walk_inside) return true;
    // The count before the locks: beside a closed gate it can only fall, and a lock is off the list before it is let go of.
    if (held <= kept_sections(slot)) { // R23
        slot->walk_kept = 1;
        return true;
    }
    if (__atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST)) {
        scan->turn++;
        slot->walk_waited = 1;
    } else if (__atomic_load_n(&slot->blocked_on, __ATOMIC_SEQ_CST) || __atomic_load_n(&slot->sleeps_for, __ATOMIC_SEQ_CST)) {
        scan->candidates++;
    } else {
        scan->inside++;
        if (!scan->first_inside) scan->first_inside = slot;
    }
    return true;
}

typedef struct walk {
    scan *scan;
    bool changed;
    uint32_t stuck, free;
    forkguard_slot *first_free;
} walk;

static bool may_be_in_chain(const forkguard_slot *slot, const scan *scan) {
    return slot != scan->forker && !slot->walk_kept && __atomic_load_n(&slot->held, __ATOMIC_SEQ_CST) != 0
        && !__atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST);
}

static bool walk_first(forkguard_slot *slot, void *context) {
    walk *walk = context;
    if (slot->walk_stuck || !may_be_in_chain(slot, walk->scan)) return true;
    uint32_t sequence;
    if (is_stuck(blocker_of(slot, &sequence), walk->scan)) {
        slot->walk_stuck = 1;
        slot->walk_sequence = sequence;
        walk->changed = true;
    }
    return true;
}

static bool walk_second(forkguard_slot *slot, void *context) {
    walk *walk = context;
    if (!may_be_in_chain(slot, walk->scan)) return true;
    uint32_t sequence = 0;
    if (slot->walk_stuck && is_stuck(blocker_of(slot, &sequence), walk->scan) && sequence == slot->walk_sequence) {
        walk->stuck++;
    } else {
        walk->free++;
        if (!walk->first_free) walk->first_free = slot;
    }
    return true;
}

// R11 and R12. Returns how many threads are not quiet.
static uint32_t scan_slots(scan *scan) {
    scan->threads = scan->inside = scan->turn = scan->candidates = 0;
    scan->first_inside = NULL;
    gate_each(look_at, scan);
    if (scan->candidates == 0) return scan->inside;
    walk walk = {.scan = scan};
    do {
        walk.changed = false;
        gate_each(walk_first, &walk);
    } while (walk.changed);
    gate_each(walk_second, &walk);
    if (walk.first_free && !scan->first_inside) scan->first_inside = walk.first_free;
    // The second pass saw all who were not quiet, those of the first look included, unless they have left meanwhile.
    return walk.free;
}

typedef struct marking {
    gate_closing *closing;
    forkguard_slot *forker;
    bool deadline; // the scan found threads that are not quiet, and there is no time left
} marking;

static void list_holder(forkguard_slot *slot, forkguard_holder *holders, uint32_t size, uint32_t *count) {
    if (*count < size) gate_describe(slot, slot->mark, &holders[*count]);
    ++*count;
}

static bool mark(forkguard_slot *slot, void *context) {
    marking *marking = context;
    if (slot == marking->forker) return true;
    gate_closing *closing = marking->closing;
    // `held` after what makes it final: a thread on its way to park or to sleep counts itself in for a moment.
    uint32_t waits = __atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&slot->held, __ATOMIC_SEQ_CST) == 0) return true;
    // One that was waiting when it was scanned, and gave up since, is inside all the same.
    if (waits || slot->walk_waited) {
        slot->mark = FORKGUARD_MARK_TURN;
        closing->turn++;
        if (slot->yields || waits == TURN_LENT) closing->unyielding++;
    } else if (slot->walk_stuck) {
        slot->mark = FORKGUARD_MARK_CHAIN;
        closing->chain++;
    } else if (slot->walk_kept || (marking->deadline && slot->walk_inside)) {
        slot->mark = FORKGUARD_MARK_LATE; // R14
        closing->late++;
        closing->kept += slot->walk_kept;
    } else {
        // Quiet when it was scanned, so it is on its way to park: it counted itself in, and has not read the gate yet.
        return true;
    }
    list_holder(slot, closing->holders, FORKGUARD_REPORT_ENTRIES, &closing->holders_count);
    return true;
}

// R10.
static void close_and_fence(void) {
    store_gate(FORKGUARD_GATE_CLOSED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (gate.open_word == FORKGUARD_GATE_OPEN && !platform_barrier()) {
        // It was there at the start and is refused now: a sandbox was entered. From here on everybody fences. Those who passed the open gate
        // without a fence just now have their count in a store buffer, which drains within microseconds though no manual promises it.
        gate.open_word = FORKGUARD_GATE_FENCED;
        report_say((const char *const[]){"membarrier(2) is refused since this process entered a sandbox: locks are slower from now on", NULL});
        platform_sleep(MILLISECOND);
    }
}

static void open_gate_word(void) {
    store_gate(gate.owed ? FORKGUARD_GATE_OWED : open_word());
    // A thread counts itself before it sleeps, and the kernel compares the word once more: so either it is seen here or it does not sleep. A child
    // without a wiped page inherits a count that is too high, and wakes for nothing.
    if (__atomic_load_n(&process.forker.parked, __ATOMIC_SEQ_CST) != 0) platform_wake(&forkguard_page.word.gate, INT_MAX);
}

// Follows who waits for whom from one thread, which may be inside nothing. `passed` sums up the sequence numbers of the notes on the way (R12).
static bool leads_to_forker(forkguard_slot *slot, const forkguard_slot *forker, uint64_t *passed) {
    *passed = 0;
    for (unsigned steps = 0; slot && steps < 64; steps++) {
        uint32_t sequence;
        uint64_t owner = blocker_of(slot, &sequence);
        *passed = *passed * 31 + sequence;
        if (owner == 0) return false;
        if (owner == forker->serial) return true;
        slot = gate_slot_of(owner);
        if (slot && __atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST)) return true;
    }
    return false;
}

uint32_t gate_mark_of_stuck(int32_t mutex_id, forkguard_slot *forker, bool *unyielding) {
    *unyielding = false;
    forkguard_slot *slot = gate_slot_of_mutex_id(mutex_id);
    if (!slot || slot == forker) return FORKGUARD_MARK_NONE;
    uint32_t waits = __atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST);
    *unyielding = waits == TURN_LENT || (waits && slot->yields);
    if (waits) return FORKGUARD_MARK_TURN;
    uint64_t once, again;
    return leads_to_forker(slot, forker, &once) && leads_to_forker(slot, forker, &again) && once == again ? FORKGUARD_MARK_CHAIN
                                                                                                            : FORKGUARD_MARK_NONE;
}

void gate_close(forkguard_slot *forker, uint64_t deadline, gate_closing *closing) {
    __atomic_store_n(&process.forker.prepared_at, 0, __ATOMIC_SEQ_CST);
    process.forker.thread = forker->thread_id = platform_thread_id();
    __atomic_store_n(&process.forker.serial, forker->serial, __ATOMIC_RELAXED);
    forget_breaches();
    uint64_t began = platform_nanoseconds();
    if (deadline < began + LEAST_TIME) deadline = began + LEAST_TIME;
    scan scan = {.forker = forker};
    uint64_t stillness = STILLNESS, window = WINDOW, foreign_window = FIRST_FOREIGN_WINDOW;
    close_and_fence();
    uint32_t fewest = UINT32_MAX, inside;
    uint64_t progress = began;
    bool keeping = false;
    for (;;) {
        uint32_t event = __atomic_load_n(&forkguard_page.word.gate_event, __ATOMIC_SEQ_CST);
        inside = scan_slots(&scan);
        if (inside == 0 && foreign_take(forker, false)) {
            if (gate_breaches() == 0) break;
            // Waiting for the streams took so long that somebody was let in. There is still time to see him out.
            __atomic_store_n(&process.forker.prepared_at, 0, __ATOMIC_SEQ_CST);
            forget_breaches();
            close_and_fence();
            if (platform_nanoseconds() < deadline) continue;
        }
        uint64_t now = platform_nanoseconds();
        if (now - began > WORTH_NAMING) {
            if (inside == 0) foreign_describe_blocker(&closing->blocker);
            else if (scan.first_inside && scan.first_inside->thread_id != closing->blocker.thread_id)
                gate_describe(scan.first_inside, FORKGUARD_MARK_NONE, &closing->blocker);
        }
        if (now >= deadline) {
            foreign_take(forker, true);
            break;
        }
        uint64_t open_for = 0;
        if (inside == 0) {
            open_for = foreign_window;
            if (now + open_for + LEAST_TIME > deadline) continue; // foreign_take has waited
            if (foreign_window < LONGEST_FOREIGN_WINDOW) foreign_window *= 2;
        } else {
            if (inside < fewest) {
                fewest = inside;
                progress = now;
            }
            // No window so late that those whom it lets in could not leave again.
            uint64_t until = progress + stillness, last_window = deadline - LEAST_TIME - window;
            if (until > last_window) {
                until = deadline;
                if (!keeping) kept_begin(forker);
                keeping = true;
            }
            if (now < until) {
                platform_wait(&forkguard_page.word.gate_event, event, (int64_t)(until - now));
                continue;
            }
            open_for = window;
            stillness *= 2;
            window *= 2;
        }
        foreign_release();
        closing->windows++; // R13
        __atomic_store_n(&process.forker.prepared_at, 0, __ATOMIC_SEQ_CST); // foreign_take may have begun the patience
        open_gate_word();
        platform_sleep(open_for < deadline - now ? open_for : deadline - now);
        close_and_fence();
        fewest = UINT32_MAX;
        progress = platform_nanoseconds();
        // It may have been open for longer than was asked for: this machine is busy.
        if (deadline < progress + LEAST_TIME) deadline = progress + LEAST_TIME;
    }
    closing->threads = scan.threads;
    marking marking = {closing, forker, inside != 0};
    gate_each(mark, &marking);
    if (keeping) kept_end();
    foreign_list_marked(closing);
}

typedef struct others {
    const forkguard_slot *mine;
    bool any;
} others;

static bool look_for_other(forkguard_slot *slot, void *context) {
    others *others = context;
    others->any = slot != others->mine;
    return !others->any;
}

bool gate_is_alone(const forkguard_slot *slot) {
    others others = {.mine = slot};
    gate_each(look_for_other, &others);
    return !others.any;
}

bool gate_close_alone(forkguard_slot *forker) {
    process.forker.thread = forker->thread_id;
    __atomic_store_n(&process.forker.serial, forker->serial, __ATOMIC_RELAXED);
    __atomic_store_n(&process.forker.prepared_at, 0, __ATOMIC_SEQ_CST);
    forget_breaches();
    close_and_fence();
    if (!gate_is_alone(forker)) {
        gate_give_up();
        return false;
    }
    gate_prepared();
    return true;
}

void gate_prepared(void) { __atomic_store_n(&process.forker.prepared_at, platform_nanoseconds(), __ATOMIC_RELEASE); }

uint32_t gate_breaches(void) { return __atomic_load_n(&gate.breaches, __ATOMIC_SEQ_CST); }

uint32_t gate_list_breaches(forkguard_holder *holders, uint32_t size, uint32_t count) {
    for (unsigned i = 0; i < FORKGUARD_REPORT_ENTRIES && gate.breached[i].slot; i++) {
        if (gate.breached[i].slot->held == 0) continue; // it had left again
        if (count < size) holders[count] = gate.breached[i].holder;
        count++;
    }
    return count;
}

static bool unmark(forkguard_slot *slot, void *context) {
    (void)context;
    if (slot->mark != FORKGUARD_MARK_NONE) slot->mark = FORKGUARD_MARK_NONE; // not for nothing: it copies a page right after a fork
    return true;
}

void gate_open(void) {
    gate_each(unmark, NULL);
    gate_give_up();
}

void gate_give_up(void) {
    __atomic_store_n(&process.forker.serial, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&process.forker.prepared_at, 0, __ATOMIC_SEQ_CST);
    open_gate_word();
}

// ---- the child ----

// Who was there at the copy: noted in the C phases, described after them.
static struct {
    uint32_t count, inside_count;
    forkguard_thread threads[FORKGUARD_REPORT_THREADS];
    const forkguard_slot *inside[FORKGUARD_REPORT_ENTRIES];
} vanished;

static bool note_vanished(forkguard_slot *slot, void *context) {
    if (slot == context) return true;
    if (vanished.count < FORKGUARD_REPORT_THREADS) {
        vanished.threads[vanished.count].thread_id = slot->thread_id;
        memcpy(vanished.threads[vanished.count].name, slot->thread_name, sizeof slot->thread_name);
    }
    vanished.count++;
    return true;
}

static bool mark_bypassed(forkguard_slot *slot, void *context) {
    if (slot == context || slot->held == 0) return true;
    slot->mark = FORKGUARD_MARK_BYPASS;
    if (vanished.inside_count < FORKGUARD_REPORT_ENTRIES) vanished.inside[vanished.inside_count] = slot;
    vanished.inside_count++;
    return true;
}

void gate_report_vanished(forkguard_report *report, bool prepared) {
    report->vanished_count = vanished.count;
    memcpy(report->vanished, vanished.threads, sizeof report->vanished);
    if (prepared) return;
    for (uint32_t i = 0; i < vanished.inside_count; i++)
        if (report->torn_holders_count++ < FORKGUARD_REPORT_ENTRIES && i < FORKGUARD_REPORT_ENTRIES)
            gate_describe(vanished.inside[i], FORKGUARD_MARK_BYPASS, &report->torn_holders[report->torn_holders_count - 1]);
}

static bool free_handed(forkguard_slot *slot, void *survivor) {
    if (slot != survivor && slot->sleeps_for)
        slot->sleep_operations->vanished(slot->sleeps_for, slot->sleeps_on, slot->mutex_id, slot->letting_go != 0);
    return true;
}

void gate_free_handed(const forkguard_slot *survivor) { gate_each(free_handed, (void *)(uintptr_t)survivor); }

// The survivor's kernel id is about to change. Of more forks on one thread, one after the other in the child of the one before, the first id is remembered, which
// caches have, and the last ones.
static void remember_id(const forkguard_slot *survivor) {
    if (gate.before.serial != survivor->serial) gate.before.count = 0;
    gate.before.serial = survivor->serial;
    if (gate.before.count == FORKGUARD_SURVIVOR_IDS) {
        gate.before.count--;
        memmove(&gate.before.ids[1], &gate.before.ids[2], (FORKGUARD_SURVIVOR_IDS - 2) * sizeof gate.before.ids[0]);
    }
    gate.before.ids[gate.before.count++] = survivor->thread_id;
}

size_t forkguard_survivor_ids(int32_t *ids, size_t count, int32_t *now) {
    FOLLOW(survivor_ids, ids, count, now);
    const forkguard_slot *survivor = gate.before.count ? gate_slot_of(gate.before.serial) : NULL;
    if (!survivor) return 0;
    *now = survivor->thread_id;
    for (size_t i = 0; i < gate.before.count && i < count; i++) ids[i] = gate.before.ids[i];
    return gate.before.count;
}

void forkguard_survivor_rests(void) {
    FOLLOW(survivor_rests);
    gate.before.count = 0;
    support_survivor_rests();
}

// A thread that was made here and has ended: its slot, until another thread has it, is the last to know.
static bool ended_here(int32_t mutex_id) {
    for (chunk *chunk = __atomic_load_n(&gate.chunks, __ATOMIC_ACQUIRE); chunk; chunk = chunk->next)
        for (unsigned i = 0; i < SLOTS_IN_CHUNK; i++)
            if (chunk->slots[i].mutex_id == mutex_id && chunk->slots[i].word >> FORKGUARD_WORD_SHIFT >= gate.horizon) return true;
    return false;
}

bool forkguard_thread_vanished(int32_t thread_id) {
    FOLLOW(thread_vanished, thread_id);
    return gate.horizon != 0 && thread_id > 0 && platform_thread_is_gone(thread_id) && !ended_here(thread_id);
}

void gate_child(forkguard_slot *survivor, bool prepared, bool owed) {
    // Before the horizon moves, while those of the parent still count as live.
    vanished.count = vanished.inside_count = 0;
    gate_each(note_vanished, survivor);
    if (!prepared) gate_each(mark_bypassed, survivor);
    gate.horizon = gate.next_serial;
    gate.survivor = survivor ? survivor->serial : 0;
    // A survivor that is not known still uses its slot, so no slot is used again until it is known.
    gate.reusable_below = survivor ? gate.horizon : 0;
    if (survivor) {
        remember_id(survivor);
        survivor->thread_id = platform_thread_id();
        survivor->mutex_id = mutex_thread_id();
        survivor->pinned = 0;
        survivor->mark = FORKGUARD_MARK_NONE;
    }
    kept_child();
    forget_breaches();
    process.forker.serial = 0;
    process.forker.prepared_at = 0;
    gate.owed = owed;
    open_gate_word();
}

bool gate_adopt(forkguard_slot *slot) {
    if (FORKGUARD_LIKELY(gate.survivor != 0) || !gate_serial_is_stale(slot->serial)) return false;
    slot->pinned = 0;
    slot->mark = FORKGUARD_MARK_NONE;
    remember_id(slot);
    slot->thread_id = platform_thread_id();
    slot->mutex_id = mutex_thread_id();
    __atomic_store_n(&gate.survivor, slot->serial, __ATOMIC_SEQ_CST);
    gate.reusable_below = gate.horizon;
    uint32_t fenced = FORKGUARD_GATE_FENCED;
    __atomic_compare_exchange_n(&forkguard_page.word.gate, &fenced, open_word(), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    return true;
}

void gate_hooks_done(void) {
    gate.owed = 0;
    uint32_t owed = FORKGUARD_GATE_OWED;
    __atomic_compare_exchange_n(&forkguard_page.word.gate, &owed, open_word(), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

// ---- for reports, and the turn ----

void gate_describe(const forkguard_slot *slot, uint32_t mark, forkguard_holder *holder) {
    holder->thread_id = slot->thread_id;
    holder->mark = mark;
    holder->lock_name[0] = holder->lock_place[0] = 0;
    platform_thread_name(slot->thread_id, holder->thread_name);
    if (!*holder->thread_name) memcpy(holder->thread_name, slot->thread_name, sizeof slot->thread_name);
    // The hints may be old, and what they point to freed. Believe the one whose word says that this thread has it, the outermost first.
    for (unsigned i = 0; i < FORKGUARD_LOCKS_REMEMBERED; i++) {
        forkguard_lock_t copy, *hint = __atomic_load_n(&slot->locks[i], __ATOMIC_RELAXED);
        if (!hint || ((uintptr_t)hint & GATE_KIND) || !platform_read(&copy, hint, sizeof copy)) continue;
        if (copy.word >> FORKGUARD_WORD_SHIFT != slot->serial) continue;
        char name[FORKGUARD_NAME_SIZE] = "", file[256] = "";
        // Strings have no known length; read them in pieces that do not cross a page.
        for (unsigned part = 0; part < 2; part++) {
            const char *from = part ? copy.file : copy.name;
            char *to = part ? file : name;
            size_t size = part ? sizeof file : sizeof name;
            for (size_t at = 0; from && at < size - 1; at++)
                if (!platform_read(to + at, from + at, 1) || to[at] == 0) break;
            to[size - 1] = 0;
        }
        text_copy(holder->lock_name, sizeof holder->lock_name, name);
        if (copy.file) trap_place(file, copy.line, holder->lock_place, sizeof holder->lock_place);
        return;
    }
}

forkguard_slot *gate_waiter_behind(const forkguard_lock_t *lock) {
    return gate_waiter_at(__atomic_load_n(&lock->word, __ATOMIC_SEQ_CST) >> FORKGUARD_WORD_SHIFT);
}

forkguard_slot *gate_waiter_at(uint64_t owner) {
    // A chain longer than this is followed again at the next look.
    for (unsigned steps = 0; steps < 64; steps++) {
        forkguard_slot *slot = owner ? gate_slot_of(owner) : NULL;
        if (!slot) return NULL;
        if (__atomic_load_n(&slot->waits_for_turn, __ATOMIC_SEQ_CST)) return slot;
        uint32_t sequence;
        owner = blocker_of(slot, &sequence);
    }
    return NULL;
}
