// pthread_atfork: libc keeps every triple that it is given, also the same one twice.

#include "connection.h"
#include "stack.h"

#include <errno.h>

#define TRIPLES 512
typedef struct triple {
    void (*prepare)(void), (*parent)(void), (*child)(void);
    void *object; // whose it is: NULL when it is gone
} triple;
static triple triples[TRIPLES];
static int triples_end;

static void say_twice(const triple *triple, void *caller) {
    void *functions[] = {(void *)(uintptr_t)triple->prepare, (void *)(uintptr_t)triple->parent, (void *)(uintptr_t)triple->child};
    void *frames[STACK_DEEP];
    int count = stack_walk(caller, frames, STACK_DEEP, NULL);
    const char *detail = "pthread_atfork was given the same three handlers before: each runs twice at a fork";
    json *packet = connection_finding("handlers-registered-twice", (fork_name){0}, detail);
    if (!packet) return;
    json_address(packet, "address", (uintptr_t)(functions[0] ? functions[0] : functions[1] ? functions[1] : functions[2]));
    json_stack(packet, "handlers", functions, 3);
    json_stack(packet, "stack", frames, count);
    connection_end(packet);
}

EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object) {
    int result = REAL(__register_atfork)(prepare, parent, child, object);
    if (result != 0 || (!prepare && !parent && !child) || audit_inside) return result;
    audit_inside = true; // also before the constructor: libraries register in theirs
    int saved = errno, end = __atomic_load_n(&triples_end, __ATOMIC_ACQUIRE);
    triple triple = {prepare, parent, child, object ? object : (void *)&triples};
    bool twice = false;
    for (int i = 0; i < end && i < TRIPLES; i++) {
        const struct triple *known = &triples[i];
        twice |= known->object == triple.object && known->prepare == prepare && known->parent == parent && known->child == child;
    }
    int place = __atomic_fetch_add(&triples_end, 1, __ATOMIC_ACQ_REL);
    if (place < TRIPLES) triples[place] = triple;
    else __atomic_store_n(&triples_end, TRIPLES, __ATOMIC_RELAXED);
    if (twice && audit_on && process_is_ours()) say_twice(&triple, CALLER);
    errno = saved;
    audit_leave();
    return result;
}

// libc drops the handlers of an object that is unloaded; loaded again it may register them at the same addresses.
EXPORT int dlclose(void *handle) {
    int result = REAL(dlclose)(handle);
    for (int i = 0; i < triples_end && i < TRIPLES; i++) {
        Dl_info object;
        if (triples[i].object && !dladdr(triples[i].object, &object)) triples[i].object = NULL;
    }
    return result;
}
