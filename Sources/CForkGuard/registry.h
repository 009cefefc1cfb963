// Inside the library: walking over those who are told.

#ifndef FORKGUARD_REGISTRY_INTERNAL_H
#define FORKGUARD_REGISTRY_INTERNAL_H

#include "forkguard/registry.h"

enum registry_phase { REGISTRY_PREPARE, REGISTRY_PARENT, REGISTRY_CHILD, REGISTRY_CHILD_FIRST_USE, REGISTRY_CHILD_ALL };

/// Begins a fork: its ordinal. Whoever is registered from now on is not told about it.
uint64_t registry_next_fork(void);

/// A walk is under way until `registry_end`: what is cancelled meanwhile stays in the list, so that the walk needs no lock.
void registry_begin(void);
void registry_end(void);

/// Calls everybody who was registered before fork `ordinal` began and not cancelled before it did.
void registry_walk(enum registry_phase phase, uint64_t ordinal);

/// The child's C phase. `walking`: the survivor is in the middle of a walk (a raw fork inside a hook).
void registry_child(bool walking);

/// Whether somebody waits for the first use.
bool registry_has_first_use(void);
size_t registry_count(void);

#endif
