// Inside the product: what is read in Swift's tasks and actors.
//
// It is not part of Swift's ABI: it is of Swift 6.3 (stdlib/public/Concurrency/TaskPrivate.h, TaskStatus.cpp, AsyncLet.cpp, Actor.cpp; include/swift/ABI/Task.h, TaskStatus.h), and read in that version only
// (start.c).

#ifndef FORKGUARD_RUNTIME_TASK_H
#define FORKGUARD_RUNTIME_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imports.h"

FORKGUARD_PRIVATE_BEGIN

/// What the runtime says of itself (_swift_concurrency_debug_internal_layout_version).
#define TESTED_LAYOUT 1

/// Of a task.
#define TASK_NEXT_WAITING 0x10 // who waits for the same task
#define TASK_FLAGS 0x20
#define TASK_ID 0x24 // its lower half
#define JOB_KIND 0xff
#define JOB_IS_TASK 0
#define JOB_OF_ACTOR 0xc1 // runs what waits for an actor
#define JOB_ACTOR 0x40
#define TASK_IS_CHILD UINT32_C(0x01000000)
#define TASK_IS_FUTURE UINT32_C(0x02000000)
#define TASK_IS_IN_GROUP UINT32_C(0x04000000)
#define TASK_RECORDS 0x68 // what it has begun and not ended, newest first
#define TASK_WAITS 0xa0   // the record of what it waits for

/// Of such a record.
#define RECORD_KIND 0
#define RECORD_IS_GROUP 2
#define RECORD_NEXT 0x08
#define RECORD_FIRST_CHILD 0x10
#define RECORD_AWAITED 0x10 // in the one of what it waits for: a task, a group

/// Of an `async let`: its task, and below the 16 what is known of it.
#define LET_TASK 0x18
#define LET_HAS_RESULT 4

/// Of an actor without an executor of its own.
#define ACTOR_STATE 0x20
#define ACTOR_STATE_MASK 7
#define ACTOR_IDLE 0
#define ACTOR_WAITING 0x28 // the jobs that wait for it: the last that came, and the first and the last of each priority
#define ACTOR_WAITING_WORDS 7

/// The kind of an option with which a task is made: its first executor.
#define OPTION_BEGINS_ON 0

/// What the runtime says itself: how large a task is. Behind it is who its parent is, if it is a child, and the next child; its group; and its future.
extern const word *task_size;

static inline word word_at(const void *object, size_t offset) { return __atomic_load_n((const word *)((const char *)object + offset), __ATOMIC_ACQUIRE); }
static inline uint32_t task_flags(const void *task) { return *(const uint32_t *)((const char *)task + TASK_FLAGS); }
static inline const void *task_parent(const void *child) { return (const void *)word_at(child, *task_size); }
static inline const void *task_next_child(const void *child) { return (const void *)word_at(child, *task_size + 8); }

/// The word that says whether a task is done, or who waits for it first.
static inline word task_future(const void *task) {
    uint32_t flags = task_flags(task);
    return word_at(task, *task_size + (flags & TASK_IS_CHILD ? 16 : 0) + (flags & TASK_IS_IN_GROUP ? 8 : 0));
}

static inline bool task_is_done(const void *task) { return !(task_flags(task) & TASK_IS_FUTURE) || (task_future(task) & 3) != 0; }

FORKGUARD_PRIVATE_END

#endif
