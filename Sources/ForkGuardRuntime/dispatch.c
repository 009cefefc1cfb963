// libdispatch in a forked child: its own state put back to what it was before its first use.
//
// libdispatch has no handlers for fork on Linux, and its dispatch_atfork_child gives up the child of a process that has used it: it makes its queues' heads invalid addresses (src/queue.c,
// _dispatch_queue_atfork_child). What is wrong in a child is little. The threads of its pools are gone, but they are still counted, so no new ones are started; the manager's thread
// is gone, and its epoll instance is the parent's, too. All of that is in libdispatch's variables, 11 KB of memory to which nobody else writes. Here is a copy of them from before
// their first use. A child puts it back: it has the pools, the manager and the timers of a process that has not used them yet, and they come alive at the first use as they do in any
// process. What was waiting there to run is forgotten with it: it is the parent's work.
//
// The main queue then belongs to the thread that the fork was called on, the child's main thread: dispatch_atfork_child says so to it, and does no more in a process that has not used
// libdispatch.
//
// Queues and sources are on the heap, and stay as they are. See queues.c.

#include "dispatch.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ForkGuardRuntime.h"
#include "concurrency.h"
#include "forkguard.h"
#include "loops.h"
#include "operations.h"
#include "process.h"
#include "queues.h"

// The sums over the names that libdispatch exports with which this was tested (imports_object). All of Swift 6.3.1.
static const uint64_t tested[] = {UINT64_C(0x5231dab293a3fa2f)};

#define MAIN_QUEUE_SIZE 128 // a cache line, twice (src/queue_internal.h, dispatch_queue_static_s)
#define BOUND_TO_THREAD 0x00040000u

// Of the thread-local variables the first two (src/shims/tsd.h).
typedef struct thread_state {
    int32_t id;
    void *queue; // which the thread is running a block of
} thread_state;

static struct {
    object_memory memory;
    void *copy;
    void *library; // dlopen(3)'s
    char *main_queue;
    queue_offsets at;
    void (*atfork_child)(void);
    uint32_t (*main_handle)(void);
    const char *(*label)(const void *);
} kept;

// The calling thread's. They are all that libdispatch has of such variables.
static thread_state *state_of_thread(void) { return imports_thread_data(&kept.memory); }

// Where the main queue notes its eventfd, by which run loops hear of it: the number plus one.
static uint64_t *main_eventfd(void) { return (uint64_t *)(kept.main_queue + kept.at.target + sizeof(void *)); }

static uint64_t *main_state(void) { return (uint64_t *)(kept.main_queue + kept.at.serial - sizeof(uint64_t)); }
static bool main_is_bound(void) { return *(const uint32_t *)(kept.main_queue + kept.at.width) & BOUND_TO_THREAD; }

// Nobody can run the main queue's blocks where the forking thread is one of libdispatch's own, which will go back to its pool. So the main queue becomes one like others, which the pools
// run. libdispatch does that when the main thread ends, and this is it.
static void *be_main_thread(void *context) {
    (void)context;
    kept.label(NULL); // by any call libdispatch makes its variables of this thread
    thread_state *state = state_of_thread();
    // Not by dispatch_atfork_child: somebody may have used libdispatch since its state was put back.
    __atomic_store_n(main_state(), (__atomic_load_n(main_state(), __ATOMIC_RELAXED) & ~QUEUE_OWNER) | (uint32_t)state->id, __ATOMIC_RELEASE);
    state->queue = kept.main_queue;
    return NULL;
}

static void put_back(bool runs_main_queue) {
    char *main_end = kept.main_queue + MAIN_QUEUE_SIZE, *copy = kept.copy;
    size_t before = (size_t)(kept.main_queue - kept.memory.data), after = (size_t)(main_end - kept.memory.data);
    memcpy(kept.memory.data, copy, before);
    memcpy(main_end, copy + after, kept.memory.size - after);
    // In a process whose main thread has ended, a thread of the pool that forks in a block of the main queue will go on with it.
    if (!runs_main_queue) memcpy(kept.main_queue, copy + before, MAIN_QUEUE_SIZE);
}

