// Which cures are on: a table that is written at start and only read later.

#include "support.h"

#include "copy.h"

#include "report.h"

#include <string.h>

#include "forkguard/lock.h"

static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("ForkGuard's list of cures");
static forkguard_cure cures[FORKGUARD_CURES];
static size_t known;
static bool thread_ids;

static void (*survivor_rests)(void);

void forkguard_announce_rest(void (*rests)(void)) {
    FOLLOW(announce_rest, rests);
    __atomic_store_n(&survivor_rests, rests, __ATOMIC_RELEASE);
}

void support_survivor_rests(void) {
    void (*rests)(void) = __atomic_load_n(&survivor_rests, __ATOMIC_ACQUIRE);
    if (rests) rests();
}

bool support_cures_thread_ids(void) { return __atomic_load_n(&thread_ids, __ATOMIC_RELAXED); }

void forkguard_announce_cure(const char *name, bool on, const char *explanation) {
    FOLLOW(announce_cure, name, on, explanation);
    if (strcmp(name, "thread-ids") == 0) __atomic_store_n(&thread_ids, on, __ATOMIC_RELAXED);
    forkguard_lock(&lock);
    size_t i = 0;
    while (i < known && strncmp(cures[i].name, name, sizeof cures[i].name - 1) != 0) i++;
    if (i < FORKGUARD_CURES) {
        text_copy(cures[i].name, sizeof cures[i].name, name);
        text_copy(cures[i].explanation, sizeof cures[i].explanation, explanation);
        cures[i].on = on;
        if (i == known) known++;
    }
    forkguard_unlock(&lock);
}

size_t forkguard_cures(forkguard_cure *copies, size_t count) {
    FOLLOW(cures, copies, count);
    forkguard_lock(&lock);
    size_t all = known;
    for (size_t i = 0; i < all && i < count; i++) copies[i] = cures[i];
    forkguard_unlock(&lock);
    return all;
}
