#ifndef CFORKLOAD_H
#define CFORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// One fork of a loaded process, and what it cost.
typedef struct load_fork {
    uint64_t nanoseconds;       // from before fork() until it returned in the parent
    uint64_t total_nanoseconds; // until the child, which ends at once, was reaped
    uint64_t wait_nanoseconds;  // (hammer) what of it was preparing
    long parent_faults;         // minor page faults of the parent until then
    long child_faults;          // the child's in its whole life
    uint32_t gave_up;           // (hammer) preparing took until the deadline
} load_fork;

/// The locks of a load.
typedef struct load_locks {
    size_t size;
    void (*_Nonnull make)(void *_Nonnull lock);
    void (*_Nonnull lock)(void *_Nonnull lock);
    void (*_Nonnull unlock)(void *_Nonnull lock);
    /// How a fork gets all of them, if not by itself: called once, when they are made. NULL where it needs not be told.
    void (*_Nullable guard)(void *_Nonnull const *_Nonnull locks, size_t count, bool patient);
    /// What the last fork's preparing took, and whether it ended at its deadline.
    void (*_Nullable waited)(load_fork *_Nonnull fork);
} load_locks;

/// A process that forks when it is told to: for each byte that it reads from standard input it writes to standard output a uint32_t, how
/// many times it forked, and as many load_fork. It ends with the input. Arguments:
///
///     idle THREADS    idle threads, nothing else
///     heap COUNT      the memory of so many mutexes with a value, dirtied; one idle thread
///     locks COUNT     so many mutexes, each used by two threads that live
///     hammer THREADS  so many threads that hammer 64 mutexes while it forks, a hundred times for each byte
int load_main(int count, char *_Nullable *_Nonnull arguments, const load_locks *_Nonnull locks);

uint64_t load_nanoseconds(void);

#define LOAD_SHORT_SECTION_NANOSECONDS 2000
#define LOAD_LONG_SECTION_NANOSECONDS 100000 // one in a hundred
#define LOAD_DEADLINE_NANOSECONDS 1000000000 // of those who try and try again

#endif
