#include "pointers.h"

#include <stdint.h>
#include <stdlib.h>

struct pointer_places {
    size_t mask;
    const void *all[];
};

static size_t place_of(const void *pointer) {
    return (size_t)(((uintptr_t)pointer >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20);
}

bool pointers_contain(const pointers *pointers, const void *pointer) {
    const struct pointer_places *places = __atomic_load_n(&pointers->places, __ATOMIC_ACQUIRE);
    if (!places) return false;
    for (size_t i = place_of(pointer);; i++) {
        const void *found = __atomic_load_n(&places->all[i & places->mask], __ATOMIC_ACQUIRE);
        if (!found || found == pointer) return found != NULL;
    }
}

static void put(struct pointer_places *places, const void *pointer) {
    size_t i = place_of(pointer);
    while (places->all[i & places->mask]) i++;
    __atomic_store_n(&places->all[i & places->mask], pointer, __ATOMIC_RELEASE);
}

// At most half full. The old places stay: somebody may be reading there; together they are no more than the new ones.
static void grow(pointers *pointers) {
    const struct pointer_places *old = pointers->places;
    size_t size = old ? (old->mask + 1) * 2 : 64;
    struct pointer_places *places = calloc(1, sizeof *places + size * sizeof places->all[0]);
    if (!places) forkguard_trap_misuse(NULL, "no memory to remember what a child made", "give the process more memory");
    places->mask = size - 1;
    for (size_t i = 0; old && i <= old->mask; i++)
        if (old->all[i]) put(places, old->all[i]);
    __atomic_store_n(&pointers->places, places, __ATOMIC_RELEASE);
}

void pointers_insert(pointers *pointers, const void *pointer) {
    if (pointers_contain(pointers, pointer)) return;
    // A fork that was not prepared may have cut an insertion in two: then one pointer is not there, or not counted.
    if (forkguard_lock(&pointers->lock) == FORKGUARD_TORN) forkguard_lock_mark_consistent(&pointers->lock);
    if (!pointers_contain(pointers, pointer)) {
        if (!pointers->places || pointers->count * 2 > pointers->places->mask) grow(pointers);
        put(pointers->places, pointer);
        pointers->count++;
    }
    forkguard_unlock(&pointers->lock);
}

void pointers_forget(pointers *pointers) {
    // They stay, too: a child that becomes one late has threads that may be reading there.
    pointers->places = NULL;
    pointers->count = 0;
}
