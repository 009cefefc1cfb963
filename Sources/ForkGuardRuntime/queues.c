// Queues and sources that a child inherited.
//
// They are on the heap, as they were at the fork. A queue on which nothing was going on works in the child. One that had blocks, or that another thread was running a block of, says for
// ever that somebody is at it: a child that waited for it would hang. And what a serial queue protects may be half changed. So each use of a queue looks at it once, when the child comes
// to it for the first time. Whatever is going on there then is the parent's; what the child itself does to a queue comes later, and also through here.
//
// Two kinds of queues only pass on what they are given, and are made anew in the child instead: those of Swift's global executor, and the one that all of URLSession's are on.
//
// A source that the child inherited belongs to the parent's manager: the child never sees its events, and its registration is in memory that was put back (dispatch.c). To cancel it, to
// resume it or to let go of it would change what is registered now. So these do nothing.

#include "queues.h"

#include <stdio.h>
#include <string.h>

#include "ForkGuardRuntime.h"
#include "concurrency.h"
#include "forkguard.h"
#include "pointers.h"

typedef struct dispatch_object {
    const void *type;
} dispatch_object;

static struct {
    queue_offsets at;
    const char *own, *own_end; // libdispatch's variables: its own queues, which were put back
    const void *source_type; // what a source's first word is, once one was seen
    int32_t owner;
    bool in_child;
} known;

// Queues that were idle when the child came to them, and queues and sources that it made; and queues that it may share, but for barriers.
static pointers usable = POINTERS_INITIALIZER("ForkGuardRuntime's queues");
static pointers shared = POINTERS_INITIALIZER("ForkGuardRuntime's concurrent queues");

// A child that ran no handlers becomes one here.
static bool in_child(void) {
    forkguard_generation();
    return __builtin_expect(__atomic_load_n(&known.in_child, __ATOMIC_ACQUIRE), false);
}

bool queues_in_child(void) { return in_child(); }

// ---- what is going on in a queue ----
//
// One word says it (src/queue_internal.h, "dq_state demystified"); it lies before the serial number.

#define ENQUEUED UINT64_C(0x80000000)
#define TRANSFERRED UINT64_C(0x40000000)
#define ENQUEUED_ON_MANAGER UINT64_C(0x0000004000000000)
#define DIRTY UINT64_C(0x0000008000000000)
#define PENDING_BARRIER UINT64_C(0x0000010000000000)
#define WIDTH UINT64_C(0x003ffe0000000000)
#define WIDTH_SHIFT 41
#define IN_BARRIER UINT64_C(0x0040000000000000)
#define FULL 0x1000

static void *word_at(const void *queue, unsigned offset) { return __atomic_load_n((void *const *)((const char *)queue + offset), __ATOMIC_ACQUIRE); }

static const char *label_of(const void *queue) {
    const char *label = word_at(queue, known.at.label);
    return label ? label : "";
}

static bool is_own(const void *queue) { return (const char *)queue >= known.own && (const char *)queue < known.own_end; }

// SHARED: nothing but blocks that share the queue with others, of which it lets some thousands in. Those of the parent's will not leave it, so a barrier would wait for ever.
enum use { IDLE, SHARED, BUSY };

static enum use use_of(const void *queue) {
    uint64_t state = (uint64_t)word_at(queue, known.at.serial - 8u);
    uint64_t width = *(const uint16_t *)((const char *)queue + known.at.width);
    void *last = word_at(queue, known.at.serial - 16u);
    if ((state & QUEUE_OWNER) == (uint32_t)known.owner && known.owner) return last ? BUSY : IDLE; // the forking thread itself is in a block of it
    if (last || state & (QUEUE_OWNER | ENQUEUED | TRANSFERRED | ENQUEUED_ON_MANAGER | DIRTY | PENDING_BARRIER | IN_BARRIER)) return BUSY;
    return (state & WIDTH) >> WIDTH_SHIFT == FULL - width ? IDLE : width > 1 ? SHARED : BUSY;
}

