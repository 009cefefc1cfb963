// Which cures for the C library, the Swift runtime and the process's own locks are on, and why the others are not.

#ifndef FORKGUARD_SUPPORT_H
#define FORKGUARD_SUPPORT_H

#include "base.h"

FORKGUARD_BEGIN

#define FORKGUARD_CURES 16
#define FORKGUARD_EXPLANATION_SIZE 160

/// One cure. The strings are cut at their end.
typedef struct forkguard_cure {
    char name[32];
    bool on;
    char explanation[FORKGUARD_EXPLANATION_SIZE]; // what was checked, or why it is off
} forkguard_cure;

/// Says that a cure is on or off; the last word on a name counts. For ForkGuardRuntime, at start. Any thread, not in hooks. Lost when there
/// are FORKGUARD_CURES of them already.
void forkguard_announce_cure(const char *FORKGUARD_NONNULL name, bool on, const char *FORKGUARD_NONNULL explanation);

/// Copies up to `count` cures, in the order in which they were announced; returns how many there are: none where ForkGuardRuntime is not linked. Any
/// thread, any side of a fork.
size_t forkguard_cures(forkguard_cure *FORKGUARD_NULLABLE cures, size_t count);

/// What is done when the thread that survived will only wait from now on, in a child. For ForkGuardRuntime, at start.
void forkguard_announce_rest(void (*FORKGUARD_NONNULL rests)(void));

FORKGUARD_END

#endif
