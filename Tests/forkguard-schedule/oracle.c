#include "oracle.h"

#include <errno.h>
#include <string.h>

#include "gate.h"
#include "report.h"
#include "trap.h"
#include "turn.h"

// Longer than any section of a scenario that may open no window.
#define LONGEST_WAIT UINT64_C(5000000)

#define FAIL(...) scheduler_fail(__VA_ARGS__)

box boxes[MOST_BOXES];
mutex_box mutexes[MOST_MUTEXES];
tally *counted;
bool oracle_hasty;
void (*oracle_in_child)(void);
void (*oracle_before)(void), (*oracle_after)(void), (*oracle_early)(void), (*oracle_hook)(void);

static struct {
    unsigned allowed, most_depth, depth, marks_nobody;
    unsigned bypassed; // the depth of the last process that no handler told
    // Whose hooks are under way: the last one lent nobody his turn.
    const thread *in_hooks[MOST_THREADS];
    unsigned in_hooks_count, child_hooks;
    bool late; // a fork was
    bool has_hooks;
} oracle;

static void look_at_slot(void) {
    forkguard_slot *slot = forkguard_thread_slot;
    if (!slot || current->serial == slot->serial) return;
    for (unsigned i = 0; scheduler_thread(i); i++)
        if (scheduler_thread(i)->serial == slot->serial) FAIL("serial %u is used again", (unsigned)slot->serial);
    current->slot = slot;
    current->serial = slot->serial;
}

void oracle_start(unsigned allowed, unsigned depth, unsigned marks_nobody, bool has_hooks) {
    oracle.has_hooks = has_hooks;
    scheduler_has_slot = look_at_slot;
    oracle.marks_nobody = marks_nobody;
    oracle.allowed = allowed;
    oracle.most_depth = depth;
    for (unsigned i = 0; i < MOST_BOXES; i++) forkguard_lock_init(&boxes[i].lock, (const char *[]){"A", "B", "C", "D", "E", "F"}[i],
        NULL, 0);
}

unsigned oracle_depth(void) { return oracle.depth; }

static bool may(unsigned what) { return oracle_hasty || (oracle.allowed & what); }
static bool is_there(const thread *thread) { return thread->state == THREAD_RUNS || thread->state == THREAD_SLEEPS; }
static int letter(const box *box) { return 'A' + (int)(box - boxes); }

// ---- locks ----

static void come_in(box *box, int got) {
    look_at_slot();
    current->wants = NULL;
    if (box->inside && is_there(box->inside)) FAIL("%c is taken while another thread is inside", letter(box));
    if (box->inside && box->inside->state == THREAD_VANISHED && got != FORKGUARD_TORN)
        FAIL("%c is whole for who takes it, and another thread vanished inside", letter(box));
    if (got == FORKGUARD_TORN) {
        if (!box->torn) FAIL("%c is said to be torn, and is not", letter(box));
        uint32_t reason = box->lock.reserved & ((1u << TRAP_MARK_BITS) - 1);
        if (reason != box->reason) FAIL("%c is torn for reason %u, and %u is said", letter(box), box->reason, reason);
        counted->told++;
        box->a = box->b = 0;
        if (scheduler_random(2) == 0) { // else the next one is told, too
            box->torn = false;
            if (forkguard_lock_mark_consistent(&box->lock) != 0) FAIL("%c cannot be declared whole", letter(box));
        }
    } else if (box->torn) {
        FAIL("%c is torn, and nobody is told", letter(box));
    }
    if (box->a != box->b) FAIL("%c's data is half changed", letter(box));
    box->inside = current;
    box->taken = oracle.depth;
    box->a++;
}

void box_take(box *box) {
    current->wants = box;
    come_in(box, forkguard_lock(&box->lock));
}

bool box_try(box *box) {
    int got = forkguard_trylock(&box->lock);
    if (got == FORKGUARD_BUSY) return false;
    come_in(box, got);
    return true;
}

void box_leave(box *box) {
    scheduler_point(__func__, __LINE__, NULL);
    if (box->inside != current || !forkguard_lock_is_mine(&box->lock)) FAIL("%c is not its holder's any more", letter(box));
    box->b++;
    if (box->a != box->b) FAIL("%c's data was changed by another thread", letter(box));
    box->inside = NULL;
    forkguard_unlock(&box->lock);
}

// ---- mutexes ----

static void change(mutex_box *box) {
    if (box->inside && is_there(box->inside)) FAIL("a mutex is taken while another thread is inside");
    if (box->torn && !box->told) FAIL("a mutex is torn, and nobody was told");
    if (!box->torn && box->a != box->b) FAIL("a mutex's data is half changed");
    box->torn = box->told = false;
    box->inside = current;
    box->a = box->b + 1;
}

static int32_t owner(const void *lock) { return ((const pthread_mutex_t *)lock)->__data.__owner; }

