// FORKGUARD_PRELOAD_EXCLUDE=name,name: programs, and shared objects, which are the names with ".so" in them.

#include "exclusions.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload.h"

#define MOST_OBJECTS 16

static struct {
    size_t count;
    char names[MOST_OBJECTS][64];
} objects;

// Since glibc 2.35: neither locks nor allocates.
extern int _dl_find_object(void *, struct dl_find_object *) __attribute__((weak));

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_this_program(const char *name) {
    static char path[4096];
    if (!*path) {
        ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
    }
    return strcmp(name, last_part(path)) == 0 || strcmp(name, program_invocation_short_name) == 0;
}

typedef struct search {
    const char *name;
    bool found;
} search;

static int look_at(struct dl_phdr_info *info, size_t size, void *context) {
    search *search = context;
    (void)size;
    search->found |= strcmp(last_part(info->dlpi_name), search->name) == 0;
    return search->found;
}

// True when the name is this program's.
static bool add(const char *name) {
    if (!strstr(name, ".so")) {
        if (strchr(name, '/')) preload_say("FORKGUARD_PRELOAD_EXCLUDE names '", name, "': give the program's name without its directory; it is ignored");
        return is_this_program(name);
    }
    if (strchr(name, '/') || strlen(name) >= sizeof *objects.names || objects.count == MOST_OBJECTS || !_dl_find_object) {
        const char *why = strchr(name, '/')                  ? "': give the object's name without its directory; it is ignored"
                          : strlen(name) >= sizeof *objects.names ? "', which is longer than 63 bytes; it is ignored"
                          : objects.count == MOST_OBJECTS    ? "', one object more than the 16 that there is room for; it is ignored"
                                                             : "', and to tell whose a call is takes glibc 2.35 or later; it is ignored";
        preload_say("FORKGUARD_PRELOAD_EXCLUDE names '", name, why);
        return false;
    }
    strcpy(objects.names[objects.count++], name);
    // Programs that this one starts have the same list, and may well not have that object.
    search search = {.name = name};
    dl_iterate_phdr(look_at, &search);
    if (!search.found && !getenv("FORKGUARD_PRELOAD_SAID")) {
        preload_say("FORKGUARD_PRELOAD_EXCLUDE names '", name, "', which is not loaded when this program starts; its calls are left alone if it is loaded later");
        setenv("FORKGUARD_PRELOAD_SAID", "1", 1);
    }
    return false;
}

bool exclusions_read(void) {
    const char *list = getenv("FORKGUARD_PRELOAD_EXCLUDE");
    bool excluded = false;
    while (list && *list) {
        char name[256];
        size_t length = strcspn(list, ",");
        size_t kept = length < sizeof name ? length : sizeof name - 1;
        memcpy(name, list, kept);
        name[kept] = 0;
        if (kept == 0) preload_say("FORKGUARD_PRELOAD_EXCLUDE is '", getenv("FORKGUARD_PRELOAD_EXCLUDE"), "', in which a name is missing");
        else excluded |= add(name);
        list += length + (list[length] == ',');
    }
    return excluded;
}

bool exclusions_name_objects(void) { return objects.count != 0; }

bool exclusions_contain(const void *address) {
    struct dl_find_object found;
    if (_dl_find_object((void *)(uintptr_t)address, &found) != 0 || !found.dlfo_link_map) return false;
    const char *name = last_part(found.dlfo_link_map->l_name);
    for (size_t i = 0; i < objects.count; i++)
        if (strcmp(name, objects.names[i]) == 0) return true;
    return false;
}
