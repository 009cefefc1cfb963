// Inside the product: libdispatch in a forked child.

#ifndef FORKGUARD_RUNTIME_DISPATCH_H
#define FORKGUARD_RUNTIME_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "imports.h"

FORKGUARD_PRIVATE_BEGIN

/// Finds libdispatch and keeps a copy of its state; registers what puts it back in a child. NULL: done, or the reason why not. Once, before anything is led.
const char *dispatch_keep(bool untested);

/// The functions that use a queue or a source.
extern const import dispatch_imports[];
extern const size_t dispatch_imports_count;

FORKGUARD_PRIVATE_END

#endif
