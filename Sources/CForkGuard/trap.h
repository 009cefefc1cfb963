// Inside the library: what is said when something is wrong. forkguard_trap_misuse and forkguard_trap_torn are in forkguard/lock.h.

#ifndef FORKGUARD_TRAP_INTERNAL_H
#define FORKGUARD_TRAP_INTERNAL_H

#include "forkguard/condition.h"
#include "forkguard/lock.h"

FORKGUARD_PRIVATE_BEGIN

/// How a torn lock keeps why it is and whose it was in `reserved`: the mark in the low bits, the thread id above (Linux ids have 22 bits).
#define TRAP_MARK_BITS 8

/// Where a lock was made, as "file:line" with the end of a long path, or "" when that is not known.
void trap_place(const char *file, uint32_t line, char *text, size_t size);

/// Ends the process: somebody waits with a lock that it does not hold.
void trap_condition(const forkguard_condition_t *condition, const forkguard_lock_t *lock) __attribute__((noreturn, cold));

FORKGUARD_PRIVATE_END

#endif