static void vanished(void *lock, void *condition, int32_t sleeper, bool letting_go) {
    (void)condition, (void)letting_go;
    if (owner(lock) == sleeper) memset(lock, 0, sizeof(pthread_mutex_t));
}

static const forkguard_sleep_operations sleep_operations = {owner, vanished};

// As ForkGuardRuntime makes a section of one.
static void lock_gated(pthread_mutex_t *mutex) {
    forkguard_slot *slot = forkguard_section_begin();
    forkguard_section_note(slot, mutex, FORKGUARD_SECTION_MUTEX);
    while (mutex_try(mutex) != 0) {
        forkguard_section_sleep(slot, mutex, NULL, &sleep_operations);
        mutex_lock(mutex);
        if (forkguard_section_wake(slot)) return;
        mutex_unlock(mutex);
        forkguard_section_park(slot);
        forkguard_section_note(slot, mutex, FORKGUARD_SECTION_MUTEX);
    }
}

static void unlock_gated(pthread_mutex_t *mutex) {
    forkguard_slot *slot = forkguard_section_slot();
    if (slot->keeps) forkguard_section_let_go(slot, mutex);
    mutex_unlock(mutex);
    forkguard_section_end(slot);
}

void mutex_box_take(unsigned which) {
    current->wants_mutex = &mutexes[which].mutex;
    if (which == MUTEX_GATED) lock_gated(&mutexes[which].mutex);
    else mutex_lock(&mutexes[which].mutex);
    current->wants_mutex = NULL;
    look_at_slot();
    change(&mutexes[which]);
}

void mutex_box_leave(unsigned which) {
    scheduler_point(__func__, __LINE__, NULL);
    mutexes[which].inside = NULL;
    mutexes[which].b++;
    if (which == MUTEX_GATED) unlock_gated(&mutexes[which].mutex);
    else mutex_unlock(&mutexes[which].mutex);
}

void mutex_box_check_in_child(unsigned which) {
    mutex_box *box = &mutexes[which];
    int32_t owner = box->mutex.__data.__owner;
    if (box->inside && is_there(box->inside)) return; // the survivor's
    if (owner == 0 && box->mutex.__data.__lock == 0) {
    } else if (scheduler_has_thread(owner)) {
        return;
    } else if (which == MUTEX_FOREIGN) {
        FAIL("a registered mutex is locked in the child, by nobody");
    } else if (!box->torn) {
        FAIL("a gated mutex is locked in the child, and nobody was inside");
    }
    if (which == MUTEX_FOREIGN && box->torn && !box->told) FAIL("a registered mutex is torn, and nobody was told");
}

int oracle_torn(void *context) {
    mutex_box *box = context;
    if (!box->torn) FAIL("a registered mutex is said to be torn, and is not");
    box->told = true;
    counted->told++;
    return 0;
}

// ---- hooks ----

int oracle_prepare_hook(void *context) {
    (void)context;
    look_at_slot();
    for (unsigned i = 0; i < oracle.in_hooks_count; i++)
        if (oracle.in_hooks[i]->slot->waits_for_turn != TURN_LENT) FAIL("hooks of two forks interleave");
    if (oracle.in_hooks_count != 0) counted->lent++;
    oracle.in_hooks[oracle.in_hooks_count++] = current;
    if (oracle_hook) oracle_hook();
    return 0;
}

int oracle_parent_hook(void *context) {
    (void)context;
    if (oracle.in_hooks_count == 0 || oracle.in_hooks[oracle.in_hooks_count - 1] != current)
        FAIL("hooks of two forks interleave after one");
    scheduler_point(__func__, __LINE__, NULL);
    oracle.in_hooks_count--;
    return 0;
}

int oracle_child_hook(void *context) {
    (void)context;
    if (++oracle.child_hooks != 1) FAIL("the child's hooks run %u times", oracle.child_hooks);
    scheduler_point(__func__, __LINE__, NULL);
    return 0;
}

void oracle_end(void) {
    if (oracle.has_hooks && oracle.depth != 0 && oracle.child_hooks != 1) FAIL("the child's hooks did not run");
}

// ---- the copy ----

static const thread *holder_of(uint64_t serial) {
    for (unsigned i = 0; scheduler_thread(i); i++)
        if (scheduler_thread(i)->serial == serial) return scheduler_thread(i);
    return NULL;
}

static const thread *holder_of_mutex(const pthread_mutex_t *mutex) {
    for (unsigned i = 0; scheduler_thread(i); i++)
        if (scheduler_thread(i)->id == mutex->__data.__owner) return scheduler_thread(i);
    return NULL;
}

static bool is_forker(const thread *thread) { return thread == current; }

