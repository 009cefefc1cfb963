#ifndef CBENCH_H
#define CBENCH_H

#include <stdbool.h>
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

/// What a hammering thread runs: it goes on until bench_stopped(stop), and returns how many calls it made.
typedef uint64_t (*bench_body)(void *_Nullable context, const bool *_Nonnull stop);

static inline bool bench_stopped(const bool *_Nonnull stop) { return __atomic_load_n(stop, __ATOMIC_RELAXED); }

/// Runs `body` on that many new threads at once, for about that long. Million calls a second, of all threads together.
double bench_hammer(unsigned threads, uint64_t nanoseconds, bench_body _Nonnull body, void *_Nullable context);

/// Keeps the calling thread on one of the processors that it may use, the one with that index (from 0 on, beginning again after the last).
void bench_pin(unsigned index);

/// Arithmetic that takes time in proportion to `steps`.
uint64_t bench_work(uint64_t seed, unsigned steps);

#endif
