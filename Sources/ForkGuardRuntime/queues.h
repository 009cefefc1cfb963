// Inside the product: queues and sources that a child inherited.

#ifndef FORKGUARD_QUEUES_H
#define FORKGUARD_QUEUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imports.h"

FORKGUARD_PRIVATE_BEGIN

/// What libdispatch says of its queues (dispatch_queue_offsets), the sixth version.
typedef struct queue_offsets {
    uint16_t version, label, label_size, flags, flags_size, serial, serial_size, width, width_size, running, running_size, suspended, suspended_size, target, target_size;
} queue_offsets;

/// In the word before the serial number, which says what is going on in a queue: the id of the thread that is at it.
#define QUEUE_OWNER UINT64_C(0x3fffffff)

/// At start. libdispatch's variables, and dispatch_queue_set_width.
void queues_know(const queue_offsets *offsets, const object_memory *memory, void (*set_width)(void *, long));

/// In the child, on its only thread, after the C phases and after libdispatch's state was put back. `owner`: the id by which libdispatch knows that thread, or 0;
/// `current`: the queue that it is in a block of, or NULL.
void queues_become_child(int32_t owner, void *current);

/// That thread goes on with no block that it was in.
void queues_survivor_rests(void);

/// Whether this process was forked.
bool queues_in_child(void);

extern const import queue_imports[];
extern const size_t queue_imports_count;

FORKGUARD_PRIVATE_END

#endif
