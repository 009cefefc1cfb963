// Inside the product: tasks and actors that a child inherited.

#ifndef FORKGUARD_RUNTIME_CONCURRENCY_H
#define FORKGUARD_RUNTIME_CONCURRENCY_H

#include <stdbool.h>
#include <stddef.h>

#include "imports.h"

FORKGUARD_PRIVATE_BEGIN

/// After what is real was found, before it is led: makes the wrappers of what is called by way of a pointer to it.
void concurrency_found(void);

/// Whether Swift concurrency is in this process, and the one that was tested.
bool concurrency_is_known(void);

/// In the child, on its only thread, after the C phases and before Swift runs there.
void concurrency_become_child(void);

/// That thread goes on with no task.
void concurrency_survivor_rests(void);

/// In a child: a job goes to an executor. A task of the parent's that the child has resumed runs in the child.
void concurrency_resumes(const void *job);

extern const import concurrency_imports[];
extern const size_t concurrency_imports_count;

FORKGUARD_PRIVATE_END

#endif
