// Foundation.Process in a forked child.
//
// Two threads watch the processes that it starts: its own, and CFSocket's. The first Process starts them for good. A child whose parent has them does not have them and cannot start them: it would
// wait for the end of a process for ever. In a child of a process that has not used it, Process works.

#include "process.h"

#include <stdbool.h>

#include "forkguard.h"
#include "queues.h"

int (*real_posix_spawn)(pid_t *, const char *, const void *, const void *, char *const *, char *const *);

static bool watches; // in this process
static bool watched; // in one that it descends from

int gated_posix_spawn(pid_t *process, const char *path, const void *actions, const void *attributes, char *const *arguments, char *const *environment) {
    if (queues_in_child() && watched)
        forkguard_trap_misuse(
            NULL, "Foundation.Process was used in the child of a process that has used it: the threads that watch its processes did not survive the fork",
            "start the program with posix_spawn(3), or let nobody use Process before the fork"
        );
    __atomic_store_n(&watches, true, __ATOMIC_RELAXED);
    return real_posix_spawn(process, path, actions, attributes, arguments, environment);
}

void process_become_child(void) {
    watched |= watches;
    watches = false;
}
