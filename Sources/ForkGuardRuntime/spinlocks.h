// Inside the product: CoreFoundation's spinlocks.

#ifndef FORKGUARD_RUNTIME_SPINLOCKS_H
#define FORKGUARD_RUNTIME_SPINLOCKS_H

#include <stddef.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

extern unsigned (*real_sleep)(unsigned seconds);

/// sleep(3), by which CoreFoundation waits for a spinlock.
unsigned gated_sleep(unsigned seconds);

/// Finds the spinlocks that are variables of CoreFoundation's, and registers them as foreign locks; returns how many there are. Before `sleep` is led.
size_t spinlocks_register(void);

FORKGUARD_PRIVATE_END

#endif
