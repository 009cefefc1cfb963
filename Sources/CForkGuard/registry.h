// Inside the library: walking over those who are told, and over the locks that are not ours.

#ifndef FORKGUARD_REGISTRY_INTERNAL_H
#define FORKGUARD_REGISTRY_INTERNAL_H

#include "forkguard/foreign.h"
#include "forkguard/registry.h"

FORKGUARD_PRIVATE_BEGIN

enum registry_phase { REGISTRY_PREPARE, REGISTRY_PARENT, REGISTRY_CHILD, REGISTRY_CHILD_FIRST_USE, REGISTRY_CHILD_ALL };

/// Begins a fork: its ordinal. Whoever is registered from now on is not told about it.
uint64_t registry_next_fork(void);

/// The ordinal of the fork that was begun last.
uint64_t registry_last_fork(void);

/// Whether nothing is registered. A snapshot.
bool registry_is_empty(void);

/// A walk is under way until `registry_end`: what is cancelled meanwhile stays in the list, so that the walk needs no lock.
void registry_begin(void);
void registry_end(void);

/// Calls everybody who was registered before fork `ordinal` began and not cancelled before it did.
void registry_walk(enum registry_phase phase, uint64_t ordinal);

/// The child's C phase. `walks`: how many are under way there, or about to begin; `in_hook`: the survivor is in one of its hooks (a raw fork inside a hook).
void registry_child(uint32_t walks, bool in_hook);

enum registry_lock_busy { REGISTRY_LOCK_UNUSED = 0, REGISTRY_LOCK_BUSY, REGISTRY_LOCK_AWAITED };

/// A foreign lock, as the registry keeps it. All but `made` is foreign.c's.
typedef struct registry_lock {
    forkguard_foreign_lock made; // its name is the registry's copy
    uint32_t state;   // enum foreign_state
    uint32_t mark;    // why it is torn
    int32_t owner;    // thread that has it, as far as that can be told
    uint32_t busy;    // enum registry_lock_busy: unregistering it waits for its user
    uint64_t busy_serial; // who
    bool unyielding;  // its holder waits to fork, and would not be out after that (gate.h)
    bool checked, held; // in this fork; `hold` was called and `let_go` is to be
    bool gone;        // it must not be touched any more
    bool owed;        // its state at the copy is to be found out after the C phases
    bool owes_reinitialization, owes_torn;
} registry_lock;

/// Registers a lock, whose pointer and operations are there: as forkguard_register_lock.
uint64_t registry_add_lock(const forkguard_foreign_lock *lock);

/// How many locks are registered. A snapshot.
size_t registry_locks(void);

/// Visits every lock until `visit` returns false; `live`: it is not cancelled. By the forker while the gate is closed, in the C phases of a child, and between
/// registry_begin and registry_end.
typedef bool (*registry_visit)(registry_lock *lock, bool live, void *context);
void registry_each_lock(registry_visit visit, void *context);

/// Whether it is not cancelled.
bool registry_is_live(const registry_lock *lock);

/// Cancels the registrations of locks that are gone.
void registry_drop_gone(void);

/// Whether somebody waits for the first use.
bool registry_has_first_use(void);

FORKGUARD_PRIVATE_END

#endif
