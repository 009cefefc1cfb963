// What the host asks of each object that has a copy of the library inside, itself too: compiled into each, so that each asks its own copy.

#ifndef COPY_OF_H
#define COPY_OF_H

#include "forkguard.h"

typedef struct copy_of {
    void (*begin)(void);
    int (*take)(void); // as forkguard_lock
    void (*leave)(void);
    uint64_t (*generation)(void);
    uint32_t (*held)(void);
    uint64_t (*ordinal)(void); // of the last fork
    const int *children, *parents; // how often its hooks ran
} copy_of;

typedef const copy_of *copy_entry_function(void);

static forkguard_lock_t copy_lock = FORKGUARD_LOCK_INITIALIZER("the lock of a copy");
static int copy_children, copy_parents;

static int in_child(void *context) {
    (void)context;
    return copy_children++, 0;
}

static int in_parent(void *context) {
    (void)context;
    return copy_parents++, 0;
}

static void begin(void) {
    static const forkguard_resource resource = {.name = "the resource of a copy", .parent = in_parent, .child = in_child};
    forkguard_register_resource(&resource);
}

static int take(void) { return forkguard_lock(&copy_lock); }
static void leave(void) { forkguard_unlock(&copy_lock); }
static uint64_t generation(void) { return forkguard_generation(); }
static uint32_t held(void) { return forkguard_sections_held(); }

static uint64_t ordinal(void) {
    forkguard_report report;
    return forkguard_last_report(&report) == 0 ? report.ordinal : 0;
}

static const copy_of own = {begin, take, leave, generation, held, ordinal, &copy_children, &copy_parents};

#endif
