#include "stack.h"

#include "real.h"

#include <unwind.h>

typedef struct walk {
    void *caller, **frames, ***places;
    int count, limit, steps;
    bool begun, signal_handler, look_for_handler;
} walk;

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *argument) {
    walk *walk = argument;
    int interrupted = 0;
    void *address = (void *)_Unwind_GetIPInfo(context, &interrupted);
    if (!address || ++walk->steps > 400) return _URC_END_OF_STACK;
    if (address == walk->caller) walk->begun = true;
    if (!walk->begun) return walk->steps > 12 ? _URC_END_OF_STACK : _URC_NO_REASON;
    if (interrupted) walk->signal_handler = true; // it did not call: a signal came in between
    if (walk->count < walk->limit) {
        // A call leaves its return address just below the frame's canonical address; where that is not so, there is nothing to look at again.
        if (walk->places) {
            void **place = (void **)_Unwind_GetCFA(context) - 1;
            walk->places[walk->count] = !interrupted && *place == address ? place : NULL;
        }
        walk->frames[walk->count++] = address;
    }
    return walk->count == walk->limit && !walk->look_for_handler ? _URC_END_OF_STACK : _URC_NO_REASON;
}

int stack_walk(void *caller, void **frames, int limit, bool *signal_handler) {
    walk walk = {.caller = caller, .frames = frames, .limit = limit, .look_for_handler = signal_handler != NULL};
    _Unwind_Backtrace(step, &walk);
    if (signal_handler) *signal_handler = walk.signal_handler;
    if (walk.count == 0) frames[walk.count++] = caller;
    return walk.count;
}

static __attribute__((noinline)) void remember(stack_memory *memory, void *caller, void *frame) {
    walk walk = {.caller = caller, .frames = memory->frames, .places = memory->places, .limit = STACK_FRAMES};
    memory->caller = NULL; // a signal handler that comes here must not take half of it for whole
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    _Unwind_Backtrace(step, &walk);
    memory->frame = frame;
    memory->count = walk.count;
    if (walk.count == 0) memory->frames[memory->count++] = caller;
    for (int i = 1; i < memory->count; i++) {
        if (!memory->places[i] || (void *)memory->places[i] < frame) return;
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memory->caller = caller;
}

int stack_walk_remembered(stack_memory memories[STACK_MEMORIES], void *caller, void *frame, void **frames) {
    uintptr_t hash = ((uintptr_t)caller ^ (uintptr_t)frame >> 4) * UINT64_C(0x9E3779B97F4A7C15);
    stack_memory *memory = &memories[hash >> 59];
    bool same = memory->caller == caller && memory->frame == frame;
    for (int i = 1; same && i < memory->count; i++) same = *memory->places[i] == memory->frames[i];
    if (!same) remember(memory, caller, frame);
    int count = memory->count;
    for (int i = 0; i < count; i++) frames[i] = memory->frames[i];
    return count;
}
