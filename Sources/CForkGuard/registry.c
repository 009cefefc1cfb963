// Who is told about a fork: resources with callbacks.
//
// Registrations are nodes in chunks that are never freed; an id is the node's index and a counter, so a stale id is recognised. A node is
// in one list, oldest first. The list's lock is one of our own gated locks: so no other thread is changing the list at a fork, and after a fork that
// was not prepared it is found torn, and repaired from its forward links, which are written so that every prefix of a change is a whole list.
//
// A walk holds no lock while it calls hooks, which may register and cancel. Instead nothing is unlinked while a walk is under way: cancelling
// only notes the fork during which it happened, and the walk's end unlinks. Every node knows the fork before which it was registered, so each phase
// of a fork calls exactly those who were there when that fork began: prepare is always followed by parent or child.

#include "registry.h"

#include "gate.h"
#include "platform/platform.h"
#include "report.h"

#include <errno.h>
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
    forkguard_resource resource;
} node;

static struct {
    forkguard_lock_t lock;
    node *chunks[CHUNKS];
    uint32_t used;  // nodes that were ever handed out
    node *free;     // linked by `next`
    node head;      // a sentinel; head.next is the oldest
    node *newest;
    uint64_t fork; // the ordinal of the fork that was begun last
    uint64_t counter;
    size_t live, cancelled, sweep_at;
    uint32_t walks;
    const char *running; // the hook that is being called
    uint32_t first_use; // how many live ones wait for the first use
} registry = {
    .lock = FORKGUARD_LOCK_INITIALIZER("ForkGuard's registry"), .newest = &registry.head, .sweep_at = SWEEP_AT_LEAST,
};

static void lock_registry(void) {
    if (forkguard_lock(&registry.lock) == FORKGUARD_LOCKED) return;
    // A thread was changing the list at a fork that was not prepared. Forward links are whole; what follows from them is computed again.
    // A node that was in neither list at that moment is lost: some bytes.
    node *last = &registry.head;
    registry.live = registry.cancelled = registry.first_use = 0;
    for (node *node = last->next; node; last = node, node = node->next) {
        node->previous = last;
        if (node->cancelled) registry.cancelled++;
        else {
            registry.live++;
            if (node->resource.flags & FORKGUARD_ON_FIRST_USE) registry.first_use++;
        }
    }
    registry.newest = last;
    registry.free = NULL;
    forkguard_lock_mark_consistent(&registry.lock);
}

static void unlock_registry(void) { forkguard_unlock(&registry.lock); }

