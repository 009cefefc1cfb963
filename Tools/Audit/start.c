// libforkguard-audit.so: preloaded into a program, it watches every fork without changing its course, and reports to `forkguard audit`.

#include "connection.h"
#include "descriptors.h"
#include "exits.h"
#include "process.h"
#include "threads.h"

#include <errno.h>

static __attribute__((constructor)) void start(void) {
    const char *path = getenv("FORKGUARD_AUDIT");
    if (!path || !*path || audit_on) return;
    int saved = errno;
    audit_inside = true;
    audit_find_real();
    if (process_start() && threads_start() && descriptors_start()) {
        connection_start(path);
        exits_start();
        threads_this();
        // The unwinder's first walk sets up its tables: not in a child.
        void *frames[STACK_FRAMES];
        stack_walk(CALLER, frames, STACK_FRAMES, NULL);
        connection_introduce();
        audit_on = true;
    }
    audit_leave();
    errno = saved;
}
