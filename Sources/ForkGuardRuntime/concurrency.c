// Tasks and actors that a child inherited.
//
// Swift's executors are libdispatch's queues (dispatch.c), so a child's own tasks run. A task of the parent's does not: it was running on a thread that is gone, or waits in a queue that was
// forgotten, or for something that the parent will get. Who waits for it waits for ever. And an actor that a thread of the parent was in, or that has the parent's tasks waiting for it,
// is never entered again. Both are seen when the child comes to them, and end it with a message that names them.
//
// Which tasks are the parent's is told by their numbers: they are given in order, and the child notes the first that is its own. The task that the fork was called in goes on in the
// child, and so does, when it is done, who waits for it; so does one that the child itself resumes.
//
// Which actors were in use is told when the child comes to one for the first time: whatever goes on in it then is the parent's, because what the child does there comes later, and by the same
// way (queues.c).
//
// The children of that task are of the parent, too: its `async let`s and those in its task groups. Who waits for an `async let` is seen as above. A group waits inside the runtime, where
// nothing can be led; but what a task waits for is noted in the task, so a thread looks there, if the group had children at the fork.

#include "concurrency.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "ForkGuardRuntime.h"
#include "forkguard.h"
#include "pointers.h"
#include "queues.h"
#include "task.h"

#if __has_attribute(swiftasynccall) && __has_attribute(musttail)

#define ASYNC __attribute__((swiftasynccall))
#define CONTEXT __attribute__((swift_async_context))
#define SWIFT __attribute__((swiftcall))
#define TAIL __attribute__((musttail))

const word *task_size;

static struct {
    uint64_t (*id_of)(const void *task);
    void *(*current_task)(void);
    struct executor {
        const void *identity;
        word implementation;
    } (*current_executor)(void);
    struct name {
        const char *text;
        word length;
    } (*SWIFT type_name)(const void *type, bool qualified);
    void *(*retain)(void *);
} swift;

#define GROUPS 8
static struct {
    uint64_t last_id; // of the parent's tasks; 0: there are none
    void *forked;     // the task that the fork was called in, or NULL
    word groups[GROUPS];
    bool rests;       // that task does not go on
    unsigned groups_count; // of its task groups, those with children that are gone
} inherited;

// Tasks of the parent that were resumed here.
static pointers resumed = POINTERS_INITIALIZER("ForkGuardRuntime's tasks");

static pointers entered = POINTERS_INITIALIZER("ForkGuardRuntime's actors");

static bool goes_on(void) { return !__atomic_load_n(&inherited.rests, __ATOMIC_ACQUIRE); }

// Whether `task` goes on once `living` is done.
static bool waits_for(const void *task, const void *living, unsigned depth) {
    if (!living || depth > 64) return false;
    if (task == living) return true;
    uint32_t flags = task_flags(living);
    if (flags & TASK_IS_CHILD && waits_for(task, task_parent(living), depth + 1)) return true;
    if (!(flags & TASK_IS_FUTURE)) return false;
    word future = task_future(living);
    for (const void *waiting = (const void *)(future & 3 ? 0 : future); waiting; waiting = (const void *)word_at(waiting, TASK_NEXT_WAITING))
        if (waits_for(task, waiting, depth + 1)) return true;
    return false;
}

static _Noreturn __attribute__((cold)) void refuse_task(const void *task) {
    char text[160];
    snprintf(text, sizeof text, "a task of the parent process was awaited: task %llu does not run here, and will not end", (unsigned long long)swift.id_of(task));
    forkguard_trap_misuse(NULL, text, "make a task of the child's own; forget tasks of the parent in ForkSafe's child");
}

void concurrency_resumes(const void *job) {
    if (!inherited.last_id) return;
    uint32_t kind = task_flags(job) & JOB_KIND;
    if (kind == JOB_IS_TASK && swift.id_of(job) <= inherited.last_id) pointers_insert(&resumed, job);
    // A task that goes on in an actor comes to it without a switch.
    if (kind == JOB_OF_ACTOR) pointers_insert(&entered, (const void *)word_at(job, JOB_ACTOR));
}

