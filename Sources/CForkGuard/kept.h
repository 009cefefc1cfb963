// Inside the library: locks that are held for ever.

#ifndef FORKGUARD_KEPT_INTERNAL_H
#define FORKGUARD_KEPT_INTERNAL_H

#include "forkguard/gate.h"

FORKGUARD_PRIVATE_BEGIN

/// How many of a thread's sections no fork waits for any more. The thread takes a lock off this list before it lets go of it, and nobody but a forker adds to it.
uint32_t kept_sections(const forkguard_slot *slot);

/// Corrects what was said of sections that nothing ends: the thread is seen to be in so many now. By a forker, with the gate closed.
void kept_correct(forkguard_slot *slot, uint32_t held);

/// Lists what the others that are inside have: before the forker's last wait, with the gate closed. And ends that, after it.
void kept_begin(forkguard_slot *forker);
void kept_end(void);

/// Says which locks no later fork waits for, and whose they are: each once. When the gate is open again, in the parent.
void kept_say(void);

/// A child's C phase: its parent says it.
void kept_child(void);

FORKGUARD_PRIVATE_END

#endif
