// What the threads of a scenario do, in letters.

#ifndef SCENARIOS_H
#define SCENARIOS_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler.h"

typedef struct scenario {
    const char *name;
    // Each thread's program, in letters:
    //   +A ?A -A      take, try, leave a lock; a try that fails skips the leaving
    //   !A            give the lock's memory back, if it is the last to use it
    //   Mm Kk Hh      lock and unlock the mutex that is registered, gated, known to nobody
    //   F G g         fork; forkguard_fork that may hold locks, and that may not
    //   B b           fork that runs no handlers; after b this thread asks first
    //   (1 )1         wait for, and raise, a semaphore
    //   z Z L         sleep: 2 ms, 30 ms, 7 s
    //   c S s         wait for the condition of lock A, make it true, signal it
    //   . |           end, wherever it is; no further in a child
    const char *programs[6];
    const char *hooks[2]; // of the first threads' prepare
    const char *before, *after; // what another library's prepare handlers do before and after ours, on the forking thread
    unsigned allowed;  // enum allowed
    unsigned depth;    // of children; 0: none
    bool registers_mutex, has_hooks;
    bool early; // a child handler before ours asks for the generation
    bool any;   // the programs are made by chance
    bool hasty; // time may pass although somebody could run
    machine machine;
    unsigned marks_nobody; // of whose forks nobody is to be marked: a thread, or 0
    unsigned reaches;  // marks, as bits, of which one schedule at least must tear something
    bool reaches_windows, reaches_lending, reaches_refusal;
} scenario;

extern const scenario scenarios[];

void scenario_run(const scenario *scenario, uint64_t seed);

/// Whether the schedules reached what the scenario is there for.
bool scenario_reached(const scenario *scenario);

#endif