// A URLSession's own, by the label that it gives it. Idle or not, its connections are the parent's.
static bool is_of_session(const void *queue) { return strncmp(label_of(queue), "URLSession<", 11) == 0; }

static _Noreturn __attribute__((cold)) void refuse(const void *queue, const char *used) {
    char text[256];
    if (is_of_session(queue)) {
        snprintf(text, sizeof text, "%s was used in a child: it is the parent's, and its connections are, too", label_of(queue));
        forkguard_trap_misuse(NULL, text, "make a URLSession of the child's own; URLSession.shared is the child's own where the parent has not used it");
    }
    snprintf(text, sizeof text, "%s: the dispatch queue '%.120s' was in use by another thread of the parent at the fork, and nobody will finish what was going on there", used, label_of(queue));
    forkguard_trap_misuse(NULL, text, "make a queue of the child's own, or have nothing going on in it when the process forks: call sync on it in ForkSafe's prepare");
}

// ---- queues that pass on ----

static const char swift_global[] = "Swift global concurrent queue"; // of _Concurrency: one for each priority
static const char session_shared[] = "org.swift.URLSession.SharedQueue"; // of FoundationNetworking

#define RELAYS 16
static struct {
    forkguard_lock_t lock;
    unsigned count;
    struct {
        const char *label;
        void *attributes; // libdispatch's own, for ever
        void *inherited, *fresh;
    } all[RELAYS];
} relays = {.lock = FORKGUARD_LOCK_INITIALIZER("ForkGuardRuntime's relays")};

static void lock_relays(void) {
    // Each entry is whole before it is counted.
    if (forkguard_lock(&relays.lock) == FORKGUARD_TORN) forkguard_lock_mark_consistent(&relays.lock);
}

static void *(*real_create)(const char *, void *);
static void *(*real_create_with_target)(const char *, void *, void *);
static void (*real_set_width)(void *, long);
static void (*real_suspend)(void *);

static void note_relay(void *queue, const char *label, void *attributes) {
    const char *is = !queue || !label ? NULL : strcmp(label, swift_global) == 0 ? swift_global : strcmp(label, session_shared) == 0 ? session_shared : NULL;
    if (!is) return;
    lock_relays();
    if (relays.count < RELAYS) {
        relays.all[relays.count].label = is;
        relays.all[relays.count].attributes = attributes;
        relays.all[relays.count].inherited = queue;
        __atomic_store_n(&relays.count, relays.count + 1, __ATOMIC_RELEASE);
    }
    forkguard_unlock(&relays.lock);
}

// Two threads that make Swift's queue at once keep one of the two.
static void forget_relay(const void *queue) {
    for (unsigned i = 0; i < __atomic_load_n(&relays.count, __ATOMIC_ACQUIRE); i++) {
        if (__atomic_load_n(&relays.all[i].inherited, __ATOMIC_RELAXED) != queue) continue;
        lock_relays();
        if (relays.all[i].inherited == queue) relays.all[i].inherited = NULL;
        forkguard_unlock(&relays.lock);
    }
}

static void *fresh_relay(unsigned i) {
    void *fresh = __atomic_load_n(&relays.all[i].fresh, __ATOMIC_ACQUIRE);
    if (fresh) return fresh;
    lock_relays();
    fresh = relays.all[i].fresh;
    if (!fresh) {
        fresh = real_create(relays.all[i].label, relays.all[i].attributes);
        // As many threads as processors (-3, DISPATCH_QUEUE_WIDTH_MAX_LOGICAL_CPUS), as Swift has it (stdlib/public/Concurrency/DispatchGlobalExecutor.cpp).
        if (relays.all[i].label == swift_global) real_set_width(fresh, -3);
        pointers_insert(&usable, fresh);
        __atomic_store_n(&relays.all[i].fresh, fresh, __ATOMIC_RELEASE);
    }
    forkguard_unlock(&relays.lock);
    return fresh;
}

static void *instead_of(void *queue) {
    unsigned count = __atomic_load_n(&relays.count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < count; i++)
        if (relays.all[i].inherited == queue) return fresh_relay(i);
    return NULL;
}

// ---- what a child uses ----

