#ifndef CIDLE_H
#define CIDLE_H

#include <stdint.h>

/// One fork of an otherwise idle process, and what it cost.
typedef struct idle_fork {
    uint64_t nanoseconds;       // from before fork() until it returned in the parent
    uint64_t total_nanoseconds; // until the child, which ends at once, was reaped
    long parent_faults;         // minor page faults of the parent until fork() returned
    long child_faults;          // the child's in its whole life
} idle_fork;

/// A process that forks for each byte that it reads from standard input, writes an idle_fork to standard output, and ends with the
/// input. The first argument is how many idle threads it has.
int idle_main(int count, char *_Nullable *_Nonnull arguments);

#endif
