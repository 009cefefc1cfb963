// Inside the product: operation queues that a child inherited.

#ifndef FORKGUARD_RUNTIME_OPERATIONS_H
#define FORKGUARD_RUNTIME_OPERATIONS_H

#include <stddef.h>

#include "imports.h"

FORKGUARD_PRIVATE_BEGIN

/// After what is real was found.
void operations_found(void);

/// In the child, on its only thread.
void operations_become_child(void);

extern const import operation_imports[];
extern const size_t operation_imports_count;

FORKGUARD_PRIVATE_END

#endif
