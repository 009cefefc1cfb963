// Who is told about a fork: resources with callbacks; and which locks that are not ours are to be free at a fork (foreign.c).
//
// Registrations are nodes in chunks that are never freed; an id is the node's index and a counter, so a stale id is recognised. A node is
// in one of two lists, oldest first. The lists' lock is one of our own gated locks: so no other thread is changing the list at a fork, and after a fork that
// was not prepared it is found torn, and repaired from its forward links, which are written so that every prefix of a change is a whole list.
//
// A walk holds no lock while it calls hooks, which may register and cancel. Instead nothing is unlinked while a walk is under way: cancelling
// only notes the fork during which it happened, and the walk's end unlinks. Every node knows the fork before which it was registered, so each phase
// of a fork calls exactly those who were there when that fork began: prepare is always followed by parent or child.

#include "registry.h"

#include "copy.h"

#include "foreign.h"
#include "gate.h"
#include "platform/platform.h"
#include "report.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "forkguard/atfork.h"

#define NODES_IN_CHUNK 256
#define INDEX_BITS 24
#define CHUNKS ((1u << INDEX_BITS) / NODES_IN_CHUNK)
#define SWEEP_AT_LEAST 64

typedef struct node {
    uint64_t id; // 0: free
    uint64_t born;    // the fork that was begun last when this was registered
    uint64_t cancelled; // 0, or one more than the ordinal of the fork that was begun last when it was cancelled
    bool gone;        // its callbacks must not be called any more, not even for the fork under way
    bool inherited_corpse; // cancelled in the parent: what it would release is the parent's
    struct node *next, *previous;
    uint32_t index;
    char name[FORKGUARD_NAME_SIZE];
    bool is_lock;
    forkguard_resource resource; // of a lock: name, probe, release, context
    registry_lock lock;
} node;

typedef struct list {
    node head; // a sentinel; head.next is the oldest
    node *newest;
    size_t live;
} list;

static struct {
    forkguard_lock_t lock;
    uint32_t used;  // nodes that were ever handed out
    node *free;     // linked by `next`
    list resources, locks;
    uint64_t fork; // the ordinal of the fork that was begun last
    uint64_t counter;
    size_t cancelled, sweep_at;
    uint32_t walks;
    const char *running; // the hook that is being called
    uint32_t first_use; // how many in the lists wait for the first use; who was cancelled during a fork is still to be told of it
} registry = {
    .lock = FORKGUARD_LOCK_INITIALIZER("ForkGuard's registry"),
    .resources.newest = &registry.resources.head,
    .locks.newest = &registry.locks.head,
    .sweep_at = SWEEP_AT_LEAST,
};

// Half a megabyte of zeros, apart: within an initialised struct it would be in the file, and each fork would copy page tables for it.
static node *chunks[CHUNKS];

static list *list_of(const node *node) { return node->is_lock ? &registry.locks : &registry.resources; }
static size_t live_registrations(void) {
    return __atomic_load_n(&registry.resources.live, __ATOMIC_RELAXED) + __atomic_load_n(&registry.locks.live, __ATOMIC_RELAXED);
}

// What follows from the forward links.
static void repair(list *list) {
    node *last = &list->head;
    list->live = 0;
    for (node *node = last->next; node; last = node, node = node->next) {
        node->previous = last;
        if (node->cancelled) registry.cancelled++;
        else list->live++;
        if (node->resource.flags & FORKGUARD_ON_FIRST_USE) registry.first_use++;
    }
    list->newest = last;
}

static void lock_registry(void) {
    if (forkguard_lock(&registry.lock) == FORKGUARD_LOCKED) return;
    // A thread was changing a list at a fork that was not prepared. Forward links are whole; what follows from them is computed again.
    // A node that was in no list at that moment is lost: some bytes.
    registry.cancelled = registry.first_use = 0;
    repair(&registry.resources);
    repair(&registry.locks);
    registry.free = NULL;
    forkguard_lock_mark_consistent(&registry.lock);
}

static void unlock_registry(void) { forkguard_unlock(&registry.lock); }

// Walks read these without the lock.
static uint64_t cancelled(const node *node) { return __atomic_load_n(&node->cancelled, __ATOMIC_RELAXED); }
static bool may_not_be_called(const node *node) { return __atomic_load_n(&node->gone, __ATOMIC_RELAXED); }