// Looks at one queue when the child comes to it; true when it may use it for what it wants.
static bool may_use(void *queue, const char *use) {
    if (pointers_contain(&usable, queue)) return true;
    bool barrier = strstr(use, "barrier") != NULL;
    if (pointers_contain(&shared, queue)) return !barrier;
    enum use now = use_of(queue);
    if (now == IDLE && !is_of_session(queue)) pointers_insert(&usable, queue);
    else if (now == SHARED && !barrier) pointers_insert(&shared, queue);
    // What another thread of the child may have done with it meanwhile comes after it has put it into a set.
    else return pointers_contain(&usable, queue) || (!barrier && pointers_contain(&shared, queue));
    return true;
}

// What it may use for `queue`.
static void *for_child(void *queue, const char *use) {
    if (!queue || is_own(queue)) return queue;
    void *fresh = instead_of(queue);
    if (fresh) return fresh;
    // To the queues that it is on, a barrier is a block like others.
    for (void *one = queue; one && !is_own(one); one = word_at(one, known.at.target))
        if (!may_use(one, one == queue ? use : "its target")) refuse(one, use);
    return queue;
}

#define QUEUE(ARGUMENT, NAME) \
    if (in_child()) ARGUMENT = (word)for_child((void *)ARGUMENT, NAME)

