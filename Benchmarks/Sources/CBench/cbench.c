#include "cbench.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

bench_fork bench_fork_and_touch(void (*function)(void *), void *context) {
    static long *shared;
    if (!shared) shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_fork result;
    long before = faults();
    uint64_t began = bench_nanoseconds();
    pid_t child = fork();
    if (child == 0) {
        // A child's own count starts at 0 (getrusage(2)); what fork's handlers touched is in it.
        function(context);
        *shared = faults();
        _exit(0);
    }
    result.nanoseconds = bench_nanoseconds() - began;
    function(context);
    waitpid(child, NULL, 0);
    result.total_nanoseconds = bench_nanoseconds() - began;
    result.parent_faults = faults() - before;
    result.child_faults = *shared;
    return result;
}
