// Faults in the system calls of the C core, by phase of a fork.

#ifndef INJECT_H
#define INJECT_H

#include <stdbool.h>

/// Where the process is. What the core calls before main is the start; what it calls outside of any fork, in the tests' own words, is
/// use.
enum phase { PHASE_NONE = 0, PHASE_START, PHASE_USE, PHASE_PREPARE, PHASE_PARENT, PHASE_CHILD };

/// Between the end of the core's prepare and the beginning of its parent or child phase nothing is injected: handlers of this file tell
/// that. Counting for "the first call only" begins anew.
void enter_phase(enum phase phase);

/// Nothing fails from here on.
void forget_faults(void);

/// Called at the end of the handlers' prepare, on the forking thread, with the gate closed. NULL: nothing.
extern void (*before_copy)(void);

/// Writes, for each system call and phase in which there was one, how many there were and how many failed: "calls membarrier prepare 20
/// 20". Of this process and all its children.
void print_calls(int descriptor);

/// From here on the calling thread, and what it makes, cannot fork: fork, clone, clone3 fail so.
void refuse_forks(int error);

/// "ENOMEM" is ENOMEM; "SHORT" is a result that is less than was asked for; 0 for what is neither.
int error_named(const char *name);

#endif
