// Inside the product: sets of pointers that grow and are read without a lock.

#ifndef FORKGUARD_POINTERS_H
#define FORKGUARD_POINTERS_H

#include <stdbool.h>
#include <stddef.h>

#include "forkguard.h"

FORKGUARD_PRIVATE_BEGIN

/// Empty when it is all zeros but for its lock.
typedef struct pointers {
    forkguard_lock_t lock;
    struct pointer_places *places;
    size_t count;
} pointers;

#define POINTERS_INITIALIZER(NAME) {.lock = FORKGUARD_LOCK_INITIALIZER(NAME)}

/// Any thread, at any time.
bool pointers_contain(const pointers *pointers, const void *pointer);

/// Ends the process with a message when there is no memory: what is not remembered would be mistaken later.
void pointers_insert(pointers *pointers, const void *pointer);

/// Makes it empty. In a child, on its only thread.
void pointers_forget(pointers *pointers);

FORKGUARD_PRIVATE_END

#endif
