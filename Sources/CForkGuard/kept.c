// Locks that are held for ever: a fork waits one deadline for them, and later ones do not (R23).
//
// Only of locks that are not ours, and tell whose they are but not since when. So the forker lists what late threads have shortly before its deadline, each thread takes off that
// list what it lets go of, and what is left when the deadline is over was held all the time in between.
//
// A section can also be lost: its mutex was unlocked by another thread, or freed while it was locked. Nothing ends such a section any more, so after a deadline it is not waited for
// either: of the locks that the thread noted, those that do not say any more that they are its.

#include "kept.h"

#include "gate.h"
#include "mutex.h"
#include "platform/platform.h"
#include "report.h"

#include "forkguard/section.h"

// In a slot's list: what the thread has shortly before the deadline. If it is still there when that is over, it was held all the time in between.
#define CANDIDATE 4u

static uint32_t sections_of(const void *noted, int32_t mutex_id) {
    const void *lock = (const void *)((uintptr_t)noted & ~(uintptr_t)(GATE_KIND | CANDIDATE));
    switch ((uintptr_t)noted & GATE_KIND) {
    case FORKGUARD_SECTION_MUTEX: return mutex_sections(lock, mutex_id);
    case FORKGUARD_SECTION_RWLOCK: return rwlock_sections(lock, mutex_id);
    default: return 0;
    }
}

uint32_t kept_sections(const forkguard_slot *slot) {
    uint32_t sections = 0;
    if (FORKGUARD_LIKELY(!__atomic_load_n(&slot->keeps, __ATOMIC_SEQ_CST))) return 0;
    for (unsigned i = 0; i < FORKGUARD_LOCKS_KEPT; i++) {
        const void *noted = __atomic_load_n(&slot->lifelong[i], __ATOMIC_SEQ_CST);
        if (!((uintptr_t)noted & CANDIDATE)) sections += sections_of(noted, slot->mutex_id);
    }
    return sections + slot->lost;
}

void kept_correct(forkguard_slot *slot, uint32_t held) {
    if (slot->lost > held) slot->lost = held;
}

static struct {
    const void *lock;
    int32_t thread_id;
    bool lost;
} to_say[FORKGUARD_LOCKS_KEPT];

static bool expect_to_keep(forkguard_slot *slot, void *forker) {
    if (slot != forker && __atomic_load_n(&slot->held, __ATOMIC_SEQ_CST) != 0) __atomic_store_n(&slot->keeps, 1, __ATOMIC_SEQ_CST);
    return true;
}

static void add_candidate(forkguard_slot *slot, const void *noted) {
    const void **place = NULL;
    if (sections_of(noted, slot->mutex_id) == 0) return;
    for (unsigned i = 0; i < FORKGUARD_LOCKS_KEPT; i++) {
        const void *kept = __atomic_load_n(&slot->lifelong[i], __ATOMIC_SEQ_CST);
        if (((uintptr_t)kept & ~(uintptr_t)CANDIDATE) == (uintptr_t)noted) return;
        if (sections_of(kept, slot->mutex_id) == 0) place = &slot->lifelong[i];
    }
    if (place) __atomic_store_n(place, (const void *)((uintptr_t)noted | CANDIDATE), __ATOMIC_SEQ_CST);
}

static bool list_candidates(forkguard_slot *slot, void *forker) {
    if (slot == forker || !slot->keeps) return true;
    for (unsigned i = 0; i < FORKGUARD_LOCKS_REMEMBERED; i++) add_candidate(slot, __atomic_load_n(&slot->locks[i], __ATOMIC_RELAXED));
    return true;
}

// Before the last wait. The barrier: who lets go from here on sees `keeps`, and takes off the list what is put on it now.
void kept_begin(forkguard_slot *forker) {
    gate_each(expect_to_keep, forker);
    platform_barrier();
    gate_each(list_candidates, forker);
}

static void remember_to_say(const void *lock, const forkguard_slot *slot, bool lost) {
    for (unsigned i = 0; i < sizeof to_say / sizeof *to_say; i++) {
        if (to_say[i].lock) continue;
        to_say[i].lock = lock;
        to_say[i].thread_id = slot->thread_id;
        to_say[i].lost = lost;
        return;
    }
}