static void await(const void *task) {
    if (!task || swift.id_of(task) > inherited.last_id || task_is_done(task)) return;
    if (!pointers_contain(&resumed, task) && (!goes_on() || !waits_for(task, inherited.forked, 0))) refuse_task(task);
}

static _Noreturn __attribute__((cold)) void refuse_actor(const void *actor) {
    char text[256];
    struct name name = swift.type_name(*(const void *const *)actor, true);
    snprintf(text, sizeof text, "the actor %.*s was in use by tasks of the parent at the fork, and they will not leave it", (int)(name.length < 120 ? name.length : 120), name.text);
    forkguard_trap_misuse(NULL, text, "make an actor of the child's own, or have nothing going on in it when the process forks (ForkSafe's prepare)");
}

// An implementation of 0: the actor has no executor of its own.
static void enter(const void *actor, word implementation) {
    if (!actor || implementation || pointers_contain(&entered, actor)) return;
    if ((word_at(actor, ACTOR_STATE) & ACTOR_STATE_MASK) != ACTOR_IDLE && !pointers_contain(&entered, actor)) refuse_actor(actor);
    pointers_insert(&entered, actor);
}

// ---- wrappers ----

static ASYNC void (*real_switch)(CONTEXT void *, word, word, word);

static ASYNC void gated_switch(CONTEXT void *context, word resume, word actor, word implementation) {
    if (queues_in_child()) enter((const void *)actor, implementation);
    TAIL return real_switch(context, resume, actor, implementation);
}

// All words that a call may have in registers are passed on.
#define AWAITS(NAME, TASK) \
    static ASYNC void (*real_##NAME)(CONTEXT void *, word, word, word, word, word, word); \
    static ASYNC void gated_##NAME(CONTEXT void *context, word a, word b, word c, word d, word e, word f) { \
        if (queues_in_child()) await((const void *)(TASK)); \
        TAIL return real_##NAME(context, a, b, c, d, e, f); \
    }
#define OF_LET(LET) (word_at((const void *)(LET), LET_TASK) & LET_HAS_RESULT ? 0 : word_at((const void *)(LET), LET_TASK) & ~(word)15)
#define LET_CALLS(CALL) \
    CALL(swift_asyncLet_get, OF_LET(a)) CALL(swift_asyncLet_get_throwing, OF_LET(a)) CALL(swift_asyncLet_finish, OF_LET(a)) \
    CALL(swift_asyncLet_consume, OF_LET(a)) CALL(swift_asyncLet_consume_throwing, OF_LET(a))
#define TASK_CALLS(CALL) CALL(swift_task_future_wait, b) CALL(swift_task_future_wait_throwing, b)
LET_CALLS(AWAITS)
TASK_CALLS(AWAITS)
// Task.value, where it cannot throw and where it can, and Task.result.
AWAITS(value, b)
AWAITS(throwing_value, b)
AWAITS(result, b)

// Who calls an async function that it does not know does so by way of a pointer: where it is, from here, and how large its context is.
typedef struct async_pointer {
    int32_t function;
    uint32_t context_size;
} async_pointer;

static async_pointer *real_value_pointer, *real_throwing_value_pointer, *real_result_pointer;
static async_pointer value_pointer, throwing_value_pointer, result_pointer, stub_pointer;

typedef struct option {
    word kind;
    const struct option *parent;
    const void *actor;
    word implementation;
} option;

typedef struct created {
    void *task, *context;
} created;

static SWIFT created (*real_create)(word, const option *, const void *, const void *, void *);