static bool leads_to_waiter(const thread *thread) {
    for (unsigned steps = 0; thread && steps < MOST_THREADS; steps++) {
        if (thread->wants) thread = holder_of(thread->wants->lock.word >> FORKGUARD_WORD_SHIFT);
        else if (thread->wants_mutex) thread = holder_of_mutex(thread->wants_mutex);
        else return false;
        // Who waits for a thread that ended inside waits for ever.
        if (thread && (is_forker(thread) || thread->state == THREAD_ENDED || thread->slot->waits_for_turn)) return true;
    }
    return false;
}

static void check_mark(const thread *thread) {
    uint32_t mark = thread->slot->mark;
    if (mark == FORKGUARD_MARK_NONE) return;
    unsigned holds = 0;
    bool sections = false;
    for (unsigned i = 0; i < MOST_BOXES; i++) holds += boxes[i].lock.word >> FORKGUARD_WORD_SHIFT == thread->serial;
    for (unsigned i = 0; i < MOST_MUTEXES; i++) sections |= mutexes[i].mutex.__data.__owner == thread->id;
    if (mark == FORKGUARD_MARK_LATE && !may(MAY_LATE) && !(may(MAY_LATE_ONCE) && !oracle.late)) FAIL("thread %u is late", thread->number);
    if (mark == FORKGUARD_MARK_BREACH && holds != 0 && !may(MAY_BREACH)) FAIL("thread %u lost its patience", thread->number);
    if (sections || oracle_hasty || (mark != FORKGUARD_MARK_TURN && mark != FORKGUARD_MARK_CHAIN)) return;
    // Who begins to sleep in a section writes its note first, and counts out after it (section.h): it may be marked for nothing.
    if (holds == 0 && !thread->wants_mutex) FAIL("thread %u is marked (%u) and holds nothing", thread->number, mark);
    if (mark == FORKGUARD_MARK_TURN && !thread->slot->waits_for_turn) FAIL("thread %u is marked as a waiter and is none", thread->number);
    if (mark == FORKGUARD_MARK_CHAIN && !leads_to_waiter(thread)) FAIL("thread %u is marked as stuck and is not", thread->number);
}

// At the copy. `settle`: the caller is to be the child, in which it will be true.
static void look(bool prepared, bool settle) {
    for (unsigned i = 0; scheduler_thread(i); i++) {
        const thread *thread = scheduler_thread(i);
        if (is_there(thread) && !thread->ends && thread->slot && !is_forker(thread) && prepared) check_mark(thread);
    }
    for (unsigned i = 0; i < MOST_BOXES; i++) {
        box *box = &boxes[i];
        uint64_t serial = box->lock.word >> FORKGUARD_WORD_SHIFT;
        const thread *holder = serial ? holder_of(serial) : NULL;
        if (box->inside && is_there(box->inside) && box->inside != holder) FAIL("%c is not its holder's any more", letter(box));
        if (!holder || is_forker(holder)) continue;
        if (holder->state == THREAD_VANISHED) {
            if (!box->torn) FAIL("%c belongs to a thread that vanished, and is not torn", letter(box));
            continue;
        }
        bool ends = holder->state == THREAD_ENDED || holder->ends;
        if (!ends && prepared && oracle.late && (oracle.allowed & MAY_WINDOW_ONCE))
            FAIL("thread %u went in beside a closed gate", holder->number);
        // What a survivor that nobody knew had then is torn for whoever meets it, and no fork waits for it (R20).
        if (!ends && prepared && holder->slot->mark == FORKGUARD_MARK_NONE && box->taken >= oracle.bypassed)
            FAIL("thread %u holds %c at the copy and is not marked", holder->number, letter(box));
        if (!settle) continue;
        box->torn = true;
        box->reason = !ends ? (prepared ? holder->slot->mark : (uint32_t)FORKGUARD_MARK_BYPASS) : FORKGUARD_MARK_ENDED;
        counted->torn[box->reason]++;
    }
    for (unsigned i = 0; i < MOST_MUTEXES; i++) {
        const thread *inside = holder_of_mutex(&mutexes[i].mutex);
        if (!inside || !is_there(inside) || is_forker(inside)) continue;
        if (mutexes[i].inside == inside && i == MUTEX_GATED && prepared && inside->slot->mark == FORKGUARD_MARK_NONE)
            FAIL("thread %u is in its section at the copy and is not marked", inside->number);
        if (mutexes[i].inside == inside && i == MUTEX_FOREIGN && prepared && !inside->slot)
            FAIL("thread %u has a registered mutex at the copy", inside->number);
        if (mutexes[i].inside == inside && i == MUTEX_FOREIGN && prepared && !oracle_hasty && !inside->slot->waits_for_turn
            && !leads_to_waiter(inside))
            FAIL("thread %u has a registered mutex at the copy and could let go of it", inside->number);
        // One that a sleeper was handed, which has not been let in since, is free in the child.
        if (!settle || (i == MUTEX_GATED && prepared && inside->slot->mark == FORKGUARD_MARK_NONE)) continue;
        mutexes[i].torn = true;
        mutexes[i].told = i != MUTEX_FOREIGN; // of others nobody promised anything
    }
}

