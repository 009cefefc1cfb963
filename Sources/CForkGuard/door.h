// Inside the library: of the forks that begin while locks are registered, one at a time is between our handler and the copy.

#ifndef FORKGUARD_DOOR_INTERNAL_H
#define FORKGUARD_DOOR_INTERNAL_H

#include "forkguard/gate.h"

FORKGUARD_PRIVATE_BEGIN

/// In prepare. Recursive. Waits until the fork that is there has been through, without a deadline: who went on would wait for its streams in glibc.
void door_enter(const forkguard_slot *slot);

/// In the parent. Nothing, if the door is not this thread's: a fork inside the fork may have freed it in a child.
void door_leave(const forkguard_slot *slot);

/// The child's C phase: nobody is there.
void door_child(void);

FORKGUARD_PRIVATE_END

#endif