// Under the lock; no walk. What is released is collected in a list by `next`, because releasing runs code that is not ours.
static node *unlink_node(node *node, struct node *released) {
    node->previous->next = node->next;
    if (node->next) node->next->previous = node->previous;
    if (list_of(node)->newest == node) list_of(node)->newest = node->previous;
    registry.cancelled--;
    if (node->resource.flags & FORKGUARD_ON_FIRST_USE) registry.first_use--;
    node->next = released;
    return node;
}

static void release(node *released) {
    while (released) {
        node *node = released;
        released = node->next;
        if (node->resource.release && !node->inherited_corpse) node->resource.release(node->resource.context);
        lock_registry();
        node->id = 0;
        node->next = registry.free;
        registry.free = node;
        unlock_registry();
    }
}

static node *unlink_cancelled_from(list *list, node *released) {
    for (node *node = list->head.next, *next; node && registry.cancelled; node = next) {
        next = node->next;
        if (node->cancelled) released = unlink_node(node, released);
    }
    return released;
}

static node *unlink_cancelled(void) { return unlink_cancelled_from(&registry.locks, unlink_cancelled_from(&registry.resources, NULL)); }

static void cancel(node *node, bool gone) {
    __atomic_store_n(&node->cancelled, __atomic_load_n(&registry.fork, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&node->gone, gone, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&list_of(node)->live, 1, __ATOMIC_RELAXED);
    registry.cancelled++;
}

static node *find_node(uint64_t id) {
    uint32_t index = id & ((1u << INDEX_BITS) - 1);
    node *chunk = index < registry.used ? chunks[index / NODES_IN_CHUNK] : NULL;
    node *node = chunk ? &chunk[index % NODES_IN_CHUNK] : NULL;
    return node && node->id == id && !node->cancelled ? node : NULL;
}

static bool is_gone(const node *node) {
    return node->resource.probe && node->resource.probe(node->resource.context) == FORKGUARD_GONE;
}

static void sweep_list(list *list) {
    lock_registry();
    node *last = list->newest;
    unlock_registry();
    for (node *node = __atomic_load_n(&list->head.next, __ATOMIC_ACQUIRE); node; node = __atomic_load_n(&node->next, __ATOMIC_ACQUIRE)) {
        if (!cancelled(node) && is_gone(node)) {
            lock_registry();
            if (!node->cancelled) cancel(node, true);
            unlock_registry();
        }
        if (node == last) break;
    }
}

// Asks everybody whether they still exist. Only when the number of registrations has doubled, so it costs each of them a constant.
static void sweep(void) {
    registry_begin();
    sweep_list(&registry.resources);
    sweep_list(&registry.locks);
    registry_end();
    lock_registry();
    registry.sweep_at = live_registrations() * 2 > SWEEP_AT_LEAST ? live_registrations() * 2 : SWEEP_AT_LEAST;
    unlock_registry();
}

static node *take_node(node **fresh, bool *full) {
    node *node = registry.free;
    if (node) {
        registry.free = node->next;
        return node;
    }
    if (registry.used == 1u << INDEX_BITS) {
        *full = true;
        return NULL;
    }
    if (registry.used % NODES_IN_CHUNK == 0) {
        if (!*fresh) return NULL;
        chunks[registry.used / NODES_IN_CHUNK] = *fresh;
        *fresh = NULL;
    }
    node = &chunks[registry.used / NODES_IN_CHUNK][registry.used % NODES_IN_CHUNK];
    node->index = registry.used++;
    return node;
}

static const void *identity(const forkguard_foreign_lock *lock) { return lock->identity ? lock->identity : lock->lock; }

// Under the lock. The live registration of a lock, or NULL.
static node *find_lock(const void *wanted) {
    for (node *node = registry.locks.head.next; node; node = node->next)
        if (identity(&node->lock.made) == wanted && !node->cancelled) return node;
    return NULL;
}

// What is registered is a resource or a lock; `lock` is NULL for a resource.
static uint64_t add(const forkguard_resource *resource, const forkguard_foreign_lock *lock) {
    forkguard_start();
    if (live_registrations() >= registry.sweep_at) sweep();
    node *fresh = NULL;
    for (;;) {
        lock_registry();
        node *twin = lock ? find_lock(identity(lock)) : NULL;
        if (twin) {
            // The registration of a lock that ended and left its address to this one, or this one again? To be asked without the lock.
            uint64_t id = twin->id;
            registry.walks++;
            unlock_registry();
            bool gone = is_gone(twin);
            if (gone) forkguard_unregister(id);
            registry_end();
            if (gone) continue;
            free(fresh);
            errno = EEXIST;
            return 0;
        }
        bool full = false;
        node *node = take_node(&fresh, &full);
        if (!node) {
            unlock_registry();
            if (full) {
                free(fresh); // made while others took the last ones
                errno = ENOSPC;
                return 0;
            }
            // Nothing is allocated under the lock: malloc may be slow, and the lock holds up forks.
            if (!(fresh = calloc(NODES_IN_CHUNK, sizeof *fresh))) return 0;
            continue;
        }
        node->born = __atomic_load_n(&registry.fork, __ATOMIC_RELAXED);
        node->cancelled = 0;
        node->gone = node->inherited_corpse = false;
        node->is_lock = lock != NULL;
        node->resource = *resource;
        text_copy(node->name, sizeof node->name, resource->name && *resource->name ? resource->name : "without a name");
        node->resource.name = node->name;
        if (lock) {
            node->lock = (registry_lock){.made = *lock};
            node->lock.made.name = node->name;
        }
        node->id = ++registry.counter << INDEX_BITS | node->index;
        list *list = list_of(node);
        node->previous = list->newest;
        node->next = NULL;
        __atomic_store_n(&list->newest->next, node, __ATOMIC_RELEASE);
        __atomic_store_n(&list->newest, node, __ATOMIC_RELEASE);
        __atomic_fetch_add(&list->live, 1, __ATOMIC_RELAXED);
        if (resource->flags & FORKGUARD_ON_FIRST_USE) registry.first_use++;
        uint64_t id = node->id;
        unlock_registry();
        free(fresh);
        return id;
    }
}

uint64_t forkguard_register_resource(const forkguard_resource *resource) {
    FOLLOW(register_resource, resource);
    return add(resource, NULL);
}

uint64_t registry_add_lock(const forkguard_foreign_lock *lock) {
    forkguard_resource resource = {.name = lock->name, .probe = lock->probe, .release = lock->release, .context = lock->context};
    return add(&resource, lock);
}

uint64_t forkguard_registration_of(const void *identity) {
    FOLLOW(registration_of, identity);
    lock_registry();
    node *node = find_lock(identity);
    uint64_t id = node ? node->id : 0;
    unlock_registry();
    return id;
}

// After this nobody touches the lock. The forker has the gate closed while it uses one, so who comes here meanwhile is the forker itself, in a handler of
// somebody else's, or a thread that was let in because fork() seemed to wait for it (R15): then waiting is a risk, and so is not waiting.
static void await_disuse(registry_lock *lock) {
    uint64_t end = gate_deadline();
    while (__atomic_load_n(&lock->busy, __ATOMIC_ACQUIRE)) {
        if (lock->busy_serial == gate_slot()->serial) {
            foreign_let_go(lock);
            return;
        }
        uint64_t now = platform_nanoseconds();
        if (now >= end) return;
        uint32_t busy = REGISTRY_LOCK_BUSY;
        __atomic_compare_exchange_n(&lock->busy, &busy, REGISTRY_LOCK_AWAITED, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
        platform_wait(&lock->busy, REGISTRY_LOCK_AWAITED, (int64_t)(end - now));
    }
}

int forkguard_unregister(uint64_t id) {
    FOLLOW(unregister, id);
    node *released = NULL;
    lock_registry();
    node *node = find_node(id);
    if (node) {
        cancel(node, node->is_lock);
        if (registry.walks == 0) released = unlink_node(node, NULL);
    }
    unlock_registry();
    __atomic_thread_fence(__ATOMIC_SEQ_CST); // it was cancelled before it is asked whether somebody uses it; foreign.c has the other half
    if (node && node->is_lock && !released) await_disuse(&node->lock);
    release(released);
    return node ? 0 : ENOENT;
}

const char *forkguard_current_hook(void) {
    FOLLOW(current_hook);
    const forkguard_slot *slot = forkguard_thread_slot;
    return slot && slot->fork_state == FORK_HOOKS ? registry.running : NULL;
}

const char *forkguard_running_hook(void) {
    FOLLOW(running_hook);
    return __atomic_load_n(&registry.running, __ATOMIC_ACQUIRE);
}

size_t forkguard_registered_count(void) {
    FOLLOW(registered_count);
    lock_registry();
    size_t live = live_registrations();
    unlock_registry();
    return live;
}

uint64_t registry_last_fork(void) { return __atomic_load_n(&registry.fork, __ATOMIC_RELAXED); }

bool registry_is_empty(void) { return live_registrations() == 0; }

uint64_t registry_next_fork(void) { return __atomic_add_fetch(&registry.fork, 1, __ATOMIC_RELAXED); }

void registry_begin(void) {
    lock_registry();
    registry.walks++;
    unlock_registry();
}

void registry_end(void) {
    lock_registry();
    // In a child that another thread discovered, the survivor's own walk is not counted.
    node *released = registry.walks != 0 && --registry.walks == 0 ? unlink_cancelled() : NULL;
    unlock_registry();
    release(released);
}

static const char *phase_name(enum registry_phase phase) {
    return phase == REGISTRY_PREPARE ? "prepare" : phase == REGISTRY_PARENT ? "parent" : "child";
}

static void drop_callback(node *node, enum registry_phase phase) {
    forkguard_resource *resource = &node->resource;
    forkguard_callback *callback = phase == REGISTRY_PREPARE ? &resource->prepare : phase == REGISTRY_PARENT ? &resource->parent : &resource->child;
    __atomic_store_n(callback, NULL, __ATOMIC_RELAXED);
}

static forkguard_callback callback_of(const node *node, enum registry_phase phase) {
    bool first_use = node->resource.flags & FORKGUARD_ON_FIRST_USE;
    switch (phase) {
    case REGISTRY_PREPARE: return node->resource.prepare;
    case REGISTRY_PARENT: return node->resource.parent;
    case REGISTRY_CHILD: return first_use ? NULL : node->resource.child;
    case REGISTRY_CHILD_FIRST_USE: return first_use ? node->resource.child : NULL;
    default: return node->resource.child;
    }
}

void registry_walk(enum registry_phase phase, uint64_t ordinal) {
    bool newest_first = phase == REGISTRY_PREPARE;
    uint64_t before = platform_nanoseconds();
    uint64_t limit = (uint64_t)forkguard_deadline_ms() * 1000000;
    node *node = newest_first ? __atomic_load_n(&registry.resources.newest, __ATOMIC_ACQUIRE) : __atomic_load_n(&registry.resources.head.next, __ATOMIC_ACQUIRE);
    while (node && node != &registry.resources.head) {
        forkguard_callback callback = callback_of(node, phase);
        if (callback && node->born < ordinal && !may_not_be_called(node) && (!cancelled(node) || cancelled(node) > ordinal)) {
            const char *outer = registry.running; // another fork's, which lent its turn
            __atomic_store_n(&registry.running, node->name, __ATOMIC_RELEASE);
            int code = callback(node->resource.context);
            __atomic_store_n(&registry.running, outer, __ATOMIC_RELEASE);
            uint64_t after = platform_nanoseconds();
            if (code == FORKGUARD_GONE) {
                lock_registry();
                if (!node->cancelled) cancel(node, true);
                else __atomic_store_n(&node->gone, true, __ATOMIC_RELAXED);
                unlock_registry();
            } else if (code == FORKGUARD_UNUSED) {
                drop_callback(node, phase);
            } else {
                report_ran(node->name, phase_name(phase), after - before);
                if (code != 0 || after - before > limit)
                    report_hook(node->name, phase_name(phase), code ? code : ETIMEDOUT, after - before);
            }
            before = after;
        }
        node = newest_first ? node->previous : __atomic_load_n(&node->next, __ATOMIC_ACQUIRE);
    }
}

void registry_child(uint32_t walks, bool in_hook) {
    registry.walks = walks;
    if (!in_hook) registry.running = NULL;
    // The forker did not hold the lists' lock, but nobody was inside it; after an unprepared fork it is found torn and repaired. What the parent
    // had cancelled and not yet released is the parent's to release.
    list *lists[] = {&registry.resources, &registry.locks};
    for (unsigned i = 0; i < 2 && registry.cancelled; i++)
        for (node *node = lists[i]->head.next; node; node = node->next)
            if (node->cancelled) node->inherited_corpse = true;
}

void registry_each_lock(registry_visit visit, void *context) {
    for (node *node = __atomic_load_n(&registry.locks.head.next, __ATOMIC_ACQUIRE); node; node = __atomic_load_n(&node->next, __ATOMIC_ACQUIRE))
        if (!visit(&node->lock, !cancelled(node), context)) return;
}

bool registry_is_live(const registry_lock *lock) {
    return !cancelled((const node *)(const void *)((const char *)lock - offsetof(node, lock)));
}

void registry_drop_gone(void) {
    lock_registry();
    for (node *node = registry.locks.head.next; node; node = node->next)
        if (node->lock.gone && !node->cancelled) cancel(node, true);
    unlock_registry();
}

size_t registry_locks(void) { return __atomic_load_n(&registry.locks.live, __ATOMIC_RELAXED); }

bool registry_has_first_use(void) { return __atomic_load_n(&registry.first_use, __ATOMIC_RELAXED) != 0; }

