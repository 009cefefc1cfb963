// Gated sections around locks that are not ours, and what can be told of threads that are gone.

#include "forkguard/section.h"

#include "copy.h"
#include "gate.h"
#include "platform/platform.h"
#include "turn.h"

// How long a forker in a hook sleeps before it looks again whether the holder now waits for its turn (R22).
#define LENDING_INTERVAL UINT64_C(5000000)

// Making a slot uses the C library's mutexes, which may be gated.
static FORKGUARD_THREAD_LOCAL bool making_slot FORKGUARD_TLS_MODEL;

forkguard_slot *forkguard_section_begin_slow(void) {
    FOLLOW(section_begin_slow);
    if (making_slot) return NULL;
    making_slot = true;
    forkguard_slot *slot = gate_slot();
    making_slot = false;
    __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_SEQ_CST);
    gate_enter_section(slot);
    __atomic_store_n(&slot->locks[(slot->held - 1) % FORKGUARD_LOCKS_REMEMBERED], NULL, __ATOMIC_RELAXED);
    return slot;
}

forkguard_slot *forkguard_section_slot_slow(void) {
    FOLLOW(section_slot_slow);
    return forkguard_thread_slot;
}

uint32_t forkguard_sections_held_slow(void) {
    const forkguard_slot *slot = forkguard_section_slot_slow();
    return slot ? slot->held : 0;
}

void forkguard_section_enter_slow(forkguard_slot *slot) {
    FOLLOW(section_enter_slow, slot);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    gate_enter_section(slot);
}

void forkguard_section_sleep(forkguard_slot *slot, void *lock, void *condition, const forkguard_sleep_operations *operations) {
    FOLLOW(section_sleep, slot, lock, condition, operations);
    // The note first: from the moment that it is counted out the lock may come.
    gate_note_sleep(slot, lock, condition, operations);
    // A forker that must sleep between its closed gate and the fork, in somebody's prepare handler, would wait for ever for one that waits for the gate.
    if (slot->fork_state == FORK_CLOSED) gate_give_up();
    __atomic_store_n(&slot->held, slot->held - 1, __ATOMIC_SEQ_CST); // R5
    if (__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_SEQ_CST) == FORKGUARD_GATE_CLOSED) gate_wake_forker();
}

bool forkguard_section_wake(forkguard_slot *slot) {
    FOLLOW(section_wake, slot);
    __atomic_store_n(&slot->held, slot->held + 1, __ATOMIC_SEQ_CST); // R1
    // R20: who makes itself known only now may have been passed by.
    if (gate_adopt(slot) || (__atomic_load_n(&forkguard_page.word.gate, __ATOMIC_SEQ_CST) == FORKGUARD_GATE_CLOSED && gate_holds_back(slot))) {
        // It may be copied here: not counted when the forker looked, with the lock in hand, and with its note.
        gate_note_letting_go(slot);
        return false;
    }
    gate_note_sleep(slot, NULL, NULL, NULL);
    return true;
}

void forkguard_section_park(forkguard_slot *slot) {
    FOLLOW(section_park, slot);
    gate_note_sleep(slot, NULL, NULL, NULL);
    gate_enter_section(slot);
}

void forkguard_section_let_go(forkguard_slot *slot, const void *lock) {
    for (unsigned i = 0; i < FORKGUARD_LOCKS_KEPT; i++)
        if (((uintptr_t)__atomic_load_n(&slot->lifelong[i], __ATOMIC_SEQ_CST) & ~(uintptr_t)7) == (uintptr_t)lock) // whatever its lowest bits say
            __atomic_store_n(&slot->lifelong[i], NULL, __ATOMIC_SEQ_CST);
}

bool forkguard_read_memory(void *to, const void *from, size_t size) { return platform_read(to, from, size); }

uint64_t forkguard_section_patience(forkguard_slot *slot, int32_t owner) {
    FOLLOW(section_patience, slot, owner);
    if (slot->fork_state != FORK_HOOKS) return 0;
    const forkguard_slot *holder = gate_slot_of_mutex_id(owner);
    forkguard_slot *waiter = holder ? gate_waiter_at(__atomic_load_n(&holder->serial, __ATOMIC_ACQUIRE)) : NULL;
    if (waiter) turn_lend(slot, waiter);
    return LENDING_INTERVAL;
}