// All words that a call may have are passed on, the queue for the one that the child may use.
#define USES(NAME, ARGUMENT) \
    static word (*real_##NAME)(word, word, word, word); \
    static word gated_##NAME(word a, word b, word c, word d) { \
        QUEUE(ARGUMENT, #NAME); \
        return real_##NAME(a, b, c, d); \
    }
#define QUEUE_CALLS(CALL) \
    CALL(dispatch_async, a) CALL(dispatch_sync, a) CALL(dispatch_sync_f, a) \
    CALL(dispatch_barrier_async, a) CALL(dispatch_barrier_async_f, a) CALL(dispatch_barrier_sync, a) CALL(dispatch_barrier_sync_f, a) \
    CALL(dispatch_async_and_wait, a) CALL(dispatch_async_and_wait_f, a) CALL(dispatch_barrier_async_and_wait, a) CALL(dispatch_barrier_async_and_wait_f, a) \
    CALL(dispatch_group_async, b) CALL(dispatch_group_async_f, b) CALL(dispatch_group_notify, b) CALL(dispatch_group_notify_f, b) \
    CALL(dispatch_after, b) CALL(dispatch_after_f, b) CALL(dispatch_apply, b) CALL(dispatch_apply_f, b) CALL(dispatch_set_target_queue, b)
QUEUE_CALLS(USES)

static word (*real_dispatch_async_f)(word, word, word, word);
static word runs_jobs; // the function with which Swift's executors run a job

static word gated_dispatch_async_f(word queue, word context, word function, word d) {
    if (in_child()) {
        void *usable = for_child((void *)queue, "dispatch_async_f");
        if ((word)usable != queue) runs_jobs = function;
        if (function == runs_jobs) concurrency_resumes((const void *)context);
        queue = (word)usable;
    }
    return real_dispatch_async_f(queue, context, function, d);
}

static void *made(void *object) {
    if (object && in_child()) pointers_insert(&usable, object);
    return object;
}

static void *gated_create(const char *label, void *attributes) {
    void *queue = made(real_create(label, attributes));
    note_relay(queue, label, attributes);
    return queue;
}

static void *gated_create_with_target(const char *label, void *attributes, void *target) {
    if (in_child()) target = for_child(target, "dispatch_queue_create_with_target");
    void *queue = made(real_create_with_target(label, attributes, target));
    if (!target) note_relay(queue, label, attributes);
    return queue;
}

// ---- sources ----

static void *(*real_source_create)(const void *, word, word, void *);

static void *gated_source_create(const void *type, word handle, word mask, void *target) {
    if (in_child()) target = for_child(target, "dispatch_source_create");
    dispatch_object *source = real_source_create(type, handle, mask, target);
    if (source) __atomic_store_n(&known.source_type, source->type, __ATOMIC_RELAXED);
    return made(source);
}

static bool is_parents_source(const void *object) {
    const void *type = __atomic_load_n(&known.source_type, __ATOMIC_RELAXED);
    return object && type && ((const dispatch_object *)object)->type == type && !pointers_contain(&usable, object);
}

#define SOURCE_USES(NAME) \
    static word (*real_##NAME)(word, word, word, word); \
    static word gated_##NAME(word a, word b, word c, word d) { \
        if (in_child() && is_parents_source((const void *)a)) return 0; \
        return real_##NAME(a, b, c, d); \
    }
#define SOURCE_CALLS(CALL) \
    CALL(dispatch_source_cancel) CALL(dispatch_source_set_timer) CALL(dispatch_source_merge_data) \
    CALL(dispatch_source_set_event_handler) CALL(dispatch_source_set_event_handler_f) CALL(dispatch_source_set_cancel_handler) CALL(dispatch_source_set_cancel_handler_f) \
    CALL(dispatch_source_set_registration_handler) CALL(dispatch_source_set_registration_handler_f)
SOURCE_CALLS(SOURCE_USES)

// A queue that stood still comes alive.
static void wake_up(void (*real)(void *), void *object, const char *use) {
    if (in_child() && object) {
        if (is_parents_source(object)) return;
        if (!pointers_contain(&usable, object) && word_at(object, known.at.serial - 16u) && !pointers_contain(&usable, object)) refuse(object, use);
    }
    real(object);
}

static void (*real_resume)(void *);
static void (*real_activate)(void *);
static void gated_resume(void *object) { wake_up(real_resume, object, "dispatch_resume"); }
static void gated_activate(void *object) { wake_up(real_activate, object, "dispatch_activate"); }

static void (*real_release)(void *);

static void gated_release(void *object) {
    if (in_child() && is_parents_source(object)) return;
    forget_relay(object);
    real_release(object);
}

static void gated_suspend(void *object) {
    if (!in_child() || !is_parents_source(object)) real_suspend(object);
}

// ----

void queues_know(const queue_offsets *offsets, const object_memory *memory, void (*set_width)(void *, long)) {
    known.at = *offsets;
    known.own = memory->data;
    known.own_end = memory->data + memory->size;
    real_set_width = set_width;
}

void queues_become_child(int32_t owner, void *current) {
    known.owner = owner;
    // What waits behind the block that forked is the parent's.
    for (void *one = current; one && !is_own(one); one = word_at(one, known.at.target))
        if (word_at(one, known.at.serial - 16u)) real_suspend(one);
    pointers_forget(&usable);
    pointers_forget(&shared);
    for (unsigned i = 0; i < relays.count; i++) {
        // The forking thread may be in a task: the end of it would wake up what the parent had waiting there.
        void *used = relays.all[i].fresh ? relays.all[i].fresh : relays.all[i].inherited;
        if (used && relays.all[i].label == swift_global) real_suspend(used);
        relays.all[i].fresh = NULL;
    }
    __atomic_store_n(&known.in_child, true, __ATOMIC_RELEASE);
}

void queues_survivor_rests(void) { known.owner = 0; }

#define FUNCTION(NAME, FUNCTION) {NAME, FROM_DISPATCH, (void *)gated_##FUNCTION, (void **)&real_##FUNCTION, FORKGUARD_RUNTIME_DISPATCH, 0, false},
#define IMPORT(NAME, ...) FUNCTION(#NAME, NAME)
const import queue_imports[] = {
    QUEUE_CALLS(IMPORT)
    SOURCE_CALLS(IMPORT)
    IMPORT(dispatch_async_f)
    FUNCTION("dispatch_release", release)
    FUNCTION("dispatch_resume", resume)
    FUNCTION("dispatch_activate", activate)
    FUNCTION("dispatch_suspend", suspend)
    FUNCTION("dispatch_source_create", source_create)
    FUNCTION("dispatch_queue_create", create)
    FUNCTION("dispatch_queue_create_with_target", create_with_target)
};
const size_t queue_imports_count = sizeof queue_imports / sizeof *queue_imports;
