// Whose turn it is to fork.
//
// One thread at a time (R9). The turn passes to those first that wait for it inside a section: they hold up everybody else's fork, or make it
// tear. A thread that waits runs nothing of the user's (R21), so it is quiet for somebody else's fork, and says so to a forker that waits.
//
// Lending (R22). The forker's hooks run while the gate is open, and may need a lock whose holder waits for its own turn: a deadlock, but
// that the lock's slow path looks who is behind it and lends the turn. The borrower forks first, whole, with its own hooks, and gives the turn
// back. Meanwhile the lender counts as waiting, and what it had begun to report is put aside. A lender is never lent to: it is in
// the middle of its hooks and cannot fork first.

#include "turn.h"

#include "gate.h"
#include "platform/platform.h"
#include "process.h"
#include "report.h"

#include <limits.h>

#define turn process.turn

// A mutex that the gate does not know, for these few words.
static void lock_guard(void) {
    uint32_t free = 0;
    if (__atomic_compare_exchange_n(&turn.guard, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    while (__atomic_exchange_n(&turn.guard, 2, __ATOMIC_ACQUIRE) != 0) platform_wait(&turn.guard, 2, PLATFORM_FOREVER);
}

static void unlock_guard(void) {
    if (__atomic_exchange_n(&turn.guard, 0, __ATOMIC_RELEASE) == 2) platform_wake(&turn.guard, 1);
}

// Under the guard. `awaited`: somebody waits for it.
static void own_turn(uint64_t serial, bool awaited) {
    __atomic_store_n(&turn.owner, serial, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&turn.event, 1, __ATOMIC_SEQ_CST);
    if (awaited) platform_wake(&turn.event, INT_MAX);
}

static bool has_turn(const forkguard_slot *slot) { return __atomic_load_n(&turn.owner, __ATOMIC_SEQ_CST) == slot->serial; }

static void set_waiting(forkguard_slot *slot, uint32_t waits) {
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

bool turn_take_if_free(const forkguard_slot *slot) {
    lock_guard();
    bool mine = turn.owner == 0;
    if (mine) own_turn(slot->serial, false);
    unlock_guard();
    return mine;
}

bool turn_take(forkguard_slot *slot, uint64_t deadline) {
    lock_guard();
    bool mine = turn.owner == 0;
    if (mine) {
        own_turn(slot->serial, false);
    } else {
        slot->ticket = ++turn.tickets;
        set_waiting(slot, TURN_WAITS);
    }
    unlock_guard();
    if (mine) return true;
    mine = await_turn(slot, (int64_t)deadline);
    lock_guard();
    mine = mine || has_turn(slot); // it may have come in the last moment
    set_waiting(slot, TURN_NOT);
    unlock_guard();
    return mine;
}

static bool prefer(forkguard_slot *slot, void *context) {
    forkguard_slot **best = context;
    if (slot->waits_for_turn != TURN_WAITS) return true;
    bool inside = __atomic_load_n(&slot->held, __ATOMIC_SEQ_CST) != 0;
    bool best_inside = *best && __atomic_load_n(&(*best)->held, __ATOMIC_SEQ_CST) != 0;
    if (!*best || (inside && !best_inside) || (inside == best_inside && slot->ticket < (*best)->ticket)) *best = slot;
    return true;
}

void turn_pass(forkguard_slot *slot) {
    lock_guard();
    forkguard_slot *next = slot->lender;
    if (next) slot->lender = NULL;
    if (!next) gate_each(prefer, &next);
    own_turn(next ? next->serial : 0, next != NULL);
    unlock_guard();
}

bool turn_lend(forkguard_slot *slot, forkguard_slot *borrower) {
    lock_guard();
    bool lends = borrower->waits_for_turn == TURN_WAITS && has_turn(slot);
    forkguard_report mine = report_current;
    if (lends) {
        borrower->lender = slot;
        set_waiting(slot, TURN_LENT);
        own_turn(borrower->serial, true);
    }
    unlock_guard();
    if (!lends) return false;
    await_turn(slot, PLATFORM_FOREVER);
    set_waiting(slot, TURN_NOT);
    report_current = mine;
    return true;
}

void turn_child(forkguard_slot *survivor, bool keeps) {
    turn.guard = 0;
    if (survivor) {
        survivor->lender = NULL;
        survivor->waits_for_turn = TURN_NOT;
    }
    turn.owner = survivor && keeps ? survivor->serial : 0;
}
