// An object with a copy of the library of its own, which a host opens. Its locks are taken by the host's threads too.

#include "forkguard.h"

#include "plugin.h"

static forkguard_lock_t lock = FORKGUARD_LOCK_INITIALIZER("the plugin's lock");
static int children, parents;

static int in_child(void *context) {
    (void)context;
    return children++, 0;
}

static int in_parent(void *context) {
    (void)context;
    return parents++, 0;
}

static const forkguard_resource resource = {.name = "the plugin's resource", .parent = in_parent, .child = in_child};

static void begin(void) { forkguard_register_resource(&resource); }
static int take(void) { return forkguard_lock(&lock); }
static void leave(void) { forkguard_unlock(&lock); }
static uint64_t generation(void) { return forkguard_generation(); }
static uint32_t held(void) { return forkguard_sections_held(); }

static uint64_t ordinal(void) {
    forkguard_report report;
    return forkguard_last_report(&report) == 0 ? report.ordinal : 0;
}

const plugin *plugin_entry(void);
const plugin *plugin_entry(void) {
    static const plugin entry = {begin, take, leave, generation, held, ordinal, &children, &parents};
    return &entry;
}
