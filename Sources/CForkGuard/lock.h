// Inside the library: names of locks, and the smallest mutex.

#ifndef FORKGUARD_LOCK_INTERNAL_H
#define FORKGUARD_LOCK_INTERNAL_H

#include "forkguard/lock.h"

/// A mutex for the library's own few words, which the gate does not know. A child resets it: what it guards is repaired there.
typedef struct plain_mutex {
    uint32_t word; // 0 free, 1 taken, 2 taken and somebody sleeps
} plain_mutex;

void plain_lock(plain_mutex *mutex);
void plain_unlock(plain_mutex *mutex);

/// Where a lock was made, as "file:line", or "" when that is not known.
void lock_place(const char *file, uint32_t line, char *text, size_t size);

#endif
