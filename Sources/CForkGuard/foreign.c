// Locks that are not ours, around a fork.
//
// They are tried while the gate is closed and every other thread is quiet. Whoever has one may be parked at the gate, or need a thread that is. So trying is
// short: a section of some microseconds is waited for with the gate closed, for no more than a millisecond in all; after that every lock that was taken
// is let go, the gate opens for a while, which grows, and it begins anew, with the lock that was missing. Holding none while waiting for one, there is
// no order in which this can deadlock.
//
// What libc's own fork() takes after our handlers must not be waited for while we have these locks: its holder may wait for one of them, and nothing would ever
// let it in. In glibc that is the list of streams, which fflush(NULL) has while it waits for a stream, whose holder may be in the middle of a print. So the list
// is taken first, when all are quiet and parked threads are patient only (R15), and the locks with it in hand; and it is let go of with them.
//
// Two holders are not waited for. The forking thread itself, where that can be told: what it has stays its own. And a thread that cannot let go before
// this fork is over, because it waits for its own turn to fork or is blocked on a lock of the forker's: what it has is torn in the child, as with our own
// locks (R11). Which thread has a lock only some locks tell; with the others such a holder costs the deadline.
//
// In the child every lock is made anew, whoever had it, but for those of the survivor. After a fork that nobody prepared none was tried; then a lock that
// somebody had is torn, and one that does not tell is taken to be.

#include "foreign.h"

#include "door.h"
#include "platform/platform.h"
#include "report.h"
#include "trap.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define MICROSECOND UINT64_C(1000)

// How long an attempt waits for those that have locks, with the gate closed.
#define ATTEMPT (1000 * MICROSECOND)
// A section of a few microseconds is spun for, a longer one slept for.
#define SPIN (20 * MICROSECOND)
#define NAP (50 * MICROSECOND)

enum foreign_state {
    FOREIGN_IDLE = 0,
    FOREIGN_TAKEN,
    FOREIGN_OWN,    // the forking thread had it before
    FOREIGN_STUCK,  // its holder cannot let go before this fork is over
    FOREIGN_MISSED, // its holder did not in time
};

foreign_outcome foreign_in_child;

static registry_lock *missing; // the one that the last attempt failed on goes first
static bool has_streams, has_door;

static const forkguard_lock_operations *operations(const registry_lock *lock) { return lock->made.operations; }

// A lock may be one that counts its holders into the gate (section.h). What the forker takes here is not a section of its own, and ends without an unlock
// in the child: its count stays as it was.
static void put_back(uint32_t held) {
    if (forkguard_thread_slot) __atomic_store_n(&forkguard_thread_slot->held, held, __ATOMIC_RELEASE);
}

static int uncounted(int (*operation)(void *), void *lock) {
    // Not gate_slot: a child that discovers itself late may have none, and to make one would be to discover it again.
    uint32_t held = forkguard_sections_held();
    int result = operation(lock);
    put_back(held);
    return result;
}

static int wait_uncounted(const registry_lock *lock, uint64_t nanoseconds) {
    uint32_t held = forkguard_sections_held();
    int result = operations(lock)->wait_lock(lock->made.lock, nanoseconds);
    put_back(held);
    return result;
}

// ---- before the fork ----

static void end_use(registry_lock *lock) {
    if (__atomic_exchange_n(&lock->busy, REGISTRY_LOCK_UNUSED, __ATOMIC_RELEASE) == REGISTRY_LOCK_AWAITED) platform_wake(&lock->busy, INT_MAX);
}

