// Inside the product: locks whose holder is gone.

#ifndef FORKGUARD_GHOSTS_H
#define FORKGUARD_GHOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forkguard/base.h"

FORKGUARD_PRIVATE_BEGIN

enum holder {
    HOLDER_LIVES,     // or cannot be told
    HOLDER_SURVIVED,  // the thread that the fork was called on: it has another id now
    HOLDER_VANISHED,  // a thread of the parent's that did not survive the fork
};

/// Who a lock's holder is, by the kernel's id that the lock notes. `now`: the id that it has today, when it survived.
enum holder holder_of(int32_t thread_id, int32_t *now);

/// Reads FORKGUARD_TORN from the environment.
void torn_start(void);

/// Whether a thread that would wait for a vanished holder is refused: unless FORKGUARD_TORN=wait, with which it waits for ever, as without us.
bool torn_is_refused(void);

/// Ends the process with a message: what the lock protects may be half changed. `kind` names it, as in "a pthread mutex".
_Noreturn void refuse_torn(const char *kind, const void *lock, int32_t thread_id) __attribute__((cold));

FORKGUARD_PRIVATE_END

#endif