static void count_lost(forkguard_slot *slot) {
    uint32_t held = __atomic_load_n(&slot->held, __ATOMIC_SEQ_CST), had = 0, gone = 0;
    const void *first = NULL;
    for (unsigned i = 0; i < held && i < FORKGUARD_LOCKS_REMEMBERED; i++) {
        const void *noted = __atomic_load_n(&slot->locks[i], __ATOMIC_RELAXED);
        if (!((uintptr_t)noted & GATE_KIND)) continue;
        uint32_t sections = sections_of(noted, slot->mutex_id);
        had += sections;
        gone += sections == 0;
        if (sections == 0 && !first) first = noted;
    }
    uint32_t lost = held > had ? held - had : 0;
    if (lost > gone) lost = gone; // the others are not locks that tell whose they are
    if (lost > slot->lost && first) remember_to_say(first, slot, true);
    slot->lost = lost;
}

// After it. Who is not late has been waited for. Those first that wait for no lock themselves: they hold up the others.
static bool end_to_keep(forkguard_slot *slot, void *context) {
    if ((__atomic_load_n(&slot->sleeps_for, __ATOMIC_SEQ_CST) != NULL) != *(bool *)context) return true;
    if (slot->mark == FORKGUARD_MARK_LATE && slot->keeps) count_lost(slot);
    for (unsigned i = 0; i < FORKGUARD_LOCKS_KEPT && slot->keeps; i++) {
        const void *noted = __atomic_load_n(&slot->lifelong[i], __ATOMIC_SEQ_CST);
        if (!((uintptr_t)noted & CANDIDATE)) continue;
        const void *kept = (const void *)((uintptr_t)noted & ~(uintptr_t)CANDIDATE);
        bool stays = slot->mark == FORKGUARD_MARK_LATE && sections_of(kept, slot->mutex_id) != 0;
        bool is = __atomic_compare_exchange_n(&slot->lifelong[i], &noted, stays ? kept : NULL, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
        if (is && stays) remember_to_say(kept, slot, false);
    }
    return true;
}

void kept_end(void) {
    for (int waiting = 0; waiting < 2; waiting++) gate_each(end_to_keep, &(bool){waiting != 0});
}

void kept_child(void) {
    for (unsigned i = 0; i < sizeof to_say / sizeof *to_say && to_say[i].lock; i++) to_say[i].lock = NULL;
}

// Whether it was not said yet, of the last ones.
static bool is_news(const void *lock) {
    static const void *said[32];
    static unsigned count;
    for (unsigned i = 0; i < sizeof said / sizeof *said; i++)
        if (said[i] == lock) return false;
    said[count++ % (sizeof said / sizeof *said)] = lock;
    return true;
}

void kept_say(void) {
    for (unsigned i = 0; i < sizeof to_say / sizeof *to_say && to_say[i].lock; i++) {
        const void *noted = to_say[i].lock, *lock = (const void *)((uintptr_t)noted & ~(uintptr_t)GATE_KIND);
        to_say[i].lock = NULL;
        if (!is_news(noted)) continue;
        char name[16], place[FORKGUARD_NAME_SIZE * 2] = "", number[24], thread[24];
        text_buffer address = {number, sizeof number, 0}, id = {thread, sizeof thread, 0}, symbol = {place, sizeof place, 0};
        text_add_address(&address, lock);
        text_add_signed(&id, to_say[i].thread_id);
        platform_thread_name(to_say[i].thread_id, name);
        text_add_symbol(&symbol, lock);
        report_say((const char *const[]){
            ((uintptr_t)noted & GATE_KIND) == FORKGUARD_SECTION_MUTEX ? "the pthread mutex at " : "the pthread read-write lock at ", number,
            *place ? " (" : "", place, *place ? ")" : "", to_say[i].lost ? " was locked by thread " : " was still held by thread ", thread,
            *name ? " (" : "", name, *name ? ")" : "",
            to_say[i].lost ? ", and unlocked by another one, or freed while it was locked: a fork waited for that thread until its deadline. Later ones do not"
                           : " when the deadline of a fork was over. Forks do not wait for it any more until it is unlocked; in the child it is torn", NULL,
        });
    }
}