static bool serve_main_queue(void) {
    pthread_t thread;
    return pthread_create(&thread, NULL, be_main_thread, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static bool forker_runs_main_queue;

// The thread that survived goes on with nothing: not with the block or the task that it was in, nor with the main queue.
static void survivor_rests(void) {
    if (!queues_in_child()) return;
    queues_survivor_rests();
    concurrency_survivor_rests();
    if (forker_runs_main_queue) memcpy(kept.main_queue, (char *)kept.copy + (kept.main_queue - kept.memory.data), MAIN_QUEUE_SIZE);
    forker_runs_main_queue = false;
    if (main_is_bound()) serve_main_queue();
}

static int become_child(void *context) {
    (void)context;
    thread_state *state = state_of_thread();
    // The main thread, which was bound to the main queue, goes back to it also when it is in another queue's block just now.
    bool is_main = main_is_bound() && state && (uint32_t)state->id == (*main_state() & QUEUE_OWNER);
    bool in_block = state && state->id && state->queue && !is_main;
    forker_runs_main_queue = in_block && state->queue == kept.main_queue && !main_is_bound();
    int eventfd = (int)*main_eventfd() - 1;
    loops_renew(eventfd);
    // As long as nothing was used there is nothing of the parent's, and the pages stay shared with it.
    bool was_used = memcmp(kept.memory.data, kept.copy, kept.memory.size) != 0;
    if (was_used) put_back(forker_runs_main_queue);
    kept.atfork_child();
    if (eventfd >= 0 && !forker_runs_main_queue) {
        // Under the number that a run loop which the child is in knows.
        int fresh = (int)kept.main_handle();
        if (fresh != eventfd && *main_eventfd() == (uint64_t)fresh + 1) {
            *main_eventfd() = (uint64_t)eventfd + 1;
            real_close(fresh);
        }
    }
    state = state_of_thread(); // dispatch_atfork_child has made one, if there was none
    process_become_child();
    queues_become_child(state ? state->id : 0, in_block ? state->queue : NULL);
    if (was_used) concurrency_become_child();
    if (was_used) operations_become_child();
    return !in_block || state->queue == kept.main_queue || serve_main_queue() ? 0 : EAGAIN;
}

// dispatch_main(3) lets go of the main queue when its thread ends; whose thread it is is known by what it says it runs.
static void (*real_dispatch_main)(void);

static void gated_dispatch_main(void) {
    thread_state *state = queues_in_child() ? state_of_thread() : NULL;
    if (state && !state->queue && main_is_bound()) state->queue = kept.main_queue;
    real_dispatch_main();
}

// What libdispatch is when nothing of it was used is not to be had any more.
static bool is_in_use(void) {
    bool (*is_multithreaded)(void) = (bool (*)(void))dlsym(kept.library, "_dispatch_is_multithreaded");
    return !is_multithreaded || is_multithreaded();
}

const char *dispatch_keep(bool untested) {
    kept.library = dlopen(FROM_DISPATCH, RTLD_LAZY | RTLD_NOLOAD);
    if (!kept.library || !imports_object(FROM_DISPATCH, &kept.memory)) return "libdispatch is not a shared library of this process";
    bool is_tested = untested;
    for (size_t i = 0; i < sizeof tested / sizeof *tested; i++) is_tested |= tested[i] == kept.memory.fingerprint;
    if (!is_tested) return "not the libdispatch of Swift 6.3.1, with which this was tested; FORKGUARD_RUNTIME=untested takes it all the same";
    const queue_offsets *offsets = dlsym(kept.library, "dispatch_queue_offsets");
    kept.main_queue = dlsym(kept.library, "_dispatch_main_q");
    kept.atfork_child = (void (*)(void))dlsym(kept.library, "dispatch_atfork_child");
    kept.main_handle = (uint32_t (*)(void))dlsym(kept.library, "_dispatch_get_main_queue_handle_4CF");
    kept.label = (const char *(*)(const void *))dlsym(kept.library, "dispatch_queue_get_label");
    void (*set_width)(void *, long) = (void (*)(void *, long))dlsym(kept.library, "dispatch_queue_set_width");
    if (!offsets || offsets->version != 6 || !kept.main_queue || !kept.atfork_child || !kept.main_handle || !kept.label || !set_width)
        return "libdispatch does not export what is needed";
    if (kept.main_queue < kept.memory.data || kept.main_queue + MAIN_QUEUE_SIZE > kept.memory.data + kept.memory.size) return "libdispatch's main queue is not among its variables";
    if (is_in_use()) return "libdispatch was in use before this was loaded";
    kept.at = *offsets;
    kept.copy = malloc(kept.memory.size);
    if (!kept.copy) return "no memory";
    memcpy(kept.copy, kept.memory.data, kept.memory.size);
    queues_know(offsets, &kept.memory, set_width);
    loops_know_dispatch(kept.memory.begin, kept.memory.end);
    forkguard_resource resource = {.name = "ForkGuardRuntime's dispatch", .child = become_child};
    if (!forkguard_register_resource(&resource)) return "no memory";
    forkguard_announce_rest(survivor_rests);
    return NULL;
}

#define LOOP(NAME) {#NAME, FROM_LIBC, (void *)gated_##NAME, (void **)&real_##NAME, FORKGUARD_RUNTIME_DISPATCH, 0, true},
const import dispatch_imports[] = {
    {"dispatch_main", FROM_DISPATCH, (void *)gated_dispatch_main, (void **)&real_dispatch_main, FORKGUARD_RUNTIME_DISPATCH, 0, false},
    LOOP(posix_spawn)
    LOOP(signalfd) LOOP(eventfd) LOOP(timerfd_create) LOOP(epoll_create1) LOOP(close)
};
const size_t dispatch_imports_count = sizeof dispatch_imports / sizeof *dispatch_imports;