// Under the lock; no walk. What is released is collected in a list by `next`, because releasing runs code that is not ours.
static node *unlink_node(node *node, struct node *released) {
    node->previous->next = node->next;
    if (node->next) node->next->previous = node->previous;
    if (registry.newest == node) registry.newest = node->previous;
    registry.cancelled--;
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

static node *unlink_cancelled(void) {
    node *released = NULL;
    for (node *node = registry.head.next, *next; node && registry.cancelled; node = next) {
        next = node->next;
        if (node->cancelled) released = unlink_node(node, released);
    }
    return released;
}

static void cancel(node *node, bool gone) {
    node->cancelled = registry.fork + 1;
    node->gone = gone;
    registry.live--;
    registry.cancelled++;
    if (node->resource.flags & FORKGUARD_ON_FIRST_USE) registry.first_use--;
}

static node *find_node(uint64_t id) {
    uint32_t index = id & ((1u << INDEX_BITS) - 1);
    node *chunk = index < registry.used ? registry.chunks[index / NODES_IN_CHUNK] : NULL;
    node *node = chunk ? &chunk[index % NODES_IN_CHUNK] : NULL;
    return node && node->id == id && !node->cancelled ? node : NULL;
}

// Asks everybody whether they still exist. Only when the number of registrations has doubled, so it costs each of them a constant.
static void sweep(void) {
    registry_begin();
    lock_registry();
    node *last = registry.newest;
    unlock_registry();
    for (node *node = registry.head.next; node; node = node->next) {
        forkguard_callback probe = node->resource.probe;
        if (probe && !node->cancelled && probe(node->resource.context) == FORKGUARD_GONE) {
            lock_registry();
            if (!node->cancelled) cancel(node, true);
            unlock_registry();
        }
        if (node == last) break;
    }
    registry_end();
    lock_registry();
    registry.sweep_at = registry.live * 2 > SWEEP_AT_LEAST ? registry.live * 2 : SWEEP_AT_LEAST;
    unlock_registry();
}

static node *take_node(node **fresh) {
    node *node = registry.free;
    if (node) {
        registry.free = node->next;
        return node;
    }
    if (registry.used == 1u << INDEX_BITS) {
        errno = ENOSPC;
        return NULL;
    }
    if (registry.used % NODES_IN_CHUNK == 0) {
        if (!*fresh) return NULL;
        registry.chunks[registry.used / NODES_IN_CHUNK] = *fresh;
        *fresh = NULL;
    }
    node = &registry.chunks[registry.used / NODES_IN_CHUNK][registry.used % NODES_IN_CHUNK];
    node->index = registry.used++;
    return node;
}

uint64_t forkguard_register_resource(const forkguard_resource *resource) {
    forkguard_start();
    if (__atomic_load_n(&registry.live, __ATOMIC_RELAXED) >= registry.sweep_at) sweep();
    node *fresh = NULL;
    for (;;) {
        lock_registry();
        errno = 0;
        node *node = take_node(&fresh);
        if (!node) {
            unlock_registry();
            // Nothing is allocated under the lock: malloc may be slow, and the lock holds up forks.
            if (errno || !(fresh = calloc(NODES_IN_CHUNK, sizeof *fresh))) return 0;
            continue;
        }
        node->born = registry.fork;
        node->cancelled = 0;
        node->gone = node->inherited_corpse = false;
        node->resource = *resource;
        text_copy(node->name, sizeof node->name, resource->name && *resource->name ? resource->name : "without a name");
        node->resource.name = node->name;
        node->id = ++registry.counter << INDEX_BITS | node->index;
        node->previous = registry.newest;
        node->next = NULL;
        __atomic_store_n(&registry.newest->next, node, __ATOMIC_RELEASE);
        registry.newest = node;
        registry.live++;
        if (resource->flags & FORKGUARD_ON_FIRST_USE) registry.first_use++;
        uint64_t id = node->id;
        unlock_registry();
        free(fresh);
        return id;
    }
}

int forkguard_unregister(uint64_t id) {
    node *released = NULL;
    lock_registry();
    node *node = find_node(id);
    if (node) {
        cancel(node, false);
        if (registry.walks == 0) released = unlink_node(node, NULL);
    }
    unlock_registry();
    release(released);
    return node ? 0 : ENOENT;
}

const char *forkguard_current_hook(void) {
    const forkguard_slot *slot = forkguard_thread_slot;
    return slot && slot->fork_state == FORK_HOOKS ? registry.running : NULL;
}

const char *forkguard_running_hook(void) { return __atomic_load_n(&registry.running, __ATOMIC_ACQUIRE); }

size_t forkguard_registered_count(void) {
    lock_registry();
    size_t live = registry.live;
    unlock_registry();
    return live;
}

uint64_t registry_next_fork(void) { return __atomic_add_fetch(&registry.fork, 1, __ATOMIC_RELAXED); }

void registry_begin(void) {
    lock_registry();
    registry.walks++;
    unlock_registry();
}

void registry_end(void) {
    lock_registry();
    node *released = --registry.walks == 0 ? unlink_cancelled() : NULL;
    unlock_registry();
    release(released);
}

static const char *phase_name(enum registry_phase phase) {
    return phase == REGISTRY_PREPARE ? "prepare" : phase == REGISTRY_PARENT ? "parent" : "child";
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
    uint64_t before = platform_nanoseconds_coarse();
    uint64_t limit = (uint64_t)forkguard_deadline_ms() * 1000000;
    node *node = newest_first ? __atomic_load_n(&registry.newest, __ATOMIC_ACQUIRE) : registry.head.next;
    while (node && node != &registry.head) {
        forkguard_callback callback = callback_of(node, phase);
        if (callback && node->born < ordinal && !node->gone && (!node->cancelled || node->cancelled > ordinal)) {
            const char *outer = registry.running; // another fork's, which lent its turn
            __atomic_store_n(&registry.running, node->name, __ATOMIC_RELEASE);
            int code = callback(node->resource.context);
            __atomic_store_n(&registry.running, outer, __ATOMIC_RELEASE);
            uint64_t after = platform_nanoseconds_coarse();
            if (code == FORKGUARD_GONE) {
                lock_registry();
                if (!node->cancelled) cancel(node, true);
                node->gone = true;
                unlock_registry();
            } else if (code != 0 || after - before > limit) {
                report_hook(node->name, phase_name(phase), code ? code : ETIMEDOUT, after - before);
            }
            before = after;
        }
        node = newest_first ? node->previous : __atomic_load_n(&node->next, __ATOMIC_ACQUIRE);
    }
}

void registry_child(bool walking) {
    registry.walks = walking ? 1 : 0;
    if (!walking) registry.running = NULL;
    // The forker did not hold the list's lock, but nobody was inside it; after an unprepared fork it is found torn and repaired. What the parent
    // had cancelled and not yet released is the parent's to release.
    for (node *node = registry.cancelled ? registry.head.next : NULL; node; node = node->next)
        if (node->cancelled) node->inherited_corpse = true;
}

bool registry_has_first_use(void) { return __atomic_load_n(&registry.first_use, __ATOMIC_RELAXED) != 0; }

size_t registry_count(void) { return __atomic_load_n(&registry.live, __ATOMIC_RELAXED); }
