#ifndef CBENCH_H
#define CBENCH_H

#include <stdint.h>

/// One fork and what it cost.
typedef struct bench_fork {
    uint64_t nanoseconds;  // from before fork() until it returned in the parent
    uint64_t total_nanoseconds; // until the child had run its function and was reaped
    long parent_faults;    // minor page faults of the parent over the same time
    long child_faults;     // the child's, from the first instruction after fork() until it ends
} bench_fork;

/// Forks by fork(2); the child calls `function(context)` and exits. Then the parent calls it too, and waits for the child.
bench_fork bench_fork_and_touch(void (*_Nonnull function)(void *_Nullable), void *_Nullable context);

uint64_t bench_nanoseconds(void);

#endif