// False when it was cancelled: it may be gone.
static bool use(registry_lock *lock, uint64_t serial) {
    lock->busy_serial = serial;
    __atomic_store_n(&lock->busy, REGISTRY_LOCK_BUSY, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (registry_is_live(lock)) return true;
    end_use(lock);
    return false;
}

void foreign_let_go(registry_lock *lock) {
    uint32_t state = lock->state;
    // First: a fork of another thread's that nobody prepares copies what is here.
    __atomic_store_n(&lock->state, FOREIGN_IDLE, __ATOMIC_SEQ_CST);
    if (state == FOREIGN_TAKEN) uncounted(operations(lock)->unlock, lock->made.lock);
    end_use(lock);
}

static void drop(registry_lock *lock, int code) {
    lock->gone = true;
    char place[FORKGUARD_NAME_SIZE], number[24] = "";
    text_buffer buffer = {number, sizeof number, 0};
    text_add_signed(&buffer, code);
    trap_place(lock->made.file, lock->made.line, place, sizeof place);
    report_hook(lock->made.name, "lock", code, 0);
    report_say((const char *const[]){
        "lock '", lock->made.name, "', registered at ", *place ? place : "an unknown place", ", cannot be tried before a fork (errno ", number,
        "): it was destroyed or freed while it was registered, or its try_lock fails. It is not guarded any more; unregister it first", NULL,
    });
}

typedef struct attempt {
    forkguard_slot *forker;
    bool last;
    uint64_t end; // 0: it has not begun to wait
} attempt;

// How much time is left for another try; 0: none.
static uint64_t time_left(attempt *attempt) {
    uint64_t now = platform_nanoseconds();
    if (attempt->end == 0) attempt->end = now + (attempt->last ? 0 : ATTEMPT);
    return now < attempt->end ? attempt->end - now : 0;
}

// Tries, and after a while of spinning waits: in the lock's own queue if it has one.
static int try_again(registry_lock *lock, uint64_t left) {
    if (left < ATTEMPT - SPIN) {
        if (operations(lock)->wait_lock) return wait_uncounted(lock, left);
        platform_sleep(NAP);
    }
    return uncounted(operations(lock)->try_lock, lock->made.lock);
}

// False when somebody has the lock.
static bool take(registry_lock *lock, attempt *attempt) {
    if (lock->gone || lock->state == FOREIGN_TAKEN || lock->state == FOREIGN_OWN) return true;
    const forkguard_foreign_lock *made = &lock->made;
    if (!use(lock, attempt->forker->serial)) return true;
    if (!lock->checked) {
        if (!lock->held && made->hold) {
            if (made->hold(made->context) == FORKGUARD_GONE) {
                lock->gone = true;
                end_use(lock);
                return true;
            }
            lock->held = true;
        }
        int error = operations(lock)->check ? operations(lock)->check(made->lock) : 0;
        if (error) {
            end_use(lock);
            drop(lock, error);
            return true;
        }
        lock->checked = true;
    }
    if (!operations(lock)->try_lock) return true;
    int result = uncounted(operations(lock)->try_lock, made->lock);
    for (;;) {
        if (result == 0 || result == FORKGUARD_MINE) {
            lock->state = result ? FOREIGN_OWN : FOREIGN_TAKEN;
            return true;
        }
        if (result != EBUSY) {
            end_use(lock);
            drop(lock, result);
            return true;
        }
        lock->owner = operations(lock)->owner ? operations(lock)->owner(made->lock) : 0;
        lock->mark = lock->owner ? gate_mark_of_stuck(lock->owner, attempt->forker, &lock->unyielding) : FORKGUARD_MARK_NONE;
        // Whose it is, once more: it may have let go of the lock before it was seen stuck. Who is stuck and has it stays so.
        if (lock->mark != FORKGUARD_MARK_NONE && operations(lock)->owner(made->lock) == lock->owner) {
            lock->state = FOREIGN_STUCK;
            return true;
        }
        uint64_t left = time_left(attempt);
        if (left != 0) {
            result = try_again(lock, left);
            continue;
        }
        if (!attempt->last) return false;
        lock->state = FOREIGN_MISSED;
        lock->mark = FORKGUARD_MARK_LATE;
        return true;
    }
}

static bool take_one(registry_lock *lock, bool live, void *context) {
    if (!live || take(lock, context)) return true;
    missing = lock;
    return false;
}

static bool release_one(registry_lock *lock, bool live, void *context) {
    (void)live;
    (void)context;
    foreign_let_go(lock);
    return true;
}

static bool find_missing(registry_lock *lock, bool live, void *context) {
    *(bool *)context |= lock == missing && live;
    return lock != missing;
}

bool foreign_take(forkguard_slot *forker, bool last) {
    if (registry_locks() == 0) return true;
    if (!has_streams) {
        gate_prepared();
        if (!has_door) door_enter(forker);
        has_door = true;
        has_streams = platform_lock_streams();
    }
    attempt attempt = {.forker = forker, .last = last};
    registry_lock *first = missing;
    bool is_there = false;
    if (first) registry_each_lock(find_missing, &is_there);
    missing = NULL;
    if (is_there) take_one(first, true, &attempt);
    if (!missing) registry_each_lock(take_one, &attempt);
    if (!missing) return true;
    foreign_release();
    return false;
}

void foreign_release(void) {
    registry_each_lock(release_one, NULL);
    if (has_streams) platform_unlock_streams();
    has_streams = false;
    if (has_door) door_leave(gate_slot());
    has_door = false;
}

static void describe(const registry_lock *lock, uint32_t mark, forkguard_holder *holder) {
    memset(holder, 0, sizeof *holder);
    holder->thread_id = lock->owner > 0 ? lock->owner : 0;
    holder->mark = mark;
    text_copy(holder->lock_name, sizeof holder->lock_name, lock->made.name);
    trap_place(lock->made.file, lock->made.line, holder->lock_place, sizeof holder->lock_place);
}

// With the name of the thread, which is read from /proc. In the parent.
static void describe_with_thread(const registry_lock *lock, uint32_t mark, forkguard_holder *holder) {
    describe(lock, mark, holder);
    if (holder->thread_id) platform_thread_name(holder->thread_id, holder->thread_name);
}

void foreign_describe_blocker(forkguard_holder *holder) {
    if (missing) describe_with_thread(missing, FORKGUARD_MARK_NONE, holder);
}

static bool list_marked(registry_lock *lock, bool live, void *context) {
    gate_closing *closing = context;
    if (!live || (lock->state != FOREIGN_STUCK && lock->state != FOREIGN_MISSED)) return true;
    if (lock->unyielding) closing->unyielding++;
    if (lock->mark == FORKGUARD_MARK_TURN) closing->turn++;
    else if (lock->mark == FORKGUARD_MARK_CHAIN) closing->chain++;
    else closing->late++;
    if (closing->holders_count < FORKGUARD_REPORT_ENTRIES) describe_with_thread(lock, lock->mark, &closing->holders[closing->holders_count]);
    closing->holders_count++;
    return true;
}

void foreign_list_marked(gate_closing *closing) { registry_each_lock(list_marked, closing); }

typedef struct own_list {
    forkguard_holder *holders;
    uint32_t size, *count, found;
} own_list;

static bool list_own(registry_lock *lock, bool live, void *context) {
    own_list *list = context;
    if (!live || lock->state != FOREIGN_OWN) return true;
    lock->owner = platform_thread_id();
    if (*list->count < list->size) describe_with_thread(lock, FORKGUARD_MARK_OWN, &list->holders[*list->count]);
    ++*list->count;
    list->found++;
    return true;
}

uint32_t foreign_list_own(forkguard_holder *holders, uint32_t size, uint32_t *count) {
    own_list list = {holders, size, count, 0};
    registry_each_lock(list_own, &list);
    return list.found;
}

// ---- after it, in the parent ----

static bool settle_one(registry_lock *lock, bool live, void *context) {
    (void)live;
    *(bool *)context |= lock->gone;
    lock->checked = false;
    if (lock->held) {
        lock->held = false;
        if (lock->made.let_go) lock->made.let_go(lock->made.context);
    }
    return true;
}

void foreign_settle(void) {
    bool gone = false;
    registry_each_lock(settle_one, &gone);
    if (gone) registry_drop_gone();
}

// ---- in the child ----

// How this process came to be: for what can be done only after the C phases.
static struct {
    int32_t survivor; // the id that mutexes knew the forking thread by in the parent, or 0
    bool prepared;
} birth;

// Whose the lock was at the copy. FOREIGN_TAKEN: nobody's; the forker had taken it, or it was free. FOREIGN_IDLE: it is to be left alone.
static enum foreign_state state_at_copy(registry_lock *lock) {
    const forkguard_lock_operations *operations = lock->made.operations;
    if (!operations->try_lock) return FOREIGN_TAKEN;
    // Nobody was inside what a forker had taken, this one or another whose fork was under way.
    if (lock->state == FOREIGN_TAKEN) return FOREIGN_TAKEN;
    if (birth.prepared && lock->state != FOREIGN_IDLE) return lock->state;
    lock->mark = FORKGUARD_MARK_BYPASS;
    lock->owner = operations->owner ? operations->owner(lock->made.lock) : FORKGUARD_OWNER_UNKNOWN;
    if (lock->owner == 0) return FOREIGN_TAKEN;
    if (lock->owner == birth.survivor) return FOREIGN_OWN;
    // Discovered late: a thread of the child's may be using it already.
    if (lock->owner > 0) return platform_thread_is_ours(lock->owner) ? FOREIGN_IDLE : FOREIGN_MISSED;
    if (uncounted(operations->try_lock, lock->made.lock) != 0) return FOREIGN_MISSED;
    uncounted(operations->unlock, lock->made.lock);
    return FOREIGN_TAKEN;
}

static void list_torn(const registry_lock *lock) {
    if (foreign_in_child.torn_count < FORKGUARD_REPORT_ENTRIES)
        describe(lock, FORKGUARD_MARK_BYPASS, &foreign_in_child.torn[foreign_in_child.torn_count]);
    foreign_in_child.torn_count++;
}

static void make_anew(registry_lock *lock) {
    const forkguard_foreign_lock *made = &lock->made;
    bool taken_by_us = birth.prepared && lock->state == FOREIGN_TAKEN;
    enum foreign_state state = state_at_copy(lock);
    lock->state = FOREIGN_IDLE;
    if (state == FOREIGN_IDLE) return;
    if (state == FOREIGN_OWN) {
        foreign_in_child.own++;
        if (made->operations->adopt) made->operations->adopt(made->lock);
        return;
    }
    foreign_in_child.reinitialized++;
    if (taken_by_us && made->operations->adopt) {
        // What came with taking it goes with an unlock only: a place in the thread's list (musl), a raised priority. Once it is this thread's in name, that is allowed.
        made->operations->adopt(made->lock);
        uncounted(made->operations->unlock, made->lock);
    }
    if (made->flags & FORKGUARD_AFTER_C_PHASES) lock->owes_reinitialization = true;
    else made->operations->reinitialize(made->lock);
    if (state == FOREIGN_TAKEN) return;
    lock->owes_torn = true;
    if (!birth.prepared) list_torn(lock); // those of a prepared fork are in its report already
}

static bool meet(registry_lock *lock, bool live, void *context) {
    (void)context;
    lock->busy = REGISTRY_LOCK_UNUSED;
    lock->owed = false;
    if (!live || lock->gone) {
        lock->state = FOREIGN_IDLE;
        return true;
    }
    foreign_in_child.locks++;
    // Its owner may have ended long ago, and asking it is not for the C phases; neither is trying a lock of the user's.
    lock->owed = (lock->made.hold && !lock->held) || (!birth.prepared && (lock->made.flags & FORKGUARD_AFTER_C_PHASES));
    if (!lock->owed) make_anew(lock);
    return true;
}

void foreign_child(const forkguard_slot *survivor, bool prepared) {
    foreign_in_child.locks = foreign_in_child.reinitialized = foreign_in_child.own = foreign_in_child.torn_count = 0;
    missing = NULL;
    // fork(3) does so, too, but not where the first other thread was made after it had begun, in a hook; and forks around it do not.
    if (has_streams) platform_reset_streams();
    has_streams = has_door = false;
    door_child();
    if (registry_locks() == 0) return;
    birth.survivor = survivor ? survivor->mutex_id : 0;
    birth.prepared = prepared;
    registry_each_lock(meet, NULL);
}

static void say_torn(const registry_lock *lock) {
    char place[FORKGUARD_NAME_SIZE], thread[24] = "";
    text_buffer buffer = {thread, sizeof thread, 0};
    text_add_signed(&buffer, lock->owner);
    trap_place(lock->made.file, lock->made.line, place, sizeof place);
    report_say((const char *const[]){
        "lock '", lock->made.name, "', registered at ", *place ? place : "an unknown place", ", is torn in this child: thread ",
        lock->owner > 0 ? thread : "(not known)", " of the parent had it when it was forked, ", report_mark_text(lock->mark),
        ". It was made anew and is free; what it protects may be half changed. What to do: register it with a torn callback that rebuilds that", NULL,
    });
}

static void finish(registry_lock *lock) {
    const forkguard_foreign_lock *made = &lock->made;
    if (!lock->held && made->hold) {
        if (made->hold(made->context) == FORKGUARD_GONE) {
            lock->gone = true;
            return;
        }
        lock->held = true;
    }
    if (lock->owed) make_anew(lock);
    if (lock->owes_reinitialization) {
        made->operations->reinitialize(made->lock);
        // A lock that is still taken now would hang its first user: better to say so.
        int result = made->operations->try_lock ? uncounted(made->operations->try_lock, made->lock) : EINVAL;
        if (result == 0) uncounted(made->operations->unlock, made->lock);
        else if (made->operations->try_lock) report_hook(made->name, "child", result, 0);
    }
    if (!lock->owes_torn) return;
    int code = made->torn ? made->torn(made->context) : 0;
    if (code != 0) report_hook(made->name, "torn", code, 0);
    if (!made->torn) say_torn(lock);
}

static bool finish_one(registry_lock *lock, bool live, void *context) {
    if (live && !lock->gone && (lock->owed || lock->owes_reinitialization || lock->owes_torn) && use(lock, *(uint64_t *)context)) {
        finish(lock);
        end_use(lock);
    }
    lock->owed = lock->owes_reinitialization = lock->owes_torn = false;
    return true;
}

void foreign_finish_child(void) {
    if (registry_locks() == 0) return;
    uint64_t serial = gate_slot()->serial;
    registry_each_lock(finish_one, &serial);
    foreign_settle();
}
