// Inside the library: what the C library's mutexes know.

#ifndef FORKGUARD_MUTEX_INTERNAL_H
#define FORKGUARD_MUTEX_INTERNAL_H

#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

/// The id that the C library notes in a mutex which the calling thread locks, or 0 where that cannot be told. The kernel's, but in a child of a bare system
/// call (clone, SYS_fork), where the C library still has the parent's.
int32_t mutex_thread_id(void);

/// How many of its thread's sections a pthread mutex, or a read-write lock's writing, stands for when the thread with that id has it; 0
/// when it has not, where that cannot be told, and where there is no such memory any more. Async-signal-safe.
uint32_t mutex_sections(const void *mutex, int32_t thread_id);
uint32_t rwlock_sections(const void *rwlock, int32_t thread_id);

FORKGUARD_PRIVATE_END

#endif