// A task that begins on an actor.
static SWIFT created gated_create(word flags, const option *options, const void *type, const void *entry, void *context) {
    if (queues_in_child())
        for (const option *option = options; option; option = option->parent)
            if ((option->kind & 0xff) == OPTION_BEGINS_ON) enter(option->actor, option->implementation);
    return real_create(flags, options, type, entry, context);
}

// An isolated deinit comes to its actor without a switch.
static SWIFT void (*real_deinit)(void *, void *, const void *, word, word);

static SWIFT void gated_deinit(void *object, void *work, const void *actor, word implementation, word flags) {
    if (queues_in_child()) enter(actor, implementation);
    real_deinit(object, work, actor, implementation, flags);
}

// ----

static void point(async_pointer *pointer, word function, uint32_t context_size) {
    pointer->function = (int32_t)(function - (word)&pointer->function);
    pointer->context_size = context_size;
}


void concurrency_found(void) {
    if (swift.id_of || !real_switch) return;
    point(&value_pointer, (word)gated_value, real_value_pointer->context_size);
    point(&throwing_value_pointer, (word)gated_throwing_value, real_throwing_value_pointer->context_size);
    point(&result_pointer, (word)gated_result, real_result_pointer->context_size);
    void *concurrency = dlopen(FROM_CONCURRENCY, RTLD_LAZY | RTLD_NOLOAD), *core = dlopen(FROM_CORE, RTLD_LAZY | RTLD_NOLOAD);
    *(void **)&task_size = dlsym(concurrency, "_swift_concurrency_debug_asyncTaskSize");
    *(void **)&swift.current_task = dlsym(concurrency, "swift_task_getCurrent");
    *(void **)&swift.current_executor = dlsym(concurrency, "swift_task_getCurrentExecutor");
    *(void **)&swift.type_name = dlsym(core, "swift_getTypeName");
    *(void **)&swift.retain = dlsym(core, "swift_retain");
    const uint32_t *layout = dlsym(concurrency, "_swift_concurrency_debug_internal_layout_version");
    if (layout && *layout == TESTED_LAYOUT) *(void **)&swift.id_of = dlsym(concurrency, "swift_task_getJobTaskId");
}

bool concurrency_is_known(void) { return swift.id_of != NULL; }

static ASYNC void never(CONTEXT void *context) { (void)context; }

// The number that the next task has: one is made for it, which never runs.
static uint64_t next_id(void) {
    point(&stub_pointer, (word)never, 32);
    return swift.id_of(real_create(0, NULL, NULL, &stub_pointer, NULL).task);
}

// ---- groups of the task that forked ----

static uint64_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static bool has_vanished_children(const void *record) {
    const void *child = (const void *)word_at(record, RECORD_FIRST_CHILD);
    while (child && task_is_done(child)) child = task_next_child(child);
    return child != NULL;
}

// Children that the group got here: as long as there are any it may be them that are waited for. They come and go meanwhile.
static bool has_own_children(word record) {
    word child = 0;
    forkguard_read_memory(&child, (const void *)(record + RECORD_FIRST_CHILD), sizeof child);
    for (unsigned i = 0; child && i < 10000; i++) {
        uint32_t id;
        if (!forkguard_read_memory(&id, (const void *)(child + TASK_ID), sizeof id) || (int32_t)(id - (uint32_t)inherited.last_id) > 0) return true;
        if (!forkguard_read_memory(&child, (const void *)(child + *task_size + 8), sizeof child)) return true;
    }
    return false;
}

// What the forked task waits for. It may be done with it by now: its memory is read as such that may not be there.
static word awaited(void) {
    word record = word_at(inherited.forked, TASK_WAITS), what;
    return record && forkguard_read_memory(&what, (const void *)(record + RECORD_AWAITED), sizeof what) ? what : 0;
}

// The record of a group is a part of it.
static word group_in(word awaited) {
    for (unsigned i = 0; i < inherited.groups_count; i++)
        if (awaited <= inherited.groups[i] && inherited.groups[i] - awaited < 256 && !has_own_children(inherited.groups[i])) return awaited;
    return 0;
}