static void pass_time(void) {
    for (unsigned i = 0; i < 4; i++) scheduler_point(__func__, __LINE__, NULL);
}

static void check_prepared(void) {
    const forkguard_slot *slot = forkguard_thread_slot;
    look_at_slot();
    if (slot->fork_state == FORK_NO_TURN) {
        if (!may(MAY_NO_TURN)) FAIL("a fork goes ahead without its turn");
        current->prepared = false;
        return;
    }
    current->prepared = true;
    if (slot->fork_state != FORK_CLOSED) return; // the short way
    const forkguard_report *report = &report_current;
    if (report->timed_out && !may(MAY_LATE) && !may(MAY_LATE_ONCE)) FAIL("a fork waits until its deadline");
    if (report->gate_nanoseconds > LONGEST_WAIT && !may(MAY_WINDOW | MAY_WINDOW_ONCE)) FAIL("the forker sleeps although nobody is inside");
    if (report->torn_holders_count != 0 && oracle.marks_nobody && oracle.marks_nobody == current->number)
        FAIL("who was inside did not go first");
    if (report->torn_holders_count != 0 && slot->ours && !oracle_before) FAIL("forkguard_fork goes ahead although somebody is inside");
    counted->windows += report->windows;
    if (report->windows != 0 && !may(MAY_WINDOW) && !(may(MAY_WINDOW_ONCE) && !oracle.late))
        FAIL("the gate is opened again, and nobody holds the fork up for long");
}

static pid_t go_on(bool handlers) {
    static pid_t last = 5000;
    counted->forks++;
    // The copy takes time, and is true at its end.
    scheduler_paused++;
    if (handlers) look(current->prepared, false);
    scheduler_paused--;
    pass_time();
    bool child = oracle.depth < oracle.most_depth && scheduler_random(3) != 0;
    scheduler_paused++;
    look(handlers && current->prepared, child);
    scheduler_paused--;
    for (unsigned i = 0; i < report_current.torn_holders_count && i < FORKGUARD_REPORT_ENTRIES; i++)
        oracle.late |= report_current.torn_holders[i].mark == FORKGUARD_MARK_LATE;
    if (!child) return ++last;
    counted->children++;
    oracle.depth++;
    oracle.child_hooks = 0;
    oracle.in_hooks_count = 0;
    int32_t before = current->id;
    process_become_child();
    // As ForkGuardRuntime does; those that are registered are ForkGuard's own business.
    for (unsigned i = MUTEX_GATED; i < MOST_MUTEXES; i++)
        if (mutexes[i].mutex.__data.__owner == before) mutexes[i].mutex.__data.__owner = current->id;
    return 0;
}

static void begin_child(uint64_t generation) {
    if (oracle_early) oracle_early();
    process_child();
    if (forkguard_generation() != generation + 1) FAIL("the child's generation is not one more than the parent's");
    scheduler_spawn(90 + oracle.depth, oracle_in_child);
}

// What libc's fork(2) does.
pid_t process_fork(void) {
    uint64_t generation = forkguard_generation();
    if (oracle_before) oracle_before();
    process_prepare();
    if (oracle_after) oracle_after();
    check_prepared();
    pid_t child = go_on(true);
    if (child == 0) {
        begin_child(generation);
        return 0;
    }
    process_parent();
    if (scheduler_random(8) != 0) return child;
    errno = EAGAIN; // it failed, and the handlers are told nothing
    return -1;
}

pid_t oracle_fork(void) { return process_fork(); }

pid_t oracle_guarded_fork(uint32_t flags) {
    unsigned depth = oracle.depth;
    errno = 0;
    pid_t child = forkguard_fork(flags | FORKGUARD_FORK_NO_FLUSH);
    look_at_slot();
    if (child == -1 && errno != EAGAIN) {
        counted->refused++;
        if (!may(MAY_REFUSE)) FAIL("forkguard_fork refuses: errno %d", errno);
        if (oracle.depth != depth) FAIL("a child was refused");
    }
    return child;
}

pid_t oracle_bypassing_fork(bool asks) {
    uint64_t generation = forkguard_generation();
    look_at_slot();
    counted->bypassed++;
    pid_t child = go_on(false);
    if (child != 0) return child;
    oracle.bypassed = oracle.depth;
    if (!asks) scheduler_spawn(90 + oracle.depth, oracle_in_child);
    if (forkguard_generation() <= generation) FAIL("a child that runs no handlers does not know that it is one");
    if (asks) scheduler_spawn(90 + oracle.depth, oracle_in_child);
    return 0;
}
