// Inside the product: futexes whose word holds a thread id.

#ifndef FORKGUARD_RUNTIME_FUTEX_H
#define FORKGUARD_RUNTIME_FUTEX_H

#include <stdbool.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

extern long (*real_syscall)(long number, ...);

/// syscall(2), for the objects that are led here.
long gated_syscall(long number, long a, long b, long c, long d, long e, long f);

/// Whether this kernel locks and unlocks such a futex, by way of the wrapper.
bool futex_works(void);

FORKGUARD_PRIVATE_END

#endif