static void *watch_groups(void *context) {
    (void)context;
    uint64_t since = seconds();
    for (word last = 0; goes_on() && !task_is_done(inherited.forked); nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL)) {
        word now = group_in(awaited());
        if (!now || now != last) since = seconds();
        else if (seconds() - since > 1)
            forkguard_trap_misuse(
                NULL, "a task called fork inside a task group whose other tasks were running; in the child it waits for the group, and they are the parent's",
                "fork before the group, or end the child inside of it"
            );
        last = now;
    }
    return NULL;
}

static void look_for_groups(void) {
    inherited.groups_count = 0;
    for (const void *record = (const void *)word_at(inherited.forked, TASK_RECORDS); record; record = (const void *)word_at(record, RECORD_NEXT))
        if ((word_at(record, RECORD_KIND) & 0xff) == RECORD_IS_GROUP && has_vanished_children(record) && inherited.groups_count < GROUPS)
            inherited.groups[inherited.groups_count++] = (word)record;
    pthread_t thread;
    if (inherited.groups_count && pthread_create(&thread, NULL, watch_groups, NULL) == 0) pthread_detach(thread);
}

void concurrency_become_child(void) {
    if (!swift.id_of) return;
    pointers_forget(&entered);
    pointers_forget(&resumed);
    inherited.last_id = next_id();
    inherited.rests = false;
    inherited.forked = swift.current_task();
    // It may end before who asks for it.
    if (inherited.forked) {
        swift.retain(inherited.forked);
        look_for_groups();
    }
    struct executor here = swift.current_executor();
    if (!here.identity) return;
    pointers_insert(&entered, here.identity);
    // Who waits for the actor that the fork was called in is the parent's.
    for (unsigned i = 0; !here.implementation && i < ACTOR_WAITING_WORDS; i++) ((word *)((char *)here.identity + ACTOR_WAITING))[i] = 0;
}

void concurrency_survivor_rests(void) {
    // It leaves the actor that it is in as little as others do.
    pointers_forget(&entered);
    __atomic_store_n(&inherited.rests, true, __ATOMIC_RELEASE);
}

#define FUNCTION(NAME, FUNCTION) {NAME, FROM_CONCURRENCY, (void *)gated_##FUNCTION, (void **)&real_##FUNCTION, FORKGUARD_RUNTIME_CONCURRENCY, 0, false},
#define IMPORT(NAME, ...) FUNCTION(#NAME, NAME)
#define POINTER(NAME, POINTER) {NAME, FROM_CONCURRENCY, &POINTER, (void **)&real_##POINTER, FORKGUARD_RUNTIME_CONCURRENCY, 0, false},
const import concurrency_imports[] = {
    LET_CALLS(IMPORT)
    TASK_CALLS(IMPORT)
    FUNCTION("$sScTss5NeverORs_rlE5valuexvg", value)
    FUNCTION("$sScT5valuexvg", throwing_value)
    FUNCTION("$sScT6results6ResultOyxq_Gvg", result)
    POINTER("$sScTss5NeverORs_rlE5valuexvgTu", value_pointer)
    POINTER("$sScT5valuexvgTu", throwing_value_pointer)
    POINTER("$sScT6results6ResultOyxq_GvgTu", result_pointer)
    FUNCTION("swift_task_switch", switch)
    FUNCTION("swift_task_deinitOnExecutor", deinit)
    FUNCTION("swift_task_create", create)
};
const size_t concurrency_imports_count = sizeof concurrency_imports / sizeof *concurrency_imports;

#else

void concurrency_found(void) {}
void concurrency_resumes(const void *job) { (void)job; }
void concurrency_survivor_rests(void) {}
bool concurrency_is_known(void) { return false; }
void concurrency_become_child(void) {}
const import concurrency_imports[1];
const size_t concurrency_imports_count = 0;

#endif
