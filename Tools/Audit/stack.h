#ifndef AUDIT_STACK_H
#define AUDIT_STACK_H

// Return addresses of the calling thread, innermost first.

#include <stdbool.h>

#define STACK_FRAMES 10
#define STACK_DEEP 48

// From the frame that `caller` returns into. In signal_handler, if it is not NULL: whether a signal handler is among the frames, however deep.
int stack_walk(void *caller, void **frames, int limit, bool *signal_handler);

// A stack once walked, with the places on the stack where its return addresses lie: while all of them still hold what they held, it is the same stack.
// A walk costs microseconds, a look some ten loads, and a lock is taken again and again from the same places.
typedef struct stack_memory {
    void *caller, *frame;
    int count;
    void *frames[STACK_FRAMES];
    void **places[STACK_FRAMES];
} stack_memory;

#define STACK_MEMORIES 32

int stack_walk_remembered(stack_memory memories[STACK_MEMORIES], void *caller, void *frame, void **frames);

#endif
